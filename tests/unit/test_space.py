"""The search space: the ways to write it, conditions, configs at points of the cube, and its round trip."""

from __future__ import annotations

import itertools
import random

import pytest

from sweeps.errors import SpecError
from sweeps.space import PLAYBOOK, Choice, Constant, Float, Int, PowersOfTwo, Space

TREE = Space(
    {
        "sgd.momentum": None,
        "lr": {"log": [1e-4, 1e-1]},
        "optimizer": ["sgd", "adamw", "rmsprop"],
        "adamw.beta2": None,
        "nesterov": {"choice": [True, False], "when": {"optimizer": "sgd"}},
        "damping": {"float": [0.0, 1.0], "when": {"optimizer": ["sgd", "rmsprop"], "nesterov": False}},
        "layers": {"int": [1, 4]},
        "epsilon": 1e-8,
    }
)


def points(dimensions: int, count: int = 300) -> list[list[float]]:
    """Points of the unit cube, the same in every run."""
    draw = random.Random(0)
    return [[draw.random() for _ in range(dimensions)] for _ in range(count)]


@pytest.mark.parametrize(
    ("written", "domain"),
    [
        ({"float": [0.0, 0.2]}, Float(range=(0.0, 0.2))),
        ({"float": [0, 1], "step": 0.25}, Float(range=(0.0, 1.0), step=0.25)),
        ({"log": [1e-5, 1e-1]}, Float(range=(1e-5, 1e-1), scale="log")),
        ({"log": [1e-6, 1e-1], "or_zero": True}, Float(range=(1e-6, 1e-1), scale="log", or_zero=True)),
        ({"float": [0.8, 0.999], "scale": "one_minus"}, Float(range=(0.8, 0.999), scale="one_minus")),
        ({"int": [1, 8]}, Int(range=(1, 8))),
        ({"int": [8, 512], "scale": "log"}, Int(range=(8, 512), scale="log")),
        ({"powers_of_two": [16, 128]}, PowersOfTwo(range=(16, 128))),
        (["sgd", "adamw"], Choice(choice=("sgd", "adamw"))),
        (("sgd", "adamw"), Choice(choice=("sgd", "adamw"))),
        ({"choice": ["sgd", None]}, Choice(choice=("sgd", None))),
        (0.1, Constant(constant=0.1)),
        ("relu", Constant(constant="relu")),
        ({"constant": [3, 3]}, Constant(constant=[3, 3])),
        (Int(range=(1, 8)), Int(range=(1, 8))),
    ],
    ids=str,
)
def test_a_domain_may_be_written_like_this(written, domain):
    assert Space({"x": written})["x"] == domain


def test_a_name_alone_takes_the_playbooks_range_and_says_so():
    space = Space(dict.fromkeys(PLAYBOOK))
    assert {name: space[name] for name in space} == PLAYBOOK
    assert all(space[name].source.startswith("playbook: ") for name in space)


def test_a_dotted_name_takes_the_playbooks_range_of_its_last_part():
    assert TREE["sgd.momentum"] == PLAYBOOK["momentum"].model_copy(update={"when": {"optimizer": ("sgd",)}})


def test_the_playbooks_range_may_be_put_under_a_condition():
    space = Space({"optimizer": ["sgd", "adamw"], "momentum": {"when": {"optimizer": "sgd"}}})
    assert space["momentum"].span == PLAYBOOK["momentum"].span
    assert space["momentum"].when == {"optimizer": ("sgd",)}


def test_a_range_of_ones_own_claims_no_source():
    assert Space({"lr": {"log": [1e-4, 1e-1]}})["lr"].source == ""


def test_parents_come_before_what_depends_on_them():
    names = list(TREE)
    for name in names:
        assert all(names.index(parent) < names.index(name) for parent in TREE[name].when)
    assert names.index("lr") < names.index("layers")


