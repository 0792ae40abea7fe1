"""The one live view of a running sweep: a table that redraws itself on a terminal, plain lines everywhere else.

The driver spends seconds inside Tune between two journal lines, and a view that only moves when the driver calls it
looks hung just when one wonders whether it is. So a daemon thread draws: it copies what it shows under the lock that
the driver writes under, lets go, and only then formats and prints, so that a slow terminal never holds up a trial.
A view is never worth a sweep: when the output is gone it falls silent.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Set
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console, Group
from rich.live import Live as RichLive
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sweeps.history import History, TrialHistory
from sweeps.insight.curves import leader, usable
from sweeps.report import words

BARS = "▁▂▃▄▅▆▇█"
MOST_ROWS = 12
"""Running trials shown on a terminal; more would push the rest off the screen."""


@dataclass(frozen=True)
class Running:
    """A trial at work."""

    trial: str
    epoch: int
    epochs: int
    values: tuple[float, ...]
    """The metric after each epoch."""


@dataclass(frozen=True)
class View:
    """What is shown, copied from the history."""

    sweep: str
    metric: str
    elapsed: float
    phase: str
    done: int
    planned: int
    lost: int
    """Of the done ones, those that failed or were infeasible."""
    best: str
    running: tuple[Running, ...]
    ended: tuple[tuple[str, str], ...]
    """For each newly ended trial its id with the attempt, and the line that tells of it."""


class Live(AbstractContextManager["Live"]):
    """The live view; draws from entering to leaving. `lock` is the one under which the history is changed."""

    def __init__(
        self,
        history: History,
        out: TextIO,
        lock: AbstractContextManager[object],
        *,
        refresh_s: float = 0.5,
        every_s: float = 5.0,
    ) -> None:
        """`refresh_s` between two looks at the history; without a terminal a progress line each `every_s`."""
        self.history, self.out, self.lock = history, out, lock
        self.refresh_s, self.every_s = refresh_s, every_s
        self._told = {key for key, _ in look(history).ended}  # of an earlier driver
        self._last_line = -math.inf
        self._stop = threading.Event()
        self._printing = threading.RLock()
        self._thread = threading.Thread(target=self._run, name="live view", daemon=True)
        self._gone = False
        self._rich: RichLive | None = None
        if out.isatty() and os.environ.get("TERM", "dumb") not in ("", "dumb"):
            console = Console(file=out, force_terminal=True, highlight=False, markup=False)
            self._rich = RichLive(console=console, auto_refresh=False)

    def __enter__(self) -> Self:
        if self._rich:
            self._rich.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self.update()  # what came in since the thread's last look
        if self._rich:
            self._guarded(self._rich.stop)

    def _run(self) -> None:
        while not self._stop.wait(self.refresh_s):
            self.update()

    def update(self) -> None:
        """Show the history as it is now. The thread calls this; anyone else may."""
        with self.lock:
            view = look(self.history, self._told)
        with self._printing:
            self._told.update(key for key, _ in view.ended)
            rich = self._rich
            if rich:
                self._guarded(lambda: rich.update(panel(view), refresh=True))
                return
            for _, line in view.ended:
                self._line(view.elapsed, line)
            if time.monotonic() - self._last_line >= self.every_s:
                self._last_line = time.monotonic()
                self._line(view.elapsed, progress_line(view))

    def note(self, text: str) -> None:
        """Print something beside the view, line by line."""
        with self._printing:
            for line in text.splitlines():
                self._print(words.keep_spaces(line))

    def _line(self, elapsed: float, text: str) -> None:
        self._print(f"[{elapsed:4.0f} s] {words.plain(text)}")

    def _print(self, line: str) -> None:
        if self._rich:
            console = self._rich.console
            self._guarded(lambda: console.print(line, markup=False, highlight=False, soft_wrap=True))
            return
        encoding = getattr(self.out, "encoding", None) or "utf-8"
        known = line.encode(encoding, "replace").decode(encoding)  # a log in ASCII gets question marks, no exception
        self._guarded(lambda: print(known, file=self.out, flush=True))

    def _guarded(self, show: Callable[[], object]) -> None:
        if self._gone:
            return
        try:
            show()
        except (OSError, ValueError):  # the pipe's reader left, or the file was closed
            self._gone = True


def look(history: History, told: Set[str] = frozenset()) -> View:
    """Copy out of the history what the view shows: the newest phase, and the trials that ended and are not `told`."""
    spec, now = history.spec, time.time()
    elapsed = now - history.header.get("began", now)
    if spec is None or not history.phases:
        return View(history.name, "", elapsed, "", 0, 0, 0, "", (), ())
    phase = list(history.phases.values())[-1]
    trials = history.of_phase(phase.phase)
    running = tuple(
        Running(
            trial.trial,
            trial.epochs[-1].epoch if trial.epochs else 0,
            trial.fidelity["epochs"],
            tuple(value for _, value in trial.curve(spec.metric)),
        )
        for trial in trials
        if trial.status == "RUNNING"
    )
    best = leader(trials, spec.metric, spec.mode)
    told_best = f"best {spec.metric} {words.number(best.value)} ({best.trial.trial})" if best else ""
    ended = tuple(
        (key, ended_line(trial, history))
        for trial in history.trials.values()
        if trial.status != "RUNNING" and (key := f"{trial.trial} {trial.attempt}") not in told
    )
    lost = len(trials) - len(usable(trials))
    done = len(trials) - len(running)
    return View(
        history.name, spec.metric, elapsed, phase.phase, done, phase.trials, lost, told_best, running, ended
    )  # fmt: skip


def ended_line(trial: TrialHistory, history: History) -> str:
    """`explore-003 finished after 3 epochs: val/accuracy 0.941 (all epochs)`."""
    curve = trial.curve(history.spec.metric) if history.spec else []
    value = f": {history.spec.metric} {words.number(curve[-1][1])}" if history.spec and curve else ""
    return (
        f"{trial.trial} {trial.status.lower()} after {words.count(len(trial.epochs), 'epoch')}{value} ({trial.reason})"
    )


def progress_line(view: View) -> str:
    """`explore 7/24 · best val/accuracy 0.941 (explore-003) · running explore-007 epoch 2/3`."""
    if not view.phase:
        return "starting"
    running = ", ".join(f"{t.trial} epoch {t.epoch}/{t.epochs}" for t in view.running[:4])
    more = f" and {len(view.running) - 4} more" if len(view.running) > 4 else ""
    lost = f"{view.lost} failed or infeasible" if view.lost else ""
    running = f"running {running}{more}" if running else ""
    head = f"{view.phase} {view.done}/{view.planned}" if view.planned else view.phase
    parts = (head, lost, view.best, running)
    return " · ".join(part for part in parts if part)


def sparkline(values: tuple[float, ...], width: int = 16) -> str:
    """The newest finite values as a row of bars from their lowest to their highest."""
    finite = [value for value in values if math.isfinite(value)][-width:]
    if not finite:
        return ""
    low, high = min(finite), max(finite)
    return "".join(BARS[round((v - low) / (high - low) * 7) if high > low else 3] for v in finite)


def panel(view: View) -> Group:
    """The view as the terminal shows it."""
    head = Text(f"{view.sweep}  {words.duration(view.elapsed)}", style="bold")
    if not view.phase:
        return Group(head, Text("starting"))
    bar = Table.grid(padding=(0, 1))
    bar.add_row(
        Text(view.phase, style="cyan"),
        ProgressBar(total=max(view.planned, 1), completed=view.done, width=30),
        Text(f"{view.done}/{view.planned}"),
        Text(f"{view.lost} failed or infeasible" if view.lost else "", style="red"),
        Text(view.best),
    )
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("running", "epoch", view.metric, ""):
        table.add_column(Text(column), no_wrap=True)
    for trial in view.running[:MOST_ROWS]:
        last = words.number(trial.values[-1]) if trial.values else ""
        table.add_row(
            Text(trial.trial), Text(f"{trial.epoch}/{trial.epochs}"), Text(last), Text(sparkline(trial.values))
        )
    if len(view.running) > MOST_ROWS:
        table.add_row(Text(f"and {len(view.running) - MOST_ROWS} more"))
    return Group(head, bar, *([table] if view.running else []))
