"""Diagnosis: each rule on a curve that shows its symptom, silence where an input lacks, tables of any shape."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from click.testing import CliRunner

from recorded import record
from sweeps import Sweep, UsageError
from sweeps.cli import main
from sweeps.history import History
from sweeps.insight.diagnose import NOTES, RULES, as_table, as_text, diagnose
from sweeps.insight.runs import Run, of_history, of_table
from sweeps.storage import place

EPOCHS = 20
SOUND = {"matrices": 3, "frozen": [], "equal_units": [], "accumulating": [], "random_in_eval": 0.0}
PRIOR = math.log(10)


def falling(last, first=PRIOR, epochs=EPOCHS):
    """A loss that falls and settles."""
    return last + (first - last) * np.exp(-np.arange(1, epochs + 1) * 8 / epochs)


def run_of(train, val=None, accuracy=None, **fields):
    """A training of these losses, with a sound network and data that say nothing against it."""
    epochs = len(train)
    curves = {
        "train/loss": np.asarray(train, float), "val/loss": np.asarray(train if val is None else val, float),
        "val/dead_units": np.zeros(epochs), "grad/first_to_last": np.full(epochs, 0.9),
        "grad/norm": np.ones(epochs),
    }  # fmt: skip
    if accuracy is not None:
        rising = accuracy - 0.01 * np.exp(-np.arange(epochs))
        curves |= dict.fromkeys(("train/accuracy", "val/accuracy"), rising)
    probes = {"expected_loss": PRIOR, "initial_loss": PRIOR, "soundness": SOUND}
    made = Run("t", np.arange(1, epochs + 1.0), curves, {"batch_size": 64, "lr": 1e-3}, probes)
    return replace(made, **fields)


HEALTHY = run_of(falling(0.02), falling(0.06), 0.99)


def found(run):
    return [one.finding for one in diagnose(run).findings]


def with_curves(**curves):
    """The healthy run with other curves: `/` written as two underscores."""
    changed = {name.replace("__", "/"): np.asarray(values, float) for name, values in curves.items()}
    return replace(HEALTHY, curves={**HEALTHY.curves, **changed})


def swinging(values, by):
    return values * (1 + by * np.where(np.arange(len(values)) % 2, 1, -1))


SYMPTOMS = {
    "lr_too_high": run_of(np.r_[40.0, 9.0, falling(1.5, epochs=18)]),
    "lr_too_low": run_of(np.linspace(2.3, 2.1, EPOCHS)),
    "too_few_epochs": run_of([1.3, 0.8, 0.5]),
    "underfit": run_of(falling(1.2)),
    "overfit": run_of(falling(0.02), np.r_[falling(0.4, epochs=8), np.linspace(0.42, 0.9, 12)]),
    "oscillating": run_of(swinging(falling(0.4), 0.4)),
    "labels_shuffled": run_of(np.linspace(2.3, 1.4, EPOCHS), np.linspace(2.31, 2.7, EPOCHS)),
    "labels_differ": run_of(falling(0.01), np.linspace(3.0, 9.0, EPOCHS)),
    "label_errors": run_of(falling(0.6), falling(0.3)),
    "loss_misfit": run_of(falling(1.4), accuracy=0.98),
    "not_learning": run_of(np.full(EPOCHS, PRIOR) + 0.001 * np.sin(np.arange(EPOCHS)), val=np.full(EPOCHS, 9 * PRIOR)),
    "vanishing_gradients": replace(
        run_of(np.full(EPOCHS, PRIOR)),
        curves={**run_of(np.full(EPOCHS, PRIOR)).curves, "grad/first_to_last": np.full(EPOCHS, 1e-6)},
    ),
    "dead_units": replace(
        run_of(falling(1.2)), curves={**run_of(falling(1.2)).curves, "val/dead_units": np.full(EPOCHS, 0.7)}
    ),
    "noisy_batch": run_of(falling(1.3), config={"batch_size": 2}),
    "exploding_gradients": replace(HEALTHY, probes={**HEALTHY.probes, "initial_loss": 200.0}),
    "frozen_layers": replace(HEALTHY, probes={**HEALTHY.probes, "soundness": {**SOUND, "frozen": ["a"]}}),
    "random_in_eval": replace(HEALTHY, probes={**HEALTHY.probes, "soundness": {**SOUND, "random_in_eval": 0.2}}),
}


def test_a_healthy_training_has_no_finding():
    assert found(HEALTHY) == []
    assert set(diagnose(HEALTHY).silent) == {"data", "unscaled", "little_data", "decayed_early", "overconfident"}
    assert "nothing is wrong" in as_text([diagnose(HEALTHY)], whole=True)


@pytest.mark.parametrize("finding", SYMPTOMS)
def test_each_symptom_is_the_first_finding(finding):
    first = diagnose(SYMPTOMS[finding]).findings[0]
    assert (first.finding, first.severity) == (finding, "warn")
    assert first.message.endswith((".", "?"))


def test_a_loss_that_is_no_number_is_told_with_its_epoch():
    run = run_of([2.0, 1.5, math.inf])
    assert found(run)[0] == "lr_too_high"
    assert "epoch 3" in diagnose(run).findings[0].message


def test_what_a_config_holds_back_is_named():
    decayed = run_of(falling(0.5), config={"lr": 5e-3, "weight_decay": 30.0})
    dropped = run_of(falling(1.1), config={"dropout": 0.9})
    assert "weights by 15.0%" in diagnose(decayed).findings[0].message
    assert "dropout is 0.9" in diagnose(dropped).findings[0].message
    assert found(decayed)[0] == found(dropped)[0] == "underfit"


def test_who_was_stopped_was_not_given_the_time():
    assert found(replace(SYMPTOMS["too_few_epochs"], whole=False)) == []
    assert found(replace(SYMPTOMS["underfit"], whole=False)) == []


@pytest.mark.parametrize("lacking", ["train/loss", "val/loss", "val/dead_units", "grad/first_to_last"])
def test_a_rule_that_lacks_its_input_is_silent_and_says_so(lacking):
    curves = {name: values for name, values in HEALTHY.curves.items() if name != lacking}
    diagnosis = diagnose(replace(HEALTHY, curves=curves))
    assert diagnosis.findings == []
    assert lacking in diagnosis.silent.values()
    assert lacking in as_text([diagnosis], whole=True)


@pytest.mark.parametrize("length", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("value", [0.0, 1.0, 1e300, -1.0, math.nan, math.inf, -math.inf])
def test_nothing_raises_for_short_strange_or_broken_curves(length, value):
    names = ("train/loss", "val/loss", "train/accuracy", "val/accuracy", "val/dead_units", "grad/first_to_last")
    for probes in ({}, HEALTHY.probes, {"expected_loss": None, "initial_loss": math.nan}):
        curves = {name: np.full(length, value) for name in names}
        diagnosis = diagnose(Run("t", np.arange(length, dtype=float), curves, {}, probes))
        assert set(diagnosis.silent) <= {rule.__name__ for rule in (*RULES, *NOTES)}


def test_a_training_without_a_loss_is_not_called_fine():
    """As of a table whose losses are texts, or have other names."""
    diagnosis = diagnose(Run("t", np.arange(1, 4.0), {"val/accuracy": np.array([0.5, 0.6, 0.7])}))
    assert "nothing can be said" in as_text([diagnosis], whole=True)
    assert as_text([diagnosis, diagnose(HEALTHY)]).splitlines() == [
        "1 of 2 trials without a warning.",
        "Of 1 nothing can be said: there is neither a train/loss nor a val/loss in numbers.",
    ]


def test_gaps_in_a_curve_are_left_out():
    train = np.where(np.arange(EPOCHS) % 3, HEALTHY.curves["train/loss"], np.nan)
    assert found(with_curves(train__loss=train)) == []


def of_columns(**columns):
    """A training of which nothing is known but these columns: `/` written as two underscores."""
    curves = {name.replace("__", "/"): np.asarray(values, float) for name, values in columns.items()}
    return Run("t", np.arange(1, len(next(iter(curves.values()))) + 1.0), curves)


NOISY = falling(0.7, first=1.05, epochs=12)
"""Of three classes that overlap, or of a number with noise: what no network brings near 0."""
NOISY_RIGHT = np.linspace(0.6, 0.71, 12)


@pytest.mark.parametrize(
    "run",
    [
        of_columns(train__loss=NOISY, val__loss=NOISY * 1.03, train__accuracy=NOISY_RIGHT, val__accuracy=NOISY_RIGHT),
        of_columns(train__loss=NOISY, val__loss=NOISY * 1.15, train__mae=NOISY),
        of_columns(train__loss=NOISY, val__loss=NOISY * 0.9, train__mae=NOISY),
    ],
)
def test_noise_that_cannot_be_learned_is_no_fault(run):
    """From curves alone it may be one: that is worth knowing, and no warning."""
    diagnosis = diagnose(run)
    assert (diagnosis.warnings, diagnosis.suspected, found(run)[:1]) == ([], True, ["underfit"])
    assert diagnosis.findings[0].message.startswith("perhaps")
    rows = {name: {"rows": 300} for name in ("train", "val")}
    assert not diagnose(replace(run, probes={"expected_loss": 1.1}, audit=audit_of(rows, 0.71))).findings


def test_classifiers_that_have_not_seen_the_rows_and_do_better_tell_a_poor_loss():
    columns = {"train__loss": NOISY, "val__loss": NOISY, "train__accuracy": NOISY_RIGHT, "val__accuracy": NOISY_RIGHT}
    rows = {name: {"rows": 1000} for name in ("train", "val")}
    for agreement, findings in ((0.7, []), (0.9, ["underfit"])):
        run = replace(of_columns(**columns), probes=HEALTHY.probes, audit=audit_of(rows, agreement))
        assert found(run)[:1] == findings


def audit_of(splits, agreement):
    """An audit of three even classes with nothing against them."""
    return {
        "splits": {name: {"looked_at": of["rows"], "shape": [4], "dtype": "f", **of} for name, of in splits.items()},
        "classes": {name: {"0": 300, "1": 300, "2": 300} for name in splits}, "unreadable": [], "strange_labels": {},
        "non_finite": {}, "constant": [], "columns": 4, "lowest": -3.0, "highest": 3.0, "deviations": [1.0, 1.0],
        "mean": 0.1, "shifts": {}, "words": False, "outliers": {}, "duplicates": {}, "leakage": {},
        "label_errors": {"looked_at": 900, "agreement": agreement, "suspected": 0, "examples": [], "judged": True},
    }  # fmt: skip


def rising(to, place=8):
    """A validation loss that falls to 0.4 by an epoch, and rises from there."""
    return np.r_[falling(0.4, epochs=place), np.linspace(0.4, to, EPOCHS - place)]


def test_a_rise_of_the_validation_loss_is_weighed_against_what_was_gained():
    assert "overfit" not in found(run_of(falling(0.1), rising(0.55))), "a tenth of what was gained is lost again"
    assert "overfit" in found(run_of(falling(0.1), rising(1.0)))
    stays = run_of(falling(0.1), rising(1.1), accuracy=0.95)
    assert "overfit" not in found(stays), "the accuracy is as good, and half of the time was well spent"
    worse = {**stays.curves, "val/accuracy": np.r_[np.full(10, 0.95), np.linspace(0.95, 0.7, 10)]}
    assert "overfit" in found(replace(stays, curves=worse))


def test_a_validation_loss_that_is_lower_by_luck_is_no_fault():
    rows = {"train": {"rows": 900}, "val": {"rows": 100}}
    lower = run_of(falling(0.7), falling(0.5), accuracy=0.8)
    assert "label_errors" not in found(replace(lower, audit=audit_of(rows, 0.7)))
    rows["val"]["rows"] = 5000
    assert "label_errors" in found(replace(lower, audit=audit_of(rows, 0.7)))


def test_a_loss_that_settles_as_its_rate_decays_was_given_the_time():
    rates = (1 + np.cos(np.arange(EPOCHS) / EPOCHS * np.pi)) / 2
    way = np.cumsum(rates) / rates.sum()
    settled, falls = PRIOR * np.exp(-way * 6), PRIOR - 0.5 * way
    assert found(of_columns(train__loss=settled, val__loss=settled * 1.1, hp__lr=rates)) == []
    assert found(of_columns(train__loss=falls, val__loss=falls, hp__lr=rates))[0] == "lr_too_low"
    began_late = 0.4 + (PRIOR - 0.4) / (1 + np.exp(30 * (way - 0.55)))
    assert not diagnose(of_columns(train__loss=began_late, val__loss=began_late * 1.1, hp__lr=rates)).warnings


def test_what_shows_alike_follows_and_says_so():
    diagnosis = diagnose(SYMPTOMS["underfit"])
    assert [one.finding for one in diagnosis.warnings] == ["underfit", "lr_too_low"], "it still falls, step by step"
    assert diagnosis.warnings[1].evidence == {"instead_of": "underfit"}
    assert found(run_of(swinging(falling(1.3), 0.01)))[:2] == ["underfit", "lr_too_high"]
    assert as_text([diagnosis]).count("\n") == 1, "one line a trial, and the sum"


def test_a_weak_sign_says_what_else_a_vague_finding_may_be():
    dead_first = np.r_[0.99, 0.9, np.full(EPOCHS - 2, 0.19)]
    revived = replace(SYMPTOMS["underfit"], curves={**SYMPTOMS["underfit"].curves, "val/dead_units": dead_first})
    assert found(revived)[:2] == ["underfit", "dead_units"]
    rows = {"train": {"rows": 300}, "val": {"rows": 300}}  # so few steps that the rule is not sure
    scaled = run_of(falling(0.9, first=1.09), accuracy=0.84, audit=audit_of(rows, 0.9), probes={})
    assert found(scaled)[:2] == ["too_few_epochs", "loss_misfit"]


def test_a_loss_that_creeps_in_one_direction_wants_larger_steps():
    """As of SGD with a rate far too low, whose schedule brings it to rest; else nothing is learned at all."""
    moves = PRIOR + 0.05 * np.r_[0.2, 0.6, np.linspace(1.0, 0.4, EPOCHS - 2)]
    assert found(run_of(moves, moves * 1.001))[0] == "lr_too_low"
    thrown = PRIOR + 0.05 * np.where(np.arange(EPOCHS) % 2, 1, -1)
    assert found(run_of(thrown))[0] == "not_learning"
    assert found(run_of(moves, moves[::-1]))[0] == "not_learning", "validation goes elsewhere"


def test_a_first_loss_beyond_any_number_of_classes_is_no_measure():
    """Of others' curves with an accuracy: as steps far too large leave it."""
    losses = np.r_[39.6, 1.93, 2.83, 2.21, 2.42, 2.12, 2.05, np.linspace(2.0, 1.66, 13)]
    right = np.r_[0.32, 0.36, 0.38, 0.1, 0.21, 0.21, 0.21, np.linspace(0.2, 0.36, 13)]
    run = of_columns(train__loss=losses, val__loss=losses * 1.02, train__accuracy=right, val__accuracy=right)
    assert 1.7 < run.prior < 2.4
    assert found(run)[0] == "lr_too_high"


