"""The trainables that ship, and the two of a user's own: they learn."""

import importlib.util
import inspect
from pathlib import Path

import pytest
import torch
from torch import nn

from trainables.contract import Fidelity, Session, TrainableError, resolve
from trainables.examples.digits import Digits
from trainables.models.cnn import Cnn
from trainables.models.layers import ACTIVATIONS, NORMS

EXAMPLES = Path(__file__).parents[2] / "sweeps" / "examples"


def own(name):
    """A user's file, imported from where it lies and without the platform around it."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_digits_are_learned_in_a_few_epochs():
    config = {"lr": 1e-2, "width": 16, "schedule": "cosine"}
    reports = list(resolve(Digits)(config, Session(Fidelity(7))))
    assert reports[-1].metrics["val/accuracy"] > 0.9
    assert reports[-1].metrics["train/accuracy"] > 0.9


def test_digits_are_split_60_20_20_with_every_class_in_its_share_and_no_row_twice():
    data = Digits().data({}, Fidelity(1))
    assert [len(split[1]) for split in (data.train, data.val, data.test)] == [1078, 359, 360]
    x = torch.cat([split[0] for split in (data.train, data.val, data.test)])
    assert x.shape == (1797, 1, 8, 8)
    assert x.dtype == torch.float32
    assert (x.min().item(), x.max().item()) == (0, 1)
    shares = [split[1].bincount() / len(split[1]) for split in (data.train, data.val, data.test)]
    assert torch.allclose(shares[0], shares[1], atol=0.01)
    assert torch.allclose(shares[0], shares[2], atol=0.01)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("norm", NORMS)
def test_every_kind_of_cnn_gives_finite_logits_and_gradients_everywhere(activation, norm):
    torch.manual_seed(0)
    model = Cnn(3, 7, width=12, depth=3, activation=activation, norm=norm, dropout=0.5)
    logits = model(torch.rand(5, 3, 8, 8))
    assert logits.shape == (5, 7)
    logits.square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_a_block_passes_its_input_on_beside_its_convolutions():
    block = Cnn(1, 10, width=4, depth=1, norm="none").blocks[0]
    for parameter in block.parameters():
        nn.init.zeros_(parameter)
    features = torch.rand(2, 4, 8, 8)
    assert torch.equal(block(features), features)


def test_width_depth_and_dropout_are_what_they_say():
    def size(**config):
        return sum(p.numel() for p in Cnn(1, 10, **config).parameters())

    assert size(width=8, depth=0) == 8 * 9 + 16 + 8 * 10 + 10
    assert size(width=8, depth=3) - size(width=8, depth=2) == 2 * (8 * 8 * 9 + 16)
    torch.manual_seed(0)
    model, images = Cnn(1, 10, dropout=0.5), torch.rand(4, 1, 8, 8)
    assert not torch.equal(model(images), model(images))
    assert torch.equal(model.eval()(images), model(images))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"activation": "tanh"}, "activation 'tanh' is unknown. Choose relu"),
        ({"norm": "instance"}, "norm 'instance' is unknown. Choose batch"),
        ({"width": 0}, "width 0"),
        ({"dropout": 1.0}, "dropout 1.0"),
    ],
)
def test_a_cnn_that_cannot_be_is_refused(config, message):
    with pytest.raises(TrainableError, match=message):
        Digits().model(config, None)


def test_a_users_own_module_and_dataset_learn():
    module = own("own_module")
    reports = list(resolve(module.TumourNet)({"lr": 1e-2}, Session(Fidelity(4))))
    assert reports[-1].metrics["val/accuracy"] > 0.9
    assert len((EXAMPLES / "own_module.py").read_text().splitlines()) <= 30


def test_a_users_own_loop_learns_and_honours_the_fidelity():
    module = own("own_loop")
    reports = list(resolve(module.trial)({"lr": 1e-3}, Session(Fidelity(20))))
    assert [report.epoch for report in reports] == list(range(1, 21))
    assert reports[-1].metrics["val/loss"] < 0.5 < reports[0].metrics["val/loss"]
    less = list(resolve(module.trial)({"lr": 1e-3}, Session(Fidelity(1, data_fraction=0.1))))
    assert less[0].metrics["val/loss"] != reports[0].metrics["val/loss"]
    assert len(inspect.getsource(module.trial).splitlines()) <= 21
