"""Which batch size to take, by what `trainables.batch_curve` measured: the playbook's "the largest that still raises
throughput, then lr with it fixed", and which of those that are searched do not fit.

Place in the flow: a pure function from the curve to a finding; preflight journals it, the report draws its table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sweeps.insight.findings import Finding, listed

RISES = 1.05
"""A throughput that is so many times another one is higher: below it is noise."""
NOTABLY = 1.25
"""From so many times on it is worth another batch size, which re-opens the learning rate."""
LEAST_STEPS = 10
"""Of an epoch: batches so large that there are fewer are fast, and learn little."""
MIB = 2**20


def judge(curve: Mapping[str, Any], searched: Sequence[int], workers: int = 1) -> Finding:
    """What the curve says. `searched`: the sizes that the sweep may take, of all workers together."""
    fitting = [p for p in curve["points"] if p["fits"] and p["batch_size"] * workers <= curve["rows"]]
    if not fitting:
        least = curve["points"][0]["batch_size"] * workers
        mend = "Take a smaller model, fewer trials at a time, or a larger device."
        message = f"not even a batch of {least} fits the memory. {mend}"
        return Finding("batch_size", "warn", message, dict(curve))
    best = max(point["rows_per_second"] for point in fitting)
    enough = next(point for point in fitting if point["rows_per_second"] * RISES >= best)
    largest = fitting[-1]
    misfits = [size for size in searched if not fits(curve, size / workers)]
    many = [size for size in searched if size > curve["rows"]]
    evidence = {
        **curve, "workers": workers, "enough": enough["batch_size"] * workers,
        "largest": largest["batch_size"] * workers, "do_not_fit": misfits,
    }  # fmt: skip
    told = [
        f"throughput rises up to a batch of {evidence['enough']:,} ({enough['rows_per_second'] * workers:,.0f} rows/s)",
        f"the largest {'that fits' if curve['ended'] == 'memory' else 'tried, which fits,'} is {evidence['largest']:,}"
        + memory(curve, largest),
    ]
    sentences = [f"{'; '.join(told)}.", *faster(curve, fitting, enough, workers)]
    if misfits:
        sentences.append(f"Of the sizes searched {listed(misfits)} do not fit: take them out.")
    if many:
        sentences.append(f"Of the sizes searched {listed(many)} are more than the {curve['rows']:,} training rows.")
    return Finding("batch_size", "warn" if misfits or many else "info", " ".join(sentences), evidence)


def memory(curve: Mapping[str, Any], point: Mapping[str, Any]) -> str:
    """What a size holds of what there is."""
    if point["bytes"] is None or curve["limit_bytes"] is None:
        return " (memory cannot be measured here)"
    return f" ({point['bytes'] / MIB:,.0f} of the {curve['limit_bytes'] / MIB:,.0f} MiB that a worker may hold)"


def faster(
    curve: Mapping[str, Any], fitting: Sequence[Mapping[str, Any]], enough: Mapping[str, Any], workers: int
) -> list[str]:
    """What the config's own size gives away, and what to do; nothing where that is not worth it."""
    own, most = max(curve["batch_size"] // workers, 1), curve["rows"] / workers / LEAST_STEPS
    larger = [p for p in fitting if own < p["batch_size"] <= min(enough["batch_size"], most)]
    own_point = [p for p in fitting if p["batch_size"] <= own][-1:] or fitting[:1]
    if not larger:
        return []
    times = larger[-1]["rows_per_second"] / own_point[0]["rows_per_second"]
    if times < NOTABLY:
        return []
    size = larger[-1]["batch_size"] * workers
    steps = f"{curve['rows'] // size:,} steps an epoch"
    return [
        f"At {size:,} ({steps}) it is {times:.1f} times that of the config's {curve['batch_size']:,}: fix batch_size "
        "there, and tune lr with it."
    ]


def fits(curve: Mapping[str, Any], size: float) -> bool:
    """Whether a worker's batch fits: by what was tried, and beyond by memory that grows on as it did."""
    points, most = curve["points"], curve["limit_bytes"]
    if any(not point["fits"] and size >= point["batch_size"] for point in points):
        return False
    known = [(p["batch_size"], p["bytes"]) for p in points if p["fits"] and p["bytes"] is not None]
    if most is None or len(known) < 2 or size <= known[-1][0]:
        return True
    (before, less), (last, bytes_) = known[-2:]
    return bool(bytes_ + max(bytes_ - less, 0) * (size - last) / (last - before) <= most)
