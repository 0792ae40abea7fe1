"""On a GPU what is proven on the CPU elsewhere: numbers, half precision, checkpoints, batches, memory, several ranks.

No time is asserted, and numbers of the two kinds of device are compared loosely: convolutions compute in TF32 there.
That a trial goes on to the last bit is asked of every network here with `torch.backends.cudnn.deterministic`, which the
loop sets, and without torch's deterministic algorithms, which it does not.
"""

from __future__ import annotations

import functools
import gc
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from numerics_helpers import (
    CONFIG,
    CPU,
    EPOCHS,
    GPU,
    LOCAL,
    Net,
    assert_same,
    curve,
    interrupted,
    results,
    trained,
    uninterrupted,
)
from trainables import optim, parallel
from trainables.batch_curve import batch_curve
from trainables.checks import check
from trainables.contract import Data, Fidelity, Report, Session, resolve
from trainables.data.mapped import Mapped
from trainables.data.rows import open_rows
from trainables.error_analysis import error_analysis
from trainables.evaluation import evaluate_split, load_model
from trainables.examples.digits import Digits
from trainables.footprint import describe
from trainables.lr_range import lr_range
from trainables.models.cnn import Cnn
from trainables.models.mlp import Mlp
from trainables.models.series import Gru, SeriesCnn
from trainables.models.text import TextEncoder
from trainables.probes import device_bytes, peak_bytes, probe
from trainables.state import capture_rng, load, restore_rng, save
from trainables.training import epoch_batches, prepare, step
from trainables.watch import Watch
from unit.trainable_helpers import Pairs

pytestmark = pytest.mark.gpu

KINDS = ("table", "images", "series", "recurrent", "text")
ROWS, TRAIN = 500, 400


