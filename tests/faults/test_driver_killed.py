"""`kill -9` of the driver at random moments of every phase, and `sweeps resume` each time: nothing lost, nothing twice.

The trials are toys whose loss is known in advance, so that what was journalled can be checked against what it must be.
"""

from __future__ import annotations

import math
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from e2e.terminal import ROOT, below, end_group, of_kind, processes, trials_of
from sweeps.journal import JournalReader, read
from sweeps.storage import Folder, files, newest_sweeps, place

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
KILLS = 5
"""Of each sweep; there are five of them, one in an object store."""
SPEC = """\
name: toy
trainable: toys:trial
space: {{value: {{float: [0.0, 1.0]}}, seconds: 0.1}}
checkpoint_every: {every}
phases:
  - {{kind: explore, trials: 10, epochs: 9}}
  - {{kind: refine, trials: 8, epochs: 9}}
  - {{kind: confirm, top: 1, seeds: 3, epochs: 4}}
"""
MAY_STAY = r"tracking\.writer|^ray::(Dashboard|RuntimeEnv)Agent"
"""The writer drains; Ray's agents, which touch nothing of ours, wait a minute for a server that is gone."""
PLANNED = {"explore": 10, "refine": 8, "confirm": 6}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts `python -m sweeps …` in tmp_path, its output kept in out.txt; ends what a failed test leaves."""
    started: list[subprocess.Popen[bytes]] = []

    def sweeps(*words: str) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
        with open(tmp_path / "out.txt", "ab") as out:
            driver = subprocess.Popen(
                [sys.executable, "-m", "sweeps", *words], cwd=tmp_path, env=environment, stdout=out, stderr=out,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        started.append(driver)
        return driver

    yield sweeps
    for driver in started:
        end_group(driver)


def kill(driver: subprocess.Popen[bytes]) -> None:
    """`kill -9` of the driver alone; what it started has to end by itself."""
    family = below(driver.pid, processes())
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        left = {pid for pid, (_, command) in processes().items() if pid in family and not re.search(MAY_STAY, command)}
        if not left:
            return
        time.sleep(0.1)
    pytest.fail(f"left behind after 30 s: {[family[pid] for pid in left]}")


class Watched:
    """The one sweep in a storage, and its journal as it grows."""

    def __init__(self, storage: Folder, out: Path) -> None:
        self.storage, self.out = storage, out
        self.lines: list[dict[str, Any]] = []
        self._reader: JournalReader | None = None

    @property
    def sweep(self) -> Folder:
        """Its folder."""
        (sweep,) = newest_sweeps(self.storage)
        return sweep

    def poll(self) -> None:
        """Read what is new; a last line that is being written is left out."""
        if self._reader is None and newest_sweeps(self.storage):
            self._reader = JournalReader(self.sweep)
        if self._reader:
            self.lines += self._reader.poll()

    def wait_for_lines(self, driver: subprocess.Popen[bytes], more: int, phase: str) -> None:
        """Wait until the phase has begun and the journal has grown by so many lines since."""
        deadline = time.monotonic() + 240
        begun: int | None = None
        while driver.poll() is None:
            self.poll()
            if begun is None and any(line["kind"] == "phase" and line["phase"] == phase for line in self.lines):
                begun = len(self.lines)
            if begun is not None and len(self.lines) >= begun + more:
                return
            assert time.monotonic() < deadline, self.out.read_text()
            time.sleep(0.01)
        pytest.fail(f"the driver ended by itself ({driver.returncode}):\n{self.out.read_text()}")


@pytest.mark.parametrize(
    ("seed", "every", "remote"), [(0, 1, False), (1, 1, False), (2, 2, False), (3, 4, False), (4, 1, True)]
)
def test_kills_at_random_moments_lose_nothing(
    tmp_path: Path, start: Callable[..., subprocess.Popen[bytes]], bucket: str, seed: int, every: int, remote: bool
) -> None:
    draw = random.Random(seed)
    (tmp_path / "toy.yaml").write_text(SPEC.format(every=every))
    storage = f"{bucket}/team" if remote else f"{tmp_path}/runs"
    watched = Watched(place(storage), tmp_path / "out.txt")
    words = ["run", "toy.yaml", "--storage", storage]
    for phase in sorted(draw.choices(list(PLANNED), k=KILLS), key=list(PLANNED).index):
        driver = start(*words)
        done = sum(line["kind"] == "end" and line.get("trial", "").startswith(phase) for line in watched.lines)
        if done < PLANNED[phase] - 2:
            watched.wait_for_lines(driver, draw.randint(0, 12), phase)
        else:  # nearly through: any moment from the start on will do
            watched.wait_for_lines(driver, 0, phase)
        time.sleep(draw.uniform(0, 0.2))
        kill(driver)
        watched.poll()
        words = ["resume", str(watched.sweep)]
    driver = start(*words)
    assert driver.wait(timeout=300) == 0, (tmp_path / "out.txt").read_text()
    check_whole(watched.sweep, tmp_path / "runs" / watched.sweep.name / "mlflow.db")


def check_whole(sweep: Folder, database: Path) -> None:
    """Every planned trial ended once and was not touched again; every epoch once, with the value that it must have."""
    lines = read(sweep)
    for phase, planned in PLANNED.items():
        assert len(trials_of(lines, phase)) == planned
    ended: dict[str, str] = {}
    for line in lines:
        if "trial" in line:
            assert line["trial"] not in ended, f"{line} after {ended[line['trial']]}"
        if line["kind"] == "end" and line.get("trial") and line["status"] != "INTERRUPTED":
            ended[line["trial"]] = line["status"]
    assert set(ended.values()) == {"FINISHED"}
    assert len(ended) == sum(PLANNED.values())
    configs = {line["trial"]: line["config"] for line in of_kind(lines, "trial")}
    reports = [(line["trial"], line["epoch"]) for line in of_kind(lines, "report")]
    assert [key for key, count in Counter(reports).items() if count > 1] == []
    for line in of_kind(lines, "report"):
        assert line["metrics"]["val/loss"] == configs[line["trial"]]["value"] + 0.5 ** line["epoch"]
    for trial in configs:
        epochs = [epoch for name, epoch in reports if name == trial]
        assert epochs == list(range(1, len(epochs) + 1))
    assert [f for f in of_kind(lines, "finding") if f["finding"] == "not_repeatable"] == []
    decisions = [(line["trial"], line["epoch"]) for line in of_kind(lines, "decision")]
    assert len(decisions) == len(set(decisions))
    check_decisions(lines)
    assert of_kind(lines, "verdict")[-1]["verdict"] == "ADOPT"
    assert len(of_kind(lines, "verdict")) == 1
    assert lines[-1]["status"] == "FINISHED"
    named = {line["checkpoint"] for line in of_kind(lines, "report") if line["checkpoint"]}
    left = [path.rpartition("/") for path, _ in files(sweep / "checkpoints")]
    kept = {f"checkpoints/{pointer}" for pointer, _, name in left if name == "manifest.json"}
    assert kept <= named
    assert {f"checkpoints/{pointer}" for pointer, *_ in left} == kept, "nothing torn, nothing half removed"
    assert 3 <= len(kept) <= 3 + 2, "the best three, the winner, the incumbent"
    check_mlflow(sweep.name, database, lines)


def check_decisions(lines: list[dict[str, Any]]) -> None:
    """Each of ASHA's decisions follows from the values that came to its rung before it, whoever drove."""
    for phase in ("explore", "refine"):
        came: dict[float, list[float]] = {}
        for line in of_kind(lines, "decision"):
            if not line["trial"].startswith(phase):
                continue
            before = came.setdefault(line["rung"], [])
            expected = percentile(before, 1 / 3) if before else None
            assert line["cutoff"] == (None if expected is None else pytest.approx(expected)), line
            assert line["decision"] == ("STOP" if before and line["value"] > line["cutoff"] else "CONTINUE"), line
            before.append(line["value"])


def percentile(values: list[float], share: float) -> float:
    """Linear interpolation between the order statistics."""
    ordered = sorted(values)
    at = share * (len(ordered) - 1)
    low, high = math.floor(at), math.ceil(at)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def check_mlflow(name: str, database: Path, lines: list[dict[str, Any]]) -> None:
    """A run for each trial and the sweep, each reported value once."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)) as connection:
        runs = Counter(name for (name,) in connection.execute("SELECT name FROM runs"))
        points = Counter(
            connection.execute(
                "SELECT r.name, m.step FROM metrics m JOIN runs r USING (run_uuid) WHERE m.key = 'val/loss'"
            ).fetchall()
        )
        states = {state for (state,) in connection.execute("SELECT status FROM runs")}
    assert runs == Counter({name: 1, **{line["trial"]: 1 for line in of_kind(lines, "trial")}})
    assert points == Counter((line["trial"], line["epoch"]) for line in of_kind(lines, "report"))
    assert states == {"FINISHED"}
