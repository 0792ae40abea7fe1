"""Training runs with one planted fault each, and healthy ones: what `diagnose` is measured on.

The recipes and their strengths were written before any rule of sweeps/insight/diagnose.py, and are not changed to suit
one. A recipe counts only where it hurts (`--check`): the loss on rows that the fault does not touch is worse than that
of healthy runs by more than their spread over seeds; `HARMLESS` has those that do not. `NAMES` says which finding is
right for each kind, and `LIKE`, also beforehand, which kinds a training shows alike: what is right for one is right for
the other. Rules are calibrated on `mlp` and `cnn` and on the kinds of `CALIBRATED`; `text` and `series` and the other
kinds are reported.

    python tests/benchmarks/planted.py --check         which recipes hurt, by family
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.audit import audit
from trainables.augment.text import UNKNOWN
from trainables.contract import Config, Data, Fidelity, Session, resolve
from trainables.data.similar import bands, in_common, near_pairs
from trainables.examples.digits import Digits
from trainables.examples.docstrings import Docstrings
from trainables.models.mlp import Mlp
from trainables.models.series import SeriesCnn
from trainables.probes import first_look

SEEDS = 5
CHECK_SEEDS = 3
Rows = tuple[Tensor, Tensor]


def same(value: Any) -> Any:
    """Nothing is changed."""
    return value


@dataclass(frozen=True)
class Case:
    """A training: of which family, with which config, for how long, and what was changed about it."""

    family: str
    config: Config
    epochs: int
    data: Callable[[Data, torch.Generator], Data] | None = None
    model: Callable[[nn.Module], nn.Module] = same
    output: Callable[[Tensor], Tensor] = same
    """What becomes of the network's output before the loss."""


class Altered:
    """The trainable of a case whose loss is the default one."""

    def __init__(self, case: Case) -> None:
        self.case, self.inner = case, FAMILIES[case.family]()

    def data(self, config: Config, fidelity: Fidelity) -> Data:
        draw = torch.Generator().manual_seed(1000 + fidelity.seed)
        found = self.inner.data(config, fidelity)
        return self.case.data(found, draw) if self.case.data else found

    def model(self, config: Config, data: Data) -> nn.Module:
        return self.case.model(self.inner.model(config, data))


class WithLoss(Altered):
    """The trainable of a case that does something to the output before the loss."""

    def loss(self, output: Tensor, batch: Rows) -> Tensor:
        return F.cross_entropy(self.case.output(output), batch[1])


def altered(case: Case) -> Altered:
    """The trainable of a case."""
    return Altered(case) if case.output is same else WithLoss(case)


class FlatDigits(Digits):
    """The digits as rows of 64 numbers, for a perceptron."""

    def data(self, config: Config, fidelity: Fidelity) -> Data:
        found = super().data(config, fidelity)
        return Data(*((x.flatten(1), y) for x, y in (found.train, found.val, found.test)))

    def model(self, config: Config, data: Data) -> nn.Module:
        size = {name: config[name] for name in ("width", "depth", "dropout", "activation", "norm") if name in config}
        return Mlp(64, 10, **size)


class FewDocstrings(Docstrings):
    """A share of the docstrings, so that a training takes seconds, and none that is nearly another one."""

    def data(self, config: Config, fidelity: Fidelity) -> Data:
        return few_docstrings()


class Waves:
    """Noisy waves of four shapes and any phase: which shape? Two channels, 48 steps."""

    def data(self, config: Config, fidelity: Fidelity) -> Data:
        return waves()

    def model(self, config: Config, data: Data) -> nn.Module:
        size = {name: config[name] for name in ("width", "depth", "dropout", "activation", "norm") if name in config}
        return SeriesCnn(2, 4, **{"width": 16, **size})


@cache
def few_docstrings() -> Data:
    """The splits: at most 1800, 450 and 450 rows."""
    data = Docstrings().data({}, Fidelity(1))
    splits = data.train, data.val, data.test
    x, y = (torch.cat([split[part] for split in splits]) for part in (0, 1))
    owner = torch.cat([torch.full((len(split[1]),), number) for number, split in enumerate(splits)])
    alone = torch.ones(len(x), dtype=torch.bool)
    texts = x.numpy()
    for pairs in near_pairs(bands(texts), len(texts), lambda pairs: in_common(texts[pairs[:, 0]], texts[pairs[:, 1]])):
        alone[pairs[:, 1]] = False
    chosen = [(alone & (owner == number)).nonzero().flatten()[:rows] for number, rows in enumerate((1800, 450, 450))]
    return Data(*((x[rows], y[rows]) for rows in chosen))


