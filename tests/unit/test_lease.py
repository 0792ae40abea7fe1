"""How long a lease waits for its slot, and what it makes of what Ray raises; the rest of it needs a Ray."""

from __future__ import annotations

from typing import Any

import pytest
from ray.exceptions import RayTaskError

from sweeps.lease import LONGEST_EPOCHS, Lease
from sweeps.slots import first_line


@pytest.fixture
def lease() -> Lease:
    """A lease as Tune sets it up."""
    order = {"trial": "explore-000", "attempt": 1, "config": {}, "fidelity": {"epochs": 9}}
    found = object.__new__(Lease)
    found.setup(
        {
            "order": order, "metric": "val/loss", "pool": ("pool", "space"), "leases": ("explore", 2),
            "report_every": 1.0, "first_deadline": 1800.0, "least_deadline": 60.0, "save_deadline": 600.0,
        }
    )  # fmt: skip
    return found


def test_the_first_epoch_has_its_own_deadline(lease: Lease) -> None:
    assert lease._deadline() == 1800


def test_later_ones_are_measured_by_the_longest(lease: Lease) -> None:
    lease.longest, lease.unsaved = 2.0, False
    assert lease._deadline() == 1 + 60, "seconds are no reason to be impatient"
    lease.longest = 100.0
    assert lease._deadline() == 1 + LONGEST_EPOCHS * 100


def test_the_first_checkpoint_takes_nobody_knows_how_long(lease: Lease) -> None:
    lease.longest = 2.0
    assert lease._deadline() == 1 + 60 + 600


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RayTaskError("command", "a page of traceback", TimeoutError()), "TimeoutError"),
        (RayTaskError("command", "a page of traceback", ValueError("first\nsecond")), "first"),
        (RuntimeError("\n  gone  \n more"), "gone"),
        (RuntimeError("raised in its creation task, ray::Slot()\n  File …\nImportError: no x"), "ImportError: no x"),
    ],
)
def test_an_error_is_told_by_its_first_line(error: Any, told: str) -> None:
    assert first_line(error).strip() == told