def bare(train, val=None, **columns):
    """A training of which nothing is known but its losses, and more columns."""
    return of_columns(train__loss=train, val__loss=train if val is None else val, **columns)


GUESSED = np.full(EPOCHS, 0.26) + 0.01 * np.sin(np.arange(EPOCHS))
TREMBLING = 1.4 + 0.03 * np.sin(np.arange(EPOCHS))
OTHERS_CURVES = {
    "a rate that was nearly 0 after three epochs": (
        bare(np.r_[1.6, 1.3, 1.1, np.linspace(1.06, 1.04, 17)], hp__lr=np.r_[[0.01] * 3, [1e-4] * 17]), "lr_too_low",
    ),
    "both losses thrown up by much of what was gained": (bare(swinging(falling(0.4, first=1.0), 0.2)), "oscillating"),
    "training falls a little, validation rises": (
        bare(
            np.linspace(1.4, 1.36, EPOCHS), np.linspace(1.4, 1.44, EPOCHS),
            train__accuracy=GUESSED, val__accuracy=GUESSED,
        ), "labels_shuffled",
    ),
    "both fall to the very end": (bare(np.linspace(0.7, 0.37, 3 * EPOCHS)), "too_few_epochs"),
    "a loss that trembles, and an accuracy of guessing": (
        bare(TREMBLING, train__accuracy=GUESSED, val__accuracy=GUESSED), "not_learning",
    ),
    "a mean over the first epoch far above all that follows": (
        bare(np.r_[22.8, 0.304, np.full(18, 0.3)], np.r_[0.49, np.full(19, 0.3)]), "lr_too_high",
    ),
    "worse than it began, and never better": (bare(1.4 + 0.2 * (1 - np.exp(-np.arange(EPOCHS)))), "lr_too_high"),
    "no number from the first epoch on": (bare(np.full(4, np.inf)), "lr_too_high"),
    "rows far apart from validation": (bare(falling(0.15, first=1.4), falling(0.7, first=1.4)), "too_little_data"),
}  # fmt: skip
PERHAPS = {
    "a rate that was nearly 0 after three epochs", "a mean over the first epoch far above all that follows",
    "rows far apart from validation",
}  # fmt: skip


