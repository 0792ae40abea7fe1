"""The live view: plain lines without a terminal, a redrawn table with one."""

from __future__ import annotations

import io
import re
import threading
import time
from pathlib import Path

import pytest

from recorded import record
from sweeps.history import History
from sweeps.journal import read
from sweeps.report.live import Live, ended_line, look, panel, progress_line, sparkline

LOCK = threading.RLock()


class Terminal(io.StringIO):
    """An output that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def wait_for(condition, seconds: float = 20.0) -> None:
    """Until the condition holds; fails after a generous limit."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "the condition never held"
        time.sleep(0.01)


@pytest.fixture
def lines(tmp_path: Path) -> list[dict]:
    return read(record(tmp_path / "recorded"))


@pytest.fixture
def half(tmp_path: Path, lines) -> History:
    """The sweep in the middle of its seventh trial."""
    history = History(tmp_path / "recorded")
    until = next(i for i, line in enumerate(lines) if line["kind"] == "report" and line["trial"] == "explore-007")
    history.extend(lines[: until + 1])
    return history


def test_progress_line_says_where_the_phase_stands(half):
    view = look(half)
    best = max(t.curve("val/accuracy")[-1] for t in half.trials.values() if t.status == "FINISHED")
    assert (view.done, view.planned, view.lost) == (7, 12, 2)
    assert progress_line(view).startswith("explore 7/12 · 2 failed or infeasible · best val/accuracy 0.9")
    assert progress_line(view).endswith(f"({view.best.split('(')[1]} · running explore-007 epoch 1/3")
    assert f"{best[1]:.4g}" in progress_line(view)
    assert view.elapsed > 7  # recorded as begun 8 s before its first line


def test_before_the_first_phase_it_is_starting(tmp_path, lines):
    history = History(tmp_path / "recorded")
    assert progress_line(look(history)) == "starting"
    history.apply(lines[0])
    assert progress_line(look(history)) == "starting"
    assert panel(look(history)).renderables[1].plain == "starting"


def test_plain_output_has_a_line_for_each_ended_trial_and_a_last_look(tmp_path, lines):
    history, out = History(tmp_path / "recorded"), io.StringIO()
    with Live(history, out, LOCK, refresh_s=600):  # the thread never looks: leaving must
        history.extend(lines)
    text = out.getvalue()
    for trial in history.trials.values():
        assert len(re.findall(rf"^\[ *\d+ s\] {trial.trial} {trial.status.lower()} after", text, re.M)) == 1
    assert "explore-003 infeasible after 2 epochs" in text
    assert "RuntimeError: bad batch" in text


def test_progress_lines_come_while_nothing_changes_and_the_driver_is_busy(half):
    out = io.StringIO()
    with Live(half, out, LOCK, refresh_s=0.01, every_s=0.05):
        wait_for(lambda: out.getvalue().count("explore 7/12") >= 3)
    assert "\x1b" not in out.getvalue()


def test_trials_that_ended_under_an_earlier_driver_are_not_told_again(half):
    out = io.StringIO()
    view = Live(half, out, LOCK)
    view.update()
    assert "explore-000 finished" not in out.getvalue()


def test_it_waits_for_the_drivers_lock(half):
    out = io.StringIO()
    view = Live(half, out, lock := threading.RLock(), refresh_s=0.01, every_s=0.01)
    with view:
        with lock:
            time.sleep(0.05)  # a look that began before the lock was taken may still print
            before = out.getvalue()
            threading.Event().wait(0.2)
            assert out.getvalue() == before
        wait_for(lambda: out.getvalue() != before)


def test_plain_output_never_holds_control_codes(half):
    out = io.StringIO()
    trial = half.trials["explore-007"]
    view = Live(half, out, LOCK)
    trial.status, trial.reason = "FAILED", "\x1b[31mred\x07\r\nsecond line"
    view.update()
    view.note("plan\n  \x1b[2Jexplore\t12")
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", out.getvalue())
    assert "explore-007 failed after 1 epoch: val/accuracy" in out.getvalue()
    assert "plan\n   [2Jexplore 12\n" in out.getvalue()


def test_an_ascii_log_gets_question_marks_not_an_exception(half):
    raw = io.BytesIO()
    view = Live(half, io.TextIOWrapper(raw, encoding="ascii", write_through=True), LOCK)
    view.update()
    assert b"explore 7/12 ? " in raw.getvalue()


def test_a_closed_output_does_not_stop_the_sweep(half):
    out = io.StringIO()
    with Live(half, out, LOCK) as view:
        out.close()
        view.update()
        view.note("still here")


def test_a_terminal_gets_one_redrawn_table(half, monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    out = Terminal()
    with Live(half, out, LOCK, refresh_s=0.01) as view:
        wait_for(lambda: out.getvalue().count("explore-007") >= 2)
        view.note("a [note] beside it")
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())
    assert "\x1b[" in out.getvalue()
    assert "7/12" in text
    assert "explore-007  1/3" in text
    assert "a [note] beside it" in text


def test_a_dumb_terminal_gets_plain_lines(half, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    out = Terminal()
    with Live(half, out, LOCK):
        pass
    assert "\x1b" not in out.getvalue()
    assert "explore 7/12" in out.getvalue()


def test_sparkline_runs_from_lowest_to_highest():
    assert sparkline((0.0, 0.5, 1.0)) == "▁▅█"
    assert sparkline((1.0, float("nan"), 1.0)) == "▄▄"
    assert sparkline(()) == ""
    assert len(sparkline(tuple(map(float, range(40))))) == 16


def test_ended_line_has_the_last_value_and_the_reason(half):
    trial = half.trials["explore-006"]
    value = f"{trial.curve('val/accuracy')[-1][1]:.4g}"
    assert ended_line(trial, half) == f"explore-006 finished after 1 epoch: val/accuracy {value} (stopped at rung 1)"
