"""The verdict: what it says of constructed arms, and its interval against scipy's."""

from __future__ import annotations

import json
import random
import statistics
from dataclasses import replace

import pytest
from scipy.stats import ttest_rel

from sweeps.history import History
from sweeps.insight.verdict import MOST_SEEDS, Arm, Comparison, compare, document, judge, read


def arm(name, values, seeds=None):
    """An arm of these values over seeds from 1."""
    seeds = list(range(1, len(values) + 1)) if seeds is None else seeds
    return Arm(name, {"lr": 0.1}, [f"confirm-{name}-{seed}" for seed in seeds], seeds, values)


def in_mode(mode, values):
    """Values of a loss as they are, of an accuracy mirrored: what is better stays better."""
    return values if mode == "min" else [1 - value for value in values]


MODES = pytest.mark.parametrize("mode", ["min", "max"])


@MODES
def test_better_beyond_seed_noise_is_adopted(mode):
    baseline = arm("baseline", in_mode(mode, [0.50, 0.52, 0.51]))
    winner = arm("refine-003", in_mode(mode, [0.40, 0.425, 0.405]))
    verdict = judge([baseline, winner], "val/x", mode)
    assert (verdict.verdict, verdict.winner, verdict.best) == ("ADOPT", "refine-003", winner)
    assert verdict.comparison.mean_difference == pytest.approx(0.1)
    assert verdict.comparison.low > 0
    assert verdict.comparison.seeds_needed == 3
    assert (verdict.metric, verdict.mode, verdict.arms) == ("val/x", mode, [baseline, winner])


@MODES
def test_what_a_few_more_seeds_would_decide_asks_for_them(mode):
    baseline = arm("baseline", in_mode(mode, [0.50, 0.50, 0.50]))
    winner = arm("refine-003", in_mode(mode, [0.40, 0.48, 0.47]))
    verdict = judge([baseline, winner], "val/x", mode)
    assert (verdict.verdict, verdict.winner) == ("MORE_SEEDS", "refine-003")
    assert verdict.comparison.low < 0 < verdict.comparison.mean_difference
    assert 3 < verdict.comparison.seeds_needed <= MOST_SEEDS
    assert f"about {verdict.comparison.seeds_needed} seeds would decide" in verdict.text


@MODES
def test_too_small_a_difference_keeps_the_baseline_but_names_the_better_arm(mode):
    baseline = arm("baseline", in_mode(mode, [0.50, 0.50, 0.50]))
    winner = arm("refine-003", in_mode(mode, [0.42, 0.56, 0.49]))
    verdict = judge([baseline, winner], "val/x", mode)
    assert verdict.verdict == "KEEP_BASELINE"
    assert verdict.winner == "refine-003"
    assert verdict.comparison.seeds_needed > MOST_SEEDS
    assert f"{verdict.comparison.seeds_needed} seeds would be needed" in verdict.text


@MODES
def test_no_better_keeps_the_baseline_and_names_it(mode):
    baseline = arm("baseline", in_mode(mode, [0.40, 0.41, 0.42]))
    worse = arm("refine-003", in_mode(mode, [0.50, 0.51, 0.53]))
    verdict = judge([baseline, worse], "val/x", mode)
    assert (verdict.verdict, verdict.winner, verdict.best) == ("KEEP_BASELINE", "baseline", baseline)
    assert verdict.comparison.seeds_needed is None
    assert verdict.comparison.high < 0
    assert "refine-003 is no better" in verdict.text


@MODES
def test_a_candidate_that_is_infeasible_where_the_baseline_is_not_is_no_better(mode):
    baseline = arm("baseline", in_mode(mode, [0.50, 0.52, 0.51, 0.50]))
    diverged = replace(arm("refine-001", in_mode(mode, [0.10, 0.12, 0.11]), [1, 2, 3]), infeasible=[4])
    sound = arm("refine-003", in_mode(mode, [0.40, 0.425, 0.405, 0.40]))
    both = judge([baseline, diverged, sound], "val/x", mode)
    assert (both.verdict, both.winner) == ("ADOPT", "refine-003")
    assert both.comparison == compare(sound, baseline, mode, 0.975), "two were candidates all the same"
    alone = judge([baseline, diverged], "val/x", mode)
    assert (alone.verdict, alone.winner) == ("KEEP_BASELINE", "baseline")
    assert alone.comparison == compare(diverged, baseline, mode, 0.95)
    assert alone.text.startswith("KEEP_BASELINE: refine-001 was infeasible at 1 of 4 seeds; val/x 0.")