def test_a_parameter_exists_only_where_its_condition_holds():
    seen = set()
    for point in points(len(TREE.searched)):
        config = TREE.decode(point)
        optimizer = config["optimizer"]
        assert ("sgd.momentum" in config) == (optimizer == "sgd")
        assert ("adamw.beta2" in config) == (optimizer == "adamw")
        assert ("nesterov" in config) == (optimizer == "sgd")
        assert ("damping" in config) == (optimizer == "sgd" and config["nesterov"] is False)
        assert config["epsilon"] == 1e-8
        seen.add(optimizer)
    assert seen == {"sgd", "adamw", "rmsprop"}


def test_a_config_comes_back_from_its_coordinates():
    for point in points(len(TREE.searched)):
        config = TREE.decode(point)
        coordinates = TREE.encode(config)
        assert coordinates is not None
        assert coordinates.keys() == config.keys() - {"epsilon"}
        again = TREE.decode(coordinates)
        assert again.keys() == config.keys()
        for name, value in config.items():
            assert again[name] == (pytest.approx(value, rel=1e-12) if isinstance(value, float) else value)


def test_a_config_outside_the_space_or_lacking_a_value_has_no_coordinates():
    inside = {"optimizer": "adamw", "lr": 1e-3, "adamw.beta2": 0.95, "layers": 2}
    assert TREE.encode(inside)
    assert TREE.encode({**inside, "lr": 1.0}) is None
    assert TREE.encode({**inside, "optimizer": "lion"}) is None
    assert TREE.encode({name: value for name, value in inside.items() if name != "lr"}) is None


def test_a_point_has_one_coordinate_for_each_searched_parameter():
    assert "epsilon" not in TREE.searched
    with pytest.raises(ValueError, match=r"shorter|longer"):
        TREE.decode([0.5])


def test_a_grid_has_every_combination_that_exists_once():
    configs = TREE.grid(2)
    texts = [repr(sorted(config.items())) for config in configs]
    assert len(set(texts)) == len(texts)
    sgd, adamw, rmsprop = 2 * (1 + 2), 2, 1  # momentum × (nesterov, or not with 2 dampings); beta2; nothing of its own
    assert len(configs) == 2 * 2 * (sgd + adamw + rmsprop)
    assert all(TREE.encode(config) is not None for config in configs)


def test_a_grid_without_conditions_is_the_product():
    space = Space({"a": {"float": [0, 1]}, "b": {"int": [1, 2]}, "c": ["x", "y", "z"]})
    assert [tuple(c.values()) for c in space.grid(3)] == list(
        itertools.product([0.0, 0.5, 1.0], [1, 2], ["x", "y", "z"])
    )


def test_a_space_is_the_same_after_json():
    document = TREE.model_dump(mode="json", by_alias=True)
    assert Space.model_validate(document) == TREE
    assert Space.model_validate_json(TREE.model_dump_json(by_alias=True)) == TREE
    assert list(Space.model_validate(document)) == list(TREE)


def test_a_space_behaves_like_a_mapping_that_cannot_change():
    assert "lr" in TREE
    assert "momentum" not in TREE
    assert len(TREE) == 8
    with pytest.raises(ValueError, match="frozen"):
        TREE.root = {}


def test_replace_drops_what_can_no_longer_exist_and_what_depends_on_that():
    space = TREE.replace({"optimizer": Choice(choice=("adamw", "rmsprop"))})
    assert list(space) == [n for n in TREE if n not in ("sgd.momentum", "nesterov", "damping")]


def test_replace_keeps_a_condition_of_which_one_value_is_left():
    space = Space(
        {"optimizer": ["sgd", "adamw", "rmsprop"], "x": {"float": [0, 1], "when": {"optimizer": ["adamw", "rmsprop"]}}}
    ).replace({"optimizer": Choice(choice=("sgd", "adamw"))})
    assert space.active("x", {"optimizer": "adamw"})
    assert not space.active("x", {"optimizer": "sgd"})
    assert Space.model_validate(space.model_dump(mode="json", by_alias=True)) == space


def test_replace_with_a_constant_keeps_what_depends_on_that_value():
    space = TREE.replace({"optimizer": Constant(constant="adamw")})
    assert "adamw.beta2" in space.decode([0.5] * len(space.searched))
    assert "sgd.momentum" not in space


