"""Hyperparameter sweeps that run the practitioner's playbook: explore, refine, confirm, and say why.

    from sweeps import Sweep, SweepSpec
    sweep = Sweep(SweepSpec(trainable="my_model:Digits", space={"lr": None, "dropout": [0.0, 0.2]}, …)).run()
    sweep.verdict, sweep.best.config, sweep.best.load(), sweep.table(), sweep.report()

`Sweep`, `Best` and `Verdict` are imported when they are first asked for: they bring Ray and the figures, which the
command line's help, the leases and the MLflow writer do not need.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sweeps.errors import (
    JournalError,
    PlanError,
    SpecError,
    StorageError,
    SweepFailed,
    SweepsError,
    TrackingError,
    UsageError,
)
from sweeps.space import Space
from sweeps.spec import SweepSpec, read_spec

if TYPE_CHECKING:
    from sweeps.best import Best
    from sweeps.insight.verdict import Verdict
    from sweeps.sweep import Sweep

__all__ = [
    "Best",
    "JournalError",
    "PlanError",
    "Space",
    "SpecError",
    "StorageError",
    "Sweep",
    "SweepFailed",
    "SweepSpec",
    "SweepsError",
    "TrackingError",
    "UsageError",
    "Verdict",
    "read_spec",
]


def __getattr__(name: str) -> Any:
    if name == "Sweep":
        from sweeps.sweep import Sweep

        return Sweep
    if name == "Best":
        from sweeps.best import Best

        return Best
    if name == "Verdict":
        from sweeps.insight.verdict import Verdict

        return Verdict
    raise AttributeError(f"module 'sweeps' has no attribute {name!r}")
