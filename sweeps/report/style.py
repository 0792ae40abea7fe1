"""How every figure looks: colours that colour-blind readers tell apart, one colour and marker a phase, plain text.

Figures are made with matplotlib's object interface and never with pyplot, which keeps global state and would pick a
GUI backend in a notebook.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from sweeps.history import History
from sweeps.report import words

TRIAL_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#7A3E9D", "#8B5A2B")
"""Okabe and Ito's palette; purple and brown stand in for its yellow, unreadable on white, and its black."""
BASELINE_COLOURS = ("#000000", "#666666", "#A0A0A0")
"""Greys, one a seed: what things are measured against is told from what is being judged at a glance."""
PHASE_COLOURS = {
    "explore": "#0072B2",
    "grid": "#009E73",
    "refine": "#D55E00",
    "evolve": "#CC79A7",
    "confirm": "#7A3E9D",
    "replay": "#56B4E9",
}
SPARE_COLOURS = ("#000000", "#8C8C8C", "#E69F00")
"""For a second phase of a kind."""
MARKERS = {"explore": "o", "grid": "^", "refine": "s", "evolve": "v", "confirm": "D", "replay": "P"}
STYLE: dict[str, Any] = {
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.facecolor": "white",
    "text.parse_math": False,  # names and choices may hold dollar signs
}
DPI = 160
"""Twice the size at which the report shows a figure, for sharp screens and print."""
Draw = Callable[[History], Figure | None]


def styled(draw: Draw) -> Draw:
    """The function, drawing in our style whatever the process has set."""

    @functools.wraps(draw)
    def drawn(history: History) -> Figure | None:
        with rc_context(STYLE):
            return draw(history)

    return drawn


def phase_colours(history: History) -> dict[str, str]:
    """A colour for each phase: its kind's, and for a second phase of a kind a spare one."""
    colours: dict[str, str] = {}
    spare = iter(SPARE_COLOURS * len(history.phases))
    for name, phase in history.phases.items():
        colour = PHASE_COLOURS.get(phase.kind)
        colours[name] = next(spare) if colour is None or colour in colours.values() else colour
    return colours


def phase_fidelity(history: History, phase: str) -> str:
    """`explore: 3 epochs, 50 % of the data`, from the phase's trials."""
    fidelity = history.of_phase(phase)[0].fidelity
    return f"{phase}: {words.count(fidelity['epochs'], 'epoch')}, {words.data(fidelity)}"


def whole_epochs(axes: Axes) -> None:
    """Ticks of an epoch axis at whole numbers only."""
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("epoch")


def log_if_wide(axes: Axes, values: Iterable[float], ratio: float = 30) -> None:
    """A logarithmic value axis where one bad trial would otherwise flatten all others."""
    positive = [value for value in values if math.isfinite(value)]
    if positive and min(positive) > 0 and max(positive) / min(positive) > ratio:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
