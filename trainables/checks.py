"""The conformance suite: what every trainable, ours or a user's, must do so that a sweep of it means something.

    for found in check("my_model:Digits", {"lr": 1e-3}):
        print(found)

Place in the flow: `sweeps doctor` runs it before a first sweep, tests of trainables call it. It trains for a few short
epochs on a small share of the rows, and says of each check in words what failed and what it would cost a sweep.
"""

from __future__ import annotations

import inspect
import math
import os
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from trainables.contract import Config, Fidelity, Report, Session, TrainableError, instantiate, load, resolve
from trainables.probes import gradients
from trainables.training import prepare

ROWS = 512
"""About so many training rows are used, where the platform's loop trains."""
EPOCHS = 3
ASIDE = ("grad/", "time/", "system/", "hp/")
"""What is reported beside results: it may overflow, or be of some epochs only."""


@dataclass(frozen=True)
class Check:
    """One check and what came of it."""

    name: str
    ok: bool
    message: str

    def __str__(self) -> str:
        return f"{'ok  ' if self.ok else 'FAIL'} {self.name}: {self.message}"


@dataclass
class Suite:
    """A trainable, a config that it is to work with, and other values that its keys may have."""

    found: Any
    config: dict[str, Any]
    others: Mapping[str, Any]
    device: torch.device
    fidelity: Fidelity

    @property
    def own_loop(self) -> bool:
        """Whether it is a generator function with a loop of its own."""
        return inspect.isgeneratorfunction(self.found)

    @cached_property
    def whole(self) -> tuple[list[Report], dict[str, Any] | None]:
        """The trial of the config from its beginning to its end, which the others are held against."""
        return self.run()

    def run(
        self, config: Config | None = None, seed: int = 0, state: dict[str, Any] | None = None, until: int = EPOCHS
    ) -> tuple[list[Report], dict[str, Any] | None]:
        """Train to the epoch `until`: the reports, and the state then; None of a trial that has none."""
        session = Session(replace(self.fidelity, seed=seed), self.device, state)
        reports: list[Report] = []
        trial = resolve(self.found)(config or self.config, session)
        for report in trial:
            reports.append(report)
            if report.epoch >= until:
                break
        captured = session.capture() if session.capture else None
        trial.close()  # type: ignore[attr-defined]  # a generator, by contract
        return reports, captured


def check(
    trainable: Any,
    config: Mapping[str, Any] | None = None,
    others: Mapping[str, Any] | None = None,
    device: torch.device | None = None,
) -> Iterator[Check]:
    """Run every check on a trainable, given by name or itself, one after the other.

    `config` is one that works; `others` has another value for keys of it, by which it is seen that they take effect.
    When it cannot be trained at all, that is the only result.
    """
    try:
        found = load(trainable) if isinstance(trainable, str) else trainable
        suite = Suite(found, dict(config or {}), dict(others or {}), device or torch.device("cpu"), Fidelity(EPOCHS))
        suite.fidelity = replace(suite.fidelity, data_fraction=share_of_rows(suite))
    except Exception as error:  # noqa: BLE001  whatever the user's code raises is the finding
        yield Check("loads", False, told(error))
        return
    for one in (reports, gradients_everywhere, honours_the_seed, resumes, config_takes_effect, leaves_no_trace):
        name = one.__name__
        try:
            problem, fine = one(suite)
        except Exception as error:  # noqa: BLE001
            problem, fine = told(error), ""
        yield Check(name, not problem, problem or fine)
        if problem and one is reports:
            return


