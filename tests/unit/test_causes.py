"""The likeliest cause of a failed check: what was seen by itself comes before what is concluded from losses."""

from __future__ import annotations

import math
from dataclasses import asdict, replace

import pytest
import torch
from torch import nn

from benchmarks import planted
from sweeps.insight.causes import NO_OVERFIT, NOT_CARRIED, NOT_FINITE, NOT_LEARNING, TOO_HIGH, Seen, likeliest
from sweeps.insight.soundness import judge
from trainables.audit import audit
from trainables.contract import Fidelity
from trainables.probes import probe
from unit.test_preflight import HEALTHY, SCALES, SOUND

STUCK = {**HEALTHY, "overfit_lowest": 2.4, "overfit_last": 2.4, "learned_loss": 2.3, "learned_in_training": 2.3}
UNSCALED_AUDIT = {"words": False, "columns": 3, "lowest": 0.0, "highest": 900.0, "deviations": [1, 200], "mean": 4.0}


def with_scales(**scales):
    return {**STUCK, "scales": {**SCALES, **scales}}


def with_soundness(**found):
    return {**STUCK, "soundness": {**SOUND, **found}}


@pytest.mark.parametrize(
    ("clues", "probes", "audit", "cause"),
    [
        (NOT_FINITE, STUCK, {}, "Are there NaN"),
        (
            NOT_FINITE,
            STUCK,
            {"non_finite": {"train": (2, 1, [7], {"3": 2})}},
            "In the data there are missing or infinite",
        ),
        (NOT_FINITE, with_scales(inputs=math.nan), {}, "not finite, or enormous"),
        (TOO_HIGH, STUCK, {}, "unscaled, or the last layer's weights huge?"),
        (TOO_HIGH, with_scales(inputs=550.0), {}, "unscaled, of a root mean square of 550"),
        (TOO_HIGH, STUCK, UNSCALED_AUDIT, "unscaled: inputs are from 0 to 900"),
        (TOO_HIGH, with_scales(outputs=40.0), {}, "square of 40 from inputs of 1: the last layer's weights"),
        (TOO_HIGH, with_scales(outputs=40.0, inputs=None), {}, "square of 40: the last layer's weights"),
        (NO_OVERFIT, STUCK, {}, "wrong axis"),
        (NO_OVERFIT, with_scales(constant=True), {}, "all have the same inputs"),
        (NO_OVERFIT, with_scales(probabilities=True), {}, "The outputs are probabilities"),
        (NO_OVERFIT, {**STUCK, "overfit_last": 1.461}, {}, "stays at 1.46, the least that 10 outputs"),
        (NO_OVERFIT, {**STUCK, "overfit_last": 1.75}, {}, "the least with one output for all rows (1.73)"),
        (NO_OVERFIT, {**STUCK, "overfit_lowest": 0.3, "overfit_last": 2.0}, {}, "fell to 0.3 and rose again"),
        (NO_OVERFIT, {**STUCK, "overfit_lowest": 1.0, "overfit_last": 1.0}, {}, "still fell after 80 steps"),
        (NO_OVERFIT, {**STUCK, "without_gradient": ["a"]}, {}, "No gradient reaches a"),
        (NO_OVERFIT, {**STUCK, "non_finite_gradient": ["a"]}, {}, "not finite in a"),
        (NO_OVERFIT, with_soundness(frozen=["a", "b"]), {}, "2 parameters are frozen, among them a, b"),
        (NO_OVERFIT, with_soundness(equal_units=["a", "b"]), {}, "In 2 of 3 layers"),
        (NO_OVERFIT, with_soundness(accumulating=["a"]), {}, "Gradients add up"),
        (NOT_LEARNING, with_soundness(random_in_eval=0.3), {}, "eval() does not reach a layer"),
        (NOT_LEARNING, STUCK, {}, "does the network drop them?"),
        (NOT_LEARNING, {**STUCK, "learned_in_training": 0.2}, {}, "In train mode the loss came to 0.2"),
        (NOT_LEARNING, {**STUCK, "learned_loss": math.inf}, {}, "infinite or no number"),
        (NOT_LEARNING, {**STUCK, "overfit_last": 0.01}, {}, "do not belong to their inputs"),
        (
            NOT_LEARNING,
            {**STUCK, "overfit_last": 0.01},
            {"label_errors": {"agreement": 0.12}, "words": True},
            "classifiers agree with 12% of the labels only: the labels do not belong",
        ),
        (
            NOT_LEARNING,
            {**STUCK, "overfit_last": 0.01},
            {"label_errors": {"agreement": 0.9}, "words": True},
            "the network loses what matters",
        ),
        (NOT_CARRIED, STUCK, {}, "one of the splits"),
        (NOT_CARRIED, STUCK, {"label_errors": {"agreement": 0.9}}, "in validation labels are numbered otherwise"),
        (NOT_CARRIED, STUCK, {"label_errors": {"agreement": 0.1}}, "the training labels are shuffled"),
    ],
)
def test_the_likeliest_cause_is_told_with_its_numbers(clues, probes, audit, cause):
    audit = {"words": True, "columns": 3, "non_finite": {}, **audit} if audit else {}
    assert cause in likeliest(clues, Seen(probes, audit))


