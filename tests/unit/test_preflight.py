"""Preflight: what the numbers of the probes mean; planted bugs give such numbers, healthy networks do not."""

from __future__ import annotations

import math
from dataclasses import asdict

import pytest
import torch
from torch import nn

from sweeps.examples.own_module import TumourNet
from sweeps.insight.soundness import judge, soundness
from sweeps.phases.checks import refusal
from trainables.contract import Data, Fidelity
from trainables.examples.digits import Digits
from trainables.probes import first_look, probe
from unit.trainable_helpers import Blobs, Line, Pairs

FIDELITY = Fidelity(epochs=1, data_fraction=1.0, seed=0)
SOUND = {"matrices": 3, "frozen": [], "equal_units": [], "accumulating": [], "random_in_eval": 0.0}
SCALES = {
    "inputs": 1.0, "constant": False, "outputs": 0.3, "probabilities": False, "classes": 10, "majority": 0.1,
}  # fmt: skip
HEALTHY = {
    "initial_loss": 2.31, "expected_loss": 2.303, "learned_loss": 0.4, "learned_steps": 100, "blind_loss": 2.30,
    "learned_in_training": 0.4, "overfit_first": 2.4, "overfit_lowest": 0.01, "overfit_last": 0.01,
    "overfit_floor": 1.73, "overfit_steps": 80, "without_gradient": [], "non_finite_gradient": [], "behind": None,
    "own_loss": False, "seconds_per_epoch": 0.25, "peak_bytes": 300 * 2**20, "device_bytes": 8 * 2**30,
    "soundness": SOUND, "scales": SCALES,
    "learned": {"loss": 0.5, "others": 4.0, "spread": 0.2, "lowest": 3.4, "rows": 300},
    "shuffled": {"loss": 2.8, "others": 2.9, "spread": 0.2, "lowest": 2.4, "rows": 300},
}  # fmt: skip


def dealt(loss, others=2.9, spread=0.2, lowest=2.4):
    """A loss on validation rows, and that under other labels."""
    return {"loss": loss, "others": others, "spread": spread, "lowest": min(lowest, others), "rows": 300}


def silent_on(probes, check):
    return check not in verdicts(probes)


def test_what_cannot_be_said_of_shuffled_labels_is_not_said():
    assert silent_on({**HEALTHY, "shuffled": None}, "learns_shuffled_labels")
    assert silent_on({**HEALTHY, "shuffled": dealt(2.9, spread=0.0)}, "learns_shuffled_labels")
    assert silent_on({**HEALTHY, "learned": None}, "carries_over")
    assert silent_on({**HEALTHY, "learned": dealt(2.9), "learned_loss": 2.3}, "carries_over"), "told by itself"


def verdicts(probes):
    """Severity by check."""
    return {found.finding: found.severity for found in judge(probes)}


def test_a_healthy_network_passes_everything():
    assert set(verdicts(HEALTHY).values()) == {"info"}
    checks = ["initial_loss", "gradients", "soundness", "overfits_one_batch", "input_independent"]
    checks += ["carries_over", "learns_shuffled_labels", "cost"]
    assert list(verdicts(HEALTHY)) == checks
    assert "an epoch over all rows takes 0.25 s; memory peaked at 300 of 8,192 MiB" in judge(HEALTHY)[-1].message


