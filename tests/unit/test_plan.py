"""The plan: its counts by hand, what it refuses and with which numbers, the baseline it completes."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from recorded import SPEC, record
from sweeps.errors import PlanError, SpecError
from sweeps.history import History
from sweeps.plan import (
    UNKNOWN,
    baseline_of,
    check_rows,
    duration,
    earlier_seconds_per_epoch,
    expected_epochs,
    make_plan,
    needs,
    render,
    roles,
    seconds_per_epoch,
    sized,
    slots_on,
)
from sweeps.spec import SweepSpec
from trainables.hyperparameters import STANDARD

SPACE = {"lr": {"log": [1e-4, 1e-1]}, "width": {"int": [8, 64]}}


def spec_of(**fields):
    """A spec of a trainable that is not there: a plan needs none."""
    return SweepSpec.model_validate({"trainable": "absent:Thing", "space": SPACE, **fields})


def planned(spec, slots=4, **known):
    """The plan's phases by name."""
    return {phase.phase: phase for phase in make_plan(spec, slots, **known).phases}


def test_every_count_of_the_usual_phases():
    spec = spec_of(
        phases=[
            {"kind": "explore", "trials": 24, "epochs": 9, "data_fraction": 0.25},
            {"kind": "refine", "trials": 12, "epochs": 27, "reduction_factor": None},
            {"kind": "confirm", "top": 2, "seeds": 5},
        ],
        keep_checkpoints=4,
    )
    explore, refine, confirm = make_plan(spec, 10, footprint={"checkpoint_bytes": 1000}).phases
    assert vars(explore) == {
        "phase": "explore", "kind": "explore", "trials": 24, "epochs": 9, "data_fraction": 0.25, "classes": None,
        "shares": {"baseline": 1, "sobol": 20, "advice": 3}, "concurrency": 10, "most_epochs": 216,
        "expected_epochs": 56.0,
        "checkpoints": 4, "checkpoint_bytes": 4000, "seconds": None,
    }  # fmt: skip
    assert vars(refine) == {
        "phase": "refine", "kind": "refine", "trials": 12, "epochs": 27, "data_fraction": 1.0, "classes": None,
        "shares": {"tpe": 10, "advice": 1, "old_space": 1}, "concurrency": 10, "most_epochs": 324,
        "expected_epochs": 324.0,
        "checkpoints": 4, "checkpoint_bytes": 4000, "seconds": None,
    }  # fmt: skip
    assert vars(confirm) == {
        "phase": "confirm", "kind": "confirm", "trials": 15, "epochs": 27, "data_fraction": 1.0, "classes": None,
        "shares": {"winners": 10, "baseline": 5}, "concurrency": 10, "most_epochs": 405, "expected_epochs": 405.0,
        "checkpoints": 19, "checkpoint_bytes": 19000, "seconds": None,
    }  # fmt: skip


def test_a_population_is_whole_and_begins_with_the_best_of_the_search_before_it():
    evolve = {"kind": "evolve", "population": 9, "epochs": 20}
    alone = make_plan(spec_of(phases=[evolve]), 4).phases[0]
    assert (alone.trials, alone.epochs, alone.most_epochs, alone.expected_epochs) == (9, 20, 180, 180)
    assert alone.shares == {"baseline": 1, "best": 0, "sobol": 8}
    after = make_plan(spec_of(phases=[{"kind": "explore"}, evolve, {"kind": "confirm"}]), 4).phases
    assert after[1].shares == {"baseline": 1, "best": 4, "sobol": 4}
    assert after[2].epochs == 20, "as long as the population's members"


def test_a_network_s_optimizer_does_not_change_while_it_is_trained():
    phase = {"kind": "evolve", "mutations": {"lr": None, "optimizer": None}}
    given = spec_of(phases=[phase], space={"lr": {"log": [1e-4, 1e-1]}, "optimizer": ["sgd", "adam"]})
    with pytest.raises(SpecError, match=r"mutations.optimizer: cannot change while a network is trained"):
        check_rows(given, {"train_rows": 100}, 1.0)
    check_rows(given, {}, 1.0)  # a loop of the user's own knows what it does


