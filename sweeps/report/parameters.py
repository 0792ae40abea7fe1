"""The figure of the parameters: what each value was worth, and where the range went because of it.

One panel a searched parameter. A phase's points are its ranking, so that within a colour all points are of one
fidelity; the legend names it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from sweeps.history import History
from sweeps.insight.curves import rank
from sweeps.report import words
from sweeps.report.style import MARKERS, log_if_wide, phase_colours, styled
from sweeps.space import Domain, Float, Int, PowersOfTwo, Space
from sweeps.space.domains import Range

OLD, NEW = "#EEEEEE", "#CFE3F5"
COLUMNS = 3
NOTE_WIDTH = 48
"""Characters that a panel has room for in its note."""
CHOICES_WIDTH = 24
"""Characters of a choice's values that fit side by side under a panel; longer ones are turned."""


@dataclass(frozen=True)
class Scale:
    """The horizontal axis of one parameter: where a value stands, which ticks it has."""

    kind: str
    ticks: list[tuple[float, str]]
    zero: float | None = None
    """Where 0 is drawn on a logarithmic axis."""
    values: tuple[Any, ...] = ()
    """The columns of a choice."""

    def place(self, value: Any) -> float:
        """The coordinate of a value on the axis."""
        if self.kind == "choice":
            return float(self.values.index(value)) if value in self.values else math.nan
        return self.zero if self.zero is not None and value == 0 else float(value)


