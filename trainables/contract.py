"""What a trainable and the platform agree on.

A *trial* is a generator of Reports, one an epoch; stopping it is closing the generator. Whoever drives it (a slot of
a sweep, a notebook, a test) makes a Session, asks `resolve(trainable)` for the trial function, and calls `next`.

Two ways to be a trainable, named `module:attr`:

* an object or class with `data(config, fidelity) -> Data` and `model(config, data) -> nn.Module`, optionally
  `loss(output, batch)` and `metrics(output, batch)`; the platform's loop (`trainables.loop`) trains it and interprets
  the standard hyperparameters;
* a generator function `trial(config, session)` with a loop of its own that yields Reports, each with the sweep's
  metric in it. It may end by itself: then its last Report counts. It runs in a thread (`signal.signal` raises there).
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

Config = Mapping[str, Any]
Batch = tuple[Tensor, Tensor]


class TrainableError(Exception):
    """The trainable, or what a config asks of it, cannot work; the message says what, where, and the mend."""


@dataclass(frozen=True)
class Fidelity:
    """How much one training costs and sees. Results are compared at one fidelity only."""

    epochs: int
    """Number of passes over the training rows; the horizon of every schedule."""
    data_fraction: float = 1.0
    """Share of the training rows in (0, 1]; the rows of a smaller share lie inside those of a larger one."""
    seed: int = 0
    """Seed of weights, order and augmentation."""
    classes: int | None = None
    """Train and measure on so many of the classes only, at least 2, with labels from 0; None: on all. The network keeps
    its outputs."""


@dataclass(frozen=True)
class Data:
    """The splits of one data set: each a pair of arrays or tensors `(x, y)` with equal first dimension, or a
    map-style `torch.utils.data.Dataset` of `(x, y)` rows. Order, share and position are the loop's.

    `test` is never touched while training or choosing: it is read once, for the verdict.
    """

    train: Any
    val: Any
    test: Any = None
    synonyms: Tensor | None = None
    """Of texts: the table of `models.text.Tokenizer.synonyms`, for `augment_synonyms`."""


@dataclass(frozen=True)
class Failure:
    """Why a trial ended without a result. `kind`: `error` (user's code raised), `memory`, `non_finite`."""

    kind: str
    error: str
    message: str
    traceback: str = ""


@dataclass(frozen=True)
class Report:
    """What a trial says after an epoch. A trainable fills `epoch` and `metrics`; whoever drives it the rest."""

    epoch: int
    """Epochs completed, from 1."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Floats under `train/… val/… grad/… time/… system/… hp/…`; non-finite losses end the trial as infeasible."""
    checkpoint: str | None = None
    """Where the state at the end of this epoch is stored, when a checkpoint was due."""
    seconds: float = 0.0
    """Wall seconds that the trial worked in its slot for this epoch, set-up and checkpoint included."""
    done: bool = False
    """Whether the trial ends with this report, before the fidelity's last epoch."""
    failure: Failure | None = None


@dataclass
class Session:
    """What a trial is given: how much to train, where, and from which state."""

    fidelity: Fidelity
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    state: dict[str, Any] | None = None
    """The state that an earlier attempt of this trial saved, or None for a fresh start."""
    capture: Callable[[], dict[str, Any]] | None = None
    """Set through `checkpoint_with`; called between epochs when a checkpoint is due."""

    def checkpoint_with(self, capture: Callable[[], dict[str, Any]]) -> None:
        """Say how to take the trial's state: tensors, numbers, strings and plain containers, under one dict.

        A trial that never calls this has no checkpoints: it starts from its first epoch when its slot is lost.
        """
        self.capture = capture


@runtime_checkable
class Trainable(Protocol):
    """Data and a model by config. `loss` and `metrics` are optional; see `trainables.loop` for the defaults."""

    def data(self, config: Config, fidelity: Fidelity) -> Data: ...

    def model(self, config: Config, data: Data) -> nn.Module: ...


Trial = Callable[[Config, Session], Iterator[Report]]


def load(name: str) -> Any:
    """Import the trainable named `module:attr` (attributes may be dotted).

    Raises TrainableError when the name is malformed, the module cannot be imported or has no such attribute.
    """
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise TrainableError(f"trainable: {name!r} is not of the form module:attr. Write e.g. my_model:Digits")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        if module_name == missing or module_name.startswith(f"{missing}."):
            hint = f"no module named {missing!r} on the path. Run from the folder that holds it, or install it"
        else:
            hint = f"{module_name} needs {missing!r}, which is not installed. Install it where the trials run"
        raise TrainableError(f"trainable: cannot import {name!r}: {hint}") from error
    except Exception as error:
        raise TrainableError(
            f"trainable: importing {module_name!r} raised {type(error).__name__}: {error}. Mend the module"
        ) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            names = ", ".join(sorted(n for n in vars(found) if not n.startswith("_"))[:12]) or "nothing"
            raise TrainableError(f"trainable: {module_name!r} has no attribute {part!r}; it has {names}")
        found = getattr(found, part)
    return found


def resolve(trainable: Any) -> Trial:
    """The trial function of a trainable: its `module:attr` name, its class, an instance, or a generator function.

    Raises TrainableError when it is none of these.
    """
    found = load(trainable) if isinstance(trainable, str) else trainable
    if inspect.isgeneratorfunction(found):
        own: Trial = found
        return own
    instance = instantiate(found)

    def trial(config: Config, session: Session) -> Iterator[Report]:
        from trainables.loop import train

        return train(instance, config, session)

    return trial


def instantiate(found: Any) -> Trainable:
    """The Trainable behind a class (called without arguments) or an instance; raises TrainableError for others."""
    instance = found() if inspect.isclass(found) else found
    if not isinstance(instance, Trainable):
        raise TrainableError(
            f"trainable: {getattr(found, '__name__', found)!r} is neither a generator function trial(config, session) "
            "nor an object with data(config, fidelity) and model(config, data)"
        )
    return instance