def test_a_grid_has_every_combination():
    space = {**SPACE, "norm": ["batch", "group"], "group.size": {"int": [1, 3]}, "depth": 2}
    phase = planned(spec_of(space=space, phases=[{"kind": "grid", "points": 3, "epochs": 2}]))["grid"]
    assert phase.trials == 3 * 3 * (1 + 3)
    assert (phase.shares, phase.checkpoints, phase.expected_epochs) == ({"grid": 36}, 3, 72.0)
    few = spec_of(space={"lr": SPACE["lr"]}, phases=[{"kind": "grid", "points": 2, "epochs": 2}])
    assert (planned(few)["grid"].checkpoints, planned(few)["grid"].concurrency) == (2, 2)


def search(explore: int, refine: int, space=SPACE, **fields) -> tuple[list[str], list[str]]:
    """The roles of the trials of both phases."""
    phases = [{"kind": "explore", "trials": explore}, {"kind": "refine", "trials": refine, **fields}]
    spec = spec_of(space=space, phases=phases)
    return roles(spec, spec.phases[0]), roles(spec, spec.phases[1])


REGULARISED = {**SPACE, "dropout": {"float": [0.0, 0.5]}, "adamw.weight_decay": None, "optimizer": ["adamw", "sgd"]}


def test_advice_comes_when_there_is_something_to_advise_and_at_most_one_trial_in_eight():
    explore, refine = search(24, 12)
    assert [number for number, role in enumerate(explore) if role == "advice"] == [12, 17, 23]
    assert [number for number, role in enumerate(refine) if role == "advice"] == [10]
    assert explore[0] == "baseline"
    assert set(explore[1:12]) == {"sobol"}
    assert "advice" in search(20, 12)[0]
    assert "advice" not in search(19, 12)[0] + search(19, 12)[1], "31 trials are too few"
    most = search(64, 64, advice_share=0.25)
    assert (most[0].count("advice"), most[1].count("advice")) == (8, 16)
    assert search(64, 64, advice_share=0.0)[1].count("advice") == 0


def test_the_arms_without_what_regularises_come_last_and_are_few():
    explore, refine = search(24, 12, REGULARISED)
    assert refine[-3:] == ["old_space", "dropout_zero", "weight_decay_zero"]
    assert not {"dropout_zero", "weight_decay_zero"} & set(explore)
    assert search(24, 11, REGULARISED)[1][-2:] == ["old_space", "dropout_zero"]
    assert "dropout_zero" not in search(24, 5, REGULARISED)[1]
    given = [role for role in explore + refine if role not in ("sobol", "tpe", "baseline")]
    assert len(given) <= 0.25 * 36, "by default they stay within a quarter of the trials"
    fixed = {**SPACE, "dropout": 0.3}
    assert "dropout_zero" not in search(24, 12, fixed)[1], "a constant is a person's word"


def test_what_a_phase_grew_by_has_shares_of_its_own():
    spec = spec_of(space=REGULARISED, phases=[{"kind": "explore", "trials": 24}, {"kind": "refine", "trials": 20}])
    whole, grown = (roles(spec, spec.phases[1], totals) for totals in ((), (12, 16, 20)))
    assert (len(grown), grown[:12]) == (20, roles(spec, spec.phases[1].model_copy(update={"trials": 12})))
    assert grown[12:] == ["tpe"] * 8, "four more are too few for anything else"
    assert whole[-2:] == ["dropout_zero", "weight_decay_zero"]


@pytest.mark.parametrize(("trials", "share"), [(1, 0.25), (2, 0.25), (7, 0.125), (33, 0.25)])
def test_each_trial_of_a_phase_of_any_size_has_a_role(trials, share):
    for explore, refine in ((40, trials), (trials, 40)):
        found = search(explore, refine, REGULARISED, advice_share=share, old_space_share=share)
        assert [len(phase) for phase in found] == [explore, refine]
        assert found[0][0] == "baseline"


@pytest.mark.parametrize(("share", "old"), [(0.0, 0), (0.125, 2), (0.25, 5)])
def test_the_shares_are_the_trials(share, old):
    phases = [{"kind": "explore", "trials": 7}, {"kind": "refine", "trials": 21, "old_space_share": share}]
    found = planned(spec_of(phases=[*phases, {"kind": "confirm", "top": 3, "seeds": 4}]))
    assert all(sum(phase.shares.values()) == phase.trials for phase in found.values())
    assert found["refine"].shares == {"tpe": 21 - old, **({"old_space": old} if old else {})}
    assert found["confirm"].shares == {"winners": 12, "baseline": 4}


