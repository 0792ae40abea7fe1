"""Learning-rate schedules: what the peak learning rate is multiplied with at each optimizer step.

Place in the flow: `trainables.loop` asks `factor` before every step. A schedule is a function of the step's number
and of the horizon (the fidelity's epochs times the steps of an epoch), and of nothing else: it has no state to save,
so a resumed trial cannot disagree with an uninterrupted one, and a trial that inherits another's state (PBT) follows
its own learning rate at once.

With W warmup steps, T steps in all, and p = (step - W) / (T - W), in [0, 1) after warmup:

    warmup        (step + 1) / (W + 1)         rises linearly and would reach 1 at step W
    constant      1
    linear        1 - p
    cosine        (1 + cos(pi p)) / 2
    exponential   0.01 ** p                    falls evenly on a log scale towards a hundredth
    step          0.1 ** floor(3 p)            a tenth after each third
    one_cycle     cosine, after a rise of (1 + 24 r) / 25 with r = (1 - cos(pi step / W)) / 2, W three tenths of T
                  unless a warmup is given (L. Smith and N. Topin, Super-Convergence, 2018; torch's proportions)

`plateau` is not here: it looks at the validation loss, and so has a state (`trainables.stopping`). Its factor is 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable

PLATEAU = "plateau"
ONE_CYCLE = "one_cycle"
RISE, START = 0.3, 25.0
"""Of one_cycle: the share of the steps in which it rises, and what the peak is divided by at its start."""

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda p: 1.0,
    "step": lambda p: 0.1 ** math.floor(3 * p),
    "exponential": lambda p: 0.01**p,
    "cosine": lambda p: (1 + math.cos(math.pi * p)) / 2,
    "linear": lambda p: 1 - p,
    ONE_CYCLE: lambda p: (1 + math.cos(math.pi * p)) / 2,
}


def factor(schedule: str, step: int, total_steps: int, warmup_fraction: float = 0.0) -> float:
    """The multiple of the peak learning rate used at `step`, counted from 0; always above 0 below `total_steps`."""
    if schedule == ONE_CYCLE:
        warmup_fraction = warmup_fraction or RISE
    # The last step is always the schedule's own, so that a high fraction of a short training still has a peak.
    warmup = min(round(warmup_fraction * total_steps), total_steps - 1)
    if step < warmup and schedule == ONE_CYCLE:
        return (1 + (START - 1) * (1 - math.cos(math.pi * step / warmup)) / 2) / START
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if schedule == PLATEAU:
        return 1.0
    return SCHEDULES[schedule]((step - warmup) / (total_steps - warmup))
