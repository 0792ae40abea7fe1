"""Trials that train nothing, for tests of everything around training: instant, and made to misbehave by config.

`value` is what the trial is worth: `val/loss` falls towards it. `behaviour` is what it does at its second epoch, and
`marker` the beginning of a file's path that remembers that it did so once, for those that recover.
"""

from __future__ import annotations

import math
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import torch
from torch import nn

from trainables.contract import Data, Fidelity, Report, Session
from trainables.data.tables import table


def trial(config: dict[str, Any], session: Session) -> Iterator[Report]:
    """A trial whose loss falls from value + 1 towards value by halves, with a checkpoint of its epoch."""
    done = session.state["epoch"] if session.state else 0
    session.checkpoint_with(lambda: {"epoch": done, "value": config["value"]})
    print(f"begins at epoch {done} with value {config['value']}")
    for epoch in range(done + 1, session.fidelity.epochs + 1):
        time.sleep(config.get("seconds", 0.0))
        if epoch == 2:
            misbehave(config)
        done = epoch
        yield Report(epoch, {"train/loss": config["value"], "val/loss": loss(config, epoch)})


def loss(config: dict[str, Any], epoch: int) -> float:
    """The value of a toy trial after an epoch."""
    if config.get("behaviour") == "nan" and epoch == 2:
        return float("nan")
    return float(config["value"] + 0.5**epoch)


ONCE = ("raise_once", "kill", "freeze", "hang")
"""What a trial does once, where a marker is given, and recovers from."""


def misbehave(config: dict[str, Any]) -> None:
    """Do what the config says, once where a marker is given."""
    behaviour = config.get("behaviour", "none")
    if "marker" in config and behaviour in ONCE:
        marker = Path(f"{config['marker']}-{behaviour}")
        if marker.exists():
            return
        marker.touch()
    if behaviour in ("raise", "raise_once"):
        raise RuntimeError(f"bad row {config['value']:.3f}")
    if behaviour == "exit":
        sys.exit(3)
    if behaviour == "memory":
        raise MemoryError("no room for the batch")
    if behaviour == "device_memory":
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    if behaviour == "host_memory":
        exhaust()
    if behaviour == "print":
        for _ in range(100):
            print("x" * 2**20)
    if behaviour == "hang":
        time.sleep(3600)
    if behaviour == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if behaviour == "freeze":
        os.kill(os.getpid(), signal.SIGSTOP)


def exhaust() -> None:
    """Want more of the host's memory than this process may have."""
    _, hard = before = resource.getrlimit(resource.RLIMIT_AS)
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + 2**28, hard))
    try:
        torch.zeros(2**28)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def annealed(config: dict[str, Any], session: Session) -> Iterator[Report]:
    """A trial that a high rate brings down fast and keeps up: its loss tends to a tenth of the rate."""
    state = session.state or {"epoch": 0, "loss": 1.0}
    done, loss = state["epoch"], state["loss"]
    session.checkpoint_with(lambda: {"epoch": done, "loss": loss})
    print(f"begins at epoch {done} with loss {loss}")
    for epoch in range(done + 1, session.fidelity.epochs + 1):
        time.sleep(config.get("seconds", 0.0))
        if epoch == 2:
            misbehave(config)
        loss += config["lr"] * (0.1 * config["lr"] - loss)
        done = epoch
        broken = config.get("behaviour") == "nan" and epoch == 2
        yield Report(epoch, {"val/loss": math.nan if broken else loss, "val/lr": config["lr"]})


NOISE, START, COORDINATES, STEPS = 1.0, 10.0, 512, 10
"""Of `noisy`: the gradient's noise, where each coordinate begins, how many there are, steps of an epoch."""


