"""A population in virtual time: who takes over from whom, by the rule written down anew, and the same after a kill."""

from __future__ import annotations

import itertools
import math
import pickle
import random
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from ray.tune.schedulers import PopulationBasedTraining, TrialScheduler

from sweeps.errors import PlanError, UsageError
from sweeps.history import History
from sweeps.insight.lineage import ancestry, wanted
from sweeps.insight.memory import refused
from sweeps.journal import FORMAT
from sweeps.population import PATIENCE, REPLACEMENTS, Population, arrival, check_ray
from sweeps.report.population import leader, population
from sweeps.resume import extended
from sweeps.slots import Order
from sweeps.space import mutate
from sweeps.spec import Evolve, Mutation, SweepSpec
from sweeps.tracking.runs import hyperparameter_points, trial_record

SPACE = {"lr": {"log": [1e-4, 1.0]}, "batch_size": {"powers_of_two": [16, 128]}}


class Herd:
    """Members whose loss is their configs' doing, in a journal without a file, judged as they come."""

    def __init__(self, seed=0, mode="min", **phase):
        evolve = {"kind": "evolve", "population": 8, "epochs": 12, "interval": 3, **phase}
        self.spec = SweepSpec.model_validate(
            {"trainable": "a:b", "space": SPACE, "metric": "m", "mode": mode, "seed": seed, "phases": [evolve]}
        )
        self.phase = self.spec.phases[0]
        assert isinstance(self.phase, Evolve)
        self.lines = []
        self.begin([])

    def begin(self, lines):
        """A driver begins, with what earlier ones have written."""
        self.lines, self.history, self.told = [], History(SimpleNamespace(name="herd")), []
        if not lines:
            self.write(
                "sweep", format=FORMAT, id="1", name="herd", spec=self.spec.document(), spec_digest="", generation=1,
                git=None, versions={}, hardware={}, began=0.0, ready=0.0,
            )  # fmt: skip
            space = self.spec.space.model_dump(mode="json", by_alias=True)
            self.write("phase", phase="evolve", phase_kind="evolve", space=space, changes=[], comparison=None, trials=8)
        for line in lines:
            self.lines.append(line)
            self.history.apply(line)
        how = dict.fromkeys(SPACE, Mutation())
        self.judge = Population(
            self.history, self.phase, lambda config, rng: mutate(self.spec.space, config, how, rng), self.decided
        )
        self.judge.room = lambda: self.phase.population
        self.judge.rebuild("m")
        self.judge.patience = 0.0  # nobody waits for real
        for name, decision in self.told:
            self.write_decision(name, decision)
        self.told.clear()

    def write(self, kind, **fields):
        line = {"kind": kind, "at": float(len(self.lines)), "sweep": "herd", **fields}
        self.lines.append(line)
        self.history.apply(line)

    def decided(self, name, decision):
        self.told.append((name, decision))

    def write_decision(self, name, decision):
        kind = "exploit" if "donor" in decision else "decision"
        if kind == "exploit":
            assert decision["checkpoint"] in wanted(self.history, self.phase), "it is still there"
        self.write(kind, trial=name, **({"attempt": 1} if kind == "exploit" else {}), **decision)

    def join(self, number):
        """A member begins."""
        name, rng = f"evolve-{number:03d}", np.random.default_rng((9, number))
        config = self.spec.space.decode(rng.random(2).tolist())
        fidelity = {"epochs": self.phase.epochs, "data_fraction": 1.0, "seed": 0}
        self.write("trial", phase="evolve", trial=name, attempt=1, role="sobol", config=config, fidelity=fidelity)
        self.judge.on_trial_add(None, tune_trial(name))

    def report(self, name, value=None, checkpoint=True, seconds=1.0):
        """The member's next epoch: what the scheduler says, in the order in which the driver does things."""
        trial = self.history.trials[name]
        epoch = trial.told + 1
        if value is None:
            value = loss(trial.config, epoch)
        result = {"epoch": epoch, "value": value, "judged": epoch in self.phase.judged}
        action = self.judge.on_trial_result(None, tune_trial(name), result)
        self.write(
            "report", trial=name, attempt=trial.attempt, epoch=epoch, metrics={"m": value}, seconds=seconds, slot=1,
            checkpoint=f"checkpoints/{name}/{epoch}" if checkpoint and result["judged"] else None,
        )  # fmt: skip
        for told in self.told:
            self.write_decision(*told)
        self.told.clear()
        if epoch == self.phase.epochs:
            self.judge.on_trial_complete(None, tune_trial(name), result)
            self.write("end", trial=name, status="FINISHED", reason="", seconds=0.0, whole=True)
        return action

    def lineage(self):
        """Every exploit of every member, in order, whenever it was."""
        return {name: [replace(e, at=0.0) for e in trial.exploits] for name, trial in self.history.trials.items()}


