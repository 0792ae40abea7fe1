"""What a slot's worker answers, trial by trial, without Ray: order of epochs, checkpoints, what counts as a failure."""

from __future__ import annotations

import math
import mmap
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from sweeps.slots import Order, Worker
from trainables.contract import Report, Session

CPU = torch.device("cpu")


def worker(tmp_path, trainable, epochs: int, **fields: Any) -> Worker:
    """A worker that has begun a trial of so many epochs."""
    fidelity = {"epochs": epochs, "data_fraction": 1.0, "seed": 0}
    found = Worker(trainable, tmp_path, CPU)
    assert found.answer("start", Order("t", 1, {"lr": 9}, fidelity, **fields))["failure"] is None
    return found


def reporting(*epochs: Any, **metrics: Any):
    """A loop that reports these epochs."""

    def trial(config: dict[str, Any], session: Session) -> Iterator[Report]:
        done = 0
        session.checkpoint_with(lambda: {"epoch": float(done)})
        for epoch in epochs:
            done = epoch
            yield Report(epoch, {"val/loss": 1.0, **metrics})

    return trial


def drawn(found: Worker, report_every: float = 0.0) -> list[dict[str, Any]]:
    """The worker's answers until the trial is done."""
    answers = [found.answer("next", report_every)]
    while not answers[-1]["done"]:
        answers.append(found.answer("next", report_every))
    return answers


