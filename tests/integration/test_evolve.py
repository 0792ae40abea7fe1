"""A population on real slots: who takes over has the donor's state and new hyperparameters, and no slot waits."""

from __future__ import annotations

import io
import itertools
import math
import os
import signal
import sqlite3
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from e2e.terminal import of_kind
from engine import run_toy
from faults.harness import check_whole, gives_back, strikes
from sweeps import Sweep, SweepFailed, UsageError
from sweeps.events import Events
from sweeps.insight.lineage import schedule
from sweeps.storage import files
from sweeps.tracking import sync
from toys import least_constant, least_possible

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_session")]
LR = {"log": [1e-2, 1.0]}


def evolve(**fields: Any) -> dict[str, Any]:
    """A phase of few epochs."""
    return {"kind": "evolve", "population": 4, "epochs": 12, "interval": 2, "quantile": 0.5, **fields}


def worst_and_last(seconds: float, slower: float = 1.2) -> dict[str, float]:
    """A baseline with the worst rate, whose epochs are so much longer that it comes to the first interval last."""
    return {"lr": 0.01, "seconds": slower * seconds}


def check_lineage(lines: list[dict[str, Any]], sweep: Sweep) -> list[dict[str, Any]]:
    """Each member's loss follows from its own and its donors' rates, to the last bit; the exploits."""
    exploits = of_kind(lines, "exploit")
    by_member = defaultdict(list)
    for line in exploits:
        by_member[line["trial"]].append(line)
    values = {(line["trial"], line["epoch"]): line["metrics"] for line in of_kind(lines, "report")}

    for (name, epoch), metrics in values.items():
        taken = [line for line in by_member[name] if line["epoch"] == epoch - 1]
        since = int((taken[-1]["checkpoint"] or "/0").rpartition("/")[2]) if taken else epoch - 1
        before = values[taken[-1]["donor"] if taken else name, since]["val/loss"] if since else 1.0
        rate = metrics["val/lr"]
        for _ in range(since, epoch - 1):  # the donor was behind: what it trains again is not told
            before += rate * (0.1 * rate - before)
        assert rate == sweep.history.trials[name].config_at(epoch)["lr"]
        if taken:
            assert rate == taken[-1]["after"]["lr"], "it takes effect with the next epoch"
        assert metrics["val/loss"] == before + rate * (0.1 * rate - before), (name, epoch)
    return exploits


def check_schedules(sweep: Sweep, phase: str) -> None:
    """Each trial of a phase that trains others' schedules has, to the last bit, the loss that its own gives from
    scratch; that of the chain of ancestors, whatever the seed, for the toy draws nothing."""
    for trial in sweep.history.of_phase(phase):
        rate, loss = math.nan, 1.0
        for epoch, value in trial.curve("val/loss"):
            rate = trial.config_at(epoch)["lr"]
            loss += rate * (0.1 * rate - loss)
            assert value == loss
        if trial.role != "baseline":
            origin = sweep.history.trials[trial.role]
            assert trial.curve("val/loss")[-1] == origin.curve("val/loss")[-1], "as its lineage had"
            assert trial.config == origin.config


def working(lines: list[dict[str, Any]], phase: str) -> float:
    """Wall seconds from each trial's first report to its last, all together."""
    stamps: dict[str, list[float]] = defaultdict(list)
    for line in of_kind(lines, "report"):
        if line["trial"].startswith(phase):
            stamps[line["trial"]].append(line["at"])
    return sum(found[-1] - found[0] for found in stamps.values())


