"""Mutations: each kind of domain moves on its own scale and never leaves its values; the seed decides everything."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest

from sweeps.space import Space, mutate


@dataclass(frozen=True)
class How:
    """How a parameter mutates."""

    factors: tuple[float, float] = (0.8, 1.25)
    resample: float = 0.0


def drawn(space, config, how=None, count=200):
    """So many mutations of a config, each from a seed of its own."""
    space = Space.model_validate(space)
    how = {name: How() for name in space.searched} if how is None else how
    return space, [mutate(space, config, how, np.random.default_rng(seed)) for seed in range(count)]


@pytest.mark.parametrize(
    ("domain", "value", "expected"),
    [
        ({"log": [1e-4, 1e-1]}, 1e-2, {8e-3, 1.25e-2}),
        ({"log": [1e-4, 1e-1]}, 9e-2, {7.2e-2, 1e-1}),
        ({"log": [1e-4, 1e-1]}, 1e-1, {8e-2}),  # at an end there is one way
        ({"log": [1e-4, 1e-1]}, 1.0, {0.1}),  # a baseline may lie outside
        ({"float": [0.0, 0.5]}, 0.2, {0.16, 0.25}),
        ({"float": [0, 1], "step": 0.25}, 0.5, {0.25, 0.75}),
        ({"float": [0.8, 0.999], "scale": "one_minus"}, 0.9, {0.92, 0.875}),
        ({"log": [1e-6, 1e-1], "or_zero": True}, 0.0, {0.0}),
        ({"log": [1e-6, 1e-1], "or_zero": True}, 1e-3, {8e-4, 1.25e-3}),
        ({"int": [1, 8]}, 2, {1, 3}),
        ({"int": [1, 8]}, 8, {6}),
        ({"float": [0.0, 0.5]}, 0.0, {0.125}),  # which no factor moves
        ({"int": [2, 20], "step": 2}, 4, {2, 6}),
        ({"int": [8, 512], "scale": "log"}, 100, {80, 125}),
        ({"powers_of_two": [16, 128]}, 32, {16, 64}),
        ({"powers_of_two": [16, 128]}, 128, {64}),
        ({"choice": ["none", "flip", "crop"]}, "flip", {"none", "crop"}),
        ({"choice": ["none", "flip", "crop"]}, "none", {"flip"}),
        ({"choice": [True, 1]}, 1, {True}),
    ],
)
def test_a_value_moves_by_a_factor_or_to_its_neighbour(domain, value, expected):
    _, found = drawn({"x": domain}, {"x": value})
    for config in found:
        assert any(config["x"] == (pytest.approx(e, rel=1e-9) if isinstance(e, float) else e) for e in expected)
    assert len({repr(config["x"]) for config in found}) == len(expected), "each of them is drawn"


def test_now_and_then_a_value_is_drawn_anew_from_its_domain():
    space, found = drawn({"x": {"log": [1e-4, 1e-1]}}, {"x": 1e-2}, {"x": How(resample=0.25)}, 800)
    anew = [c["x"] for c in found if c["x"] not in (pytest.approx(8e-3), pytest.approx(1.25e-2))]
    assert 150 < len(anew) < 250
    assert min(anew) < 3e-4 < 3e-2 < max(anew)
    assert all(space.encode({"x": value}) is not None for value in anew)


def test_what_is_not_named_stays_and_constants_travel_along():
    _, found = drawn(
        {"x": {"float": [0, 1]}, "y": {"float": [0, 1]}, "z": 3}, {"x": 0.5, "y": 0.5, "z": 3}, {"x": How()}
    )
    assert {config["y"] for config in found} == {0.5}
    assert {config["z"] for config in found} == {3}
    assert 0.5 not in {config["x"] for config in found}


def test_a_conditional_parameter_comes_and_goes_with_its_condition():
    space = {
        "optimizer": ["sgd", "adam"],
        "sgd.momentum": {"float": [0.5, 0.99]},
        "adam.beta2": {"float": [0.9, 0.999]},
    }
    _, found = drawn(space, {"optimizer": "sgd", "sgd.momentum": 0.9})
    assert all(set(config) == {"optimizer", "adam.beta2"} for config in found)
    assert len({config["adam.beta2"] for config in found}) > 100, "drawn from its domain"
    _, kept = drawn(space, {"optimizer": "sgd", "sgd.momentum": 0.8}, {"sgd.momentum": How()})
    assert Counter(round(config["sgd.momentum"], 6) for config in kept).keys() == {0.64, 0.99}


def test_the_same_seed_gives_the_same():
    space = Space.model_validate({"x": {"float": [0, 1]}, "y": {"powers_of_two": [1, 64]}})
    how = {name: How(resample=0.5) for name in space}
    a, b = (mutate(space, {"x": 0.5, "y": 8}, how, np.random.default_rng((1, 2, 3))) for _ in range(2))
    assert a == b
