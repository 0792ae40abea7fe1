"""What the terminal says of a sweep: the answer at the end of a run, and where a sweep stands in between.

Plain text, no colours and no control codes: it is read in logs and pasted into mails as often as on a screen.
"""

from __future__ import annotations

import math
import shlex
import textwrap
from collections.abc import Sequence

from sweeps.history import LIVE, History
from sweeps.insight.curves import leader
from sweeps.report import words
from sweeps.report.outcome import Arm, cost, moved, outcome
from sweeps.retention import kept

WIDTH = 100
MOST = 7
"""Lines at most of one kind: the rest stands in the report."""
WITHOUT_TRIALS = ("audit", "preflight")
"""Kinds of phases that look at something before any trial."""


def summary(history: History, *, report: str, open_command: str, pages: Sequence[str] = ()) -> str:
    """The answer of a sweep in at most about 30 lines: verdict, values, ranges, cost, and where to read on.

    `pages` tell what to open once MLflow is.
    """
    result = outcome(history)
    lines: list[str] = []
    if result:
        lines += wrapped(result.text, "")
        shown = [result.contender, *([result.baseline] if result.baseline else [])]
        lines += ["", *(line for arm in dict.fromkeys(a.name for a in shown) for line in _arm(by_name(shown, arm)))]
        if result.interval:
            lines += wrapped(f"better by   {result.interval}", "  ")
        tested = "; ".join(f"{arm.name} {arm.test_words}" for arm in shown if arm.test)
        lines += wrapped(f"test split  {result.test_note}{f': {tested}' if tested else ''}", "  ")
    else:
        lines += wrapped(f"{history.name} has no verdict: {_why_ended(history)}", "")
        lines += [f"  {line}" for name in history.phases if (line := _best(history, name))]
    told = [found for found in history.findings if found["severity"] != "info" or found["finding"] == "replayed"]
    for finding in told[:MOST]:
        lines += wrapped(f"Note    {finding['message']}", "")
    changes = moved(history)
    lines += ["", "Ranges" if changes else "Ranges: none was moved"]
    for phase, change in changes[:MOST]:
        what = f"{change.parameter}: {change.before} -> {change.after} for {phase}"
        lines += wrapped(f"{what} ({words.plain(change.why)})", "  ")
    if len(changes) > MOST:
        lines.append(f"  and {len(changes) - MOST} more, in the report")
    spent = cost(history)
    failed = spent.statuses.get("FAILED", 0) + spent.statuses.get("INFEASIBLE", 0)
    text = f"{words.count(spent.trials, 'trial')} ({failed} failed or infeasible), {words.count(spent.epochs, 'epoch')}"
    if spent.time:
        text += f", {words.duration(spent.time['wall_s'])}: {spent.split}; {spent.time['gpu_hours']:.3g} GPU-hours"
    lines += ["", *wrapped(f"Cost    {text}", ""), f"Report  {report}", f"MLflow  {open_command}"]
    lines += [f"        {line}" for line in pages]
    if history.status not in ("FINISHED", "RUNNING"):
        lines.append(f"Go on   sweeps resume {shlex.quote(str(history.folder))}")
    return "\n".join(lines)