def test_the_worst_go_on_with_the_state_of_the_best_and_no_slot_waits(tmp_path: Path) -> None:
    members, epochs, seconds = 3, 9, 1.0
    with gives_back():
        sweep = run_toy(
            tmp_path, "toys:annealed", space={"lr": LR, "seconds": seconds}, baseline=worst_and_last(seconds, 1.05),
            phases=[
                {"kind": "explore", "trials": members, "epochs": epochs, "reduction_factor": None},
                evolve(population=members, epochs=epochs),
            ],
            resources={"cpus_per_worker": 0.1, "concurrency": members}, checkpoint_every=2,
        )  # fmt: skip
    lines = check_whole(sweep, 2 * members)
    exploits = check_lineage(lines, sweep)
    assert exploits, "someone took over"
    assert of_kind(lines, "failure") == []
    assert {trial.reason for trial in sweep.history.trials.values()} == {"all epochs"}
    for trial in sweep.history.of_phase("evolve"):
        assert len({epoch.slot for epoch in trial.epochs}) == 1, "in its own slot all the time"
    assert working(lines, "explore") >= 0.95 * working(lines, "evolve"), "as busy as without taking over"
    kept = {path.rpartition("/")[0] for path, _ in files(sweep.folder / "checkpoints")}
    assert len(kept) == 3, "keep_checkpoints: no donor is left"
    final = {trial.trial: trial.curve("val/loss")[-1][1] for trial in sweep.history.of_phase("evolve")}
    assert sweep.best.metrics["val/loss"] == min(final.values())
    assert sweep.best.config == sweep.history.trials[sweep.best.trial].config_at(epochs)


def test_more_members_than_slots_take_turns(tmp_path: Path) -> None:
    with gives_back():
        sweep = run_toy(
            tmp_path, "toys:annealed", space={"lr": LR, "seconds": 0.05}, report_every=0.0,
            phases=[
                {"kind": "explore", "trials": 4, "epochs": 2, "reduction_factor": None},
                evolve(population=5, epochs=6),
                {"kind": "confirm", "top": 1, "seeds": 2},
            ],
            resources={"cpus_per_worker": 0.5, "concurrency": 2}, checkpoint_every=None,
        )  # fmt: skip
    lines = check_whole(sweep, 4 + 5 + 4)
    phase = [line for line in lines if str(line.get("trial", "")).startswith("evolve")]
    assert check_lineage(phase, sweep), "someone took over"
    members = sweep.history.of_phase("evolve")
    assert [trial.role for trial in members] == ["baseline", "best", "best", "sobol", "sobol"]
    came = [line["trial"] for line in of_kind(phase, "report") if line["epoch"] == 2]
    gone_on = [line["trial"] for line in of_kind(phase, "report") if line["epoch"] == 3]
    assert set(came[:4]) | set(gone_on[:1]) <= set(came), "all came to the first interval"
    first = max(i for i, line in enumerate(phase) if line["kind"] == "report" and line["epoch"] == 1)
    assert all(line["epoch"] <= 4 for line in phase[:first] if line["kind"] == "report"), "nobody is far ahead"
    verdict = sweep.verdict
    assert verdict is not None
    winner = next(arm for arm in verdict.arms if arm.arm != "baseline")
    assert winner.config == sweep.history.trials[winner.arm].config, "its final config was confirmed"
    check_schedules(sweep, "confirm")


def test_a_population_without_checkpoints_says_so_at_its_first_interval(tmp_path: Path) -> None:
    with pytest.raises(SweepFailed, match=r"has no checkpoint after epoch 2.*session\.checkpoint_with"):
        run_toy(tmp_path, "toys:without_checkpoints", phases=[evolve()], resources={"cpus_per_worker": 0.5})


@pytest.mark.parametrize(("behaviour", "failure"), [("nan", "non_finite"), ("memory", "memory")])
def test_a_member_that_fails_by_its_state_is_replaced(tmp_path: Path, behaviour: str, failure: str) -> None:
    space = {"lr": LR, "behaviour": {"choice": ["none", behaviour]}}
    with gives_back():
        sweep = run_toy(
            tmp_path, "toys:annealed", space=space, baseline={"lr": 0.1, "behaviour": behaviour}, report_every=0.0,
            phases=[evolve(mutations={"lr": None})], resources={"cpus_per_worker": 0.5, "concurrency": 2},
            checkpoint_every=None,
        )  # fmt: skip
    check_whole(sweep, 4)
    members = list(sweep.history.trials.values())
    replaced = [trial for trial in members if any(e.cause == failure for e in trial.exploits)]
    assert "evolve-000" in {trial.trial for trial in replaced}
    for trial in replaced:
        if trial.status != "FINISHED":
            continue
        assert trial.told == 12
        assert trial.config["behaviour"] == "none", "the config of a good one"
        assert trial.attempt == 1 + sum(e.cause == failure for e in trial.exploits)
        assert math.isfinite(trial.curve("val/loss")[-1][1])
    assert sum(trial.status == "FINISHED" for trial in members) >= 3


