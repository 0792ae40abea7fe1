"""What is tried next: Sobol's cover of the space, TPE's use of the record, the searcher that Tune asks."""

from __future__ import annotations

import json
import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
from ray.tune.search import Searcher

from sweeps.search import PhaseSearcher, Proposal, listed, sobol, tpe
from sweeps.slots import Order
from sweeps.space import Space

SPACE = Space(
    {
        "lr": {"log": [1e-4, 1e-1]},
        "batch_size": {"powers_of_two": [16, 128]},
        "optimizer": ["sgd", "adamw", None, True],
        "sgd.momentum": {"float": [0.8, 0.999], "scale": "one_minus"},
        "layers": {"int": [1, 9], "step": 2},
        "dropout": {"float": [0.0, 0.5]},
        "weight_decay": {"log": [1e-6, 1e-1], "or_zero": True},
        "depth": 2,
    }
)


def inside(space, config):
    """Whether a config has exactly the parameters that are active in it, each with a value of its domain."""
    active = {name for name in space if space.active(name, config)}
    return set(config) == active and all(space[name].encode(value) is not None for name, value in config.items())


def test_sobol_repeats_with_its_seed_only_and_whatever_is_asked_first():
    draw, again, other = sobol(SPACE, 3), sobol(SPACE, 3), sobol(SPACE, 4)
    configs = [draw(number) for number in range(150)]
    assert [again(number) for number in reversed(range(150))] == configs[::-1]
    assert draw(7) == configs[7]
    assert all(other(number) != configs[number] for number in range(20))
    assert len({json.dumps(config) for config in configs}) == 150


def test_sobol_leaves_no_stratum_empty_where_random_points_do():
    space = Space({f"x{i}": {"float": [0.0, 1.0]} for i in range(10)})

    def empty(points):
        return sum(8 - len({int(p * 8) for p in column}) for column in zip(*points, strict=True))

    for seed in range(5):
        draw, rng = sobol(space, seed), np.random.default_rng(seed)
        assert empty([list(draw(number).values()) for number in range(16)]) == 0
        assert empty(rng.random((16, 10))) > 0


def test_sobol_gives_each_side_of_a_condition_its_own_parameters_as_plain_values():
    configs = [sobol(SPACE, 0)(number) for number in range(64)]
    assert all(inside(SPACE, config) for config in configs)
    assert {config["optimizer"] for config in configs} == {"sgd", "adamw", None, True}
    assert all(("sgd.momentum" in config) == (config["optimizer"] == "sgd") for config in configs)
    assert {type(value) for config in configs for value in config.values()} <= {int, float, str, bool, type(None)}
    assert {type(config["layers"]) for config in configs} == {int}
    assert {config["depth"] for config in configs} == {2}
    assert 5 <= sum(config["weight_decay"] == 0 for config in configs) <= 20, "one in five"
    assert [json.loads(json.dumps(config)) for config in configs] == configs


def test_tpe_without_a_history_is_inside_the_space_and_not_always_the_same():
    draw = tpe(SPACE, list, 0)
    configs = [draw(number) for number in range(20)]
    assert all(inside(SPACE, config) for config in configs)
    assert len({json.dumps(config) for config in configs}) == 20


def test_tpe_rests_on_seed_number_and_history_only():
    history = [sobol(SPACE, 1)(number) for number in range(12)]
    draw = tpe(SPACE, lambda: history, 5)
    first = [draw(number) for number in range(6)]
    state = np.random.get_state()
    np.random.seed(77)  # whatever else draws in this process plays no part
    assert [tpe(SPACE, lambda: history, 5)(number) for number in reversed(range(6))] == first[::-1]
    np.random.set_state(state)
    assert all(tpe(SPACE, lambda: history, 6)(number) != first[number] for number in range(6))
    assert [tpe(SPACE, lambda: history[::-1], 5)(number) for number in range(6)] != first


