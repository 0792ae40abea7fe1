"""`kill -9` of the driver in any generation of a population: the lineage is that of one that was never disturbed."""

from __future__ import annotations

import random
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from e2e.terminal import of_kind
from faults.test_driver_killed import Watched, kill, start
from sweeps.storage import place

__all__ = ["start"]  # the fixture

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
MEMBERS, EPOCHS, KILLS = 4, 8, 3
SPEC = f"""\
name: toy
trainable: toys:annealed
space: {{lr: {{log: [1e-2, 1.0]}}, seconds: 0.15}}
report_every: 0
resources: {{concurrency: 1, cpus_per_worker: 0.5}}
phases:
  - {{kind: evolve, population: {MEMBERS}, epochs: {EPOCHS}, interval: 2, quantile: 0.5}}
"""


def choices(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every judgement in order, without its time and whether someone waited."""
    judged = [line for line in lines if line["kind"] in ("decision", "exploit")]
    return [{name: value for name, value in line.items() if name not in ("at", "sweep", "paused")} for line in judged]


def test_a_population_that_is_killed_again_and_again_has_the_same_lineage(
    tmp_path: Path, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    draw = random.Random(0)
    (tmp_path / "toy.yaml").write_text(SPEC)
    once = f"{tmp_path}/undisturbed"
    driver = start("run", "toy.yaml", "--storage", once)
    assert driver.wait(timeout=300) == 0, (tmp_path / "out.txt").read_text()
    undisturbed = Watched(place(once), tmp_path / "out.txt")
    undisturbed.poll()
    assert of_kind(undisturbed.lines, "exploit")

    storage = f"{tmp_path}/killed"
    watched = Watched(place(storage), tmp_path / "out.txt")
    words = ["run", "toy.yaml", "--storage", storage]
    for _ in range(KILLS):
        driver = start(*words)
        before = len(of_kind(watched.lines, "report"))
        watched.wait_for_lines(driver, draw.randint(6, 20), "evolve")
        kill(driver)
        watched.poll()
        assert before < len(of_kind(watched.lines, "report")) < MEMBERS * EPOCHS, "it was killed at work"
        words = ["resume", str(watched.sweep)]
    driver = start(*words)
    assert driver.wait(timeout=300) == 0, (tmp_path / "out.txt").read_text()
    watched.poll()
    reports = Counter((line["trial"], line["epoch"]) for line in of_kind(watched.lines, "report"))
    assert set(reports.values()) == {1}
    assert len(reports) == MEMBERS * EPOCHS
    assert choices(watched.lines) == choices(undisturbed.lines)
    values = [
        {(line["trial"], line["epoch"]): line["metrics"]["val/loss"] for line in of_kind(lines, "report")}
        for lines in (watched.lines, undisturbed.lines)
    ]
    assert values[0] == values[1], "to the last bit"
