"""How a benchmark reports: a table to read, and build/bench/<name>.json to keep and compare.

A benchmark is a script `tests/benchmarks/<name>.py` that ends with

    from benchmarks.harness import report
    report("loop", [("mlp against a raw loop", 1.24, "ratio"), ("first batch", 3.1, "ms")])

A number that depends on the machine means little elsewhere: prefer ratios taken side by side in one run. What a row
should reach stands in goals.yaml beside this file, so that a benchmark cannot move its own goal unseen.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import math
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
GOALS = Path(__file__).with_name("goals.yaml")
PACKAGES = ("torch", "ray", "mlflow", "hyperopt", "numpy", "pyarrow", "lightning", "accelerate")
"""Whose versions a result depends on."""

Goal = dict[str, Any]
"""`min` or `max`, the bound; `why`, where the bound comes from."""


def report(
    name: str,
    rows: Iterable[tuple[str, float, str]],
    *,
    goals: Path = GOALS,
    folder: Path = ROOT / "build" / "bench",
) -> dict[str, Any]:
    """Judge `(name, value, unit)` rows by the goals, print them, write `folder/name.json`, and return its content."""
    document = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "command": shlex.join(["python", *sys.argv]),
        "hardware": hardware(),
        "versions": versions(),
        "rows": judged(rows, read_goals(goals).get(name, {})),
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    print(f"{name}, {document['date']}, commit {document['commit']}, {describe(document['hardware'])}")
    print(table(document["rows"]))
    return document


def read_goals(path: Path) -> dict[str, dict[str, Goal]]:
    """Benchmark -> row -> goal. Raises ValueError for a goal without exactly one bound and a reason."""
    goals: dict[str, dict[str, Goal]] = YAML(typ="safe").load(path.read_text(encoding="utf-8")) or {}
    for benchmark, rows in goals.items():
        for row, goal in rows.items():
            if len(goal.keys() & {"min", "max"}) != 1 or not goal.get("why") or goal.keys() - {"min", "max", "why"}:
                raise ValueError(f"{path.name}: {benchmark}: {row}: write `min` or `max`, and `why`; got {goal}")
    return goals


def judged(rows: Iterable[tuple[str, float, str]], goals: Mapping[str, Goal]) -> list[dict[str, Any]]:
    """Rows with goal and judgement; `ok` is None without a goal. A goal that nothing measured is a row that fails."""
    found = []
    for name, value, unit in rows:
        number = float(value) if math.isfinite(value) else None  # strict JSON has no nan
        goal = goals.get(name)
        found.append({"name": name, "value": number, "unit": unit, "goal": goal, "ok": reached(number, goal)})
    measured = {row["name"] for row in found}
    lacking = [name for name in goals if name not in measured]
    return found + [{"name": n, "value": None, "unit": "", "goal": goals[n], "ok": False} for n in lacking]


def reached(value: float | None, goal: Goal | None) -> bool | None:
    """Whether a value keeps its bound; None when it has none."""
    if goal is None:
        return None
    if value is None:
        return False
    return bool(value >= goal["min"]) if "min" in goal else bool(value <= goal["max"])


def table(rows: Iterable[Mapping[str, Any]]) -> str:
    """The rows in columns: name, value, unit, goal, judgement."""
    lines = [("", "value", "unit", "goal", "")]
    for row in rows:
        goal = row["goal"] or {}
        bound = f"≥ {goal['min']:g}" if "min" in goal else f"≤ {goal['max']:g}" if goal else ""
        value = "–" if row["value"] is None else f"{row['value']:.4g}"
        lines.append((row["name"], value, row["unit"], bound, {True: "ok", False: "MISSED", None: ""}[row["ok"]]))
    widths = [max(len(line[column]) for line in lines) for column in range(5)]
    return "\n".join(
        f"{a:<{widths[0]}}  {b:>{widths[1]}} {c:<{widths[2]}}  {d:<{widths[3]}}  {e}".rstrip()
        for a, b, c, d, e in lines
    )


def commit() -> str | None:
    """The commit measured, with `+` when files differ from it; None outside a repository."""
    try:
        git = ("git", "-C", str(ROOT))
        head = subprocess.run((*git, "rev-parse", "--short=12", "HEAD"), capture_output=True, text=True, check=True)
        changed = subprocess.run((*git, "status", "--porcelain"), capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+" if changed.stdout else "")


def hardware() -> dict[str, Any]:
    """Processor, its cores for this process, memory, and the GPUs that torch sees if it is loaded already."""
    found: dict[str, Any] = {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count(), "gpus": []}
    with contextlib.suppress(OSError):  # Linux only
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        found["cpu"] = next((s.partition(":")[2].strip() for s in lines if s.startswith("model name")), found["cpu"])
    with contextlib.suppress(AttributeError):  # Linux only
        found["cores"] = len(os.sched_getaffinity(0))
    with contextlib.suppress(ValueError, AttributeError, OSError):
        found["memory_gib"] = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    torch = sys.modules.get("torch")  # a benchmark without torch should not wait for its import
    if torch is not None and torch.cuda.is_available():
        found["gpus"] = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return found


def describe(machine: Mapping[str, Any]) -> str:
    """The hardware in one phrase."""
    gpus = f", {' + '.join(machine['gpus'])}" if machine["gpus"] else ""
    return f"{machine['cores']} cores of {machine['cpu']}{gpus}"


def versions() -> dict[str, str]:
    """Python's and the packages' versions."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found
