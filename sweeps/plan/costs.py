"""What each phase will take: trials, epochs, checkpoints, time; see the package."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from sweeps.errors import JournalError, PlanError, SpecError
from sweeps.history import History
from sweeps.journal import read_header
from sweeps.plan.shares import search_shares
from sweeps.space import Config, Constant, Space
from sweeps.spec import (
    Audit,
    Confirm,
    Evolve,
    Explore,
    Grid,
    Halving,
    Preflight,
    Refine,
    Replay,
    SearchPhase,
    SweepSpec,
    name_of,
    phase_name,
    rungs,
)
from sweeps.storage import Folder, newest_sweeps

UNKNOWN = "unknown until measured"
FULL_EPOCHS = (81, 27, 9, 3)
"""Lengths of a full training that `sized` chooses from, rungs apart."""
FIXED = ("optimizer", "freeze_depth", "warm_start")
"""Hyperparameters of the loop on which it depends what the network or the optimizer's state is made of."""
SIZED_SHARE = 0.5
"""Of the hours that expected training may take: start-up, slower configs and more survivors take the rest."""


@dataclass(frozen=True)
class PhasePlan:
    """What one phase will take."""

    phase: str
    kind: str
    trials: int
    epochs: int
    """Of a trial that is not stopped."""
    data_fraction: float
    classes: int | None
    """So many of the classes only; None: all."""
    shares: dict[str, int]
    """Trials by role."""
    concurrency: int
    most_epochs: int
    """If nothing is stopped."""
    expected_epochs: float
    """If each rung lets one trial in `reduction_factor` go on."""
    checkpoints: int
    """Kept when the phase ends, if later phases train no less; one or two more for each trial at work meanwhile."""
    checkpoint_bytes: int | None
    """Of the kept ones, at the size of the baseline's; None where that is not known."""
    seconds: float | None
    """With fewer classes, of which nobody knows the rows beforehand, an upper bound: as with all."""


@dataclass(frozen=True)
class Plan:
    """All phases, and the time they take as far as it is known."""

    phases: tuple[PhasePlan, ...]
    seconds_per_epoch: float | None
    """Of one trial over all training rows."""
    basis: str
    total_s: float | None
    footprint: dict[str, Any]

    def document(self) -> dict[str, Any]:
        """The fields of the journal's `plan` line."""
        return {**asdict(self), "phases": [asdict(phase) for phase in self.phases]}


def make_plan(
    spec: SweepSpec,
    slots: int,
    footprint: Mapping[str, Any] | None = None,
    seconds_per_epoch: float | None = None,
    basis: str = UNKNOWN,
) -> Plan:
    """The plan of a spec on `slots` trials at a time. Raises PlanError when it is above the budget whatever happens."""
    phases: list[PhasePlan] = []
    size = (footprint or {}).get("checkpoint_bytes")
    searched = 0
    for phase in spec.with_trials:
        trials, shares = trials_of(spec, phase)
        epochs, fraction, classes = amount_of(spec, phase)
        concurrency = min(slots, trials)
        expected = expected_epochs(phase, trials) if isinstance(phase, Halving) else float(trials * epochs)
        searched += trials if isinstance(phase, SearchPhase) else 0
        kept = min(spec.keep_checkpoints, searched) + (trials if isinstance(phase, Confirm) else 0)
        seconds = None if seconds_per_epoch is None else expected * fraction * seconds_per_epoch / concurrency
        phases.append(
            PhasePlan(
                phase_name(phase), phase.kind, trials, epochs, fraction, classes, shares, concurrency,
                trials * epochs, expected, kept, None if size is None else kept * size, seconds,
            )
        )  # fmt: skip
    total = sum(p.trials for p in phases)
    if spec.budget.trials is not None and total > spec.budget.trials:
        counts = " + ".join(f"{p.trials} {p.phase}" for p in phases)
        raise PlanError(
            f"budget.trials: the phases need {total} trials ({counts}); the budget is {spec.budget.trials}.\n"
            f"  Lower the phases' trials, or raise the budget to {total}."
        )
    total_s = None if seconds_per_epoch is None else sum(p.seconds or 0.0 for p in phases)
    if seconds_per_epoch is not None and spec.budget.hours is not None:
        least = sum(
            p.trials * (phase.min_epochs if isinstance(phase, Halving) and phase.reduction_factor else p.epochs)
            * p.data_fraction * seconds_per_epoch / p.concurrency
            for p, phase in zip(phases, spec.with_trials, strict=True)
        )  # fmt: skip
        if least > spec.budget.hours * 3600:
            raise PlanError(
                f"budget.hours: at {seconds_per_epoch:.3g} s an epoch ({basis}) the least work takes "
                f"{least / 3600:.2g} hours; "
                f"the budget is {spec.budget.hours:g}.\n  Lower trials, epochs or data_fraction, or raise the budget."
            )
    return Plan(tuple(phases), seconds_per_epoch, basis, total_s, dict(footprint or {}))


