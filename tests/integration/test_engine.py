"""The engine on real Ray: trials, early stopping, failures and lost slots, with trials that train nothing."""

from __future__ import annotations

import io
import math
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import ray
from ray import cloudpickle

from engine import run_toy, toy_spec
from sweeps import PlanError, Sweep, SweepFailed, UsageError
from sweeps.history import History
from sweeps.journal import read
from sweeps.report.summary import status
from sweeps.slots import NoSlots, Order, Pool

pytestmark = pytest.mark.usefixtures("ray_session")
VALUE = {"float": [0.0, 1.0]}


def kinds(sweep: Sweep, kind: str) -> list[dict]:
    """The journal's lines of a kind."""
    return [line for line in read(sweep.folder) if line["kind"] == kind]


def test_a_plain_sweep(tmp_path: Path) -> None:
    """Every planned trial once, every epoch once, the best checkpoints left, and the same read back."""
    search = {"kind": "explore", "trials": 8, "epochs": 3, "reduction_factor": None}
    sweep = run_toy(tmp_path, phases=[{"kind": "audit"}, {"kind": "preflight"}, search], keep_checkpoints=2)
    told = [(f["finding"], f["severity"]) for f in sweep.history.findings if f.get("phase") != "explore"]
    assert told == [("not_audited", "info"), ("no_preflight", "info")], "a loop of its own"
    trials = list(sweep.history.trials.values())
    assert [t.trial for t in trials] == [f"explore-{n:03d}" for n in range(8)]
    for trial in trials:
        assert (trial.status, trial.reason, trial.attempt) == ("FINISHED", "all epochs", 1)
        assert [(e.epoch, e.metrics["val/loss"]) for e in trial.epochs] == [
            (epoch, trial.config["value"] + 0.5**epoch) for epoch in (1, 2, 3)
        ]
        assert trial.fidelity == {"epochs": 3, "data_fraction": 0.5, "seed": 0}
    assert sweep.history.status == "FINISHED"
    assert [t.role for t in trials] == ["baseline"] + ["sobol"] * 7
    assert sum(
        sweep.history.end["time"][part] for part in ("startup_s", "training_s", "bookkeeping_s")
    ) == pytest.approx(sweep.history.end["time"]["wall_s"])
    best = sorted(trials, key=lambda t: t.config["value"])[:2]
    left = sorted(str(p.parent.relative_to(sweep.folder)) for p in sweep.folder.glob("checkpoints/*/*/manifest.json"))
    assert left == sorted(f"checkpoints/{t.trial}/3" for t in best)
    assert sweep.best.trial == best[0].trial
    assert int(sweep.best.state()["epoch"]) == 3
    with pytest.raises(UsageError, match="builds its model itself"):
        sweep.best.load()
    again = Sweep.open(sweep.folder)
    assert again.spec == sweep.spec
    assert again.best == sweep.best
    assert again.table().equals(sweep.table())


def test_a_hopeless_sweep_is_stopped_before_its_first_trial(tmp_path: Path) -> None:
    space = {"lr": {"log": [1e-3, 1e-1]}, "batch_size": 4}
    search = {"kind": "explore", "trials": 2, "epochs": 1}
    stopped = Sweep(toy_spec(tmp_path, "toys:Blind", space=space, phases=[{"kind": "preflight"}, search]))
    with pytest.raises(SweepFailed, match=r"tuning would be in vain.[\s\S]*  input_independent: after equally few"):
        stopped.run(out=io.StringIO())
    history = stopped.history
    assert (history.status, history.phases["preflight"].status, history.trials) == ("FAILED", "FAILED", {})
    assert {f["finding"]: f["severity"] for f in history.findings}["input_independent"] == "block"
    assert history.seconds > 0
    assert (stopped.folder / "report.html").exists()


