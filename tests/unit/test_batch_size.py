"""What a curve of batch sizes says: which to take, and which of those searched do not fit."""

from __future__ import annotations

import pytest

from sweeps.insight.batch_size import fits, judge

MB = 2**20


def curve(speeds, first=16, each=MB, base=300 * MB, limit=1000 * MB, lost=False, **other):
    """Sizes that double, with these rows a second, and a last one that does not fit where `lost`."""
    sizes = [first * 2**n for n in range(len(speeds) + lost)]
    points = [
        {"batch_size": size, "rows_per_second": speed, "bytes": base + each * size, "fits": True}
        for size, speed in zip(sizes, speeds, strict=False)
    ]
    if lost:
        points.append({"batch_size": sizes[-1], "rows_per_second": None, "bytes": None, "fits": False})
    given = {"points": points, "rows": 10_000, "batch_size": 64, "limit_bytes": limit}
    return {**given, "ended": "memory" if lost else "throughput", **other}


def test_the_largest_that_still_raises_throughput_is_told_and_the_largest_that_fits():
    found = judge(curve([1000, 2000, 3000, 3900, 4000, 3990]), [32, 64])
    assert (found.finding, found.severity) == ("batch_size", "info")
    assert (found.evidence["enough"], found.evidence["largest"]) == (128, 512)
    assert found.message == (
        "throughput rises up to a batch of 128 (3,900 rows/s); the largest tried, which fits, is 512 (812 of the 1,000 "
        "MiB that a worker may hold). At 128 (78 steps an epoch) it is 1.3 times that of the config's 64: fix "
        "batch_size there, and tune lr with it."
    )
    assert len(found.evidence["points"]) == 6


def test_a_size_that_is_hardly_faster_is_not_advised():
    assert "tune lr" not in judge(curve([1000, 2000, 3000, 3300, 3300]), [64]).message
    assert "tune lr" not in judge(curve([1000, 2000, 3000], batch_size=64), [64]).message


def test_batches_that_leave_few_steps_an_epoch_are_not_advised():
    found = judge(curve([1000, 2000, 4000, 8000, 16000], rows=700, batch_size=16), [16])
    assert found.evidence["enough"] == 256
    assert "At 64 (10 steps an epoch) it is 4.0 times that of the config's 16" in found.message


def test_searched_sizes_that_do_not_fit_are_named():
    found = judge(curve([1000, 2000, 3000], lost=True), [16, 64, 128, 256])
    assert (found.severity, found.evidence["do_not_fit"]) == ("warn", [128, 256])
    assert "the largest that fits is 64" in found.message
    assert "Of the sizes searched 128, 256 do not fit: take them out." in found.message


def test_memory_beyond_the_curve_grows_on():
    found = curve([1000, 1000, 1000])
    assert fits(found, 700)
    assert not fits(found, 701)
    assert fits({**found, "limit_bytes": None}, 10**9), "what is not known is not said"
    assert judge(found, [64, 512, 1024]).evidence["do_not_fit"] == [1024]


def test_sizes_beyond_the_rows_are_named():
    found = judge(curve([1000, 2000, 2000], rows=100, limit=10**12), [64, 128])
    assert (found.severity, found.evidence["do_not_fit"]) == ("warn", [])
    assert "128 are more than the 100 training rows" in found.message


def test_sizes_are_of_all_workers_together():
    found = judge(curve([1000, 2000, 3000, 3100], lost=True, batch_size=64), [256, 512], workers=2)
    assert (found.evidence["enough"], found.evidence["largest"], found.evidence["do_not_fit"]) == (128, 256, [512])
    assert "a batch of 128 (6,000 rows/s)" in found.message
    assert "At 128 (78 steps an epoch) it is 1.5 times" in found.message, "the config's 64 are 32 of each"


@pytest.mark.parametrize("lost", [True, False])
def test_one_size_or_none_is_no_curve_and_no_error(lost):
    assert judge(curve([1000.0], lost=lost), [16]).evidence["enough"] == 16
    none = judge(curve([], lost=True), [16])
    assert (none.severity, none.message[:30]) == ("warn", "not even a batch of 16 fits th")
