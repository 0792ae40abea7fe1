"""Was the best of many better than it is? The best value of a search is good, and lucky besides."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from sweeps.history import Mode

CONFIDENCE = 0.95


def flattered(value: float, seeds: Sequence[float], mode: Mode) -> bool:
    """Whether a value is better than one further seed would be, by the values of others.

    It lies beyond the one-sided prediction interval of a normal sample: mean ± t · sd · √(1 + 1/n) (Hahn & Meeker,
    Statistical Intervals, 1991, ch. 4). False with fewer than two values, or with equal ones, which tell no spread.
    """
    if len(set(seeds)) < 2:
        return False
    from scipy.stats import t

    n = len(seeds)
    reach = float(t.ppf(CONFIDENCE, n - 1)) * statistics.stdev(seeds) * math.sqrt(1 + 1 / n)
    better = value - statistics.fmean(seeds) if mode == "max" else statistics.fmean(seeds) - value
    return better > reach


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation as a person reads them."""
    return f"{statistics.fmean(values):.4f}" + (f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else "")
