"""What a driver starts before the first phase: the slots, and what it asks of the first of them."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import ray
from ray import cloudpickle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sweeps.errors import SweepFailed, UsageError
from sweeps.insight.audit import judge
from sweeps.plan import cheapest, check_rows
from sweeps.slots import CLOSE_S, INTERRUPTED_S, Order, Pool
from sweeps.space import Config
from sweeps.spec import SweepSpec, name_of
from sweeps.storage import Folder


@contextlib.contextmanager
def pool_of(
    spec: SweepSpec, slots: int, resources: Mapping[str, float], folder: Folder, scratch: str
) -> Iterator[tuple[Any, tuple[str, str]]]:
    """The sweep's pool of slots, and the name under which leases find it; ended with the sweep."""
    name, namespace = f"pool-{folder.name}", ray.get_runtime_context().namespace
    path = [os.path.abspath(entry) for entry in sys.path]
    beside_us = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    pool = Pool.options(  # type: ignore[attr-defined]
        name=name, namespace=namespace, scheduling_strategy=beside_us
    ).remote(slots, resources, portable(spec.trainable), str(folder), scratch, path, spec.resources.parallelism)
    limit = CLOSE_S
    try:
        yield pool, (name, namespace)
    except KeyboardInterrupt:
        limit = INTERRUPTED_S
        raise
    finally:
        ray.get(pool.end.remote(limit))
        ray.kill(pool)


def portable(trainable: Any) -> Any:
    """The trainable as slots take it: its name, or the object pickled. Raises UsageError when that is not possible."""
    if isinstance(trainable, str):
        return trainable
    try:
        return cloudpickle.dumps(trainable)
    except Exception as error:  # noqa: BLE001  whatever the object's own code raises
        problem = f"{name_of(trainable)} cannot be pickled: {str(error).splitlines()[0]}"
        raise UsageError(f"trainable: {problem}.\n  Put it in a module and name it: trainable='module:attr'.") from None


def standard_hyperparameters(pool: Any) -> Config:
    """The loop's hyperparameters and defaults, from the first slot. Raises SweepFailed when none can be started."""
    try:
        standard: Config = ray.get(pool.call.remote("standard", Order("inspection", 1, {}, {})))["standard"]
    except ray.exceptions.RayTaskError as error:
        raise SweepFailed(str(error.cause)) from None
    return standard


def what_else(spec: SweepSpec, baseline: Config, pool: Any) -> str:
    """What the audit finds wrong with data that cannot be trained on: all of it at once, where training tells the
    first only. Nothing for a spec without an audit, or where the data do not block."""
    if not any(phase.kind == "audit" for phase in spec.phases):
        return ""
    fidelity = {"epochs": 1, "data_fraction": 1.0, "seed": spec.seed}
    try:
        answer = ray.get(pool.call.remote("audit", Order("inspection", 1, baseline, fidelity)))
    except ray.exceptions.RayError:
        return ""
    found = [] if answer["failure"] or not answer["audit"] else judge(answer["audit"])
    if all(one.severity != "block" for one in found):
        return ""
    told = "\n".join(f"  {one.finding}: {one.message}" for one in found if one.severity != "info")
    return f"\n  The audit of the data finds:\n{told}"


def inspect_trainable(spec: SweepSpec, baseline: Config, pool: Any) -> dict[str, Any]:
    """Build the baseline's data and model in a slot: its footprint. Raises UsageError when that fails, with why."""
    fidelity = cheapest(spec)
    try:
        answer = ray.get(pool.call.remote("describe", Order("inspection", 1, baseline, fidelity)))
    except ray.exceptions.RayError:  # exit, a crash in native code, the kernel's out-of-memory killer
        ended = f"trainable: {name_of(spec.trainable)} with the baseline config ended its process"
        raise UsageError(f"{ended}.\n  Does its data or model fit the memory? Try `sweeps plan`.") from None
    failure = answer["failure"]
    if failure:
        if failure["error"] == "TrainableError":
            raise UsageError(failure["message"] + what_else(spec, baseline, pool))
        raised = f"{failure['error']}: {failure['message']}\n{failure['traceback'].rstrip()}"
        raise UsageError(f"trainable: {name_of(spec.trainable)} with the baseline config raised {raised}")
    footprint: dict[str, Any] = answer["footprint"]
    if not footprint and spec.resources.parallelism == "fsdp":
        own = f"resources.parallelism: fsdp is of the platform's loop, and {name_of(spec.trainable)} has its own"
        raise UsageError(f"{own}.\n  Leave it out, and shard the model there.")
    check_rows(spec, footprint, fidelity["data_fraction"])
    return footprint
