"""What `sweeps` shows to Python and to the shell, compared with tests/golden; `make golden` writes those files."""

from __future__ import annotations

import types

import pytest

import sweeps
from golden.snapshots import differs


def test_the_public_names_are_the_golden_ones():
    assert not differs("surface.txt")


def test_the_command_line_is_the_golden_one():
    assert not differs("cli.txt")


def test_nothing_else_of_ours_is_public():
    """A helper imported into `sweeps/__init__.py` would become part of the surface without being meant."""
    shown = {
        name
        for name, value in vars(sweeps).items()
        if not name.startswith("_")
        and not isinstance(value, types.ModuleType)
        and getattr(value, "__module__", "").startswith("sweeps")
    }
    assert not shown - set(sweeps.__all__)


@pytest.mark.parametrize("name", sweeps.__all__)
def test_every_public_name_says_what_it_is(name):
    value = getattr(sweeps, name)
    if isinstance(value, str):  # __version__
        return
    doc = value.__doc__ or ""
    assert doc.strip(), f"sweeps.{name} has no docstring"
    assert not doc.startswith(f"{name}("), f"sweeps.{name} has only the docstring that dataclass writes"