def reports(answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All that was reported, in order."""
    return [report for answer in answers for report in answer["reports"]]


@pytest.mark.parametrize(
    ("epochs", "due", "saved"),
    [
        ((1, 2, 3, 4), (), [4]),
        ((1, 2, 3, 4), (1, 3), [1, 3, 4]),
        ((1, 2, 3, 4), (0, 2.5), [3, 4]),
        ((2, 4), (1.0, 3.0), [2, 4]),
    ],
    ids=["the last", "rungs", "a rung between epochs", "a loop that skips them"],
)
def test_a_checkpoint_comes_with_the_first_report_that_reaches_its_epoch(tmp_path, epochs, due, saved):
    told = reports(drawn(worker(tmp_path, reporting(*epochs), 4, checkpoints=due)))
    assert [r["epoch"] for r in told if r["checkpoint"]] == saved
    assert all((tmp_path / r["checkpoint"] / "manifest.json").is_file() for r in told if r["checkpoint"])


def test_reports_travel_together_up_to_a_checkpoint_or_a_rung(tmp_path):
    answers = drawn(worker(tmp_path, reporting(*range(1, 10)), 9, checkpoints=(3, 5)), report_every=60.0)
    assert [[r["epoch"] for r in answer["reports"]] for answer in answers] == [[1, 2, 3], [4, 5], [6, 7, 8, 9]]
    assert [r["epoch"] for r in reports(answers) if r["checkpoint"]] == [3, 5, 9]


def test_a_loop_without_checkpoints_is_judged_at_its_rungs_too(tmp_path):
    def trial(config: dict[str, Any], session: Session) -> Iterator[Report]:
        for epoch in range(1, 6):
            yield Report(epoch, {"val/loss": 1.0})

    answers = drawn(worker(tmp_path, trial, 5, checkpoints=(3,)), report_every=60.0)
    assert [[r["epoch"] for r in answer["reports"]] for answer in answers] == [[1, 2, 3], [4, 5]]


def test_what_was_reported_before_an_exception_is_told_with_it(tmp_path):
    (answer,) = drawn(worker(tmp_path, leaving, 4), report_every=60.0)
    assert [r["epoch"] for r in answer["reports"]] == [1]
    assert answer["failure"]["error"] == "SystemExit"


def test_a_checkpoint_by_time_comes_with_the_first_epoch_that_ends_late_enough(tmp_path):
    def slow(config: dict[str, Any], session: Session) -> Iterator[Report]:
        session.checkpoint_with(lambda: {"epoch": 0.0})
        for epoch in range(1, 7):
            time.sleep(0.05)
            yield Report(epoch, {"val/loss": 1.0})

    told = reports(drawn(worker(tmp_path, slow, 6, checkpoint_s=0.12), report_every=60.0))
    saved = [r["epoch"] for r in told if r["checkpoint"]]
    assert saved[-1] == 6
    assert 2 <= len(saved) <= 3, "every third epoch, or sooner where the machine was slow"
    assert saved[0] <= 3


def test_a_loop_may_end_by_itself(tmp_path):
    last = drawn(worker(tmp_path, reporting(1, 2), 4))[-1]
    assert (last["reports"], last["done"], last["failure"]) == ([], True, None)


def test_a_loop_may_end_by_itself_as_soon_as_it_goes_on(tmp_path):
    pointer = worker(tmp_path, reporting(1, 2), 4, checkpoints=(2,))
    (saved,) = (r["checkpoint"] for r in reports(drawn(pointer)) if r["checkpoint"])
    (last,) = drawn(worker(tmp_path, reporting(), 4, resume=saved))
    assert (last["reports"], last["done"], last["failure"]) == ([], True, None)


def test_a_checkpoint_that_cannot_be_read_is_told_and_the_trial_begins_afresh(tmp_path):
    found = Worker(reporting(1, 2), tmp_path, CPU)
    order = Order("t", 1, {}, {"epochs": 2, "data_fraction": 1.0, "seed": 0}, resume="checkpoints/t/1")
    assert "manifest.json is missing" in found.answer("start", order)["torn"]
    assert [r["epoch"] for r in reports(drawn(found))] == [1, 2]


@pytest.mark.parametrize("epoch", [np.int64(1), torch.tensor(1), True], ids=["numpy", "tensor", "bool"])
def test_whole_numbers_of_any_kind_are_epochs(tmp_path, epoch):
    (answer,) = drawn(worker(tmp_path, reporting(epoch, **{"val/loss": np.float32(0.5)}), 1))
    (report,) = answer["reports"]
    assert (report["epoch"], type(report["epoch"]), answer["failure"]) == (1, int, None)
    assert report["metrics"]["val/loss"] == 0.5


def test_each_report_has_what_its_process_took(tmp_path):
    """And what the trial itself reports under such a name is left as it is."""

    def busy(config, session):
        kept = mmap.mmap(-1, 64 * 2**20)  # not the C library's, which may have as much to give without the kernel
        kept.write(bytes(64 * 2**20))
        until = time.process_time() + 0.2
        while time.process_time() < until:
            pass
        yield Report(1, {"val/loss": 1.0})
        time.sleep(0.2)
        kept.close()
        yield Report(2, {"val/loss": 1.0, "system/cpu_cores": 7.0})
        time.sleep(0.2)
        yield Report(3, {"val/loss": 1.0})

    first, second, third = (report["metrics"] for report in reports(drawn(worker(tmp_path, busy, 3))))
    assert first["system/cpu_cores"] > third["system/cpu_cores"] >= 0
    assert second["system/cpu_cores"] == 7
    assert first["system/memory_mb"] - third["system/memory_mb"] == pytest.approx(64, abs=16)
    assert "system/gpu_memory_mb" not in first


def mapping(config: dict[str, Any], session: Session) -> Iterator[Any]:
    """Yields what is no Report."""
    yield {"val/loss": 1.0}


def silent(config: dict[str, Any], session: Session) -> Iterator[Report]:
    """Reports nothing of an epoch."""
    yield Report(1)


def leaving(config: dict[str, Any], session: Session) -> Iterator[Report]:
    """Ends the process, as it believes."""
    yield Report(1, {"val/loss": 1.0})
    sys.exit(3)


@pytest.mark.parametrize(
    ("trainable", "error", "message"),
    [
        (mapping, "TypeError", "the trial yielded a dict. Yield Report(epoch, {name: value})"),
        (reporting(), "RuntimeError", "without a single Report"),
        (reporting(1, 1), "ValueError", "epoch 1 was reported after epoch 1"),
        (reporting(2, 1), "ValueError", "epoch 1 was reported after epoch 2"),
        (reporting(0.5), "TypeError", "epoch 0.5 was reported. Report whole epochs, from 1"),
        (reporting(1, **{"val/loss": None}), "TypeError", "epoch 1: val/loss is None. Report a number"),
        (reporting(1, **{"val/loss": torch.ones(3)}), "TypeError", "val/loss is tensor([1., 1., 1.])"),
        (silent, "TypeError", "epoch 1 was reported without metrics"),
        (leaving, "SystemExit", "3"),
        (b"no pickle", "UnpicklingError", ""),
    ],
    ids=["no Report", "none", "twice", "backwards", "half", "no value", "three values", "no metrics", "exit", "pickle"],
)
def test_what_a_loop_does_wrong_is_told_as_its_failure(tmp_path, trainable, error, message):
    if isinstance(trainable, bytes):
        order = Order("t", 1, {}, {"epochs": 4, "data_fraction": 1.0, "seed": 0})
        last = Worker(trainable, tmp_path, CPU).answer("start", order)
    else:
        last = drawn(worker(tmp_path, trainable, 4))[-1]
    assert (last["failure"]["kind"], last["failure"]["error"]) == ("error", error)
    assert message in last["failure"]["message"]
    assert last["slot"] == os.getpid()
    assert last["seconds"] >= 0


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        torch.AcceleratorError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
    ids=["torch", "the driver", "cuBLAS", "cuDNN", "the host", "python"],
)
def test_want_of_memory_is_told_whoever_says_it(tmp_path, error):
    def trial(config: dict[str, Any], session: Session) -> Iterator[Report]:
        raise error
        yield

    assert drawn(worker(tmp_path, trial, 2))[-1]["failure"]["kind"] == "memory"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_result_that_is_not_finite_is_a_failure_and_a_gradient_norm_is_not(tmp_path, value):
    (bad,) = drawn(worker(tmp_path, reporting(1, 2, **{"train/loss": value}), 2))
    assert (bad["failure"]["kind"], bad["failure"]["message"]) == ("non_finite", "non-finite train/loss at epoch 1")
    answers = drawn(worker(tmp_path, reporting(1, 2, **{"grad/norm": value}), 2))
    assert [a["failure"] for a in answers] == [None, None]


def test_the_worker_takes_the_next_trial_after_a_failure_and_where_it_began(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def moving(config: dict[str, Any], session: Session) -> Iterator[Report]:
        os.chdir("/")
        raise RuntimeError("lost")
        yield

    found = worker(tmp_path, moving, 2)
    assert drawn(found)[-1]["failure"]["message"] == "lost"
    fidelity = {"epochs": 1, "data_fraction": 1.0, "seed": 0}
    assert found.answer("start", Order("u", 1, {}, fidelity))["failure"] is None
    assert os.getcwd() == str(tmp_path)


def test_a_trial_goes_on_from_the_state_that_was_saved(tmp_path):
    first = worker(tmp_path, reporting(1, 2), 2, checkpoints=(1,))
    pointer = first.answer("next", 0.0)["reports"][0]["checkpoint"]
    second = worker(tmp_path, reporting(2), 2, resume=pointer)
    assert int(second.session.state["epoch"]) == 1


def scheduled(config: dict[str, Any], session: Session) -> Iterator[Report]:
    """A loop whose state is what it was trained with, epoch by epoch."""
    done = list((session.state or {"done": []})["done"])
    session.checkpoint_with(lambda: {"done": list(done)})
    for epoch in range(len(done) + 1, session.fidelity.epochs + 1):
        done.append(config["lr"])
        yield Report(epoch, {"val/loss": sum(rate * 10**-n for n, rate in enumerate(done))})


SCHEDULE = ((0, {"lr": 1}), (2, {"lr": 2}), (3, {"lr": 3}))
ONE_TWO_THREE = 1 + 0.1 + 0.02 + 0.003 + 0.0003


@pytest.mark.parametrize("report_every", [0.0, 60.0])
@pytest.mark.parametrize("resumed", [None, 1, 2, 3])
def test_a_schedule_of_configs_goes_on_from_its_own_state_wherever_it_is_resumed(tmp_path, report_every, resumed):
    whole = worker(tmp_path, scheduled, 5, configs=SCHEDULE, checkpoints=(1,))
    told = reports(drawn(whole, report_every))
    assert told[-1]["metrics"]["val/loss"] == pytest.approx(ONE_TWO_THREE)
    assert [r["epoch"] for r in told if r["checkpoint"]] == [1, 2, 3, 5], "also where the config changes"
    if resumed:
        found = worker(tmp_path, scheduled, 5, configs=SCHEDULE, resume=f"checkpoints/t/{resumed}", told=4)
        again = reports(drawn(found, report_every))
        assert [r["metrics"]["val/loss"] for r in again] == [r["metrics"]["val/loss"] for r in told[resumed:]]


def test_a_schedule_whose_checkpoint_is_torn_begins_afresh_and_changes_where_it_did(tmp_path):
    told = reports(drawn(worker(tmp_path, scheduled, 5, configs=SCHEDULE)))
    (tmp_path / "checkpoints/t/3/manifest.json").write_text("{")
    found = Worker(scheduled, tmp_path, CPU)
    fidelity = {"epochs": 5, "data_fraction": 1.0, "seed": 0}
    order = Order("t", 1, {}, fidelity, resume="checkpoints/t/3", told=4, configs=SCHEDULE)
    assert "torn" in found.answer("start", order)["torn"]
    again = reports(drawn(found))
    assert [r["metrics"]["val/loss"] for r in again] == [r["metrics"]["val/loss"] for r in told]


def test_a_loop_without_checkpoints_cannot_follow_a_schedule(tmp_path):
    def trial(config: dict[str, Any], session: Session) -> Iterator[Report]:
        for epoch in range(1, 6):
            yield Report(epoch, {"val/loss": 1.0})

    answers = drawn(worker(tmp_path, trial, 5, configs=SCHEDULE))
    assert "cannot change after epoch 2" in answers[-1]["failure"]["message"]
    assert "session.checkpoint_with" in answers[-1]["failure"]["message"]


@pytest.mark.parametrize("resume", [None, "checkpoints/other/1"])
def test_what_is_trained_again_leaves_the_checkpoints_of_before_as_they_are(tmp_path, resume):
    """Whoever takes over a state, or begins anew, was something else when it told them: others may load it."""
    for name in ("t", "other"):
        found = Worker(scheduled, tmp_path, CPU)
        found.answer(
            "start", Order(name, 1, {"lr": 1}, {"epochs": 3, "data_fraction": 1.0, "seed": 0}, checkpoints=(1, 2))
        )
        drawn(found)
    before = (tmp_path / "checkpoints/t/2/manifest.json").read_bytes()
    again = worker(tmp_path, scheduled, 3, resume=resume, told=2, checkpoints=(1, 2))
    assert [r["epoch"] for r in reports(drawn(again)) if r["checkpoint"]] == [3]
    assert (tmp_path / "checkpoints/t/2/manifest.json").read_bytes() == before