@cache
def waves() -> Data:
    """The splits: 600, 300 and 300 rows."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.randint(4, (1200,), generator=draw)
    steps = torch.arange(48) / 48 * 2 * math.pi
    angle = steps * 3 + torch.rand(1200, 1, generator=draw) * 2 * math.pi
    shapes = torch.stack((angle.sin(), angle.sin().sign(), (angle.sin() + (2 * angle).sin()) / 1.5, angle.sin() ** 3))
    clean = shapes[labels, torch.arange(1200)]
    x = torch.stack((clean, clean.roll(5, 1)), 1) + 0.7 * torch.randn(1200, 2, 48, generator=draw)
    return Data(*((x[part], labels[part]) for part in torch.arange(1200).split((600, 300, 300))))


FAMILIES: dict[str, Callable[[], Any]] = {"mlp": FlatDigits, "cnn": Digits, "text": FewDocstrings, "series": Waves}
COMMON: Config = {"lr": 5e-3, "batch_size": 64, "schedule": "cosine", "weight_decay": 1e-3, "dropout": 0.1}
HEALTHY: dict[str, Case] = {
    "mlp": Case("mlp", {**COMMON, "width": 64}, 20),
    "cnn": Case("cnn", {**COMMON, "lr": 1e-2, "width": 16}, 20),
    "text": Case(
        "text", {**COMMON, "lr": 1e-2, "batch_size": 48, "weight_decay": 1e-2, "dropout": 0.3, "width": 32}, 14
    ),
    "series": Case("series", COMMON, 20),
}
"""Of each family one config that works."""


def healthy_case(family: str, seed: int) -> Case:
    """A variant that works as well: another rate, batch, width and strength of regularisation, drawn from the seed."""
    draw, case = random.Random(f"{family} {seed}"), HEALTHY[family]
    config = {
        **case.config, "lr": case.config["lr"] * 2 ** draw.uniform(-1, 1), "batch_size": draw.choice((32, 48, 64)),
        "weight_decay": case.config["weight_decay"] * 4 ** draw.uniform(-1, 1),
        "dropout": case.config["dropout"] * draw.uniform(0.5, 1.5),
        "schedule": draw.choice(("cosine", "linear", "one_cycle")),
    }  # fmt: skip
    if "width" in config:
        config["width"] = 4 * round(config["width"] * 2 ** draw.uniform(-0.5, 0.5) / 4)
    return replace(case, config=config, epochs=round(case.epochs * draw.uniform(1, 1.5)))


Plant = Callable[[Case], Case]


def with_config(**changes: Any) -> Plant:
    """Other values; a callable is given the healthy one."""

    def plant(case: Case) -> Case:
        new = {name: change(case.config[name]) if callable(change) else change for name, change in changes.items()}
        return replace(case, config={**case.config, **new})

    return plant


def for_epochs(times: float, **config: Any) -> Plant:
    """So many times as long."""
    return lambda case: replace(with_config(**config)(case), epochs=max(1, round(case.epochs * times)))


def with_train(change: Callable[[Rows, torch.Generator], Rows]) -> Plant:
    """Other training rows."""

    def alter(data: Data, draw: torch.Generator) -> Data:
        return replace(data, train=change(data.train, draw))

    return lambda case: replace(case, data=alter)


def with_inputs(change: Callable[[Tensor], Tensor]) -> Plant:
    """Other inputs in all splits."""

    def alter(data: Data, draw: torch.Generator) -> Data:
        return Data(*((change(x), y) for x, y in (data.train, data.val, data.test)))

    return lambda case: replace(case, data=alter)


def with_model(change: Callable[[nn.Module], nn.Module]) -> Plant:
    """Another network."""
    return lambda case: replace(case, model=change)


def shuffled(rows: Rows, draw: torch.Generator) -> Rows:
    return rows[0], rows[1][torch.randperm(len(rows[1]), generator=draw)]


def noisy(share: float) -> Callable[[Rows, torch.Generator], Rows]:
    def change(rows: Rows, draw: torch.Generator) -> Rows:
        x, y = rows
        wrong = torch.rand(len(y), generator=draw) < share
        other = (y + torch.randint(1, int(y.max()) + 1, y.shape, generator=draw)) % (int(y.max()) + 1)
        return x, torch.where(wrong, other, y)

    return change


def fewer(rows: int) -> Callable[[Rows, torch.Generator], Rows]:
    def change(given: Rows, draw: torch.Generator) -> Rows:
        chosen = torch.randperm(len(given[1]), generator=draw)[:rows]
        return given[0][chosen], given[1][chosen]

    return change


def imbalanced(rows: Rows, draw: torch.Generator) -> Rows:
    """One class whole, of each other one row in thirty."""
    x, y = rows
    kept = (y == 0) | (torch.rand(len(y), generator=draw) < 1 / 30)
    return x[kept], y[kept]


def offset(rows: Rows, draw: torch.Generator) -> Rows:
    return rows[0], (rows[1] + 1) % (int(rows[1].max()) + 1)


def leaked(data: Data, draw: torch.Generator) -> Data:
    """Validation rows are among few training rows: what is measured is memory."""
    few = fewer(100)(data.train, draw)
    return replace(data, train=tuple(torch.cat(pair) for pair in zip(few, data.val, strict=True)))


def shifted(data: Data, draw: torch.Generator) -> Data:
    """Training rows are of another source than those that count: noise as large as their spread, words in disorder."""
    x, y = data.train
    if x.is_floating_point():
        return replace(data, train=(x + x.std() * torch.randn(x.shape, generator=draw), y))
    lost = torch.rand(x.shape, generator=draw) < 0.5
    return replace(data, train=(torch.where(lost, UNKNOWN, x), y))


def linears(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d)]


def each_weight(change: Callable[[Tensor], Any]) -> Callable[[nn.Module], nn.Module]:
    """Something is done to each weight matrix in place."""

    def altered(model: nn.Module) -> nn.Module:
        with torch.no_grad():
            for module in linears(model):
                change(module.weight)
        return model

    return altered


def dead(model: nn.Module) -> nn.Module:
    """What comes before an activation is far below zero: by the norm's shift, or the layer's own."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.bias.fill_(-3.0)
    return model


