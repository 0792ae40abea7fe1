"""What a sweep shows as a whole, by its trials and by what its advice taught."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sweeps.history import History
from sweeps.insight.whole import judge
from sweeps.journal import FORMAT
from sweeps.spec import SweepSpec

SPEC = SweepSpec.model_validate(
    {
        "trainable": "a:b",
        "space": {"lr": {"log": [1e-4, 1.0]}, "width": {"int": [8, 64]}, "optimizer": ["sgd", "adamw"]},
        "phases": [{"kind": "explore", "epochs": 1}],
    }
)


def swept(
    *trials: tuple[dict[str, Any], float | None], advice: dict[int, tuple[int, str, dict]] | None = None
) -> History:
    """Trials by config and loss, None for those without a value; `advice`: by number of which, for what, what."""
    history = History(Path("nowhere"))

    def tell(kind: str, **fields: Any) -> None:
        history.apply({"kind": kind, "at": 0.0, **fields})

    tell("sweep", format=FORMAT, spec=SPEC.document(), began=0, ready=0, defaults={})
    space = SPEC.space.model_dump(mode="json", by_alias=True)
    tell("phase", phase="explore", phase_kind="explore", space=space, changes=[], comparison=None, trials=len(trials))
    for number, (config, loss) in enumerate(trials):
        name = f"explore-{number:03d}"
        if of := (advice or {}).get(number):
            tell("advice", phase="explore", trial=name, of=f"explore-{of[0]:03d}", finding=of[1], changes=of[2])
        fidelity = {"epochs": 1, "data_fraction": 1.0, "seed": 0}
        tell(
            "trial",
            phase="explore",
            trial=name,
            attempt=1,
            role="advice" if of else "sobol",
            config=config,
            fidelity=fidelity,
        )
        if loss is not None:
            told = {"val/loss": loss, "train/loss": loss}
            tell("report", trial=name, attempt=1, epoch=1, metrics=told, seconds=1.0, checkpoint=None, slot=1)
        status, why = ("FINISHED", "") if loss is not None else ("INFEASIBLE", "non-finite val/loss")
        tell("end", trial=name, status=status, reason=why, seconds=0.0, whole=loss is not None)
    return history


def rates(fine: int, lost: int) -> list[tuple[dict[str, Any], float | None]]:
    """Trials of which the ones with the highest rates diverged."""
    return [({"lr": 0.001 * (n + 1), "width": 8 + n % 5}, 1.0 if n < fine else None) for n in range(fine + lost)]


def test_trials_without_a_value_and_what_sets_them_apart():
    (found,) = judge(swept(*rates(10, 5)), SPEC)
    assert (found.finding, found.severity, found.evidence) == ("wasted", "warn", {"lost": 5, "of": 15})
    assert found.message == (
        "5 of 15 searched trials gave no value. They had lr from 0.011 on: narrow the space."
    )  # fmt: skip
    low = [({**config, "lr": 1.0 / config["lr"]}, loss) for config, loss in rates(10, 5)]
    assert "They had lr up to 90.9" in judge(swept(*low), SPEC)[0].message


def test_few_are_no_waste_and_without_a_cause_none_is_named():
    assert judge(swept(*rates(20, 4)), SPEC) == []
    assert judge(swept(), SPEC) == []
    mixed = [({"lr": 0.1, "optimizer": "sgd"}, None if n % 2 else 1.0) for n in range(10)]
    assert judge(swept(*mixed), SPEC)[0].message.endswith("gave no value. The first: non-finite val/loss.")


@pytest.mark.parametrize(("after", "told"), [((0.9, 0.8), True), ((0.9, 1.2), False), ((0.9,), False)])
def test_advice_that_never_failed_is_worth_adopting(after, told):
    trials = [({"lr": 0.1}, 1.0), *(({"lr": 0.2}, loss) for loss in after)]
    changes = {"lr": [0.1, 0.2]}
    history = swept(*trials, advice=dict.fromkeys(range(1, 1 + len(after)), (0, "lr_too_low", changes)))
    messages = [found.message for found in judge(history, SPEC) if found.finding == "advice_helped"]
    assert bool(messages) == told
    if told:
        assert "lr 0.1 → 0.2 (and 1 more such) for lr_too_low: validation loss −15.0 % (better in 2 of 2" in messages[0]


def test_what_the_arm_without_regularisation_showed():
    history = swept(
        ({"dropout": 0.2}, 1.0), ({"dropout": 0.0}, 1.1), advice={1: (0, "regularisation", {"dropout": [0.2, 0.0]})}
    )
    (found,) = judge(history, SPEC)
    assert (found.finding, found.severity) == ("regularisation", "info")
    assert found.message == "dropout 0.2 → 0 to compare: validation loss +10.0 % (better in 0 of 1 try)."