@pytest.mark.parametrize(
    ("epochs", "min_epochs", "factor", "expected"),
    [
        (9, 1, 3, 24 + 8 * 2 + 24 / 9 * 6),  # all of them 1 epoch, a third 2 more, a ninth 6 more
        (10, 2, 2, 24 * 2 + 12 * 2 + 6 * 4 + 3 * 2),  # rungs 2, 4, 8
        (9, 9, 3, 24 * 9),
        (9, 1, None, 24 * 9),
    ],
)
def test_expected_epochs_by_hand(epochs, min_epochs, factor, expected):
    phase = {"kind": "explore", "trials": 24, "epochs": epochs, "min_epochs": min_epochs, "reduction_factor": factor}
    assert expected_epochs(spec_of(phases=[phase]).phases[0], 24) == pytest.approx(expected)


def test_confirm_is_as_long_as_the_search_before_it_unless_it_says_so():
    search = [{"kind": "explore", "epochs": 3}, {"kind": "refine", "epochs": 9}]
    late = [{"kind": "confirm"}, {"kind": "confirm", "name": "again", "epochs": 40}]
    found = planned(spec_of(phases=[search[0], {"kind": "confirm", "name": "first"}, search[1], *late]))
    assert [found[name].epochs for name in ("first", "confirm", "again")] == [3, 9, 40]


def test_the_default_phases_are_as_long_as_half_of_the_hours_allows():
    spec = spec_of(phases=[{"kind": "explore"}], metric="val/accuracy", budget={"trials": 60})
    longest = 0
    for hours in (0.2, 0.5, 1, 3, 10, 1e6):
        fitting = sized(spec, hours, 2, 1.0)
        audit, preflight, explore, refine, confirm = fitting.phases
        assert (audit.kind, preflight.kind) == ("audit", "preflight")
        assert (explore.epochs * 3, confirm.epochs) == (refine.epochs, None)
        assert make_plan(fitting, 2, seconds_per_epoch=1.0).total_s <= hours * 3600 / 2
        assert refine.epochs >= longest
        longest = refine.epochs
        assert (fitting.budget.hours, fitting.budget.trials, fitting.metric) == (hours, 60, "val/accuracy")
    assert longest == 81
    # on two slots: (24 * 0.5 + 20 + 9 * 3) / 2 s at 3 epochs, (40 * 0.5 + 28 + 9 * 9) / 2 s at 9
    assert [sized(spec, 2 * seconds / 3600, 2, 1.0).with_trials[1].epochs for seconds in (30, 64, 65)] == [3, 3, 9]
    with pytest.raises(PlanError, match=r"at 1 s an epoch .* trains for 30 s.*\n  Give hours=0\.017 or more"):
        sized(spec, 2 * 29 / 3600, 2, 1.0)


@pytest.mark.parametrize("seconds", [0.00123, 0.7, 1.1, 100.0, 98765.0])
def test_the_hours_that_are_advised_are_enough(seconds):
    with pytest.raises(PlanError) as caught:
        sized(spec_of(), 1e-9, 2, seconds)
    advised = float(str(caught.value).rpartition("hours=")[2].split()[0])
    assert sized(spec_of(), advised, 2, seconds).with_trials[1].epochs == 3


def test_confirm_has_no_more_winners_than_the_search_had_trials():
    grid = {"kind": "grid", "points": 1}
    explore = {"kind": "explore", "trials": 3}
    for search, winners in ((explore, 2), (grid, 1)):
        spec = spec_of(phases=[search, {"kind": "confirm", "top": 5, "seeds": 4}])
        found = planned(spec)["confirm"]
        assert (found.trials, found.shares) == (4 * (winners + 1), {"winners": 4 * winners, "baseline": 4})


def test_a_script_learns_nothing_from_another_scripts_sweeps(tmp_path):
    folder = record(tmp_path / "recorded")
    (journal,) = (folder / "journal").iterdir()
    named = SweepSpec.model_validate({**SPEC.document(), "trainable": "m:Net"})
    journal.write_text(journal.read_text().replace("trainables.examples.digits:Digits", "m:Net"))
    assert earlier_seconds_per_epoch(named, tmp_path) is not None
    script = SweepSpec.model_validate({**SPEC.document(), "trainable": "__main__:Net"})
    journal.write_text(journal.read_text().replace("m:Net", "__main__:Net"))
    assert earlier_seconds_per_epoch(script, tmp_path) is None


