"""ASHA: each journalled decision is Ray's own, rests on the rung it names, and knows trials by our ids only."""

from __future__ import annotations

import math
import pickle
import random
from types import SimpleNamespace

import numpy as np
import pytest
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

from sweeps.history import Epoch, TrialHistory
from sweeps.schedule import Asha, InOrder, rebuild, scheduler

CONTINUE, STOP = TrialScheduler.CONTINUE, TrialScheduler.STOP


def tune_trial(ours, tunes):
    """A Tune trial as schedulers see it: its own id, ours in its config."""
    return SimpleNamespace(trial_id=tunes, config={"order": {"trial": ours}})


def asha(mode="min", epochs=9, min_epochs=1, factor=3.0):
    """An Asha and the list of what it tells."""
    told = []
    return Asha(mode, epochs, min_epochs, factor, lambda trial, line: told.append({"trial": trial, **line})), told


def test_one_trial_in_eight_goes_on_though_it_is_judged_like_the_others():
    told = []
    judge = Asha("min", 9, 1, 3.0, lambda trial, line: told.append({"trial": trial, **line}), unstopped_share=0.125)
    plain, _ = asha()
    for n in range(24):  # each worse than the one before
        for each in (judge, plain):
            trial = tune_trial(f"explore-{n:03d}", f"{id(each)}-{n}")
            each.on_trial_add(None, trial)
            action = each.on_trial_result(None, trial, {"epoch": 1, "value": float(n)})
            spared = each is judge and n % 8 == 7
            assert action == (CONTINUE if n == 0 or spared else STOP)
    assert [line["trial"] for line in told if line.get("unstopped")] == [f"explore-{n:03d}" for n in (7, 15, 23)]
    assert {line["decision"] for line in told if line.get("unstopped")} == {CONTINUE}


def rungs_of(epochs, min_epochs, factor):
    """The rungs at which something is decided: below the last epoch, from the highest."""
    rungs = [min_epochs * factor**k for k in range(60)]
    return [rung for rung in reversed(rungs) if rung < epochs]


class ByHand:
    """The rule as the paper and Ray's documentation have it, written down anew."""

    def __init__(self, mode, epochs, min_epochs, factor):
        self.mode, self.factor = mode, factor
        self.came = {rung: {} for rung in rungs_of(epochs, min_epochs, factor)}

    def decide(self, trial, epoch, value):
        """(rung, cutoff, decision), or None between rungs."""
        for rung, before in self.came.items():
            if epoch >= rung and trial not in before:
                cutoff = None
                if before:  # the value that the top 1 in `factor` of those before reached
                    share = 1 - 1 / self.factor if self.mode == "max" else 1 / self.factor
                    cutoff = float(np.percentile(list(before.values()), share * 100))
                worse = cutoff is not None and (value < cutoff if self.mode == "max" else value > cutoff)
                before[trial] = value
                return rung, cutoff, STOP if worse else CONTINUE
        return None


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize(
    ("epochs", "min_epochs", "factor"),
    [
        (9, 1, 3),
        (27, 1, 3),
        (20, 2, 2),
        (16, 1, 4),
        (10, 3, 2),
        (12, 1, 1.5),
        (10, 1, 2.5),
        (30, 4, 1.2),
        (7, 6, 3),
        (90, 25, 1.6),
    ],
)
def test_every_decision_is_rays_and_the_rules(mode, epochs, min_epochs, factor):
    """Random streams in random order, trials that end by themselves or come back with other Tune ids among them."""
    for seed in range(6):
        rng = random.Random(f"{seed} {mode} {epochs} {min_epochs} {factor}")
        judge, told = asha(mode, epochs, min_epochs, factor)
        rays = AsyncHyperBandScheduler(
            time_attr="epoch", metric="value", mode=mode, max_t=epochs, grace_period=min_epochs,
            reduction_factor=factor,
        )  # fmt: skip
        by_hand = ByHand(mode, epochs, min_epochs, factor)
        live = {f"explore-{n:03d}": 0 for n in range(30)}
        tunes = {}
        for name in live:
            tunes[name] = tune_trial(name, f"{rng.randrange(10**6)}")
            judge.on_trial_add(None, tunes[name])
            rays.on_trial_add(None, SimpleNamespace(trial_id=name))
        stopped = 0
        while live:
            name = rng.choice(list(live))
            live[name] += 1
            epoch, value = live[name], rng.choice([rng.random(), 0.5])  # ties are common
            result = {"epoch": epoch, "value": value}
            if epoch == epochs:  # Tune ends a trial that is done without asking for a decision
                judge.on_trial_complete(None, tunes[name], result)
                rays.on_trial_complete(None, SimpleNamespace(trial_id=name), result)
                del live[name]
                continue
            if rng.random() < 0.05:  # its lease was lost: another Tune trial, the same of ours
                tunes[name] = tune_trial(name, f"again-{rng.randrange(10**6)}")
                judge.on_trial_add(None, tunes[name])
            before = len(told)
            action = judge.on_trial_result(None, tunes[name], result)
            assert action == rays.on_trial_result(None, SimpleNamespace(trial_id=name), result)
            expected = by_hand.decide(name, epoch, value)
            if expected is None:
                assert len(told) == before
                assert action == CONTINUE
                continue
            rung, cutoff, decision = expected
            assert len(told) == before + 1
            line = told[-1]
            assert line["cutoff"] == (None if cutoff is None else pytest.approx(cutoff, rel=1e-12))
            assert line == {"trial": name, "epoch": epoch, "rung": pytest.approx(rung), "value": value,
                            "cutoff": line["cutoff"], "decision": action}  # fmt: skip
            if cutoff is None or abs(value - cutoff) > 1e-12:  # at the cutoff itself the last bit may differ
                assert action == decision
            if action == STOP:
                judge.on_trial_complete(None, tunes[name], result)
                rays.on_trial_complete(None, SimpleNamespace(trial_id=name), result)
                del live[name]
                stopped += 1
        assert stopped > 0
        assert {line["rung"] for line in told} <= {rung for rung, _ in judge._brackets[0]._rungs}, "to the last bit"


