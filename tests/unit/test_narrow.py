"""Narrowing: what becomes of a range on made-up rankings, best first."""

from __future__ import annotations

import random

import pytest

from sweeps.space import Change, Choice, Constant, Float, Space, narrow
from sweeps.space.narrow import MIN_TRIALS


def ranking(best: list, rest: list, name: str = "x") -> list[dict]:
    """Configs of one parameter, the best ones first."""
    return [{name: value} for value in [*best, *rest]]


def one(domain: object, best: list, rest: list) -> tuple[object, Change]:
    """What becomes of a single parameter, after a detour through JSON as the journal takes it."""
    narrowed, changes = narrow(Space({"x": domain}), ranking(best, rest))
    assert Space.model_validate(narrowed.model_dump(mode="json", by_alias=True)) == narrowed
    assert [change.parameter for change in changes] == ["x"]
    assert (changes[0].before, changes[0].after) == (str(Space({"x": domain})["x"]), str(narrowed["x"]))
    return narrowed["x"], changes[0]


def spread(low: float, high: float, count: int) -> list[float]:
    """Values evenly between two ends."""
    return [low + (high - low) * i / (count - 1) for i in range(count)]


def test_a_range_is_cut_to_where_the_best_lie_with_a_margin():
    after, change = one({"float": [0.0, 10.0]}, [4.0, 5.0, 4.5, 4.2], spread(0, 10, 12))
    assert after.span == pytest.approx((3.0, 6.0))
    assert change.action == "narrowed"
    assert "the best 4 lie in 4 … 5" in change.why


def test_a_logarithmic_range_is_cut_in_its_logarithm():
    after, _ = one({"log": [1e-5, 1e-1]}, [1e-3, 2e-3, 1e-3, 5e-4], [1e-5, 1e-1] * 6)
    assert after.scale == "log"
    assert after.span == pytest.approx((5e-4 * 10**-0.4, 2e-3 * 10**0.4))


def test_the_best_quarter_counts():
    """Of 32 trials 8: the ninth may lie anywhere."""
    best = [4.0, 6.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0]
    after, _ = one({"float": [0.0, 10.0]}, best, [9.9] * 24)
    assert after.span == pytest.approx((3.0, 7.0))


def test_a_single_good_value_keeps_a_fifth_of_the_range():
    after, _ = one({"float": [0.0, 10.0]}, [5.0] * 4, spread(0, 10, 12))
    assert after.span == pytest.approx((4.0, 6.0))


def test_two_of_the_best_five_at_an_edge_widen_that_side_and_cut_the_other():
    after, change = one({"float": [1.0, 11.0]}, [11.0, 10.8, 9.0, 9.5], spread(1, 11, 12))
    assert change.action == "widened"
    assert after.span == pytest.approx((8.0, 11.0 + 0.25 * 3.0))
    assert "high edge" in change.why
    after, change = one({"float": [1.0, 11.0]}, [1.0, 1.2, 3.0, 2.5], spread(1, 11, 12))
    assert change.action == "widened"
    assert after.span == pytest.approx((1.0 - 0.25 * 3.0, 4.0))
    assert "low edge" in change.why


def test_one_good_point_at_the_edge_does_not_widen():
    after, change = one({"float": [0.0, 10.0]}, [10.0, 8.0, 8.5, 9.0], spread(0, 10, 12))
    assert change.action == "narrowed"
    assert after.span == pytest.approx((7.0, 10.0))


@pytest.mark.parametrize("domain", [{"int": [1, 4]}, {"int": [1, 8]}], ids=str)
@pytest.mark.parametrize("side", ["low", "high"])
def test_the_end_of_a_short_list_of_numbers_is_an_edge_too(domain, side):
    """Four layers of at most four: five may be better still, though the middle of its bin is far from 1."""
    low, high = domain["int"]
    end = low if side == "low" else high
    after, change = one(domain, [end] * 4, [low, high - 1, low + 1, high] * 3)
    if side == "high":
        assert change.action == "widened"
        assert after.span[1] > high
    else:
        assert after.encode(low) is not None  # below one layer there is nothing


