"""A trial that was interrupted and goes on from its checkpoint is bit-identical to one that never was."""

import importlib.util
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from numerics_helpers import CPU, EPOCHS, GPU, LOCAL, assert_same, curve, interrupted, uninterrupted
from trainables.contract import Data, Fidelity, Session, resolve
from trainables.state import load, save

DEVICES = [pytest.param(CPU, id="cpu"), pytest.param(GPU, id="gpu", marks=pytest.mark.gpu)]


class Noisy(Dataset):
    """Rows with an augmentation that draws from all three generators, as users' data sets do."""

    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)

    def __getitem__(self, row):
        noise = torch.randn(6) + random.gauss(0, 1) + np.random.randn()
        return self.x[row] + 0.1 * noise, self.y[row]


class Images:
    """Small images of two kinds of stripes, and a network with BatchNorm and dropout."""

    def data(self, config, fidelity):
        y = torch.arange(90) % 2
        x = torch.randn(90, 1, 6, 6, generator=torch.Generator().manual_seed(5))
        x[y == 0, :, ::2] += 0.3
        y[::3] = 1  # one class is rarer, and some rows are wrong: validation stalls
        return Data((x[:60], y[:60]), (x[60:], y[60:]))

    def model(self, config, data):
        return nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(), nn.Linear(64, 2)
        )


class Rings:
    """Two rings in six dimensions, and a network with dropout and a norm that keeps running statistics."""

    def __init__(self, as_dataset):
        self.as_dataset = as_dataset

    def data(self, config, fidelity):
        draw = torch.Generator().manual_seed(3)
        y = torch.arange(140) % 2
        x = torch.randn(140, 6, generator=draw)
        x = x / x.norm(dim=1, keepdim=True) * (1 + y[:, None])
        train, val = (x[:100], y[:100]), (x[100:], y[100:])
        return Data(Noisy(*train), Noisy(*val)) if self.as_dataset else Data(train, val)

    def model(self, config, data):
        return nn.Sequential(
            nn.Linear(6, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Dropout(0.3), nn.Linear(24, 24), nn.Linear(24, 2)
        )


def own_loop():
    path = Path(__file__).parents[2] / "sweeps" / "examples" / "own_loop.py"
    spec = importlib.util.spec_from_file_location("own_loop", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.trial


@pytest.mark.parametrize("after", [1, 3])
@pytest.mark.parametrize("as_dataset", [False, True], ids=["arrays", "dataset"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("device", DEVICES)
def test_our_loop_resumes_bit_for_bit(tmp_path, device, optimizer, precision, as_dataset, after):
    config = {
        "optimizer": optimizer,
        "precision": precision,
        "lr": 0.05,
        "momentum": 0.9,
        "nesterov": True,
        "weight_decay": 0.01,
        "batch_size": 16,
        "schedule": "cosine",
        "warmup_fraction": 0.1,
        "clip_norm": 1.0,
        "label_smoothing": 0.05,
    }
    trainable = Rings(as_dataset)
    reports, state = uninterrupted(trainable, config, device)
    again, resumed = interrupted(trainable, config, after, str(tmp_path), device)
    assert curve(again) == curve(reports)
    assert_same(resumed, state)


KNOBS = [
    {"augment": 3, "augment_mixup": 0.4, "augment_cutmix": 0.3},
    {"ema_decay": 0.8},
    {"augment": 2, "ema_decay": 0.9, "prune_rate": 0.5},
    {"schedule": "plateau", "plateau_patience": 0, "plateau_factor": 0.3, "plateau_floor": 0.01},
    {"restore_best": True, "patience": 4},
    {"clip_percentile": 60.0, "accumulate": 3, "l1": 1e-3},
    {"class_weights": "balanced", "prune_rate": 0.9},
    {"freeze_depth": 1, "head_lr": 0.1},
]


@pytest.mark.parametrize("more", KNOBS, ids=lambda more: " ".join(more))
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("device", DEVICES)
def test_whatever_the_loop_has_resumes_bit_for_bit(tmp_path, device, precision, more):
    config = {"precision": precision, "lr": 0.03, "batch_size": 16, "schedule": "cosine", **more}
    reports, state = uninterrupted(Images(), config, device)
    again, resumed = interrupted(Images(), config, 2, str(tmp_path), device)
    assert curve(again) == curve(reports)
    assert_same(resumed, state)
    plain, _ = uninterrupted(Images(), {key: value for key, value in config.items() if key not in more}, device)
    assert curve(plain) != curve(reports), "it had an effect"


def test_the_scale_of_the_gradients_is_part_of_the_state(tmp_path):
    class Steep(Rings):
        def loss(self, output, batch):
            return nn.functional.cross_entropy(output.float(), batch[1]) * 3e4

    config = {"optimizer": "sgd", "lr": 1e-6, "precision": "fp16", "batch_size": 16}
    reports, state = uninterrupted(Steep(False), config)
    again, resumed = interrupted(Steep(False), config, 2, str(tmp_path))
    assert state["scaler"][0] < 65536  # it really was lowered
    assert curve(again) == curve(reports)
    assert_same(resumed, state)


@pytest.mark.parametrize("after", [1, 4])
def test_a_users_own_loop_resumes_bit_for_bit(tmp_path, after):
    reports, state = uninterrupted(own_loop(), {"lr": 1e-3})
    again, resumed = interrupted(own_loop(), {"lr": 1e-3}, after, str(tmp_path))
    assert curve(again) == curve(reports)
    assert_same(resumed, state)


def test_a_state_is_not_changed_by_the_trial_that_goes_on_from_it(tmp_path):
    config = {"optimizer": "adamw", "batch_size": 16}
    _, state = uninterrupted(Rings(False), config)
    save(state, LOCAL, str(tmp_path), epoch=EPOCHS)
    list(resolve(Rings(False))(config, Session(Fidelity(EPOCHS + 2, seed=4), state=state)))
    assert_same(state, load(LOCAL, str(tmp_path)))


def test_a_finished_trial_has_nothing_left_to_do():
    _, state = uninterrupted(Rings(False), {})
    assert list(resolve(Rings(False))({}, Session(Fidelity(EPOCHS), state=state))) == []


def test_going_on_under_a_changed_config_trains_with_the_new_one():
    _, state = uninterrupted(Rings(False), {"optimizer": "sgd", "lr": 0.1})
    changed = {"optimizer": "sgd", "lr": 0.02, "batch_size": 32}
    reports = list(resolve(Rings(False))(changed, Session(Fidelity(EPOCHS + 1), state=state)))
    assert [(r.epoch, r.metrics["hp/lr"]) for r in reports] == [(EPOCHS + 1, 0.02)]
