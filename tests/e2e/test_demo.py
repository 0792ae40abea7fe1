"""The main job as a user sees it: one command, the digits, an answer. Run once for all tests here."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from pathlib import Path
from statistics import fmean, stdev

import pytest

from e2e.terminal import Swept, ends_of, of_kind, run_sweep, trials_of

pytestmark = pytest.mark.e2e
SILENCE_S = 60
"""A quiet machine is silent for 12 s while Ray starts, one that others use as well was for 30."""
VERDICT = re.compile(r"^(ADOPT|MORE_SEEDS|KEEP_BASELINE)\b", re.MULTILINE)
SPREAD = re.compile(r"^  (baseline|refine-\d+) +([\d.e-]+) ± ([\d.e-]+) +over 3 seeds: (.+)$", re.MULTILINE)
CONTROL = re.compile(r"[^\n\x20-\x7e\x80-\U0010ffff]|[\x7f-\x9f]")
TINY = """\
trainable: sweeps.examples.own_loop:trial
space: {lr: {log: [1e-3, 1e-2]}}
phases: [{kind: grid, points: 2, epochs: 1}]
"""


@pytest.fixture(scope="module")
def answer(demo: Swept) -> str:
    """What the demo said after its last progress line."""
    assert demo.code == 0, demo.out
    return demo.out[VERDICT.search(demo.out).start() :]  # type: ignore[union-attr]


def test_it_ends_well(demo: Swept) -> None:
    assert demo.code == 0, demo.out
    assert "Traceback" not in demo.out
    assert "Warning" not in demo.out


def test_the_journal_has_every_trial_and_each_ended(demo: Swept) -> None:
    lines = demo.journal
    explore, refine, confirm = (trials_of(lines, phase) for phase in ("explore", "refine", "confirm"))
    assert len(explore) >= 24
    assert len(refine) >= 12
    roles = [trial["role"] for trial in confirm.values()]
    winners = set(roles) - {"baseline"}
    assert len(winners) == 2
    assert winners <= refine.keys()
    for role in roles:
        seeds = [trial["fidelity"]["seed"] for trial in confirm.values() if trial["role"] == role]
        assert len(seeds) == len(set(seeds)) == 3
    ends = ends_of(lines)
    assert ends.keys() == explore.keys() | refine.keys() | confirm.keys()
    assert {end["status"] for end in ends.values()} <= {"FINISHED", "INFEASIBLE"}
    assert lines[-1]["kind"] == "end"
    assert lines[-1]["status"] == "FINISHED"


def test_trials_ended_early_on_evidence(demo: Swept) -> None:
    lines = demo.journal
    stopped = [trial for trial, end in ends_of(lines).items() if "rung" in end["reason"]]
    decided = {line["trial"] for line in of_kind(lines, "decision") if line["decision"] == "STOP"}
    assert len(stopped) >= 12
    assert set(stopped) == decided


def test_all_phases_ran_in_the_same_slots(demo: Swept) -> None:
    lines = demo.journal
    slots = lines[0]["hardware"]["slots"]
    for phase in ("explore", "refine", "confirm"):
        trials = trials_of(lines, phase)
        used = {line["slot"] for line in of_kind(lines, "report") if line["trial"] in trials}
        assert len(used) == slots, f"{phase} ran in the processes {used}"
    assert len({line["slot"] for line in of_kind(lines, "report")}) == slots


def test_the_answer_gives_the_verdict_of_the_journal(demo: Swept, answer: str) -> None:
    (verdict,) = of_kind(demo.journal, "verdict")
    found = VERDICT.search(answer)
    assert found
    assert found[1] == verdict["verdict"]
    assert " ".join(answer.split()).startswith(verdict["text"])


def test_the_answer_gives_means_and_deviations_over_seeds(demo: Swept, answer: str) -> None:
    lines = demo.journal
    spreads = SPREAD.findall(answer)
    assert "baseline" in [name for name, *_ in spreads]
    assert len(spreads) == 2
    for name, mean, deviation, each in spreads:
        trials = {trial for trial, line in trials_of(lines, "confirm").items() if line["role"] == name}
        last = {line["trial"]: line["metrics"]["val/loss"] for line in of_kind(lines, "report")}
        values = [float(value) for trial, value in last.items() if trial in trials]
        assert [float(value) for value in each.split(", ")] == pytest.approx(values, rel=5e-4)
        digits = len(mean.partition(".")[2])
        assert float(mean) == pytest.approx(fmean(values), abs=0.51 * 10**-digits)
        assert float(deviation) == pytest.approx(stdev(values), abs=0.51 * 10**-digits)


def test_the_answer_says_which_ranges_moved_and_why(demo: Swept, answer: str) -> None:
    (refine,) = [line for line in of_kind(demo.journal, "phase") if line["phase"] == "refine"]
    changes = [change for change in refine["changes"] if change["action"] != "kept"]
    assert changes, "24 trials over a space this wide must narrow something"
    cut = next(line for line in of_kind(demo.journal, "phase") if line["phase"] == "explore")["changes"]
    for change in changes[: 7 - len(cut)]:  # the answer has so many lines for all of them
        found = re.search(rf"^  {change['parameter']}: (.+) -> (.+) for refine \((.+)", answer, re.MULTILINE)
        assert found, answer
        assert found[1] != found[2]


def test_training_takes_most_of_the_time(demo: Swept, answer: str) -> None:
    shares = re.search(r"start-up (\d+) %, training (\d+) %,\s+bookkeeping (\d+) %", answer)
    assert shares, answer
    startup, training, bookkeeping = (int(share) for share in shares.groups())
    assert 99 <= startup + training + bookkeeping <= 101
    time = demo.journal[-1]["time"]
    assert training == pytest.approx(100 * time["training_s"] / time["wall_s"], abs=0.51)
    # The record's wall time is the user's, but for the report and MLflow's last lines. `make bench NAME=demo` times it.
    assert time["wall_s"] <= demo.wall_s
    assert training >= 50


def test_the_answer_names_the_report_and_how_to_open_mlflow(demo: Swept, answer: str) -> None:
    report = re.search(r"^Report  (.+)$", answer, re.MULTILINE)
    assert report
    assert Path(report[1]) == demo.folder / "report.html"
    assert Path(report[1]).stat().st_size > 100_000
    opening = re.search(r"^MLflow  (.+)$", answer, re.MULTILINE)
    assert opening
    assert f"--backend-store-uri sqlite:///{demo.folder}/mlflow.db" in opening[1]
    assert (demo.folder / "mlflow.db").stat().st_size > 100_000


def test_something_is_said_all_the_time(demo: Swept) -> None:
    stamps = [int(stamp) for stamp in re.findall(r"^\[ *(\d+) s\] ", demo.out, re.MULTILINE)]
    assert len(stamps) > 45  # a line for each trial, and some in between
    assert stamps == sorted(stamps)
    assert max(later - earlier for earlier, later in pairwise(stamps)) <= 10
    # Before the first stamp Ray starts, after the last the report is drawn and MLflow catches up.
    came = [0.0, *(at for at, _ in demo.lines), demo.wall_s]
    silence = max(later - earlier for earlier, later in pairwise(came))
    assert silence <= SILENCE_S, "the start or the end is silent for longer than anyone waits"


def test_a_log_gets_plain_text(demo: Swept) -> None:
    found = CONTROL.search(demo.out)
    assert found is None, f"{found!r} in the output"


def test_the_numbers_in_the_journal_are_learning(demo: Swept) -> None:
    lines = demo.journal
    (verdict,) = of_kind(lines, "verdict")
    accuracies = [metrics["test/accuracy"] for metrics in verdict["test"][verdict["winner"]]]
    assert fmean(accuracies) > 0.97  # a linear model reaches 0.96 on these digits
    assert verdict["test_reads"] == 1
    assert all(math.isfinite(accuracy) for accuracy in accuracies)


def test_a_second_run_is_a_second_sweep(own_loop: Swept, tmp_path: Path) -> None:
    storage, spec = own_loop.folder.parent, tmp_path / "own_loop.yaml"  # the same name
    spec.write_text(TINY, encoding="utf-8")
    before = {path: path.stat().st_mtime_ns for path in own_loop.folder.rglob("*")}
    second = run_sweep(spec, storage)
    assert second.code == 0, second.out
    assert second.folder != own_loop.folder
    assert {path: path.stat().st_mtime_ns for path in own_loop.folder.rglob("*")} == before
    assert (second.folder / "mlflow.db").exists()
    assert {path.name.rpartition("-")[0].rpartition("-")[0] for path in storage.iterdir()} == {"own_loop"}
