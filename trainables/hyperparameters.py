"""The hyperparameters that the platform's loop interprets: names, defaults, bounds.

Place in the flow: the first thing `trainables.loop` does with a config is `resolve` it; everything after sees one
frozen, checked document. All other keys of a config (`width`, `dropout` …) belong to the trainable's own
`data` and `model` and are not looked at here.

Optimizers must each be tuned with ranges of their own, so a value may be given for one of them: `sgd.lr` counts only
when the optimizer is sgd, and then wins over `lr`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any

from trainables.contract import Config, TrainableError
from trainables.optim import OPTIMIZERS
from trainables.precision import PRECISIONS
from trainables.schedules import PLATEAU, SCHEDULES


@dataclass(frozen=True)
class Hyperparameters:
    """One value for every standard hyperparameter, checked; the defaults below are the documented ones."""

    lr: float = 1e-3
    """Peak learning rate, above 0; the schedule multiplies it."""
    batch_size: int = 64
    """Rows of an optimizer step, at least 1 and at most the training rows."""
    accumulate: int = 1
    """Parts, at least 1, in which the rows of a step go through the model one after the other, to save memory."""
    optimizer: str = "adamw"
    """sgd, adam or adamw."""
    momentum: float = 0.9
    """In [0, 1); sgd only."""
    nesterov: bool = False
    """Nesterov's momentum; sgd with momentum only."""
    beta2: float = 0.999
    """In [0, 1); adam and adamw only, whose beta1 is 0.9."""
    weight_decay: float = 0.0
    """At least 0; decoupled in adamw, added to the gradient in sgd and adam; never on norms and biases."""
    schedule: str = "constant"
    """constant, step, exponential, cosine, linear or one_cycle, over the whole fidelity (see `trainables.schedules`);
    plateau: lowered when the validation loss stalls, ended at the lowest (see `trainables.stopping`)."""
    plateau_factor: float = 0.5
    """In (0, 1): what plateau multiplies the learning rate with."""
    plateau_patience: int = 2
    """At least 0: epochs without a better validation loss that plateau waits for."""
    plateau_floor: float = 0.01
    """In (0, 1): the share of the peak at which plateau ends the training instead of going lower."""
    warmup_fraction: float = 0.0
    """Share of all steps, in [0, 1), in which the learning rate rises linearly to its peak."""
    clip_norm: float | None = None
    """Largest total gradient norm, above 0, or None for no clipping."""
    clip_percentile: float | None = None
    """Clip at this percentile, above 0 and below 100, of the newest gradient norms; None: not."""
    l1: float = 0.0
    """At least 0: weight of the sum of absolute weights, matrices and kernels only, beside the loss."""
    prune_rate: float = 0.0
    """In [0, 1): share of each matrix that magnitude pruning sets to zero while training (`trainables.pruning`)."""
    class_weights: str = "none"
    """none, or balanced: rows of rare classes weigh more in the default cross-entropy while training."""
    patience: int = 0
    """At least 0: end after so many epochs without a better validation loss; 0: never."""
    restore_best: bool = False
    """Whether a training ends with the weights of the epoch with the best validation loss."""
    ema_decay: float = 0.0
    """In [0, 1): above 0, what is evaluated and kept is an exponential moving average of the weights."""
    warm_start: str | None = None
    """A checkpoint whose weights the training begins with, by path or URI; None: cold (`trainables.warm_start`). In a
    spec also `sweep:<name>`, `sweep:<name>#<trial>`, or a model in MLflow, which become one (`sweeps.warm_start`)."""
    freeze_depth: int = 0
    """At least 0: so many parts of the network, from its input on, keep the weights that they begin with."""
    head_lr: float | None = None
    """Learning rate of the last part of the network, above 0; None: `lr` as everywhere. The schedule multiplies it."""
    augment: int = 0
    """Level 0 (none) to 3 of random changes of the training rows, for what kind the rows are (`trainables.augment`)."""
    label_smoothing: float = 0.0
    """In [0, 1); in the default cross-entropy while training, never while evaluating."""
    precision: str = "fp32"
    """fp32, bf16 or fp16 (mixed precision; fp16 with a gradient scaler)."""


STANDARD: dict[str, Any] = {field.name: field.default for field in fields(Hyperparameters)}
"""Name -> default of every standard hyperparameter."""

