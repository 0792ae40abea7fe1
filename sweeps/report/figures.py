"""The sweep's figures, drawn from History alone: learning curves, progress against cost, parameters, confirm.

Each function returns None when there is nothing to draw. The report embeds the files that `write` leaves, so that
the picture in the page, in the folder and in MLflow is the same one.
"""

from __future__ import annotations

import itertools
import math
import warnings
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from sweeps.history import History, TrialHistory
from sweeps.insight.curves import best_so_far, last_search, seen, top
from sweeps.report import words
from sweeps.report.mistakes import calibration
from sweeps.report.outcome import Arm, outcome
from sweeps.report.parameters import parameters
from sweeps.report.population import population
from sweeps.report.style import (
    BASELINE_COLOURS,
    DPI,
    MARKERS,
    STYLE,
    TRIAL_COLOURS,
    log_if_wide,
    phase_colours,
    phase_fidelity,
    styled,
    whole_epochs,
)

__all__ = ["calibration", "confirm", "curves", "lr_range", "parameters", "population", "progress", "write"]


@styled
def curves(history: History) -> Figure | None:
    """Loss and metric of the best trials and the baseline over the epochs: train dashed, validation solid."""
    trials = drawn_trials(history)
    if not trials:
        return None
    panels = curve_panels(words.spec_of(history).metric, trials)
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    for axes, (title, solid, dashed) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        seen: list[float] = []
        for trial, colour in zip(trials, trial_colours(trials), strict=True):
            for metric, line, label in ((solid, "-", trial_label(history, trial)), (dashed, "--", None)):
                points = [(e, v) for e, v in trial.curve(metric) if math.isfinite(v)]
                seen += [v for _, v in points]
                dot = "o" if len(points) == 1 else None  # a line of one point is invisible
                if points:
                    axes.plot(*zip(*points, strict=True), line, color=colour, label=label, lw=1.6, marker=dot)
        axes.set_title(title)
        log_if_wide(axes, seen)
        whole_epochs(axes)
    handles, labels = figure.axes[-1].get_legend_handles_labels()
    styles = [figure.axes[0].plot([], [], line, color="#555555")[0] for line in ("-", "--")]
    figure.legend([*styles, *handles], ["validation", "train", *labels], loc="outside lower center", ncols=4)
    fidelity = trials[0].fidelity
    figure.suptitle(f"Learning curves, {words.data(fidelity)}", fontsize=11)
    return figure


def trial_colours(trials: list[TrialHistory]) -> list[str]:
    """A colour for each trial, greys for the baseline's."""
    greys, colours = itertools.cycle(BASELINE_COLOURS), itertools.cycle(TRIAL_COLOURS)
    return [next(greys if trial.role == "baseline" else colours) for trial in trials]


def drawn_trials(history: History) -> list[TrialHistory]:
    """The trials on the learning curves: the best ones and the baseline, all of the first one's fidelity."""
    limit = len(TRIAL_COLOURS)
    trials = top(history, limit)
    phase = last_search(history)
    if not history.verdict and phase is not None:
        baseline = [trial for trial in history.of_phase(phase) if trial.role == "baseline" and trial.epochs]
        trials = [*[t for t in trials if t not in baseline][: limit - len(baseline)], *baseline]

    def fidelity(trial: TrialHistory) -> tuple[Any, Any]:
        return trial.fidelity["epochs"], seen(trial)

    return [trial for trial in trials if fidelity(trial) == fidelity(trials[0])]


def curve_panels(metric: str, trials: list[TrialHistory]) -> list[tuple[str, str, str]]:
    """(title, solid metric, dashed metric): the loss and the sweep's metric; if that is the loss, another one."""
    reported = sorted({name for trial in trials for epoch in trial.epochs for name in epoch.metrics})
    own = metric.removeprefix("val/").removeprefix("train/")
    others = [name.removeprefix("val/") for name in reported if name.startswith("val/")]
    others.sort(key=lambda name: f"train/{name}" not in reported)  # both lines say more than one
    panels = []
    for name in list(dict.fromkeys(["loss", own, *others])):
        solid = metric if name == own and metric != f"train/{own}" else f"val/{name}"
        if solid in reported or f"train/{name}" in reported:
            panels.append((name, solid, f"train/{name}"))
    return panels[:2]


def trial_label(history: History, trial: TrialHistory) -> str:
    """The trial's id, with what it is: the baseline, or one that is trained again, and under which seed."""
    if not history.phases[trial.phase].searches:
        return f"{trial.trial} ({trial.role}, seed {trial.fidelity['seed']})"
    return f"{trial.trial} (baseline)" if trial.role == "baseline" else trial.trial


