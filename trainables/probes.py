"""Data and network looked at before any tuning, as numbers: what a practitioner checks first.

Place in the flow: a slot answers `probe` with these for the baseline config; the preflight phase judges them. The
checks are those of A. Karpathy, A Recipe for Training Neural Networks (2019): the loss at initialisation, a network
that sees nothing of its inputs, one batch overfitted, nothing learned from shuffled labels; besides, gradients in every
layer, whether what is learned says anything of other rows, and what an epoch costs. What failed checks are explained by
is measured along with them.

They ask whether this network can learn these data at all, so they train with an optimizer of their own that works for
nearly everything (AdamW, the better of two rates, clipped), without regularisation, and not with the config's.
"""

from __future__ import annotations

import itertools
import math
import os
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from trainables import parallel, shards
from trainables.augment import PREFIX
from trainables.contract import Batch, Config, Fidelity, Trainable
from trainables.footprint import CPU, seconds_per_epoch
from trainables.scales import Scales, scales
from trainables.shuffled_labels import Dealt, Shuffled, dealt
from trainables.soundness import Soundness, soundness
from trainables.training import Training, epoch_batches, prepare

OFF = {"dropout": 0.0, "label_smoothing": 0.0, "weight_decay": 0.0, "augment": 0}
"""What regularises, and its value that does not; only for keys that the config has."""
RATES = (1e-3, 1e-2)
LEARN_STEPS, OVERFIT_STEPS = 100, 300
OVERFIT_ROWS = 8
"""So few that even a linear model can fit them."""
FITTED = 0.01
"""A batch whose loss is this share of what it was needs no further steps."""
NEWEST = 10
"""So many steps' losses stand for what a network came to while it was trained."""
MEASURED_ROWS = 512
GRADIENT_STEPS = 5
"""A layer behind one that begins at zero gets its first gradient at the second step."""


@dataclass(frozen=True)
class FirstLook:
    """What an untrained network shows."""

    initial_loss: float
    """Of the untrained network on training rows, in eval mode."""
    expected_loss: float | None
    """Of an output that prefers nothing: ln K for K classes, the mean square for floats; None for an own loss."""
    without_gradient: list[str]
    """Parameters that no gradient reached in any of the first steps."""
    non_finite_gradient: list[str]
    behind: str | None
    """The first parameter that a gradient reached, where all those before it, and only those, got none."""
    soundness: Soundness
    scales: Scales


@dataclass(frozen=True)
class Probes(FirstLook):
    """What was found. Losses are means over rows, in eval mode where nothing else is said."""

    learned_loss: float
    """After some steps on real inputs."""
    learned_steps: int
    """How many they were: fewer where they are slow."""
    learned_in_training: float
    """Over the newest of these steps' batches, in train mode."""
    learned: Dealt | None
    """What the same network can tell of validation rows."""
    blind_loss: float
    """After the same steps with all inputs set to 0."""
    overfit_first: float
    """Of one small batch before training on nothing else, in train mode."""
    overfit_lowest: float
    """On the way."""
    overfit_last: float
    overfit_floor: float | None
    """The least loss of that batch with the same output for all rows; None for an own loss."""
    overfit_steps: int
    shuffled: Dealt | None
    """What a network can tell of validation rows that was trained on shuffled labels."""
    own_loss: bool
    """Whether the loss is the trainable's own."""
    seconds_per_epoch: float
    """Of one trial of this config over all training rows."""
    peak_bytes: int
    """Most memory held: on the device, what its driver takes for the process included; on the CPU by the process."""
    device_bytes: int
    """All that there is: the device's, or on the CPU the host's."""