class Made:
    """Rows of a kind that a small network of that kind learns in a few epochs."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def data(self, config: Any, fidelity: Any) -> Data:
        draw = torch.Generator().manual_seed(3)
        x = torch.randn(ROWS, 8, generator=draw)
        y = (x[:, 0] + x[:, 1] > 0).long()
        if self.kind == "table":
            x[:, 7] = torch.randint(0, 5, (ROWS,), generator=draw).float()
        elif self.kind == "images":
            x = torch.randn(ROWS, 1, 8, 8, generator=draw) + (2.0 * y - 1)[:, None, None, None] / 3
        elif self.kind == "text":
            x = torch.randint(3, 40, (ROWS, 12), generator=draw)
            y = (x[:, :6] > 20).sum(1).gt(2).long()
            x[::3, 8:] = 0  # shorter ones
        else:
            x = torch.randn(ROWS, 2, 24, generator=draw) + (2.0 * y - 1)[:, None, None] / 3
            y = x[:, 0].mean(1) - x[:, 1].mean(1)  # a number
        return Data((x[:TRAIN], y[:TRAIN]), (x[TRAIN:], y[TRAIN:]))

    def model(self, config: Any, data: Data) -> nn.Module:
        dropout = config.get("dropout", 0.0)
        if self.kind == "table":
            return Mlp(8, 2, width=32, categories={7: 5}, dropout=dropout)
        if self.kind == "images":
            return Cnn(1, 2, width=8, dropout=dropout)
        if self.kind == "series":
            return SeriesCnn(2, 1, width=8, depth=1, dropout=dropout)
        if self.kind == "recurrent":
            return Gru(2, 1, width=16, depth=2, dropout=dropout)
        return TextEncoder(40, 2, length=12, width=16, depth=2, dropout=dropout)


PLAIN = {"lr": 5e-3, "batch_size": 32}


def close(ours: dict[str, float], theirs: dict[str, float], rel: float = 0.05) -> None:
    """The losses of two trainings agree."""
    for name in ("train/loss", "val/loss"):
        assert ours[name] == pytest.approx(theirs[name], rel=rel, abs=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_learns_on_a_gpu_what_it_learns_on_the_cpu(kind):
    there, here = (trained(PLAIN, 4, None, None, functools.partial(Made, kind), device) for device in (GPU, CPU))
    for ours, theirs in zip(there["reports"], here["reports"], strict=True):
        assert ours.keys() == theirs.keys()
        assert all(map(math.isfinite, results(ours).values()))
        close(ours, theirs)
    assert there["reports"][-1]["train/loss"] < 0.9 * there["reports"][0]["train/loss"]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_trial_on_a_gpu_resumes_bit_for_bit(tmp_path, kind, precision):
    config = {**PLAIN, "precision": precision, "dropout": 0.2, "augment": 0 if kind == "table" else 2, "ema_decay": 0.5}
    reports, state = uninterrupted(Made(kind), config, GPU)
    again, resumed = interrupted(Made(kind), config, 2, str(tmp_path), GPU)
    assert curve(again) == curve(reports)
    assert_same(resumed, state)
    assert reports[-1].metrics["train/loss"] < reports[0].metrics["train/loss"], "and it learns"
    assert ("scaler" in state) is (precision == "fp16")


@pytest.mark.parametrize(("device", "then"), [(GPU, CPU), (CPU, GPU)], ids=["to the CPU", "from the CPU"])
@pytest.mark.parametrize("more", [{}, {"optimizer": "sgd", "lr": 0.05}, {"precision": "bf16"}, {"precision": "fp16"}])
def test_a_checkpoint_goes_on_on_the_other_kind_of_device(tmp_path, device, then, more):
    config = {**PLAIN, "ema_decay": 0.5, "clip_percentile": 90.0, **more}
    expected, state = uninterrupted(Made("table"), config, then)
    reports, resumed = interrupted(Made("table"), config, 2, str(tmp_path), device, then)
    assert [report.epoch for report in reports] == list(range(1, EPOCHS + 1))
    close(dict(reports[-1].metrics), dict(expected[-1].metrics), rel=0.1)
    assert resumed.keys() == state.keys()
    assert ("cuda" in resumed["rng"][0]) is (then == GPU)


@pytest.mark.parametrize("device", [GPU, torch.device("cuda")], ids=str)
def test_the_generator_of_the_gpu_is_part_of_the_state(device):
    kept = capture_rng(device)
    drawn = torch.randn(5, device=device), torch.randn(5)
    torch.randn(99, device=device), torch.randn(99)
    restore_rng(kept, device)
    assert torch.equal(drawn[0], torch.randn(5, device=device))
    assert torch.equal(drawn[1], torch.randn(5))
    elsewhere, before = capture_rng(CPU), torch.cuda.get_rng_state(device)
    restore_rng(elsewhere, device)
    assert torch.equal(torch.cuda.get_rng_state(device), before), "a state of the CPU's says nothing of it"


@pytest.mark.parametrize("kind", ["mapped", "dataset", "on the gpu already"])
def test_batches_of_the_copy_stream_are_those_of_the_host(kind):
    draw = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (1024, 3, 64, 64), dtype=torch.uint8, generator=draw)
    y, order = torch.arange(len(x)), torch.randperm(len(x), generator=draw)
    rows = Pairs(x.float() / 255, y)
    split = Mapped(x, y, None).rows(y) if kind == "mapped" else rows
    there = Pairs(rows.x.to(GPU), y.to(GPU)) if kind == "on the gpu already" else split
    busy, found = torch.randn(2048, 2048, device=GPU), []
    for inputs, targets in open_rows("train", there, GPU).batches(order, 96):
        busy = (busy @ busy).tanh()  # the next batch is copied while this is computed, and these wait for it
        found.append((inputs * 2, targets + 1))
    for (doubled, more), (inputs, targets) in zip(
        found, open_rows("train", split, CPU).batches(order, 96), strict=True
    ):
        torch.testing.assert_close(doubled.cpu(), inputs * 2)  # pixels are divided on the device
        assert torch.equal(more.cpu(), targets + 1)


class Wide(Made):
    """A network whose parameters outweigh everything else."""

    def __init__(self, width: int = 6144) -> None:
        super().__init__("table")
        self.width = width

    def model(self, config: Any, data: Data) -> nn.Module:
        width = self.width
        return nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2))


def held() -> int:
    """Bytes of the GPU in use before something is measured."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(GPU)
    return peak_bytes(GPU)