@styled
def progress(history: History) -> Figure | None:
    """Best value so far against the training seconds that the sweep had spent, one line a phase."""
    lines = best_so_far(history)
    if not lines:
        return None
    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = figure.subplots()
    colours = phase_colours(history)
    for phase, line in lines.items():
        label, kind = phase_fidelity(history, phase), history.phases[phase].kind
        label += "" if history.phases[phase].searches else " (best single seed)"
        axes.step(*zip(*line, strict=True), where="post", color=colours[phase], label=label, lw=1.8)
        improved = [point for i, point in enumerate(line) if not i or point[1] != line[i - 1][1]]
        axes.plot(*zip(*improved, strict=True), MARKERS.get(kind, "o"), color=colours[phase], ms=5)
    log_if_wide(axes, [value for line in lines.values() for _, value in line])
    axes.set_xlim(left=0)
    axes.set_xlabel("training seconds spent by the sweep, all slots together")
    axes.set_ylabel(f"best {words.spec_of(history).metric} of the phase")
    axes.set_title("Best so far against cost")
    figure.legend(loc="outside lower center", ncols=3)
    return figure


@styled
def confirm(history: History) -> Figure | None:
    """Each arm's value per seed, equal seeds joined by a line, and mean ± standard deviation beside them."""
    result = outcome(history)
    if result is None:
        return None
    arms = sorted(result.arms, key=lambda arm: arm.name != "baseline")  # the baseline first, then best mean first
    figure = Figure(figsize=(max(5.0, 2.2 * len(arms) + 1.5), 4.2), layout="constrained")
    axes = figure.subplots()
    for seed in sorted({seed for arm in arms for seed in arm.seeds}):
        line = [(x, value) for x, arm in enumerate(arms) if (value := value_of(arm, seed)) is not None]
        if line:
            axes.plot(*zip(*line, strict=True), "-", color="#BBBBBB", lw=1, zorder=1, label=f"seed {seed}")
    for x, arm in enumerate(arms):
        colour = BASELINE_COLOURS[1] if arm.name == "baseline" else TRIAL_COLOURS[0 if arm is result.winner else 1]
        values = [value for value in arm.values if math.isfinite(value)]
        axes.plot([x] * len(values), values, "o", color=colour, ms=6, alpha=0.85)
        if math.isfinite(arm.mean):
            deviation = arm.sd if math.isfinite(arm.sd) else 0.0
            axes.errorbar([x + 0.15], [arm.mean], yerr=[deviation], fmt="s", color=colour, ms=5, capsize=5, lw=1.6)
    names = [f"{arm.name}{' (winner)' if arm is result.winner else ''}\n{arm.spread}" for arm in arms]
    axes.set_xticks(range(len(arms)), names)
    axes.set_xlim(-0.5, len(arms) - 0.5)
    axes.grid(visible=False, axis="x")
    axes.set_ylabel(words.spec_of(history).metric)
    axes.set_title(f"{words.count(len(result.winner.seeds), 'seed')}; lines join equal seeds, squares: mean ± s.d.")
    return figure


def value_of(arm: Arm, seed: int) -> float | None:
    """The arm's finite value under a seed."""
    found = [v for s, v in zip(arm.seeds, arm.values, strict=True) if s == seed and math.isfinite(v)]
    return found[0] if found else None


@styled
def lr_range(history: History) -> Figure | None:
    """The range tests of preflight: the smoothed loss against the learning rate, and the range found, by optimizer."""
    tests = [f["evidence"] for f in history.findings if f["finding"] == "lr_range" and f["evidence"].get("rates")]
    tests = list({test["optimizer"]: test for test in tests}.values())
    if not tests:
        return None
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    axes = figure.subplots()
    for test, colour in zip(tests, TRIAL_COLOURS, strict=False):
        smoothed = [float(value) for value in test["smoothed"]]
        label = str(test["optimizer"] or "baseline")
        if test["low"] is not None:
            axes.axvspan(test["low"], test["high"], color=colour, alpha=0.15, lw=0)
            label += f": {test['low']:.2g} … {test['high']:.2g}"
        axes.plot(test["rates"], smoothed, color=colour, lw=1.8, label=label)
    first = max(float(test["smoothed"][0]) for test in tests)
    axes.set_ylim(bottom=0 if first > 0 else None, top=1.5 * first if first > 0 else None)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("learning rate")
    axes.set_ylabel("training loss, smoothed")
    axes.set_title("Learning-rate range test of the baseline")
    figure.legend(loc="outside lower center", ncols=3)
    return figure


FIGURES = {
    "lr_range": lr_range, "curves": curves, "progress": progress, "parameters": parameters, "population": population,
    "confirm": confirm, "calibration": calibration,
}  # fmt: skip


def write(history: History, folder: Path) -> list[Path]:
    """Draw every figure that there is something for, to `<folder>/figures/<name>.png`; their paths."""
    directory = folder / "figures"
    paths = []
    for name, draw in FIGURES.items():
        figure = draw(history)
        if figure is None:
            continue
        directory.mkdir(parents=True, exist_ok=True)
        paths.append(directory / f"{name}.png")
        with rc_context(STYLE), warnings.catch_warnings():
            # A choice may be written in a script that the font lacks: a box in the figure, no noise in the terminal.
            warnings.filterwarnings("ignore", message="Glyph .* missing from")
            figure.savefig(paths[-1], dpi=DPI)
    return paths
