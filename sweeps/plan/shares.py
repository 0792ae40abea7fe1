"""Which trial of a search plays which role: how many test advice, are drawn from the old space, or go without what
regularises, and at which places of the phase.

Every training counts against the phase's trials: what is listed here takes the place of the searcher's own proposals.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from sweeps.spec import Explore, Refine, SweepSpec

FEW_TRIALS = 32
"""A sweep whose explore and refine phases have fewer trials in all spends none on advice."""
ZERO_ARMS = ("dropout", "weight_decay")
"""Parameters of which a refine phase tries the value 0 on the best trial."""
ADVISED = ("advice", *(f"{name}_zero" for name in ZERO_ARMS))
"""Roles of the trials of which the journal says what they change about which other one."""
ZERO_SHARE = 6
"""At most one in so many trials of the phase is such an arm."""
BEFORE_ADVICE = 3
"""Advice begins after one in so many of a phase's trials: before, there is nothing to advise."""


def roles(spec: SweepSpec, phase: Explore | Refine, grown: Sequence[int] = ()) -> list[str]:
    """The role of each trial of the phase, in order: the baseline, what a searcher proposes, advice among it, then
    those from the old space, and the arms without what regularises, when it is known which trial is the best.

    `grown`: how many trials it was to have at first and after each time that the sweep was extended; what it grew by
    has shares of its own.
    """
    if len(grown) > 1:
        parts = [grown[0], *(more - less for less, more in pairwise(grown))]
        first, *more_of = (roles(spec, phase.model_copy(update={"trials": part})) for part in parts)
        return first + [role.replace("baseline", "sobol") for added in more_of for role in added]
    last = [f"{name}_zero" for name in zero_arms(spec, phase)] if isinstance(phase, Refine) else []
    if isinstance(phase, Refine):
        last = ["old_space"] * old_space_trials(phase) + last
    first = ["baseline"] if isinstance(phase, Explore) else []
    found = first + ["sobol" if first else "tpe"] * (phase.trials - len(first) - len(last)) + last
    begin, end = max(len(first), phase.trials // BEFORE_ADVICE), phase.trials - len(last)
    count = min(advice_trials(spec, phase), end - begin)
    for number in range(count):
        found[begin + (number + 1) * (end - begin) // count - 1] = "advice"
    return found


def search_shares(spec: SweepSpec, phase: Explore | Refine) -> dict[str, int]:
    """Trials by role."""
    return dict(Counter(roles(spec, phase)))


def advice_trials(spec: SweepSpec, phase: Explore | Refine) -> int:
    """How many trials of the phase may test advice."""
    searched = sum(found.trials for found in spec.phases if isinstance(found, Explore | Refine))
    return math.floor(phase.trials * phase.advice_share + 1e-9) if searched >= FEW_TRIALS else 0


def old_space_trials(phase: Refine) -> int:
    """How many of a refine phase's trials are drawn from the space as it was before."""
    return math.floor(phase.trials * phase.old_space_share + 1e-9)


def zero_arms(spec: SweepSpec, phase: Refine) -> list[str]:
    """The searched parameters of which the value 0 is tried on the best trial."""
    searched = {name.rpartition(".")[2] for name in spec.space.searched}
    return [name for name in ZERO_ARMS if name in searched][: phase.trials // ZERO_SHARE]