def test_time_goes_with_epochs_data_and_slots():
    phases = [
        {"kind": "explore", "trials": 10, "epochs": 4, "data_fraction": 0.5, "reduction_factor": None},
        {"kind": "confirm", "top": 1, "seeds": 2},
    ]
    spec = spec_of(phases=phases)
    plan = make_plan(spec, 2, seconds_per_epoch=3.0, basis="as in x")
    assert [phase.seconds for phase in plan.phases] == [10 * 4 * 0.5 * 3 / 2, 4 * 4 * 3 / 2]
    assert (plan.total_s, plan.basis) == (54.0, "as in x")
    assert make_plan(spec, 8, seconds_per_epoch=3.0).phases[1].seconds == 4 * 4 * 3 / 4, "only four trials to share out"
    unknown = make_plan(spec, 2)
    assert (unknown.total_s, unknown.seconds_per_epoch, unknown.basis) == (None, None, UNKNOWN)
    assert [phase.checkpoint_bytes for phase in unknown.phases] == [None, None]


def test_the_plan_as_the_journal_writes_it():
    plan = make_plan(spec_of(), 4, footprint={"checkpoint_bytes": 10, "train_rows": 5}, seconds_per_epoch=0.5)
    line = json.loads(json.dumps(plan.document()))
    assert line["footprint"] == {"checkpoint_bytes": 10, "train_rows": 5}
    assert [phase["phase"] for phase in line["phases"]] == ["explore", "refine", "confirm"]
    assert line["phases"][0]["shares"] == {"baseline": 1, "sobol": 20, "advice": 3}


def on(nodes, resources):
    """How many trials with these resources run at a time."""
    spec = spec_of(resources=resources)
    return slots_on(nodes, spec, needs(spec, nodes))


@pytest.mark.parametrize(
    ("nodes", "resources", "slots"),
    [
        ([{"CPU": 2, "GPU": 0}], {}, 2),
        ([{"CPU": 2, "GPU": 0}], {"cpus_per_worker": 0.1}, 20),
        ([{"CPU": 1, "GPU": 0}], {"cpus_per_worker": 1 / 3}, 3),
        ([{"CPU": 33, "GPU": 0}], {"cpus_per_worker": 1.1}, 30),  # 33 / 1.1 is 29.999999999999996
        ([{"CPU": 7, "GPU": 0}], {"cpus_per_worker": 2}, 3),
        ([{"CPU": 3, "GPU": 0}, {"CPU": 3, "GPU": 0}], {"cpus_per_worker": 2}, 2),  # not 6 // 2: no trial spans nodes
        ([{"CPU": 16, "GPU": 2}], {"gpus_per_worker": 1}, 2),
        ([{"CPU": 16, "GPU": 1}], {"gpus_per_worker": 0.25}, 4),
        ([{"CPU": 2, "GPU": 8}], {"gpus_per_worker": 1}, 2),
        ([{"CPU": 16, "GPU": 1}, {"CPU": 64}], {"gpus_per_worker": 1}, 1),
        ([{"CPU": 8, "GPU": 0}], {"concurrency": 3}, 3),
        ([{"CPU": 8, "GPU": 0}], {"concurrency": 8}, 8),
    ],
)
def test_how_many_trials_fit(nodes, resources, slots):
    assert on(nodes, resources) == slots


@pytest.mark.parametrize(
    ("nodes", "peak", "gpus", "slots"),
    [
        ([{"CPU": 16, "GPU": 0}], 10, 0.0, 16),  # no GPU: none is taken
        ([{"CPU": 16, "GPU": 2}], None, 1.0, 2),  # not measured yet
        ([{"CPU": 16, "GPU": 2}], 10, 0.1666, 12),  # 100 / 15 is 6.7
        ([{"CPU": 4, "GPU": 1}], 10, 0.1666, 4),  # no more than have a CPU
        ([{"CPU": 99, "GPU": 1}], 1, 0.125, 8),
        ([{"CPU": 16, "GPU": 2}], 60, 1.0, 2),
        ([{"CPU": 16, "GPU": 2}], 99, 1.0, 2),
    ],
)
def test_trials_share_a_gpu_by_measured_memory(nodes, peak, gpus, slots):
    spec = spec_of(resources={"gpus_per_worker": "auto"}, phases=[{"kind": "preflight"}, {"kind": "explore"}])
    measured = {} if peak is None else {"peak_bytes": peak, "device_bytes": 100}
    need = needs(spec, nodes, measured)
    assert need == {"workers": 1, "cpus": 1, "gpus": gpus}
    assert slots_on(nodes, spec, need) == slots