def test_the_memory_of_a_trial_is_measured_and_preflight_finds_it_too():
    network = 4 * 4 * describe(Wide(), PLAIN, Fidelity(1), GPU).parameters  # with gradients and the optimizer's two
    before = held()
    trained(PLAIN, 2, None, None, Wide, GPU)
    assert peak_bytes(GPU) - before == pytest.approx(1.1 * network, rel=0.12)
    before = held()
    found = probe(Wide(), PLAIN, Fidelity(1), GPU, limit_s=5)
    assert found.peak_bytes - before == pytest.approx(1.1 * network, rel=0.12)
    assert found.device_bytes == device_bytes(GPU) == pytest.approx(torch.cuda.mem_get_info(GPU)[1], rel=0.02)
    assert found.without_gradient == found.non_finite_gradient == []
    assert found.learned_loss < found.initial_loss
    assert found.overfit_last < found.overfit_first
    assert found.seconds_per_epoch > 0


def test_the_largest_batch_that_fits_is_found_without_an_end_of_the_process():
    class Rows(Wide):
        """Wide rows, of which a batch needs a megabyte a row."""

        def data(self, config: Any, fidelity: Fidelity) -> Data:
            x = torch.rand(4096, 8)
            y = (x[:, 0] > 0.5).long()
            return Data((x, y), (x[:64], y[:64]))

        def model(self, config: Any, data: Data) -> nn.Module:
            return nn.Sequential(nn.Linear(8, 1 << 16), nn.ReLU(), nn.Linear(1 << 16, 2))

    held()
    whole = torch.cuda.get_device_properties(GPU).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved(GPU) + 600 * 2**20) / whole, GPU)
    try:
        found = batch_curve(Rows(), {**PLAIN, "batch_size": 64}, Fidelity(1), GPU, limit_s=20)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, GPU)
    *fitting, last = found.points
    assert (found.ended, last.fits) == ("memory", False), found
    assert all(point.fits and point.bytes <= found.limit_bytes for point in fitting)
    assert fitting[-1].batch_size >= 128
    assert peak_bytes(GPU) < whole / 20, "it counts as no trial's"


SHARE = 0.04


def wanting(config: dict[str, Any], session: Session) -> Iterator[Report]:
    """A loop that takes so many bytes of its device, or looks a row up that is not there."""
    taken = torch.zeros(int(config["bytes"]), dtype=torch.uint8, device=session.device)
    yield Report(1, {"val/loss": float(taken[torch.tensor([config["row"]], device=session.device)])})


def shared(folder: str, answers: Any) -> None:
    """What a slot on a part of the GPU answers to trials that fit it, do not, and break the device."""
    from sweeps.slots import Order, Worker
    from sweeps.slots.slot import keep_to_share

    keep_to_share(GPU, SHARE)
    whole = device_bytes(GPU)
    too_wide = int(math.sqrt(SHARE * whole / 16))  # that is the share without anything for the driver
    told = []
    for name, trainable, config in (
        ("fits", wanting, {"bytes": SHARE * whole / 4, "row": 0}),
        ("too much", wanting, {"bytes": SHARE * whole, "row": 0}),
        ("too wide", Wide(too_wide), PLAIN),
        ("fits again", Wide(1024), PLAIN),
        ("breaks", wanting, {"bytes": 64, "row": 10**6}),
    ):
        worker = Worker(trainable, Path(folder), GPU)
        worker.answer("start", Order(name, 1, config, {"epochs": 1, "data_fraction": 1.0, "seed": 0}))
        answer = worker.answer("next", 0.0)
        worker.answer("close", None)
        found = answer["reports"][-1]["metrics"] if answer["reports"] else {}
        told.append((name, answer["failure"], answer["poisoned"], found.get("system/gpu_memory_mb")))
    answers.put(told)