def test_data_that_say_nothing_stop_the_sweep_until_that_is_waived_with_a_reason(tmp_path: Path) -> None:
    space = {"lr": {"log": [1e-3, 1e-1]}, "batch_size": 4}
    search = {"kind": "explore", "trials": 2, "epochs": 1}
    stopped = Sweep(toy_spec(tmp_path / "1", "toys:Blind", space=space, phases=[{"kind": "audit"}, search]))
    with pytest.raises(SweepFailed, match=r"audit: tuning would be in vain.[\s\S]*  constant_features: ") as caught:
        stopped.run(out=io.StringIO())
    assert "{kind: audit, waive: {constant_features: '…'}}" in str(caught.value)
    assert (stopped.history.phases["audit"].status, stopped.history.trials) == ("FAILED", {})
    assert "audit" in status(stopped.history)

    reason = "they are empty on purpose"
    waived = {"kind": "audit", "waive": {"constant_features": reason}}
    out = io.StringIO()
    sweep = Sweep(toy_spec(tmp_path / "2", "toys:Blind", space=space, phases=[waived, search])).run(out=out)
    assert sweep.history.status == "FINISHED"
    (found,) = (f for f in sweep.history.findings if f["finding"] == "constant_features")
    assert (found["severity"], found["evidence"]["waived"]) == ("warn", reason)
    assert f"Waived: {reason}" in " ".join(out.getvalue().split())
    assert reason in (sweep.folder / "report.html").read_text()
    assert len(sweep.history.trials) == 2


def test_data_that_cannot_be_trained_on_stop_the_sweep_with_all_that_is_wrong_with_them(tmp_path: Path) -> None:
    space = {"lr": {"log": [1e-3, 1e-1]}, "batch_size": 4}
    search = {"kind": "explore", "trials": 2, "epochs": 1}
    refused = r"^data: table: column 'a' is nan in row 5 \(from 0\)\. Fill in or drop what is missing"
    for phases, more in (([search], "$"), ([{"kind": "audit"}, search], r"\n  The audit of the data finds:\n[\s\S]*")):
        sweep = Sweep(toy_spec(tmp_path, "toys:Gappy", space=space, phases=phases))
        with pytest.raises(UsageError, match=refused + more) as caught:
            sweep.run(out=io.StringIO())
    told = str(caught.value)
    assert "missing_targets: there are rows without a target (train 1)." in told
    assert "non_finite_inputs: there are missing or infinite numbers (train: 2 rows, first 5, 9; column a in 2" in told
    assert "leakage: 5 rows of val (100.0%; 5 of them exactly) are in train" in told
    assert "duplicates: " in told


@pytest.mark.slow
def test_a_check_may_fail_for_a_reason(tmp_path: Path) -> None:
    reason = "the inputs are known to be empty here"
    skip = {
        "kind": "preflight",
        "skip": dict.fromkeys(("input_independent", "overfits_one_batch", "gradients"), reason),
    }
    search = {"kind": "explore", "trials": 2, "epochs": 1}
    space = {"lr": {"log": [1e-3, 1e-1]}, "batch_size": 4}
    out = io.StringIO()
    sweep = Sweep(toy_spec(tmp_path, "toys:Blind", space=space, phases=[skip, search])).run(out=out)
    assert f"Waived: {reason}" in " ".join(out.getvalue().split())
    assert {f["finding"]: f["severity"] for f in sweep.history.findings}["input_independent"] == "warn"
    assert sweep.history.status == "FINISHED"
    assert [line["basis"] for line in kinds(sweep, "plan")][-1] == "measured by preflight on the baseline"


