"""Whether the best of a search was lucky: a value against what its seeds make likely."""

from __future__ import annotations

import numpy as np
import pytest

from sweeps.insight.luck import flattered, spread


@pytest.mark.parametrize("mode", ["min", "max"])
def test_a_value_of_the_same_kind_as_the_seeds_is_called_lucky_as_often_as_was_allowed(mode):
    rng = np.random.default_rng(0)
    called = [flattered(sample[0], sample[1:].tolist(), mode) for sample in rng.normal(size=(4000, 5))]
    assert 0.04 < np.mean(called) < 0.06


def test_a_value_far_beyond_the_seeds_was_lucky_on_its_good_side_only():
    assert flattered(0.1, [0.30, 0.31, 0.29], "min")
    assert not flattered(0.1, [0.30, 0.31, 0.29], "max")
    assert flattered(0.9, [0.30, 0.31, 0.29], "max")


@pytest.mark.parametrize("seeds", [[], [0.3], [0.3, 0.3]])
def test_without_a_spread_nothing_is_said(seeds):
    assert not flattered(0.0, seeds, "min")


def test_the_spread_in_words():
    assert spread([0.5]) == "0.5000"
    assert spread([0.5, 0.7]) == "0.6000 ± 0.1414"
