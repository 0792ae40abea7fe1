"""Sharded training on two gloo processes: the numbers of one, half the memory, checkpoints for any number."""

from __future__ import annotations

import functools
from typing import Any

import pyarrow.fs
import pytest
import torch
from torch import nn

from numerics_helpers import CONFIG, Images, Net, results, trained
from trainables import parallel, state
from trainables.contract import Fidelity, Session
from trainables.evaluation import load_model
from trainables.footprint import describe
from trainables.models.text import TextEncoder
from trainables.probes import probe
from trainables.training import prepare

LOCAL = pyarrow.fs.LocalFileSystem()
CPU = torch.device("cpu")


class Tied(nn.Module):
    """Two layers of a list share their weights, and a third stands outside of it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 9)
        self.rest = nn.ModuleList([nn.Linear(9, 9), nn.Linear(9, 9), nn.Linear(9, 2)])
        self.rest[1].weight = self.rest[0].weight


def sharded(function: Any, *arguments: Any) -> Any:
    """What a function gives where models are sharded."""
    parallel.spread("fsdp")
    try:
        return function(*arguments)
    finally:
        parallel.spread("ddp")


def stored(path: str, config: dict[str, Any], epochs: int, kept: Any = None, trainable: Any = Net) -> dict[str, Any]:
    """Train from a checkpoint, or afresh, to the epoch before the last; save that; what was reported, and is loaded."""
    saved = None if kept is None else state.load(LOCAL, kept)
    found = trained(config, epochs, saved, epochs if kept else epochs - 1, trainable)
    state.save(found["state"], LOCAL, path, epochs)
    parallel.gather(None)  # all have written before one reads
    return {"reports": found["reports"], "state": state.load(LOCAL, path)}


def same(left: Any, right: Any, rtol: float, atol: float) -> None:
    for name, weights in left.items():
        torch.testing.assert_close(weights, right[name], rtol=rtol, atol=atol)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"optimizer": "adamw"},
        {"batch_size": 23, "ema_decay": 0.5, "accumulate": 2},
        {"batch_size": 7, "accumulate": 4},
        {"augment": 1, "l1": 1e-3, "clip_norm": None, "clip_percentile": 50.0},
        {"prune_rate": 0.6, "restore_best": True, "class_weights": "balanced", "optimizer": "adamw"},
        {"precision": "bf16"},
        {"precision": "fp16"},
        {"freeze_depth": 1, "head_lr": 0.01},
    ],
    ids=lambda more: " ".join(more) or "sgd",
)
def test_two_sharded_processes_give_the_numbers_of_one(pair, tmp_path, more):
    config = {**CONFIG, **more}
    loose = "precision" in more  # half precision rounds otherwise in another order
    alone = trained(config, 3, None, 2, Images)
    ranks = pair(sharded, stored, str(tmp_path / "a"), config, 3, None, Images)
    assert [results(r) for r in ranks[0]["reports"]] == [results(r) for r in ranks[1]["reports"]]
    for ours, theirs in zip(ranks[0]["reports"], alone["reports"], strict=True):
        assert results(ours) == pytest.approx(results(theirs), rel=1e-2 if loose else 2e-5, abs=1e-6)
    for kind in ("model", *(["average"] if "ema_decay" in more else [])):
        same(ranks[0]["state"][kind], alone["state"][kind], *((1e-2, 1e-3) if loose else (1e-4, 1e-6)))


@pytest.mark.parametrize("more", [{}, {"precision": "fp16"}, {"optimizer": "adamw"}], ids=str)
def test_a_resumed_sharded_pair_ends_with_the_same_bits(pair, tmp_path, more):
    config = {**CONFIG, "dropout": 0.3, "augment": 2, "ema_decay": 0.9, "restore_best": True, **more}
    half, end, other = (str(tmp_path / name) for name in ("half", "end", "other"))
    pair(sharded, stored, half, config, 4, None, Images)
    whole = pair(sharded, functools.partial(trained, trainable=Images), config, 4)
    resumed = pair(sharded, stored, end, config, 4, half, Images)
    assert results(resumed[0]["reports"][-1]) == results(whole[0]["reports"][-1])
    again = pair(sharded, stored, other, config, 4, half, Images)
    for kind in ("model", "average"):
        same(again[0]["state"][kind], resumed[0]["state"][kind], 0.0, 0.0)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_sharded_checkpoint_loads_into_one_process_and_one_of_one_process_into_two(pair, tmp_path, optimizer):
    config = {**CONFIG, "optimizer": optimizer, "ema_decay": 0.5}
    two, one, ends = str(tmp_path / "two"), str(tmp_path / "one"), [str(tmp_path / "end of 2"), str(tmp_path / "of 1")]
    pair(sharded, stored, two, config, 3)
    stored(one, config, 3)
    alone, ranks = stored(ends[0], config, 3, two), pair(sharded, stored, ends[1], config, 3, one)
    for resumed in (alone, ranks[0]):
        expected = trained(config, 3)
        assert results(resumed["reports"][-1]) == pytest.approx(results(expected["reports"][-1]), rel=2e-5, abs=1e-6)
        same(resumed["state"]["model"], expected["state"]["model"], 1e-4, 1e-6)
    assert load_model(Net(), config, Fidelity(1), state.load(LOCAL, two)) is not None
    assert sorted(p.name for p in (tmp_path / "two").iterdir()) == ["manifest.json", "state-1.pt", "state.pt"]


def test_a_missing_part_of_a_checkpoint_is_named(pair, tmp_path):
    pair(sharded, stored, str(tmp_path / "a"), CONFIG, 2)
    part = tmp_path / "a" / "state-1.pt"
    content = part.read_bytes()
    part.write_bytes(content[:-3])
    with pytest.raises(state.CheckpointError, match=r"state-1\.pt is torn"):
        state.load(LOCAL, str(tmp_path / "a"))
    part.unlink()
    with pytest.raises(state.CheckpointError, match=r"state-1\.pt is missing"):
        state.load(LOCAL, str(tmp_path / "a"))


class Wide(Net):
    """A network whose parameters outweigh everything else: 17 million of them."""

    def model(self, config: Any, data: Any) -> nn.Module:
        layers = [nn.Linear(6, 2048), nn.Tanh()]
        for _ in range(4):
            layers += [nn.Linear(2048, 2048), nn.Tanh()]
        return nn.Sequential(*layers, nn.Linear(2048, 2))


def held(config: dict[str, Any]) -> tuple[int, int]:
    """Bytes of parameters, gradients and optimizer state that this rank holds between two steps, and of this all."""
    training = prepare(Wide(), config, Fidelity(1), CPU)
    from trainables.training import epoch_batches, step

    for batch in epoch_batches(training, 1):
        step(training, batch, 0.01, 35)
    state_of = [v for s in training.optimizer.state.values() for v in s.values() if isinstance(v, torch.Tensor)]
    tensors = [*training.parameters, *(p.grad for p in training.parameters), *state_of]
    here = sum(local.numel() * local.element_size() for local in map(local_of, tensors))
    return here, sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def local_of(tensor: Any) -> torch.Tensor:
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def test_each_rank_holds_half_of_parameters_gradients_and_optimizer_state(pair):
    config = {**CONFIG, "optimizer": "adamw", "batch_size": 35}
    for here, everything in pair(sharded, held, config):
        assert everything > 4 * 4 * 16e6
        assert here == pytest.approx(everything / 2, rel=0.01)
    for here, everything in pair(held, config):
        assert here == everything


def test_blocks_are_the_members_of_lists_wherever_they_stand():
    model = TextEncoder(100, 2, length=8, depth=3)
    assert parallel.blocks(model) == list(model.layers.layers)
    assert [type(m).__name__ for m in parallel.blocks(Images().model({}, None))] == ["Conv2d", "Linear"]


def test_what_shares_a_parameter_is_left_to_the_model():
    model = Tied()
    assert parallel.blocks(model) == [model.rest[2]]


class Text(Net):
    """An encoder of attention over a few tokens."""

    def data(self, config: Any, fidelity: Any) -> Any:
        from trainables.contract import Data

        draw = torch.Generator().manual_seed(3)
        x = torch.randint(3, 50, (101, 8), generator=draw)
        y = (x[:, 0] > x[:, 1]).long()
        return Data((x[:70], y[:70]), (x[70:], y[70:]))

    def model(self, config: Any, data: Any) -> nn.Module:
        return TextEncoder(50, 2, length=8, width=16, depth=2)


def probed(config: dict[str, Any]) -> Any:
    with parallel.alone():
        return probe(Text(), config, Fidelity(1), CPU, 3.0)


def test_preflight_and_the_plan_look_at_a_sharded_model_too(pair, tmp_path):
    config = {**CONFIG, "optimizer": "adamw", "lr": 1e-3}
    found = pair(sharded, probed, config)[0]
    alone = probe(Text(), config, Fidelity(1), CPU, 3.0)
    assert found.initial_loss == pytest.approx(alone.initial_loss, rel=1e-5)
    assert found.without_gradient == alone.without_gradient
    assert found.learned_loss < found.initial_loss
    told = pair(sharded, functools.partial(describe, Text()), config, Fidelity(2))
    pair(sharded, stored, str(tmp_path / "a"), config, 2, None, Text)
    assert told[0] == told[1]
    assert told[0].checkpoint_bytes == sum(p.stat().st_size for p in (tmp_path / "a").iterdir())
    assert told[0].parameters == describe(Text(), config, Fidelity(2)).parameters


def ignored(config: dict[str, Any]) -> Any:
    from trainables.evaluation import evaluate

    training = prepare(Net(), config, Session(Fidelity(1)).fidelity, CPU)
    return [evaluate(training, "val", torch.arange(rows)) for rows in (31, 30, 29, 17, 5, 2, 1)]


def test_an_evaluation_of_any_number_of_rows_ends(pair):
    """Ranks with fewer batches than others still take part in gathering the blocks."""
    config = {**CONFIG, "batch_size": 2}  # 8 rows an evaluation batch
    ranks = pair(sharded, ignored, config)
    assert ranks[0] == ranks[1]
    for ours, theirs in zip(ranks[0], ignored(config), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)


class Scaled(nn.Module):
    """A layer, and a number beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(6, 2)])
        self.scale = nn.Parameter(torch.tensor(1.5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers[0](x) * self.scale


class Borrowed(nn.Module):
    """One that uses the weights of a member without calling it."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(6, 2)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, self.layers[0].weight)


class OfModule(Net):
    """The rows of Net under a network that is given."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind

    def model(self, config: Any, data: Any) -> nn.Module:
        return self.kind()


@pytest.mark.parametrize(
    ("kind", "message"),
    [(Scaled, "fsdp cannot share the parameter scale of shape ()"), (Borrowed, "Borrowed uses weights of a member")],
)
def test_what_cannot_be_sharded_is_told(pair, kind, message):
    for error in pair(sharded, trained, CONFIG, 1, None, None, functools.partial(OfModule, kind)):
        assert message in str(error)
