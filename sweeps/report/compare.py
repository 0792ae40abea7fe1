"""Sweeps side by side: what each searched, what it cost and what came of it, each from its journal alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sweeps.history import History
from sweeps.insight.curves import best_trial
from sweeps.report import words
from sweeps.report.outcome import cost, outcome
from sweeps.report.summary import WIDTH
from sweeps.spec import name_of, phase_name

LABEL = 18
"""Width of the first column."""

Rows = dict[str, list[str]]
"""Label -> a cell for each sweep."""


def compare(histories: Sequence[History]) -> str:
    """A column for each sweep. Of the parameters and the best configs only those rows that differ."""
    specs = [words.spec_of(history) for history in histories]
    lines = table({"": [history.name for history in histories], **facts(histories)})
    if len({(spec.metric, spec.mode) for spec in specs}) > 1:
        lines.append("The metrics differ: the values are not to be compared.")
    parts = {
        "Space": [{name: str(domain) for name, domain in spec.space.root.items()} for spec in specs],
        "Best config": [best_config(history) for history in histories],
    }
    for title, columns in parts.items():
        rows = differing(columns)
        lines += ["", title if rows else f"{title}: the same", *table(rows, "  ")]
    return "\n".join(lines)


def facts(histories: Sequence[History]) -> Rows:
    """What each sweep was, cost and showed."""
    found: Rows = {}
    for history in histories:
        spec, spent, result, best = words.spec_of(history), cost(history), outcome(history), best_trial(history)
        value = best.best(spec.metric, spec.mode) if best else None
        git = history.header.get("git") or {}
        commit = str(git.get("commit") or "")[:10] + (" and changes" if git.get("dirty") else "")
        column = {
            "status": history.status,
            "trainable": name_of(spec.trainable),
            "commit": commit or "–",
            "seed": str(spec.seed),
            "phases": ", ".join(phase_name(phase) for phase in spec.phases),
            "trials, epochs": f"{spent.trials}, {spent.epochs}",
            "wall time": words.duration(spent.time.get("wall_s")),
            "GPU-hours": f"{history.gpu_hours:.3g}",
            "metric": f"{spec.metric} ({spec.mode})",
            "verdict": result.verdict if result else "–",
            "baseline": result.baseline.spread if result and result.baseline else "–",
            "best": result.winner.spread if result else words.number(value[1] if value else None),
            "best trial": best.trial if best else "–",
        }
        for label, cell in column.items():
            found.setdefault(label, []).append(cell)
    return found


def best_config(history: History) -> dict[str, str]:
    """The config of the best trial; empty while there is none."""
    best = best_trial(history)
    return {name: words.number(value) for name, value in best.config.items()} if best else {}


def differing(columns: Sequence[Mapping[str, str]]) -> Rows:
    """The rows in which not all columns are the same; a dash where one has no such row."""
    names = dict.fromkeys(name for column in columns for name in column)
    rows = {name: [column.get(name, "–") for column in columns] for name in names}
    return {name: cells for name, cells in rows.items() if len(set(cells)) > 1}


def table(rows: Rows, indent: str = "") -> list[str]:
    """The rows with aligned columns, within the terminal's width."""
    if not rows:
        return []
    count = len(next(iter(rows.values())))
    room = (WIDTH - LABEL) // count - 2
    widths = [min(max(len(cells[n]) for cells in rows.values()), room) for n in range(count)]
    return [
        f"{words.clip(indent + label, LABEL):<{LABEL}}"
        + "  ".join(f"{words.clip(words.plain(c), w):<{w}}" for c, w in zip(cells, widths, strict=True)).rstrip()
        for label, cells in rows.items()
    ]
