"""What is foretold of a trial is what happens."""

import time

import pyarrow.fs
import pytest
import torch
from torch import nn

from trainables.contract import Fidelity, Session
from trainables.footprint import LEAST_STEPS, describe, seconds_per_epoch
from trainables.loop import train
from trainables.state import load, save
from unit.trainable_helpers import Blobs, Line

LOCAL = pyarrow.fs.LocalFileSystem()


def bytes_under(folder):
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("optimizer", [{"optimizer": "sgd"}, {"optimizer": "sgd", "momentum": 0}, {}])
def test_checkpoints_take_exactly_the_foretold_bytes_at_every_epoch_and_after_a_resume(tmp_path, optimizer, precision):
    config = {"batch_size": 32, "precision": precision, **optimizer}
    fidelity = Fidelity(12)
    told = describe(Blobs(), config, fidelity).checkpoint_bytes
    session = Session(fidelity)
    for report in train(Blobs(), config, session):
        save(session.capture(), LOCAL, str(tmp_path / f"{report.epoch}"), report.epoch)
    resumed = Session(fidelity, state=load(LOCAL, str(tmp_path / "9")))
    for report in train(Blobs(), config, resumed):
        save(resumed.capture(), LOCAL, str(tmp_path / f"again-{report.epoch}"), report.epoch)
    sizes = {folder.name: bytes_under(folder) for folder in tmp_path.iterdir()}
    assert len(sizes) == 15
    assert set(sizes.values()) == {told}


def test_the_classes_to_choose_among_are_counted():
    assert describe(Blobs(), {}, Fidelity(1)).classes is None
    assert describe(Blobs(), {"batch_size": 16}, Fidelity(1, classes=2)).classes == 3


def test_a_parameter_that_no_gradient_reaches_has_no_optimizer_state(tmp_path):
    class Idle(Blobs):
        def model(self, config, data):
            model = super().model(config, data)
            model.register_parameter("idle", nn.Parameter(torch.zeros(5000)))
            return model

    session = Session(Fidelity(1))
    list(train(Idle(), {}, session))
    save(session.capture(), LOCAL, str(tmp_path), 1)
    told = describe(Idle(), {}, Fidelity(1))
    assert told.checkpoint_bytes == bytes_under(tmp_path)
    assert told.parameters == describe(Blobs(), {}, Fidelity(1)).parameters + 5000


def test_rows_and_parameters_are_counted_at_the_fidelity():
    told = describe(Blobs(), {"batch_size": 8}, Fidelity(1, data_fraction=0.5))
    assert (told.train_rows, told.val_rows, told.test_rows) == (45, 30, 30)
    assert told.parameters == 8 * 16 + 16 + 2 * 16 + 16 * 3 + 3
    assert describe(Line(), {}, Fidelity(1)).test_rows == 0


class Slow(Blobs):
    """Ten milliseconds a forward pass, counted in training and in evaluation."""

    def model(self, config, data):
        self.passes = {True: 0, False: 0}
        model = super().model(config, data)
        model.register_forward_pre_hook(self.wait)
        return model

    def wait(self, module, _):
        self.passes[module.training] += 1
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("train", "val", "passes", "fewest"),
    # Steps of 2 rows, evaluation batches of 8; the first step and the first batches are taken twice.
    [
        (120, 2, {True: 1 + 60, False: 1 + 1}, {True: 1 + LEAST_STEPS, False: 1 + 1}),
        (4, 480, {True: 1 + 2, False: 1 + 1 + 60}, {True: 1 + 2, False: 1 + 1}),
    ],
    ids=["training", "evaluation"],
)
def test_an_epoch_within_the_limit_is_timed_whole_and_a_long_one_is_extrapolated(train, val, passes, fewest):
    config, fidelity = {"batch_size": 2}, Fidelity(1)
    whole, cut = Slow(train=train, val=val), Slow(train=train, val=val)
    full_seconds = seconds_per_epoch(whole, config, fidelity, limit_s=60)
    cut_seconds = seconds_per_epoch(cut, config, fidelity, limit_s=1e-9)
    assert whole.passes == passes
    assert cut.passes == fewest
    assert full_seconds >= 0.6  # sixty passes
    # One pass stands for sixty: a forgotten factor would leave less than a tenth.
    assert full_seconds / 5 < cut_seconds < full_seconds * 5


def test_a_step_that_waited_for_the_machine_does_not_stand_for_all():
    class Stalled(Slow):
        """A second lost over the second step, which is the first that counts."""

        def wait(self, module, _):
            super().wait(module, _)
            time.sleep(1.0 if self.passes[True] == 2 and module.training else 0)

    seconds = seconds_per_epoch(Stalled(train=2000, val=2), {"batch_size": 2}, Fidelity(1), limit_s=0.2)
    assert 10 <= seconds < 100, "a thousand steps of 10 ms, not of a second"
