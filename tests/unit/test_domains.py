"""Domains: coordinates to values and back, at many points of every form, and what narrowing does to one."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import pytest

from sweeps.errors import SpecError
from sweeps.space import PLAYBOOK, Choice, Constant, Domain, Float, Int, PowersOfTwo
from sweeps.space.domains import ZERO_SHARE, Range

FORMS: dict[str, Domain] = {
    "float": Float(range=(-1.0, 3.0)),
    "step": Float(range=(0.0, 1.0), step=0.25),
    "step that misses the end": Float(range=(0.5, 2.0), step=0.4),
    "log": Float(range=(1e-5, 1e-1), scale="log"),
    "log or zero": Float(range=(1e-6, 1e-1), scale="log", or_zero=True),
    "float or zero": Float(range=(0.1, 0.5), or_zero=True),
    "one_minus": Float(range=(0.8, 0.999), scale="one_minus"),
    "int": Int(range=(1, 8)),
    "int step": Int(range=(2, 11), step=3),
    "int step that misses the end": Int(range=(1, 9), step=3),
    "int negative": Int(range=(-3, 3)),
    "int log": Int(range=(8, 512), scale="log"),
    "powers_of_two": PowersOfTwo(range=(16, 128)),
    "choice": Choice(choice=("sgd", "adamw", None)),
    "choice of kinds": Choice(choice=(1, 1.5, True, "1")),
    "constant": Constant(constant=0.1),
    "constant list": Constant(constant=[3, 3]),
}
POINTS = [i / 997 for i in range(998)]
"""A prime number of steps, so that no bin's border is hit again and again; both ends included."""

every_form = pytest.mark.parametrize("domain", FORMS.values(), ids=FORMS)
every_range = pytest.mark.parametrize(
    "domain",
    [d for d in FORMS.values() if isinstance(d, Range)],
    ids=[n for n, d in FORMS.items() if isinstance(d, Range)],
)


@every_form
def test_a_value_decodes_again_from_its_coordinate(domain):
    for u in POINTS:
        value = domain.decode(u)
        back = domain.encode(value)
        assert back is not None, f"{value!r} at {u} lies outside its own domain"
        assert 0 <= back <= 1
        again = domain.decode(back)
        assert type(again) is type(value)
        assert again == (pytest.approx(value, rel=1e-12) if isinstance(value, float) else value)


@every_range
def test_values_rise_with_the_coordinate_and_keep_inside(domain):
    values = [domain.decode(u) for u in POINTS]
    assert values == sorted(values)
    low, high = domain.span
    assert all(low <= v <= high or v == 0 for v in values)


@every_range
def test_both_ends_are_reached(domain):
    low, high = domain.span
    first = ZERO_SHARE if getattr(domain, "or_zero", False) else 0.0
    assert domain.decode(first) == pytest.approx(low, rel=1e-12)
    reachable = {"step that misses the end": 1.7, "int step that misses the end": 7}
    end = next((v for n, v in reachable.items() if FORMS[n] is domain), high)
    assert domain.decode(1.0) == pytest.approx(end, rel=1e-12)
    assert domain.encode(low) is not None
    assert domain.encode(high) is not None


@every_range
def test_what_lies_outside_has_no_coordinate(domain):
    low, high = domain.span
    for value in (low - 1, high + 1, math.nan, math.inf, "0.2", None):
        if not (value == 0 and getattr(domain, "or_zero", False)):
            assert domain.encode(value) is None, value


@pytest.mark.parametrize("name", ["step", "step that misses the end", "int step", "int step that misses the end"])
def test_steps_land_on_the_grid(name):
    domain = FORMS[name]
    low, step = domain.span[0], domain.step
    for u in POINTS:
        steps = (domain.decode(u) - low) / step
        assert steps == pytest.approx(round(steps), abs=1e-9)


@pytest.mark.parametrize("name", ["int", "int step", "int negative", "powers_of_two", "choice", "choice of kinds"])
def test_whole_values_are_equally_likely(name):
    counts = Counter(map(repr, (FORMS[name].decode(u) for u in POINTS)))
    assert max(counts.values()) - min(counts.values()) <= 2


