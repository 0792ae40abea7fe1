"""How fast the training loop is: this platform's, one written by hand, Lightning's and Accelerate's, in one run.

Rows are of trials in a warm process, from the data in memory to the last report: building, training, and measuring
after each epoch. All four are given the same network from the same seed, fused AdamW with the same groups, batch size,
clipping at the same norm, fp32, and after each epoch the loss and the accuracy on validation and on as many training
rows, in eval mode, in batches four times as large.

What is not alike is what each brings. The raw loop fetches batches as the platform does, by `index_select` in an order
drawn from (seed, epoch), and so must end with the platform's numbers. The two others are used as their documentation
shows, with a DataLoader over a TensorDataset in the training's own process: workers are slower for rows that are in
memory. Lightning's logger, checkpoints, progress bar, summary and sanity check are off. Neither is asked for the mean
gradient norm, which the platform and the raw loop report.

The machine's own speed swings by more than what there is to see. So the platform and the raw loop take turns epoch by
epoch, and the ratio is the median over pairs of epochs, building counted to the first; the two others, which cannot be
taken apart, alternate with the platform training by training.

With `--device cuda` the platform and the raw loop take turns on a GPU; the two others, and the goals, are the CPU's.
"""

from __future__ import annotations

import argparse
import logging
import math
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.harness import report
from trainables.contract import Config, Data, Fidelity, Session, resolve
from trainables.data.rows import drawn
from trainables.evaluation import EVAL_BATCHES
from trainables.examples.digits import Digits
from trainables.models.cnn import Cnn
from trainables.models.mlp import Mlp

SEED, LR, DECAY, CLIP, BATCH = 0, 1e-3, 1e-2, 1.0, 64
PAIRED, ROUNDS = 20, 7
"""Trainings that take turns with the raw loop's by epochs; trainings of each peer."""
MLP_ROWS, MLP_COLUMNS, MLP_CLASSES = 10_240, 32, 10
CPU = torch.device("cpu")

Metrics = dict[str, float]


@dataclass(frozen=True)
class Case:
    """Data, a network and a number of epochs; a trainable."""

    build: Callable[[], nn.Module]
    train: tuple[Tensor, Tensor]
    val: tuple[Tensor, Tensor]
    epochs: int
    device: torch.device = CPU

    def data(self, config: Config, fidelity: Fidelity) -> Data:
        return Data(train=self.train, val=self.val)

    def model(self, config: Config, data: Data) -> nn.Module:
        return self.build()


def mlp() -> Case:
    """A table of 8192 training rows whose classes a random network gave them, and an MLP of width 128."""
    torch.manual_seed(SEED)
    x = torch.randn(MLP_ROWS, MLP_COLUMNS)
    with torch.no_grad():
        y = nn.Sequential(nn.Linear(MLP_COLUMNS, 16), nn.Tanh(), nn.Linear(16, MLP_CLASSES))(x).argmax(1)
    first = MLP_ROWS * 4 // 5
    return Case(lambda: Mlp(MLP_COLUMNS, MLP_CLASSES, 128), (x[:first], y[:first]), (x[first:], y[first:]), epochs=6)


def cnn() -> Case:
    """Handwritten digits and the network of the example sweeps."""
    data = Digits().data({}, Fidelity(1))
    return Case(lambda: Cnn(1, 10), data.train, data.val, epochs=6)


def platform(case: Case) -> Iterator[Metrics]:
    """As a slot trains a trial."""
    config = {"lr": LR, "weight_decay": DECAY, "clip_norm": CLIP, "batch_size": BATCH}
    for done in resolve(case)(config, Session(Fidelity(case.epochs, seed=SEED), case.device)):
        yield dict(done.metrics)