@pytest.mark.parametrize("what", OTHERS_CURVES)
def test_curves_alone_show(what):
    run, finding = OTHERS_CURVES[what]
    assert found(run)[0] == finding
    assert diagnose(run).suspected is (what in PERHAPS)


def test_a_mean_over_an_epoch_that_lags_behind_is_no_label_error():
    """Few epochs, each loss the mean over the epoch that ended: validation after it is lower."""
    assert found(bare([1.06, 0.547, 0.35], [0.605, 0.331, 0.224]))[:1] == ["too_few_epochs"]


def test_a_validation_loss_that_only_rises_is_no_oscillation():
    val = 0.4 * 1.2 ** np.abs(np.arange(12) - 2.0)
    run = bare(falling(0.005, first=0.6, epochs=12), val, hp__lr=np.full(12, 1e-3))
    assert found(run)[0] == "overfit"
    assert "from 0.4 in epoch 3 " in diagnose(run).likeliest.message


def test_what_rises_slowly_wants_no_larger_steps():
    assert "lr_too_low" not in found(bare(np.linspace(2.30, 2.40, EPOCHS), np.linspace(2.31, 2.41, EPOCHS)))


def test_losses_that_cross_0_have_no_level_to_swing_about():
    draw = np.random.default_rng(0)
    losses = [falling(-1.2, first=1.4) + sd * draw.normal(size=EPOCHS) for sd in (0.02, 0.03)]
    assert "oscillating" not in found(bare(*losses))


