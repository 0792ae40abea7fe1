"""The figure of a population: how good its members were, whose state the winner's came from, and by which schedule."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from sweeps.history import History, TrialHistory
from sweeps.insight.curves import rank
from sweeps.insight.lineage import Segment, ancestry
from sweeps.report import words
from sweeps.report.style import TRIAL_COLOURS, log_if_wide, styled, whole_epochs
from sweeps.space import Float

MOST_PARAMETERS = 6
"""So many schedules are drawn, in the order of the space."""
MEMBER, LINEAGE = "#C4C4C4", TRIAL_COLOURS[0]


@styled
def population(history: History) -> Figure | None:
    """The newest population's score against the epoch with the lineage of its winner, and that one's schedule of each
    hyperparameter that changed."""
    members = newest(history)
    winner = leader(history, members)
    if winner is None:
        return None
    line = ancestry(history, winner)
    names = changed(history, line)[:MOST_PARAMETERS]
    rows = 1 + math.ceil(len(names) / 2)
    figure = Figure(figsize=(10, 3.6 + 2.2 * (rows - 1)), layout="constrained")
    grid = figure.add_gridspec(rows, 2, height_ratios=[3.6] + [2.2] * (rows - 1))
    draw_scores(figure.add_subplot(grid[0, :]), history, members, winner, line)
    for at, name in enumerate(names):
        draw_schedule(figure.add_subplot(grid[1 + at // 2, at % 2]), history, members, line, name)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def newest(history: History) -> list[TrialHistory]:
    """The members of the newest population that have reported."""
    phases = [name for name, phase in history.phases.items() if phase.kind == "evolve"]
    return [trial for trial in history.of_phase(phases[-1]) if trial.epochs] if phases else []


def leader(history: History, members: list[TrialHistory]) -> TrialHistory | None:
    """The member that the verdict found best, else the best one at the epoch that most came to."""
    spec = words.spec_of(history)
    arms = {trial.trial: trial for trial in members}
    compared = ((history.verdict or {}).get("comparison") or {}).get("candidate")
    if compared in arms:
        return arms[compared]
    ranked = rank(members, spec.metric, spec.mode).trials
    return ranked[0] if ranked else None


def changed(history: History, line: list[Segment]) -> list[str]:
    """The searched parameters that changed along a lineage."""
    searched = words.spec_of(history).space.searched
    return [name for name in searched if len({repr(segment.config.get(name)) for segment in line}) > 1]


def spans(trial: TrialHistory) -> Iterator[tuple[int, int]]:
    """(after, until): the epochs that a member trained without taking over in between."""
    ends = [*sorted({exploit.epoch for exploit in trial.exploits}), trial.told]
    yield from ((after, until) for after, until in zip([0, *ends], ends, strict=False) if after < until)


def points(history: History, segment: Segment, metric: str) -> list[tuple[int, float]]:
    """The finite values of a segment's epochs."""
    curve = history.trials[segment.trial].curve(metric)
    return [(epoch, v) for epoch, v in curve if segment.told < epoch <= segment.until and math.isfinite(v)]


def draw_scores(
    axes: Axes, history: History, members: list[TrialHistory], winner: TrialHistory, line: list[Segment]
) -> None:
    """Each member's curve, broken where it took over; over them the lineage of the winner, joined."""
    metric, seen = words.spec_of(history).metric, []
    for number, trial in enumerate(members):
        for after, until in spans(trial):
            drawn = points(history, Segment(trial.trial, after, until, {}, after), metric)
            seen += [value for _, value in drawn]
            if drawn:
                label = "members" if number == after == 0 else None
                axes.plot(*zip(*drawn, strict=True), "-", color=MEMBER, lw=1.2, label=label, marker=".", ms=4)
    joined = [point for segment in line for point in points(history, segment, metric)]
    if joined:
        label = f"lineage of {winner.trial}"
        axes.plot(*zip(*joined, strict=True), "-", color=LINEAGE, lw=2.2, label=label, zorder=3)
    handed = [points(history, segment, metric)[-1] for segment in line[:-1] if points(history, segment, metric)]
    if handed:
        axes.plot(*zip(*handed, strict=True), "o", color=LINEAGE, ms=6, zorder=4, label="taken over by the next")
    log_if_wide(axes, seen)
    whole_epochs(axes)
    axes.set_ylabel(metric)
    exploits = sum(not exploit.cause for trial in members for exploit in trial.exploits)
    axes.set_title(f"{words.count(len(members), 'member')}, {words.count(exploits, 'exploit')}")


def draw_schedule(axes: Axes, history: History, members: list[TrialHistory], line: list[Segment], name: str) -> None:
    """A parameter's value along the winner's lineage, over those of all members."""
    domain = words.spec_of(history).space[name]
    curves = [[(epoch.epoch, trial.config_at(epoch.epoch).get(name)) for epoch in trial.epochs] for trial in members]
    own = [
        (epoch, segment.config.get(name)) for segment in line for epoch in range(segment.after + 1, segment.until + 1)
    ]
    values = [value for curve in [*curves, own] for _, value in curve if value is not None]
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    order: list[Any] = [] if numbers else sorted(set(map(str, values)))
    for curve, colour, width in [*((curve, MEMBER, 1.2) for curve in curves), (own, LINEAGE, 2.2)]:
        drawn = [(epoch, v if numbers else order.index(str(v))) for epoch, v in curve if v is not None]
        if drawn:
            axes.plot(*zip(*drawn, strict=True), drawstyle="steps-mid", color=colour, lw=width)
    if not numbers:
        axes.set_yticks(range(len(order)), order)
    elif isinstance(domain, Float) and domain.scale == "log":
        # Zero, which such a domain may have besides, stands below its start.
        axes.set_yscale("symlog", linthresh=domain.range[0]) if min(values) <= 0 else axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    whole_epochs(axes)
    axes.set_ylabel(name)
