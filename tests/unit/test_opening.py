"""What the range tests of preflight do to the space of the first search."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from sweeps.phases.opening import LR_MARGIN, cut
from sweeps.spec import SweepSpec


def engine_with(space, tests, **spec):
    """An engine whose journal has these range tests: (optimizer, low, high)."""
    findings = [
        {"finding": "lr_range", "evidence": {"optimizer": optimizer, "low": low, "high": high}}
        for optimizer, low, high in tests
    ]
    made = SweepSpec(trainable="a:b", space=space, **spec)
    history = SimpleNamespace(findings=[{"finding": "cost"}, *findings])
    return SimpleNamespace(spec=made, record=SimpleNamespace(history=history))


BOTH = [("sgd", 1e-2, 1e-1), ("adamw", 1e-3, 1e-2)]
OPTIMIZERS = ["sgd", "adamw"]
WIDE = {"log": [1e-6, 10.0]}


def ends(space, name):
    return space[name].span


def test_a_rate_of_all_optimizers_covers_all_their_ranges():
    space, (change,) = cut(engine_with({"lr": WIDE, "optimizer": OPTIMIZERS}, BOTH))
    assert ends(space, "lr") == pytest.approx((1e-3 / LR_MARGIN, 1e-1 * LR_MARGIN))
    assert (change.parameter, change.action, change.before) == ("lr", "narrowed", "1e-06 … 10 log")
    assert change.after == str(space["lr"])
    assert change.why == "preflight's range test: 0.001 … 0.1, and 3 times beyond"


def test_a_rate_of_one_optimizer_has_its_own():
    space, changes = cut(engine_with({"sgd.lr": WIDE, "adamw.lr": WIDE, "optimizer": OPTIMIZERS}, BOTH))
    assert ends(space, "sgd.lr") == pytest.approx((1e-2 / LR_MARGIN, 1e-1 * LR_MARGIN))
    assert ends(space, "adamw.lr") == pytest.approx((1e-3 / LR_MARGIN, 1e-2 * LR_MARGIN))
    assert len(changes) == 2


def test_a_range_is_cut_and_never_widened():
    space, _ = cut(engine_with({"lr": {"log": [1e-2, 1.0]}, "optimizer": OPTIMIZERS}, BOTH))
    assert ends(space, "lr") == pytest.approx((1e-2, 1e-1 * LR_MARGIN))


@pytest.mark.parametrize(
    ("space", "tests"),
    [
        ({"lr": WIDE, "optimizer": OPTIMIZERS}, []),
        ({"lr": WIDE, "optimizer": OPTIMIZERS}, [BOTH[0], ("adamw", None, None)]),
        ({"lr": {"log": [1e-9, 1e-8]}, "optimizer": OPTIMIZERS}, BOTH),
        ({"lr": {"log": [2e-3, 2e-2]}, "optimizer": OPTIMIZERS}, BOTH),
        ({"lr": [1e-3, 1e-1], "optimizer": OPTIMIZERS}, BOTH),
        ({"width": {"int": [1, 9]}}, [(None, 1e-3, 1e-2)]),
    ],
    ids=["no test", "one never fell", "outside", "inside", "a choice", "no rate"],
)
def test_what_says_nothing_leaves_the_space_as_it_is(space, tests):
    engine = engine_with(space, tests)
    assert cut(engine) == (engine.spec.space, [])


def test_of_a_test_that_was_repeated_the_newest_counts():
    again = [("sgd", 1e-5, 1e-4), *BOTH]
    space, _ = cut(engine_with({"lr": WIDE, "optimizer": OPTIMIZERS}, again))
    assert ends(space, "lr") == pytest.approx((1e-3 / LR_MARGIN, 1e-1 * LR_MARGIN))
