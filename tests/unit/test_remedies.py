"""What a remedy changes about a config: within the space, by the names that are there, and nothing where it cannot."""

from __future__ import annotations

import numpy as np
import pytest

from sweeps.insight.diagnose.given import DATA
from sweeps.insight.findings import Finding
from sweeps.insight.remedies import EVERYWHERE, REMEDIES, applied, known_as, remedies_for, suiting
from sweeps.insight.runs import Run
from sweeps.space import Space
from trainables.hyperparameters import STANDARD, resolve
from trainables.models.layers import ACTIVATIONS, NORMS

SPACE = Space.model_validate(
    {
        "lr": {"log": [1e-4, 1e-1]},
        "batch_size": {"powers_of_two": [16, 128]},
        "dropout": {"float": [0.0, 0.5]},
        "weight_decay": {"log": [1e-5, 1e-1], "or_zero": True},
        "width": {"int": [8, 24], "step": 4},
        "schedule": ["constant", "cosine"],
        "depth": 2,
    }
)
CONFIG = {"lr": 0.01, "batch_size": 32, "dropout": 0.2, "weight_decay": 1e-3, "width": 16, "schedule": "constant"}
CONFIG["depth"] = 2


def run(config: dict, **known) -> Run:
    """A training with that config, of which nothing else is known unless said."""
    return Run("trial", np.empty(0), {}, config, **known)


def first(finding: str, config: dict = CONFIG, space: Space = SPACE, defaults: dict = STANDARD) -> dict:
    """What the first remedy for a finding that can, changes."""
    found = (applied(remedy, run(config), space, defaults) for remedy in REMEDIES[finding])
    return next((changes for changes in found if changes), {})


def every(finding: str, **given) -> list[dict]:
    """What each remedy for a finding changes."""
    return [applied(remedy, run({**CONFIG, **given}), SPACE, STANDARD) for remedy in REMEDIES[finding]]


def test_the_playbook_s_remedies():
    assert first("lr_too_high") == {"lr": (0.01, pytest.approx(0.01 / 3))}
    assert first("lr_too_low") == {"lr": (0.01, pytest.approx(0.03))}
    assert first("oscillating") == {"lr": (0.01, 0.005), "schedule": ("constant", "cosine")}
    assert first("noisy_batch") == {"batch_size": (32, 128), "lr": (0.01, 0.02)}
    assert every("lr_too_high")[2] == {"clip_percentile": (None, 90.0)}, "by the loop's default"
    best, augment, dropout, decay, smoothing = every("overfit", augment=0, label_smoothing=0.0)
    assert best == {"restore_best": (False, True)}
    assert augment == {"augment": (0, 1)}
    assert dropout == {"dropout": (0.2, pytest.approx(0.3))}
    assert decay == {"weight_decay": (1e-3, pytest.approx(3e-3))}
    assert smoothing == {"label_smoothing": (0.0, pytest.approx(0.1))}
    width, depth, dropout, decay = every("underfit")
    assert (dropout["dropout"][1], decay["weight_decay"][1]) == (pytest.approx(0.1), pytest.approx(1e-3 / 3))
    assert width == {"width": (16, 24)}
    assert depth == {}, "a constant of the space is a person's word"


def test_values_stay_within_the_space():
    assert first("lr_too_high", {**CONFIG, "lr": 1.2e-4}) == {"lr": (1.2e-4, pytest.approx(1e-4))}
    assert "lr" not in first("lr_too_high", {**CONFIG, "lr": 1e-4}), "at the edge another remedy has its turn"
    assert every("overfit", dropout=0.45)[2] == {"dropout": (0.45, 0.5)}
    assert every("overfit", dropout=0.5)[2] == {}
    assert every("underfit", weight_decay=1.2e-5)[3] == {"weight_decay": (1.2e-5, 0.0)}, "nearer to 0 than to the range"
    assert every("underfit", weight_decay=2e-5)[3] == {"weight_decay": (2e-5, 1e-5)}
    assert every("overfit", weight_decay=0.0)[3] == {"weight_decay": (0.0, 1e-3)}
    assert every("underfit", width=24)[0] == {}
    assert first("noisy_batch", {**CONFIG, "batch_size": 128}) == {}, "a rate alone is no larger batch"


def test_a_parameter_of_one_optimizer_is_meant_too():
    space = Space.model_validate({"optimizer": ["sgd", "adamw"], "adamw.lr": {"log": [1e-4, 1e-1]}})
    assert first("lr_too_low", {"optimizer": "adamw", "adamw.lr": 1e-3}, space) == {"adamw.lr": (1e-3, 3e-3)}