@MODES
def test_a_seed_at_which_the_baseline_is_infeasible_speaks_against_nobody_else(mode):
    baseline = replace(arm("baseline", in_mode(mode, [0.50, 0.52, 0.51])), infeasible=[4, 5])
    winner = replace(arm("refine-003", in_mode(mode, [0.40, 0.425, 0.405, 0.40])), infeasible=[5])
    verdict = judge([baseline, winner], "val/x", mode)
    assert (verdict.verdict, verdict.comparison.seeds) == ("ADOPT", [1, 2, 3])


@MODES
def test_the_best_of_several_candidates_is_compared_at_bonferronis_confidence(mode):
    baseline = arm("baseline", in_mode(mode, [0.50, 0.52, 0.51]))
    good = arm("good", in_mode(mode, [0.44, 0.48, 0.45]))
    better = arm("better", in_mode(mode, [0.40, 0.44, 0.45]))
    verdict = judge([good, baseline, better], "val/x", mode)
    assert verdict.winner == "better"
    assert verdict.comparison == compare(better, baseline, mode, 0.975)
    alone = judge([baseline, better], "val/x", mode)
    assert alone.comparison.confidence == 0.95
    assert alone.comparison.low > verdict.comparison.low, "the best of two has to show more"
    three = judge([good, baseline, better, arm("third", in_mode(mode, [0.9, 0.9, 0.9]))], "val/x", mode)
    assert three.comparison.confidence == pytest.approx(1 - 0.05 / 3)


@MODES
@pytest.mark.parametrize("confidence", [0.95, 0.975])
def test_the_interval_is_students_of_the_paired_differences(mode, confidence):
    rng = random.Random(0)
    for n in (2, 3, 5, 9):
        seed_effect = [rng.gauss(0, 1) for _ in range(n)]
        theirs = [0.5 + e for e in seed_effect]
        ours = [0.4 + e + rng.gauss(0, 0.05) for e in seed_effect]
        found = compare(arm("a", ours), arm("baseline", theirs), mode, confidence)
        better, worse = (ours, theirs) if mode == "max" else (theirs, ours)
        expected = ttest_rel(better, worse).confidence_interval(confidence)
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-9)
        assert found.differences == pytest.approx([b - w for b, w in zip(better, worse, strict=True)])
        assert found.mean_difference == pytest.approx(statistics.fmean(found.differences))
        assert found.confidence == confidence


def test_pairs_are_made_by_seed_and_only_of_seeds_that_both_have():
    """Noise of the seeds is large; paired, the difference is plain. The third seed of each has no partner."""
    winner = arm("a", [10.0, 20.0, 99.0, 30.1], seeds=[4, 2, 7, 3])
    baseline = arm("baseline", [31.0, 11.1, 21.2, -50.0], seeds=[3, 4, 2, 9])
    found = compare(winner, baseline, "min", 0.95)
    assert found.seeds == [2, 3, 4]
    assert found.differences == pytest.approx([1.2, 0.9, 1.1])
    verdict = judge([baseline, winner], "val/x", "min")
    assert verdict.verdict == "ADOPT", "unpaired values say nothing: their means are 39.8 and 3.3"
    assert verdict.winner == "a"


def test_a_candidate_that_lacks_a_hard_seed_is_no_better_for_it():
    """Seed 3 is hard for everybody. `lucky` failed on it, and is behind `steady` on each seed that both have."""
    baseline = arm("baseline", [0.50, 0.51, 0.92])
    steady = arm("steady", [0.40, 0.415, 0.81])
    lucky = arm("lucky", [0.45, 0.465], seeds=[1, 2])
    verdict = judge([baseline, steady, lucky], "val/x", "min")
    assert verdict.winner == "steady"
    assert verdict.comparison.seeds == [1, 2, 3]


def test_the_sentence_speaks_of_the_seeds_that_were_compared():
    baseline = arm("baseline", [0.50, 0.52, 0.93])
    winner = arm("a", [0.40, 0.43], seeds=[1, 2])
    text = judge([baseline, winner], "val/x", "min").text
    assert "over 2 seeds" in text
    assert "val/x 0.4150 ± 0.0212" in text
    assert "0.5100 ± 0.0141 of the baseline" in text, "0.51 is the mean of the two seeds, 0.65 of all three"


@MODES
def test_values_without_spread(mode):
    baseline = arm("baseline", in_mode(mode, [0.5, 0.5, 0.5]))
    verdict = judge([baseline, arm("a", in_mode(mode, [0.25, 0.25, 0.25]))], "val/x", mode)
    assert verdict.verdict == "ADOPT"
    found = verdict.comparison
    assert (found.low, found.high, found.seeds_needed) == (0.25, 0.25, 3)
    same = judge([baseline, arm("a", in_mode(mode, [0.5, 0.5, 0.5]))], "val/x", mode)
    assert (same.verdict, same.winner) == ("KEEP_BASELINE", "baseline")
    assert (same.comparison.low, same.comparison.high, same.comparison.seeds_needed) == (0.0, 0.0, None)