@pytest.mark.slow
def test_the_learning_rate_is_searched_where_the_range_test_found_it(tmp_path: Path) -> None:
    space = {"lr": {"log": [1e-6, 10.0]}, "batch_size": 4, "optimizer": ["sgd", "adamw"]}
    search = {"kind": "explore", "trials": 8, "epochs": 1, "reduction_factor": None}
    sweep = Sweep(toy_spec(tmp_path, "toys:Line", space=space, phases=[{"kind": "preflight"}, search]))
    sweep.run(out=io.StringIO())
    tests = {f["evidence"]["optimizer"]: f["evidence"] for f in sweep.history.findings if f["finding"] == "lr_range"}
    assert set(tests) == {"sgd", "adamw"}
    low, high = (end(test[key] for test in tests.values()) for end, key in ((min, "low"), (max, "high")))
    (change,) = (c for c in sweep.history.phases["explore"].changes if c.parameter == "lr")
    assert (change.action, change.before) == ("narrowed", "1e-06 … 10 log")
    assert f"preflight's range test: {low:.2g} … {high:.2g}" in change.why
    drawn = [t.config["lr"] for t in sweep.history.trials.values() if t.role == "sobol"]
    assert all(low / 3 <= lr <= high * 3 for lr in drawn)
    assert max(drawn) / min(drawn) > 10
    assert (sweep.folder / "figures" / "lr_range.png").exists()


def test_asha_stops_the_worse_and_says_why(tmp_path: Path) -> None:
    phases = [{"kind": "explore", "trials": 16, "epochs": 9}]
    sweep = run_toy(tmp_path, phases=phases, checkpoint_every=4, keep_checkpoints=16)
    trials = sweep.history.trials
    for trial in trials.values():
        saved = [e.epoch for e in trial.epochs if e.checkpoint]
        assert saved == [epoch for epoch in (1, 3, 4, 8, 9) if epoch <= trial.told], "at rungs 1 and 3, at the end"
    stopped = [t for t in trials.values() if t.reason.startswith("stopped at rung")]
    whole = [t for t in trials.values() if t.reason == "all epochs"]
    assert len(stopped) + len(whole) == 16
    assert len(stopped) >= 8
    assert min(t.config["value"] for t in whole) < min(t.config["value"] for t in stopped)
    judged = [(line["trial"], line["rung"]) for line in kinds(sweep, "decision")]
    assert len(judged) == len(set(judged)), "a decision is journalled once"
    for line in kinds(sweep, "decision"):
        value = trials[line["trial"]].curve("val/loss")[line["epoch"] - 1][1]
        assert value == line["value"]
        assert line["epoch"] == line["rung"]
        worse = line["cutoff"] is not None and line["value"] > line["cutoff"]
        assert line["decision"] == ("STOP" if worse else "CONTINUE")
    for trial in stopped:
        last = [line for line in kinds(sweep, "decision") if line["trial"] == trial.trial][-1]
        assert (last["decision"], trial.epochs[-1].epoch) == ("STOP", last["rung"])


@pytest.mark.slow
def test_decisions_are_the_same_whether_reports_travel_alone_or_together(tmp_path: Path) -> None:
    """One trial at a time, so that both come to the rungs in the same order."""
    found = []
    for report_every in (0.0, 60.0):
        sweep = run_toy(
            tmp_path / str(report_every), space={"value": VALUE, "seconds": 0.02}, report_every=report_every,
            phases=[{"kind": "explore", "trials": 12, "epochs": 27}], checkpoint_every=None,
            resources={"concurrency": 1},
        )  # fmt: skip
        decisions = [{name: line[name] for name in line if name != "at"} for line in kinds(sweep, "decision")]
        reports = {trial.trial: trial.curve("val/loss") for trial in sweep.history.trials.values()}
        found.append((decisions, reports, {t.trial: t.reason for t in sweep.history.trials.values()}))
    assert found[0] == found[1]
    assert {line["decision"] for line in found[0][0]} == {"STOP", "CONTINUE"}
    assert {line["rung"] for line in found[0][0]} == {1.0, 3.0, 9.0}


