"""What one trial takes of a machine, and how many run at a time on the nodes that there are."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from sweeps.errors import PlanError
from sweeps.spec import SweepSpec

Node = Mapping[str, float]
"""Resources of one node: `CPU`, `GPU`."""
HEADROOM = 1.5
"""A trial may need this many times the memory that the baseline was measured to need."""
MOST_A_GPU = 8
"""More small trials on one GPU wait for each other."""
GPU_PARTS = 10_000
"""Ray counts GPUs in these."""


def needs(spec: SweepSpec, nodes: Collection[Node], footprint: Mapping[str, Any] | None = None) -> dict[str, float]:
    """What one trial takes: `workers`, and the `cpus` and `gpus` of each.

    The footprint has what was measured: `peak_bytes` of the baseline's trial, on a device of `device_bytes`.
    `gpus_per_worker: auto` is a whole GPU until a trial's memory was measured, then the share of one that it needs; a
    whole one for each of several workers; no GPU where there is none.
    """
    asked = spec.resources.gpus_per_worker
    if asked == "auto":
        measured = footprint or {}
        if not any(node.get("GPU") for node in nodes):
            asked = 0.0
        elif "peak_bytes" not in measured:
            asked = 1.0
        else:
            trials = math.floor(measured["device_bytes"] / (HEADROOM * measured["peak_bytes"]))
            asked = math.floor(GPU_PARTS / min(max(trials, 1), MOST_A_GPU)) / GPU_PARTS
        if spec.resources.workers > 1:
            asked = float(bool(asked))  # two workers of a trial on one GPU are refused by NCCL
    return {"workers": spec.resources.workers, "cpus": spec.resources.cpus_per_worker, "gpus": asked}


def slots_on(nodes: Collection[Node], spec: SweepSpec, need: Mapping[str, float]) -> int:
    """How many trials run at a time on these nodes. Raises PlanError when none, or fewer than asked for, fit."""
    cpus, gpus = need["cpus"] * need["workers"], need["gpus"] * need["workers"]
    fit = fitting(nodes, need)
    largest: Node = max(nodes, key=lambda node: (node.get("GPU", 0), node.get("CPU", 0)), default={})
    if fit == 0:
        raise PlanError(
            f"resources: a trial takes {taken(need)}; the largest of {len(nodes)} nodes has "
            f"{amount(largest.get('CPU', 0), largest.get('GPU', 0))}.\n"
            "  Lower workers, cpus_per_worker or gpus_per_worker."
        )
    asked = spec.resources.concurrency
    most = fit
    if gpus and spec.resources.gpus_per_worker == "auto":  # then fewer is an answer, for want of GPUs only
        most = sum(math.floor(node.get("CPU", 0) / cpus + 1e-9) for node in nodes)
    if asked is not None and asked > most:
        raise PlanError(
            f"resources.concurrency: {asked} trials at a time were asked for; {fit} fit ({amount(cpus, gpus)} each, "
            f"on {len(nodes)} nodes).\n  Write concurrency: {fit}, or leave it out."
        )
    return min(asked or fit, fit)


def fitting(nodes: Collection[Node], need: Mapping[str, float]) -> int:
    """How many trials fit at a time. The workers of one are on one node where there is room, else on several."""

    def workers_on(node: Node) -> int:
        by_cpu = math.floor(node.get("CPU", 0) / need["cpus"] + 1e-9)
        return min(by_cpu, math.floor(node.get("GPU", 0) / need["gpus"] + 1e-9)) if need["gpus"] else by_cpu

    return sum(map(workers_on, nodes)) // int(need["workers"])


def taken(need: Mapping[str, float]) -> str:
    """`1 CPU and 1 GPU on one node`, or `4 workers with 1 CPU and 1 GPU each`."""
    each = amount(need["cpus"], need["gpus"])
    return f"{each} on one node" if need["workers"] == 1 else f"{need['workers']:g} workers with {each} each"


def amount(cpus: float, gpus: float) -> str:
    """`1 CPU and 0.5 GPUs`."""
    return f"{cpus:g} CPU{'s' * (cpus != 1)} and {gpus:g} GPU{'s' * (gpus != 1)}"
