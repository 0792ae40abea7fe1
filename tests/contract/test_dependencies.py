"""pyproject's dependencies and the imports in the code name the same distributions."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("sweeps", "trainables", "cluster")
LOADED_BY_NAME = {"psycopg"}
"""What a library that we use loads for us: SQLAlchemy its driver for `postgresql://…`."""


def normal(distribution: str) -> str:
    """The name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def declared() -> set[str]:
    """Names of the run-time dependencies."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {normal(re.split(r"[\[<>=!~; ]", dependency)[0]) for dependency in project["dependencies"]}


def imported() -> dict[str, str]:
    """Top-level module that is neither ours nor Python's -> a file that imports it."""
    found = {}
    for path in (file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            for name in (name.partition(".")[0] for name in names):
                if name not in PACKAGES and name not in sys.stdlib_module_names:
                    found[name] = str(path.relative_to(ROOT))
    return found


def distributions() -> dict[str, set[str]]:
    """Imported module -> the installed distributions that provide it."""
    providers = importlib.metadata.packages_distributions()
    return {module: {normal(d) for d in providers.get(module, [])} for module in imported()}


def test_everything_imported_is_declared():
    missing = {module: imported()[module] for module, known in distributions().items() if not known & declared()}
    assert not missing, f"imported, but no dependency of pyproject.toml brings it: {missing}"


def test_every_dependency_is_imported():
    used = set().union(*distributions().values())
    assert not declared() - used - LOADED_BY_NAME, "declared in pyproject.toml, but imported nowhere"
