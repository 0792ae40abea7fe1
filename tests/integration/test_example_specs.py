"""Every shipped spec of real data, cut short, runs to its verdict; the numbers in the README are of whole runs."""

from __future__ import annotations

import io
import math
from pathlib import Path

import pytest

from sweeps import Sweep
from sweeps.spec import read_spec

pytestmark = [pytest.mark.usefixtures("ray_session"), pytest.mark.slow]
EXAMPLES = Path(__file__).parents[2] / "sweeps" / "examples"
SHORT = [
    {"kind": "explore", "trials": 3, "epochs": 1, "data_fraction": 1.0},
    {"kind": "refine", "trials": 2, "epochs": 2},
    {"kind": "confirm", "top": 1, "seeds": 2},
]


@pytest.mark.parametrize("name", ["breast_cancer", "diabetes", "films", "glucose", "docstrings"])
def test_it_ends_with_a_verdict(name: str, tmp_path: Path) -> None:
    spec = read_spec(EXAMPLES / f"{name}.yaml", {"phases": SHORT, "storage": str(tmp_path)})
    sweep = Sweep(spec).run(out=io.StringIO())
    assert sweep.verdict is not None
    assert sweep.history.status == "FINISHED"
    trials = sweep.history.trials.values()
    assert len(trials) == 3 + 2 + 2 * 2
    assert {trial.status for trial in trials} <= {"FINISHED", "INFEASIBLE"}
    assert all(math.isfinite(value) for arm in sweep.verdict.arms for value in arm.values)
    assert sweep.history.verdict["test"].keys() == {sweep.verdict.winner, "baseline"}