def loss(config, epoch):
    """The best rate is a lower one from epoch to epoch."""
    return round(abs(math.log10(config["lr"]) + 2 + epoch / 40) + config["batch_size"] / 1000, 1)  # with ties


def tune_trial(name):
    """A Tune trial as schedulers see it."""
    return SimpleNamespace(trial_id=f"tune-{name}", config={"order": {"trial": name}}, status="PAUSED")


def order_of_arrival(seed, members, epochs):
    """Who reports next, all the way."""
    turns = [f"evolve-{number:03d}" for number in range(members) for _ in range(epochs)]
    random.Random(seed).shuffle(turns)
    return turns


def evolved(seed=0, **options):
    """A population that ran to its end without a disturbance."""
    herd = Herd(seed, **options)
    for number in range(herd.phase.population):
        herd.join(number)
    for name in order_of_arrival(seed, herd.phase.population, herd.phase.epochs):
        herd.report(name)
    return herd


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize(
    ("population", "quantile"), [(4, 0.25), (8, 0.25), (8, 0.5), (2, 0.5), (5, 0.3), (13, 0.2), (20, 0.25), (10, 0.1)]
)
def test_every_exploit_follows_from_what_was_known_then(mode, population, quantile):
    sign, exploits, went_back = 1 if mode == "min" else -1, 0, 0
    for seed in range(8):
        herd = evolved(seed, mode=mode, population=population, quantile=quantile)
        own, told = {}, {}

        def stands(name, epoch, own=own, told=told):
            """By epoch what a member was, with the exploits before that epoch."""
            found = {}
            for at, since, donor in told[name]:
                if donor == name:
                    found[at] = own[name][at]
                elif at < epoch:
                    found = {e: v for e, v in found.items() if e <= since} | {since: own[donor][since]}
            return found

        for line in herd.lines:
            if line["kind"] not in ("decision", "exploit"):
                continue
            name, epoch = line["trial"], line["epoch"]
            assert epoch in (3, 6, 9), "not the last, after which there is nothing to train"
            own.setdefault(name, {})[epoch] = sign * line["value"]
            told.setdefault(name, []).append((epoch, epoch, name))
            known = [*sorted(own.keys() - {name}), name]
            there = {one: stands(one, epoch) for one in known}
            ahead = dict.fromkeys(known, 0.0)
            for one, other in itertools.permutations(known, 2):
                if both := there[one].keys() & there[other].keys():
                    mine, its = there[one][max(both)], there[other][max(both)]
                    ahead[one] += 1 if mine < its else 0.5 if mine == its else 0
            size = min(math.ceil(len(known) * quantile), len(known) // 2)
            ranked = sorted(known, key=ahead.__getitem__)  # of equals the judged one is the better
            assert (line["ahead_of"], line["others"]) == (ahead[name], len(known) - 1)
            assert name in ranked[:size] or line["decision"] == "CONTINUE"
            if line["kind"] == "decision":
                continue
            exploits += 1
            best = ranked[len(ranked) - size :]
            at = int(line["checkpoint"].rpartition("/")[2])
            assert line["checkpoint"] == f"checkpoints/{line['donor']}/{at}"
            went_back += at < epoch
            assert own[line["donor"]][at] in {there[other].get(at) for other in best}
            assert at == epoch or all(max(there[other]) <= at for other in best if other != name), "none was nearer"
            told[name].append((epoch, at, line["donor"]))
            donor, member = herd.history.trials[line["donor"]], herd.history.trials[name]
            assert line["before"] == member.config_at(epoch)
            assert line["after"] == member.config_at(epoch + 1)
            lr, old = line["after"]["lr"], donor.config_at(at)["lr"]
            assert lr != old
            assert 1e-4 <= lr <= 1
        assert {trial.told for trial in herd.history.trials.values()} == {12}
    assert 0 < went_back < exploits


def test_as_many_take_over_as_the_quantile_says_whoever_comes_first():
    """Members of one pace come in the same order all the time; the first is compared with those behind it."""
    rates = []
    for seed in range(10):
        herd = Herd(seed, epochs=30)
        for number in range(8):
            herd.join(number)
        rng = random.Random(seed)
        for _ in range(30):
            for number in range(8):
                herd.report(f"evolve-{number:03d}", rng.random())
        rates.append(sum(len(trial.exploits) for trial in herd.history.trials.values()) / (8 * 9))
    assert 0.2 < sum(rates) / len(rates) < 0.3, "a quarter"


def test_a_population_gets_better_than_the_same_members_each_on_its_own():
    def mean(herd):
        return sum(trial.curve("m")[-1][1] for trial in herd.history.trials.values()) / len(herd.history.trials)

    evolving = standing = 0.0
    for seed in range(10):
        alone = Herd(seed, epochs=24)
        for number in range(8):
            alone.join(number)
            for _ in range(24):
                trial = alone.history.trials[f"evolve-{number:03d}"]
                epoch = trial.told + 1
                value = loss(trial.config, epoch)
                alone.write("report", trial=trial.trial, attempt=1, epoch=epoch, metrics={"m": value}, seconds=1.0,
                            slot=1, checkpoint=None)  # fmt: skip
        evolving, standing = evolving + mean(evolved(seed, epochs=24)), standing + mean(alone)
    assert evolving < 0.7 * standing


def test_the_seed_decides_what_is_drawn_and_ray_s_generator_is_left_alone():
    random.seed(1)
    before = random.getstate()
    first = Herd(0)
    for number in range(8):
        first.join(number)
    assert random.getstate() == before
    assert evolved(0).lineage() == evolved(0).lineage()
    configs = [[e.after for e in trial.exploits] for trial in evolved(1).history.trials.values()]
    again = [[e.after for e in trial.exploits] for trial in evolved(2).history.trials.values()]
    assert configs != again


@pytest.mark.parametrize("seed", range(12))
def test_a_driver_that_is_killed_anywhere_changes_no_choice(seed):
    undisturbed = evolved(seed, population=6)
    draw = random.Random(seed)
    for _ in range(6):
        cut = draw.randrange(2 + 6, len(undisturbed.lines))
        herd = Herd(seed, population=6)
        herd.begin([line for line in undisturbed.lines[:cut] if line["kind"] != "end"])
        told = dict.fromkeys(herd.history.trials, 0)
        for name in order_of_arrival(seed, 6, 12):
            told[name] += 1
            if told[name] > herd.history.trials[name].told:
                herd.report(name)
        assert herd.lineage() == undisturbed.lineage(), f"killed before line {cut}"


def test_nothing_is_judged_but_what_the_lease_waits_for():
    herd = Herd()
    herd.join(0)
    judge = herd.judge
    for result in (
        {"epoch": 3, "value": 1.0, "judged": False}, {"epoch": 3, "judged": True},
        {"epoch": 3, "value": math.nan, "judged": True},
    ):  # fmt: skip
        assert judge.on_trial_result(None, tune_trial("evolve-000"), result) == TrialScheduler.CONTINUE
    assert herd.told == []


@pytest.fixture
def clock(monkeypatch):
    """The scheduler's: seconds, in a list of one."""
    found = [0.0]
    monkeypatch.setattr("sweeps.population.now", lambda: found[0])
    return found


def arriving_herd(clock, after, slow_start=1.0):
    """Two members with epochs of a second. The worse comes to 6 when the other came to 3 so many seconds before."""
    herd = Herd(population=2, quantile=0.5)
    for number in range(2):
        herd.join(number)
    herd.judge.patience = PATIENCE
    for name, value in (("evolve-001", 2.0), ("evolve-000", 1.0), ("evolve-001", 2.0)):
        if herd.history.trials["evolve-000"].told:
            clock[0] = herd.history.trials["evolve-000"].epochs[-1].at + after
        for _ in range(3):
            first = herd.history.trials[name].told == 0
            herd.report(name, value, seconds=slow_start if first else 1.0)
    return herd


def waiting_herd(clock):
    """The worse waits for the other, which needs two thirds of a second more."""
    herd = arriving_herd(clock, after=2.333)
    assert list(herd.judge.waiting) == ["evolve-001"]
    return herd


@pytest.mark.parametrize("comes", [True, False])
def test_one_of_the_worst_waits_for_a_donor_on_its_way_and_half_an_interval_at_most(clock, comes):
    herd = waiting_herd(clock)
    clock[0] += PATIENCE * 3 - 0.01
    assert herd.judge.reconsider() == [], "evolve-000 is on its way there"
    assert [line["epoch"] for line in herd.lines if "decision" in line] == [3, 3]
    if comes:
        for _ in range(3):
            herd.report("evolve-000", 1.0)
    else:
        clock[0] += 0.02
    assert herd.judge.reconsider() == ["evolve-001"]
    assert herd.judge.waiting == {}
    ((name, told),) = herd.told
    assert name == "evolve-001"
    assert told["checkpoint"] == f"checkpoints/evolve-000/{6 if comes else 3}"


@pytest.mark.parametrize("slow_start", [1.0, 60.0])
def test_nobody_waits_for_a_donor_that_is_far_however_long_the_slots_took_to_start(clock, slow_start):
    herd = arriving_herd(clock, after=1.4, slow_start=slow_start)
    assert herd.judge.waiting == {}, "it needs 1.6 seconds more, and half an interval is 1.5"
    assert herd.lines[-1]["checkpoint"] == "checkpoints/evolve-000/3"
    assert arriving_herd(clock, after=1.6, slow_start=slow_start).judge.waiting


def test_a_donor_that_went_back_itself_is_as_far_as_its_state(clock):
    herd = arriving_herd(clock, after=2.9)
    trial = herd.history.trials["evolve-000"]
    fields = {"trial": trial.trial, "attempt": 1, "epoch": 3, "checkpoint": None, "before": {}, "after": {}}
    assert arrival(trial, 6) == trial.epochs[-1].at + 3.0
    herd.write("exploit", donor="", cause="non_finite", **fields)
    assert arrival(trial, 6) == trial.exploits[-1].at + 6.0
    assert herd.judge.reconsider() == ["evolve-001"]


def test_who_waits_and_loses_its_lease_is_decided_on_at_once(clock):
    herd = waiting_herd(clock)
    herd.judge.on_trial_error(None, tune_trial("evolve-001"))  # Tune tells the scheduler first
    assert herd.judge.reconsider(("evolve-001",)) == ["evolve-001"]
    assert herd.told[-1][1]["donor"] == "evolve-000"


def test_who_makes_room_for_another_does_not_wait():
    herd = Herd(population=3, quantile=0.5)
    for number in range(2):
        herd.join(number)
    herd.judge.patience = PATIENCE
    herd.judge.others = lambda: ((), True)
    for name, value in (("evolve-001", 2.0), ("evolve-000", 1.0), ("evolve-001", 2.0)):
        actions = [herd.report(name, value) for _ in range(3)]
    assert actions[-1] == "PAUSE"
    assert herd.judge.waiting == {}


def test_without_a_checkpoint_there_is_no_donor():
    herd = Herd(population=4)
    for number in range(4):
        herd.join(number)
    for name in [f"evolve-{number:03d}" for number in range(4) for _ in range(3)]:
        herd.report(name, value=float(name[-1]), checkpoint=False)
    assert [line["decision"] for line in herd.lines if line["kind"] == "decision"] == ["CONTINUE"] * 4


def test_members_take_turns_the_least_advanced_and_of_equals_the_better_first():
    herd = Herd(population=4)
    trials = {f"evolve-{n:03d}": tune_trial(f"evolve-{n:03d}") for n in range(4)}
    herd.judge.room = lambda: 1
    more = [True]
    herd.judge.others = lambda: ((), more[0])
    for name, value in (("evolve-000", 0.3), ("evolve-001", 0.1), ("evolve-002", 0.2)):
        assert herd.judge.turn() == "", "that of one that has not begun"
        herd.join(int(name[-1]))
        assert [herd.report(name, value) for _ in range(3)] == ["CONTINUE", "CONTINUE", "PAUSE"]
        assert herd.judge.choose_trial_to_run(None) is None, "the new ones are Tune's to start"
    more[0] = False
    herd.judge.paused["evolve-001"].status = "RUNNING"
    assert herd.judge.choose_trial_to_run(None) is None, "its lease is not free yet"
    herd.judge.room = lambda: 2
    assert herd.judge.choose_trial_to_run(None) is None, "nor can it go on before"
    herd.judge.paused["evolve-001"].status, herd.judge.room = "PAUSED", lambda: 1
    assert herd.judge.choose_trial_to_run(None).config == trials["evolve-001"].config
    assert herd.judge.choose_trial_to_run(None) is None, "there is one slot"
    assert [herd.report("evolve-001", 0.1) for _ in range(3)][-1] == "PAUSE"
    assert herd.judge.choose_trial_to_run(None).config == trials["evolve-002"].config
    assert [herd.report("evolve-002", 0.05) for _ in range(3)][-1] == "PAUSE"
    assert herd.judge.choose_trial_to_run(None).config == trials["evolve-000"].config
    assert [herd.report("evolve-000", 0.01) for _ in range(3)][-1] == "CONTINUE", "the best of those at its epoch"
    assert all(line["paused"] for line in herd.lines if line["kind"] == "decision" and line["trial"] != "evolve-000")


def test_one_to_be_handed_out_again_has_its_turn_among_the_others():
    herd = Herd(population=4)
    herd.judge.newest = {"evolve-000": (3, -0.5), "evolve-001": (3, -0.2), "evolve-002": (6, -0.1)}
    orders = [Order(f"evolve-{number:03d}", 1, {}, {}) for number in (0, 2)]
    herd.judge.others = lambda: (orders, False)
    assert herd.judge.turn() == "evolve-000"
    herd.judge.paused = {"evolve-001": tune_trial("evolve-001")}
    assert herd.judge.turn() is None, "a paused one's, which is as far and better"
    herd.judge.others = lambda: ([*orders, Order("evolve-003", 1, {}, {})], True)
    assert herd.judge.turn() == "evolve-003", "it was interrupted before it was ever judged"


def test_a_member_that_became_infeasible_is_replaced_by_a_copy_of_a_good_one():
    herd = Herd(population=4, quantile=0.5)
    for number in range(4):
        herd.join(number)
    for number in (0, 1, 2):
        for _ in range(3):
            herd.report(f"evolve-{number:03d}", float(number))
    for _ in range(5):
        herd.report("evolve-003", 9.0)
    lost = herd.history.trials["evolve-003"]
    found = herd.judge.replacement(lost, "non_finite")
    assert found == herd.judge.replacement(lost, "non_finite"), "a driver that was killed finds the same"
    assert found["donor"] in ("evolve-000", "evolve-001")
    assert found["checkpoint"] == f"checkpoints/{found['donor']}/3"
    assert (found["epoch"], found["before"], found["cause"]) == (5, lost.config, "non_finite")
    for _ in range(REPLACEMENTS):
        herd.write("exploit", trial="evolve-003", attempt=1, **herd.judge.replacement(lost, "memory"))
        assert lost.resume == lost.exploits[-1].checkpoint
    assert herd.judge.replacement(lost, "memory") is None


@pytest.mark.parametrize(("told", "failure"), [(6, "non_finite"), (7, "non_finite"), (6, "memory")])
def test_the_first_to_fail_takes_over_from_an_interval_before(told, failure):
    """Nobody else has come as far; a report that is not finite was compared with nobody."""
    herd = Herd(population=4, quantile=0.5)
    for number in range(4):
        herd.join(number)
    for number in (3, 2, 1, 0):  # the best last: nobody takes over
        for _ in range(3):
            herd.report(f"evolve-{number:03d}", float(number))
    for epoch in range(4, told + 1):
        herd.report("evolve-000", math.nan if epoch == told and failure == "non_finite" else 0.0)
    found = herd.judge.replacement(herd.history.trials["evolve-000"], failure)
    assert found["checkpoint"] == f"checkpoints/{found['donor']}/3"
    assert found["donor"] in ("evolve-001", "evolve-002")
    assert found["checkpoint"] in wanted(herd.history, herd.phase)


def test_who_failed_itself_is_no_donor():
    herd = Herd(population=3, quantile=0.5)
    for number in range(3):
        herd.join(number)
    for name in ("evolve-000", "evolve-001"):
        for _ in range(3):
            herd.report(name, 1.0)
    for name in ("evolve-000", "evolve-001"):
        herd.write("failure", trial=name, attempt=1, failure_kind="memory", error="", message="", seconds=0.0)
    found = herd.judge.replacement(herd.history.trials["evolve-001"], "memory")
    assert (found["donor"], found["checkpoint"]) == ("", None)
    like = herd.history.trials["evolve-002"].config
    assert found["after"]["lr"] == pytest.approx(like["lr"], rel=0.26) or found["after"]["batch_size"] != 1
    assert found["after"] != herd.history.trials["evolve-000"].config


def test_the_config_that_had_no_memory_is_the_one_that_was_replaced():
    herd = Herd(population=4)
    herd.join(0)
    herd.join(1)
    herd.report("evolve-001", 1.0)
    lost = herd.history.trials["evolve-000"]
    first = lost.config
    herd.write("failure", trial="evolve-000", attempt=1, failure_kind="memory", error="", message="", seconds=0.0)
    assert refused(herd.history) == [first]
    herd.write("exploit", trial="evolve-000", attempt=1, **herd.judge.replacement(lost, "memory"))
    assert refused(herd.history) == [first]
    assert lost.config != first
    assert lost.config_at(0) == first
    assert lost.config_at(1) == lost.config


def test_before_anyone_was_compared_it_begins_anew_with_a_good_one_s_config():
    herd = Herd(population=4)
    for number in range(3):
        herd.join(number)
    herd.report("evolve-000", 2.0)
    herd.report("evolve-001", 1.0)
    found = herd.judge.replacement(herd.history.trials["evolve-002"], "memory")
    assert (found["donor"], found["checkpoint"], found["epoch"]) == ("", None, 0)
    like = herd.history.trials["evolve-001"].config
    assert found["after"] != like
    assert found["after"]["lr"] == pytest.approx(like["lr"], rel=0.26) or found["after"]["batch_size"] != 1


def test_a_donor_is_kept_while_a_member_may_load_it_and_no_longer():
    herd = Herd(population=4)
    herd.join(0)
    herd.join(1)
    for _ in range(3):
        herd.report("evolve-000", 1.0)
    for _ in range(6):
        herd.report("evolve-001", 2.0)
    at_three = {"checkpoints/evolve-000/3", "checkpoints/evolve-001/3"}
    assert at_three <= wanted(herd.history, herd.phase), "for those that have not begun"
    herd.join(2)
    herd.join(3)
    for name in ("evolve-002", "evolve-003"):
        for _ in range(6):
            herd.report(name, 3.0)
    assert at_three <= wanted(herd.history, herd.phase), "evolve-000 is there"
    for _ in range(2):
        for name in herd.history.trials:
            for _ in range(3):
                if herd.history.trials[name].told < 9:
                    herd.report(name, 1.0)
    assert at_three & wanted(herd.history, herd.phase) == set()
    for name in herd.history.trials:
        for _ in range(3):
            herd.report(name, 1.0)
    assert wanted(herd.history, herd.phase) == set()


def test_a_population_is_not_extended():
    with pytest.raises(UsageError, match="evolve together"):
        extended(Herd().spec, 4)


def test_mlflow_has_the_first_config_as_params_and_what_changes_as_series():
    herd = evolved(3, population=12, quantile=0.5)
    trial = next(trial for trial in herd.history.trials.values() if len(trial.exploits) > 1)
    run = trial_record(herd.history, trial, "")
    first, last = trial.exploits[0], trial.exploits[-1]
    assert run.params["lr"] == str(first.before["lr"])
    assert run.tags["pbt.cloned_from"] == last.donor
    points = hyperparameter_points(herd.history, trial, 0)
    rates = {point.step: point.value for point in points if point.key == "hp/lr"}
    assert [point.step for point in points if point.key == "hp/batch_size"] == list(range(1, 13))
    assert rates[first.epoch] == first.before["lr"]
    assert rates[first.epoch + 1] == first.after["lr"]
    assert rates[12] == trial.config["lr"]
    assert hyperparameter_points(herd.history, trial, 10) == points[20:]
    trial.epochs[-1].metrics["hp/lr"] = 0.5  # as the platform's loop reports it, with its schedule
    assert {point.key for point in hyperparameter_points(herd.history, trial, 11)} == {"hp/batch_size"}


def test_a_ray_whose_class_is_another_is_refused(monkeypatch):
    check_ray()
    monkeypatch.delattr(PopulationBasedTraining, "_quantiles")
    with pytest.raises(PlanError, match=r"has no _quantiles any more\.\n  Install the ray"):
        check_ray()


def test_tune_can_pickle_the_scheduler_and_gets_nothing():
    assert vars(pickle.loads(pickle.dumps(Herd().judge))) == {}


def test_the_figure_shows_the_lineage_of_the_winner_and_its_schedule():
    histories = (evolved(seed, population=8, quantile=0.5).history for seed in range(50))
    found = ((history, leader(history, list(history.trials.values()))) for history in histories)
    history, winner = next((h, w) for h, w in found if w is not None and len(ancestry(h, w)) > 2)
    assert winner.curve("m")[-1][1] == min(trial.curve("m")[-1][1] for trial in history.trials.values())
    line = ancestry(history, winner)
    figure = population(history)
    assert figure is not None
    scores, *schedules = figure.axes
    (drawn,) = (found for found in scores.lines if found.get_label() == f"lineage of {winner.trial}")
    expected = [history.trials[p.trial].epochs[n].metrics["m"] for p in line for n in range(p.after, p.until)]
    assert list(drawn.get_ydata()) == expected
    assert list(drawn.get_xdata()) == list(range(1, 13))
    exploits = sum(len(trial.exploits) for trial in history.trials.values())
    assert scores.get_title() == f"8 members, {exploits} exploits"
    assert [axes.get_ylabel() for axes in schedules] == ["lr", "batch_size"]
    rates = [part.config["lr"] for part in line for _ in range(part.after, part.until)]
    assert list(schedules[0].lines[-1].get_ydata()) == rates
    assert schedules[0].get_yscale() == "log"


def test_without_a_population_there_is_no_figure_of_one():
    assert population(Herd().history) is None
