"""The conformance suite: what ships passes it, and each check finds its own planted fault."""

from __future__ import annotations

import os
import random

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from sweeps.cli import main
from trainables.checks import check
from trainables.contract import Report
from unit.trainable_helpers import Blobs, Line

NAMES = ["reports", "gradients_everywhere", "honours_the_seed", "resumes", "config_takes_effect", "leaves_no_trace"]
CONFIG = {"batch_size": 16, "dropout": 0.1}


def failing(trainable, config=CONFIG, others=None):
    """The checks that fail, with their messages."""
    return {found.name: found.message for found in check(trainable, config, others) if not found.ok}


@pytest.mark.parametrize("trainable", [Blobs(), Blobs(as_dataset=True), Line()], ids=["arrays", "dataset", "numbers"])
def test_what_is_sound_passes_everything(trainable):
    found = list(check(trainable, CONFIG, {"lr": 0.1}))
    assert [(one.name, one.ok) for one in found] == [(name, True) for name in NAMES]


class ForgetsDropout(Blobs):
    def model(self, config, data):
        return super().model({}, data)


class DeadBranch(Blobs):
    def model(self, config, data):
        model = super().model(config, data)
        model.register_parameter("unused", nn.Parameter(torch.ones(3)))
        return model


class FixedSeed(Blobs):
    def model(self, config, data):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(8, 3))


class HiddenState(Blobs):
    """Its loss drifts with a count that no checkpoint has."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def model(self, config, data):
        self.calls = 0
        return super().model(config, data)

    def loss(self, output, batch):
        self.calls += 1
        return nn.functional.cross_entropy(output, batch[1]) * (1 + self.calls / 100)


class Unseeded(Blobs):
    def model(self, config, data):
        model = super().model(config, data)
        with torch.no_grad():
            model[0].weight += random.SystemRandom().random()
        return model


class Moves(Blobs):
    def data(self, config, fidelity):
        os.environ["MOVED_BY_TRAINABLE"] = str(random.SystemRandom().random())
        return super().data(config, fidelity)


def no_validation(config, session):
    yield Report(1, {"train/loss": 1.0})


def out_of_order(config, session):
    yield Report(2, {"val/loss": 1.0})
    yield Report(1, {"val/loss": 1.0})


def silent(config, session):
    yield from ()


def needs_a_key(config, session):
    yield Report(1, {"val/loss": config["depth"]})


@pytest.mark.parametrize(
    ("trainable", "name", "message"),
    [
        (ForgetsDropout(), "config_takes_effect", "nothing changes with dropout=0.5: a sweep would search it in vain"),
        (DeadBranch(), "gradients_everywhere", "none reaches unused"),
        (HiddenState(), "resumes", "after epoch 1 it went on with"),
        (Unseeded(), "honours_the_seed", "the same seed gave"),
        (Moves(), "leaves_no_trace", "it changed environment variables of the process"),
        (no_validation, "reports", "there is no val/… among train/loss"),
        (out_of_order, "reports", r"the reports are of the epochs \[2, 1\]"),
        (silent, "reports", "ended without a Report"),
        (needs_a_key, "reports", r"KeyError: 'depth' \(.*test_checks.py, line \d+\). A key of the config\?"),
        ("no_such_module:Net", "loads", "no module named 'no_such_module'"),
    ],
)
def test_each_check_finds_its_fault(trainable, name, message):
    found = failing(trainable, others={"dropout": 0.5})
    assert name in found
    import re

    assert re.search(message, found[name]), found[name]


def test_a_seed_that_is_not_used_is_found():
    def alike(config, session):
        for epoch in (1, 2, 3):
            yield Report(epoch, {"val/loss": 1.0 / epoch})

    assert "another seed gave the same numbers" in failing(alike)["honours_the_seed"]


def test_doctor_says_so_and_exits():
    fine = CliRunner().invoke(main, ["doctor", "--trainable", "unit.trainable_helpers:Blobs"])
    assert fine.exit_code == 0, fine.output
    assert fine.output.count("ok   ") == 6
    bad = CliRunner().invoke(main, ["doctor", "--trainable", "no_such_module:Net"])
    assert bad.exit_code == 1
    assert bad.output.startswith("FAIL loads: TrainableError: trainable: cannot import 'no_such_module:Net'")
    neither = CliRunner().invoke(main, ["doctor"])
    assert neither.exit_code == 2
