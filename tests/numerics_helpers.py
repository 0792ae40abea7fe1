"""What the numerics tests share: small trainables, how to train one, and the pair of processes that do so together."""

from __future__ import annotations

from typing import Any

import pyarrow.fs
import torch
import torch.distributed as dist
from torch import nn

from trainables.contract import Data, Fidelity, Report, Session, TrainableError, resolve
from trainables.state import load, save

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
LOCAL = pyarrow.fs.LocalFileSystem()
EPOCHS = 5
WORKERS = 2
CONFIG = {
    "lr": 0.05,
    "batch_size": 13,
    "optimizer": "sgd",
    "schedule": "cosine",
    "clip_norm": 0.5,
    "weight_decay": 0.01,
}


class Net:
    """A small classifier without BatchNorm. Rows do not divide by batches, nor batches by workers."""

    def data(self, config: Any, fidelity: Fidelity) -> Data:
        draw = torch.Generator().manual_seed(3)
        x = torch.randn(101, 6, generator=draw)
        y = (x[:, 0] + x[:, 1] * x[:, 2] > 0).long()
        return Data((x[:70], y[:70]), (x[70:], y[70:]))

    def model(self, config: Any, data: Data) -> nn.Module:
        return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Dropout(config.get("dropout", 0.0)), nn.Linear(16, 2))


class Images(Net):
    """Images and a network without BatchNorm."""

    def data(self, config: Any, fidelity: Fidelity) -> Data:
        draw = torch.Generator().manual_seed(3)
        x = torch.randn(101, 1, 6, 6, generator=draw)
        y = (x[:, 0, :3].sum((1, 2)) > 0).long()
        return Data((x[:70], y[:70]), (x[70:], y[70:]))

    def model(self, config: Any, data: Data) -> nn.Module:
        dropout = nn.Dropout(config.get("dropout", 0.0))
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Flatten(), dropout, nn.Linear(64, 2))


class Wild(Net):
    """One row, which one rank alone has, gives a gradient that is beyond fp16 once it is scaled."""

    def data(self, config: Any, fidelity: Fidelity) -> Data:
        found = super().data(config, fidelity)
        found.train[0][0] = 1e3
        return found

    def model(self, config: Any, data: Data) -> nn.Module:
        return nn.Linear(6, 2)

    def loss(self, output: Any, batch: Any) -> Any:
        return output.float().abs().mean()


def trained(
    config: dict[str, Any],
    epochs: int,
    state: Any = None,
    until: int | None = None,
    trainable: Any = Net,
    device: torch.device = CPU,
) -> dict[str, Any]:
    """Each epoch's metrics, and the state at the end."""
    session = Session(Fidelity(epochs=epochs, seed=5), device, state)
    reports = []
    for report in resolve(trainable())(config, session):
        reports.append(dict(report.metrics))
        if report.epoch == until:
            break
    assert session.capture is not None
    return {"reports": reports, "state": session.capture()}


def work(rank: int, port: int, tasks: Any, answers: Any) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=WORKERS)
    while (task := tasks[rank].get()) is not None:
        function, arguments = task
        try:
            found = function(*arguments)
        except TrainableError as error:
            found = error
        answers.put((rank, found))
    dist.destroy_process_group()


def results(report: dict[str, float]) -> dict[str, float]:
    """What does not depend on the clock."""
    return {name: value for name, value in report.items() if not name.startswith("time/")}


Trained = tuple[list[Report], dict[str, Any]]


def uninterrupted(trainable: Any, config: dict[str, Any], device: torch.device = CPU) -> Trained:
    """The reports of a trial, and its state at the end."""
    session = Session(Fidelity(EPOCHS, seed=4), device)
    reports = list(resolve(trainable)(config, session))
    assert session.capture is not None
    return reports, session.capture()


def interrupted(
    trainable: Any,
    config: dict[str, Any],
    after: int,
    path: str,
    device: torch.device = CPU,
    then: torch.device | None = None,
) -> Trained:
    """Train to epoch `after`, save, let another trial disturb the process, load, and train to the end, on the same
    device or on another one."""
    first = Session(Fidelity(EPOCHS, seed=4), device)
    reports = resolve(trainable)(config, first)
    before = [next(reports) for _ in range(after)]
    assert first.capture is not None
    save(first.capture(), LOCAL, path, epoch=after)
    reports.close()
    list(resolve(trainable)({**config, "lr": 0.5}, Session(Fidelity(1, seed=99), device)))
    second = Session(Fidelity(EPOCHS, seed=4), then or device, load(LOCAL, path))
    rest = list(resolve(trainable)(config, second))
    assert second.capture is not None
    return before + rest, second.capture()


def curve(reports: list[Report]) -> list[tuple[int, dict[str, float]]]:
    """What was reported at each epoch, without times."""
    return [(r.epoch, results(dict(r.metrics))) for r in reports]


def assert_same(left: Any, right: Any, where: str = "state") -> None:
    """Equal to the last bit."""
    assert type(left) is type(right), where
    if isinstance(left, torch.Tensor):
        assert torch.equal(left.nan_to_num(), right.nan_to_num()), where
    elif isinstance(left, dict):
        assert left.keys() == right.keys(), where
        for key in left:
            assert_same(left[key], right[key], f"{where}[{key!r}]")
    elif isinstance(left, list | tuple):
        assert len(left) == len(right), where
        for index, (one, other) in enumerate(zip(left, right, strict=True)):
            assert_same(one, other, f"{where}[{index}]")
    else:
        assert left == right, where
