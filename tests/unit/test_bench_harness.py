"""The report of a benchmark: what is written, and how rows are judged by their goals."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys

import pytest

from benchmarks.harness import GOALS, ROOT, read_goals, report

GOAL_FILE = """
sample:
  speed: {min: 1.0, why: no slower than the raw loop}
  delay: {max: 5, why: a person notices more}
other:
  speed: {min: 9, why: of another benchmark}
"""


@pytest.fixture
def goals(tmp_path):
    path = tmp_path / "goals.yaml"
    path.write_text(GOAL_FILE)
    return path


def rows_of(tmp_path, goals, *rows):
    """The judged rows, by name."""
    document = report("sample", rows, goals=goals, folder=tmp_path / "bench")
    return {row["name"]: row for row in document["rows"]}


def test_the_file_holds_what_is_needed_to_compare_two_runs(tmp_path, goals, capsys):
    document = report("sample", [("speed", 1.2, "ratio"), ("delay", 3, "ms")], goals=goals, folder=tmp_path / "bench")
    assert json.loads((tmp_path / "bench/sample.json").read_text()) == document
    assert document.keys() == {"date", "commit", "command", "hardware", "versions", "rows"}
    assert document["rows"][0] == {
        "name": "speed",
        "value": 1.2,
        "unit": "ratio",
        "goal": {"min": 1.0, "why": "no slower than the raw loop"},
        "ok": True,
    }
    assert document["versions"].keys() >= {"python", "torch", "ray"}
    assert document["hardware"]["cores"] >= 1
    printed = capsys.readouterr().out
    assert "speed" in printed
    assert "≥ 1" in printed
    assert "≤ 5" in printed


@pytest.mark.parametrize(
    ("name", "value", "ok"),
    [("speed", 1.0, True), ("speed", 0.99, False), ("delay", 5, True), ("delay", 5.1, False), ("unknown", 7, None)],
)
def test_a_row_is_judged_by_its_own_goal(tmp_path, goals, name, value, ok):
    assert rows_of(tmp_path, goals, (name, value, "x"))[name]["ok"] is ok


def test_what_is_not_a_number_misses_its_goal_and_stays_strict_json(tmp_path, goals, capsys):
    rows = rows_of(tmp_path, goals, ("speed", math.nan, "ratio"), ("free", math.inf, "s"))
    assert rows["speed"]["value"] is None
    assert rows["speed"]["ok"] is False
    assert rows["free"]["ok"] is None
    assert "MISSED" in capsys.readouterr().out


def test_a_goal_that_nothing_measured_is_missed(tmp_path, goals):
    rows = rows_of(tmp_path, goals, ("speed", 2, "ratio"))
    assert rows["delay"] == {
        "name": "delay",
        "value": None,
        "unit": "",
        "goal": {"max": 5, "why": "a person notices more"},
        "ok": False,
    }


@pytest.mark.parametrize(
    "goal", ["{min: 1}", "{why: no bound}", "{min: 1, max: 2, why: both}", "{min: 1, why: x, maximum: 2}"]
)
def test_a_goal_needs_one_bound_and_a_reason(tmp_path, goal):
    path = tmp_path / "goals.yaml"
    path.write_text(f"sample:\n  speed: {goal}\n")
    with pytest.raises(ValueError, match="sample: speed"):
        read_goals(path)


def test_the_committed_goals_belong_to_benchmarks_that_exist():
    for name in read_goals(GOALS):
        assert GOALS.with_name(f"{name}.py").exists(), f"goals.yaml speaks of {name}, which is no benchmark"


def test_every_benchmark_can_be_started() -> None:
    """Nobody runs them for weeks, and what they import changes."""
    names = sorted(path.stem for path in GOALS.parent.glob("*.py"))
    code = "\n".join(f"import benchmarks.{name}" for name in names)
    path = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.returncode == 0, done.stderr