def test_what_the_natural_limits_forbid_is_not_called_widened():
    after, change = one({"float": [0.0, 1.0]}, [1.0, 1.0, 0.99, 0.98], spread(0, 1, 12))
    assert change.action == "narrowed"
    assert after.span[1] == 1.0
    after, change = one({"powers_of_two": [16, 1024]}, [1024, 1024, 512, 512], [16, 32, 64, 128] * 3)
    assert change.action == "narrowed"
    assert after.span[1] == 1024


def test_a_parameter_that_does_not_matter_keeps_its_range():
    after, change = one({"float": [0.0, 10.0]}, [1.0, 9.0, 4.0, 6.0], spread(0, 10, 12))
    assert change.action == "kept"
    assert after.span == (0.0, 10.0)
    assert "spread" in change.why


@pytest.mark.parametrize(
    ("domain", "value", "others"),
    [
        ({"int": [1, 3]}, 2, [1, 3]),
        ({"powers_of_two": [16, 128]}, 64, [16, 32, 128]),
        ({"powers_of_two": [16, 128]}, 16, [32, 64, 128]),
        ({"int": [0, 10], "step": 5}, 5, [0, 10]),
        ({"float": [0.0, 1.0], "step": 0.5}, 0.5, [0.0, 1.0]),
    ],
    ids=str,
)
def test_a_range_of_which_one_value_is_left_is_still_a_space(domain, value, others):
    after, _ = one(domain, [value] * 4, others * 4)
    assert after.encode(value) is not None
    assert after.decode(0.5) is not None


def test_or_zero_is_decided_by_the_zeros_among_the_best():
    domain = {"log": [1e-6, 1e-1], "or_zero": True}
    after, change = one(domain, [0.0, 0.0, 1e-4, 0.0], [1e-3] * 12)
    assert after == Float(range=(1e-6, 1e-1), scale="log", or_zero=True)
    assert change.action == "kept"
    assert "3 of the best 4 are 0" in change.why
    after, change = one(domain, [1e-4, 2e-4, 1e-4, 5e-5], [0.0] * 6 + [1e-2] * 6)
    assert change.action == "narrowed"
    assert after.or_zero, "the arm without it is always compared"
    assert after.decode(0.0) == 0.0


def test_a_value_of_a_choice_goes_only_when_luck_hardly_explains_its_absence():
    often, change = one(["sgd", "adamw"], ["adamw"] * 4, ["sgd"] * 8 + ["adamw"] * 4)
    assert often == Constant(constant="adamw")
    assert change.action == "narrowed"
    assert "sgd: tried 8 times, none of the best 4" in change.why
    seldom, change = one(["sgd", "adamw"], ["adamw"] * 4, ["sgd"] * 2 + ["adamw"] * 10)
    assert seldom == Choice(choice=("sgd", "adamw"))
    assert change.action == "kept"
    assert "sgd 0, adamw 4" in change.why


def test_a_value_among_the_best_stays_and_one_never_tried_too():
    after, change = one(["a", "b", "c", "d"], ["a", "b", "a", "a"], ["c"] * 9 + ["a"] * 3)
    assert after == Choice(choice=("a", "b", "d"))
    assert change.action == "narrowed"


def test_what_depends_on_a_dropped_value_goes_with_it():
    space = Space({"optimizer": ["sgd", "adamw"], "sgd.momentum": None, "lr": {"log": [1e-4, 1e-1]}})
    best = [{"optimizer": "adamw", "lr": lr} for lr in (1e-3, 2e-3, 1e-3, 3e-3)]
    rest = [{"optimizer": "sgd", "sgd.momentum": 0.9, "lr": lr} for lr in spread(1e-4, 1e-1, 12)]
    narrowed, changes = narrow(space, [*best, *rest])
    assert "sgd.momentum" not in narrowed
    assert narrowed["optimizer"] == Constant(constant="adamw")
    change = next(c for c in changes if c.parameter == "sgd.momentum")
    assert (change.action, change.after) == ("narrowed", "gone")
    assert "dropped" in change.why
    assert {c.parameter for c in changes} == set(space.searched)