def probe(
    trainable: Trainable, config: Config, fidelity: Fidelity, device: torch.device = CPU, limit_s: float = 20.0
) -> Probes:
    """Probe a config. Takes up to about `limit_s` seconds, besides the time to load data and make models."""
    plain, share = unregularised(config), limit_s / 12
    first = first_look(trainable, config, fidelity, device)

    def fresh() -> Training:
        return prepare(trainable, plain, fidelity, device)

    learned = min((learn(fresh(), rate, seen, share, told=True) for rate in RATES), key=lambda one: one.loss)
    blind = min(learn(fresh(), rate, unseen, share).loss for rate in RATES)
    overfitted = overfit(fresh(), RATES[0], share)
    if overfitted.last > FITTED * overfitted.first:
        overfitted = min(overfitted, overfit(fresh(), RATES[1], share), key=lambda one: one.last)
    cost = seconds_per_epoch(trainable, config, replace(fidelity, epochs=1), 3 * share, device)
    peak = peak_bytes(device)  # before what deals labels anew, and holds them twice
    other = prepare(Shuffled(trainable), plain, fidelity, device)
    return Probes(
        **vars(first),
        learned_loss=learned.loss,
        learned_steps=learned.steps,
        learned_in_training=learned.in_training,
        learned=learned.dealt,
        blind_loss=blind,
        overfit_first=overfitted.first,
        overfit_lowest=overfitted.lowest,
        overfit_last=overfitted.last,
        overfit_floor=overfitted.floor,
        overfit_steps=overfitted.steps,
        shuffled=learn(other, learned.rate, seen, share, told=True).dealt,
        own_loss=getattr(trainable, "loss", None) is not None,
        seconds_per_epoch=cost,
        peak_bytes=peak,
        device_bytes=device_bytes(device),
    )


def cold(config: Config) -> Config:
    """The config with weights of its own, all of them to be trained."""
    return {**config, **{key: value for key, value in (("warm_start", None), ("freeze_depth", 0)) if key in config}}


def unregularised(config: Config) -> Config:
    """The config, cold, without what holds a network back."""
    off = {key: value for key in config if (value := OFF.get(key.rpartition(".")[2])) is not None}
    return {**cold(config), **off, **{key: 0 for key in config if key.startswith(PREFIX)}}


def first_look(trainable: Trainable, config: Config, fidelity: Fidelity, device: torch.device = CPU) -> FirstLook:
    """Look at a config's network before it is trained, and over its first steps."""
    shown = soundness(prepare(trainable, cold(config), fidelity, device))
    # A trial has one network, and what is held besides would count as its memory.
    training = prepare(trainable, unregularised(config), fidelity, device)
    initial = measure(training, seen)
    own = getattr(trainable, "loss", None) is not None
    expected = None if own else expected_loss(training)
    sizes = scales(training, measured_rows(training))
    silent, broken = gradients(training)
    trained = [name for name, parameter in training.model.named_parameters() if parameter.requires_grad]
    return FirstLook(initial, expected, silent, broken, after(silent, trained), shown, sizes)


def after(silent: list[str], trained: list[str]) -> str | None:
    """The parameter that follows the silent ones, where these are the first of all."""
    few = 0 < len(silent) < len(trained) and trained[: len(silent)] == silent
    return trained[len(silent)] if few else None


def measured_rows(training: Training) -> Tensor:
    """The training rows on which losses are measured."""
    return training.chosen[torch.linspace(0, len(training.chosen) - 1, MEASURED_ROWS).long().unique()]


Look = Callable[[Batch], Batch]
"""What the network sees of a batch."""


def seen(batch: Batch) -> Batch:
    """All of it."""
    return batch


def unseen(batch: Batch) -> Batch:
    """Its labels, with inputs of zeros."""
    return torch.zeros_like(batch[0]), batch[1]


def measure(training: Training, look: Look) -> float:
    """The mean loss over some training rows, in eval mode."""
    rows = measured_rows(training)
    training.model.eval()
    total = 0.0
    with torch.no_grad():
        for batch in training.splits["train"].batches(rows, training.hyper.batch_size):
            total += float(training.objective.loss(training.model(look(batch)[0]), batch)) * len(batch[1])
    return total / len(rows)


def expected_loss(training: Training) -> float:
    """The default loss of an output that prefers nothing."""
    rows = measured_rows(training)
    batch = next(training.splits["train"].batches(rows, len(rows)))
    if batch[1].is_floating_point():
        return float(batch[1].square().mean())
    with torch.no_grad():
        return math.log(training.model(batch[0][:2]).shape[1])


