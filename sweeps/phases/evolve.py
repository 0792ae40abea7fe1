"""Evolve: a population side by side. The worst take over the best ones' weights, with hyperparameters a little changed.

It begins with the baseline, the best configs of the search before it, if there was one, and points of a Sobol sequence
over the space narrowed on that evidence. What it finds is a schedule of hyperparameters, in the journal as each
member's exploits; confirm and replay train it from scratch.

Left out on purpose: generations in step, in which every slot waits for the slowest member; and PB2, which draws from a
Gaussian process over time and hyperparameters where this multiplies, a model of its own for a few dozen exploits.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sweeps.engine import Engine
from sweeps.errors import SpecError
from sweeps.insight.curves import last_search, rank
from sweeps.phases.confirm import best_configs
from sweeps.phases.opening import cut, fidelity, open_phase
from sweeps.plan import FIXED, evolve_shares
from sweeps.search import Proposal, sobol
from sweeps.space import Config, Space, mutate, narrow
from sweeps.spec import Evolve, Mutation, phase_name
from sweeps.tuning import run_phase


def run(engine: Engine, phase: Evolve) -> None:
    """Run the phase. Raises SweepFailed when it gives no result, SpecError when nothing of its space can change."""
    spec, history = engine.spec, engine.record.history
    name = phase_name(phase)
    before = last_search(history, name)
    best: list[Config] = []
    if before is None:
        space, changes = cut(engine)
        ranking = None
    else:
        ranking = rank(history.of_phase(before), spec.metric, spec.mode)
        ranked = [trial.config_at(ranking.epoch) for trial in ranking.trials]
        space, changes = narrow(history.phases[before].space, ranked)
        best = list(best_configs(engine, before, evolve_shares(spec, phase)["best"]).values())
    space = open_phase(engine, name, phase.kind, space, phase.population, changes, ranking)
    how = mutations(engine, phase, space)
    draw = sobol(space, spec.seed + 1 + list(history.phases).index(name))  # not the points of the search before

    def propose(number: int) -> Proposal:
        if number == 0:
            return Proposal("baseline", engine.baseline, spec.seed)
        if number <= len(best):
            return Proposal("best", best[number - 1], spec.seed)
        return Proposal("sobol", engine.within_memory(draw(number - 1 - len(best)), space), spec.seed)

    def explore(donor: Config, rng: np.random.Generator) -> Config:
        return engine.within_memory(mutate(space, donor, how, rng), space)

    run_phase(
        engine, name, count=phase.population, propose=propose, fidelity=fidelity(phase), evolve=(phase, explore)
    )  # fmt: skip


def mutations(engine: Engine, phase: Evolve, space: Space) -> Mapping[str, Mutation]:
    """Which parameters of the space change in an exploit, and how. Raises SpecError where there are none."""
    named = phase.mutations
    if named is None:
        ours = "train_rows" in engine.footprint  # a loop of the user's own knows itself what it reads
        may = [name for name in space.searched if not ours or may_change(name, engine)]
        named = dict.fromkeys(may, Mutation())
    found = {name: how for name, how in named.items() if name in space.searched}
    if not found:
        raise SpecError(
            f"phases.{phase_name(phase)}.mutations",
            "no parameter of the space may change while a network is trained",
            "Search the learning rate or another hyperparameter of the loop, or name in mutations what may change.",
        )
    return found


def may_change(name: str, engine: Engine) -> bool:
    """Whether a donor's network and optimizer state still fit when this parameter changes."""
    short = name.rpartition(".")[2]
    return short in engine.loop and short not in FIXED