def test_each_of_several_workers_has_a_gpu_of_its_own():
    resources = {"gpus_per_worker": "auto", "workers": 2}
    spec = spec_of(resources=resources, phases=[{"kind": "preflight"}, {"kind": "explore"}])
    need = needs(spec, [{"CPU": 16, "GPU": 4}], {"peak_bytes": 10, "device_bytes": 100})
    assert need == {"workers": 2, "cpus": 1, "gpus": 1.0}
    assert slots_on([{"CPU": 16, "GPU": 4}], spec, need) == 2
    assert needs(spec, [{"CPU": 16, "GPU": 0}])["gpus"] == 0.0


@pytest.mark.parametrize("nodes", [[{"CPU": 2, "GPU": 0}], [{"CPU": 2, "GPU": 1}]])
def test_more_at_a_time_than_have_a_cpu_is_refused_also_where_gpus_are_shared(nodes):
    resources = {"gpus_per_worker": "auto", "concurrency": 3}
    spec = spec_of(resources=resources, phases=[{"kind": "preflight"}, {"kind": "explore"}])
    with pytest.raises(PlanError, match="3 trials at a time were asked for"):
        slots_on(nodes, spec, needs(spec, nodes))


def test_fewer_than_asked_for_at_a_time_is_no_error_where_it_is_measured():
    resources = {"gpus_per_worker": "auto", "concurrency": 3}
    spec = spec_of(resources=resources, phases=[{"kind": "preflight"}, {"kind": "explore"}])
    nodes = [{"CPU": 16, "GPU": 1}]
    assert slots_on(nodes, spec, needs(spec, nodes)) == 1
    assert slots_on(nodes, spec, needs(spec, nodes, {"peak_bytes": 10, "device_bytes": 100})) == 3


def test_what_can_never_fit_is_refused_with_the_numbers():
    small = [{"CPU": 2, "GPU": 0}, {"CPU": 6, "GPU": 0}]
    with pytest.raises(PlanError) as refused:
        on(small, {"cpus_per_worker": 8})
    assert str(refused.value) == (
        "resources: a trial takes 8 CPUs and 0 GPUs on one node; the largest of 2 nodes has 6 CPUs and 0 GPUs.\n"
        "  Lower workers, cpus_per_worker or gpus_per_worker."
    )
    with pytest.raises(PlanError, match=r"takes 1 CPU and 0\.5 GPUs on one node; .* has 6 CPUs and 0 GPUs"):
        on(small, {"gpus_per_worker": 0.5})
    with pytest.raises(PlanError, match="the largest of 0 nodes has 0 CPUs"):
        on([], {})
    with pytest.raises(PlanError) as refused:
        on(small, {"cpus_per_worker": 2, "concurrency": 5})
    assert str(refused.value) == (
        "resources.concurrency: 5 trials at a time were asked for; 4 fit (2 CPUs and 0 GPUs each, on 2 nodes).\n"
        "  Write concurrency: 4, or leave it out."
    )


def test_more_trials_than_the_budget_are_refused_with_the_numbers():
    phases = [{"kind": "explore", "trials": 10}, {"kind": "refine", "trials": 5}, {"kind": "confirm"}]
    with pytest.raises(PlanError) as refused:
        make_plan(spec_of(phases=phases, budget={"trials": 23}), 2)
    assert str(refused.value) == (
        "budget.trials: the phases need 24 trials (10 explore + 5 refine + 9 confirm); the budget is 23.\n"
        "  Lower the phases' trials, or raise the budget to 24."
    )
    assert len(make_plan(spec_of(phases=phases, budget={"trials": 24}), 2).phases) == 3