def test_a_trial_beyond_its_share_fails_and_not_its_neighbour(tmp_path):
    pytest.importorskip("ray")
    neighbour = resolve(Made("images"))(PLAIN, Session(Fidelity(3), GPU))
    first = next(neighbour)
    context = mp.get_context("spawn")
    answers = context.Queue()
    process = context.Process(target=shared, args=(str(tmp_path), answers))
    process.start()
    told = {name: rest for name, *rest in answers.get(timeout=120)}
    process.join(60)
    assert torch.cuda.mem_get_info(GPU)[0] > 2 * SHARE * device_bytes(GPU), "the GPU itself had room"
    for name in ("fits", "fits again"):
        failure, poisoned, megabytes = told[name]
        assert (failure, poisoned) == (None, False)
        assert 0 < megabytes * 2**20 < SHARE * device_bytes(GPU)
    for name in ("too much", "too wide"):
        failure, poisoned, _ = told[name]
        assert (failure["kind"], failure["error"], poisoned) == ("memory", "OutOfMemoryError", True)
        assert "CUDA out of memory" in failure["message"]
    failure, poisoned, _ = told["breaks"]
    assert (failure["kind"], poisoned) == ("error", True)
    assert "device-side assert" in failure["message"]
    rest = list(neighbour)
    assert [report.epoch for report in (first, *rest)] == [1, 2, 3]
    assert curve([first, *rest]) == curve(list(resolve(Made("images"))(PLAIN, Session(Fidelity(3), GPU))))


def test_the_range_test_runs_on_a_copy():
    config, fidelity = {**PLAIN, "dropout": 0.2, "optimizer": "sgd"}, Fidelity(3)
    alone = curve(list(resolve(Made("images"))(config, Session(fidelity, GPU))))
    disturbed = resolve(Made("images"))(config, Session(fidelity, GPU))
    first = next(disturbed)
    found = lr_range(Made("images"), config, Fidelity(1), GPU)
    assert curve([first, *disturbed]) == alone
    assert found.fell
    assert found.losses == lr_range(Made("images"), config, Fidelity(1), GPU).losses[: len(found.losses)]