def test_one_draw_in_five_of_an_or_zero_domain_is_zero():
    for name in ("log or zero", "float or zero"):
        values = [FORMS[name].decode(u) for u in POINTS]
        assert values.count(0.0) / len(values) == pytest.approx(ZERO_SHARE, abs=0.002)
        assert min(v for v in values if v) == pytest.approx(FORMS[name].span[0], rel=0.02)


def test_log_has_as_much_in_each_decade():
    decades = Counter(math.floor(math.log10(FORMS["log"].decode(u + 1e-9))) for u in POINTS[:-1])
    assert set(decades) == {-5, -4, -3, -2}
    assert max(decades.values()) - min(decades.values()) <= 2


def test_one_minus_is_logarithmic_in_the_distance_from_one():
    domain = FORMS["one_minus"]
    distances = [1 - domain.decode(u) for u in (0.0, 0.25, 0.5, 0.75, 1.0)]
    ratios = [b / a for a, b in pairwise(distances)]
    assert ratios == pytest.approx([ratios[0]] * 4, rel=1e-9)
    assert distances[0] == pytest.approx(0.2)
    assert distances[-1] == pytest.approx(0.001)


def test_log_ints_reach_every_small_value_and_spread_evenly_in_the_logarithm():
    domain = FORMS["int log"]
    values = [domain.decode(u) for u in POINTS]
    assert set(range(8, 24)) <= set(values)
    assert sum(v < 64 for v in values) / len(values) == pytest.approx(0.5, abs=0.02)


def test_a_choice_tells_values_of_different_kinds_apart():
    domain = Choice(choice=(1, True, 1.0))
    assert [domain.decode(domain.encode(v)) for v in (1, True, 1.0)] == [1, True, 1.0]
    assert [type(domain.decode(domain.encode(v))) for v in (1, True, 1.0)] == [int, bool, float]
    assert Choice(choice=(1,)).encode(True) is None


def test_a_truth_value_is_no_number():
    assert FORMS["int"].encode(True) is None
    assert FORMS["float"].encode(True) is None


@every_form
@pytest.mark.parametrize("points", [1, 2, 3, 5, 50])
def test_a_grid_is_within_the_domain_without_repeats(domain, points):
    values = domain.grid(points)
    assert len(set(map(repr, values))) == len(values)
    assert all(domain.encode(v) is not None for v in values)
    if isinstance(domain, Range):
        assert 1 <= len(values) <= points


@pytest.mark.parametrize(
    ("name", "points", "values"),
    [
        ("float", 3, [-1.0, 1.0, 3.0]),
        ("step", 3, [0.0, 0.5, 1.0]),
        ("step", 50, [0.0, 0.25, 0.5, 0.75, 1.0]),
        ("log", 5, [1e-5, 1e-4, 1e-3, 1e-2, 1e-1]),
        ("float or zero", 3, [0.0, 0.1, 0.5]),
        ("int", 2, [1, 8]),
        ("int", 50, [1, 2, 3, 4, 5, 6, 7, 8]),
        ("int step", 50, [2, 5, 8, 11]),
        ("powers_of_two", 2, [16, 128]),
        ("powers_of_two", 9, [16, 32, 64, 128]),
        ("choice", 1, ["sgd", "adamw", None]),
        ("constant", 9, [0.1]),
    ],
)
def test_a_grid_covers_the_domain_with_its_ends(name, points, values):
    grid = FORMS[name].grid(points)
    assert grid == (pytest.approx(values, rel=1e-9) if isinstance(values[0], float) else values)


@every_range
@pytest.mark.parametrize(("start", "end"), [(0.2, 0.7), (0.0, 0.5), (0.5, 1.0), (0.4, 0.6)])
def test_a_narrowed_range_holds_only_values_of_the_old_one(domain, start, end):
    narrowed = domain.narrowed(start, end)
    low, high = domain.span
    assert low <= narrowed.span[0] <= narrowed.span[1] <= high
    for u in POINTS[::10]:
        value = narrowed.decode(u)
        there = domain.encode(value)
        assert there is not None
        assert domain.decode(there) == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize("name", ["choice", "constant"])
def test_what_has_no_order_has_no_range_to_narrow(name):
    with pytest.raises(TypeError, match="no range"):
        FORMS[name].narrowed(0.2, 0.8)


