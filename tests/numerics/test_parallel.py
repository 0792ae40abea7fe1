"""Two gloo processes against one: the same numbers, steps skipped together, resumed to the last bit."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn

from numerics_helpers import CONFIG, WORKERS, Images, Net, Wild, results, trained
from trainables import parallel, shards
from trainables.contract import Fidelity, TrainableError
from trainables.lr_range import lr_range
from trainables.training import prepare


@pytest.mark.parametrize(
    "more",
    [{}, {"optimizer": "adamw"}, {"label_smoothing": 0.1, "momentum": 0.0}, {"batch_size": 70}, {"batch_size": 23}],
    ids=["sgd", "adamw", "smoothing", "one batch", "one row left"],
)
def test_two_processes_give_the_numbers_of_one(pair, more):
    config = {**CONFIG, **more}
    alone = trained(config, 4)
    ranks = pair(trained, config, 4)
    assert [results(r) for r in ranks[0]["reports"]] == [results(r) for r in ranks[1]["reports"]]
    for ours, theirs in zip(ranks[0]["reports"], alone["reports"], strict=True):
        assert results(ours) == pytest.approx(results(theirs), rel=2e-5, abs=1e-7)
    for name, weights in alone["state"]["model"].items():
        torch.testing.assert_close(ranks[0]["state"]["model"][name], weights, rtol=1e-4, atol=1e-6)
        assert torch.equal(ranks[0]["state"]["model"][name], ranks[1]["state"]["model"][name])


@pytest.mark.parametrize(
    "more",
    [
        {"augment": 3, "ema_decay": 0.9},
        {"augment": 1, "augment_mixup": 0.4, "augment_cutmix": 0.3, "accumulate": 2, "ema_decay": 0.5},
        {"accumulate": 3, "l1": 1e-3, "clip_norm": None, "clip_percentile": 50.0, "ema_decay": 0.5},
        {"class_weights": "balanced", "prune_rate": 0.6, "restore_best": True, "ema_decay": 0.5},
    ],
    ids=lambda more: " ".join(more),
)
def test_whatever_the_loop_has_is_the_same_on_two_processes(pair, more):
    config = {**CONFIG, **more}
    alone = trained(config, 3, trainable=Images)
    ranks = pair(trained, config, 3, None, None, Images)
    for ours, theirs in zip(ranks[0]["reports"], alone["reports"], strict=True):
        assert results(ours) == pytest.approx(results(theirs), rel=2e-5, abs=1e-7)
    for kind in ("model", "average"):
        for name, weights in alone["state"][kind].items():
            torch.testing.assert_close(ranks[0]["state"][kind][name], weights, rtol=1e-4, atol=1e-6)
            assert torch.equal(ranks[0]["state"][kind][name], ranks[1]["state"][kind][name])


def range_of(config: dict[str, Any]) -> Any:
    """The learning-rate range test of a config, and the process's generator after it."""
    torch.manual_seed(11)
    return lr_range(Net(), config, Fidelity(1)), torch.get_rng_state()


def test_the_range_test_is_the_same_on_two_processes(pair):
    alone, generator = range_of(CONFIG)
    ranks = pair(range_of, CONFIG)
    assert ranks[0][0] == ranks[1][0]
    assert alone.fell
    assert ranks[0][0].centre == pytest.approx(alone.centre)
    assert ranks[0][0].losses[:60] == pytest.approx(alone.losses[:60], rel=1e-4)
    assert torch.equal(ranks[0][1], generator), "nothing was drawn from it"


def test_ranks_draw_different_dropout_and_keep_their_own_generator(pair):
    ranks = pair(trained, {**CONFIG, "dropout": 0.5}, 2)
    states = ranks[0]["state"]["rng"]
    assert len(states) == WORKERS
    assert not torch.equal(states[0]["torch"], states[1]["torch"])