def sized(spec: SweepSpec, hours: float, slots: int, seconds_per_epoch: float) -> SweepSpec:
    """The spec with the default phases as long as a share of the hours allows; their number of trials stays.

    Raises PlanError when even the shortest do not fit, with the numbers.
    """
    for full in FULL_EPOCHS:
        phases = (Audit(kind="audit"), Preflight(kind="preflight"), Explore(kind="explore", epochs=max(1, full // 3)),
                  Refine(kind="refine", epochs=full), Confirm(kind="confirm"))  # fmt: skip
        fitting = spec.model_copy(update={"phases": phases})
        needed = make_plan(fitting, slots, None, seconds_per_epoch, "measured").total_s or 0.0
        if needed <= SIZED_SHARE * hours * 3600:
            return fitting.model_copy(update={"budget": spec.budget.model_copy(update={"hours": hours})})
    raise PlanError(
        f"hours: at {seconds_per_epoch:.3g} s an epoch the shortest sweep trains for {duration(needed)}, and as long "
        f"again is kept for what cannot be foreseen.\n  Give hours={rounded_up(needed / SIZED_SHARE / 3600):g} or more."
    )


def rounded_up(value: float) -> float:
    """The next number with two significant digits."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return math.ceil(value / unit) * unit


def amount_of(spec: SweepSpec, phase: SearchPhase | Confirm | Replay) -> tuple[int, float, int | None]:
    """Epochs, data fraction and classes (None: all) of a phase's trials."""
    if isinstance(phase, Replay):
        origin = phase.trial.rpartition("-")[0]
        return amount_of(spec, next(found for found in spec.with_trials if phase_name(found) == origin))
    if isinstance(phase, Confirm):
        return confirm_epochs(spec, phase), phase.data_fraction, None
    return phase.epochs, phase.data_fraction, phase.classes


def trials_of(spec: SweepSpec, phase: SearchPhase | Confirm | Replay) -> tuple[int, dict[str, int]]:
    """How many trials a phase has, and how many of each role."""
    if isinstance(phase, Replay):
        return phase.seeds, {"seeds": phase.seeds}
    if isinstance(phase, Explore | Refine):
        return phase.trials, search_shares(spec, phase)
    if isinstance(phase, Grid):
        count = len(spec.space.grid(phase.points))
        return count, {"grid": count}
    if isinstance(phase, Evolve):
        return phase.population, evolve_shares(spec, phase)
    assert isinstance(phase, Confirm)
    before = next(p for p in reversed(spec.phases[: spec.phases.index(phase)]) if isinstance(p, SearchPhase))
    searched, shares = trials_of(spec, before)
    top = min(phase.top, searched - shares.get("baseline", 0))
    return (top + 1) * phase.seeds, {"winners": top * phase.seeds, "baseline": phase.seeds}


def evolve_shares(spec: SweepSpec, phase: Evolve) -> dict[str, int]:
    """Members by role: the best of a search before it, up to half of them; where it has fewer, more from Sobol."""
    before = spec.phases[: spec.phases.index(phase)]
    best = phase.population // 2 if any(isinstance(found, SearchPhase) for found in before) else 0
    return {"baseline": 1, "best": best, "sobol": phase.population - 1 - best}


def confirm_epochs(spec: SweepSpec, phase: Confirm) -> int:
    """Full length: the phase's own epochs, else those of the search phase before it."""
    if phase.epochs is not None:
        return phase.epochs
    before = spec.phases[: spec.phases.index(phase)]
    return next(p.epochs for p in reversed(before) if isinstance(p, SearchPhase))


def expected_epochs(phase: Halving, trials: int) -> float:
    """Epochs in all when each rung lets one trial in `reduction_factor` go on."""
    factor = phase.reduction_factor or 1.0
    whole = trials * phase.unstopped_share
    ends = [0.0, *rungs(phase.epochs, phase.min_epochs, phase.reduction_factor), float(phase.epochs)]
    judged = sum((trials - whole) / factor**k * (end - start) for k, (start, end) in enumerate(pairwise(ends)))
    return judged + whole * phase.epochs


def cheapest(spec: SweepSpec) -> dict[str, Any]:
    """The fidelity of the search phase with the fewest rows; one whole epoch where there is no search."""
    searches = [phase for phase in spec.phases if isinstance(phase, SearchPhase)]
    least = min(searches, key=lambda phase: (phase.classes or math.inf, phase.data_fraction), default=None)
    return {
        "epochs": least.epochs if least else 1, "data_fraction": least.data_fraction if least else 1.0,
        "classes": least.classes if least else None, "seed": spec.seed,
    }  # fmt: skip


def check_rows(spec: SweepSpec, footprint: Mapping[str, Any], fraction: float) -> None:
    """Raises SpecError when a population is to change what its networks or optimizers are made by, a batch can be
    larger than the training rows of the cheapest phase, or a phase wants more
    classes than there are.

    `footprint` is of the baseline at the data fraction `fraction`, the smallest of the plan.
    """
    for number, phase in enumerate(spec.phases):
        wanted, available = getattr(phase, "classes", None), footprint.get("classes")
        if wanted and available and wanted > available:
            raise SpecError(
                f"phases[{number}].classes",
                f"{wanted} classes of the {available} that the training rows have",
                f"Give {available} at most, or leave it out: all.",
            )  # fmt: skip
        changed = getattr(phase, "mutations", None) or {}
        fixed = [name for name in changed if name.rpartition(".")[2] in FIXED] if "train_rows" in footprint else []
        if fixed:
            raise SpecError(
                f"phases[{number}].mutations.{fixed[0]}",
                "cannot change while a network is trained: a donor's optimizer state would not fit",
                "Leave it out; each member keeps its donor's.",
            )  # fmt: skip
    if "batch_size" not in spec.space or not footprint.get("train_rows"):
        return
    largest = max((size for size in spec.space["batch_size"].grid(64) if isinstance(size, int)), default=0)
    rows = footprint["train_rows"]
    if largest > rows:
        raise SpecError(
            "space.batch_size",
            f"a batch of {largest} is larger than the {rows} training rows at data_fraction {fraction:g}",
            f"End the range at {rows} or below, or raise data_fraction.",
        )  # fmt: skip


def baseline_of(spec: SweepSpec, standard: Config) -> Config:
    """The complete baseline config. Raises SpecError when the spec's leaves out what nothing else can fill.

    Without one in the spec it is the middle of every domain. A hyperparameter of `standard` that it leaves out takes
    its default from there, a constant of the space its value.
    """
    if spec.baseline is None:
        return spec.space.decode([0.5] * len(spec.space.searched))
    config: Config = dict(spec.baseline)
    for name, domain in spec.space.root.items():
        if name in config or not spec.space.active(name, config):
            continue
        short = name.rpartition(".")[2]
        if isinstance(domain, Constant):
            config[name] = domain.constant
        elif short in standard:
            config[name] = standard[short]
        else:
            raise SpecError(f"baseline.{name}", "is missing", "Write the value that you use today.")
    return {name: config[name] for name in spec.space if spec.space.active(name, config)}


def earlier_seconds_per_epoch(spec: SweepSpec, storage: Folder) -> tuple[float, str] | None:
    """Seconds per full epoch from the newest sweep of the same trainable in the storage, and that sweep's name."""
    name = name_of(spec.trainable)
    if name.startswith("__main__:"):  # every script has its own
        return None
    for folder in newest_sweeps(storage):
        try:
            header = read_header(folder)
            if header is None or header["spec"]["trainable"] != name:
                continue
            measured = seconds_per_epoch(History.open(folder))
        except (JournalError, SpecError, LookupError, TypeError, ValueError, OSError):
            continue  # damaged, of another version, another user's: no harm
        if measured:
            return measured, folder.name
    return None


def seconds_per_epoch(history: History) -> float | None:
    """Seconds of one trial over all training rows, from the reports so far: all seconds over all epochs' shares."""
    whole = [trial for trial in history.trials.values() if "classes" not in trial.fidelity]
    epochs = sum(len(trial.epochs) * trial.fidelity["data_fraction"] for trial in whole)
    return sum(trial.seconds for trial in whole) / epochs if epochs else None


def render(plan: Plan, spec: SweepSpec) -> str:
    """The plan as text: phases, what they take, the space with where each range comes from."""
    head = ("phase", "trials", "epochs", "data", "at a time", "epochs in all", "checkpoints kept", "training")
    rows = [head, *(row(phase) for phase in plan.phases)]
    widths = [max(len(r[i]) for r in rows) for i in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(r, widths, strict=True)).rstrip() for r in rows]
    kinds = {phase.kind for phase in spec.phases}
    if "audit" in kinds:
        lines.append("audit: first the data are looked through, in seconds, up to a minute for a million rows")
    if "preflight" in kinds:
        lines.append("preflight: the baseline is checked, in some 30 s, 10 more for each optimizer")
    shares = [f"{p.phase} {', '.join(f'{n} {role}' for role, n in p.shares.items())}" for p in plan.phases]
    lines.append(f"shares: {'; '.join(shares)}")
    if plan.seconds_per_epoch is None:
        lines.append(f"time: {plan.basis}")
    else:
        lines.append(
            f"time: about {duration(plan.total_s)} of training at {plan.seconds_per_epoch:.3g} s a full epoch "
            f"({plan.basis})"
        )
    lines.append("space:")
    lines.extend(f"  {line}" for line in describe_space(spec.space))
    return "\n".join(lines)


def row(phase: PhasePlan) -> tuple[str, ...]:
    """One phase's line of the table."""
    size = "size unknown" if phase.checkpoint_bytes is None else f"{phase.checkpoint_bytes:,} bytes"
    return (
        phase.phase, str(phase.trials), str(phase.epochs),
        f"{phase.data_fraction:.0%}" + (f" of {phase.classes} classes" if phase.classes else ""),
        str(phase.concurrency),
        f"about {phase.expected_epochs:.0f}, at most {phase.most_epochs}", f"{phase.checkpoints}, {size}",
        "unknown" if phase.seconds is None else f"about {duration(phase.seconds)}",
    )  # fmt: skip


def describe_space(space: Space) -> list[str]:
    """One line a parameter: its domain, its condition, its source."""
    width = max(map(len, space))
    lines = []
    for name, domain in space.root.items():
        when = " and ".join(f"{parent} is {' or '.join(map(str, values))}" for parent, values in domain.when.items())
        lines.append(f"{name.ljust(width)}  {domain}{f', when {when}' if when else ''}  ({domain.source or 'spec'})")
    return lines


def duration(seconds: float | None) -> str:
    """Seconds as a person says them."""
    if seconds is None:
        return "unknown"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
