"""Planning without Ray: what is foretold of the shipped specs, and what is said when a trainable raises."""

from __future__ import annotations

import math
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from sweeps.cli import main
from sweeps.errors import PlanError, SpecError, UsageError
from sweeps.foresight import foresee
from sweeps.plan import UNKNOWN, baseline_of
from sweeps.spec import SweepSpec, read_spec
from sweeps.sweep import Sweep
from trainables.contract import Fidelity
from trainables.examples.digits import Digits
from trainables.footprint import describe
from trainables.hyperparameters import STANDARD
from unit.trainable_helpers import Blobs

EXAMPLES = Path(__file__).parents[2] / "sweeps" / "examples"


def spec_of(tmp_path, trainable=Blobs, **fields):
    """A spec of one small trainable, its sweeps kept where there are none yet."""
    given = {"space": {"lr": {"log": [1e-4, 1e-1]}}, "storage": str(tmp_path / "runs"), **fields}
    return SweepSpec.model_validate({"trainable": trainable, **given})


def test_the_demos_checkpoints_are_foretold_to_the_byte(tmp_path):
    spec = read_spec(EXAMPLES / "digits.yaml", {"storage": str(tmp_path)})
    plan = foresee(spec)
    explore = spec.with_trials[0]
    told = describe(Digits(), baseline_of(spec, STANDARD), Fidelity(explore.epochs, explore.data_fraction, spec.seed))
    assert plan.footprint == asdict(told)
    assert told.train_rows == 539  # half of the training rows, as in explore
    for phase in plan.phases:
        assert phase.checkpoint_bytes == phase.checkpoints * told.checkpoint_bytes
    assert plan.phases[0].concurrency == len(os.sched_getaffinity(0))
    assert (plan.seconds_per_epoch, plan.basis, plan.total_s) == (None, UNKNOWN, None)
    assert list(tmp_path.iterdir()) == []


def test_a_measured_plan_takes_about_as_long_as_it_may(tmp_path):
    spec = spec_of(tmp_path, Slow)
    began = time.perf_counter()
    plan = foresee(spec, measure_s=1.0)
    took = time.perf_counter() - began
    assert took < 20, "a whole epoch takes 50 s and more"
    assert 50 < plan.seconds_per_epoch < 500
    assert plan.basis == "measured on the baseline, now"
    assert plan.total_s == pytest.approx(sum(phase.seconds for phase in plan.phases))


class Slow(Blobs):
    """Trains 5000 batches of 0.01 s an epoch."""

    def __init__(self):
        super().__init__(train=5000 * 64)

    def model(self, config, data):
        return nn.Sequential(Wait(), super().model(config, data))


class Wait(nn.Module):
    """Takes its time in training only."""

    def forward(self, x):
        if self.training:
            time.sleep(0.01)
        return x


def test_the_time_of_an_earlier_sweep_is_taken_over(tmp_path, recorded_sweep):
    spec = spec_of(tmp_path, "trainables.examples.digits:Digits", storage=str(recorded_sweep.parent))
    plan = foresee(spec)
    assert plan.basis == f"as in {recorded_sweep.name}"
    assert 0.4 < plan.seconds_per_epoch < 0.8


def test_a_loop_of_ones_own_has_no_footprint(tmp_path):
    spec = read_spec(EXAMPLES / "own_loop.yaml", {"storage": str(tmp_path)})
    plan = foresee(spec)
    assert plan.footprint == {}
    assert {phase.checkpoint_bytes for phase in plan.phases} == {None}
    assert plan.basis == UNKNOWN
    measured = foresee(spec, measure_s=1.0)
    assert measured.basis.startswith("unknown until measured by a run")
    assert measured.seconds_per_epoch is None


class Enough(Blobs):
    """Rows for the default batch."""

    def __init__(self):
        super().__init__(train=300)


class RaisesInData(Enough):
    def data(self, config, fidelity):
        raise FileNotFoundError("no digits here")  # in data


class RaisesInModel(Enough):
    def model(self, config, data):
        return nn.Linear(8, config["width"] / 0)  # in model


class RaisesInTorch(Enough):
    def model(self, config, data):
        return nn.Linear(8, -3)  # in torch


