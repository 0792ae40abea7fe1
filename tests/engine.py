"""Runs toy sweeps on the Ray of the test session, for the tests of the engine."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from sweeps import Sweep, SweepSpec


def toy_spec(storage: Path, trainable: Any = "toys:trial", **fields: Any) -> SweepSpec:
    """A spec of a toy trainable: one explore phase of four trials of three epochs, unless told otherwise."""
    given = {
        "name": "toy",
        "trainable": trainable,
        "space": {"value": {"float": [0.0, 1.0]}},
        "phases": [{"kind": "explore", "trials": 4, "epochs": 3, "reduction_factor": None}],
        "storage": str(storage),
        "checkpoint_every": 1,
        **fields,
    }
    return SweepSpec.model_validate(given)


def run_toy(storage: Path, trainable: Any = "toys:trial", **fields: Any) -> Sweep:
    """The toy sweep, run; its output is dropped."""
    return Sweep(toy_spec(storage, trainable, **fields)).run(out=io.StringIO())