def test_tpe_proposes_where_the_best_were():
    """Best at lr 1e-2 and with relu: proposals lie nearer to it than uniform ones, and have relu more often."""
    space = Space({"lr": {"log": [1e-5, 1e-1]}, "activation": ["relu", "gelu", "tanh"], "noise": {"float": [0, 1]}})

    def distance(config):
        return abs(math.log10(config["lr"]) + 2)

    def worth(config):
        return distance(config) + (config["activation"] != "relu")

    tried = [sobol(space, 2)(number) for number in range(32)]
    history = sorted(tried, key=worth)
    proposed = [tpe(space, lambda: history, seed)(number) for seed in range(4) for number in range(15)]
    uniform = [sobol(space, 9)(number) for number in range(64)]
    assert np.mean([distance(c) for c in proposed]) < 0.6 * np.mean([distance(c) for c in uniform])
    assert np.mean([c["activation"] == "relu" for c in proposed]) > 0.55
    reversed_ = [tpe(space, lambda: history[::-1], seed)(number) for seed in range(2) for number in range(15)]
    assert np.mean([distance(c) for c in reversed_]) > np.mean([distance(c) for c in proposed])


def test_tpe_models_a_conditional_parameter_where_it_is_active():
    """sgd with momentum near 0.99 was best: TPE goes there, and never gives momentum to adamw."""
    space = Space(
        {"optimizer": ["sgd", "adamw"], "sgd.momentum": {"float": [0.0, 1.0]}, "adamw.beta2": {"float": [0.0, 1.0]}}
    )

    def worth(config):
        return abs(config.get("sgd.momentum", 3.0) - 0.9)

    history = sorted((sobol(space, 0)(number) for number in range(32)), key=worth)
    proposed = [tpe(space, lambda: history, seed)(number) for seed in range(3) for number in range(15)]
    assert all(inside(space, config) for config in proposed)
    sgd = [c["sgd.momentum"] for c in proposed if c["optimizer"] == "sgd"]
    assert len(sgd) > 0.6 * len(proposed)
    assert np.mean(np.abs(np.array(sgd) - 0.9)) < 0.25, "uniform momentum is 0.41 away on average"


def test_tpe_learns_nothing_of_a_parameter_from_where_it_does_not_exist():
    """Low `wavy.x` was best. That most of the rest had no `wavy.x` says nothing against low ones."""
    space = Space({"kind": ["plain", "wavy"], "wavy.x": {"float": [0.0, 1.0]}})
    best = [{"kind": "wavy", "wavy.x": x} for x in (0.02, 0.04, 0.06)]
    rest = [{"kind": "wavy", "wavy.x": x} for x in (0.3, 0.5, 0.7, 0.9)] + [{"kind": "plain"}] * 30
    proposed = [tpe(space, lambda: best + rest, seed)(0) for seed in range(60)]
    x = [config["wavy.x"] for config in proposed if "wavy.x" in config]
    assert len(x) > 50
    assert np.mean(x) < 0.1


def test_tpe_leaves_out_what_lies_outside_its_space():
    narrow = SPACE.replace({"lr": SPACE["lr"].narrowed(0.4, 0.6)})
    tried = [sobol(SPACE, 8)(number) for number in range(48)]
    within = [config for config in tried if narrow.encode(config) is not None]
    assert 4 < len(within) < len(tried) - 4
    lacking = {name: value for name, value in within[0].items() if name != "layers"}
    mixed, alone = tpe(narrow, lambda: [lacking, *tried], 1), tpe(narrow, lambda: within, 1)
    for number in range(5):
        assert mixed(number) == alone(number)
        assert inside(narrow, mixed(number))


def searcher(count, propose=None, **fields):
    """A searcher of the phase `explore` and the list of (trial, attempt, role) that it hands out."""
    told = []
    given = {
        "phase": "explore",
        "count": count,
        "propose": propose or (lambda number: Proposal(f"role{number}", {"value": number}, 100 + number)),
        "fidelity": {"epochs": 3, "data_fraction": 0.5},
        "common": {"metric": "val/loss", "pool": ("pool", "space")},
        "begin": lambda order, role: told.append((order.trial, order.attempt, role)),
        "saving": {"checkpoints": (1.0, 2)},
        **fields,
    }
    return PhaseSearcher(**given), told