@pytest.mark.parametrize("more", [{}, {"precision": "fp16"}, {"precision": "bf16", "optimizer": "adamw"}], ids=str)
def test_a_resumed_pair_ends_with_the_same_bits(pair, more):
    config = {**CONFIG, "dropout": 0.3, "augment": 2, "ema_decay": 0.9, **more}
    whole = pair(trained, config, 4, None, None, Images)
    half = pair(trained, config, 4, None, 2, Images)[0]["state"]
    resumed = pair(trained, config, 4, half, None, Images)
    for before, after in zip(whole, resumed, strict=True):
        assert [results(r) for r in after["reports"]] == [results(r) for r in before["reports"][2:]]
        for kind in ("model", "average"):
            for name, weights in before["state"][kind].items():
                assert torch.equal(after["state"][kind][name], weights)


def test_an_overflow_on_one_rank_skips_the_step_on_all(pair):
    config = {**CONFIG, "precision": "fp16"}
    ranks = pair(trained, config, 2, None, None, Wild)
    scales = [float(rank["state"]["scaler"][0]) for rank in ranks]
    assert scales[0] == scales[1] == 65536 / 4, "lowered once an epoch, on both"
    for name, weights in ranks[0]["state"]["model"].items():
        assert torch.equal(ranks[1]["state"]["model"][name], weights)
        assert bool(weights.isfinite().all())
    assert all(map(math.isfinite, results(ranks[0]["reports"][-1]).values()))


def test_a_batch_must_have_a_row_for_each_worker(pair):
    for error in pair(trained, {**CONFIG, "batch_size": 1}, 1):
        assert isinstance(error, TrainableError)
        assert "fewer rows than the 2 workers" in str(error)


class Normed(Images):
    """A network with BatchNorm over rows alone, which a single row ends."""

    def model(self, config: Any, data: Any) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 2))


def test_no_rank_has_a_single_row_under_batchnorm(pair):
    ranks = pair(trained, {**CONFIG, "batch_size": 67}, 2, None, None, Normed)  # three rows are left of 70
    assert math.isfinite(ranks[0]["reports"][-1]["val/loss"])
    assert results(ranks[0]["reports"][-1]) == results(ranks[1]["reports"][-1])
    for name, buffer in ranks[0]["state"]["model"].items():
        assert torch.equal(ranks[1]["state"]["model"][name], buffer), "running statistics, too"
    for error in pair(trained, {**CONFIG, "batch_size": 2}, 1, None, None, Normed):
        assert "a batch of 1 row under BatchNorm" in str(error)
        assert "for 2 workers" in str(error)


class Rectified(Images):
    """A network with ReLUs, some of which are dead from the beginning."""

    def model(self, config: Any, data: Any) -> nn.Module:
        convolution, first = nn.Conv2d(1, 4, 3), nn.Linear(64, 10)
        with torch.no_grad():
            convolution.bias[1] = first.bias[3] = -100.0
        return nn.Sequential(convolution, nn.ReLU(), nn.Flatten(), first, nn.ReLU(), nn.Linear(10, 2))


def test_what_is_watched_is_the_same_on_two_processes(pair):
    alone = trained(CONFIG, 2, trainable=Rectified)["reports"]
    ranks = pair(trained, CONFIG, 2, None, None, Rectified)
    assert alone[0]["val/dead_units"] >= 2 / 14
    for rank in ranks:
        for ours, theirs in zip(rank["reports"], alone, strict=True):
            assert results(ours) == pytest.approx(results(theirs), rel=2e-5, abs=1e-7)


class Unseeded(Images):
    """A network that begins with other weights on each rank, whatever the seed."""

    def model(self, config: Any, data: Any) -> nn.Module:
        torch.manual_seed(dist.get_rank())
        return super().model(config, data)


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_all_ranks_begin_with_the_weights_of_the_first(pair, kind):
    ranks = pair(begun, kind)
    for one, other in zip(*ranks, strict=True):
        assert torch.equal(one, other)


def begun(kind: str) -> list[torch.Tensor]:
    """The weights of a model and of its average, before any step."""
    parallel.spread(kind)
    try:
        training = prepare(Unseeded(), {"ema_decay": 0.9, "batch_size": 8}, Fidelity(1), torch.device("cpu"))
    finally:
        parallel.spread("ddp")
    return [shards.whole(p.detach()) for model in (training.model, training.evaluated) for p in model.parameters()]
