"""What a finding is answered with: changes of a config, the likeliest to help first.

Place in the flow: `advise` asks for the remedies of what a good trial suffers from and makes trials of them. They are
the playbook's (symptom, condition, remedy). A finding that is not here has no remedy in the config: what is wrong with
data or network is mended there, and epochs are a matter of the plan.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sweeps.insight.batch_size import LEAST_STEPS
from sweeps.insight.findings import Finding
from sweeps.insight.runs import Run
from sweeps.space import PLAYBOOK, Choice, Constant, Domain, Float, PowersOfTwo, Range, Space

Move = Callable[[Any], Any]
"""From a value to the one to try instead; the same where nothing is to be changed."""


@dataclass(frozen=True)
class Remedy:
    """Values that are changed together, by the last part of their names: `lr` means `adamw.lr` too."""

    moves: Mapping[str, Move]


def times(factor: float, low: float = 0.0, high: float = math.inf) -> Move:
    """A number multiplied; one that is far beyond what is usual at once to its end, the lowest or the highest."""
    return lambda value: min(max(value * factor, low), high)


def whole_times(factor: float, low: int = 1) -> Move:
    """A number of something multiplied; to the lowest that is usual at once."""
    return lambda value: max(round(value * factor), low)


def plus(step: float, low: float = 0.0, high: float = math.inf) -> Move:
    """A number moved by a step, between two ends; one that lies beyond that to which it moves stays."""

    def move(value: Any) -> Any:
        if value >= high if step > 0 else value <= low:
            return value
        return round(min(max(value + step, low), high), 12)

    return move


def tripled(first: float) -> Move:
    """A number times 3; `first` instead of 0, of which there is no multiple."""
    return lambda value: 3 * value if value else first


def at_least(least: float) -> Move:
    """No less than that."""
    return lambda value: max(value, least)


def instead(other: Any, of: tuple[Any, ...] = ()) -> Move:
    """Another value in the place of any, or of these."""
    return lambda value: other if not of or value in of else value


def usual(name: str) -> tuple[float, float]:
    """The ends of the playbook's range."""
    domain = PLAYBOOK[name]
    assert isinstance(domain, Range), "asked of numbers only"
    return domain.span


DROPOUT, DECAY, SMOOTHING = 0.1, 1e-3, 0.1
"""A step of dropout; weight decay where there is none; a step of label smoothing."""
MOST_DROPOUT, MOST_SMOOTHING = usual("dropout")[1], usual("label_smoothing")[1]
RATE, MOST_DECAY, LEAST_BATCH = usual("lr"), usual("weight_decay")[1], round(usual("batch_size")[0])
LOWER_RATE = Remedy({"lr": times(1 / 3, high=RATE[1])})
WARM_UP = Remedy({"warmup_fraction": at_least(0.05)})
CLIP = Remedy({"clip_percentile": instead(90.0, of=(None,))})
SETTLE = Remedy({"lr": times(1 / 2), "schedule": instead("cosine", of=("constant",))})
MORE_DROPOUT = Remedy({"dropout": plus(DROPOUT, high=MOST_DROPOUT)})
MORE_DECAY = Remedy({"weight_decay": tripled(DECAY)})
MORE_AUGMENTATION = Remedy({"augment": plus(1, high=3)})
SMOOTHER = Remedy({"label_smoothing": plus(SMOOTHING, high=MOST_SMOOTHING)})
SMOOTH_UNITS = Remedy({"activation": instead("gelu", of=("relu", "sigmoid", "tanh"))})
WITH_NORM = Remedy({"norm": instead("batch", of=("none",))})
LARGER_BATCH = Remedy({"batch_size": whole_times(2), "lr": times(math.sqrt(2))})
KEEP_BEST = Remedy({"restore_best": instead(True)})
OPTIMIZERS = ("sgd", "adam", "adamw")
"""What may stand before a hyperparameter that is one optimizer's own."""
RESTRAINED = (KEEP_BEST, MORE_AUGMENTATION, MORE_DROPOUT, MORE_DECAY)

EVERYWHERE = frozenset(
    {"lr", "batch_size", "schedule", "warmup_fraction", "clip_percentile", "weight_decay", "restore_best"}
)
"""Hyperparameters of the loop that suit any data and any loss."""

