"""Mutation: the config of a good member of a population, a little changed for the one that takes its place.

Jaderberg et al. 2017, Population Based Training of Neural Networks (https://arxiv.org/abs/1711.09846): a number is
multiplied by one of two factors, a listed value gives way to its neighbour, and now and then either is drawn anew. A
number moves on its domain's own scale: near 1 on a `one_minus` scale it is the distance from 1 that is multiplied.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from sweeps.space.domains import Choice, Domain, Float, Int, PowersOfTwo
from sweeps.space.space import Config, Space


class Mutable(Protocol):
    """How one parameter mutates."""

    @property
    def factors(self) -> tuple[float, float]:
        """A number is multiplied by one of them; the first lowers it (and takes the neighbour before, in a list)."""

    @property
    def resample(self) -> float:
        """The probability of a value drawn anew from the domain instead."""


def mutate(space: Space, config: Mapping[str, Any], how: Mapping[str, Mutable], rng: np.random.Generator) -> Config:
    """The config with each parameter of `how` mutated, the others as they are.

    A conditional parameter that comes into being is drawn from its domain, one whose condition is gone is dropped.
    """
    found: Config = {name: value for name, value in config.items() if name not in space}
    for name, domain in space.root.items():
        if not space.active(name, found):
            continue
        if name not in config:
            found[name] = domain.decode(rng.random())
        elif name in how:
            found[name] = mutated(domain, config[name], how[name], rng)
        else:
            found[name] = config[name]
    return found


def mutated(domain: Domain, value: Any, how: Mutable, rng: np.random.Generator) -> Any:
    """One value, mutated within its domain."""
    anew, up = rng.random() < how.resample, bool(rng.random() < 0.5)
    if anew:
        return domain.decode(rng.random())
    if isinstance(domain, Choice):
        return neighbour(list(domain.choice), value, up)
    if isinstance(domain, PowersOfTwo):
        return neighbour(domain.values, value, up)
    for factor in (how.factors[up], how.factors[not up]):  # at an end of the range the other one
        if (moved := scaled(domain, value, factor)) != value:
            return moved
    return value


def scaled(domain: Domain, value: Any, factor: float) -> Any:
    """A number multiplied, within its domain and on its scale; by a step at least where it has some."""
    up = factor > 1
    if isinstance(domain, Int):
        low, high = domain.range
        steps = round(value * (factor - 1) / domain.step) or (1 if up else -1)
        there = domain.encode(min(max(value + steps * domain.step, low), high))
        assert there is not None, "it lies within the range"
        return domain.decode(there)
    assert isinstance(domain, Float), "a constant does not mutate"
    if domain.or_zero and value == 0:
        return value
    start, end = domain.range
    moved = 1 - (1 - value) * factor if domain.scale == "one_minus" else value * factor
    if moved == value:  # 0, which no factor moves: by as much of the range
        moved = (factor - 1) * (end - start)
    if domain.step is not None and abs(moved - value) < domain.step:
        moved = value + (domain.step if up else -domain.step)
    moved = min(max(moved, start), end)
    there = None if domain.step is None else domain.encode(moved)
    return moved if there is None else domain.decode(there)


def neighbour(values: list[Any], value: Any, up: bool) -> Any:
    """The value beside it in a list; the other one at an end, itself where there is none."""
    at = next((i for i, known in enumerate(values) if known == value and type(known) is type(value)), None)
    if at is None or len(values) == 1:
        return values[0]
    step = 1 if up else -1
    return values[at + step] if 0 <= at + step < len(values) else values[at - step]