_CHOICES = {
    "optimizer": OPTIMIZERS, "schedule": (*SCHEDULES, PLATEAU), "precision": PRECISIONS,
    "class_weights": ("none", "balanced"),
}  # fmt: skip
_OPTIONAL = ("clip_norm", "clip_percentile", "head_lr", "warm_start")
_YES_OR_NO = ("nesterov", "restore_best")

_WHOLE = ("batch_size", "accumulate", "plateau_patience", "patience", "freeze_depth", "augment")

# name: (lower bound, is the bound itself allowed, upper bound, never itself allowed)
_BOUNDS = {
    "lr": (0.0, False, math.inf),
    "batch_size": (1, True, math.inf),
    "accumulate": (1, True, math.inf),
    "plateau_factor": (0.0, False, 1.0),
    "plateau_patience": (0, True, math.inf),
    "plateau_floor": (0.0, False, 1.0),
    "clip_percentile": (0.0, False, 100.0),
    "l1": (0.0, True, math.inf),
    "prune_rate": (0.0, True, 1.0),
    "patience": (0, True, math.inf),
    "momentum": (0.0, True, 1.0),
    "beta2": (0.0, True, 1.0),
    "weight_decay": (0.0, True, math.inf),
    "warmup_fraction": (0.0, True, 1.0),
    "clip_norm": (0.0, False, math.inf),
    "ema_decay": (0.0, True, 1.0),
    "freeze_depth": (0, True, math.inf),
    "head_lr": (0.0, False, math.inf),
    "augment": (0, True, 4),
    "label_smoothing": (0.0, True, 1.0),
}


def resolve(config: Config) -> Hyperparameters:
    """The standard hyperparameters of a config: defaults, then `name`, then `<its optimizer>.name`.

    Raises TrainableError for an unknown choice, a value out of bounds or of the wrong type, and a key such as
    `sgd.width` that nothing would read.
    """
    optimizer = _choice("optimizer", config.get("optimizer", STANDARD["optimizer"]))
    values = {name: config.get(name, default) for name, default in STANDARD.items()}
    where = {name: name for name in STANDARD}
    for key, value in config.items():
        prefix, dot, name = key.partition(".")
        if not dot or prefix not in OPTIMIZERS:
            continue
        if name not in STANDARD or name == "optimizer":
            known = ", ".join(n for n in STANDARD if n != "optimizer")
            raise TrainableError(f"config: {key!r} would be read by nobody; after {prefix!r} may come: {known}")
        if prefix == optimizer:
            values[name], where[name] = value, key
    checked = {name: _checked(name, where[name], value) for name, value in values.items()}
    if checked["nesterov"] and optimizer == "sgd" and checked["momentum"] == 0:
        raise TrainableError("config: nesterov needs momentum above 0. Set momentum, or nesterov: false")
    return Hyperparameters(**checked)


def _checked(name: str, where: str, value: Any) -> Any:
    if name in _CHOICES:
        return _choice(name, value)
    if name in _YES_OR_NO:
        if not isinstance(value, bool):
            raise TrainableError(f"config: {where} is {value!r}. Give true or false")
        return value
    if name in _OPTIONAL and value is None:
        return None
    if name == "warm_start":
        if not isinstance(value, str):
            raise TrainableError(f"config: {where} is {value!r}. Give the path or URI of a checkpoint")
        return value
    if isinstance(value, bool) or not isinstance(value, Real):
        mend = " (YAML reads 1e-3 as text: write 1.0e-3)" if isinstance(value, str) else ""
        raise TrainableError(f"config: {where} is {value!r}, a {type(value).__name__}. Give a number{mend}")
    number = float(value)
    low, low_allowed, high = _BOUNDS[name]
    if not (low <= number < high) or (number == low and not low_allowed):
        span = f"{'at least' if low_allowed else 'above'} {low:g}"
        span += f" and below {high:g}" if high < math.inf else ", and finite"
        raise TrainableError(f"config: {where} is {value!r}. It must be {span}")
    if name not in _WHOLE:
        return number
    if number != int(number):
        raise TrainableError(f"config: {where} is {value!r}. It must be a whole number")
    return int(number)


def _choice(name: str, value: Any) -> str:
    known = _CHOICES[name]
    if not isinstance(value, str) or value not in known:
        raise TrainableError(f"config: {name} {value!r} is unknown. Choose one of {', '.join(known)}")
    return value