@pytest.mark.parametrize("own", ["whole", "torn"])
def test_a_donor_that_cannot_be_read_leaves_the_member_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str
) -> None:
    from sweeps.events import Events

    write, torn = Events._write_decision, itertools.count()

    def tear(self: Events, trial: Any) -> None:
        write(self, trial)
        if trial.exploits and trial.exploits[-1].donor and next(torn) == 0:
            torn_ones = [trial.exploits[-1].checkpoint, *([trial.checkpoint] if own == "torn" else [])]
            for pointer in torn_ones:
                (self.engine.folder / pointer / "manifest.json").write_text("{")  # type: ignore[operator]

    monkeypatch.setattr(Events, "_write_decision", tear)
    sweep = run_toy(
        tmp_path, "toys:annealed", space={"lr": LR, "seconds": 0.1}, phases=[evolve(population=3)], report_every=0.0,
        baseline=worst_and_last(0.1, 1.5),
        resources={"cpus_per_worker": 0.1, "concurrency": 3}, checkpoint_every=None,
    )  # fmt: skip
    assert next(torn) > 0, "there was one to tear"
    lines = check_whole(sweep, 3)
    back = [line for line in of_kind(lines, "exploit") if line["cause"] == "donor"]
    assert len(back) >= 1
    assert back[0]["donor"] == back[0]["trial"], "it went on with its own"
    afresh = [line for line in of_kind(lines, "exploit") if line["cause"] == "torn"]
    assert [line["checkpoint"] for line in afresh] == ([None] if own == "torn" else [])
    check_lineage(lines, sweep)
    assert "it goes on with its own state" in of_kind(lines, "failure")[0]["message"]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_slot_or_rank_that_is_lost_after_it_took_over_goes_on_from_the_donor_s_checkpoint(
    tmp_path: Path, workers: int
) -> None:
    def strike(lines: list[dict[str, Any]]) -> bool:
        for line in of_kind(lines, "exploit"):
            os.kill(next(r["slot"] for r in of_kind(lines, "report") if r["trial"] == line["trial"]), signal.SIGKILL)
            return True
        return False

    with strikes(tmp_path, strike):
        sweep = run_toy(
            tmp_path, "toys:annealed", space={"lr": LR, "seconds": 0.5}, phases=[evolve(population=2, epochs=8)],
            baseline=worst_and_last(0.5), report_every=0.0, checkpoint_every=None,
            resources={"workers": workers, "cpus_per_worker": 0.1, "concurrency": 2},
        )  # fmt: skip
    lines = check_whole(sweep, 2)
    assert check_lineage(lines, sweep)
    assert {line["failure_kind"] for line in of_kind(lines, "failure")} == {"lost"}
    assert {trial.status for trial in sweep.history.trials.values()} == {"FINISHED"}