def test_one_pool_of_slots_serves_every_phase(tmp_path: Path) -> None:
    sweep = run_toy(
        tmp_path,
        space={"value": VALUE, "unused": ["a", "b"]},
        baseline={"value": 0.9, "unused": "a"},
        phases=[
            {"kind": "explore", "trials": 12, "epochs": 3, "reduction_factor": None},
            {"kind": "refine", "trials": 8, "epochs": 4, "reduction_factor": None},
            {"kind": "confirm", "top": 2, "seeds": 3},
        ],
    )
    history = sweep.history
    assert len({e.slot for t in history.trials.values() for e in t.epochs}) <= history.header["hardware"]["slots"]
    assert {p: len(history.of_phase(p)) for p in history.phases} == {"explore": 12, "refine": 8, "confirm": 9}
    narrowed = history.phases["refine"].space["value"]
    assert narrowed.range[1] < 1.0, "the lower half is better, so the upper end must have moved"
    roles = [t.role for t in history.of_phase("refine")]
    assert roles == ["tpe"] * 7 + ["old_space"]
    assert all(narrowed.encode(t.config["value"]) is not None for t in history.of_phase("refine") if t.role == "tpe")
    verdict = sweep.verdict
    assert verdict is not None
    assert verdict.verdict == "ADOPT"  # the toy has no seed noise: a better value is better for every seed
    assert sweep.best.config["value"] == min(arm.config["value"] for arm in verdict.arms)
    assert {t.fidelity["seed"] for t in history.of_phase("confirm")} == {1, 2, 3}
    assert history.verdict["test"] is None
    table = sweep.table()
    assert table.num_rows == sum(len(t.epochs) for t in history.trials.values())
    assert {"phase", "trial", "epoch", "val/loss", "config/value"} <= set(table.column_names)


@pytest.mark.slow
def test_a_sweep_without_any_result_fails(tmp_path: Path) -> None:
    with pytest.raises(SweepFailed, match="no trial gave a result"):
        run_toy(tmp_path, space={"value": VALUE, "behaviour": "nan"})


@pytest.mark.slow
def test_a_spent_budget_ends_the_sweep_in_order(tmp_path: Path) -> None:
    sweep = run_toy(
        tmp_path,
        space={"value": VALUE, "seconds": 0.5},
        phases=[{"kind": "explore", "trials": 200, "epochs": 3, "reduction_factor": None}, {"kind": "confirm"}],
        budget={"hours": 30 / 3600},
    )
    assert sweep.history.status == "INTERRUPTED"
    assert "budget" in sweep.history.end["reason"]
    assert list(sweep.history.phases) == ["explore"]
    assert all(t.status != "RUNNING" for t in sweep.history.trials.values())
    assert (sweep.folder / "report.html").exists()


def test_what_cannot_fit_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="a trial takes 64 CPUs"):
        run_toy(tmp_path, resources={"cpus_per_worker": 64})
    with pytest.raises(PlanError, match="1 GPU on one node"):
        run_toy(tmp_path, resources={"gpus_per_worker": 1})
    with pytest.raises(PlanError, match="the phases need 4 trials"):
        run_toy(tmp_path, budget={"trials": 3})
    with pytest.raises(UsageError, match="no module named 'absent'"):
        run_toy(tmp_path, "absent:thing")
    assert list(tmp_path.iterdir()) == []


