"""The standard hyperparameters: defaults, the optimizer's own values, and what is refused."""

import numpy as np
import pytest

from trainables.contract import TrainableError
from trainables.hyperparameters import STANDARD, Hyperparameters, resolve


def test_the_table_of_defaults_is_what_an_empty_config_gives():
    assert resolve({}) == Hyperparameters(**STANDARD)
    assert STANDARD["lr"] == 1e-3
    assert STANDARD["optimizer"] == "adamw"


def test_a_value_for_an_optimizer_counts_only_with_it_and_then_wins():
    config = {"lr": 0.1, "sgd.lr": 0.2, "adamw.lr": 0.3, "adam.weight_decay": 0.4}
    assert resolve({**config, "optimizer": "sgd"}).lr == 0.2
    assert resolve(config).lr == 0.3
    assert resolve({**config, "optimizer": "adam"}).lr == 0.1
    assert resolve({**config, "optimizer": "adam"}).weight_decay == 0.4
    assert resolve(config).weight_decay == 0.0


def test_keys_of_the_model_and_of_the_platform_are_not_looked_at():
    assert resolve({"width": "wide", "block.lr": 3, "_trial": "t1"}) == resolve({})


def test_numbers_as_searchers_give_them():
    hyper = resolve({"batch_size": 32.0, "lr": np.float64(0.5), "momentum": 0, "clip_norm": None})
    assert (hyper.batch_size, hyper.lr, hyper.momentum, hyper.clip_norm) == (32, 0.5, 0.0, None)
    assert type(hyper.batch_size) is int
    assert resolve({"batch_size": np.int64(8)}).batch_size == 8


@pytest.mark.parametrize(
    ("name", "known"),
    [("optimizer", "sgd, adam, adamw"), ("schedule", "cosine"), ("precision", "fp32, bf16, fp16")],
)
@pytest.mark.parametrize("value", ["lion", 3, None])
def test_an_unknown_choice_names_the_known_ones(name, known, value):
    with pytest.raises(TrainableError, match=rf"{name} .* is unknown\. Choose one of .*{known}"):
        resolve({name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lr", 0),
        ("lr", -1e-3),
        ("lr", float("nan")),
        ("lr", float("inf")),
        ("batch_size", 0),
        ("batch_size", 2.5),
        ("momentum", 1.0),
        ("beta2", -0.1),
        ("weight_decay", -1e-9),
        ("warmup_fraction", 1.0),
        ("clip_norm", 0.0),
        ("label_smoothing", 1.5),
        ("lr", True),
        ("lr", None),
        ("nesterov", 1),
    ],
)
def test_a_value_out_of_bounds_is_named_with_its_bounds(name, value):
    with pytest.raises(TrainableError, match=rf"config: {name} is .*(must be|Give)"):
        resolve({name: value})


def test_the_message_names_the_key_that_the_user_wrote():
    with pytest.raises(TrainableError, match=r"sgd\.lr is -1\. It must be above 0"):
        resolve({"optimizer": "sgd", "sgd.lr": -1})
    with pytest.raises(TrainableError, match=r"1\.0e-3"):
        resolve({"lr": "1e-3"})


def test_what_would_silently_do_nothing_is_refused():
    with pytest.raises(TrainableError, match=r"'sgd\.width' would be read by nobody"):
        resolve({"sgd.width": 3})
    with pytest.raises(TrainableError, match="nesterov needs momentum"):
        resolve({"optimizer": "sgd", "nesterov": True, "momentum": 0.0})