def test_a_healthy_network_gives_no_clue_but_the_last_of_each():
    for clues in (NOT_FINITE, TOO_HIGH, NOT_CARRIED):
        assert likeliest(clues[:-1], Seen(HEALTHY)) == ""


def in_eval_only(model: nn.Module) -> nn.Module:
    """A network whose running statistics never follow what it sees."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.momentum = 0.0
            module.running_mean.fill_(300.0)
    return model


def broken_after_a_while(model: nn.Module) -> nn.Module:
    """One whose inputs are dropped."""

    class Blind(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, x):
            return self.inner(x * 0)

    return Blind()


def of_other_rows(rows, draw):
    return rows[0], rows[1].roll(1)


def cut(model: nn.Module) -> nn.Module:
    """A forgotten detach() before the head."""
    inner = model.body

    class Cut(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = inner

        def forward(self, x):
            return self.body(x).detach()

    model.body = Cut()
    return model


KINDS = planted.RECIPES
BUGS = {
    "missing zero_grad": (KINDS["missing_zero_grad"].plant, "gradients_accumulate", "block", "zero_grad()"),
    "frozen": (KINDS["frozen_layers"].plant, "frozen_layers", "warn", "requires_grad off by mistake"),
    "bad initial weights": (KINDS["exploding"].plant, "initial_loss", "block", "signals grow from layer to layer"),
    "unscaled inputs": (KINDS["unnormalised"].plant, "initial_loss", "block", "The inputs are unscaled"),
    "equal units": (KINDS["equal_weights"].plant, "equal_weights", "warn", "Draw them at random"),
    "weights of zero": (KINDS["zero_weights"].plant, "gradients", "block", "layers all units begin alike"),
    "constant inputs": (KINDS["constant_inputs"].plant, "input_independent", "block", "all have the same inputs"),
    "inputs dropped": (planted.with_model(broken_after_a_while), "input_independent", "block", "No gradient reaches"),
    "dead units": (KINDS["dead_units"].plant, "overfits_one_batch", "block", "units dead or saturated"),
    "saturated": (KINDS["too_deep_saturated"].plant, "input_independent", "block", "units dead or saturated"),
    "detached": (planted.with_model(cut), "gradients", "block", "All before head.weight is cut off"),
    "softmax twice": (KINDS["softmax_twice"].plant, "overfits_one_batch", "block", "a softmax or sigmoid too many"),
    "softmax in the model": (
        planted.with_model(lambda model: nn.Sequential(model, nn.Softmax(1))),
        "overfits_one_batch",
        "block",
        "The outputs are probabilities",
    ),
    "labels shuffled": (KINDS["shuffled_labels"].plant, "carries_over", "warn", "the training labels are shuffled"),
    "labels moved by a row": (planted.with_train(of_other_rows), "carries_over", "warn", "are shuffled, or chance"),
    "labels offset": (KINDS["label_offset"].plant, "carries_over", "warn", "in validation labels are numbered"),
    "random in eval": (KINDS["forgotten_eval"].plant, "random_in_eval", "warn", "eval()"),
    "statistics that stand": (planted.with_model(in_eval_only), "input_independent", "block", "In train mode the loss"),
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_network_with_a_planted_bug_stops_here_or_is_warned_of(bug):
    plant, finding, severity, cause = BUGS[bug]
    case = plant(replace(planted.HEALTHY["mlp"]))
    trainable = planted.altered(case)
    probes = asdict(probe(trainable, case.config, Fidelity(1), limit_s=8))
    audited = asdict(audit(trainable, case.config, Fidelity(1))) if case.data else {}
    found = {one.finding: one for one in judge(probes, audited)}
    assert finding in found, list(found)
    assert found[finding].severity == severity, found[finding].message
    assert cause in found[finding].message


@pytest.mark.slow
@pytest.mark.parametrize("family", planted.FAMILIES)
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)])
def test_healthy_networks_are_left_alone(family, seed):
    case = planted.healthy_case(family, seed)
    probes = asdict(probe(planted.altered(case), case.config, Fidelity(1, seed=seed), limit_s=15))
    told = [one.message for one in judge(probes, planted.healthy_audit(family)) if one.severity != "info"]
    assert not told


def test_a_network_that_begins_with_how_often_each_label_comes_is_not_too_good():
    class Prior(planted.FlatDigits):
        def data(self, config, fidelity):
            found = super().data(config, fidelity)
            return replace(found, **{name: rare(getattr(found, name)) for name in ("train", "val", "test")})

        def model(self, config, data):
            model = nn.Linear(64, 2)
            nn.init.zeros_(model.weight)
            model.bias.data = torch.bincount(data.train[1]).double().div(len(data.train[1])).log().float()
            return model

    def rare(rows):
        return rows[0], (rows[1] == 3).long() * (torch.arange(len(rows[1])) % 3 == 0)

    probes = asdict(probe(Prior(), {"batch_size": 64}, Fidelity(1), limit_s=4))
    (found,) = (one for one in judge(probes) if one.finding == "initial_loss")
    assert found.severity == "info"
    assert "begins with how often each label comes; 9" in found.message