def test_more_time_than_the_budget_is_refused_once_it_is_known():
    """Stopped at the first rung, 20 trials of 0.5 of an epoch and 4 whole ones of 8 take at least 42 epochs."""
    phases = [
        {"kind": "explore", "trials": 20, "epochs": 8, "data_fraction": 0.5},
        {"kind": "confirm", "top": 1, "seeds": 2},
    ]
    spec = spec_of(phases=phases, budget={"hours": 2})
    make_plan(spec, 1)
    make_plan(spec, 1, seconds_per_epoch=7200 / 42 * 0.999)
    with pytest.raises(PlanError) as refused:
        make_plan(spec, 1, seconds_per_epoch=7200 / 42 * 1.5, basis="as in one")
    assert str(refused.value) == (
        "budget.hours: at 257 s an epoch (as in one) the least work takes 3 hours; the budget is 2.\n"
        "  Lower trials, epochs or data_fraction, or raise the budget."
    )
    make_plan(spec, 2, seconds_per_epoch=7200 / 42 * 1.5)
    unstopped = spec_of(phases=[{**phases[0], "reduction_factor": None}], budget={"hours": 2})
    with pytest.raises(
        PlanError, match=r"at 120 s an epoch \(unknown until measured\) the least work takes 2\.7 hours"
    ):
        make_plan(unstopped, 1, seconds_per_epoch=120)


def test_a_batch_that_can_be_larger_than_the_data_is_refused():
    spec = spec_of(space={**SPACE, "batch_size": {"powers_of_two": [16, 128]}})
    check_rows(spec, {"train_rows": 128}, 0.5)
    with pytest.raises(SpecError) as refused:
        check_rows(spec, {"train_rows": 127}, 0.5)
    assert str(refused.value) == (
        "space.batch_size: a batch of 128 is larger than the 127 training rows at data_fraction 0.5\n"
        "  End the range at 127 or below, or raise data_fraction."
    )
    for domain in ([32, 300, 64], 300, {"int": [7, 300]}, {"int": [20, 300], "scale": "log"}):
        with pytest.raises(SpecError, match="a batch of 300 is larger than the 299"):
            check_rows(spec_of(space={**SPACE, "batch_size": domain}), {"train_rows": 299}, 1.0)
    check_rows(spec, {}, 1.0)  # a loop of the user's own
    check_rows(spec_of(), {"train_rows": 1}, 1.0)


def test_the_workers_of_a_trial_may_be_on_several_nodes():
    pair = spec_of(resources={"workers": 2, "cpus_per_worker": 1, "gpus_per_worker": 1})
    one, two = {"CPU": 4, "GPU": 1}, {"CPU": 4, "GPU": 2}
    for nodes, slots in (([one, one], 1), ([two], 1), ([one, one, two], 2), ([one, {"CPU": 1, "GPU": 8}], 1)):
        assert slots_on(nodes, pair, needs(pair, nodes)) == slots
    with pytest.raises(
        PlanError, match="a trial takes 2 workers with 1 CPU and 1 GPU each; the largest of 1 nodes has 4"
    ):
        slots_on([one], pair, needs(pair, [one]))


def test_what_is_never_stopped_counts_whole():
    phase = {"kind": "explore", "trials": 16, "epochs": 9, "reduction_factor": 3}
    judged, spared = (
        planned(spec_of(phases=[{**phase, **more}]))["explore"] for more in ({}, {"unstopped_share": 0.125})
    )
    assert judged.expected_epochs == 16 + 16 / 3 * 2 + 16 / 9 * 6
    assert spared.expected_epochs == pytest.approx(2 * 9 + 14 / 16 * judged.expected_epochs)


def test_more_classes_than_there_are_are_refused():
    phases = [{"kind": "explore", "trials": 4, "epochs": 2, "classes": n} for n in (2, 5)]
    spec = spec_of(phases=[phases[0], {**phases[1], "name": "more"}])
    check_rows(spec, {"train_rows": 100, "classes": 5}, 1.0)
    check_rows(spec, {}, 1.0)  # a loop of the user's own
    with pytest.raises(SpecError, match=r"phases\[1\].classes: 5 classes of the 4 that the training rows have"):
        check_rows(spec, {"train_rows": 100, "classes": 4}, 1.0)