def test_the_searcher_hands_out_every_trial_once_in_order_and_says_so():
    suggester, told = searcher(3)
    given = [suggester.suggest(f"tune{i}") for i in range(3)]
    assert [config["order"]["trial"] for config in given] == ["explore-000", "explore-001", "explore-002"]
    assert told == [("explore-000", 1, "role0"), ("explore-001", 1, "role1"), ("explore-002", 1, "role2")]
    assert given[1] == {
        "metric": "val/loss",
        "pool": ("pool", "space"),
        "order": {
            "trial": "explore-001",
            "attempt": 1,
            "config": {"value": 1},
            "fidelity": {"epochs": 3, "data_fraction": 0.5, "seed": 101},
            "resume": None,
            "checkpoints": (1.0, 2),
            "checkpoint_s": math.inf,
            "lease": 1,
            "judged": (),
            "instead": None,
            "configs": (),
            "share": 1.0,
            "told": 0,
        },
    }
    assert Order(**given[1]["order"]).holder == "explore-001.1"


def test_the_searcher_has_finished_only_when_no_trial_can_come_back():
    suggester, told = searcher(2)
    suggester.suggest("a")
    suggester.suggest("b")
    assert suggester.suggest("c") is None
    suggester.on_trial_complete("a")
    assert suggester.suggest("c") is None
    suggester.on_trial_complete("b", error=True)
    assert suggester.suggest("c") == Searcher.FINISHED
    assert suggester.suggest("c") == Searcher.FINISHED
    assert len(told) == 2


def test_a_trial_to_be_tried_again_goes_before_new_ones_with_its_role():
    suggester, told = searcher(3)
    first = Order(**suggester.suggest("a")["order"])
    second = Order(**suggester.suggest("b")["order"])
    for order, resume in ((first, "checkpoints/explore-000/1"), (second, None)):
        suggester.retry(replace(order, attempt=2, resume=resume, told=1))
    suggester.on_trial_complete("a")
    suggester.on_trial_complete("b")
    config = suggester.suggest("c")
    again = config["order"]
    assert again["told"] == 1
    assert (again["trial"], again["attempt"], again["resume"]) == ("explore-000", 2, "checkpoints/explore-000/1")
    assert again["config"] == {"value": 0}
    suggester.suggest("d")
    suggester.suggest("e")
    assert told[2:] == [("explore-000", 2, "role0"), ("explore-001", 2, "role1"), ("explore-002", 1, "role2")]
    assert suggester.suggest("f") is None
    suggester.retry(Order(**{**again, "attempt": 3}))
    assert suggester.suggest("f")["order"]["attempt"] == 3, "what comes back late is still taken"


def test_the_searcher_asks_for_a_proposal_when_the_trial_begins_and_not_before():
    asked = []

    def propose(number):
        asked.append(number)
        return Proposal("tpe", {}, 0)

    suggester, _ = searcher(3, propose)
    suggester.suggest("a")
    assert asked == [0], "TPE's later proposals rest on what the earlier trials gave"


def test_a_list_of_proposals_is_given_by_number():
    proposals = [Proposal("a", {"x": 1}, 1), Proposal("b", {"x": 2}, 2)]
    suggester, told = searcher(2, listed(proposals))
    assert [suggester.suggest(str(i))["order"]["config"] for i in range(2)] == [{"x": 1}, {"x": 2}]
    assert [role for *_, role in told] == ["a", "b"]


def test_tune_can_pickle_the_searcher_and_gets_nothing(tmp_path):
    suggester, _ = searcher(2, lambda number: pytest.fail("not asked"))  # a lambda cannot be pickled
    copy = pickle.loads(pickle.dumps(suggester))
    assert vars(copy) == {}
    suggester.save(str(tmp_path / "state"))
    suggester.restore(str(tmp_path / "state"))
    assert list(tmp_path.iterdir()) == []
    assert suggester.count == 2