REMEDIES: Mapping[str, tuple[Remedy, ...]] = {
    "lr_too_high": (LOWER_RATE, WARM_UP, CLIP),
    "lr_too_low": (Remedy({"lr": times(3, low=RATE[0])}),),
    "exploding_gradients": (WITH_NORM,),
    "vanishing_gradients": (WITH_NORM, SMOOTH_UNITS),
    "dead_units": (SMOOTH_UNITS,),
    "oscillating": (SETTLE, WARM_UP, LARGER_BATCH),
    "noisy_batch": (Remedy({"batch_size": whole_times(4, low=LEAST_BATCH), "lr": times(2)}), LARGER_BATCH),
    "overfit": (*RESTRAINED, SMOOTHER),
    "too_little_data": (MORE_AUGMENTATION, KEEP_BEST, MORE_DROPOUT, MORE_DECAY),
    "underfit": (
        Remedy({"width": whole_times(2)}), Remedy({"depth": plus(1)}),
        Remedy({"dropout": plus(-DROPOUT, high=MOST_DROPOUT)}), Remedy({"weight_decay": times(1 / 3, high=MOST_DECAY)}),
    ),
    "imbalance": (Remedy({"class_weights": instead("balanced")}),),
}  # fmt: skip
"""By finding what to try, the first first."""


def known_as(short: str, config: Mapping[str, Any]) -> str:
    """Under which name a config has a parameter: that of its optimizer's own, which the loop reads first, else the
    plain one, else one that ends so (`head.dropout`)."""
    own = f"{config.get('optimizer', 'adamw')}.{short}"
    others = (name for name in config if name.rpartition(".")[2] == short and name.partition(".")[0] not in OPTIMIZERS)
    return own if own in config else short if short in config else next(others, short)


def remedies_for(finding: Finding) -> list[Remedy]:
    """What to try for a finding, the likeliest first: what changes the parameter that its evidence names, if any."""
    known = REMEDIES.get(finding.finding, ())
    return sorted(known, key=lambda remedy: next(iter(remedy.moves)) not in finding.evidence)


def suiting(run: Run) -> frozenset[str]:
    """The hyperparameters of the loop that the data and the loss of a training are known to suit."""
    shape = run.audit.get("splits", {}).get("train", {}).get("shape", ())
    alterable = {"augment"} if run.audit.get("words") or len(shape) > 1 else set()
    # Of a loss of the trainable's own, which smooths and weighs as it likes, none is expected.
    labelled = (
        {"label_smoothing", "class_weights"} if run.audit.get("classes") and run.probes.get("expected_loss") else set()
    )
    return EVERYWHERE | alterable | labelled


def applied(remedy: Remedy, run: Run, space: Space, defaults: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What a remedy changes about a training's config: by parameter the value before and the one to try; empty where it
    cannot.

    A parameter that the config lacks takes part where the platform's loop reads it, by `defaults`, and data and loss
    are known to suit it. Values stay within the domains of the space; a constant is a person's word and stays.
    """
    config, known = run.config, suiting(run)
    changes: dict[str, tuple[Any, Any]] = {}
    for short, move in remedy.moves.items():
        name = known_as(short, config)
        if name not in config and (short not in defaults or short not in known):
            continue
        before = config.get(name, defaults.get(short))
        try:
            after = move(before)
        except TypeError:  # a level that a loop of the user's own writes as a word
            continue
        if short == "batch_size" and after > run.rows.get("train", math.inf) // LEAST_STEPS:
            continue
        if name in space:
            after = within(space[name], before, after)
        if after != before:
            changes[name] = (before, after)
    first = next(iter(remedy.moves))  # the others follow from it
    return changes if any(name.rpartition(".")[2] == first for name in changes) else {}


def within(domain: Domain, before: Any, after: Any) -> Any:
    """The value of the domain that is nearest to what a remedy wants; the old one where there is none in between."""
    if isinstance(domain, Constant):
        return before
    if isinstance(domain, Choice):
        return among(domain.choice, before, after)
    if isinstance(domain, PowersOfTwo):
        return among(tuple(domain.values), before, after)
    assert isinstance(domain, Range), "no other domain has a range"
    low, high = domain.span
    if isinstance(domain, Float) and domain.or_zero and after < low:
        return 0.0 if after < low / 2 else low
    clipped = min(max(after, low), high)
    if (clipped - before) * (after - before) <= 0:
        return before  # which lies outside: the range is on the other side
    if isinstance(domain, Float) and domain.step is None:
        return clipped
    there = domain.encode(clipped)
    assert there is not None, "it lies within the range"
    return domain.decode(there)


def among(values: tuple[Any, ...], before: Any, after: Any) -> Any:
    """Of listed values that one, else the nearest number on the same side of the old one; the old one without any."""
    if any(value == after and type(value) is type(after) for value in values):
        return after
    if not is_number(before) or not is_number(after):
        return before
    beyond = [value for value in values if is_number(value) and (value - before) * (after - before) > 0]
    return min(beyond, key=lambda value: abs(value - after), default=before)


def is_number(value: Any) -> bool:
    """Whether it is one, and no yes or no."""
    return isinstance(value, int | float) and not isinstance(value, bool)
