"""Throughput and memory against the batch size: measured on this machine, and never beyond what is allowed."""

from __future__ import annotations

import multiprocessing
import resource
from dataclasses import asdict

import pytest
import torch
from torch import nn

from sweeps.insight.batch_size import judge
from trainables import memory
from trainables.batch_curve import Point, batch_curve, level, predicted, sizes, slow
from trainables.contract import Data, Fidelity, TrainableError
from trainables.footprint import CPU
from trainables.training import prepare
from unit.trainable_helpers import Blobs

FIDELITY, MB = Fidelity(1), 2**20
linux = pytest.mark.skipif(not memory.forget_peak(CPU), reason="this kernel does not tell a process's peak of memory")


class Fat(Blobs):
    """A network that holds some megabytes a row while it trains, and of which a batch of more than `most` fails."""

    def __init__(self, rows=512, most=10**6, error=None):
        super().__init__(train=rows, val=8)
        self.most, self.error = most, error or torch.OutOfMemoryError("CUDA out of memory.")

    def model(self, config, data):
        return Wide(super().model(config, data), self.most, self.error)


class Wide(nn.Module):
    def __init__(self, inner, most, error):
        super().__init__()
        self.inner, self.most, self.error = inner, most, error
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x):
        if self.training and len(x) > self.most:
            raise self.error
        if not self.training:
            return self.inner(x)
        wide = x[:, :1].expand(len(x), MB // 4) * self.scale  # megabytes a row, here and for the gradient
        return self.inner(x) + 1e-9 * (wide * wide).mean(1, keepdim=True)


def test_sizes_double_and_pass_the_config_own():
    def first(own, count):
        return [size for size, _ in zip(sizes(own), range(count), strict=False)]

    assert first(64, 4) == [16, 32, 64, 128]
    assert first(4, 3) == [4, 8, 16]
    assert first(100, 3) == [25, 50, 100]
    assert first(31, 2) == [31, 62]


def test_memory_grows_on_as_it_grew():
    points = [Point(16, 9.0, 300, True), Point(32, 9.0, 340, True)]
    assert predicted(points, 270, 64) == 420
    assert predicted(points, 200, 64) == 540, "the first of them grew more"
    assert predicted(points[:1], 200, 32) == 400
    assert predicted(points[:1], 310, 32) == 300, "what was given back meanwhile is no growth"
    assert predicted([Point(16, 9.0, None, True)], 0, 32) is None


def test_the_curve_ends_where_it_is_level_or_there_is_no_time():
    def of(*speeds):
        return [Point(2**n, speed, None, True) for n, speed in enumerate(speeds, 4)]

    assert level(of(10.0, 10.2, 10.4))
    assert not level(of(10.0, 10.2, 11.0)), "the second of the two was faster"
    assert not level(of(10.0, 10.0))
    assert slow(Point(16, 100.0, None, True), 32, 1.0)
    assert not slow(Point(16, 100.0, None, True), 32, 2.0)


def measured():
    """The curve, and the peak of this process before it and after, in KiB."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = batch_curve(Fat(rows=130), {"batch_size": 128}, FIDELITY, limit_s=120)
    return found, before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.slow
@linux
def test_memory_is_measured_of_each_size_and_given_back_after():
    # A process that has run other tests may hold enough for the smaller sizes, and show no growth.
    with multiprocessing.get_context("spawn").Pool(1) as fresh:
        found, before, held = fresh.apply(measured)
    fat = {point.batch_size: point.bytes for point in found.points}
    assert list(fat) == [16, 32, 64, 128]
    assert found.ended == "rows"
    assert all(point.fits and point.rows_per_second > 0 for point in found.points)
    a_row = (fat[128] - fat[64]) / 64
    assert 1 * MB < a_row < 8 * MB
    assert 1 * MB < (fat[64] - fat[32]) / 32 < 8 * MB
    assert held * 1024 < fat[128] - 60 * a_row or held <= before, "it counts as no trial's"


@pytest.mark.slow
@linux
def test_no_more_memory_is_taken_than_the_share_allows():
    whole, _ = memory.host()
    share = (memory.held(CPU) + 400 * MB) / memory.SAFE / whole
    found = batch_curve(Fat(), {"batch_size": 512}, FIDELITY, limit_s=120, share=share)
    *fitting, last = found.points
    assert (found.ended, last.fits, last.rows_per_second) == ("memory", False, None)
    assert last.bytes > found.limit_bytes
    assert all(point.fits and point.bytes <= found.limit_bytes for point in fitting)
    assert len(fitting) >= 1
    assert last.bytes < found.limit_bytes + 8 * MB * last.batch_size, "foretold, or found out by little"
    assert last.batch_size == 2 * fitting[-1].batch_size
    told = judge(asdict(found), [16, last.batch_size])
    assert (told.severity, told.evidence["do_not_fit"]) == ("warn", [last.batch_size])


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    ],
)
def test_a_size_that_is_out_of_memory_is_one_that_does_not_fit(error):
    found = batch_curve(Fat(most=40, error=error), {"batch_size": 64}, FIDELITY, limit_s=120)
    assert [(point.batch_size, point.fits) for point in found.points] == [(16, True), (32, True), (64, False)]
    assert found.ended == "memory"


def test_another_error_is_not_taken_for_that():
    with pytest.raises(RuntimeError, match="shapes"):
        batch_curve(Fat(most=40, error=RuntimeError("shapes do not match")), {"batch_size": 16}, FIDELITY)
    with pytest.raises(TrainableError, match="only 90 training rows"):
        batch_curve(Blobs(), {"batch_size": 91}, FIDELITY)


def test_where_memory_is_unknown_nothing_beyond_the_config_own_is_tried(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "CLEAR", tmp_path / "no" / "such" / "file")
    found = batch_curve(Blobs(train=600), {"batch_size": 64}, FIDELITY)
    assert [point.batch_size for point in found.points] == [16, 32, 64]
    assert (found.ended, found.limit_bytes, {point.bytes for point in found.points}) == ("memory", None, {None})
    assert "memory cannot be measured here" in judge(asdict(found), [16]).message


def test_weights_and_generators_stay_as_they_are():
    made = []

    class Kept(Blobs):
        def model(self, config, data):
            made.append(super().model(config, data))
            return made[-1]

    torch.manual_seed(5)
    state = torch.get_rng_state()
    batch_curve(Kept(), {"batch_size": 16, "weight_decay": 0.1}, FIDELITY)
    assert torch.equal(torch.get_rng_state(), state)
    fresh = prepare(Blobs(), {"batch_size": 16}, FIDELITY, CPU).model
    assert all(torch.equal(a, b) for a, b in zip(made[0].parameters(), fresh.parameters(), strict=True))


@pytest.mark.parametrize("config", [{"batch_size": 2}, {"batch_size": 90}, {"batch_size": 16, "precision": "bf16"}])
def test_any_config_that_can_be_trained_has_a_curve(config):
    found = batch_curve(Blobs(), config, FIDELITY)
    assert found.points
    assert found.points[-1].batch_size <= 90
    judge(asdict(found), [16])


class FloatTargets(Blobs):
    def data(self, config, fidelity):
        found = super().data(config, fidelity)
        return Data(*((x, x[:, :3]) for x, _ in (found.train, found.val)))


def test_an_accumulating_config_with_an_average_has_one_too():
    found = batch_curve(FloatTargets(), {"batch_size": 32, "accumulate": 4, "ema_decay": 0.9}, FIDELITY)
    assert [point.batch_size for point in found.points] == [16, 32, 64]
