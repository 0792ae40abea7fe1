"""What one training is made of, and one step of it.

Place in the flow: `prepare` turns a trainable and a config into a `Training`; `trainables.loop` drives it over the
epochs, `trainables.evaluation` measures it, `trainables.footprint` weighs and times it. All three take the same
steps, so that what is foretold is what happens.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from trainables import hyperparameters, optim, parallel, precision, shards, warm_start
from trainables.augment import Augmentation, augmentation
from trainables.augment.mixing import Mixed, Mixing
from trainables.clipping import Clipper
from trainables.contract import Batch, Config, Fidelity, Trainable, TrainableError
from trainables.data import labels
from trainables.data.mapped import check_alike
from trainables.data.rows import Rows, drawn, of_classes, open_rows, subset
from trainables.hyperparameters import Hyperparameters
from trainables.objective import Objective, objective
from trainables.pruning import Pruner
from trainables.schedules import PLATEAU, factor
from trainables.stopping import Patience, Plateau

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


@dataclass(frozen=True)
class Training:
    """Everything that one training needs, made from a config."""

    hyper: Hyperparameters
    fidelity: Fidelity
    device: torch.device
    model: nn.Module
    network: nn.Module
    """The model as a training step calls it; of several processes the one that averages their gradients."""
    parameters: list[nn.Parameter]
    """Those that require a gradient."""
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler | None
    average: AveragedModel | None
    """The moving average of the model, where the config asks for one."""
    augmentation: Augmentation | None
    """Of the training rows while training, never of those that are measured."""
    mixing: Mixing | None
    clipper: Clipper
    pruner: Pruner | None
    plateau: Plateau | None
    patience: Patience
    objective: Objective
    splits: dict[str, Rows]
    """train, val and, where the data has it, test."""
    chosen: Tensor
    """The training rows of this fidelity."""
    measured: Tensor
    """Those among them on which the train metrics are measured: as many as validation has, drawn from the seed."""
    steps_per_epoch: int
    least_rows: int
    """That a process must have of a batch, or of a part of it."""

    @property
    def evaluated(self) -> nn.Module:
        """The model that is measured, and that is kept: the average, where there is one."""
        return self.model if self.average is None else self.average.module


def prepare(trainable: Trainable, config: Config, fidelity: Fidelity, device: torch.device) -> Training:
    """Seed all generators, then make data, model and optimizer; raises TrainableError for what cannot be trained."""
    _check(fidelity, device)
    hyper = hyperparameters.resolve(config)
    _one_thread()
    _seed(fidelity.seed, device)
    data = trainable.data(config, fidelity)
    given = {"train": data.train, "val": data.val, "test": data.test}
    check_alike(given)
    splits = {
        name: open_rows(name, split, device) for name, split in given.items() if name != "test" or split is not None
    }
    highest = None
    if getattr(trainable, "loss", None) is None:
        highest = labels.check({name: split.targets for name, split in splits.items()})
    if fidelity.classes is not None:
        splits = of_classes(splits, fidelity.classes)
    rows = splits["train"]
    chosen = subset(len(rows) if rows.targets is None else rows.targets, fidelity.data_fraction)
    if hyper.batch_size > len(chosen):
        raise TrainableError(
            f"config: batch_size is {hyper.batch_size}, but there are only {len(chosen)} training rows "
            f"({fidelity.data_fraction:g} of {len(rows)}). Lower batch_size, or raise data_fraction"
        )
    if hyper.batch_size < parallel.world_size():
        raise TrainableError(
            f"config: batch_size is {hyper.batch_size}, fewer rows than the {parallel.world_size()} workers. "
            "Raise batch_size, or lower resources.workers"
        )
    changes, mixing = augmentation(config, hyper.augment, fidelity.seed, data.synonyms)
    goal = objective(trainable, hyper, None if rows.targets is None else rows.targets[chosen], mixing, highest)
    model = parallel.placed(trainable.model(config, data), device)
    if hyper.warm_start is not None:
        print(warm_start.begin(model, warm_start.weights_at(hyper.warm_start)))
    if hyper.freeze_depth:
        warm_start.freeze(model, hyper.freeze_depth)
    if parallel.rank() > 0:  # the weights are rank 0's; what is drawn from here on is each rank's own
        _seed(np.random.SeedSequence((fidelity.seed, parallel.rank())).generate_state(1).item(), device)
    parallel.same_weights(model, device)
    average = averaged(model, hyper.ema_decay)
    if average is not None and parallel.shards():
        parallel.sharded(average.module, device)
        average.to(device)
    network = parallel.network(model, device)  # before the optimizer: sharding replaces the parameters
    return Training(
        hyper=hyper,
        fidelity=fidelity,
        device=device,
        model=model,
        network=network,
        parameters=[p for p in model.parameters() if p.requires_grad],
        optimizer=optim.build(model, hyper),
        scaler=precision.scaler(hyper.precision, device),
        average=average,
        augmentation=changes,
        mixing=mixing,
        clipper=Clipper(hyper.clip_norm, hyper.clip_percentile, device),
        pruner=Pruner(model.parameters(), hyper.prune_rate, fidelity.epochs) if hyper.prune_rate else None,
        plateau=Plateau(hyper.plateau_factor, hyper.plateau_patience, hyper.plateau_floor)
        if hyper.schedule == PLATEAU
        else None,
        patience=Patience(hyper.patience, hyper.restore_best),
        objective=goal,
        splits=splits,
        chosen=chosen,
        measured=chosen[drawn(len(chosen), fidelity.seed, 0)[: len(splits["val"])].sort().values],
        steps_per_epoch=_steps(len(chosen), hyper.batch_size, _least_rows(model)),
        least_rows=_least_rows(model),
    )


def epoch_batches(training: Training, epoch: int) -> Iterator[Batch]:
    """The batches of an epoch (from 1), in an order drawn from (seed, epoch) only; of each this rank's rows.

    A last batch of a single row is left out, unless all batches are of one: BatchNorm has no variance of one row and
    raises, and its gradient would weigh as much as a full batch's. Which row that is changes from epoch to epoch.
    So is a last batch that has not a row for every worker, or two for a network with BatchNorm.
    """
    batch_size = training.hyper.batch_size
    order = training.chosen[drawn(len(training.chosen), training.fidelity.seed, epoch)]
    rows, size = parallel.own(order[: training.steps_per_epoch * batch_size], batch_size)
    batches = training.splits["train"].batches(rows, size)
    if training.augmentation is not None:
        batches = augmented(batches, rows.split(size), partial(training.augmentation, epoch))
    if training.mixing is not None:
        partners = training.mixing.partners(epoch, rows, training.chosen)
        others = training.splits["train"].batches(partners, size)
        if training.augmentation is not None:
            others = augmented(others, partners.split(size), partial(training.augmentation, epoch))
        batches = mixed(batches, others, rows.split(size), partial(training.mixing, epoch))
    return batches


def augmented(batches: Iterable[Batch], rows: Iterable[Tensor], change: Callable[..., Tensor]) -> Iterator[Batch]:
    """The batches of those rows, their inputs changed."""
    for numbers, (x, y) in zip(rows, batches, strict=True):
        yield change(numbers, x), y


def mixed(
    batches: Iterable[Batch], others: Iterable[Batch], rows: Iterable[Tensor], mix: Callable[..., Any]
) -> Iterator[Any]:
    """The batches of those rows, mixed with others."""
    for numbers, (x, y), other in zip(rows, batches, others, strict=True):
        yield mix(numbers, x, y, other)


def rows_of(training: Training, number: int) -> int:
    """Rows of the whole batch of that number (from 0) in an epoch."""
    return min(training.hyper.batch_size, len(training.chosen) - number * training.hyper.batch_size)


def lr_at(training: Training, number: int) -> float:
    """The learning rate of step `number`, counted from 0 over all epochs of the fidelity."""
    hyper = training.hyper
    total = training.fidelity.epochs * training.steps_per_epoch
    lowered = 1.0 if training.plateau is None else training.plateau.multiplier
    return hyper.lr * lowered * factor(hyper.schedule, number, total, hyper.warmup_fraction)


def step(training: Training, batch: Batch, lr: float, rows: int) -> tuple[Tensor, Tensor]:
    """One optimizer step: the loss, and the total gradient norm before clipping, both still on the device.

    `batch` is this process's part of a batch of so many `rows`.
    """
    optimizer, scaler = training.optimizer, training.scaler
    for group in optimizer.param_groups:
        group["lr"] = lr * group["share"]
    for parameter in training.parameters:  # what zero_grad does, at a tenth of its cost
        parameter.grad = None
    loss = backward(training, batch, rows)
    if scaler is not None:
        scaler.unscale_(optimizer)
    if training.hyper.l1:
        penalise(training)
    norm = training.clipper(training.parameters)
    if scaler is None:
        optimizer.step()
    else:
        scaler.step(optimizer)
        scaler.update()
    if training.pruner is not None:
        training.pruner.apply(training.model.parameters())
    if training.average is not None:
        training.average.update_parameters(training.model)
        if training.pruner is not None:
            training.pruner.apply(training.average.module.parameters())
    return loss, norm


def backward(training: Training, batch: Batch, rows: int) -> Tensor:
    """Forward and backward, in parts where the config says so; `rows` as in `step`.

    Leaves the gradients (scaled, for fp16) in the parameters and returns the loss.
    """
    share = parallel.share(len(batch[0]), rows)
    if training.hyper.accumulate == 1:
        return backward_part(training, batch, share)
    # As many parts on every rank, and none that a norm over rows cannot work with.
    parts = min(training.hyper.accumulate, max(1, rows // parallel.world_size() // training.least_rows))
    losses = []
    for number, part in enumerate(in_parts(batch, parts), 1):
        with parallel.unsent(training.network, number < parts):
            losses.append(backward_part(training, part, share * len(part[0]) / len(batch[0])))
    return torch.stack(losses).sum()


def backward_part(training: Training, part: Batch, weight: float) -> Tensor:
    """Forward and backward of rows whose mean loss has this weight in the step's; their loss."""
    with precision.autocast(training.hyper.precision, training.device):
        loss = training.objective.training_loss(forward(training, part[0]), part)
    if weight != 1:  # the usual step has one part, and a product more to differentiate would be a delay
        loss = loss * weight
    (loss if training.scaler is None else training.scaler.scale(loss)).backward()
    return loss.detach()