def test_what_a_rule_found_keeps_its_words():
    run = replace(SYMPTOMS["underfit"], config={"dropout": 0.9}, curves={
        **SYMPTOMS["underfit"].curves, "val/dead_units": np.full(EPOCHS, 0.96),
    })  # fmt: skip
    assert found(run)[:2] == ["underfit", "dead_units"]
    assert diagnose(run).findings[1].message.startswith("96% of the units")


def test_a_last_row_that_is_no_epoch_is_no_divergence():
    ended = [*falling(0.1), None]
    table = pa.table({"trial": ["a"] * 21, "epoch": range(1, 22), "train/loss": ended, "val/loss": ended})
    assert not diagnose(of_table(table)[0]).warnings
    gone = [*falling(0.1)[:12], *[None] * 9]
    table = pa.table({"trial": ["a"] * 21, "epoch": range(1, 22), "train/loss": gone, "val/loss": gone})
    assert "from epoch 13 on" in diagnose(of_table(table)[0]).likeliest.message


def test_gaps_that_are_no_numbers_are_gaps():
    """As numpy writes them: validation every fifth of 22 epochs."""
    train = falling(0.1, epochs=22)
    val = np.where(np.arange(1, 23) % 5 == 0, train * 1.05, math.nan)
    table = pa.table({"trial": ["a"] * 22, "epoch": range(1, 23), "train/loss": train, "val/loss": val})
    assert not diagnose(of_table(table)[0]).warnings