def gradients(training: Training) -> tuple[list[str], list[str]]:
    """Names of the parameters that no gradient reached, and of those with one that is not finite."""
    reached, broken = set[str](), set[str]()
    named = {name: p for name, p in training.model.named_parameters() if p.requires_grad}
    for step, _ in enumerate(steps(training, RATES[0], seen, epochs(training), GRADIENT_STEPS, math.inf)):
        for name, parameter in named.items():
            if parameter.grad is None:
                continue
            # The largest: isfinite() would hold copies, which a trial does not and which would count as its memory.
            largest = float(torch.linalg.vector_norm(shards.whole(parameter.grad), math.inf))
            if not math.isfinite(largest):
                broken.add(name)
            elif largest > 0:
                reached.add(name)
        if broken and step == 0:
            break  # what follows from it says nothing more
    return [name for name in named if name not in reached | broken], sorted(broken)


@dataclass(frozen=True)
class Learned:
    """What some steps came to."""

    rate: float
    steps: int
    loss: float
    """On training rows, in eval mode; infinite when it is not a number."""
    in_training: float
    dealt: Dealt | None
    """On validation rows, where that was asked."""


def learn(training: Training, rate: float, look: Look, limit_s: float, told: bool = False) -> Learned:
    """Train some steps on what `look` shows, and measure the network; with `told` also on validation rows."""
    losses = list(steps(training, rate, look, epochs(training), LEARN_STEPS, limit_s))
    loss = measure(training, look)
    found = dealt(training, limit_s / 4) if told else None
    newest = fmean(losses[-NEWEST:])
    return Learned(rate, len(losses), loss if math.isfinite(loss) else math.inf, newest, found)


@dataclass(frozen=True)
class Overfit:
    """The losses of one small batch while training on nothing else; infinite when not a number."""

    first: float
    lowest: float
    last: float
    floor: float | None
    """The least with the same output for all rows."""
    steps: int


def overfit(training: Training, rate: float, limit_s: float) -> Overfit:
    """Train on one small batch alone."""
    few = training.chosen[torch.linspace(0, len(training.chosen) - 1, OVERFIT_ROWS).long().unique()]
    batch = next(training.splits["train"].batches(few, OVERFIT_ROWS))
    losses: list[float] = []
    for loss in steps(training, rate, seen, itertools.repeat(batch), OVERFIT_STEPS, limit_s):
        losses.append(loss if math.isfinite(loss) else math.inf)
        if loss < FITTED * losses[0]:
            break
    floor = None if training.objective.own else least_blind(batch[1])
    return Overfit(losses[0], min(losses), losses[-1], floor, len(losses))


def least_blind(targets: Tensor) -> float:
    """The least default loss of one output for all of these rows: the labels' entropy, or the targets' variance."""
    if targets.is_floating_point():
        return float(targets.double().var(0, correction=0).mean())
    shares = targets.flatten().unique(return_counts=True)[1].double() / targets.numel()
    return float(-(shares * shares.log()).sum())


def steps(
    training: Training, rate: float, look: Look, batches: Iterator[Any], count: int, limit_s: float
) -> Iterator[float]:
    """Take up to `count` steps of AdamW and yield the loss before each; the gradients stay until the next."""
    # Fused, as in a trial: the other implementation for GPUs holds one more copy of all parameters for a moment.
    optimizer = torch.optim.AdamW(training.parameters, lr=rate, weight_decay=0.0, fused=True)
    training.model.train()
    began = time.perf_counter()
    for batch in (next(batches) for _ in range(count)):
        optimizer.zero_grad(set_to_none=True)
        loss = training.objective.loss(training.model(look(batch)[0]), batch)
        loss.backward()
        yield float(loss.detach())
        clip_grad_norm_(training.parameters, 1.0)
        optimizer.step()
        if parallel.agreed(time.perf_counter() - began > limit_s):
            return


def epochs(training: Training) -> Iterator[Batch]:
    """The training batches, epoch after epoch, without end."""
    epoch = 0
    while True:
        epoch += 1
        yield from epoch_batches(training, epoch)


def peak_bytes(device: torch.device) -> int:
    """The most memory that this process has held so far, on the device or else in all.

    On a device: the most that torch's allocator held, and what is in use beside it (the driver's context; other
    processes', if the device is not this one's alone).
    """
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        beside = total - free - torch.cuda.memory_reserved(device)
        return int(torch.cuda.max_memory_reserved(device) + max(beside, 0))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def device_bytes(device: torch.device) -> int:
    """The memory that the device has, or on the CPU the host."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