def forward(training: Training, x: Tensor) -> Any:
    """What the network makes of inputs while it trains."""
    try:
        return training.network(x)
    except RuntimeError as error:
        if "mixed torch.Tensor and DTensor" not in str(error):
            raise
        raise TrainableError(
            f"model: {type(training.model).__name__} uses weights of a member of a list other than by calling that "
            "member, and fsdp has them whole only then. Call it, or leave resources.parallelism at ddp"
        ) from error
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise TrainableError(
            f"config: a batch of {len(x)} row under BatchNorm, which has no variance of one. Raise batch_size (it is "
            f"{training.hyper.batch_size}, for {parallel.world_size()} workers), or use another norm"
        ) from None


def in_parts(batch: Batch, parts: int) -> Iterator[Batch]:
    """A batch in so many parts, of equal size or one row more."""
    x, y = batch
    if isinstance(y, Mixed):
        targets = map(Mixed._make, zip(*(t.tensor_split(parts) for t in y), strict=True))
        yield from zip(x.tensor_split(parts), targets, strict=True)
    else:
        yield from zip(x.tensor_split(parts), y.tensor_split(parts), strict=True)


def penalise(training: Training) -> None:
    """Add the L1 penalty's gradient, the sign of each weight of a matrix, to what is averaged over ranks already."""
    for parameter in training.parameters:
        if parameter.grad is not None and parameter.ndim > 1:
            parameter.grad.add_(parameter.detach().sign(), alpha=training.hyper.l1)