def test_what_depends_on_two_values_stays_with_the_one_that_is_left():
    space = Space(
        {
            "optimizer": ["sgd", "adamw", "rmsprop"],
            "eps": {"log": [1e-9, 1e-3], "when": {"optimizer": ["adamw", "rmsprop"]}},
        }
    )
    best = [{"optimizer": "adamw", "eps": eps} for eps in (1e-8, 2e-8, 1e-8, 3e-8, 1e-8)]
    rest = [{"optimizer": "rmsprop", "eps": 1e-5}] * 8 + [{"optimizer": "sgd"}] * 8
    narrowed, _ = narrow(space, [*best, *rest])
    assert narrowed["optimizer"] == Constant(constant="adamw")
    assert "eps" in narrowed
    assert narrowed.active("eps", {"optimizer": "adamw"})


def test_a_conditional_parameter_that_few_of_the_best_have_keeps_its_range():
    space = Space({"optimizer": ["sgd", "adamw"], "sgd.momentum": None})
    ranked = [{"optimizer": "sgd", "sgd.momentum": 0.9}, {"optimizer": "adamw"}] * 8
    narrowed, changes = narrow(space, ranked)
    assert narrowed == space
    change = next(c for c in changes if c.parameter == "sgd.momentum")
    assert change.action == "kept"
    assert "only 2 of the best 4" in change.why


def test_fewer_than_eight_trials_are_no_evidence():
    space = Space({"x": {"float": [0, 10]}, "optimizer": ["sgd", "adamw"], "fixed": 1})
    ranked = [{"x": 5.0, "optimizer": "sgd", "fixed": 1}] * (MIN_TRIALS - 1)
    narrowed, changes = narrow(space, ranked)
    assert narrowed is space
    assert [(c.parameter, c.action) for c in changes] == [("x", "kept"), ("optimizer", "kept")]
    assert all("7 comparable trials; 8 are needed" in c.why for c in changes)
    assert narrow(space, [*ranked, ranked[0]])[0] != space
    assert narrow(space, [])[0] is space


def test_a_best_config_outside_the_space_narrows_nothing_by_itself():
    """The baseline may lie anywhere."""
    after, change = one({"float": [0.0, 10.0]}, [50.0] * 4, spread(0, 10, 12))
    assert after.span == (0.0, 10.0)
    assert change.action == "kept"


def test_conditions_and_sources_survive():
    space = Space({"optimizer": ["sgd", "adamw"], "sgd.momentum": None})
    ranked = [{"optimizer": "sgd", "sgd.momentum": m} for m in (0.9, 0.91, 0.9, 0.89)]
    ranked += [{"optimizer": "sgd", "sgd.momentum": 0.99}] * 8 + [{"optimizer": "adamw"}] * 8
    momentum = narrow(space, ranked)[0]["sgd.momentum"]
    assert momentum.when == {"optimizer": ("sgd",)}
    assert momentum.source == space["sgd.momentum"].source


NATURAL = Space(
    {
        "rate": {"float": [0.0, 0.5]},
        "share": {"float": [0.2, 1.0]},
        "lr": {"log": [1e-5, 1e-1]},
        "momentum": None,
        "batch_size": None,
        "layers": {"int": [1, 20]},
        "units": {"int": [8, 512], "scale": "log"},
        "level": {"int": [0, 30]},
    }
)
LIMITS = {
    "rate": (0.0, 1.0),
    "share": (0.0, 1.0),
    "lr": (1e-300, 1e9),
    "momentum": (0.0, 1.0),
    "batch_size": (16, 128),
    "layers": (1, 10**6),
    "units": (1, 10**6),
    "level": (0, 10**6),
}


@pytest.mark.parametrize("seed", range(12))
def test_no_evidence_moves_a_range_beyond_its_natural_limits(seed):
    """Three rounds of rankings that pull to one side, each over the space that the last one left."""
    draw = random.Random(seed)
    space = NATURAL
    for _ in range(3):
        pull = {name: draw.choice([0.0, 0.5, 1.0]) for name in space.searched}
        ranked = [space.decode({n: u + (draw.random() - u) * i / 24 for n, u in pull.items()}) for i in range(24)]
        space, changes = narrow(space, ranked)
        for name, (low, high) in LIMITS.items():
            assert all(low <= value <= high for value in space[name].grid(5)), (name, changes)
        assert Space.model_validate(space.model_dump(mode="json", by_alias=True)) == space