NATURAL = {
    "a rate or a penalty is not negative": (Float(range=(0.0, 5.0)), lambda v: v >= 0),
    "a share ends at 1": (Float(range=(0.2, 0.9)), lambda v: 0 <= v <= 1),
    "a logarithm needs more than 0": (Float(range=(1e-5, 1e-1), scale="log"), lambda v: v > 0),
    "1 - m needs m below 1": (Float(range=(0.8, 0.999), scale="one_minus"), lambda v: 0 <= v < 1),
    "a count of layers is at least 1": (Int(range=(1, 20)), lambda v: v >= 1),
    "a count in steps is at least 1": (Int(range=(2, 32), step=3), lambda v: v >= 1),
    "a logarithmic count is at least 1": (Int(range=(2, 512), scale="log"), lambda v: v >= 1),
    "a number that may be 0 is not negative": (Int(range=(0, 20)), lambda v: v >= 0),
    "a batch is bounded by memory": (PowersOfTwo(range=(16, 128)), lambda v: 16 <= v <= 128),
}


@pytest.mark.parametrize(("domain", "natural"), NATURAL.values(), ids=NATURAL)
@pytest.mark.parametrize("side", ["low", "high"])
def test_no_widening_leaves_the_natural_limits(domain, natural, side):
    for _ in range(4):
        wider = domain.widened(side, 0.25)
        assert wider.span[0] <= domain.span[0]
        assert wider.span[1] >= domain.span[1]
        assert all(natural(wider.decode(u)) for u in (0.0, 0.3, 0.7, 1.0)), wider
        domain = wider


@pytest.mark.parametrize("side", ["low", "high"])
@pytest.mark.parametrize(
    "domain",
    [Float(range=(2.0, 5.0), step=1.0), Float(range=(0.5, 0.9), step=0.1), Int(range=(10, 40), step=5)],
    ids=str,
)
def test_a_widened_range_keeps_its_steps(domain, side):
    """Values tried before stay values: otherwise nothing tried so far compares with what comes."""
    wider = domain.widened(side, 0.25)
    assert wider.decode(0.0 if side == "low" else 1.0) != domain.decode(0.0 if side == "low" else 1.0)
    for value in domain.grid(50):
        assert wider.decode(wider.encode(value)) == pytest.approx(value, rel=1e-9)


BAD = {
    "low above high": (Float, {"float": [1, 0]}, r"low \(1\) is above high \(0\)"),
    "log low above high": (Float, {"float": [0.1, 0.01], "scale": "log"}, r"\{log: \[0.01, 0.1\]\}"),
    "no width": (Int, {"int": [3, 3]}, "both 3"),
    "log of zero": (Float, {"float": [0, 1], "scale": "log"}, "cannot begin at 0"),
    "log of a negative": (Int, {"int": [-1, 8], "scale": "log"}, "cannot begin at -1"),
    "one_minus up to one": (Float, {"float": [0.5, 1], "scale": "one_minus"}, "below 1"),
    "infinite": (Float, {"float": [0, math.inf]}, "not finite"),
    "step on a log": (Float, {"float": [0.1, 1], "scale": "log", "step": 0.1}, "no meaning"),
    "step on a log int": (Int, {"int": [1, 8], "scale": "log", "step": 2}, "no meaning"),
    "no power of two": (PowersOfTwo, {"powers_of_two": [16, 100]}, "Write 128"),
    "no choice": (Choice, {"choice": []}, "at least one"),
    "a value twice": (Choice, {"choice": ["sgd", "adamw", "sgd"]}, "stands twice"),
}


@pytest.mark.parametrize(("kind", "fields", "message"), BAD.values(), ids=BAD)
def test_a_domain_that_makes_no_sense_is_refused_with_a_mend(kind, fields, message):
    with pytest.raises(SpecError, match=message) as caught:
        kind.model_validate(fields)
    assert caught.value.mend


@every_form
def test_a_domain_is_the_same_after_json_and_immutable(domain):
    assert type(domain).model_validate_json(domain.model_dump_json(by_alias=True)) == domain
    with pytest.raises(ValueError, match="frozen"):
        domain.source = "elsewhere"


@every_form
def test_a_domain_reads_as_words(domain):
    assert str(domain)
    assert "Float(" not in str(domain)


def test_every_playbook_range_says_where_it_comes_from():
    for name, domain in PLAYBOOK.items():
        assert domain.source.startswith("playbook: "), name
        assert len(domain.source) > len("playbook: ") + 5, name