def test_each_kind_of_failure_has_its_outcome_and_the_others_go_on(tmp_path: Path) -> None:
    extra = {"int": [1, 3], "when": {"behaviour": "none"}}
    space = {"value": VALUE, "behaviour": ["none", "raise", "nan", "memory", "exit"], "extra": extra}
    sweep = run_toy(tmp_path, space=space, phases=[{"kind": "grid", "points": 2, "epochs": 3}])
    outcome = {
        "none": ("FINISHED", 1, "all epochs"),
        "raise": ("FAILED", 2, "RuntimeError: bad row"),
        "nan": ("INFEASIBLE", 1, "non-finite val/loss at epoch 2"),
        "memory": ("INFEASIBLE", 1, "no room for the batch"),
        "exit": ("FAILED", 2, "SystemExit: 3"),
    }
    configs = [tuple(trial.config.values()) for trial in sweep.history.trials.values()]
    assert len(set(configs)) == len(configs) == 2 * (2 + 4), "every combination that exists, once"
    assert sum(len(config) == 3 for config in configs) == 2 * 2
    for trial in sweep.history.trials.values():
        status, attempts, reason = outcome[trial.config["behaviour"]]
        assert (trial.status, trial.attempt) == (status, attempts)
        assert trial.reason.startswith(reason)
        assert len({e.epoch for e in trial.epochs}) == len(trial.epochs)
        if trial.config["behaviour"] == "nan":
            assert math.isnan(trial.epochs[-1].metrics["val/loss"])
    assert {name: sweep.best.config[name] for name in ("value", "behaviour")} == {"value": 0.0, "behaviour": "none"}


def test_what_recovers_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    behaviours = ["none", "raise_once", "kill"]
    space = {"value": VALUE, "behaviour": behaviours, "marker": str(tmp_path / "once"), "seconds": 0.2}
    sweep = run_toy(tmp_path, space=space, phases=[{"kind": "grid", "points": 2, "epochs": 3}])
    trials = sweep.history.trials.values()
    for trial in trials:  # an epoch that was lost is paid for as well
        assert all(f["seconds"] > 0.2 for f in trial.failures)
        assert trial.seconds > 0.2 * (3 + len(trial.failures))
    spent = sum(f["seconds"] for f in kinds(sweep, "failure")) + sum(r["seconds"] for r in kinds(sweep, "report"))
    assert sweep.history.end["time"]["training_s"] == pytest.approx(spent / 2), "two slots"
    assert all((t.status, [e.epoch for e in t.epochs]) == ("FINISHED", [1, 2, 3]) for t in trials)
    (raised,) = (t for t in trials if t.attempt == 2)
    assert [(e.epoch, e.attempt) for e in raised.epochs] == [(1, 1), (2, 2), (3, 2)]
    (failure,) = raised.failures
    assert (failure["failure_kind"], failure["error"]) == ("error", "RuntimeError")
    assert "toys.py" in failure["traceback"]
    log = (sweep.folder / failure["log"]).read_text()
    assert "begins at epoch 0" in log
    assert "begins at epoch 1" in log, "the second attempt went on from the checkpoint of epoch 1"
    assert "RuntimeError: bad row" in log
    (killed,) = (t for t in trials if t.failures and t is not raised)
    assert (killed.attempt, killed.failures[0]["failure_kind"]) == (1, "lost")
    assert len({e.slot for e in killed.epochs}) == 2


@pytest.mark.slow
def test_a_killed_slot_without_checkpoints_trains_again_silently(tmp_path: Path) -> None:
    space = {"value": VALUE, "behaviour": "kill", "marker": str(tmp_path / "once")}
    sweep = run_toy(tmp_path, "toys:without_checkpoints", space=space)
    assert sum(len(t.failures) for t in sweep.history.trials.values()) == 1
    assert all([e.epoch for e in t.epochs] == [1, 2, 3] for t in sweep.history.trials.values())


def test_the_same_exception_in_the_first_three_trials_halts(tmp_path: Path) -> None:
    space = {"value": VALUE, "behaviour": "exit"}
    search = {"kind": "explore", "trials": 20, "epochs": 3, "reduction_factor": None}
    sweep = Sweep(toy_spec(tmp_path, space=space, phases=[search]))
    with pytest.raises(SweepFailed, match="SystemExit: 3") as caught:
        sweep.run(out=io.StringIO())
    assert "first 3 trials" in str(caught.value)
    assert str(sweep.folder / "logs") in str(caught.value)
    assert len(sweep.history.trials) < 8
    assert sweep.history.status == "FAILED"
    assert caught.value.exit_code == 1


