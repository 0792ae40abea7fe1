"""A batch that the same model had no memory for is not proposed again."""

from __future__ import annotations

import pytest

from sweeps.history import History, TrialHistory
from sweeps.insight.memory import within
from sweeps.space import Space

LOOP = {"lr", "batch_size", "precision", "accumulate", "momentum"}
SPACE = Space.model_validate(
    {
        "batch_size": {"powers_of_two": [8, 128]}, "width": [16, 32], "precision": ["fp32", "bf16"],
        "lr": {"log": [1e-3, 1e-1]},
    }
)  # fmt: skip
CONFIG = {"batch_size": 64, "width": 32, "precision": "fp32", "lr": 0.01}


def history(*refused, kind="memory"):
    """One in which these configs failed."""
    found = History(None)
    for number, config in enumerate(refused):
        trial = TrialHistory(f"explore-{number:03d}", "explore", "sobol", config, {}, 0.0)
        trial.failures.append({"failure_kind": kind})
        found.trials[trial.trial] = trial
    return found


@pytest.mark.parametrize(
    ("failed", "batch_size"),
    [
        ({**CONFIG, "batch_size": 32, "lr": 0.1}, 16),
        ({**CONFIG, "batch_size": 64}, 32),
        ({**CONFIG, "batch_size": 128}, 64),
        ({**CONFIG, "batch_size": 8}, 64),
        ({**CONFIG, "batch_size": 32, "width": 16}, 64),
        ({**CONFIG, "batch_size": 32, "precision": "bf16"}, 64),
        ({**CONFIG, "batch_size": 32, "sgd.momentum": 0.9}, 16),
    ],
    ids=["another lr", "the same batch", "a larger one", "none is smaller", "another width", "precision", "the loop's"],
)
def test_the_largest_batch_below_those_that_failed(failed, batch_size):
    assert within(CONFIG, SPACE, history(failed), LOOP) == {**CONFIG, "batch_size": batch_size}


def test_only_what_failed_for_want_of_memory_counts():
    assert within(CONFIG, SPACE, history({**CONFIG, "batch_size": 8}, kind="error"), LOOP) == CONFIG
    assert within({"lr": 0.1}, SPACE, history(CONFIG), LOOP) == {"lr": 0.1}


def test_the_smallest_of_several_counts():
    several = [{**CONFIG, "batch_size": size} for size in (128, 32, 64)]
    assert within(CONFIG, SPACE, history(*several), LOOP)["batch_size"] == 16