def noisy(config: dict[str, Any], session: Session) -> Iterator[Report]:
    """SGD on ½x² under gradient noise, whose best rate is known at each step: s / (s + NOISE²) where s is the mean x².

    So it must fall, from near 1 to one over the steps done; then s is about NOISE² over the steps done, which no
    constant rate comes near (`least_constant`).
    """
    rng = np.random.default_rng(session.fidelity.seed)
    done, x = 0, torch.full((COORDINATES,), START, dtype=torch.float64)
    if session.state:
        done, x = session.state["epoch"], session.state["x"].clone()
    session.checkpoint_with(lambda: {"epoch": done, "x": x})
    for epoch in range(1, session.fidelity.epochs + 1):
        draw = torch.from_numpy(rng.normal(scale=NOISE, size=(STEPS, COORDINATES)))
        if epoch <= done:
            continue
        for noise in draw:
            x = x - config["lr"] * (x + noise)
        done = epoch
        yield Report(epoch, {"val/loss": float((x**2).mean())})


def least_constant(epochs: int) -> float:
    """The least expected value of `noisy` after so many epochs, of all constant rates."""
    rates = np.geomspace(1e-4, 1.0, 10_000)
    shrink = (1 - rates) ** 2
    kept = shrink ** (STEPS * epochs)
    left = np.divide(1 - kept, 1 - shrink, where=shrink < 1, out=np.ones_like(rates))
    return float((kept * START**2 + rates**2 * NOISE**2 * left).min())


def least_possible(epochs: int) -> float:
    """The same of the best schedule: 1/s grows by 1/NOISE² with each step."""
    return float(1 / (1 / START**2 + STEPS * epochs / NOISE**2))


def without_checkpoints(config: dict[str, Any], session: Session) -> Iterator[Report]:
    """A trial that never says how to save it."""
    for epoch in range(1, session.fidelity.epochs + 1):
        if epoch == 2:
            misbehave(config)
        yield Report(epoch, {"val/loss": loss(config, epoch)})


def short(config: dict[str, Any], session: Session) -> Iterator[Report]:
    """A trial that ends by itself after one epoch."""
    yield Report(1, {"val/loss": config["value"]})
    time.sleep(0.2)


