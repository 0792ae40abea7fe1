"""Another training's weights to begin with: what fits, what is frozen, what has a rate of its own."""

from __future__ import annotations

import pyarrow.fs
import pytest
import torch
from torch import nn

from trainables import state, warm_start
from trainables.contract import Fidelity, Session, TrainableError
from trainables.loop import train
from unit.trainable_helpers import Blobs

LOCAL = pyarrow.fs.LocalFileSystem()


def run(trainable, config, epochs=1, where=None):
    """Train; the state at the end, saved where one says."""
    session = Session(Fidelity(epochs))
    list(train(trainable, {"batch_size": 16, "lr": 0.02, **config}, session))
    captured = session.capture()
    if where is not None:
        state.save(captured, LOCAL, str(where), epochs)
    return captured


class OtherHead(Blobs):
    """Blobs with five classes to tell."""

    def model(self, config, data):
        model = super().model(config, data)
        model[-1] = nn.Linear(16, 5)
        return model


class OtherNetwork(Blobs):
    def model(self, config, data):
        return nn.Sequential(nn.Linear(8, 7), nn.Linear(7, 3))


def test_a_training_begins_with_the_weights_of_another(tmp_path):
    before = run(Blobs(), {}, epochs=3, where=tmp_path / "a")
    begun = run(Blobs(), {"warm_start": str(tmp_path / "a"), "lr": 1e-12})
    cold = run(Blobs(), {"lr": 1e-12})
    for name in ("0.weight", "4.weight"):
        assert torch.allclose(begun["model"][name], before["model"][name], atol=1e-6)
        assert not torch.allclose(cold["model"][name], before["model"][name], atol=1e-3)


def test_of_a_training_with_an_average_that_is_taken(tmp_path):
    before = run(Blobs(), {"ema_decay": 0.9}, epochs=2, where=tmp_path / "a")
    begun = run(Blobs(), {"warm_start": f"file://{tmp_path}/a", "lr": 1e-12})
    assert torch.allclose(begun["model"]["0.weight"], before["average"]["module.0.weight"], atol=1e-6)
    assert not torch.allclose(begun["model"]["0.weight"], before["model"]["0.weight"], atol=1e-5)


def test_a_head_that_does_not_fit_begins_afresh_and_is_named(tmp_path, capsys):
    before = run(Blobs(), {}, epochs=2, where=tmp_path / "a")
    begun = run(OtherHead(), {"warm_start": str(tmp_path / "a"), "lr": 1e-12})
    assert torch.allclose(begun["model"]["0.weight"], before["model"]["0.weight"], atol=1e-6)
    assert "warm start: 7 of 9 tensors (of another shape: 4.weight, 4.bias)" in capsys.readouterr().out


def test_what_is_missing_and_what_is_too_much_is_named():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    told = warm_start.begin(model, {"0.weight": torch.ones(2, 2), "9.weight": torch.ones(1)})
    assert told == ("warm start: 1 of 4 tensors (missing there: 0.bias, 1.weight, 1.bias; not in this model: 9.weight)")
    assert bool((model[0].weight == 1).all())


@pytest.mark.parametrize("depth", [1, 2])
def test_frozen_parts_keep_their_weights(tmp_path, depth):
    before = run(Blobs(), {}, epochs=2, where=tmp_path / "a")
    after = run(Blobs(), {"warm_start": str(tmp_path / "a"), "freeze_depth": depth, "lr": 0.1}, epochs=2)
    parts = ["0.weight", "1.weight", "4.weight"]
    for place, name in enumerate(parts):
        assert torch.equal(after["model"][name], before["model"][name]) is (place < depth), name


def test_the_head_has_a_rate_of_its_own():
    config = {"optimizer": "sgd", "momentum": 0.0, "lr": 1e-12, "head_lr": 0.1}
    begun, after = run(Blobs(), {"lr": 1e-12, "optimizer": "sgd"}), run(Blobs(), config)
    moved = {name: float((after["model"][name] - begun["model"][name]).abs().max()) for name in begun["model"]}
    assert moved["0.weight"] < 1e-9
    assert moved["4.weight"] > 1e-3
    assert moved["4.bias"] > 1e-3
    same = run(Blobs(), {"optimizer": "sgd", "lr": 0.1, "head_lr": 0.1})
    plain = run(Blobs(), {"optimizer": "sgd", "lr": 0.1})
    assert all(torch.equal(same["model"][name], plain["model"][name]) for name in plain["model"])


def test_the_parts_of_a_network_are_its_layers_with_weights_in_order():
    from trainables.models.cnn import Cnn

    names = [type(part).__name__ for part in warm_start.parts_of(Cnn(1, 10, depth=2))]
    assert names == ["Conv2d", "BatchNorm2d", "Residual", "Residual", "Linear"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"warm_start": "/nowhere/at/all"}, r"warm_start: checkpoint /nowhere/at/all: manifest.json is missing"),
        ({"warm_start": "nowhere://a/b"}, r"warm_start: .*Give the folder of a checkpoint"),
        ({"warm_start": 3}, r"warm_start is 3\. Give the path or URI"),
        ({"freeze_depth": 3}, r"freeze_depth is 3, and Sequential has 3 parts with weights\. Give at most 2"),
        ({"head_lr": 0.0}, r"head_lr is 0\.0\. It must be above 0"),
    ],
)
def test_what_cannot_be_begun_with_is_told(config, message):
    with pytest.raises(TrainableError, match=message):
        run(Blobs(), config)


def test_the_weights_of_another_network_are_refused(tmp_path):
    run(OtherNetwork(), {}, where=tmp_path / "a")
    state.save({"epoch": torch.tensor(1)}, LOCAL, str(tmp_path / "b"), 1)
    with pytest.raises(TrainableError, match=r"no weight fits Sequential: it has 0\.weight.* the checkpoint has"):
        run(Blobs(), {"warm_start": str(tmp_path / "a")})
    with pytest.raises(TrainableError, match="holds no weights, only epoch"):
        run(Blobs(), {"warm_start": str(tmp_path / "b")})
