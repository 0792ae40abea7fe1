"""The pool of slots, and what runs inside one.

Tune keeps no process for us between trials, phases or at a barrier, and a Ray Train run costs seconds to start. So the
sweep owns slots for its whole life: Ray actors with the trial's real resources, each with one long Ray Train run whose
loop takes commands from a mailbox. A trial then starts in milliseconds, on a warm process and device.

    lease ── acquire / replace ──► Pool ── owns ──► Slot ── mailbox ──► serve(): Worker, one or several
      └────────────── command("start" | "next") ─────►┘
"""

from sweeps.slots.failures import ASIDE, non_finite
from sweeps.slots.order import Answer, Order
from sweeps.slots.pool import CLOSE_S, INTERRUPTED_S, NoSlots, Pool, first_line
from sweeps.slots.worker import Worker

__all__ = [
    "ASIDE",
    "CLOSE_S",
    "INTERRUPTED_S",
    "Answer",
    "NoSlots",
    "Order",
    "Pool",
    "Worker",
    "first_line",
    "non_finite",
]
