"""The cluster way in: a real Ray head, and the demo submitted to it as a job."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from e2e.conftest import Head
from e2e.terminal import (
    BIN,
    SLOT,
    Done,
    Swept,
    below,
    ends_of,
    environment,
    journal,
    named,
    of_kind,
    processes,
    run_command,
    run_sweep,
    trials_of,
)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]  # the whole demo, and Ray's start, on a machine that is shared
VERDICT = re.compile(r"^(ADOPT|MORE_SEEDS|KEEP_BASELINE)\b", re.MULTILINE)
NOWHERE = """\
trainable: no_such_module_anywhere:Net
space: {lr: {log: [1e-4, 1e-1]}}
"""
TINY = """\
trainable: sweeps.examples.own_loop:trial
space: {lr: {log: [1e-3, 1e-2]}}
phases: [{kind: grid, points: 2, epochs: 1}]
"""


def submit(head: Head, *arguments: str | Path) -> Done:
    """`ray job submit` of `sweeps run` with these arguments, its log followed to the end."""
    return run_command(
        BIN / "ray", "job", "submit", "--address", head.dashboard, "--working-dir", ".",
        "--", "python", "-m", "sweeps", "run", *arguments,
        env=environment(RAY_AUTH_MODE="disabled"), limit_s=360, watched=head.pid,
    )  # fmt: skip


def test_the_demo_as_a_job_ends_as_it_does_alone(demo: Swept, head: Head, tmp_path: Path) -> None:
    done = submit(head, "sweeps/examples/digits.yaml", "--storage", tmp_path)
    assert done.code == 0, done.out
    assert "succeeded" in done.out
    (folder,) = [path for path in tmp_path.iterdir() if path.name.startswith("digits-")]
    lines = journal(folder)
    assert lines[-1]["kind"] == "end"
    assert lines[-1]["status"] == "FINISHED"
    assert len(trials_of(lines, "explore")) >= 24
    assert len(trials_of(lines, "refine")) >= 12
    assert len(trials_of(lines, "confirm")) == 9
    assert ends_of(lines).keys() == {line["trial"] for line in of_kind(lines, "trial")}
    alone, said = VERDICT.search(demo.out), VERDICT.search(done.out)
    assert alone
    assert said
    assert said[1] == alone[1] == of_kind(lines, "verdict")[0]["verdict"]
    assert (folder / "report.html").stat().st_size > 100_000
    # It ran on the cluster's Ray: every epoch in a slot that the head's raylet had started, and no second raylet.
    used = {line["slot"] for line in of_kind(lines, "report")}
    assert used
    assert used <= done.slots
    assert len(done.raylets) == 1
    assert lines[0]["hardware"]["cpus"] == 2
    assert named(SLOT, below(head.pid, processes())) == set(), "the job left slots behind in the cluster"


def test_a_job_that_cannot_work_fails_with_one_line(head: Head, tmp_path: Path) -> None:
    spec = tmp_path / "nowhere.yaml"
    spec.write_text(NOWHERE, encoding="utf-8")
    storage = tmp_path / "storage"
    done = submit(head, spec, "--storage", storage)
    assert done.code != 0
    assert "UsageError: trainable: cannot import 'no_such_module_anywhere:Net'" in done.out, done.out
    assert "Traceback" not in done.out
    assert not list(storage.glob("*/journal"))
    (job,) = [job for job in head.jobs() if job.get("entrypoint", "").endswith(f"{spec} --storage {storage}")]
    assert job["status"] == "FAILED"
    assert job["driver_exit_code"] == 2


def test_a_local_run_keeps_away_from_a_cluster_that_is_up(head: Head, tmp_path: Path) -> None:
    spec = tmp_path / "tiny.yaml"
    spec.write_text(TINY, encoding="utf-8")
    before = {job["job_id"] for job in head.jobs()}
    local = run_sweep(spec, tmp_path / "storage", env=environment(RAY_ADDRESS=head.address), watched=head.pid)
    assert local.code == 0, local.out
    assert of_kind(local.journal, "report")
    assert {job["job_id"] for job in head.jobs()} == before
    assert local.slots == set()
    assert len(local.raylets) == 1  # the cluster's: the watching works