class Deadly(torch.utils.data.Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Rows that end the process that reads them."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


class Line:
    """A small regression."""

    def data(self, config: dict[str, Any], fidelity: Fidelity) -> Data:
        x = torch.linspace(-1, 1, 16).unsqueeze(1)
        return Data((x, 2 * x), (x, 2 * x))

    def model(self, config: dict[str, Any], data: Data) -> nn.Module:
        return nn.Linear(1, 1)


class Faulty(Line):
    """One of which a part raises where the config says so."""

    def data(self, config: dict[str, Any], fidelity: Fidelity) -> Data:
        fail_at("data", config)
        return super().data(config, fidelity)

    def model(self, config: dict[str, Any], data: Data) -> nn.Module:
        fail_at("model", config)
        self.config = config
        return super().model(config, data)

    def loss(self, output: torch.Tensor, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        fail_at("loss", self.config)
        loss = (output - batch[1]).square().mean()
        return loss * math.nan if self.config.get("fault") == "nan" else loss


def fail_at(part: str, config: dict[str, Any]) -> None:
    """Raise, or wait for ever, in a part of a trainable."""
    if config.get("fault") == part:
        raise ValueError(f"nothing to make {part} of")
    if config.get("fault") == f"{part} hangs":
        time.sleep(3600)


class KilledByItsTestSplit(Line):
    """One whose test split cannot be read."""

    def data(self, config: dict[str, Any], fidelity: Fidelity) -> Data:
        return replace(super().data(config, fidelity), test=Deadly())


class Branching(Line):
    """One whose network looks at its numbers to know what to do."""

    class Network(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) if x.sum() > 0 else -super().forward(-x)

    def model(self, config: dict[str, Any], data: Data) -> nn.Module:
        return self.Network(1, 1)


class Counting(Line):
    """One whose network takes its number of rows for a constant once it is traced."""

    class Network(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) / int(x.shape[0])

    def model(self, config: dict[str, Any], data: Data) -> nn.Module:
        return self.Network(1, 1)


class Blind(Line):
    """One whose inputs say nothing."""

    def data(self, config: dict[str, Any], fidelity: Fidelity) -> Data:
        (x, y), val = super().data(config, fidelity).train, super().data(config, fidelity).val
        return Data((torch.zeros_like(x), y), val)


class Gappy(Line):
    """One whose table lacks numbers and labels, and has rows twice."""

    def data(self, config: dict[str, Any], fidelity: Fidelity) -> Data:
        a, b = np.arange(40.0), np.arange(40.0) % 7
        a[[5, 9]] = np.nan
        a[30:], b[30:] = a[:10], b[:10]
        y = [None if row == 3 else float(row % 2) for row in range(40)]
        found = table(pa.table({"a": a, "b": b, "y": pa.array(y)}), target="y")
        return Data(found.rows(range(35)), found.rows(range(35, 40)))

    def model(self, config: dict[str, Any], data: Data) -> nn.Module:
        return nn.Linear(2, 1)


def in_step(config: dict[str, Any], session: Session) -> Iterator[Report]:
    """A trial of several workers that meet in a collective each epoch; the last one may misbehave alone."""
    import torch.distributed as dist

    last = dist.get_rank() == dist.get_world_size() - 1
    nodes: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(nodes, ray.get_runtime_context().get_node_id() if ray.is_initialized() else "")
    done = session.state["epoch"] if session.state else 0
    session.checkpoint_with(lambda: {"epoch": done})
    for epoch in range(done + 1, session.fidelity.epochs + 1):
        if epoch == 2 and last:
            misbehave(config)
        ranks = torch.ones(1)
        dist.all_reduce(ranks)
        time.sleep(config.get("seconds", 0.0))
        done = epoch
        told = {"ranks": ranks.item(), "rank": float(dist.get_rank()), "system/nodes": float(len(set(nodes)))}
        yield Report(epoch, {"val/loss": loss(config, epoch), **told})


def heavy(config: dict[str, Any], session: Session) -> Iterator[Report]:
    """The same as `trial`, with a checkpoint of half a MiB."""
    done = session.state["epoch"] if session.state else 0
    session.checkpoint_with(lambda: {"epoch": done, "weights": torch.full((2**17,), float(done))})
    for epoch in range(done + 1, session.fidelity.epochs + 1):
        time.sleep(config.get("seconds", 0.0))
        done = epoch
        yield Report(epoch, {"val/loss": loss(config, epoch)})


class Tested(Line):
    """One with a test split."""

    def data(self, config: dict[str, Any], fidelity: Fidelity) -> Data:
        data = super().data(config, fidelity)
        return replace(data, test=data.val)


class Pickled(nn.Module):
    """A model whose class has to be imported to load it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.full((1, 1), 2.0)), nn.Parameter(torch.full((1,), 0.5))


def words(model_input: list[str]) -> list[str]:
    """A model that is not one of torch."""
    return model_input


class Signs:
    """Rows of four classes, which two numbers tell apart."""

    def data(self, config: dict[str, Any], fidelity: Fidelity) -> Data:
        x = torch.randn(200, 2, generator=torch.Generator().manual_seed(1))
        y = (x[:, 0] > 0).long() + 2 * (x[:, 1] > 0)
        return Data((x[:120], y[:120]), (x[120:160], y[120:160]), (x[160:], y[160:]))

    def model(self, config: dict[str, Any], data: Data) -> nn.Module:
        return nn.Linear(2, 4)


def greedy(config: dict[str, Any], session: Session) -> Iterator[Report]:
    """A trial that has no memory for a batch of 16 or more, or of 32 for the narrower model."""
    time.sleep(0.1)
    if config["batch_size"] >= (32 if config["width"] == 1 else 16):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    yield Report(1, {"val/loss": config["lr"]})


def overfitting(config: dict[str, Any], session: Session) -> Iterator[Report]:
    """A trial that overfits, the less the more dropout it has; without weight decay it is worse throughout."""
    for epoch in range(1, session.fidelity.epochs + 1):
        rises = 0.1 * max(0, epoch - 4) * (1 - config["dropout"])
        level = 0.3 + (0.0 if config["weight_decay"] else 0.1)
        yield Report(epoch, {"train/loss": 0.2 + 2.0 * 0.6**epoch, "val/loss": level + 2.0 * 0.6**epoch + rises})
