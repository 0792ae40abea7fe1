"""Who may import what: the parts know of each other in one direction only, and each heavy friend has one door.

The imports are read, not run, so that one inside a function or under TYPE_CHECKING counts like any other.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("sweeps", "trainables", "cluster")

NEVER = {
    "trainables": ("sweeps", "cluster", "ray", "mlflow"),
    "cluster": ("sweeps", "trainables", "mlflow"),
}
"""Package -> what no file in it may import."""

ONLY_IN = {
    "mlflow": "sweeps/tracking",
    "ray.train": "sweeps/slots",
    "ray.tune.Tuner": "sweeps/tuning",
}
"""What is imported in one module or package only, named without `.py`."""


def imports(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of everything that a file imports, by statement, by import_module, or as `ray.train`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in (
            "import_module",
            "__import__",
        ):
            if node.args and isinstance(node.args[0], ast.Constant):
                yield node.lineno, str(node.args[0].value)
        elif isinstance(node, ast.Attribute):
            name = ast.unparse(node)  # `import ray` opens every door; `from ray import tune` some
            if name.startswith(("ray.", "tune.")):
                yield node.lineno, name if name.startswith("ray.") else f"ray.{name}"


def within(name: str, module: str) -> bool:
    """Whether a dotted name is a module or lies in it."""
    return name == module or name.startswith(f"{module}.")


def violations(root: Path) -> list[str]:
    """Every import in the three packages under `root` that runs back or goes through the wrong door."""
    found = set()
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            place = path.relative_to(root)
            dotted = ".".join(place.parent.parts)
            for line, name in imports(ast.parse(path.read_text(encoding="utf-8")), dotted):
                if any(within(name, forbidden) for forbidden in NEVER.get(package, ())):
                    found.add(f"{place}:{line} imports {name}: {package} must not know it")
                for module, door in ONLY_IN.items():
                    inside = place.with_suffix("").as_posix() == door or place.as_posix().startswith(f"{door}/")
                    if within(name, module) and not inside:
                        found.add(f"{place}:{line} imports {name}: only {door} may")
    return sorted(found)


def test_no_import_runs_back():
    assert violations(ROOT) == []


def test_every_package_is_looked_at():
    for package in PACKAGES:
        assert list((ROOT / package).rglob("*.py")), f"no Python file in {package}: is it elsewhere now?"


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("trainables/loop.py", "import sweeps"),
        ("trainables/loop.py", "from sweeps.journal import Journal"),
        ("trainables/data/rows.py", "from cluster import jobs"),
        ("trainables/loop.py", "def late():\n    import ray"),
        ("trainables/loop.py", "from importlib import import_module\nimport_module('mlflow.pytorch')"),
        ("cluster/jobs.py", "from trainables.contract import Report"),
        ("cluster/jobs.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import sweeps.spec"),
        ("sweeps/report/html.py", "import mlflow"),
        ("sweeps/history.py", "from mlflow import MlflowClient"),
        ("sweeps/trackings.py", "import mlflow.entities"),
        ("sweeps/lease.py", "from ray.train import ScalingConfig"),
        ("sweeps/lease.py", "from ray import train"),
        ("sweeps/lease.py", "import ray.train.torch"),
        ("sweeps/lease.py", "import ray\nray.train.get_context()"),
        ("sweeps/sweep.py", "from ray.tune import Tuner"),
        ("sweeps/sweep.py", "from ray import tune\ntune.Tuner(f)"),
        ("sweeps/sweep.py", "import ray.tune\nray.tune.Tuner(f)"),
        ("sweeps/examples/own_loop.py", "import mlflow"),
    ],
)
def test_a_planted_violation_is_found(tmp_path, file, text):
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    assert violations(tmp_path)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("sweeps/slots.py", "from ray.train.torch import TorchTrainer"),
        ("sweeps/slots/pool.py", "import ray.train"),
        ("sweeps/tuning.py", "from ray import tune\ntune.Tuner(f)"),
        ("sweeps/tracking/writer.py", "import mlflow"),
        ("sweeps/sweep.py", "import trainables.contract, cluster.local\nfrom ray import tune\ntune.Trainable"),
        ("trainables/data/rows.py", "from .. import loop\nfrom ..contract import Data\nimport ray_like, sweepstake"),
        ("cluster/jobs.py", "from ray.job_submission import JobSubmissionClient"),
    ],
)
def test_what_is_allowed_passes(tmp_path, file, text):
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert violations(tmp_path) == []