def test_what_curves_may_mean_is_told_as_such():
    perhaps, sure = diagnose(bare(falling(1.0, first=1.4))), diagnose(SYMPTOMS["underfit"])
    assert (perhaps.likeliest, sure.suspected) == (None, False)
    lines = as_text([perhaps, sure]).splitlines()
    assert ("perhaps" in lines[0], "perhaps" in lines[1]) == (True, False)
    assert lines[-1] == "1 of 2 trials without a warning."


def test_a_rate_beyond_all_that_is_searched_comes_before_what_follows_from_it():
    dead = SYMPTOMS["dead_units"]
    assert found(dead)[:2] == ["dead_units", "lr_too_high"], "that it is poor follows from dead units"
    for config, first in (
        ({"lr": 3.0}, "lr_too_high"),
        ({"lr": 0.5, "optimizer": "sgd"}, "dead_units"),
        ({"sgd.lr": 3.0, "lr": 0.01, "optimizer": "sgd"}, "lr_too_high"),
        ({"lr": "high"}, "dead_units"),
    ):
        assert found(replace(dead, config=config))[0] == first


def test_a_rare_class_makes_a_lower_validation_loss_likely_by_luck():
    rows = {name: {"rows": 500} for name in ("train", "val")}
    run = run_of(falling(0.45, first=0.5), falling(0.34, first=0.5), accuracy=0.82)
    for counts, first in (({"0": 2000, "1": 500}, []), ({"0": 1250, "1": 1250}, ["label_errors"])):
        known = audit_of(rows, 0.8) | {"classes": {"train": counts, "val": counts}}
        assert [name for name in found(replace(run, audit=known)) if name == "label_errors"] == first


