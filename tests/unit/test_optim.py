"""Optimizers do what their hyperparameters say, and their state goes to another without aliasing."""

import copy

import pytest
import torch
from torch import nn

from trainables import optim
from trainables.contract import TrainableError
from trainables.hyperparameters import resolve

KINDS = ["sgd", "adam", "adamw"]


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))


def steps(model, optimizer, count=3):
    for number in range(count):
        x = torch.randn(5, 3, generator=torch.Generator().manual_seed(number))
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("kind", KINDS)
def test_weight_decay_shrinks_matrices_and_leaves_norms_and_biases(kind):
    model = network()
    before = copy.deepcopy(model.state_dict())
    optimizer = optim.build(model, resolve({"optimizer": kind, "lr": 0.1, "weight_decay": 0.5}))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, value in model.state_dict().items():
        if value.ndim > 1:
            assert value.norm() < before[name].norm(), name
        else:
            assert torch.equal(value, before[name]), name


@pytest.mark.parametrize(
    ("config", "plain"),
    [
        ({"optimizer": "sgd", "momentum": 0.5}, lambda p: torch.optim.SGD(p, 0.01, momentum=0.5)),
        (
            {"optimizer": "sgd", "momentum": 0.5, "nesterov": True},
            lambda p: torch.optim.SGD(p, 0.01, momentum=0.5, nesterov=True),
        ),
        ({"optimizer": "sgd", "momentum": 0}, lambda p: torch.optim.SGD(p, 0.01)),
        ({"optimizer": "adam", "beta2": 0.9}, lambda p: torch.optim.Adam(p, 0.01, betas=(0.9, 0.9))),
        ({"optimizer": "adamw"}, lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0)),
    ],
)
def test_the_steps_are_those_of_torchs_plain_optimizer(config, plain):
    ours, theirs = network(), network()
    steps(ours, optim.build(ours, resolve({"lr": 0.01, **config})))
    steps(theirs, plain(theirs.parameters()))
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(mine, other, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_restored_optimizer_goes_on_and_never_writes_into_what_it_was_given(kind):
    donor = network()
    optimizer = optim.build(donor, resolve({"optimizer": kind}))
    steps(donor, optimizer)
    saved = copy.deepcopy(optim.capture(optimizer))
    kept = copy.deepcopy(saved)
    heir = copy.deepcopy(donor)
    other = optim.build(heir, resolve({"optimizer": kind}))
    optim.restore(other, saved)
    steps(donor, optimizer)
    steps(heir, other)
    for mine, its in zip(donor.parameters(), heir.parameters(), strict=True):
        assert torch.equal(mine, its)
    for index, moments in kept["state"].items():
        for name, value in moments.items():
            assert torch.equal(value, saved["state"][index][name]), (index, name)


def test_a_restored_optimizer_keeps_the_hyperparameters_of_its_own_config():
    donor = network()
    optimizer = optim.build(donor, resolve({"optimizer": "sgd", "momentum": 0.9, "weight_decay": 0.1}))
    steps(donor, optimizer)
    heir = optim.build(network(), resolve({"optimizer": "sgd", "momentum": 0.5, "weight_decay": 0.2}))
    optim.restore(heir, optim.capture(optimizer))
    assert [group["momentum"] for group in heir.param_groups] == [0.5, 0.5]
    assert [group["weight_decay"] for group in heir.param_groups] == [0.2, 0.0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_first_step_that_overflows_in_fp16_leaves_no_trace(kind):
    junk = [torch.full_like(p, torch.nan) for p in network().parameters() for _ in range(50)]
    del junk  # memory that is used again uninitialised now holds nan
    skipped, plain = network(), network()
    config = resolve({"optimizer": kind, "precision": "fp16", "lr": 0.01})
    optimizer, scaler = optim.build(skipped, config), torch.amp.GradScaler("cpu")
    for parameter in skipped.parameters():
        parameter.grad = torch.full_like(parameter, torch.inf)
    scaler.scale(torch.ones(()))
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() < 65536
    steps(skipped, optimizer)
    steps(plain, optim.build(plain, config))
    for mine, other in zip(skipped.parameters(), plain.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_another_optimizers_state_is_refused():
    donor = optim.build(network(), resolve({"optimizer": "adam"}))
    heir = optim.build(network(), resolve({"optimizer": "sgd"}))
    with pytest.raises(TrainableError, match=r"optimizer is sgd, but the state .* was saved by adam"):
        optim.restore(heir, optim.capture(donor))


def test_a_model_with_nothing_to_train_is_refused():
    with pytest.raises(TrainableError, match="no parameter that requires a gradient"):
        optim.build(nn.ReLU(), resolve({}))