@pytest.mark.parametrize(
    ("trainable", "message", "mark"),
    [
        (RaisesInData, "FileNotFoundError: no digits here", "# in data"),
        (RaisesInModel, "ZeroDivisionError: ", "# in model"),
        (RaisesInTorch, "RuntimeError: Trying to create tensor with negative dimension -3", "# in torch"),
    ],
)
def test_a_trainable_that_raises_is_named_with_file_and_line(tmp_path, trainable, message, mark):
    spec = spec_of(tmp_path, trainable, space={"lr": {"log": [1e-4, 1e-1]}, "width": {"int": [1, 3]}})
    lines = Path(__file__).read_text().splitlines()
    number = next(n for n, line in enumerate(lines, 1) if line.endswith(mark))
    with pytest.raises(UsageError) as raised:
        foresee(spec)
    text = str(raised.value)
    assert text.startswith(f"trainable: {__name__}:{trainable.__name__} with the baseline config raised {message}")
    assert text.endswith(f"\n  in {__file__}, line {number}.")


def test_what_we_refuse_ourselves_is_said_as_it_is(tmp_path):
    with pytest.raises(SpecError) as refused:
        foresee(spec_of(tmp_path, space={"lr": None, "batch_size": {"powers_of_two": [4, 64]}}))
    assert str(refused.value).startswith(
        "space.batch_size: a batch of 64 is larger than the 45 training rows at data_fraction 0.5\n"
    )
    with pytest.raises(PlanError, match="a trial takes 4000 CPUs"):
        foresee(spec_of(tmp_path, "absent:Thing", resources={"cpus_per_worker": 4000}))
    with pytest.raises(UsageError, match="no module named 'absent'"):
        foresee(spec_of(tmp_path, "absent:Thing"))
    with pytest.raises(UsageError, match="neither a generator function"):
        foresee(spec_of(tmp_path, "pathlib:Path"))
    with pytest.raises(UsageError, match="optimizer 'lion' is unknown"):
        foresee(spec_of(tmp_path, space={"lr": None, "optimizer": "lion"}))


def test_the_command_measures_and_prints_the_time(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))  # the command line puts the current folder on it
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    file = tmp_path / "small.yaml"
    file.write_text("trainable: unit.trainable_helpers:Blobs\nspace: {lr: {log: [1e-4, 1e-1]}, batch_size: 16}\n")
    plain = CliRunner().invoke(main, ["plan", str(file), "--storage", str(tmp_path / "runs")])
    assert (plain.exit_code, plain.stderr) == (0, "")
    assert "time: unknown until measured" in plain.stdout
    measured = CliRunner().invoke(main, ["plan", str(file), "--measure", "--storage", str(tmp_path / "runs")])
    assert (measured.exit_code, measured.stderr) == (0, "")
    (time_line,) = (line for line in measured.stdout.splitlines() if line.startswith("time:"))
    assert time_line.startswith("time: about ")
    assert time_line.endswith(" s a full epoch (measured on the baseline, now)")
    assert "unknown" not in measured.stdout
    assert sorted(p.name for p in tmp_path.iterdir()) == ["small.yaml"]


def test_a_quick_sweep_is_as_long_as_the_hours_allow(tmp_path, monkeypatch):
    monkeypatch.setattr("sweeps.sweep.MEASURE_S", 1.0)
    fields = {"space": {"lr": {"log": [1e-4, 1e-1]}}, "storage": str(tmp_path)}
    before = torch.get_num_threads()
    sweep = Sweep.quick(Slow, hours=8, **fields)
    assert torch.get_num_threads() == before
    assert sweep.spec.budget.hours == 8
    assert 3 < sweep.spec.with_trials[1].epochs < 81, "an epoch takes a minute or more"
    with pytest.raises(PlanError, match=r"Give hours=[\d.e+]+ or more"):
        Sweep.quick(Slow, hours=0.01, **fields)
    given = Sweep.quick(Slow, hours=0.01, phases=[{"kind": "explore", "trials": 2}], **fields)
    assert (given.spec.budget.hours, len(given.spec.phases)) == (0.01, 1)
    own = Sweep.quick("toys:trial", hours=0.01, **fields)
    assert own.spec.phases == spec_of(tmp_path).phases, "no epoch of it can be measured without running it"
    for hours in (-1, "0.5", None, math.nan):
        with pytest.raises(UsageError, match=f"hours: {hours!r} is not a number above 0"):
            Sweep.quick(Slow, hours=hours, **fields)
    assert list(tmp_path.iterdir()) == []
