"""A second set of trainings with planted faults: other models, data and faults than those of `planted`.

It is a development set: rules of `sweeps/insight/diagnose` were looked at on it while they were written, so what it
prints says how well they were fitted, not how well they carry over; that says `diagnose`, by its held-out part. It is
there because rules that are only calibrated on two kinds of networks on clean digits take for a law what is one of
digits: that a loss can come near 0, that an epoch has twenty steps, that there are classes.

    python tests/benchmarks/unseen.py            some 210 trainings of seconds, kept under build/unseen

Six tasks, most of which cannot be learned without a rest: a recurrent network on motifs in noise, a small transformer
on tokens, a regression with as much noise as signal, a wide residual perceptron on classes that overlap, forty classes
of which one has five times the rows of any other, and two classes of which one is rare and lies within the other. A
fault counts where its loss on clean test rows is above that of healthy trainings.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import math
import random
import statistics
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.harness import ROOT, report
from sweeps.insight.diagnose import diagnose
from sweeps.insight.runs import Run, as_value
from trainables.audit import audit
from trainables.contract import Config, Data, Fidelity, Session, resolve
from trainables.models.mlp import Mlp
from trainables.models.series import Gru
from trainables.probes import first_look

Rows = tuple[Tensor, Tensor]
KEPT = ROOT / "build" / "unseen"
HEALTHY = "healthy"
AS_GOOD, BAD = 1.5, 1.1
"""A healthy training counts where its loss on test is at most so many times the median; a fault, where its is above so
many times that of the worst of those."""
Job = tuple[str, str, int]
"""Task, fault, seed."""


class Transformer(nn.Module):
    """Two layers of attention over 24 of 30 words, the mean over places, linear."""

    def __init__(self, outputs: int, width: int, dropout: float) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(30, width), nn.Parameter(torch.randn(24, width) * 0.02)
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout, batch_first=True, norm_first=True)
        self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, outputs)

    def forward(self, words: Tensor) -> Tensor:
        out: Tensor = self.head(self.body(self.words(words) + self.places).mean(1))
        return out


class Wide(nn.Module):
    """Three residual layers with layer norm and GELU."""

    def __init__(self, columns: int, outputs: int, width: int, dropout: float) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(columns, width), nn.Linear(width, outputs)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Dropout(dropout))
            for _ in range(3)
        )

    def forward(self, rows: Tensor) -> Tensor:
        state = self.first(rows)
        for block in self.blocks:
            state = state + block(state)
        out: Tensor = self.head(state)
        return out


def split(x: Tensor, y: Tensor, train: int, val: int) -> Data:
    """The first rows to train on, the next for validation, the rest for test."""
    ends = (0, train, train + val, len(x))
    return Data(*((x[a:b], y[a:b]) for a, b in itertools.pairwise(ends)))


@cache
def motifs(val: int) -> Data:
    """Which of five shapes of eight steps lies somewhere in 40 steps of noise? Three channels."""
    draw = torch.Generator().manual_seed(11)
    count = 1400 + val
    y, shapes = torch.randint(5, (count,), generator=draw), torch.randn(5, 3, 8, generator=draw)
    x, start = 0.8 * torch.randn(count, 3, 40, generator=draw), torch.randint(0, 32, (count,), generator=draw)
    for row in range(count):
        x[row, :, int(start[row]) : int(start[row]) + 8] += 1.5 * shapes[y[row]]
    return split(x, y, 900, val)


@cache
def tokens(val: int) -> Data:
    """Which of three words is the most frequent of 24? One row in ten is of any class."""
    draw = torch.Generator().manual_seed(12)
    x = torch.randint(0, 30, (2000 + val, 24), generator=draw)
    few = torch.rand(x.shape, generator=draw) < 0.6
    x = torch.where(few, torch.randint(0, 3, x.shape, generator=draw), x)
    y = torch.stack([(x == word).sum(1) for word in range(3)]).argmax(0)
    other = torch.rand(len(y), generator=draw) < 0.1
    return split(x, torch.where(other, torch.randint(0, 3, y.shape, generator=draw), y), 1500, val)


@cache
def doses(val: int) -> Data:
    """A number from ten columns, half of whose variance is noise."""
    draw = torch.Generator().manual_seed(13)
    x = torch.randn(1000 + val, 10, generator=draw)
    signal = x[:, 0] + 0.7 * x[:, 1] - x[:, 2] * x[:, 3] + 0.8 * x[:, 4].relu() + (2 * x[:, 5]).sin()
    y = signal / signal.std() + torch.randn(len(x), generator=draw)
    y = (y - y.mean()) / y.std()
    return split(x, y[:, None], 600, val)


@cache
def overlapping(val: int) -> Data:
    """Three classes that overlap, from twenty columns of which four tell."""
    draw = torch.Generator().manual_seed(14)
    x = torch.randn(2500 + val, 20, generator=draw)
    scores = torch.stack((x[:, 0] + x[:, 1] ** 2 / 2, x[:, 2] * 1.2, -x[:, 0] + x[:, 3]), 1)
    y = torch.multinomial((1.3 * scores).softmax(1), 1, generator=draw).flatten()
    return split(x, y, 1500, val)


@cache
def many(val: int) -> Data:
    """Forty classes around their centres; the first has five times the rows of any other."""
    draw = torch.Generator().manual_seed(15)
    weights = torch.ones(40)
    weights[0] = 5
    y = torch.multinomial(weights, 2600 + val, replacement=True, generator=draw)
    x = torch.randn(40, 16, generator=draw)[y] + 0.75 * torch.randn(len(y), 16, generator=draw)
    return split(x, y, 1800, val)


@cache
def rare(val: int) -> Data:
    """Two classes of which one has a fifth of the rows and lies within the other: that it is rare is nearly all that
    quick classifiers find."""
    draw = torch.Generator().manual_seed(21)
    x = torch.randn(4000 + val, 15, generator=draw)
    scores = 1.5 * x[:, 0] - x[:, 1] * x[:, 2] + x[:, 3].abs() - 3.0
    return split(x, (torch.rand(len(x), generator=draw) < scores.sigmoid()).long(), 2500, val)


@dataclass(frozen=True)
class Task:
    data: Callable[[int], Data]
    model: Callable[[Config], nn.Module]
    config: Config
    epochs: int


AUTO: Config = {"lr": 3e-3, "batch_size": 50, "schedule": "cosine", "optimizer": "adamw", "weight_decay": 1e-2}
SGD: Config = {"lr": 0.05, "batch_size": 50, "schedule": "linear", "optimizer": "sgd", "momentum": 0.9}
TASKS: dict[str, Task] = {
    "gru": Task(
        motifs, lambda c: Gru(3, 5, c["width"], 1, c["dropout"]), {**AUTO, "lr": 6e-3, "width": 32, "dropout": 0.1}, 25
    ),
    "transformer": Task(
        tokens,
        lambda c: Transformer(3, c["width"], c["dropout"]),
        {**AUTO, "lr": 2e-3, "width": 32, "dropout": 0.1, "warmup_fraction": 0.1},
        10,
    ),
    "regression": Task(
        doses,
        lambda c: Mlp(10, 1, c["width"], 2, norm="none", dropout=c["dropout"]),
        {**AUTO, "weight_decay": 0.3, "width": 32, "dropout": 0.2},
        16,
    ),
    "overlapping": Task(
        overlapping,
        lambda c: Wide(20, 3, c["width"], c["dropout"]),
        {**SGD, "lr": 0.005, "weight_decay": 3e-2, "width": 96, "dropout": 0.4},
        8,
    ),
    "many": Task(
        many,
        lambda c: Mlp(16, 40, c["width"], 1, activation="gelu", dropout=c["dropout"]),
        {**SGD, "lr": 0.1, "weight_decay": 1e-3, "width": 64, "dropout": 0.1},
        40,
    ),
    "rare": Task(
        rare,
        lambda c: Mlp(15, 2, c["width"], 3, norm="layer", activation="gelu", dropout=c["dropout"]),
        {**AUTO, "lr": 1e-3, "width": 48, "dropout": 0.2},
        12,
    ),
}


def same(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class Case:
    """A training, and what was changed about it."""

    task: str
    config: Config
    epochs: int
    val: int = 300
    data: Callable[[Data], Data] = same
    model: Callable[[nn.Module], nn.Module] = same
    output: Callable[[Tensor], Tensor] = same


class Planted:
    """The trainable of a case."""

    def __init__(self, case: Case) -> None:
        self.case, self.task = case, TASKS[case.task]

    def data(self, config: Config, fidelity: Fidelity) -> Data:
        return self.case.data(self.task.data(self.case.val))

    def model(self, config: Config, data: Data) -> nn.Module:
        return self.case.model(self.task.model(config))


class WithLoss(Planted):
    """That of a case which does something to the output before the loss."""

    def loss(self, output: Tensor, batch: Rows) -> Tensor:
        return loss_of(self.case.output(output), batch)


def loss_of(output: Tensor, batch: Rows) -> Tensor:
    return F.mse_loss(output, batch[1]) if batch[1].is_floating_point() else F.cross_entropy(output, batch[1])


def healthy(task: str, seed: int) -> Case:
    """A config that works, drawn from the seed; validation of few rows or of many."""
    draw, base = random.Random(f"unseen {task} {seed}"), TASKS[task]
    config = {
        **base.config, "lr": base.config["lr"] * 2 ** draw.uniform(-0.7, 0.7),
        "weight_decay": base.config["weight_decay"] * 2 ** draw.uniform(-1, 1),
        "dropout": base.config["dropout"] * draw.uniform(0.7, 1.4), "batch_size": draw.choice((32, 50, 80)),
        "schedule": draw.choice(("cosine", "linear", "one_cycle", "step")),
    }  # fmt: skip
    return Case(task, config, round(base.epochs * draw.uniform(0.9, 1.4)), draw.choice((120, 300, 500)))


Plant = Callable[[Case], Case]


def config(**changes: Any) -> Plant:
    """Other values; a callable is given the healthy one."""
    return lambda case: replace(
        case,
        config={**case.config, **{k: v(case.config[k]) if callable(v) else v for k, v in changes.items()}},
    )


def train_rows(change: Callable[[Tensor, Tensor, torch.Generator], Rows]) -> Plant:
    """Other training rows."""
    return lambda case: replace(
        case, data=lambda data: replace(data, train=change(*data.train, torch.Generator().manual_seed(5)))
    )


def mixed(x: Tensor, y: Tensor, draw: torch.Generator) -> Rows:
    """A third of the rows have another's target."""
    wrong = torch.rand(len(y), generator=draw) < 0.35
    moved = y[torch.randperm(len(y), generator=draw)]
    return x, torch.where(wrong[:, None] if y.ndim > 1 else wrong, moved, y)


