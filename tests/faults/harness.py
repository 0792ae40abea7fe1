"""What every fault must leave behind: all trials, each epoch once, and nothing of the sweep's on the machine.

The journal is read here as the lines that it is, and processes are counted in /proc, so that no code of ours vouches
for itself.
"""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import ray

from e2e.terminal import below, ends_of, journal, of_kind, processes
from sweeps import Sweep
from sweeps.storage import newest_sweeps

BACK_S = 10.0
"""So long after a sweep's end everything that it took has been given back."""
PATIENCE_S = 90.0
COUNTED = ("CPU", "GPU")
OF_RAY = r"IDLE|\w*Agent|_AutoscalingCoordinator"
"""Processes that Ray keeps one of, or a few, for all that run on it."""


def check_whole(sweep: Sweep, trials: int) -> list[dict[str, Any]]:
    """Exactly so many trials, none touched after its end, no epoch told twice or left out; the journal's lines."""
    lines = journal(Path(str(sweep.folder)))
    assert len({line["trial"] for line in of_kind(lines, "trial")}) == trials
    ended: dict[str, str] = {}
    for line in lines:
        if "trial" in line:
            assert line["trial"] not in ended, f"{line} after {ended[line['trial']]}"
        if line["kind"] == "end" and "trial" in line and line["status"] != "INTERRUPTED":
            ended[line["trial"]] = line["status"]
    assert len(ended) == trials
    reports = Counter((line["trial"], line["epoch"]) for line in of_kind(lines, "report"))
    assert [report for report, count in reports.items() if count > 1] == []
    for trial in ended:
        epochs = sorted(epoch for name, epoch in reports if name == trial)
        assert epochs == list(range(1, len(epochs) + 1))
    again = [f["message"] for f in of_kind(lines, "finding") if f["finding"] == "not_repeatable"]
    assert again == [], again
    return lines


def check_messages(lines: list[dict[str, Any]]) -> None:
    """Whatever went wrong is told in a few words, for a person."""
    for line in of_kind(lines, "failure"):
        assert line["message"], line
        assert len(line["message"]) < 400, line["message"]
        assert "\n" not in line["message"], line["message"]
    assert all(len(end["reason"]) < 400 for end in ends_of(lines).values())


@contextmanager
def gives_back() -> Iterator[None]:
    """Nothing is left of what begins within: placement groups, actors and other processes, CPUs and GPUs."""
    idle = 0, Counter(), {name: amount for name, amount in ray.cluster_resources().items() if name in COUNTED}
    deadline = time.monotonic() + BACK_S
    while (before := held()) != idle and time.monotonic() < deadline:  # an earlier test's are still being given back
        time.sleep(0.2)
    yield
    deadline = time.monotonic() + BACK_S
    while (left := held()) != before and time.monotonic() < deadline:
        time.sleep(0.2)
    assert left == before, f"{BACK_S:g} s after the sweep's end there is {left}, before it there was {before}"


def held() -> tuple[int, Counter[str], dict[str, float]]:
    """Placement groups, the processes of actors by name, and free resources, of the Ray of this process."""
    groups = [group for group in ray.util.placement_group_table().values() if group["state"] != "REMOVED"]
    mine = below(os.getpid(), processes()).values()
    actors = Counter(found[0] for command in mine if (found := re.match(rf"ray::(?!{OF_RAY})\w+", command)))
    free = {name: amount for name, amount in ray.available_resources().items() if name in COUNTED}
    return len(groups), actors, free


@contextmanager
def mounted(folder: Path, size: str) -> Iterator[Path]:
    """A file system of its own in the folder, so small that it can be filled."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"mounting a file system needs root: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def strikes(storage: Path, strike: Callable[[list[dict[str, Any]]], bool]) -> Iterator[list[BaseException]]:
    """While the sweep in the storage is at work, `strike` is given its journal again and again until it is through."""
    problems: list[BaseException] = []
    over = threading.Event()

    def watch() -> None:
        deadline = time.monotonic() + PATIENCE_S
        try:
            while not over.is_set():
                assert time.monotonic() < deadline, "there was nothing to strike"
                found = newest_sweeps(storage)
                if found and strike(journal(Path(str(found[0])))):
                    return
                time.sleep(0.05)
            raise AssertionError("the sweep was over before anything was struck")
        except BaseException as error:  # noqa: BLE001  told in the test's own thread
            problems.append(error)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield problems
    finally:
        over.set()
        thread.join()
    assert problems == []
