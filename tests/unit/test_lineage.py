"""Where a member's state comes from, epoch by epoch, and the schedule that gives it again."""

from __future__ import annotations

from types import SimpleNamespace

from sweeps.history import Epoch, Exploit, History, TrialHistory
from sweeps.insight.lineage import Segment, ancestry, schedule

A, B, C, D = ({"lr": rate} for rate in (0.1, 0.2, 0.3, 0.4))


def member(history, name, config, told, *exploits, configs=()):
    """A member that came so far; an exploit is (epoch, donor, checkpoint's epoch, config after)."""
    trial = TrialHistory(name, "evolve", "sobol", config, {"epochs": 12, "seed": 0}, 0.0, configs=configs)
    trial.epochs = [Epoch(n, {"m": 1.0}, float(n), 1.0, 1, None, 1) for n in range(1, told + 1)]
    for epoch, donor, at, after in exploits:
        pointer = None if at is None else f"checkpoints/{donor}/{at}"
        trial.exploits.append(Exploit(epoch, 1, donor, pointer, trial.config, after, "", 0.0))
        trial.config = after
    history.trials[name] = trial
    return trial


def herd():
    return History(SimpleNamespace(name="herd"))


def test_a_member_that_never_took_over_is_its_own_ancestor():
    history = herd()
    trial = member(history, "a", A, 12)
    assert ancestry(history, trial) == [Segment("a", 0, 12, A, 0)]
    assert schedule(history, trial) == ((0, A),)


def test_a_chain_goes_through_donors_and_leaves_out_what_came_after_they_gave():
    history = herd()
    member(history, "a", A, 12, (6, "c", 6, D))  # what became of it after 3 is another story
    member(history, "b", B, 12, (3, "a", 3, C))
    trial = member(history, "c", C, 12, (9, "b", 9, D))
    member(history, "d", D, 12, (9, "c", 9, A))
    assert ancestry(history, trial) == [Segment("a", 0, 3, A, 0), Segment("b", 3, 9, C, 3), Segment("c", 9, 12, D, 9)]
    assert schedule(history, trial) == ((0, A), (3, C), (9, D))
    assert schedule(history, history.trials["a"]) == ((0, C), (6, D)), "c as it was when it gave"
    assert ancestry(history, trial, 9) == [Segment("c", 0, 9, C, 0)]


def test_who_replaced_a_member_that_failed_goes_on_from_the_epoch_of_its_checkpoint():
    history = herd()
    member(history, "a", A, 12)
    trial = member(history, "b", B, 12, (5, "a", 3, C))
    assert schedule(history, trial) == ((0, A), (3, C))
    assert ancestry(history, trial)[-1] == Segment("b", 3, 12, C, 5), "what it told up to 5 was of what it was"


def test_one_that_began_anew_has_no_ancestor():
    history = herd()
    trial = member(history, "b", B, 12, (2, "", None, C))
    assert schedule(history, trial) == ((0, C),)


def test_a_donor_that_could_not_be_read_is_no_ancestor():
    history = herd()
    member(history, "a", A, 12)
    trial = member(history, "b", B, 12, (3, "a", 3, C), (3, "b", 3, B))
    assert schedule(history, trial) == ((0, B),)


def test_a_config_that_stays_the_same_is_one_entry():
    history = herd()
    member(history, "a", A, 12)
    trial = member(history, "b", B, 12, (3, "a", 3, A))
    assert schedule(history, trial) == ((0, A),)


def test_a_trial_that_followed_a_schedule_has_it_again_as_far_as_it_came():
    history = herd()
    trial = member(history, "r", A, 7, configs=((0, A), (3, B), (9, C)))
    assert ancestry(history, trial) == [Segment("r", 0, 3, A, 0), Segment("r", 3, 7, B, 3)]
    assert [trial.config_at(epoch) for epoch in (0, 3, 4, 9, 10)] == [A, A, B, B, C]


def test_one_that_had_to_begin_afresh_has_no_ancestors_any_more():
    history = herd()
    member(history, "a", A, 12)
    trial = member(history, "b", B, 12, (3, "a", 3, C), (4, "", None, C))
    assert ancestry(history, trial) == [Segment("b", 0, 12, C, 4)]