BAD = {
    "nothing": ({}, "space", "names no parameter", "log"),
    "no mapping": (["lr"], "space", "names no parameter", "log"),
    "unknown to the playbook": ({"momentun": None}, "space.momentun", "playbook has none", "momentum"),
    "no kind": ({"x": {"low": 0, "high": 1}}, "space.x", "no kind", "float, log, int"),
    "two kinds": ({"x": {"float": [0, 1], "int": [0, 1]}}, "space.x", "more than one kind", "exactly one"),
    "unknown option": ({"x": {"float": [0, 1], "stepp": 0.1}}, "space.x.stepp", "unknown key", "step"),
    "foreign option": ({"x": {"choice": ["a", "b"], "or_zero": True}}, "space.x.or_zero", "unknown key", "choice"),
    "no number": ({"x": {"float": ["a", 1]}}, "space.x.float", "['a', 1] is not a pair of numbers", "[low, high]"),
    "one end": ({"x": {"int": [1]}}, "space.x.int", "[1] is not a pair of whole numbers", "[low, high]"),
    "low above high": ({"x": {"float": [1, 0]}}, "space.x", "above high", "Swap"),
    "log of zero": ({"x": {"log": [0, 1]}}, "space.x", "cannot begin at 0", "or_zero"),
    "unknown parent": (
        {"optimizer": ["sgd"], "x": {"float": [0, 1], "when": {"optimiser": "sgd"}}},
        "space.x.when",
        "unknown parameter 'optimiser'",
        "optimizer",
    ),
    "its own parent": ({"x": {"float": [0, 1], "when": {"x": 1}}}, "space.x.when", "unknown parameter 'x'", "Name"),
    "unknown value": (
        {"optimizer": ["sgd", "adamw"], "x": {"float": [0, 1], "when": {"optimizer": "adam"}}},
        "space.x.when.optimizer",
        "'adam' is not a value",
        "one of its values",
    ),
    "prefix of nothing": ({"adam.lr": None}, "space.adam.lr", "no parameter has the value 'adam'", "Add adam"),
    "prefix of two": (
        {"a": ["x", "y"], "b": ["x", "z"], "x.lr": None},
        "space.x.lr",
        "more than one parameter",
        "when",
    ),
    "a circle": (
        {"a": {"choice": [1, 2], "when": {"b": 1}}, "b": {"choice": [1, 2], "when": {"a": 1}}},
        "space",
        "form a circle",
        "without a condition",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("given", "path", "problem", "mend"), BAD.values(), ids=BAD)
def test_a_space_that_makes_no_sense_is_refused_where_it_goes_wrong(given, path, problem, mend):
    with pytest.raises(SpecError) as caught:
        Space(given)
    assert caught.value.path == path
    assert problem in caught.value.problem
    assert mend in caught.value.mend


@pytest.mark.parametrize("ends", [[1e-4, "x"], 5, [1e-4]], ids=str)
def test_an_error_names_the_key_that_was_written(ends):
    """`log` is short for `float` with a scale: the message speaks of `log`."""
    with pytest.raises(SpecError) as caught:
        Space({"lr": {"log": ends}})
    assert "log" in caught.value.path
    assert "{log:" in caught.value.mend


def test_a_config_whose_choice_was_changed_is_completed():
    sgd = {"lr": 0.01, "optimizer": "sgd", "sgd.momentum": 0.9, "nesterov": True, "layers": 2, "epsilon": 1e-8}
    assert TREE.completed({**sgd, "own": 1}) == {**sgd, "own": 1}
    adamw = TREE.completed({**sgd, "optimizer": "adamw"})
    assert adamw.keys() == {"lr", "optimizer", "adamw.beta2", "layers", "epsilon"}
    assert adamw["adamw.beta2"] == TREE["adamw.beta2"].decode(0.5)
    assert TREE.completed({**sgd, "nesterov": False})["damping"] == 0.5