def raw(case: Case) -> Iterator[Metrics]:
    """By hand, for one network and nothing else."""
    torch.manual_seed(SEED)
    (x, y), (x_val, y_val) = ([part.to(case.device) for part in split] for split in (case.train, case.val))
    model = case.build().to(case.device)
    parameters = list(model.parameters())
    optimizer = adamw(model)
    part = drawn(len(x), SEED, 0)[: len(x_val)].sort().values
    splits = {"train": (x[part], y[part]), "val": (x_val, y_val)}
    for epoch in range(1, case.epochs + 1):
        model.train()
        zero, batches = torch.zeros((), device=case.device), drawn(len(x), SEED, epoch).to(case.device).split(BATCH)
        norms = zero.clone()
        for rows in batches:
            optimizer.zero_grad()
            F.cross_entropy(model(x.index_select(0, rows)), y.index_select(0, rows)).backward()
            norms += clip_grad_norm_(parameters, CLIP)
            optimizer.step()
        metrics = {"grad/norm": norms.item() / len(batches)}
        model.eval()
        with torch.no_grad():
            for name, (inputs, targets) in splits.items():
                loss = right = zero
                for xs, ys in zip(inputs.split(BATCH * EVAL_BATCHES), targets.split(BATCH * EVAL_BATCHES), strict=True):
                    output = model(xs)
                    loss = loss + F.cross_entropy(output, ys, reduction="sum")
                    right = right + (output.argmax(1) == ys).sum()
                metrics |= {f"{name}/loss": loss.item() / len(targets), f"{name}/accuracy": right.item() / len(targets)}
        yield metrics


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    """Fused, and without decay of norms and biases."""
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": DECAY},
        {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=LR, fused=True)