def test_a_trial_that_skips_a_rung_on_its_way_to_the_end_is_in_no_cutoff():
    """A loop of the user's own may report epochs 1 and 10 only. Decisions must rest on what the journal shows."""
    judge, told = asha("min", epochs=10)  # rungs 1, 3, 9
    for name, value in (("skips", 0.1), ("b", 0.2), ("c", 0.3)):
        trial = tune_trial(name, name)
        judge.on_trial_add(None, trial)
        assert judge.on_trial_result(None, trial, {"epoch": 1, "value": 0.5}) == CONTINUE
        if name == "skips":
            judge.on_trial_complete(None, trial, {"epoch": 10, "value": value})
            continue
        action = judge.on_trial_result(None, trial, {"epoch": 9, "value": value})
        assert told[-1] == {
            "trial": name, "epoch": 9, "rung": 9.0, "value": value, "cutoff": None if name == "b" else 0.2,
            "decision": CONTINUE if name == "b" else STOP,
        }  # fmt: skip
        assert action == told[-1]["decision"]


def test_two_tune_trials_of_one_of_ours_are_one():
    judge, told = asha("min", factor=2)
    judge.on_trial_add(None, tune_trial("explore-000", "t1"))
    judge.on_trial_result(None, tune_trial("explore-000", "t1"), {"epoch": 1, "value": 0.1})
    judge.on_trial_complete(None, tune_trial("explore-000", "t1"), {"epoch": 1})  # raised: no value
    judge.on_trial_add(None, tune_trial("explore-000", "t2"))
    assert judge.on_trial_result(None, tune_trial("explore-000", "t2"), {"epoch": 1, "value": 5.0}) == CONTINUE
    assert len(told) == 1, "it came to the first rung before, and is not judged there again"
    judge.on_trial_result(None, tune_trial("explore-000", "t2"), {"epoch": 2, "value": 0.3})
    assert told[-1] == {
        "trial": "explore-000", "epoch": 2, "rung": 2.0, "value": 0.3, "cutoff": None, "decision": CONTINUE,
    }  # fmt: skip
    judge.on_trial_remove(None, tune_trial("explore-000", "t3"))


def test_tune_trials_of_the_same_id_are_different_where_ours_differ():
    judge, told = asha("min")
    for name, value in (("explore-000", 0.1), ("explore-001", 0.2)):
        judge.on_trial_add(None, tune_trial(name, "same"))
        judge.on_trial_result(None, tune_trial(name, "same"), {"epoch": 1, "value": value})
    assert [(line["trial"], line["decision"]) for line in told] == [("explore-000", CONTINUE), ("explore-001", STOP)]