def test_what_is_worth_knowing_is_no_warning():
    start = np.full(4, PRIOR)
    late = with_curves(
        train__loss=np.r_[start, falling(0.02, epochs=16)], val__loss=np.r_[start, falling(0.06, epochs=16)]
    )
    sure = with_curves(val__ece=np.full(EPOCHS, 0.2), val__max_probability=np.full(EPOCHS, 0.999))
    still = with_curves(val__loss=falling(0.06), val__accuracy=np.full(EPOCHS, 0.99))
    for run, note in ((late, "slow_starter"), (sure, "overconfident"), (still, "accuracy_misleads")):
        assert note in found(run)
        assert diagnose(run).warnings == []
        assert "nothing is wrong" in as_text([diagnose(run)], whole=True)
        assert as_text([diagnose(run)]) == "1 of 1 trials without a warning."


def test_others_tables_are_read_as_they_are():
    """Percent for shares, train and validation in rows of their own, a loss below 0, only one of both, steps."""
    nan = np.full(EPOCHS, np.nan)
    train, val = falling(0.1), rising(1.0)
    apart = of_columns(train__loss=np.c_[train, nan].ravel(), val__loss=np.c_[nan, val].ravel())
    assert found(apart)[0] == "overfit"
    assert (
        found(of_columns(train__loss=train, val__loss=val, val__accuracy=np.linspace(90, 70, EPOCHS)))[0] == "overfit"
    )
    assert found(of_columns(train__loss=train, val__loss=train, train__accuracy=np.full(EPOCHS, 98.0))) == []
    assert found(of_columns(train__loss=-train, val__loss=-val)) == []
    assert found(of_columns(val__loss=train)) == found(of_columns(train__loss=train)) == []
    assert found(of_columns(train__loss=np.full(EPOCHS, np.nan), val__loss=train)) == [], "it was not measured"
    steps = np.arange(1000)
    noise = np.exp(0.1 * np.random.default_rng(0).standard_normal((2, 1000)))
    many = np.exp(-steps / 100) * PRIOR + 0.1
    assert found(of_columns(train__loss=many * noise[0], val__loss=1.3 * many * noise[1])) == []


def table(**columns):
    return pa.table(columns)