def test_members_of_several_workers_take_over_in_step(tmp_path: Path) -> None:
    space = {"lr": {"log": [1e-3, 1.0]}, "batch_size": {"powers_of_two": [8, 32]}, "schedule": "constant"}
    with gives_back():
        sweep = run_toy(
            tmp_path, "toys:Signs", space=space, phases=[evolve(population=3, epochs=8)], checkpoint_every=None,
            baseline={"lr": 1e-3, "batch_size": 32, "schedule": "constant"},
            resources={"workers": 2, "cpus_per_worker": 0.1, "concurrency": 1},  # so that the worst come last
        )  # fmt: skip
    lines = check_whole(sweep, 3)
    assert of_kind(lines, "exploit")
    assert of_kind(lines, "failure") == []
    for trial in sweep.history.trials.values():
        assert [epoch.metrics["hp/lr"] for epoch in trial.epochs] == [
            trial.config_at(epoch.epoch)["lr"] for epoch in trial.epochs
        ], "each rate was in the optimizer from the next epoch on"
        assert len({epoch.slot for epoch in trial.epochs}) == 1


def test_a_replay_gives_the_numbers_of_the_lineage_again(tmp_path: Path) -> None:
    """On the platform's own loop, with its generators and its optimizer's state; another seed gives others."""
    space = {"lr": {"log": [1e-3, 1.0]}, "batch_size": {"powers_of_two": [8, 32]}, "dropout": {"float": [0.0, 0.4]}}
    sweep = run_toy(
        tmp_path, "toys:Signs", space=space, phases=[evolve(population=4, epochs=8)], checkpoint_every=None,
        resources={"cpus_per_worker": 0.5, "concurrency": 2}, report_every=0.0,
    )  # fmt: skip
    members = sweep.history.of_phase("evolve")
    trial = max(members, key=lambda member: len(schedule(sweep.history, member)))
    configs = schedule(sweep.history, trial)
    assert len(configs) > 1
    sweep.replay(trial.trial, seeds=3, out=io.StringIO())
    again = sweep.history.of_phase("replay")
    assert [member.fidelity["seed"] for member in again] == [0, 1, 2]
    assert [member.configs for member in again] == [configs] * 3
    same = again[0]
    assert same.curve("val/loss")[-1] == trial.curve("val/loss")[-1], "to the last bit"
    assert again[1].curve("val/loss")[-1] != trial.curve("val/loss")[-1]
    (told,) = [line for line in sweep.history.findings if line["finding"] == "replayed"]
    assert told["evidence"]["own"] == told["evidence"]["value"] == trial.curve("val/loss")[-1][1]
    assert told["evidence"]["values"] == [member.curve("val/loss")[-1][1] for member in again[1:]]
    assert sweep.history.status == "FINISHED"
    with pytest.raises(UsageError, match="Did you mean evolve-003"):
        sweep.replay("evolve-03")


def test_the_schedule_of_a_rate_that_must_fall_is_found_and_no_constant_rate_comes_near(tmp_path: Path) -> None:
    """The best rate of each step is known: see `toys.noisy`."""
    epochs = 16
    sweep = run_toy(
        tmp_path, "toys:noisy", space={"lr": {"log": [1e-3, 1.0]}}, report_every=0.0, checkpoint_every=None,
        phases=[
            evolve(population=6, epochs=epochs, interval=1, quantile=0.25, mutations={"lr": {"factors": [0.5, 1.5]}}),
            {"kind": "confirm", "top": 1, "seeds": 3},
        ],
        resources={"cpus_per_worker": 0.5, "concurrency": 1},  # in turns: nothing depends on who comes first
    )  # fmt: skip
    winner = min(sweep.history.of_phase("evolve"), key=lambda trial: trial.curve("val/loss")[-1][1])
    configs = schedule(sweep.history, winner)
    rates = [config["lr"] for _, config in configs]
    assert len(rates) > 3
    assert rates[-1] < rates[0] / 5
    assert winner.curve("val/loss")[-1][1] < 0.8 * least_constant(epochs)
    assert sweep.verdict is not None
    best = next(arm for arm in sweep.verdict.arms if arm.arm == winner.trial)
    assert max(best.values) < least_constant(epochs), "under each further seed, trained from scratch"
    assert least_possible(epochs) < best.mean