@styled
def parameters(history: History) -> Figure | None:
    """Small multiples of the metric against each searched parameter, with the old and the new range."""
    spec = history.spec
    if spec is None:
        return None
    phases = [name for name, phase in history.phases.items() if phase.searches]
    rankings = {name: rank(history.of_phase(name), spec.metric, spec.mode) for name in phases}
    rankings = {name: ranking for name, ranking in rankings.items() if ranking.trials}
    names = spec.space.searched
    if not rankings:
        return None
    colours = phase_colours(history)
    newest = next(
        (p.space for p in reversed(history.phases.values()) if any(c.action != "kept" for c in p.changes)), None
    )
    infeasible = [trial.config for trial in history.trials.values() if trial.status == "INFEASIBLE"]
    rows = math.ceil(len(names) / COLUMNS)
    figure = Figure(figsize=(10.5, 3.1 * rows + 0.8), layout="constrained")
    grid = figure.subplots(rows, min(COLUMNS, len(names)), squeeze=False, sharey=True)
    for axes, name in zip(grid.flat, names, strict=False):
        scale = scale_of([space[name] for space in (spec.space, newest) if space and name in space])
        for phase, ranking in rankings.items():
            points = [
                (scale.place(config[name]), value)
                for trial, value in zip(ranking.trials, ranking.values, strict=True)
                if name in (config := trial.config_at(ranking.epoch))
            ]
            if points:
                marker = MARKERS.get(history.phases[phase].kind, "o")
                axes.plot(*zip(*points, strict=True), marker, color=colours[phase], ms=5, alpha=0.8, mew=0)
        crosses = [scale.place(config[name]) for config in infeasible if name in config]
        if crosses:
            axes.plot(
                crosses, [0.03] * len(crosses), "x", color="#B00000", ms=7, mew=1.8,
                transform=axes.get_xaxis_transform(), clip_on=False,
            )  # fmt: skip
        log_if_wide(axes, [value for ranking in rankings.values() for value in ranking.values], ratio=10)
        finish(axes, name, scale, spec.space, newest)
    for axes in grid.flat[len(names) :]:
        axes.set_axis_off()
    for axes in grid[:, 0]:
        axes.set_ylabel(spec.metric)
    make_room(grid[0, 0])
    handles: list[Line2D | Patch] = []
    for phase, ranking in rankings.items():
        label = (
            f"{phase}: {words.count(len(ranking.trials), 'trial')} after epoch {ranking.epoch}, "
            f"{words.data(ranking.data)}"
        )
        marker = MARKERS.get(history.phases[phase].kind, "o")
        handles.append(Line2D([], [], ls="", marker=marker, color=colours[phase], label=label))
    handles.append(Patch(color=OLD, label="old range"))
    if newest:
        handles.append(Patch(color=NEW, label="new range"))
    if infeasible:
        handles.append(Line2D([], [], ls="", marker="x", color="#B00000", mew=1.8, label="infeasible"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def scale_of(domains: list[Domain]) -> Scale:
    """The axis that shows a parameter in all of the domains it has had; the first is the spec's."""
    first = domains[0]
    if not isinstance(first, Range):
        values = tuple(first.grid(1))
        return Scale(
            "choice",
            [(float(i), words.clip(words.number(value), 16)) for i, value in enumerate(values)],
            values=values,
        )
    ranges = [domain for domain in domains if isinstance(domain, Range)]
    low, high = min(d.span[0] for d in ranges), max(d.span[1] for d in ranges)
    if isinstance(first, PowersOfTwo):
        return Scale("log2", [(float(v), str(v)) for v in first.values])
    if isinstance(first, Float) and first.scale == "one_minus":
        nines = [v for k in range(7) if low - 1e-9 <= (v := 1 - 10.0**-k) <= high + 1e-9]
        ends = [end for end in (low, high) if all(abs(_log1m(end) - _log1m(v)) > 0.2 for v in nines)]
        return Scale("one_minus", [(v, f"{v:.4g}") for v in sorted([*ends, *nines])])
    if isinstance(first, Float | Int) and first.scale == "log":
        powers = [10.0**k for k in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
        inside = [p for p in powers if low / 1.001 <= p <= high * 1.001]
        step = math.ceil(len(inside) / 5)
        ticks = (
            [(p, f"{p:g}") for p in inside[::-step][::-1]]
            if len(inside) > 1
            else [(low, f"{low:.2g}"), (high, f"{high:.2g}")]
        )
        if not (isinstance(first, Float) and first.or_zero):
            return Scale("log", ticks)
        zero = low * (low / high) ** 0.15
        return Scale("log", [(zero, "0"), *ticks], zero=zero)
    return Scale("linear", [])


def finish(axes: Axes, name: str, scale: Scale, old: Space, new: Space | None) -> None:
    """The panel's axis, its ranges as shaded spans with their labels, its title."""
    axes.set_title(name)
    if scale.kind in ("log", "log2"):
        axes.set_xscale("log", base=2 if scale.kind == "log2" else 10)
    elif scale.kind == "one_minus":
        axes.set_xscale("function", functions=(lambda x: -_log1m(x), lambda t: 1 - 10.0**-t))
    if scale.ticks:
        axes.xaxis.set_major_locator(FixedLocator([at for at, _ in scale.ticks]))
        axes.set_xticks([at for at, _ in scale.ticks], [label for _, label in scale.ticks])
        axes.xaxis.set_minor_locator(NullLocator())
    if isinstance(old[name], Int) and scale.kind == "linear":
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    if scale.kind == "choice":
        axes.set_xlim(-0.6, len(scale.values) - 0.4)
        if sum(len(label) for _, label in scale.ticks) > CHOICES_WIDTH:
            axes.tick_params(axis="x", labelrotation=20, labelsize=8)
    shade(axes, scale, old[name], OLD)
    if new is None or (name in new and new[name] == old[name]):
        note = f"{'range kept' if new else 'range'}: {old[name]}"
    elif name in new:
        shade(axes, scale, new[name], NEW)
        note = f"old range: {old[name]}\nnew range: {new[name]}"
    else:
        note = f"old range: {old[name]}\nnew range: none, the value it depends on was dropped"
    note = "\n".join(words.clip(line, NOTE_WIDTH) for line in note.splitlines())
    text = axes.text(0.5, 0.98, note, transform=axes.transAxes, ha="center", va="top", fontsize=8.5, color="#333333")
    text.set_in_layout(False)  # else a long note would push the panels apart


def _log1m(x: Any) -> Any:
    """log10(1 − x), finite outside the domain too: matplotlib asks there when it places margins."""
    return np.log10(np.maximum(1 - np.asarray(x, dtype=float), 1e-12))


def shade(axes: Axes, scale: Scale, domain: Domain, colour: str) -> None:
    """One range as a span over the panel's whole height, a choice's values as one span each."""
    if isinstance(domain, Range):
        spans = [domain.span]
        if isinstance(domain, Float) and domain.or_zero:
            zero, width = scale.place(0), 0.01 * domain.span[1]
            spans.append((zero * 0.8, zero * 1.25) if scale.zero is not None else (zero - width, zero + width))
    else:
        places = [scale.place(value) for value in domain.grid(1)]
        spans = [(at - 0.42, at + 0.42) for at in places if math.isfinite(at)]
    for low, high in spans:
        axes.axvspan(low, high, color=colour, lw=0, zorder=0)


def make_room(axes: Axes) -> None:
    """Free height above the points for the ranges' labels, below them for the crosses (the panels share the axis)."""
    low, high = axes.get_ylim()
    if axes.get_yscale() == "log":
        axes.set_ylim(low / (high / low) ** 0.08, high * (high / low) ** 0.25)
    else:
        axes.set_ylim(low - 0.08 * (high - low), high + 0.25 * (high - low))
