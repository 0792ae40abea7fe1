"""The training loop: a generator of Reports, one an epoch.

Place in the flow: `contract.resolve` wraps a trainable's data and model into `train`; a slot draws Reports from it.

What is reported, so that curves can be compared: `train/loss` and `train/<metric>` are measured like `val/loss` and
`val/<metric>`, after the epoch, in eval mode and without label smoothing, on a fixed part of the training rows as
large as the validation split. The mean of the losses met while training would be a moving model's, with dropout and
smoothing in it, and its gap to validation would mean nothing. `grad/…` and what else is seen on the way stands in
`watch`; `hp/lr` is the rate of the last step; `time/…` seconds, and training rows per second.

A training loss that is not finite ends the epoch at once: the Report says so under `train/loss`, and the generator
ends, as it does after any non-finite result; a gradient norm may overflow without harm. Whether that makes a trial
infeasible is for the driver to say.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from trainables import optim, parallel, precision, state
from trainables.contract import Config, Report, Session, Trainable, TrainableError
from trainables.evaluation import evaluate
from trainables.training import Training, epoch_batches, load_weights, lr_at, prepare, rows_of, step
from trainables.warm_start import kept_weights
from trainables.watch import Watch, gradients

FINITE_CHECK_EVERY = 16
"""Steps between two looks at the loss: each waits for the device. One that is missed is in the mean at the end."""


def train(trainable: Trainable, config: Config, session: Session) -> Iterator[Report]:
    """Train from the session's state, or afresh, to the fidelity's last epoch; yield a Report after each epoch.

    The state captured between epochs holds all that the rest depends on: a trial that goes on from it on the same
    kind of device is bit-identical to one never interrupted. On a GPU as far as its operations are: of cuDNN's
    only those are used that add in a fixed order; of torch's some do not (the gradient of attention over long texts),
    and it is the trainable's to call `torch.use_deterministic_algorithms(True)`, with which they do, or raise.

    Raises TrainableError for what a config or a trainable asks that cannot work.
    """
    training = prepare(trainable, config, session.fidelity, session.device)
    done = 0 if session.state is None else _restore(training, session.state)
    session.checkpoint_with(lambda: capture(training, done))
    while done < session.fidelity.epochs:
        metrics, training_loss = _train_epoch(training, done + 1)
        if math.isfinite(training_loss):
            metrics |= _measure(training)
        else:
            metrics |= {"train/loss": training_loss, "val/loss": math.nan}
        done += 1
        broken = not all(math.isfinite(v) for name, v in metrics.items() if name.startswith(("train/", "val/")))
        stalled = not broken and _stalled(training, metrics["val/loss"])
        last = stalled or done == session.fidelity.epochs
        if last and training.patience.put_back(training.evaluated):
            metrics |= _measure(training)
        yield Report(done, metrics, done=stalled)
        if broken or stalled:
            return


def capture(training: Training, epoch: int) -> dict[str, Any]:
    """The state of a training after `epoch` epochs, on the CPU, sharing no memory with it; all ranks take part."""
    live = {
        # A tensor, because the bytes of a checkpoint must not depend on the number's digits.
        "epoch": torch.tensor(epoch),
        "model": dict(training.model.state_dict()),
        "optimizer": optim.capture(training.optimizer),
        "rng": parallel.gather(state.capture_rng(training.device)),
    }
    if training.hyper.clip_percentile is not None:
        live["clipper"] = training.clipper.capture()
    if training.plateau is not None:
        live["plateau"] = training.plateau.capture()
    if training.hyper.patience or training.hyper.restore_best:
        live["patience"] = training.patience.capture()
    if training.average is not None:
        live["average"] = dict(training.average.state_dict())
    if training.scaler is not None:
        live["scaler"] = precision.capture(training.scaler)
    taken: dict[str, Any] = state.snapshot(live)
    return taken


def _restore(training: Training, saved: dict[str, Any]) -> int:
    missing = {"epoch", "model", "optimizer", "rng"} - saved.keys()
    if missing:
        raise TrainableError(
            f"state: it has no {', '.join(sorted(missing))}: it was not saved by this loop. Start the trial afresh"
        )
    load_weights(training.model, saved["model"])
    optim.restore(training.optimizer, saved["optimizer"])
    # What a state of another config lacks begins afresh.
    if "clipper" in saved:
        training.clipper.restore(saved["clipper"])
    if training.plateau is not None and "plateau" in saved:
        training.plateau.restore(saved["plateau"])
    if "patience" in saved:
        training.patience.restore(saved["patience"], training.evaluated)
    # A state without an average lets it begin at the weights.
    if training.average is not None:
        load_weights(training.average.module, kept_weights(saved))
        training.average.n_averaged.copy_(saved["average"]["n_averaged"] if "average" in saved else torch.tensor(0))
    # A state of another precision has no scale: the scaler then begins at its own, as in a fresh trial.
    if training.scaler is not None and "scaler" in saved:
        precision.restore(training.scaler, saved["scaler"])
    if parallel.rank() < len(saved["rng"]):  # one of more workers than before draws from its seed
        state.restore_rng(saved["rng"][parallel.rank()], training.device)
    return int(saved["epoch"])


def _stalled(training: Training, loss: float) -> bool:
    """Whether the training ends because the validation loss has stopped to fall."""
    patient = training.patience.observe(loss, training.evaluated)
    lowest = training.plateau is not None and training.plateau.observe(loss)
    return patient or lowest


def _train_epoch(training: Training, epoch: int) -> tuple[dict[str, float], float]:
    """Train one epoch: its metrics, and the mean loss of its steps."""
    steps = training.steps_per_epoch
    losses: list[Tensor] = []
    norms: list[Tensor] = []
    rows = 0
    lr = math.nan
    started = time.perf_counter()
    state.renew_rng(training.device)  # a trial that goes on does so at the beginning of an epoch
    training.model.train()
    if training.pruner is not None:
        training.pruner.begin(epoch)
    for number, batch in enumerate(epoch_batches(training, epoch)):
        lr = lr_at(training, (epoch - 1) * steps + number)
        whole = rows_of(training, number)
        loss, norm = step(training, batch, lr, whole)
        losses.append(loss)
        norms.append(norm)
        rows += whole
        if len(losses) % FINITE_CHECK_EVERY == 0 and not parallel.total(loss.clone()).isfinite():
            break
    parallel.same_buffers(training.model)
    if training.average is not None:
        parallel.same_buffers(training.average.module)
    # Reading a number waits for the device: only after it is the time the training's.
    mean_loss = float(parallel.total(torch.stack(losses).mean())) / parallel.world_size()
    seconds = time.perf_counter() - started
    metrics = {
        **gradients(norms, training.parameters, scaled=training.scaler is not None),
        "time/train_s": seconds,
        "time/rows_per_s": rows / seconds,
        "hp/lr": lr,
    }
    return metrics, mean_loss


def _measure(training: Training) -> dict[str, float]:
    started = time.perf_counter()
    on_train = evaluate(training, "train", training.measured)
    watch = Watch(training.evaluated, not training.objective.own, training.hyper.batch_size)
    on_val = evaluate(training, "val", torch.arange(len(training.splits["val"])), watch)
    return {**on_train, **on_val, "time/eval_s": time.perf_counter() - started}
