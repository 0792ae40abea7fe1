"""Planning without Ray: the footprint and the seconds of the baseline, found in this process.

What `sweeps plan` shows. A running sweep finds the same in one of its slots.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import sysconfig
import tempfile
import traceback
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sweeps import warm_start
from sweeps.errors import UsageError
from sweeps.plan import (
    UNKNOWN,
    Plan,
    baseline_of,
    cheapest,
    check_rows,
    earlier_seconds_per_epoch,
    make_plan,
    needs,
    slots_on,
)
from sweeps.spec import SweepSpec, name_of
from sweeps.storage import storage_folder

MEASURE_S = 20.0
"""How long the baseline is trained at most to know the time of an epoch."""


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """One intra-op thread, as in a trial; the caller's number afterwards."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def at_hand(spec: SweepSpec) -> Iterator[SweepSpec]:
    """The spec with checkpoints for what it refers to, for as long as something is built of it without a sweep."""
    with tempfile.TemporaryDirectory() as scratch:
        yield warm_start.resolve(spec, Path(scratch))[0]


def foresee(spec: SweepSpec, measure_s: float | None = None) -> Plan:
    """The plan of a spec on this machine; with `measure_s`, after training the baseline for at most so long.

    Raises UsageError when the trainable cannot be imported, or its data or model cannot be built.
    """
    with at_hand(spec) as whole:
        return _foreseen(whole, measure_s)


def _foreseen(spec: SweepSpec, measure_s: float | None) -> Plan:
    import torch

    from trainables.contract import Fidelity, TrainableError, instantiate, load
    from trainables.footprint import describe, seconds_per_epoch
    from trainables.hyperparameters import STANDARD

    nodes = [{"CPU": len(os.sched_getaffinity(0)), "GPU": torch.cuda.device_count()}]
    slots = slots_on(nodes, spec, needs(spec, nodes))
    make_plan(spec, slots)  # refuses what cannot fit before anything is built
    baseline = baseline_of(spec, STANDARD)
    fidelity = cheapest(spec)
    footprint: dict[str, Any] = {}
    seconds, basis = None, UNKNOWN
    try:
        found = load(spec.trainable) if isinstance(spec.trainable, str) else spec.trainable
        if not inspect.isgeneratorfunction(found):
            trainable = instantiate(found)
            footprint = asdict(describe(trainable, baseline, Fidelity(**fidelity)))
            check_rows(spec, footprint, fidelity["data_fraction"])
            if measure_s is not None:
                with one_thread():
                    seconds = seconds_per_epoch(trainable, baseline, Fidelity(1, 1.0, spec.seed), measure_s)
                basis = "measured on the baseline, now"
        elif measure_s is not None:
            basis = "unknown until measured by a run: a loop of its own is not started for a plan"
    except TrainableError as error:
        raise UsageError(str(error)) from None
    except UsageError:
        raise
    except Exception as error:  # the user's data() or model() raised: what, where
        frames = traceback.extract_tb(error.__traceback__)
        installed = tuple(sysconfig.get_paths()[name] for name in ("purelib", "platlib", "stdlib"))
        where = next((frame for frame in reversed(frames) if not frame.filename.startswith(installed)), frames[-1])
        place = f"{where.filename}, line {where.lineno}"
        message = f"{name_of(spec.trainable)} with the baseline config raised {type(error).__name__}: {error}"
        raise UsageError(f"trainable: {message}\n  in {place}.") from error
    if seconds is None and (earlier := earlier_seconds_per_epoch(spec, storage_folder(spec.storage))):
        seconds, basis = earlier[0], f"as in {earlier[1]}"
    return make_plan(spec, slots, footprint, seconds, basis)