def status(history: History) -> str:
    """Where a sweep stands, from its journal: progress and best of each phase, what runs, what failed, the end."""
    metric = words.spec_of(history).metric
    lines = [f"{history.name}: {history.status}"]
    for name, phase in history.phases.items():
        if phase.kind in WITHOUT_TRIALS:
            lines.append(cut(f"  {name:<10} {phase.status.lower()} {first_line(phase.reason)}"))
    for name, planned in planned_trials(history).items():
        trials = history.of_phase(name)
        done = sum(trial.status not in LIVE for trial in trials)
        state = "" if name in history.phases else "  not begun"
        lines.append(cut(f"  {name:<10} {done}/{planned} done{state}"))
        if best := _best(history, name):
            lines.append(cut(f"  {'':<10} {best.removeprefix(name).strip()}"))
    running = [trial for trial in history.trials.values() if trial.status == "RUNNING"]
    for trial in running[:MOST]:
        curve = trial.curve(metric)
        last = f", {metric} {words.number(curve[-1][1])}" if curve else ""
        epoch = trial.epochs[-1].epoch if trial.epochs else 0
        lines.append(cut(f"  running    {trial.trial} epoch {epoch}/{trial.fidelity['epochs']}{last}"))
    if len(running) > MOST:
        lines.append(f"  running    {len(running) - MOST} more")
    count, size = kept(history.folder)
    lines.append(f"  disk       {words.count(count, 'checkpoint')}, {size:,} bytes")
    failures = [(trial, line) for trial in history.trials.values() for line in trial.failures]
    for trial, line in failures[-MOST:]:
        text = f"{trial.trial} attempt {line['attempt']}: {line['error']}: {words.plain(line['message'])}"
        lines += wrapped(f"failed     {text} (log: {line.get('log') or 'none'})", "  ")
    if len(failures) > MOST:
        lines.append(f"  failed     {len(failures) - MOST} earlier ones, in the report")
    if history.verdict:
        lines += wrapped(history.verdict["text"], "  ")
    if history.end:
        lines.append(cut(f"  ended      {words.moment(history.end['at'])}: {first_line(history.end['reason'])}"))
    return "\n".join(lines)


def planned_trials(history: History) -> dict[str, int]:
    """Trials of each phase, from the newest plan and from the phases that began."""
    planned = {p["phase"]: p["trials"] for p in (history.plans[-1]["phases"] if history.plans else [])}
    return planned | {name: phase.trials for name, phase in history.phases.items() if phase.kind not in WITHOUT_TRIALS}


def wrapped(text: str, indent: str) -> list[str]:
    """The text on lines of the terminal's width, without control codes."""
    return textwrap.wrap(
        words.keep_spaces(text), WIDTH, initial_indent=indent, subsequent_indent=f"{indent}  ", break_on_hyphens=False
    )


def cut(line: str) -> str:
    """The line without control codes, ended by an ellipsis where it is too wide."""
    return words.clip(words.keep_spaces(line), WIDTH)


def first_line(text: str) -> str:
    """A reason without the traceback that may follow it."""
    return words.plain(text.strip().partition("\n")[0])


def by_name(arms: list[Arm], name: str) -> Arm:
    """The arm of that name."""
    return next(arm for arm in arms if arm.name == name)


def _arm(arm: Arm) -> list[str]:
    values = ", ".join(words.number(v) if math.isfinite(v) else "none" for v in arm.values)
    lost = f"; infeasible at {words.count(len(arm.infeasible), 'seed')}" if arm.infeasible else ""
    lines = wrapped(f"{arm.name:<10}  {arm.spread}  over {words.count(len(arm.seeds), 'seed')}: {values}{lost}", "  ")
    if arm.name != "baseline":
        lines += wrapped(words.config_words(arm.config), "              ")
    if arm.configs:
        changes = words.count(len(arm.configs) - 1, "change")
        lines += wrapped(f"its config has {changes} on the way, these are the last values", "              ")
    return lines


def _best(history: History, phase: str) -> str:
    """`explore  best val/accuracy 0.95 (explore-003, epoch 3 of 3, 50 % of the data)`; empty without a value."""
    spec = words.spec_of(history)
    best = leader(history.of_phase(phase), spec.metric, spec.mode)
    if best is None:
        return ""
    fidelity = best.trial.fidelity
    return (
        f"{phase}  best {spec.metric} {words.number(best.value)} ({best.trial.trial}, epoch {best.epoch} of "
        f"{fidelity['epochs']}, {words.data(fidelity)})"
    )


def _why_ended(history: History) -> str:
    if history.end is None:
        return "its journal has no end, so it is still running or was killed."
    return f"{history.end['status']}, {first_line(history.end['reason'])}"