def test_choices_conditions_and_a_metric_to_maximise_go_all_the_way_to_a_replay_of_a_replay(tmp_path: Path) -> None:
    space = {
        "lr": LR,
        "optimizer": {"choice": ["sgd", "adamw"]},
        "sgd.momentum": {"float": [0.5, 0.99], "scale": "one_minus"},
    }
    sweep = run_toy(
        tmp_path, "toys:annealed", space=space, mode="max", report_every=0.0, checkpoint_every=None,
        baseline={"lr": 0.5, "optimizer": "sgd", "sgd.momentum": 0.9},
        phases=[
            {"kind": "explore", "trials": 6, "epochs": 4},
            {"kind": "refine", "trials": 4, "epochs": 4},
            evolve(epochs=8, mutations={"lr": None, "optimizer": None, "sgd.momentum": None}),
            {"kind": "confirm", "top": 1, "seeds": 2},
        ],
        resources={"cpus_per_worker": 0.5, "concurrency": 2},
    )  # fmt: skip
    lines = check_whole(sweep, 6 + 4 + 4 + 4)
    phase = [line for line in lines if str(line.get("trial", "")).startswith("evolve")]
    exploits = check_lineage(phase, sweep)
    assert any(line["before"]["optimizer"] != line["after"]["optimizer"] for line in exploits)
    for line in exploits:
        assert ("sgd.momentum" in line["after"]) == (line["after"]["optimizer"] == "sgd")
    check_schedules(sweep, "confirm")
    members = sweep.history.of_phase("evolve")
    assert [trial.role for trial in members] == ["baseline", "best", "best", "sobol"], "from refine's best"

    trial = max(members, key=lambda member: len(schedule(sweep.history, member)))
    sweep.replay(trial.trial, seeds=1, out=io.StringIO())
    sweep.replay("replay-000", seeds=1, out=io.StringIO())
    (again,), (once_more,) = sweep.history.of_phase("replay"), sweep.history.of_phase("replay2")
    assert once_more.configs == again.configs == schedule(sweep.history, trial)
    assert once_more.curve("val/loss") == again.curve("val/loss")
    assert again.curve("val/loss")[-1] == trial.curve("val/loss")[-1]

    database = tmp_path / "other.db"
    counted = []
    for _ in range(2):
        sync(sweep.folder, f"sqlite:///{database}")
        with sqlite3.connect(database) as found:
            counted.append(
                [found.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("runs", "metrics")]
            )
    assert counted[0] == counted[1]
    assert counted[0][0] == 1 + len(sweep.history.trials)
    assert (sweep.report().parent / "figures" / "population.png").is_file()


def test_a_member_whose_lease_is_lost_while_it_waits_takes_over_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worse and faster of two waits for the other, for as long as it takes to strike."""
    tell, struck = Events.on_trial_result, []

    def strike(
        self: Events, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        lease, name = result["pid"], trial.config["order"]["trial"]
        tell(self, iteration, trials, trial, result, **info)
        if self.waiting and not struck:
            assert list(self.waiting) == [name]
            struck.append((name, self.record.history.trials[name].told))
            os.kill(lease, signal.SIGKILL)

    monkeypatch.setattr(Events, "on_trial_result", strike)
    monkeypatch.setattr("sweeps.population.PATIENCE", 30.0)
    sweep = run_toy(
        tmp_path, "toys:annealed", space={"lr": {"log": [0.3, 1.0]}, "seconds": {"float": [0.9, 1.0]}},
        baseline={"lr": 0.01, "seconds": 0.5}, report_every=0.0, checkpoint_every=None,
        phases=[evolve(population=2, epochs=10, mutations={"lr": None})],
        resources={"cpus_per_worker": 0.1, "concurrency": 2},
    )  # fmt: skip
    lines = check_whole(sweep, 2)
    ((name, epoch),) = struck
    assert [line["failure_kind"] for line in of_kind(lines, "failure")] == ["lease"]
    judged = [line for line in lines if line.get("trial") == name and line.get("epoch") == epoch and "decision" in line]
    assert [line["kind"] for line in judged] == ["exploit"]
    check_lineage(lines, sweep)