def with_lightning(case: Case) -> Metrics:
    """Lightning's Trainer, with two validation loaders."""
    import lightning

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)  # it tells of each start and end

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = case.build()

        def training_step(self, batch: list[Tensor], number: int) -> Tensor:
            x, y = batch
            return F.cross_entropy(self.model(x), y)

        def validation_step(self, batch: list[Tensor], number: int, dataloader_idx: int = 0) -> None:
            x, y = batch
            output = self.model(x)
            self.log_dict({"loss": F.cross_entropy(output, y), "accuracy": (output.argmax(1) == y).float().mean()})

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return adamw(self.model)

    torch.manual_seed(SEED)
    trainer = lightning.Trainer(
        max_epochs=case.epochs,
        accelerator="cpu",
        devices=1,
        gradient_clip_val=CLIP,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    train, *measured = loaders(case)
    trainer.fit(Module(), train, measured)
    found = trainer.callback_metrics
    names = {"train": 0, "val": 1}
    return {
        f"{name}/{metric}": found[f"{metric}/dataloader_idx_{number}"].item()
        for name, number in names.items()
        for metric in ("loss", "accuracy")
    }


def with_accelerate(case: Case) -> Metrics:
    """Accelerate's documented loop."""
    from accelerate import Accelerator

    torch.manual_seed(SEED)
    accelerator = Accelerator(cpu=True)
    model = case.build()
    model, optimizer, *prepared = accelerator.prepare(model, adamw(model), *loaders(case))
    train, splits = prepared[0], dict(zip(("train", "val"), prepared[1:], strict=True))
    metrics: Metrics = {}
    for _ in range(case.epochs):
        model.train()
        for x, y in train:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
        model.eval()
        for name, loader in splits.items():
            loss, right, rows = torch.zeros(()), torch.zeros(()), 0
            for x, y in loader:
                with torch.no_grad():
                    output = model(x)
                output, y = accelerator.gather_for_metrics((output, y))
                loss += F.cross_entropy(output, y, reduction="sum")
                right += (output.argmax(1) == y).sum()
                rows += len(y)
            metrics |= {f"{name}/loss": loss.item() / rows, f"{name}/accuracy": right.item() / rows}
    return metrics


def loaders(case: Case) -> list[DataLoader[tuple[Tensor, ...]]]:
    """Of the training rows, of the part of them that is measured, and of validation."""
    part = drawn(len(case.train[0]), SEED, 0)[: len(case.val[0])]
    measured = [TensorDataset(case.train[0][part], case.train[1][part]), TensorDataset(*case.val)]
    return [
        DataLoader(TensorDataset(*case.train), BATCH, shuffle=True),
        *(DataLoader(rows, BATCH * EVAL_BATCHES) for rows in measured),
    ]


PEERS: dict[str, Callable[[Case], Metrics]] = {"Lightning": with_lightning, "Accelerate": with_accelerate}


def whole(case: Case) -> Metrics:
    """The platform's training from its beginning to its end."""
    *_, last = platform(case)
    return last


def compare(name: str, case: Case, pairs: int, rounds: int) -> list[tuple[str, float, str]]:
    """The rows of one case."""
    peers = PEERS if case.device == CPU else {}
    *_, by_hand = raw(case)
    same_work(name, whole(case), by_hand, {peer: train(case) for peer, train in peers.items()})  # warms up, too
    ratios = {"a raw loop": in_turns(case, pairs)}
    seconds: dict[str, list[float]] = {"the platform": [], **{peer: [] for peer in peers}}
    for number in range(rounds):
        ways: list[tuple[str, Callable[[Case], Metrics]]] = [("the platform", whole), *peers.items()]
        for way, train in ways[:: -1 if number % 2 else 1]:
            began = time.perf_counter()
            train(case)
            seconds[way].append(time.perf_counter() - began)
    for peer in peers:
        turns = zip(seconds[peer], seconds["the platform"], strict=True)
        ratios[peer] = statistics.median(theirs / ours for theirs, ours in turns)
    rows = case.epochs * len(case.train[0])
    return [
        *((f"{name}: against {way}", ratio, "x") for way, ratio in ratios.items()),
        *((f"{name}: {way}", rows / statistics.median(found), "rows/s") for way, found in seconds.items()),
    ]


def in_turns(case: Case, pairs: int) -> float:
    """How many times as long as an epoch of the platform's one by hand takes."""
    ratios = []
    for number in range(pairs):
        ours, theirs = platform(case), raw(case)
        for epoch in range(case.epochs):
            taken = {}
            for way in (ours, theirs)[:: -1 if (number + epoch) % 2 else 1]:
                began = time.perf_counter()
                next(way)
                taken[way] = time.perf_counter() - began
            ratios.append(taken[theirs] / taken[ours])
    return statistics.median(ratios)


def same_work(name: str, ours: Metrics, by_hand: Metrics, others: dict[str, Metrics]) -> None:
    """Raises RuntimeError when the raw loop did not compute what the platform did, or another way did not learn it."""
    differing = {k: (ours[k], v) for k, v in by_hand.items() if not math.isclose(ours[k], v, rel_tol=1e-3)}
    if differing:
        raise RuntimeError(f"{name}: the raw loop does other work than the platform's: {differing}")
    for way, metrics in others.items():
        if abs(metrics["val/accuracy"] - ours["val/accuracy"]) > 0.05:
            raise RuntimeError(f"{name}: {way} learnt something else: {metrics}, and the platform {ours}")


if __name__ == "__main__":
    options = argparse.ArgumentParser()
    options.add_argument("--device", type=torch.device, default=CPU)
    options.add_argument("--pairs", type=int, default=PAIRED, help="trainings that take turns with the raw loop's")
    options.add_argument("--rounds", type=int, default=ROUNDS, help="trainings of each peer")
    chosen = options.parse_args()
    device = chosen.device
    torch.set_num_threads(1)  # as every trial has, unless the environment says more
    torch.backends.cudnn.deterministic = True  # as in a trial
    warnings.filterwarnings("ignore", module="lightning")  # it advises more workers
    cases = {kind.__name__: replace(kind(), device=device) for kind in (mlp, cnn)}
    name = "loop" if device == CPU else f"loop-{device.type}"
    report(name, [row for case in cases.items() for row in compare(*case, chosen.pairs, chosen.rounds)])
