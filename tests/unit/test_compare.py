"""Sweeps side by side, from their journals alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from recorded import SPEC, record
from sweeps.cli import main
from sweeps.history import History
from sweeps.journal import Journal, read
from sweeps.report.compare import compare
from sweeps.report.summary import WIDTH
from sweeps.spec import SweepSpec


@pytest.fixture
def first(tmp_path: Path) -> History:
    return History.open(record(tmp_path / "first"))


def another(folder: Path, **changed: object) -> History:
    """A sweep of another spec, that has just begun."""
    spec = SweepSpec.model_validate({**SPEC.document(), **changed})
    folder.mkdir()
    (begun,) = [line for line in read(record(folder.parent / "pattern")) if line["kind"] == "sweep"]
    given = {name: value for name, value in begun.items() if name not in ("kind", "at", "sweep")}
    journal = Journal(folder)
    journal.append("sweep", **{**given, "name": folder.name, "spec": spec.document(), "spec_digest": spec.digest})
    journal.close()
    return History.open(folder)


def rows(text: str) -> dict[str, list[str]]:
    """The cells by their label; columns are at least two spaces apart."""
    found = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split("  ") if cell.strip()]
        if cells:
            found[cells[0]] = cells[1:]
    return found


def test_a_sweep_beside_itself_differs_in_nothing(first: History) -> None:
    text = compare([first, first])
    shown = rows(text)
    assert first.verdict is not None
    assert shown["verdict"] == [first.verdict["verdict"]] * 2
    assert shown["best trial"] == [first.verdict["best_trial"]] * 2
    assert shown["trials, epochs"][0] == f"{len(first.trials)}, {sum(len(t.epochs) for t in first.trials.values())}"
    assert "Space: the same" in text
    assert "Best config: the same" in text


def test_what_differs_is_shown_and_nothing_else(first: History, tmp_path: Path) -> None:
    other = another(tmp_path / "other", space={**SPEC.document()["space"], "lr": {"log": [1e-3, 1.0]}}, seed=7)
    text = compare([first, other])
    shown = rows(text)
    space = text[text.index("Space") : text.index("Best config")]
    assert rows(space)["lr"] == [str(first.spec.space["lr"]), str(other.spec.space["lr"])]
    assert "dropout" not in space
    assert shown["seed"] == ["0", "7"]
    assert shown["verdict"][1] == "–"
    assert "not to be compared" not in text


def test_values_of_other_metrics_are_not_compared(first: History, tmp_path: Path) -> None:
    other = another(tmp_path / "other", metric="val/loss", mode="min")
    assert "The metrics differ: the values are not to be compared." in compare([first, other])


def test_four_sweeps_fit_the_terminal(first: History) -> None:
    assert max(len(line) for line in compare([first] * 4).splitlines()) <= WIDTH


def test_the_command(first: History) -> None:
    done = CliRunner().invoke(main, ["compare", str(first.folder), str(first.folder)])
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[0].split() == ["first", "first"]
    alone = CliRunner().invoke(main, ["compare", str(first.folder)])
    assert alone.exit_code == 2
    assert "two sweeps" in alone.output