def load_weights(model: nn.Module, weights: dict[str, Any]) -> None:
    """Put the weights of a captured state into a model; raises TrainableError when they are another model's."""
    own = model.state_dict()
    try:
        model.load_state_dict({name: shards.like(own.get(name), value) for name, value in weights.items()})
    except (KeyError, RuntimeError) as error:
        raise TrainableError(
            f"state: it does not fit {type(model).__name__}: {error}. Build the model from the config of the trial "
            "that saved it"
        ) from error


def averaged(model: nn.Module, decay: float) -> AveragedModel | None:
    """A moving average of the model's weights and buffers, by torch's AveragedModel; None for a decay of 0."""
    if not decay:
        return None
    move = get_ema_multi_avg_fn(decay)

    def average(mine: Sequence[Tensor], others: Sequence[Tensor], count: Any) -> None:
        # A sharded tensor and a buffer, which is not, cannot go through one operation.
        move(list(map(shards.rows_here, mine)), list(map(shards.rows_here, others)), count)

    return AveragedModel(model, multi_avg_fn=average, use_buffers=True)


def _check(fidelity: Fidelity, device: torch.device) -> None:
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        there = f"there are {torch.cuda.device_count()}" if torch.cuda.is_available() else "torch finds none here"
        raise TrainableError(f"device: {device} is not there: {there}. Give another, or torch.device('cpu')")
    # data_fraction is checked where it is used, in `subset`.
    if fidelity.epochs < 1:
        raise TrainableError(f"fidelity: epochs is {fidelity.epochs}. Train at least 1")
    if fidelity.seed < 0:
        raise TrainableError(f"fidelity: seed is {fidelity.seed}. Give 0 or more")


def _least_rows(model: nn.Module) -> int:
    """The rows that the model must be given at once while training: BatchNorm has no variance of one."""
    return 1 + any(isinstance(part, BATCH_NORMS) for part in model.modules())


def _steps(rows: int, batch_size: int, least_rows: int) -> int:
    full, rest = divmod(rows, batch_size)
    return full + (rest >= max(2, parallel.world_size() * least_rows))


def _one_thread() -> None:
    """One intra-op thread a trial, unless the environment (a user's, Ray's) says another number.

    Trials run side by side: two threads each were 2-5 times slower on two shared cores.
    """
    if not {"OMP_NUM_THREADS", "MKL_NUM_THREADS"} & os.environ.keys():
        torch.set_num_threads(1)


def _seed(seed: int, device: torch.device) -> None:
    random.seed(seed)
    np.random.seed(np.random.SeedSequence(seed).generate_state(1).item())  # numpy takes 32 bits only
    torch.manual_seed(seed % 2**63)
    if device.type == "cuda":
        # A resumed trial is to be bit-identical: cuDNN must not choose among kernels that add in any order.
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False