def saturating(model: nn.Module) -> nn.Module:
    """Sigmoids in the place of ReLUs: each passes on a quarter of a gradient at most."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.ReLU):
                setattr(parent, name, nn.Sigmoid())
    return model


def frozen(model: nn.Module) -> nn.Module:
    """All but the last layer keep the weights that they were made with."""
    *first, _ = linears(model)
    for module in first:
        for parameter in module.parameters():
            parameter.requires_grad_(False)
    return model


def never_in_eval(model: nn.Module) -> nn.Module:
    """`eval()` does nothing."""
    model.eval = lambda: model.train()  # type: ignore[method-assign]
    return model


def summed_gradients(model: nn.Module) -> nn.Module:
    """Gradients are never set to zero: each step has the sum of all so far."""
    sums: dict[nn.Parameter, Tensor] = {}

    def add(parameter: nn.Parameter) -> None:
        assert parameter.grad is not None
        sums[parameter] = sums.get(parameter, torch.zeros_like(parameter)) + parameter.grad
        parameter.grad.copy_(sums[parameter])

    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(add)
    return model


@dataclass(frozen=True)
class Recipe:
    """A fault: how it is planted, and where it exists."""

    plant: Plant
    families: tuple[str, ...] = tuple(FAMILIES)


NOT_TEXT = ("mlp", "cnn", "series")
RECIPES: dict[str, Recipe] = {
    "lr_too_high": Recipe(with_config(lr=lambda lr: 300 * lr)),
    "lr_too_low": Recipe(with_config(lr=lambda lr: lr / 200)),
    "tiny_batch": Recipe(with_config(batch_size=2), NOT_TEXT),
    "huge_batch": Recipe(with_config(batch_size=500)),
    "too_few_epochs": Recipe(for_epochs(0.15)),
    "too_many_epochs": Recipe(for_epochs(8, dropout=0.0, weight_decay=0.0), ("text", "series")),
    "too_small": Recipe(with_config(width=4, depth=1, dropout=0.0)),
    "too_deep_saturated": Recipe(
        lambda case: with_model(saturating)(with_config(depth=12, norm="none")(case)), ("mlp",)
    ),
    "too_much_dropout": Recipe(with_config(dropout=0.9)),
    "too_much_weight_decay": Recipe(with_config(weight_decay=30.0)),
    "little_data_unregularised": Recipe(
        lambda case: with_train(fewer(60))(for_epochs(3, dropout=0.0, weight_decay=0.0, batch_size=20)(case))
    ),
    "no_decay_of_a_high_rate": Recipe(
        with_config(optimizer="sgd", momentum=0.9, lr=0.5, schedule="constant"), NOT_TEXT
    ),
    "too_little_momentum": Recipe(with_config(optimizer="sgd", momentum=0.0, lr=1e-3)),
    "shuffled_labels": Recipe(with_train(shuffled)),
    "label_noise": Recipe(with_train(noisy(0.2))),
    "label_offset": Recipe(with_train(offset)),
    "imbalance": Recipe(with_train(imbalanced)),
    "leak": Recipe(lambda case: replace(case, data=leaked)),
    "another_source": Recipe(lambda case: replace(case, data=shifted)),
    "unnormalised": Recipe(
        lambda case: with_config(norm="none")(with_inputs(lambda x: x * 1000 + 500)(case)), ("mlp", "cnn")
    ),
    "constant_inputs": Recipe(with_inputs(torch.zeros_like)),
    "dead_units": Recipe(with_model(dead), ("mlp", "cnn", "series")),
    "exploding": Recipe(
        lambda case: with_config(norm="none", clip_norm=None)(with_model(each_weight(lambda w: w.mul_(15)))(case)),
        ("mlp", "cnn"),
    ),
    "equal_weights": Recipe(with_model(each_weight(lambda w: w.fill_(0.01)))),
    "zero_weights": Recipe(with_model(each_weight(lambda w: w.zero_())), ("mlp", "cnn", "series")),
    "frozen_layers": Recipe(with_model(frozen)),
    "forgotten_eval": Recipe(lambda case: with_model(never_in_eval)(with_config(dropout=0.6)(case))),
    "missing_zero_grad": Recipe(with_model(summed_gradients)),
    "softmax_twice": Recipe(lambda case: replace(case, output=lambda logits: logits.softmax(1))),
    "output_scaled_down": Recipe(lambda case: replace(case, output=lambda logits: logits / 50)),
}
"""Thirty kinds."""
HARMLESS: frozenset[tuple[str, str]] = frozenset(
    {
        ("mlp", "softmax_twice"), ("cnn", "softmax_twice"), ("series", "softmax_twice"), ("cnn", "tiny_batch"),
        ("series", "tiny_batch"), ("series", "too_many_epochs"), ("series", "leak"), ("text", "label_noise"),
        ("text", "another_source"), ("text", "equal_weights"), ("text", "frozen_layers"),
    }
)  # fmt: skip
"""Family and kind of recipes that do not hurt by `--check`: they are no faults there, and left out."""
NAMES: dict[str, str] = {
    "lr_too_high": "lr_too_high",
    "lr_too_low": "lr_too_low",
    "tiny_batch": "noisy_batch",
    "huge_batch": "too_few_epochs",
    "too_few_epochs": "too_few_epochs",
    "too_many_epochs": "overfit",
    "too_small": "underfit",
    "too_deep_saturated": "vanishing_gradients",
    "too_much_dropout": "underfit",
    "too_much_weight_decay": "underfit",
    "little_data_unregularised": "overfit",
    "no_decay_of_a_high_rate": "oscillating",
    "too_little_momentum": "slow_convergence",
    "shuffled_labels": "labels_shuffled",
    "label_noise": "label_errors",
    "label_offset": "labels_differ",
    "imbalance": "imbalance",
    "leak": "leakage",
    "another_source": "splits_differ",
    "unnormalised": "unscaled_inputs",
    "constant_inputs": "constant_features",
    "dead_units": "dead_units",
    "exploding": "exploding_gradients",
    "equal_weights": "equal_weights",
    "zero_weights": "equal_weights",
    "frozen_layers": "frozen_layers",
    "forgotten_eval": "random_in_eval",
    "missing_zero_grad": "gradients_accumulate",
    "softmax_twice": "loss_misfit",
    "output_scaled_down": "loss_misfit",
}
"""The finding that is right for each kind."""
LIKE: tuple[frozenset[str], ...] = (
    frozenset({"constant_inputs", "equal_weights", "zero_weights"}),  # the output does not depend on the row
    frozenset({"lr_too_low", "too_little_momentum", "too_few_epochs", "huge_batch"}),  # still falling at the end
    frozenset({"label_noise", "another_source"}),  # validation better than train
    frozenset({"lr_too_high", "missing_zero_grad", "no_decay_of_a_high_rate"}),  # steps that are too large
    frozenset({"exploding", "unnormalised"}),  # a first loss beyond all measure
)


ALSO: dict[str, str] = {"little_data_unregularised": "too_little_data"}
"""Kinds of which two findings say the same: this one as well."""


def right(kind: str) -> frozenset[str]:
    """The findings that are right for a kind."""
    alike = {one for group in (*LIKE, {kind}) if kind in group for one in group}
    return frozenset({*(NAMES[one] for one in alike), *(ALSO[one] for one in alike if one in ALSO)})


CALIBRATED = frozenset(sorted(RECIPES)[::2])
"""The half of the kinds on which rules may be calibrated."""


Curve = list[dict[str, float]]
"""Epoch by epoch, `epoch` and what was reported, up to the first value that is not finite."""


@dataclass(frozen=True)
class Seen:
    """What is known of a training when it has ended."""

    curve: Curve
    outcome: float
    probes: dict[str, Any]
    audit: dict[str, Any]


def seen(case: Case, seed: int) -> Seen:
    """Look at the data and the network of a case as a sweep does, and train it."""
    trainable, fidelity = altered(case), Fidelity(case.epochs, seed=seed)
    looked = asdict(audit(trainable, case.config, fidelity)) if case.data else healthy_audit(case.family)
    first = asdict(first_look(trainable, case.config, fidelity))
    return Seen(*train(case, seed), first, looked)


@cache
def healthy_audit(family: str) -> dict[str, Any]:
    """Of the data as they are."""
    return asdict(audit(FAMILIES[family](), HEALTHY[family].config, Fidelity(1)))


def train(case: Case, seed: int) -> tuple[Curve, float]:
    """The curve, and the loss on the test rows, which the fault does not touch; infinite where it diverged."""
    trainable, session = altered(case), Session(Fidelity(case.epochs, seed=seed))
    curve: Curve = []
    for report in resolve(trainable)(case.config, session):
        curve.append({"epoch": report.epoch, **report.metrics})
        if not math.isfinite(report.metrics["val/loss"]):
            return curve, math.inf
    assert session.capture is not None
    data = trainable.data(case.config, session.fidelity)
    model = trainable.model(case.config, data)
    model.load_state_dict(session.capture()["model"])
    model.eval()
    with torch.no_grad():
        loss = float(F.cross_entropy(model(data.test[0]), data.test[1]))
    return curve, loss if math.isfinite(loss) else math.inf


def outcome(case: Case, seed: int) -> float:
    """The loss on the test rows."""
    return train(case, seed)[1]


def hurts(family: str, kind: str) -> str:
    """What the check says of a recipe, in a line."""
    healthy = healthy_outcomes(family)
    bound = statistics.fmean(healthy) + 3 * statistics.stdev(healthy)
    found = [outcome(RECIPES[kind].plant(HEALTHY[family]), seed) for seed in range(CHECK_SEEDS)]
    verdict = "hurts" if min(found) > bound else "DOES NOT HURT"
    return f"{family:<7} {kind:<28} {listed(found)}, healthy up to {bound:.3f}: {verdict}"


def listed(values: list[float]) -> str:
    """Losses side by side."""
    return ", ".join(f"{value:.3f}" for value in values)


@cache
def healthy_outcomes(family: str) -> list[float]:
    """Of the healthy config, over seeds."""
    return [outcome(HEALTHY[family], seed) for seed in range(CHECK_SEEDS)]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--check", action="store_true", required=True)
    options.add_argument("--families", nargs="*", default=list(FAMILIES), choices=list(FAMILIES))
    options.add_argument("--kinds", nargs="*", default=list(RECIPES), choices=list(RECIPES))
    chosen = options.parse_args()
    for family in chosen.families:
        variants = [outcome(healthy_case(family, number), number) for number in range(CHECK_SEEDS)]
        print(f"{family:<7} healthy {listed(healthy_outcomes(family))}; variants {listed(variants)}")
        for kind in chosen.kinds:
            if family in RECIPES[kind].families:
                print(hurts(family, kind), flush=True)


if __name__ == "__main__":
    main()