@pytest.mark.parametrize("mode", ["min", "max"])
def test_the_first_at_a_rung_and_those_equal_to_the_cutoff_go_on(mode):
    judge, told = asha(mode)
    for n in range(4):
        judge.on_trial_add(None, tune_trial(f"t{n}", f"{n}"))
        assert judge.on_trial_result(None, tune_trial(f"t{n}", f"{n}"), {"epoch": 1, "value": 0.25}) == CONTINUE
    assert [line["cutoff"] for line in told] == [None, 0.25, 0.25, 0.25]
    worse = 0.26 if mode == "min" else 0.24
    judge.on_trial_add(None, tune_trial("worse", "w"))
    assert judge.on_trial_result(None, tune_trial("worse", "w"), {"epoch": 1, "value": worse}) == STOP


@pytest.mark.parametrize("result", [{"epoch": 1}, {"epoch": 1, "value": math.nan}, {"epoch": 1, "value": math.inf}])
@pytest.mark.parametrize("mode", ["min", "max"])
def test_no_value_and_non_finite_ones_are_not_judged_and_move_no_cutoff(mode, result):
    judge, told = asha(mode)
    for name in ("none", "also-none"):
        judge.on_trial_add(None, tune_trial(name, name))
        assert judge.on_trial_result(None, tune_trial(name, name), result) == CONTINUE
        judge.on_trial_complete(None, tune_trial(name, name), result)
    assert told == []
    for n, value in enumerate((0.5, 0.5)):
        judge.on_trial_add(None, tune_trial(f"t{n}", f"{n}"))
        judge.on_trial_result(None, tune_trial(f"t{n}", f"{n}"), {"epoch": 1, "value": value})
    assert [line["cutoff"] for line in told] == [None, 0.5]


def test_nothing_is_decided_before_the_first_rung_nor_at_the_last_epoch():
    judge, told = asha("min", epochs=8, min_epochs=2, factor=2)
    for n in range(5):
        trial = tune_trial(f"t{n}", f"{n}")
        judge.on_trial_add(None, trial)
        assert judge.on_trial_result(None, trial, {"epoch": 1, "value": float(n)}) == CONTINUE
    assert told == []
    assert judge.on_trial_result(None, tune_trial("t0", "0"), {"epoch": 8, "value": 0.0}) == STOP, "Ray ends it at max"
    assert told == []


def test_the_kind_of_scheduler():
    def unused(trial, line):
        pytest.fail("told")

    assert type(scheduler("min", 9, 1, None, unused)) is InOrder
    assert type(scheduler("min", 3, 3, 3, unused)) is InOrder
    assert type(scheduler("min", 3, 4, 3, unused)) is InOrder
    judge = scheduler("max", 9, 2, 3, unused)
    assert isinstance(judge, Asha)
    assert [rung for rung, _ in judge.rungs] == [2, 6]
    assert (judge.sign, judge.epochs, judge.factor) == (1.0, 9, 3)


def test_tune_can_pickle_the_scheduler_and_gets_nothing():
    judge, _ = asha()
    assert vars(pickle.loads(pickle.dumps(judge))) == {}


def trial_of(name, values, status="FINISHED", done=False):
    """A trial as the journal has it: its values by epoch, the last with `done` where it ended by itself."""
    found = TrialHistory(name, "explore", "sobol", {}, {"epochs": 9}, 0.0, status=status)
    for epoch, value in values.items():
        last = done and epoch == max(values)
        found.epochs.append(Epoch(epoch, {"loss": value}, float(epoch), 0.1, 1, None, 1, last))
    return found


def test_a_rebuilt_scheduler_knows_what_the_one_before_it_was_told_and_no_more():
    judge, told = asha(min_epochs=3, factor=3.0)
    trials = [
        trial_of("judged", {1: 1.2, 2: 1.1, 3: 1.0}),
        trial_of("ended-by-itself", {3: 0.1}, done=True),
        trial_of("stopped-by-hand", {3: 0.2}),
        trial_of("not-finite", {3: math.inf}, status="INFEASIBLE"),
        trial_of("live", {2: 0.6, 3: 0.5}, status="RUNNING"),
    ]
    rebuild(judge, trials, "loss", {("judged", 3)})
    assert [(line["trial"], line["value"], line["cutoff"]) for line in told] == [
        ("judged", 1.0, None),
        ("live", 0.5, 1.0),
    ]
