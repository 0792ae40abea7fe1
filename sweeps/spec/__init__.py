"""The spec of a sweep: one frozen, typed document, the same from YAML and from Python.

`read_spec("sweep.yaml")` and `SweepSpec(trainable=..., space=..., ...)` validate alike and raise SpecError, which
names the key, the file and the line, and what to write instead.
"""

from sweeps.spec.document import Budget, Resources, SweepSpec, name_of
from sweeps.spec.phases import (
    Audit,
    Confirm,
    Evolve,
    Explore,
    Grid,
    Halving,
    Mutation,
    Phase,
    Preflight,
    Refine,
    Replay,
    SearchPhase,
    phase_name,
    rungs,
)
from sweeps.spec.reading import read_spec

__all__ = [
    "Audit",
    "Budget",
    "Confirm",
    "Evolve",
    "Explore",
    "Grid",
    "Halving",
    "Mutation",
    "Phase",
    "Preflight",
    "Refine",
    "Replay",
    "Resources",
    "SearchPhase",
    "SweepSpec",
    "name_of",
    "phase_name",
    "read_spec",
    "rungs",
]