BASELINE_SPACE = {
    "lr": {"log": [1e-4, 1e-1]},
    "optimizer": ["sgd", "adamw"],
    "sgd.momentum": {"float": [0.5, 0.99]},
    "adamw.weight_decay": {"float": [0.1, 0.5]},
    "width": {"int": [8, 64]},
    "depth": 3,
}


def test_the_baseline_is_filled_with_what_the_loop_would_use():
    spec = spec_of(space=BASELINE_SPACE, baseline={"width": 12, "optimizer": "sgd"})
    found = baseline_of(spec, STANDARD)
    assert found == {"lr": 1e-3, "optimizer": "sgd", "sgd.momentum": 0.9, "width": 12, "depth": 3}
    assert list(found) == [name for name in spec.space if name in found]
    default = baseline_of(spec_of(space=BASELINE_SPACE, baseline={"width": 12, "lr": 0.5}), STANDARD)
    assert default == {"lr": 0.5, "optimizer": "adamw", "adamw.weight_decay": 0.0, "width": 12, "depth": 3}
    useless = spec_of(space=BASELINE_SPACE, baseline={"width": 12, "optimizer": "adamw", "sgd.momentum": 0.7})
    assert "sgd.momentum" not in baseline_of(useless, STANDARD)


def test_a_parameter_of_the_models_own_must_stand_in_the_baseline():
    with pytest.raises(SpecError) as missing:
        baseline_of(spec_of(space=BASELINE_SPACE, baseline={"lr": 0.1}), STANDARD)
    assert str(missing.value) == "baseline.width: is missing\n  Write the value that you use today."


def test_a_parameter_that_does_not_exist_in_the_baseline_need_not_stand_in_it():
    space = {"norm": ["batch", "group"], "group.size": {"int": [1, 8]}, "lr": None}
    assert baseline_of(spec_of(space=space, baseline={"norm": "batch"}), STANDARD) == {"norm": "batch", "lr": 1e-3}
    with pytest.raises(SpecError, match=r"baseline\.group\.size: is missing"):
        baseline_of(spec_of(space=space, baseline={"norm": "group"}), STANDARD)


def test_without_a_baseline_it_is_the_middle():
    found = baseline_of(spec_of(space=BASELINE_SPACE), STANDARD)
    middle = {"lr": 10**-2.5, "optimizer": "adamw", "adamw.weight_decay": 0.3, "width": 36, "depth": 3}
    assert found == {name: pytest.approx(value) for name, value in middle.items()}


def test_seconds_per_epoch_of_a_recorded_sweep(recorded_sweep):
    history = History.open(recorded_sweep)
    trials = history.trials.values()
    halves = sum(len(trial.epochs) for trial in trials if trial.phase == "explore")
    wholes = sum(len(trial.epochs) for trial in trials if trial.phase != "explore")
    failed = sum(len(trial.failures) for trial in trials)
    seconds = 0.4 * (halves + wholes) + 0.2 * failed
    assert seconds_per_epoch(history) == pytest.approx(seconds / (0.5 * halves + wholes))
    assert seconds_per_epoch(History(recorded_sweep)) is None


def aged(folder, seconds):
    """The folder, its journal as old as that."""
    at = (folder / "journal").stat().st_mtime - seconds
    os.utime(folder / "journal", (at, at))
    return folder


def test_the_newest_sweep_of_the_same_trainable_tells_the_time(tmp_path, recorded_sweep):
    assert earlier_seconds_per_epoch(SPEC, tmp_path) is None
    assert earlier_seconds_per_epoch(SPEC, tmp_path / "absent") is None
    older = aged(record(tmp_path / "z-older"), 3600)
    shutil.copytree(recorded_sweep, tmp_path / "a-newer")
    aged(tmp_path / "a-newer", 0)
    seconds = seconds_per_epoch(History.open(recorded_sweep))
    assert earlier_seconds_per_epoch(SPEC, tmp_path) == (pytest.approx(seconds), "a-newer")
    aged(tmp_path / "a-newer", 1e6)
    assert earlier_seconds_per_epoch(SPEC, tmp_path) == (pytest.approx(seconds), "z-older")
    shutil.rmtree(older)
    other = SPEC.model_copy(update={"trainable": "trainables.examples.digits:Other"})
    assert earlier_seconds_per_epoch(other, tmp_path) is None
    from trainables.examples.digits import Digits  # an object is known by its name

    assert earlier_seconds_per_epoch(SPEC.model_copy(update={"trainable": Digits}), tmp_path)[1] == "a-newer"