def test_a_loop_that_ends_by_itself_and_a_baseline_that_nothing_beats(tmp_path: Path) -> None:
    sweep = run_toy(
        tmp_path,
        "toys:short",
        space={"value": {"float": [0.5, 1.0]}},
        baseline={"value": 0.0},
        phases=[
            {"kind": "explore", "trials": 4, "epochs": 3, "reduction_factor": None},
            {"kind": "confirm", "top": 1, "seeds": 2},
        ],
    )
    assert {(t.status, t.reason) for t in sweep.history.trials.values()} == {("FINISHED", "ended by itself at epoch 1")}
    assert all(t.whole and t.seconds > 0.2 for t in sweep.history.trials.values()), "work after the last report counts"
    verdict = sweep.verdict
    assert verdict is not None, "its way to end early is a part of the config"
    assert (verdict.verdict, verdict.winner) == ("KEEP_BASELINE", "baseline")
    assert [len(arm.values) for arm in verdict.arms] == [2, 2]
    assert sweep.best.config == {"value": 0.0}
    assert [f["finding"] for f in sweep.history.findings] == ["seeds_alike"], "the toy ignores its seed"


@pytest.mark.slow
def test_a_slot_lost_while_the_test_split_is_read_costs_that_reading_only(tmp_path: Path) -> None:
    sweep = run_toy(
        tmp_path,
        "toys:KilledByItsTestSplit",
        space={"lr": {"log": [1e-3, 1e-1]}, "batch_size": 4},
        phases=[{"kind": "explore", "trials": 3, "epochs": 1}, {"kind": "confirm", "top": 1, "seeds": 2}],
    )
    assert sweep.verdict is not None
    assert (sweep.history.verdict["test"], sweep.history.verdict["test_reads"]) == (None, 1)
    (finding,) = (f for f in sweep.history.findings if f["finding"] == "no_test")
    assert "its slot was lost" in finding["message"]
    assert "\n" not in finding["message"]
    assert sweep.history.status == "FINISHED"


@pytest.mark.slow
def test_a_sweep_begins_with_the_slots_that_there_is_room_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeps.sweep.READY_S", 3.0)

    @ray.remote(num_cpus=1)
    class Neighbour:
        def here(self) -> bool:
            return True

    neighbour = Neighbour.remote()
    ray.get(neighbour.here.remote())
    out = io.StringIO()
    sweep = Sweep(toy_spec(tmp_path)).run(out=out)
    assert "1 of 2 slots are up; the others join" in out.getvalue()
    assert [t.status for t in sweep.history.trials.values()] == ["FINISHED"] * 4
    assert len({e.slot for t in sweep.history.trials.values() for e in t.epochs}) == 1
    ray.kill(neighbour)


def test_an_object_that_cannot_be_pickled_is_refused(tmp_path: Path) -> None:
    class Locked:
        def __init__(self) -> None:
            self.lock = threading.Lock()

        def data(self, config: object, fidelity: object) -> None: ...

        def model(self, config: object, data: object) -> None: ...

    with pytest.raises(UsageError, match=r"Locked cannot be pickled: .*lock.*\n  Put it in a module and name it"):
        run_toy(tmp_path, Locked())
    assert list(tmp_path.iterdir()) == []


class Entries:
    """An import path that makes slots fail to start once a file is there."""

    def __init__(self, marker: str) -> None:
        self.marker = marker

    def __iter__(self) -> Iterator[str]:
        if os.path.exists(self.marker):
            raise RuntimeError("no more slots")
        return iter([])


