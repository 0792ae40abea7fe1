"""What a registered model is called, tagged with and described by, from the recorded journal alone."""

from __future__ import annotations

import dataclasses
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sweeps import Sweep, UsageError
from sweeps.best import Best
from sweeps.history import History
from sweeps.insight.curves import best_trial
from sweeps.tracking.registry import description, metrics, tags
from sweeps.tracking.runs import trial_record


@pytest.fixture
def history(recorded_sweep: Path) -> History:
    return History.open(recorded_sweep)


def judged(history: History, **fields: Any) -> History:
    """The same sweep with another verdict."""
    history.verdict = {**(history.verdict or {}), **fields}
    return history


def of_best(history: History) -> tuple[dict[str, str], dict[str, float], str]:
    trial = best_trial(history)
    assert trial is not None
    points = {point["key"]: point["value"] for point in metrics(history, trial)}
    return tags(history, trial), points, description(history, trial)


def test_a_winner_is_told_by_its_verdict_and_its_arm(history: History) -> None:
    found, measured, text = of_best(history)
    assert history.verdict is not None
    arm = next(arm for arm in history.verdict["arms"] if arm["arm"] == history.verdict["winner"])
    trial = history.trials[arm["trials"][0]]
    assert (found["trial"], found["role"], found["verdict"]) == (trial.trial, arm["arm"], "ADOPT")
    assert (found["sweep.confirmed"], found["sweep.checkpoint"]) == ("true", f"checkpoints/{trial.trial}/9")
    run = trial_record(history, trial, "").tags
    assert {name: found[name] for name in run.keys() & found.keys()} == {n: run[n] for n in run.keys() & found.keys()}
    assert measured["seeds/val/accuracy_mean"] == pytest.approx(arm["mean"])
    assert measured["seeds/val/accuracy_sd"] == pytest.approx(arm["sd"])
    assert measured["seeds/test/accuracy_mean"] == pytest.approx(statistics.fmean(arm["values"]) - 0.005)
    assert (measured["seeds/count"], measured["best/epoch"]) == (3, 9)
    assert text.startswith(f"{history.verdict['text']}\n\nThe model is {trial.trial} of {history.name}: seed 1 of ")
    assert "Not confirmed" not in text


def test_the_baseline_is_called_so(history: History) -> None:
    judged(history, verdict="KEEP_BASELINE", winner="baseline", best_trial="confirm-001", text="KEEP_BASELINE …")
    found, _, text = of_best(history)
    assert (found["role"], found["sweep.confirmed"]) == ("baseline", "true")
    assert "seed 2 of the baseline, after epoch 9" in text
    assert "Not confirmed" not in text


@pytest.mark.parametrize("verdict", ["MORE_SEEDS", "KEEP_BASELINE"])
def test_a_candidate_that_the_verdict_does_not_adopt_is_not_confirmed(history: History, verdict: str) -> None:
    found, _, text = of_best(judged(history, verdict=verdict))
    assert found["role"].startswith("refine-")
    assert found["sweep.confirmed"] == "false"
    assert "Not confirmed" in text


def test_without_confirm_it_is_the_best_of_the_last_search(history: History) -> None:
    history.verdict = None
    found, measured, text = of_best(history)
    assert found["phase"] == "refine"
    assert "verdict" not in found
    assert found["sweep.confirmed"] == "false"
    assert set(measured) == {"best/val/accuracy", "best/epoch"}
    assert text.startswith(
        "Not confirmed: no verdict says that this is better than the baseline.\n\nThe model is refine-"
    )
    assert "seed" not in text


def test_values_that_mlflow_cannot_hold_are_left_out(history: History) -> None:
    assert history.verdict is not None
    judged(history, test={history.verdict["winner"]: [{"test/loss": "NaN"}] * 3})
    _, measured, _ = of_best(history)
    assert not [name for name in measured if name.startswith("seeds/test")]


def test_what_another_process_could_not_build_is_refused(history: History, recorded_sweep: Path) -> None:
    best = Sweep.open(recorded_sweep).best
    best.check()
    for trainable, why in (
        ("toys:trial", "toys:trial builds its model itself"),
        ("__main__:Net", "__main__:Net was defined in a script. Put it in a module"),
        ("toys:Nothing", r"trainable: 'toys' has no attribute 'Nothing'; it has .*\.$"),
    ):
        with pytest.raises(UsageError, match=why):
            dataclasses.replace(best, trainable=trainable).check()
    with pytest.raises(UsageError, match=f"{best.trial} has no checkpoint"):
        Best(best.trial, best.config, (), {}, None, best.trainable, best.fidelity).check()


def test_the_driver_does_not_import_mlflow() -> None:
    code = "import sys, sweeps.tracking.registry as r; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0