DAMAGES = {
    "cut in the middle": lambda lines: [*lines[:4], lines[4][:40], *lines[5:]],
    "not text": lambda lines: [b"\xff\xfe\x00", *lines],
    "not an object": lambda lines: [*lines, b"17"],
    "without a kind": lambda lines: [*lines, b"{}"],
    "a report of no trial": lambda lines: [lines[0], *[line for line in lines if b'"report"' in line]],
    "a spec of another version": lambda lines: [lines[0].replace(b'"metric":', b'"measure":'), *lines[1:]],
    "a change of another version": lambda lines: [line.replace(b'"why":', b'"because":') for line in lines],
    "a fidelity of another version": lambda lines: [line.replace(b'"data_fraction":', b'"part":') for line in lines],
    "text for a number": lambda lines: [line.replace(b'"seconds":0.4', b'"seconds":"fast"') for line in lines],
    "nothing yet": lambda lines: lines[:3],
    "empty": lambda lines: [],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_or_foreign_sweep_tells_nothing_and_hides_nobody(tmp_path, recorded_sweep, damage):
    shutil.copytree(recorded_sweep, tmp_path / "good")
    aged(tmp_path / "good", 1e6)
    shutil.copytree(recorded_sweep, tmp_path / "bad")
    (file,) = (tmp_path / "bad" / "journal").iterdir()
    lines = file.read_bytes().splitlines()
    broken = DAMAGES[damage](lines)
    assert broken != lines
    file.write_bytes(b"".join(line + b"\n" for line in broken))
    (tmp_path / "no-sweep").mkdir()
    assert earlier_seconds_per_epoch(SPEC, tmp_path)[1] == "good"


def test_a_journal_that_cannot_be_read_hides_nobody(tmp_path, recorded_sweep):
    """Another user's, in a shared folder; here a directory, since root may read everything."""
    shutil.copytree(recorded_sweep, tmp_path / "good")
    aged(tmp_path / "good", 1e6)
    (tmp_path / "bad" / "journal" / "0001-0000.jsonl").mkdir(parents=True)
    assert earlier_seconds_per_epoch(SPEC, tmp_path)[1] == "good"


def test_the_text_has_every_phase_the_time_and_each_source():
    spec = spec_of(
        space={"lr": None, "dropout": {"float": [0, 0.5]}, "optimizer": ["sgd", "adamw"], "sgd.momentum": None},
        phases=[{"kind": "explore", "trials": 24, "epochs": 9}, {"kind": "confirm", "name": "last_check"}],
    )
    text = render(make_plan(spec, 4, footprint={"checkpoint_bytes": 1234}), spec)
    table = text.splitlines()
    assert table[1].split()[:5] == ["explore", "24", "9", "50%", "4"]
    assert "about 56, at most 216" in table[1]
    assert "3, 3,702 bytes" in table[1]
    assert table[1].endswith("unknown")
    assert table[2].split()[:3] == ["last_check", "9", "9"]
    assert "shares: explore 1 baseline, 23 sobol; last_check 6 winners, 3 baseline" in table
    assert "time: unknown until measured" in table
    sources = {line.split()[0]: line for line in table[table.index("space:") + 1 :]}
    assert set(sources) == set(spec.space)
    assert "1e-05 … 0.1 log" in sources["lr"]
    assert "(playbook: S1 1e-4…1e-3" in sources["lr"]
    assert sources["dropout"].endswith("0 … 0.5  (spec)")
    assert "when optimizer is sgd" in sources["sgd.momentum"]
    assert "(playbook: PB" in sources["sgd.momentum"]
    # (56 epochs on half of the data + 9 trials of 9) × 0.25 s / 4 at a time = 6.8 s
    known = render(make_plan(spec, 4, seconds_per_epoch=0.25, basis="as in digits-1"), spec)
    assert "time: about 7 s of training at 0.25 s a full epoch (as in digits-1)" in known.splitlines()
    assert "unknown until measured" not in known
    assert "size unknown" in known


def test_durations_as_a_person_says_them():
    said = [duration(s) for s in (None, 0.4, 119, 120, 7199, 7200, 90000)]
    assert said == ["unknown", "0 s", "119 s", "2 min", "120 min", "2.0 h", "25.0 h"]