@pytest.mark.parametrize(("value", "said"), [(math.nan, ["lr_too_high"]), (None, [])])
def test_what_is_no_number_is_told_from_what_is_not_there(value, said):
    losses = pa.array([value] * 3, pa.float64())
    columns = {"trial": ["a"] * 3, "epoch": [1, 2, 3], "train/loss": losses, "val/loss": losses}
    (run,) = of_table(pa.table(columns))
    assert found(run)[:1] == said


def test_a_table_of_curves_in_any_order_is_read():
    one, other = SYMPTOMS["underfit"].curves["train/loss"], HEALTHY.curves["train/loss"]
    rows = [("b", n + 1, one[n]) for n in range(EPOCHS)] + [("a", n + 1, other[n]) for n in range(EPOCHS)]
    draw = np.random.default_rng(0).permutation(len(rows))
    trials, epochs, losses = zip(*(rows[place] for place in draw), strict=True)
    extra = {"config/lr": [0.1] * len(rows), "note": ["x"] * len(rows), "config/name": ["y"] * len(rows)}
    runs = of_table(table(trial=trials, epoch=epochs, **{"train/loss": losses, "val/loss": losses}, **extra))
    by_name = {run.trial: run for run in runs}
    assert set(by_name) == {"a", "b"}
    assert by_name["b"].epochs.tolist() == list(range(1, EPOCHS + 1))
    assert by_name["b"].config == {"lr": 0.1, "name": "y"}
    assert np.allclose(by_name["b"].curves["train/loss"], one)
    assert found(by_name["b"])[0] == "underfit"
    assert found(by_name["a"]) == []
    told = as_table(diagnose(run) for run in runs)
    assert told.column_names == ["trial", "finding", "severity", "message"]
    assert set(told["trial"].to_pylist()) == {"b"}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"epoch": [1], "train/loss": [1.0]}, "no column 'trial'"),
        ({"trial": ["a"], "train/loss": [1.0]}, "no column 'epoch'"),
        ({"trial": ["a"], "epoch": ["first"], "train/loss": [1.0]}, "'epoch' is string"),
    ],
)
def test_a_table_without_trial_or_epoch_is_refused(columns, message):
    with pytest.raises(UsageError, match=message):
        of_table(table(**columns))


def test_the_command_reads_anyones_curves_and_a_sweep(tmp_path):
    losses = SYMPTOMS["underfit"].curves["train/loss"].tolist()
    file = tmp_path / "curves.parquet"
    made = table(
        trial=["mine"] * EPOCHS, epoch=list(range(1, EPOCHS + 1)), **{"train/loss": losses, "val/loss": losses}
    )
    pyarrow.parquet.write_table(made, file)
    told = CliRunner().invoke(main, ["diagnose", "--curves", str(file)], catch_exceptions=False)
    assert told.exit_code == 0
    assert told.output.startswith("mine           underfit ")
    assert "not asked, for what is lacking: data (audit)" in told.output

    folder = record(tmp_path / "recorded")
    told = CliRunner().invoke(main, ["diagnose", str(folder)], catch_exceptions=False)
    assert told.exit_code == 0
    assert "trials without a warning." in told.output
    one = CliRunner().invoke(main, ["diagnose", str(folder), "explore-000"], catch_exceptions=False)
    assert one.output.startswith("explore-000")
    assert Sweep.open(folder).diagnose().column_names == ["trial", "finding", "severity", "message"]
    assert {run.trial for run in of_history(History.open(place(folder)))} <= set(Sweep.open(folder).history.trials)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Give one of them"),
        (["x", "--curves", "y"], "Give one of them"),
        (["--curves", "nowhere.parquet"], "cannot be read as Parquet"),
        (["nowhere"], "there is no sweep at nowhere"),
    ],
)
def test_a_call_that_cannot_be_is_told_without_a_traceback(words, message):
    told = CliRunner().invoke(main, ["diagnose", *words])
    assert told.exit_code == 2
    assert message in told.output + told.stderr


def test_a_trial_that_is_not_there_is_told(tmp_path):
    folder = record(tmp_path / "recorded")
    told = CliRunner().invoke(main, ["diagnose", str(folder), "explore-999"])
    assert told.exit_code == 2
    assert "no trial 'explore-999' has reported" in told.output + told.stderr
