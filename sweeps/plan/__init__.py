"""The plan: what a spec will cost on these resources, known before anything runs.

Counts are exact: trials, epochs, shares, concurrency, checkpoints and their bytes. Time is unknown until measured: by
an earlier sweep of the same trainable, by `--measure`, or by this sweep's own first trials. What can never fit is
refused here, with the numbers.
"""

from sweeps.plan.costs import (
    FIXED,
    UNKNOWN,
    PhasePlan,
    Plan,
    baseline_of,
    cheapest,
    check_rows,
    confirm_epochs,
    duration,
    earlier_seconds_per_epoch,
    evolve_shares,
    expected_epochs,
    make_plan,
    render,
    rounded_up,
    seconds_per_epoch,
    sized,
    trials_of,
)
from sweeps.plan.room import Node, amount, fitting, needs, slots_on, taken
from sweeps.plan.shares import ADVISED, ZERO_ARMS, roles

__all__ = [
    "ADVISED",
    "FIXED",
    "UNKNOWN",
    "ZERO_ARMS",
    "Node",
    "PhasePlan",
    "Plan",
    "amount",
    "baseline_of",
    "cheapest",
    "check_rows",
    "confirm_epochs",
    "duration",
    "earlier_seconds_per_epoch",
    "evolve_shares",
    "expected_epochs",
    "fitting",
    "make_plan",
    "needs",
    "render",
    "roles",
    "rounded_up",
    "seconds_per_epoch",
    "sized",
    "slots_on",
    "taken",
    "trials_of",
]