@pytest.mark.slow
def test_a_pool_goes_on_with_the_slots_that_it_has_and_says_why_when_there_are_none(tmp_path: Path) -> None:
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        entries = Entries(str(tmp_path / "marker"))
        pool = Pool.remote(
            2, {"workers": 1, "cpus": 1, "gpus": 0}, "toys:trial", str(tmp_path), str(tmp_path), entries, "ddp"
        )
        ray.get(pool.acquire.remote("a"))
        ray.get(pool.acquire.remote("b"))
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    (tmp_path / "marker").touch()
    ray.get(pool.replace.remote("a"))
    waiting = pool.acquire.remote("c")
    assert ray.get(pool.ready.remote(60)) == 1, "the slot that cannot be replaced is given up"
    ray.get(pool.release.remote("b"))
    ray.get(waiting)
    ray.get(pool.replace.remote("c"))
    with pytest.raises(NoSlots, match=r"a slot could not be started: .*no more slots"):
        ray.get(pool.acquire.remote("d"))
    ray.get(pool.end.remote())
    ray.kill(pool)


@pytest.mark.slow
def test_a_lease_that_lives_on_gets_no_slot_and_disturbs_none(tmp_path: Path) -> None:
    """One that Ray has given up, because its node did not answer, and that does not know."""
    arguments = "toys:trial", str(tmp_path), str(tmp_path), list(sys.path), "ddp"
    pool = Pool.remote(1, {"workers": 1, "cpus": 1, "gpus": 0}, *arguments)
    slot = ray.get(pool.acquire.remote("a.1", 1))
    order = Order("a", 1, {"value": 0.0}, {"epochs": 4, "data_fraction": 1.0, "seed": 0})
    assert ray.get(slot.command.remote("start", order))["failure"] is None
    assert ray.get(slot.next.remote(("a.1", 1), 0.0))["reports"][0]["epoch"] == 1
    assert ray.get(pool.acquire.remote("a.1", 2)) == slot, "the next lease goes on in it"
    assert ray.get(slot.command.remote("start", replace(order, lease=2)))["failure"] is None
    for late in (slot.next.remote(("a.1", 1), 0.0), pool.acquire.remote("a.1", 1), pool.replace.remote("a.1", 1)):
        with pytest.raises(RuntimeError, match=r"lease 1 of a\.1 was replaced"):
            ray.get(late)
    assert ray.get(slot.next.remote(("a.1", 2), 0.0))["reports"][0]["epoch"] == 1, "it trains on undisturbed"
    waiting = pool.acquire.remote("b.1", 1)
    ray.get([pool.release.remote("b.1"), pool.release.remote("a.1")])
    with pytest.raises(RuntimeError, match=r"lease 1 of b\.1 was replaced"):
        ray.get(waiting)
    assert ray.get(pool.acquire.remote("c.1", 1)) == slot, "what waited for a trial that has ended took nothing"
    ray.get(pool.end.remote())
    ray.kill(pool)


def test_a_first_search_on_fewer_classes_is_judged_by_itself(tmp_path: Path) -> None:
    sweep = run_toy(
        tmp_path, "toys:Signs", space={"lr": {"log": [1e-3, 1e-1]}, "batch_size": 16}, baseline={"lr": 1e-2},
        phases=[
            {"kind": "explore", "trials": 4, "epochs": 2, "classes": 2, "data_fraction": 1.0},
            {"kind": "refine", "trials": 3, "epochs": 2},
            {"kind": "confirm", "top": 1, "seeds": 2},
        ],
    )  # fmt: skip
    history = sweep.history
    seen = {name: {t.fidelity.get("classes") for t in history.of_phase(name)} for name in history.phases}
    assert seen == {"explore": {2}, "refine": {None}, "confirm": {None}}
    (plan, *_) = (line for line in read(sweep.folder) if line["kind"] == "plan")
    assert plan["footprint"]["train_rows"] < 80, "of 120 rows of four classes"
    assert history.phases["refine"].comparison is not None
    assert history.phases["refine"].comparison["classes"] == 2
    assert history.trials[history.verdict["best_trial"]].phase == "confirm"
    page = sweep.report().read_text()
    assert "2 classes" in page
    (errors,) = (line for line in history.findings if line["finding"] == "errors")
    assert errors["trial"] == history.verdict["best_trial"]
    assert {one["label"] for one in errors["evidence"]["classes"]} == {0, 1, 2, 3}, "confirmed on all"
    assert f"Where {errors['trial']} errs" in page
    told, winner = errors["evidence"], history.trials[errors["trial"]]
    assert told["calibration"]["ece"] == pytest.approx(winner.epochs[-1].metrics["val/ece"], rel=1e-6)
    assert sum(one["rows"] for one in told["calibration"]["bins"]) == told["rows"] == 40
    assert sum(one["rows"] for one in told["pairs"]) == pytest.approx(40 * (1 - told["calibration"]["accuracy"]))
    assert {one["row"] for one in told["confident"]} <= set(range(40))
    assert told["pictures"] == [], "two numbers are no image"
    assert (sweep.folder / "figures" / "calibration.png").is_file()