def test_without_two_shared_seeds_there_is_no_verdict():
    baseline = arm("baseline", [0.5, 0.6, 0.7])
    for arms in (
        [],
        [baseline],
        [arm("a", [0.1, 0.2, 0.3])],
        [baseline, arm("a", [0.1], seeds=[1])],
        [baseline, arm("a", [0.1, 0.2, 0.3], seeds=[1, 8, 9])],
        [arm("baseline", [0.5], seeds=[1]), arm("a", [0.1, 0.2, 0.3])],
        [arm("baseline", []), arm("a", [])],
    ):
        with pytest.raises(ValueError, match="no candidate shares two finished seeds with the baseline"):
            judge(arms, "val/x", "min")
    unpaired = arm("b", [0.0], seeds=[2])
    verdict = judge([baseline, unpaired, arm("a", [0.1, 0.22, 0.3])], "val/x", "min")
    assert verdict.winner == "a"
    assert verdict.comparison.confidence == 0.95, "b is no candidate"
    assert verdict.arms[1] == unpaired, "but it is told of"


def test_the_seeds_needed_are_the_fewest_that_would_exclude_zero():
    """Tried with scipy on differences of n seeds with the very same mean and spread."""

    def excludes(n, mean, sd):
        deviation = sd * ((n - 1) / n) ** 0.5 if n % 2 == 0 else sd
        half = n // 2
        values = [mean - deviation] * half + [mean + deviation] * half + [mean] * (n % 2)
        assert statistics.stdev(values) == pytest.approx(sd)
        return ttest_rel(values, [0.0] * n).confidence_interval(0.95).low > 0

    for values in ([0.40, 0.48, 0.47], [0.45, 0.49, 0.49, 0.51], [0.42, 0.55, 0.46]):
        found = compare(arm("a", values), arm("baseline", [0.5] * len(values)), "min", 0.95)
        needed, sd = found.seeds_needed, statistics.stdev(found.differences)
        assert needed > len(values)
        assert excludes(needed, found.mean_difference, sd)
        assert not excludes(needed - 1, found.mean_difference, sd)
    hopeless = compare(arm("a", [0.0, 1.0 - 1e-6]), arm("baseline", [0.5, 0.5]), "min", 0.95)
    assert hopeless.mean_difference > 0
    assert hopeless.seeds_needed is None


def test_the_sentence_holds_the_numbers():
    baseline, winner = arm("baseline", [0.50, 0.52, 0.51]), arm("refine-003", [0.40, 0.425, 0.405])
    verdict = judge([baseline, winner], "val/loss", "min")
    found = verdict.comparison
    assert verdict.text == (
        "ADOPT refine-003: val/loss 0.4100 ± 0.0132 against 0.5100 ± 0.0100 of the baseline over 3 seeds; "
        f"better by 0.1000, 95.0% interval {found.low:.4f} … {found.high:.4f}."
    )
    endless = judge([arm("baseline", [0.5, 0.5]), arm("a", [0.0, 1.0 - 1e-6])], "val/loss", "min")
    assert endless.verdict == "KEEP_BASELINE"
    assert "more than 1000 seeds would be needed" in endless.text
    several = judge([baseline, winner, arm("b", [0.6, 0.6, 0.6])], "val/loss", "min")
    assert "97.5% interval" in several.text


def test_the_standard_deviation_of_one_seed_is_none():
    assert arm("a", [0.3]).sd == 0.0
    assert arm("a", [0.3, 0.5]).sd == pytest.approx(statistics.stdev([0.3, 0.5]))
    assert arm("a", [0.3, 0.5]).mean == 0.4


@pytest.mark.parametrize("test", [None, {"a": [{"test/loss": 0.4}], "baseline": [{"test/loss": 0.5}]}])
def test_the_journals_line_gives_the_verdict_back(test):
    verdict = judge([arm("baseline", [0.50, 0.52]), arm("a", [0.40, 0.43])], "val/loss", "min")
    line = document(verdict, epochs=9, best_trial="confirm-a-1", test=test, test_reads=2)
    assert read(json.loads(json.dumps(line))) == verdict
    assert (line["epochs"], line["best_trial"], line["test"]) == (9, "confirm-a-1", test)
    assert line["test_reads"] == 2
    assert line["arms"][1]["mean"] == pytest.approx(0.415)
    assert line["arms"][1]["sd"] == pytest.approx(0.0212132)
    assert set(line["comparison"]) == set(Comparison.__dataclass_fields__)


def test_the_recorded_sweeps_verdict_can_be_read(recorded_sweep):
    line = History.open(recorded_sweep).verdict
    verdict = read({**line, "comparison": None})
    assert verdict.best.arm == line["winner"]
    assert [a.values for a in verdict.arms] == [a["values"] for a in line["arms"]]