@pytest.mark.parametrize(
    ("numbers", "check", "severity", "message"),
    [
        ({"initial_loss": math.nan}, "initial_loss", "block", "NaN or infinite inputs"),
        ({"initial_loss": math.inf}, "initial_loss", "block", "is inf"),
        ({"initial_loss": 9.0}, "initial_loss", "block", "is 9, expected about 2.303. Are the inputs"),
        ({"initial_loss": 1.0}, "initial_loss", "block", "too good for a network that was not trained"),
        ({"initial_loss": 1e6, "expected_loss": None}, "initial_loss", "info", "of an own loss none is expected"),
        ({"non_finite_gradient": ["a.weight"]}, "gradients", "block", "not finite in a.weight"),
        (
            {"without_gradient": [f"l{n}" for n in range(9)]},
            "gradients",
            "block",
            "reaches l0, l1, l2, l3 and 5 more",
        ),
        ({"soundness": {**SOUND, "frozen": ["a"]}}, "frozen_layers", "warn", "not to be trained: a"),
        ({"soundness": {**SOUND, "accumulating": ["a"]}}, "gradients_accumulate", "block", "zero_grad"),
        ({"soundness": {**SOUND, "random_in_eval": 0.3}}, "random_in_eval", "warn", "eval()"),
        ({"soundness": {**SOUND, "equal_units": ["a", "b"]}}, "equal_weights", "warn", "2 of 3"),
        ({"overfit_last": 0.5}, "overfits_one_batch", "warn", "from 2.4 to 0.5"),
        ({"overfit_last": 2.4, "overfit_lowest": 2.4}, "overfits_one_batch", "block", "softmax twice"),
        (
            {"overfit_last": 2.4, "overfit_lowest": 2.4, "overfit_steps": 4},
            "overfits_one_batch",
            "warn",
            "softmax twice",
        ),
        ({"overfit_last": math.inf}, "overfits_one_batch", "block", "to inf"),
        ({"learned_loss": 2.27}, "input_independent", "block", "2.27 with the inputs and 2.3 without"),
        ({"learned_loss": math.inf, "blind_loss": math.inf}, "input_independent", "block", "meets a zero"),
        ({"learned_loss": 2.3, "learned_in_training": 2.3}, "input_independent", "block", "by heart (2.4 to 0.01)"),
        ({"learned_loss": 2.3, "learned_steps": 3}, "input_independent", "warn", "there was time for 3 only"),
        ({"initial_loss": 0.4, "blind_loss": 0.41, "learned_loss": 0.1}, "initial_loss", "info", "10% of the rows"),
        ({"learned": dealt(2.9)}, "carries_over", "warn", "says nothing of these"),
        ({"learned": dealt(5.0)}, "carries_over", "warn", "the loss is 5, and 2.9 with their labels shuffled"),
        ({"shuffled": dealt(1.9)}, "learns_shuffled_labels", "block", "is 1.9 under the labels that they were dealt"),
        ({"shuffled": dealt(2.2)}, "learns_shuffled_labels", "info", "nothing is learned"),
        ({"shuffled": dealt(2.0, lowest=1.9)}, "learns_shuffled_labels", "info", "nothing is learned"),
        ({"shuffled": dealt(2.8, spread=0.02, lowest=2.85)}, "learns_shuffled_labels", "info", "nothing is learned"),
        ({"shuffled": dealt(-2.0, others=-1.0)}, "learns_shuffled_labels", "block", "never told these"),
        ({"shuffled": dealt(2.9, spread=0.0), "own_loss": True}, "learns_shuffled_labels", "info", "autoencoder"),
    ],
)
def test_each_check_fails_on_its_own_numbers_with_the_likely_cause(numbers, check, severity, message):
    probes = {**HEALTHY, **numbers}
    assert {name: found for name, found in verdicts(probes).items() if found != "info" or name == check} == {
        check: severity
    }
    (found,) = (found for found in judge(probes) if found.finding == check)
    assert message in found.message


def test_the_refusal_names_every_failed_check_and_the_way_on():
    bad = [f for f in judge({**HEALTHY, "initial_loss": 9.0, "without_gradient": ["w"]}) if f.severity == "block"]
    text = refusal("preflight", bad, "kind: preflight, skip")
    assert text.splitlines()[0] == "preflight: tuning would be in vain."
    assert "  initial_loss: the loss at init" in text
    assert "  gradients: no gradient reaches w" in text
    assert "{kind: preflight, skip: {initial_loss: '…', gradients: '…'}}" in text


@pytest.mark.parametrize(
    ("trainable", "config"),
    [
        (Digits(), {"lr": 1e-3, "dropout": 0.5, "weight_decay": 0.1, "label_smoothing": 0.2}),
        (TumourNet(), {"lr": 1e-3, "width": 32, "batch_size": 64}),
        (Blobs(), {"lr": 1e-5, "dropout": 0.3}),
        (Blobs(as_dataset=True), {"batch_size": 16}),
        (Line(), {"lr": 1e-3}),
    ],
    ids=["digits", "tumour", "blobs", "dataset", "regression"],
)
def test_healthy_trainables_pass(trainable, config):
    probes = asdict(probe(trainable, config, FIDELITY, limit_s=10))
    assert set(verdicts(probes).values()) == {"info"}, judge(probes)
    assert probes["seconds_per_epoch"] > 0
    assert probes["peak_bytes"] > 2**20


