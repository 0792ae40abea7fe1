"""Sweeps whose journals only MLflow has, beside others: in a real MLflow over sqlite, by the command that people type.

tests/integration/test_tracking_server.py asks a server for them.
"""

from __future__ import annotations

import gzip
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from integration.test_tracking import in_the_middle_of, write
from recorded import record
from sweeps.cli import main
from sweeps.errors import TrackingError
from sweeps.history import History
from sweeps.journal import read
from sweeps.report.compare import compare
from sweeps.tracking import fetch_journals, sync

ENDED, RUNNING = "recorded-20260101-000000", "recorded-20260102-000000"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep that has ended, in a folder of this machine."""
    return record(tmp_path_factory.mktemp("source") / ENDED)


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory, source: Path) -> str:
    """An MLflow with two sweeps whose folders are gone: the one above, and one of which nobody wrote the end."""
    hub, elsewhere = tmp_path_factory.mktemp("hub"), tmp_path_factory.mktemp("elsewhere")
    uri = f"sqlite:///{hub}/mlflow.db"
    shutil.copytree(source, elsewhere / ENDED)
    write(source, elsewhere / RUNNING, in_the_middle_of(read(source), "refine-002"), id=RUNNING)
    for name in (ENDED, RUNNING):
        sync(elsewhere / name, uri)
    with closing(sqlite3.connect(hub / "mlflow.db")) as database, database:  # as while its writer is at work
        database.execute("UPDATE runs SET status = 'RUNNING', end_time = NULL WHERE name = ?", [RUNNING])
    shutil.rmtree(elsewhere)
    return uri


def kept(uri: str) -> Path:
    """The journal that MLflow keeps of the sweep that has ended."""
    hub = Path(uri.removeprefix("sqlite:///")).parent
    with closing(sqlite3.connect(hub / "mlflow.db")) as database:
        ((place,),) = database.execute("SELECT artifact_uri FROM runs WHERE name = ?", [ENDED])
    return Path(place) / "journal.jsonl.gz"


def test_a_sweep_that_is_only_there_is_compared_with_one_that_is_here(source: Path, team: str) -> None:
    command = ["compare", str(source), ENDED, "--tracking-uri", team]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    here = History.open(source)
    assert done.output == compare([here, here]) + "\n"
    without = CliRunner().invoke(main, command[:3])
    assert without.exit_code == 2
    assert f"there is no sweep at {ENDED}" in without.output


def test_its_journal_is_the_one_that_was_written(source: Path, team: str, tmp_path: Path) -> None:
    (folder,) = fetch_journals([ENDED], team, tmp_path)
    assert read(folder) == read(source)
    assert folder.name == ENDED


def test_a_sweep_that_is_not_there_is_told_with_those_that_are(team: str, tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match=r"has no sweep recorded-2026.\n  Did you mean recorded-.* or recorded-"):
        fetch_journals([ENDED, "recorded-2026"], team, tmp_path)
    with pytest.raises(TrackingError, match=r"has no sweep digits.\n  There are recorded-\S+, recorded-\S+\."):
        fetch_journals(["digits"], team, tmp_path)
    with pytest.raises(TrackingError, match=rf"has no sweep \.\./{ENDED}.\n  Did you mean {ENDED}"):
        fetch_journals([f"../{ENDED}"], team, tmp_path)
    assert list(tmp_path.iterdir()) in ([], [tmp_path / ENDED])


def test_a_sweep_that_has_not_ended_has_no_journal_there_yet(team: str, tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match=rf"{RUNNING} has not ended.*\n  Wait for its end, or name its folder"):
        fetch_journals([RUNNING], team, tmp_path)


def test_a_journal_that_was_lost_or_damaged_there_is_told(team: str, tmp_path: Path) -> None:
    file = kept(team)
    whole = file.read_bytes()
    try:
        file.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(TrackingError, match=r"journal.jsonl.gz is damaged .*\n  `sweeps sync` of its folder"):
            fetch_journals([ENDED], team, tmp_path / "a")
        file.unlink()
        with pytest.raises(TrackingError, match=r"is there without journal.jsonl.gz.\n  `sweeps sync` of its folder"):
            fetch_journals([ENDED], team, tmp_path / "b")
    finally:
        file.write_bytes(whole)
    assert gzip.decompress(whole).count(b"\n") == len(read(fetch_journals([ENDED], team, tmp_path / "c")[0]))


def test_an_mlflow_that_is_not_there_is_told_and_none_is_made(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match=rf"is not there, so {ENDED} is not"):
        fetch_journals([ENDED], f"sqlite:///{tmp_path}/mlflow.db", tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(TrackingError, match="has a password in it") as caught:
        fetch_journals([ENDED], "http://ann:hunter2@127.0.0.1:1", tmp_path)
    assert "hunter2" not in str(caught.value)
    with pytest.raises(TrackingError, match="cannot be reached"):
        fetch_journals([ENDED], "http://127.0.0.1:1", tmp_path)


def test_an_mlflow_without_any_sweep_says_so(team: str, tmp_path: Path) -> None:
    hub = Path(team.removeprefix("sqlite:///"))
    uri = f"sqlite:///{shutil.copy(hub, tmp_path)}"
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database, database:
        database.execute("DELETE FROM tags")
    with pytest.raises(TrackingError, match=r"has no sweep a.\n  No sweep is there at all"):
        fetch_journals(["a"], uri, tmp_path)