def test_what_is_far_beyond_the_usual_goes_to_its_end_at_once():
    wide = Space.model_validate({"other": {"float": [0.0, 1.0]}})
    assert first("lr_too_high", {"lr": 3.0}, wide) == {"lr": (3.0, 0.1)}
    assert first("noisy_batch", {"batch_size": 2, "lr": 0.01}, wide) == {"batch_size": (2, 16), "lr": (0.01, 0.02)}
    dropout, decay = (
        applied(one, run({"dropout": 0.9, "weight_decay": 30.0}), wide, {}) for one in REMEDIES["underfit"][2:]
    )
    assert (dropout, decay) == ({"dropout": (0.9, 0.5)}, {"weight_decay": (30.0, 0.1)})


def test_what_the_evidence_names_is_changed_first():
    plain, held = (Finding("underfit", "warn", "", evidence) for evidence in ({}, {"weight_decay": 30.0}))
    assert [next(iter(one.moves)) for one in remedies_for(plain)] == ["width", "depth", "dropout", "weight_decay"]
    assert [next(iter(one.moves)) for one in remedies_for(held)] == ["weight_decay", "width", "depth", "dropout"]
    assert remedies_for(Finding("frozen_layers", "warn", "")) == []


def test_augmentation_and_smoothing_need_data_and_a_loss_that_suit_them():
    table = {"classes": {"0": 5}, "words": False, "splits": {"train": {"shape": [8]}}}
    images = {**table, "splits": {"train": {"shape": [1, 8, 8]}}}
    expected = {"expected_loss": 2.3}
    for audit, probes, known in (
        ({}, {}, set()),
        (table, expected, {"label_smoothing", "class_weights"}),
        (images, {}, {"augment"}),
        ({**table, "words": True, "classes": {}}, expected, {"augment"}),
    ):
        assert suiting(run({}, audit=audit, probes=probes)) - EVERYWHERE == known
    smoothing = applied(REMEDIES["overfit"][-1], run({"lr": 0.1}, audit=table, probes=expected), SPACE, STANDARD)
    assert smoothing == {"label_smoothing": (0.0, 0.1)}


def test_the_name_that_the_loop_reads_first_is_changed():
    space = Space.model_validate({"other": {"float": [0.0, 1.0]}})
    both = {"lr": 0.001, "optimizer": "sgd", "sgd.lr": 0.09, "adamw.lr": 0.01}
    assert first("lr_too_high", both, space) == {"sgd.lr": (0.09, pytest.approx(0.03))}
    assert first("lr_too_high", {**both, "optimizer": "adamw"}, space) == {"adamw.lr": (0.01, pytest.approx(0.01 / 3))}
    assert known_as("lr", {"optimizer": "adam", "sgd.lr": 0.1}) == "lr", "what another optimizer has is not read"
    assert known_as("dropout", {"head.dropout": 0.1}) == "head.dropout"


def test_a_remedy_never_goes_the_other_way():
    below, above = {**CONFIG, "lr": 1e-5}, {**CONFIG, "lr": 0.5}
    assert "lr" not in first("lr_too_high", below), "the range begins ten times higher"
    assert first("lr_too_low", above) == {}


def test_no_batch_is_advised_that_leaves_hardly_a_step():
    few = {"splits": {"train": {"rows": 80, "shape": [8]}}}
    larger = REMEDIES["oscillating"][2]
    assert applied(larger, run({"lr": 0.1}, audit=few), SPACE, STANDARD) == {}
    many = {"splits": {"train": {"rows": 1280, "shape": [8]}}}
    assert applied(larger, run({"lr": 0.1}, audit=many), SPACE, STANDARD)["batch_size"] == (64, 128)


def test_nothing_is_changed_that_nobody_reads():
    space = Space.model_validate({"rate": {"log": [1e-4, 1e-1]}})
    for finding in REMEDIES:
        assert first(finding, {"rate": 0.1}, space, {}) == {}, "a loop of the user's own"
    assert first("underfit", {"dropout": "much"}, space, {}) == {}, "a word has no multiple"


@pytest.mark.parametrize("finding", sorted(REMEDIES))
def test_what_is_tried_can_be_trained(finding):
    loop = {**STANDARD, "activation": "relu", "norm": "none", "dropout": 0.1, "width": 16, "depth": 2}
    loop |= {"weight_decay": 1e-3}
    for remedy in REMEDIES[finding]:
        config = {**CONFIG, **{name: loop[name] for name in remedy.moves if name in loop}}
        audit = {"classes": {"0": 1}, "words": True}
        given = run(config, audit=audit, probes={"expected_loss": 1.0})
        changes = applied(remedy, given, Space.model_validate({"seed": {"int": [0, 9]}}), STANDARD)
        after = {**config, **{name: value for name, (_, value) in changes.items()}}
        resolve(after)
        assert after.get("activation", "relu") in ACTIVATIONS
        assert after.get("norm", "none") in NORMS
        assert changes, "each has something to change somewhere"


def test_what_is_wrong_with_the_data_has_no_remedy_in_the_config_but_weights_of_classes():
    assert set(DATA) & set(REMEDIES) == {"imbalance"}