def only_the_first(x: Tensor) -> Tensor:
    """All numbers of a row but the first, or channels, are always 0."""
    out = x.clone()
    out[:, 1:] = 0
    return out


def stuck(model: nn.Module) -> nn.Module:
    """ReLUs far below zero in the place of what there is."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.GELU | nn.ReLU):
                setattr(parent, name, nn.Sequential(Minus(), nn.ReLU()))
    return model


class Minus(nn.Module):
    def forward(self, value: Tensor) -> Tensor:
        return value - 4


def half_frozen(model: nn.Module) -> nn.Module:
    """All that is not the head keeps its weights."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("head"))
    return model


@dataclass(frozen=True)
class Fault:
    plant: Plant
    right: frozenset[str]
    """The findings that are right."""
    tasks: tuple[str, ...] = field(default_factory=lambda: tuple(TASKS))


NOT_NUMBER = ("gru", "transformer", "overlapping", "many", "rare")
LARGE = ("lr_too_high", "oscillating")
SLOW = ("lr_too_low", "too_few_epochs", "slow_convergence")
FAULTS: dict[str, Fault] = {
    "rate_far_too_high": Fault(config(lr=lambda lr: 60 * lr, schedule="constant"), frozenset(LARGE)),
    "rate_rather_high": Fault(config(lr=lambda lr: 12 * lr, schedule="constant"), frozenset(LARGE)),
    "rate_too_low": Fault(config(lr=lambda lr: lr / 100), frozenset(SLOW)),
    "short": Fault(lambda case: replace(case, epochs=max(1, case.epochs // 8)), frozenset(SLOW)),
    "long_and_free": Fault(
        lambda case: replace(config(dropout=0.0, weight_decay=0.0)(case), epochs=5 * case.epochs),
        frozenset({"overfit"}),
    ),
    "few_rows": Fault(
        lambda case: replace(
            train_rows(lambda x, y, draw: (x[:150], y[:150]))(config(dropout=0.0, batch_size=25)(case)),
            epochs=4 * case.epochs,
        ),
        frozenset({"overfit", "too_little_data"}), ("gru", "transformer", "regression", "overlapping"),
    ),
    "narrow": Fault(config(width=4, dropout=0.0), frozenset({"underfit"})),
    "decayed": Fault(config(weight_decay=lambda decay: 30.0 if decay >= 1e-2 else 0.3), frozenset({"underfit"})),
    "dropped": Fault(config(dropout=0.85), frozenset({"underfit"})),
    "some_labels_moved": Fault(train_rows(mixed), frozenset({"label_errors", "splits_differ"})),
    "all_labels_moved": Fault(
        train_rows(lambda x, y, draw: (x, y[torch.randperm(len(y), generator=draw)])),
        frozenset({"labels_shuffled"}),
    ),
    "labels_turned": Fault(
        train_rows(lambda x, y, draw: (x, -y if y.is_floating_point() else (y + 1) % (int(y.max()) + 1))),
        frozenset({"labels_differ"}),
    ),
    "unscaled": Fault(
        lambda case: replace(case, data=lambda d: Data(*((x * 3000, y) for x, y in (d.train, d.val, d.test)))),
        frozenset({"unscaled_inputs", "exploding_gradients", "lr_too_high"}), ("gru", "regression", "overlapping"),
    ),
    "most_inputs_zero": Fault(
        lambda case: replace(
            case, data=lambda d: Data(*((only_the_first(x), y) for x, y in (d.train, d.val, d.test)))
        ),
        frozenset({"constant_features"}), ("gru", "transformer", "regression", "overlapping", "many"),
    ),
    "stuck_units": Fault(
        lambda case: replace(case, model=stuck), frozenset({"dead_units"}), ("regression", "overlapping", "many")
    ),
    "only_the_head": Fault(lambda case: replace(case, model=half_frozen), frozenset({"frozen_layers"})),
    "logits_of_sigmoids": Fault(
        lambda case: replace(case, output=lambda out: out.sigmoid()), frozenset({"loss_misfit"}), NOT_NUMBER
    ),
    "logits_too_small": Fault(
        lambda case: replace(case, output=lambda out: out / 100), frozenset({"loss_misfit"}), NOT_NUMBER
    ),
    "pairs": Fault(
        config(batch_size=2), frozenset({"noisy_batch", *LARGE}), ("regression", "overlapping", "many")
    ),
}  # fmt: skip
CURVES_SHOW = frozenset(FAULTS) - {"most_inputs_zero", "pairs"}
"""Faults that are not hidden in data and config."""


def seen(case: Case, seed: int) -> dict[str, Any]:
    """What is known of a training when it has ended, and its loss on clean test rows."""
    trainable = Planted(case) if case.output is same else WithLoss(case)
    fidelity = Fidelity(case.epochs, seed=seed)
    looked, first = audit(trainable, case.config, fidelity), first_look(trainable, case.config, fidelity)
    session, curve = Session(fidelity), []
    for one in resolve(trainable)(case.config, session):
        curve.append({"epoch": one.epoch, **one.metrics})
    outcome = math.inf
    if math.isfinite(curve[-1]["val/loss"]) and session.capture is not None:
        data = trainable.data(case.config, fidelity)
        model = trainable.model(case.config, data)
        model.load_state_dict(session.capture()["model"])
        model.eval()
        with torch.no_grad():
            outcome = float(loss_of(case.output(model(data.test[0])), data.test))
    config = dict(case.config)
    return {"curve": curve, "outcome": outcome, "probes": asdict(first), "audit": asdict(looked), "config": config}


def jobs(seeds: int) -> Iterator[Job]:
    """The trainings: of each fault in each task that has it, and as many healthy ones."""
    for task in TASKS:
        kinds = [kind for kind, fault in FAULTS.items() if task in fault.tasks]
        for seed in range(seeds):
            for number, kind in enumerate(kinds):
                yield task, kind, seed
                yield task, HEALTHY, seed * len(kinds) + number


def kept(job: Job) -> dict[str, Any]:
    """What a training showed, from the folder of those that are kept where it is there."""
    task, kind, seed = job
    file = KEPT / recipes() / f"{task}-{kind}-{seed}.json"
    if not file.exists():
        case = healthy(task, seed)
        if kind != HEALTHY:
            case = FAULTS[kind].plant(replace(case, config=TASKS[task].config, epochs=TASKS[task].epochs))
        found = seen(case, seed)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(found))
    return dict(json.loads(file.read_text()))


@cache
def recipes() -> str:
    """The digest of the recipes, and of the code that what is kept depends on."""
    files = [Path(__file__), *sorted((ROOT / "trainables").rglob("*.py"))]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def counted(every: list[tuple[Job, dict[str, Any]]]) -> list[tuple[Job, dict[str, Any]]]:
    """The healthy ones that are about as good as the others, and the faulty ones that are worse than all of those."""
    worst: dict[str, float] = {}
    for task in TASKS:
        losses = [found["outcome"] for job, found in every if job[:2] == (task, HEALTHY)]
        worst[task] = max(loss for loss in losses if loss <= AS_GOOD * statistics.median(losses))
    return [
        (job, found)
        for job, found in every
        if (found["outcome"] <= worst[job[0]] if job[1] == HEALTHY else found["outcome"] > BAD * worst[job[0]])
    ]


def run_of(job: Job, found: dict[str, Any], bare: bool) -> Run:
    """The training as diagnosis is given it; `bare`: its curves alone."""
    names = sorted({name for report in found["curve"] for name in report if name != "epoch"})
    curves = {name: np.array([as_value(report.get(name)) for report in found["curve"]], float) for name in names}
    epochs = np.array([report["epoch"] for report in found["curve"]], float)
    known = {} if bare else {part: found[part] for part in ("config", "probes", "audit")}
    return Run("-".join(map(str, job)), epochs, curves, **known)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=1)
    torch.set_num_threads(1)
    trained = counted([(job, kept(job)) for job in jobs(parser.parse_args().seeds)])
    rows: list[tuple[str, float, str]] = []
    for bare in (False, True):
        hits: list[tuple[bool, bool]] = []
        warned: list[bool] = []
        for job, found in trained:
            said = [one.finding for one in diagnose(run_of(job, found, bare)).warnings]
            if job[1] == HEALTHY:
                warned.append(bool(said))
            elif not bare or job[1] in CURVES_SHOW:
                right = FAULTS[job[1]].right
                hits.append((bool(right & set(said[:1])), bool(right & set(said[:2]))))
            if not bare and (bool(said) if job[1] == HEALTHY else not hits[-1][0]):
                print(f"{job[0]:<13} {job[1]:<20} {job[2]:>3}  {', '.join(said) or 'nothing'}")
        name = "from curves alone, of kinds that curves show" if bare else "all"
        rows.append((f"{name}: first finding right", statistics.fmean(one for one, _ in hits), f"of {len(hits)}"))
        rows.append(
            (f"{name}: one of the first two right", statistics.fmean(two for _, two in hits), f"of {len(hits)}")
        )
        alone = ", from curves alone" if bare else ""
        rows.append((f"healthy with a warning{alone}", statistics.fmean(warned), f"of {len(warned)}"))
    report("unseen", rows)


if __name__ == "__main__":
    main()