class Spoilt(Blobs):
    """The blobs with something wrong in data or model."""

    def __init__(self, data=None, model=None, loss=None):
        super().__init__()
        self.spoil_data, self.spoil_model = data, model
        if loss:
            self.loss = loss

    def data(self, config, fidelity):
        found = super().data(config, fidelity)
        # As a Dataset, which is not looked through before training.
        return Data(Pairs(*self.spoil_data(*found.train)), found.val, found.test) if self.spoil_data else found

    def model(self, config, data):
        net = super().model(config, data)
        return self.spoil_model(net) if self.spoil_model else net


def frozen_in_the_middle(net):
    """What a forgotten detach() does."""

    class Cut(nn.Module):
        def forward(self, x):
            return x.detach()

    return nn.Sequential(net[0], Cut(), *net[1:])


def with_nan(x, y):
    return x.index_fill(0, torch.tensor([0]), math.nan), y


def large_head(net):
    nn.init.normal_(net[-1].weight, std=30.0)
    return net


def negated(output, batch):
    return -nn.functional.cross_entropy(output.detach(), batch[1]) + 0.0 * output.sum()


@pytest.mark.parametrize(
    ("trainable", "failed"),
    [
        (Spoilt(data=lambda x, y: (torch.zeros_like(x), y)), {"input_independent"}),
        (Spoilt(data=with_nan), {"initial_loss"}),
        (Spoilt(model=frozen_in_the_middle), {"gradients"}),
        (Spoilt(model=large_head), {"initial_loss"}),
        (Spoilt(model=lambda net: nn.Sequential(net, nn.Softmax(1), nn.Softmax(1))), {"overfits_one_batch"}),
        (Spoilt(loss=negated), {"gradients"}),
    ],
    ids=[
        "inputs of zeros",
        "a NaN row",
        "a detached layer",
        "a huge last layer",
        "softmax twice",
        "no gradient at all",
    ],
)
def test_planted_bugs_are_stopped(trainable, failed):
    found = verdicts(asdict(probe(trainable, {"batch_size": 16}, FIDELITY, limit_s=5)))
    assert failed <= {check for check, severity in found.items() if severity == "block"}, found


def test_the_probes_leave_regularisation_out_and_the_config_alone():
    seen = []

    class Watched(Blobs):
        def model(self, config, data):
            seen.append(dict(config))
            return super().model(config, data)

    config = {"optimizer": "sgd", "sgd.weight_decay": 0.3, "dropout": 0.4, "batch_size": 16}
    probe(Watched(), config, FIDELITY, limit_s=1)
    assert {(c["dropout"], c["sgd.weight_decay"]) for c in seen[1:-2]} == {(0.0, 0.0)}
    assert seen[0] == seen[-2] == config, "soundness and cost are the config's own"
    assert config["dropout"] == 0.4


class Accumulates(Blobs):
    """Each gradient has those before it in it."""

    def model(self, config, data):
        net, sums = super().model(config, data), {}
        for parameter in net.parameters():

            def add(parameter):
                sums[parameter] = sums.get(parameter, 0) + parameter.grad.clone()
                parameter.grad.copy_(sums[parameter])

            parameter.register_post_accumulate_grad_hook(add)
        return net


def frozen(net):
    net[0].requires_grad_(False)
    return net


def never_in_eval(net):
    net.eval = net.train
    return net


def alike(net):
    for parameter in net.parameters():
        nn.init.constant_(parameter, 0.1)
    return net


@pytest.mark.parametrize(
    ("trainable", "config", "found"),
    [
        (Blobs(), {"dropout": 0.5}, []),
        (Blobs(), {"freeze_depth": 1}, []),
        (Accumulates(), {}, ["gradients_accumulate"]),
        (Spoilt(model=frozen), {}, ["frozen_layers"]),
        (Spoilt(model=lambda net: never_in_eval(nn.Sequential(net, nn.Dropout(0.5)))), {}, ["random_in_eval"]),
        (Spoilt(model=alike), {}, ["equal_weights"]),
    ],
    ids=["healthy", "frozen by its config", "gradients add up", "frozen", "eval forgotten", "all alike"],
)
def test_what_a_network_shows_of_itself(trainable, config, found):
    shown = asdict(first_look(trainable, {"batch_size": 16, **config}, FIDELITY).soundness)
    assert [one.finding for one in soundness(shown) if one.severity != "info"] == found
