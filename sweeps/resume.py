"""Going on with a sweep that has begun: what of its spec may differ, and how it grows.

How trials and schedulers are taken up again stands where they live: events.Events.settle, schedule.rebuild.
"""

from __future__ import annotations

from sweeps.errors import UsageError
from sweeps.spec import Evolve, Grid, Replay, SearchPhase, SweepSpec, phase_name

MAY_CHANGE = frozenset(
    {"budget", "resources", "tracking", "keep_checkpoints", "checkpoint_every", "report_every", "storage"}
)
"""What of a spec may differ when a sweep is resumed: nothing that a result depends on. It stays in its storage."""


def extended(spec: SweepSpec, trials: int) -> SweepSpec:
    """The spec with so many more trials in its last search phase. Raises UsageError for a grid or a population."""
    if trials < 1:
        raise UsageError(f"trials: {trials} is below 1. Give the number of trials to add.")
    at = max(i for i, phase in enumerate(spec.phases) if isinstance(phase, SearchPhase))
    last = spec.phases[at]
    if isinstance(last, Grid):
        raise UsageError("the last search was a grid, which is whole. Add a refine phase to the spec, and run anew.")
    if isinstance(last, Evolve):
        raise UsageError(
            "the last search was a population, whose members evolve together. Run a new sweep with a larger population."
        )
    more = last.model_copy(update={"trials": last.trials + trials})  # type: ignore[union-attr]
    return spec.model_copy(update={"phases": (*spec.phases[:at], more, *spec.phases[at + 1 :])})


def replayed(spec: SweepSpec, trial: str, seeds: int) -> SweepSpec:
    """The spec with a replay of a trial after its phases. Raises UsageError when it cannot have one."""
    if seeds < 1:
        raise UsageError(f"seeds: {seeds} is below 1. Give the number of seeds to train it with.")
    taken = {phase_name(phase) for phase in spec.phases}
    names = ("", *(f"replay{number}" for number in range(2, len(taken) + 2)))
    name = next(name for name in names if (name or "replay") not in taken)
    replay = Replay(kind="replay", name=name, trial=trial, seeds=seeds)
    return spec.model_copy(update={"phases": (*spec.phases, replay)})


def accepted(before: SweepSpec, after: SweepSpec) -> SweepSpec:
    """The spec to go on with, where a person gives one anew: what may change is taken from it.

    One from before the sweep was extended or a trial replayed is accepted, and what was added kept. Raises UsageError
    for a spec that differs in what the results so far rest on.
    """
    last = max(i for i, phase in enumerate(before.phases) if isinstance(phase, SearchPhase))
    added = before.phases[len(after.phases) :]
    if all(isinstance(phase, Replay) for phase in added):
        after = after.model_copy(update={"phases": (*after.phases, *added)})
    if len(after.phases) == len(before.phases) and not isinstance(before.phases[last], Grid | Evolve):
        grown = after.phases[last].model_copy(update={"trials": before.phases[last].trials})  # type: ignore[union-attr]
        after = after.model_copy(update={"phases": (*after.phases[:last], grown, *after.phases[last + 1 :])})
    old, new = before.document(), after.document()
    changed = [key for key in old if old[key] != new[key] and key not in MAY_CHANGE]
    # Each worker has generators and norms of its own, and sharded sums round otherwise.
    for key in ("workers", "parallelism"):
        if getattr(before.resources, key) != getattr(after.resources, key):
            changed.append(f"resources.{key}")
    if changed:
        may = ", ".join(sorted(MAY_CHANGE))
        raise UsageError(f"spec: {', '.join(changed)} changed since the sweep began; only {may} may. Run a new sweep.")
    return after