def told(error: Exception) -> str:
    """An exception of the user's code in one line, with its place."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    place = "" if isinstance(error, TrainableError) else f" ({where.filename}, line {where.lineno})"
    mend = ". A key of the config? Give a spec, whose baseline has it" if isinstance(error, KeyError) else ""
    return f"{type(error).__name__}: {error}{place}{mend}"


def share_of_rows(suite: Suite) -> float:
    """The data fraction that leaves about ROWS training rows; 1 for a loop of its own, which may not heed it."""
    if suite.own_loop:
        return 1.0
    training = prepare(instantiate(suite.found), {**suite.config, "batch_size": 1}, suite.fidelity, suite.device)
    rows = max(ROWS, int(suite.config.get("batch_size", 64)))
    return min(1.0, rows / len(training.chosen))


Result = tuple[str, str]
"""What is wrong, or empty; and what to say when nothing is."""


def reports(suite: Suite) -> Result:
    """Reports come once an epoch, in order, with the same finite numbers under the agreed names."""
    found, _ = suite.whole
    if not found:
        return "the trial ended without a Report. Yield one after each epoch", ""
    epochs = [report.epoch for report in found]
    if epochs != list(range(1, len(found) + 1)):
        return f"the reports are of the epochs {epochs}. Report each epoch once, from 1", ""
    keys = [{key for key in map(str, report.metrics) if not key.startswith(ASIDE)} for report in found]
    if any(key != keys[0] for key in keys):
        missing = {key for one in keys for key in one if not all(key in other for other in keys)}
        return f"not every report has {', '.join(sorted(missing))}", ""
    results = [(key, float(r.metrics[key])) for r, known in zip(found, keys, strict=True) for key in known]
    broken = sorted({key for key, value in results if not math.isfinite(value)})
    if broken:
        return f"{', '.join(broken)} is not finite: such a trial is infeasible. Is the learning rate far too high?", ""
    if not any(name.startswith("val/") for name in keys[0]):
        return f"there is no val/… among {', '.join(sorted(keys[0]))}: nothing that a sweep could go by", ""
    return "", f"{len(found)} epochs with {', '.join(sorted(k for k in keys[0] if k.startswith(('train/', 'val/'))))}"


def gradients_everywhere(suite: Suite) -> Result:
    """Every parameter that requires a gradient gets a finite one."""
    if suite.own_loop:
        return "", "not looked at: the loop is its own"
    silent, broken = gradients(prepare(instantiate(suite.found), suite.config, suite.fidelity, suite.device))
    if broken:
        return f"not finite in {', '.join(broken[:4])}", ""
    if silent:
        return f"none reaches {', '.join(silent[:4])}. Unused in forward(), cut off by detach(), behind dead units?", ""
    return "", "finite and non-zero in every layer"


def honours_the_seed(suite: Suite) -> Result:
    """The same seed repeats a trial, another one does not."""
    one, again, other = (curve(suite.run(seed=seed, until=2)[0]) for seed in (0, 0, 1))
    if one != again:
        return f"the same seed gave {difference(one, again)}. Seed every generator from fidelity.seed", ""
    if one == other:
        return "another seed gave the same numbers: the spread over seeds would say nothing. Use fidelity.seed", ""
    return "", "the same seed repeats, another differs"


def resumes(suite: Suite) -> Result:
    """A trial that goes on from its checkpoint is bit-identical to one never interrupted."""
    whole, at_end = suite.whole
    _, half = suite.run(until=1)
    if half is None:
        return "", "it has no checkpoint: a lost slot begins afresh (session.checkpoint_with)"
    suite.run(seed=99, until=1)  # another trial in the same process
    rest, resumed = suite.run(state=half)
    if curve(whole[1:]) != curve(rest):
        return (
            f"after epoch 1 it went on with {difference(curve(whole[1:]), curve(rest))}. What is not in its state?",
            "",
        )
    if not same(at_end, resumed):
        return "it reports the same and ends in another state. What is not in its state?", ""
    return "", "bit-identical from epoch 1 on"


def config_takes_effect(suite: Suite) -> Result:
    """Another value of a key changes what is reported."""
    before, ignored = curve(suite.whole[0]), []
    for key, value in suite.others.items():
        if value != suite.config.get(key) and curve(suite.run({**suite.config, key: value})[0]) == before:
            ignored.append(f"{key}={value!r}")
    if ignored:
        return f"nothing changes with {', '.join(ignored)}: a sweep would search it in vain", ""
    return "", f"{', '.join(suite.others)} tried" if suite.others else "no other values were given"


def leaves_no_trace(suite: Suite) -> Result:
    """What belongs to the whole process is as it was: slots train many trials in one."""
    before = process_state()
    suite.run(until=1)
    changed = [name for name, value in process_state().items() if value != before[name]]
    if changed:
        return f"it changed {', '.join(changed)} of the process, which the next trial inherits", ""
    return "", "the process is as it was"


def process_state() -> dict[str, Any]:
    """What a trial should leave alone."""
    return {
        "the working directory": os.getcwd(), "environment variables": dict(os.environ),
        "torch's default dtype": torch.get_default_dtype(), "torch's gradient mode": torch.is_grad_enabled(),
        "torch's number of threads": torch.get_num_threads(),
        "torch's deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "torch's anomaly detection": torch.is_anomaly_enabled(),
    }  # fmt: skip


def curve(found: list[Report]) -> list[dict[str, float]]:
    """What was reported, without times."""
    aside = ("time/", "system/")
    return [{k: float(v) for k, v in r.metrics.items() if not k.startswith(aside)} for r in found]


def difference(one: list[dict[str, float]], other: list[dict[str, float]]) -> str:
    """The first number in which two curves differ, in words."""
    for epoch, (left, right) in enumerate(zip(one, other, strict=False), 1):
        for name in left:
            if left[name] != right.get(name):
                return f"{name} {right.get(name)} instead of {left[name]} in report {epoch}"
    return f"{len(other)} reports instead of {len(one)}"


def same(left: Any, right: Any) -> bool:
    """Whether two states are equal to the last bit."""
    if isinstance(left, Tensor):
        return isinstance(right, Tensor) and torch.equal(left.nan_to_num(), right.nan_to_num())
    if isinstance(left, Mapping):
        return isinstance(right, Mapping) and left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)