@pytest.fixture
def group(tmp_path):
    """A process group of this one process on NCCL."""
    dist.init_process_group("nccl", f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("how", ["ddp", "fsdp"])
@pytest.mark.parametrize("kind", ["images", "text"])
def test_a_group_of_one_on_nccl_trains_as_none_does_and_resumes(tmp_path, monkeypatch, kind, how, precision):
    config = {**PLAIN, "precision": precision, "ema_decay": 0.5, "clip_norm": 1.0, "accumulate": 2}
    expected, _ = uninterrupted(Made(kind), config, GPU)
    if how == "ddp":
        monkeypatch.setattr(parallel, "network", parallel.replicated)
    else:
        monkeypatch.setattr(parallel, "shards", lambda: True)
    reports, state = uninterrupted(Made(kind), config, GPU)
    close(dict(reports[-1].metrics), dict(expected[-1].metrics))
    again, resumed = interrupted(Made(kind), config, 2, str(tmp_path / "half"), GPU)
    assert curve(again) == curve(reports)
    assert_same(resumed, state)
    monkeypatch.undo()
    save(state, LOCAL, str(tmp_path / "end"), EPOCHS)
    found = evaluate_split(Made(kind), config, Session(Fidelity(1), GPU, load(LOCAL, str(tmp_path / "end"))), "val")
    assert found["val/loss"] == pytest.approx(reports[-1].metrics["val/loss"], rel=1e-3)


def test_two_processes_on_one_gpu_give_the_numbers_of_one(pair):
    config = {**CONFIG, "accumulate": 2, "ema_decay": 0.5}
    alone = trained(config, 3, None, None, Net, GPU)
    ranks = pair(trained, config, 3, None, None, Net, GPU)
    assert [results(r) for r in ranks[0]["reports"]] == [results(r) for r in ranks[1]["reports"]]
    for ours, theirs in zip(ranks[0]["reports"], alone["reports"], strict=True):
        for name in ("train/loss", "val/loss", "grad/norm"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-3)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("optimizer", optim.OPTIMIZERS)
def test_optimizers_are_fused_and_their_state_is_on_the_gpu(optimizer, precision):
    config = {**PLAIN, "optimizer": optimizer, "precision": precision}
    state = trained(config, 1, None, None, functools.partial(Made, "table"), CPU)["state"]
    training = prepare(Made("table"), config, Fidelity(1), GPU)
    optim.restore(training.optimizer, state["optimizer"])
    step(training, next(iter(epoch_batches(training, 1))), 1e-3, 32)
    fused = (optimizer, precision) != ("sgd", "fp16")
    assert {bool(group["fused"]) for group in training.optimizer.param_groups} == {fused}
    held = [value for of in training.optimizer.state.values() for value in of.values()]
    assert {value.device for value in held} == {GPU}


def test_errors_measures_and_an_export_of_a_state_are_those_of_the_cpu():
    config = {**PLAIN, "precision": "bf16"}
    state = trained(config, 3, None, None, functools.partial(Made, "images"), GPU)["state"]
    there, here = (Session(Fidelity(1, seed=5), device, state) for device in (GPU, CPU))
    ours, theirs = (evaluate_split(Made("images"), config, session, "val") for session in (there, here))
    assert ours == pytest.approx(theirs, rel=0.05, abs=0.02)
    found, expected = (error_analysis(Made("images"), config, session) for session in (there, here))
    assert [w["loss"] for w in found.worst] == pytest.approx([w["loss"] for w in expected.worst], rel=0.1, abs=0.02)
    assert [c["recall"] for c in found.classes] == pytest.approx([c["recall"] for c in expected.classes], abs=0.05)
    model = load_model(Made("images"), config, Fidelity(1), state)
    x = Made("images").data(config, None).val[0][:7]
    exported = torch.export.export(model, (x,)).module()
    with torch.no_grad():
        torch.testing.assert_close(exported(x), model(x))
        torch.testing.assert_close(model.to(GPU)(x.to(GPU)).cpu(), model.cpu()(x), rtol=0.01, atol=0.01)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_checkpoints_take_the_foretold_bytes(tmp_path, precision):
    config = {**PLAIN, "precision": precision, "ema_decay": 0.5}
    told = describe(Made("images"), config, Fidelity(EPOCHS), GPU).checkpoint_bytes
    save(uninterrupted(Made("images"), config, GPU)[1], LOCAL, str(tmp_path), EPOCHS)
    assert told == sum(file.stat().st_size for file in tmp_path.iterdir())


def test_what_is_watched_repeats_to_the_last_bit():
    draw = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(300_000, 10, generator=draw), torch.randint(0, 10, (300_000,), generator=draw)

    def seen(device: torch.device) -> dict[str, float]:
        watch = Watch(nn.Identity(), True, 64)
        for some in zip(logits.to(device).split(1000), targets.to(device).split(1000), strict=True):
            watch.see(some[0], some)
        return watch.metrics(shared=False)

    first = seen(GPU)
    assert all(seen(GPU) == first for _ in range(5))
    assert first == pytest.approx(seen(CPU), rel=1e-4)


def test_weights_that_break_are_reported_and_the_gpu_goes_on():
    config = {"optimizer": "sgd", "lr": 1e30, "batch_size": TRAIN}
    (report,) = resolve(Made("images"))(config, Session(Fidelity(3), GPU))
    assert not math.isfinite(report.metrics["val/loss"])
    assert torch.ones(3, device=GPU).sum() == 3


def test_the_example_conforms_on_a_gpu():
    others = {"dropout": 0.3, "precision": "bf16"}
    found = list(check(Digits(), {"lr": 1e-3, "dropout": 0.1, "precision": "fp32"}, others, GPU))
    assert [str(one) for one in found if not one.ok] == []
    assert len(found) > 5