def test_a_sweep_tries_what_is_advised_and_says_whether_it_helped(tmp_path: Path) -> None:
    """Remedies for good trials as trials of their own, the arms without what regularises, and the report's words."""
    space = {"dropout": {"float": [0.0, 0.6]}, "weight_decay": {"log": [1e-4, 1e-1], "or_zero": True}}
    search = {"epochs": 12, "reduction_factor": None}
    phases = [{"kind": "explore", "trials": 20, **search}, {"kind": "refine", "trials": 12, **search}]
    baseline = {"dropout": 0.1, "weight_decay": 1e-3}
    sweep = run_toy(tmp_path, "toys:overfitting", space=space, baseline=baseline, phases=phases, checkpoint_every=None)
    history = sweep.history
    tested = [trial for trial in history.trials.values() if trial.role == "advice"]
    assert tested, "some of the first good trials overfit"
    for trial in tested:
        line = history.advice[trial.trial]
        of = history.trials[line["of"]]
        assert line["finding"] == "overfit"
        assert {**of.config, **{name: after for name, (_, after) in line["changes"].items()}} == trial.config
        assert {name: before for name, (before, _) in line["changes"].items()}.items() <= of.config.items()
        epoch = line["outcome"]["epoch"]
        assert (epoch, line["outcome"]["helped"]) == (12, line["outcome"]["after"] < line["outcome"]["before"])
    for parameter in ("dropout", "weight_decay"):
        (arm,) = [trial for trial in history.of_phase("refine") if trial.role == f"{parameter}_zero"]
        line = history.advice[arm.trial]
        assert (arm.config[parameter], history.trials[line["of"]].config[parameter] > 0) == (0.0, True)
        assert (line["finding"], line["outcome"]["helped"]) == ("regularisation", False)
    told = [found["message"] for found in history.findings if found["finding"] == "regularisation"]
    assert len(told) == 2
    assert all(message.startswith("sweep: ") for message in told)
    page = (sweep.folder / "report.html").read_text()
    assert "to compare: validation loss +" in page
    assert "for overfit: validation loss" in page


@pytest.mark.slow
def test_a_search_in_which_nothing_works_halts_once(tmp_path: Path) -> None:
    search = {"kind": "explore", "trials": 14, "epochs": 2, "reduction_factor": None}
    spec = toy_spec(tmp_path, space={"value": VALUE, "behaviour": "nan"}, phases=[search])
    halted = Sweep(spec)
    with pytest.raises(SweepFailed, match=r"10 of the first 10 trials gave no value, 10 of them: .*`sweeps resume`"):
        halted.run(out=io.StringIO())
    ended = [trial for trial in halted.history.trials.values() if trial.ended is not None]
    assert 10 <= len(ended) < 14
    assert [f["severity"] for f in halted.history.findings if f["finding"] == "nothing_works"] == ["block"]
    with pytest.raises(SweepFailed, match="no trial gave a result"):
        Sweep.open(halted.folder).resume(out=io.StringIO())
    assert len(History.open(halted.folder).trials) == 14
