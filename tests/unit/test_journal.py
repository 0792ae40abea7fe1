"""The journal: one strict JSON line for everything, one writer, many readers, whatever a crash left behind."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest

from sweeps.errors import JournalError, StorageError
from sweeps.journal import SYNCED, Journal, JournalReader, finite, read, read_header


@pytest.fixture
def journal_in():
    """Open journals that are closed after the test, each with a line of the kinds given."""
    opened: list[Journal] = []

    def make(folder: Path, *kinds: str) -> Journal:
        journal = Journal(folder)
        opened.append(journal)
        for number, kind in enumerate(kinds):
            journal.append(kind, number=number)
        return journal

    yield make
    for journal in opened:
        journal.close()


def files_of(folder: Path) -> list[Path]:
    """The journal's files, the oldest first."""
    return sorted((folder / "journal").glob("*.jsonl"))


def newest(folder: Path) -> Path:
    """The file that is being written."""
    return files_of(folder)[-1]


def test_what_is_written_is_read_in_order(tmp_path, journal_in):
    journal = journal_in(tmp_path)
    lines = [journal.append("report", trial="a", epoch=1), journal.append("end", trial="a")]
    assert read(tmp_path) == lines
    assert [line["kind"] for line in lines] == ["report", "end"]
    assert lines[0]["at"] <= lines[1]["at"]


def test_a_line_is_there_for_any_reader_once_append_returns(tmp_path, journal_in):
    reader = JournalReader(tmp_path)
    journal = journal_in(tmp_path)
    for kind in ("trial", "report", "end"):
        journal.append(kind)
        assert [line["kind"] for line in reader.poll()] == [kind]
    assert reader.poll() == []


def test_turning_points_are_on_disk_before_the_driver_goes_on(tmp_path, monkeypatch, journal_in):
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    journal = journal_in(tmp_path)
    for kind in ("sweep", "plan", "phase", "decision", "failure", "verdict", "end"):
        journal.append(kind)
    assert len(synced) == 7
    for kind in ("trial", "report", "finding"):
        assert kind not in SYNCED
        journal.append(kind)
    assert len(synced) == 7


def test_each_driver_claims_the_next_generation(tmp_path, journal_in):
    first = journal_in(tmp_path, "sweep", "end")
    first.close()
    second = journal_in(tmp_path, "sweep")
    assert (first.generation, second.generation) == (1, 2)
    assert [path.name for path in files_of(tmp_path)] == ["0001-0000.jsonl", "0002-0000.jsonl"]
    assert [line["kind"] for line in read(tmp_path)] == ["sweep", "end", "sweep"]


def test_a_second_driver_is_kept_out_while_the_first_lives(tmp_path, journal_in):
    first = journal_in(tmp_path, "sweep")
    with pytest.raises(StorageError, match=rf"is at work: process {os.getpid()} on .* drives it"):
        Journal(tmp_path)
    first.close()
    first.close()
    assert journal_in(tmp_path).generation == 2


@pytest.fixture
def no_locks(monkeypatch):
    """A file system whose locks do not hold between machines."""
    monkeypatch.setattr("sweeps.journal.lock", lambda *_: os.open(os.devnull, os.O_RDONLY))


def test_without_locks_the_older_driver_stops_before_its_next_line(tmp_path, journal_in, no_locks):
    first = journal_in(tmp_path, "sweep")
    second = journal_in(tmp_path, "sweep")
    with pytest.raises(JournalError, match=r"another driver has taken .* over. This one stops"):
        first.append("report")
    second.append("end")
    assert [line["kind"] for line in read(tmp_path)] == ["sweep", "sweep", "end"]


def test_two_drivers_that_claim_at_once_do_not_share_a_file(tmp_path, monkeypatch, journal_in, no_locks):
    journal_in(tmp_path, "sweep")
    monkeypatch.setattr("pathlib.Path.glob", lambda *_: iter(()))  # neither sees the other's file yet
    with pytest.raises(JournalError, match="cannot write"):
        Journal(tmp_path)


def test_generations_are_read_in_order_beyond_the_ninth(tmp_path, journal_in):
    for number in range(11):
        journal = journal_in(tmp_path)
        journal.append("sweep", number=number)
        journal.close()
    assert [line["number"] for line in read(tmp_path)] == list(range(11))


def test_a_torn_last_line_is_left_for_the_next_poll(tmp_path, journal_in):
    journal_in(tmp_path, "sweep")
    reader = JournalReader(tmp_path)
    line = b'{"kind":"report","at":1,"epoch":7}\n'
    with open(newest(tmp_path), "ab") as file:
        file.write(line[:12])
        file.flush()
        assert [found["kind"] for found in reader.poll()] == ["sweep"]
        assert reader.poll() == []
        file.write(line[12:])
    assert reader.poll() == [{"kind": "report", "at": 1, "epoch": 7}]
    assert reader.poll() == []


def test_a_line_that_a_crash_tore_hides_nothing_of_the_next_driver(tmp_path, journal_in):
    journal = journal_in(tmp_path, "sweep")
    with open(newest(tmp_path), "ab") as file:
        file.write(b'{"kind":"rep')
    journal.close()
    reader = JournalReader(tmp_path)
    reader.poll()
    journal_in(tmp_path, "sweep", "end")
    assert [line["kind"] for line in reader.poll()] == ["sweep", "end"]
    assert [line["kind"] for line in read(tmp_path)] == ["sweep", "sweep", "end"]


@pytest.mark.parametrize("damage", [b'{"kind":"rep\n', b"\x00\x00\x00\n", b"\xff\n", b"\n"], ids=repr)
def test_a_damaged_line_in_the_middle_is_an_error_that_names_it(tmp_path, damage, journal_in):
    journal_in(tmp_path, "sweep")
    with open(newest(tmp_path), "ab") as file:
        file.write(damage + b'{"kind":"end","at":1}\n')
    with pytest.raises(JournalError, match=r"line 2 after byte 0 is damaged") as caught:
        read(tmp_path)
    assert str(newest(tmp_path)) in str(caught.value)
    assert caught.value.exit_code == 1


def test_text_of_any_kind_stays_one_line(tmp_path, journal_in):
    text = "two\nlines, \u2028 a separator, \x00, \U0001f600 and “quotes”\r"
    journal = journal_in(tmp_path)
    journal.append("failure", traceback=text)
    journal.append("end")
    assert newest(tmp_path).read_bytes().count(b"\n") == 2
    assert read(tmp_path)[0]["traceback"] == text


def test_what_is_not_finite_is_strict_json(tmp_path, journal_in):
    journal = journal_in(tmp_path)
    journal.append(
        "report",
        metrics={"nan": math.nan, "inf": math.inf, "minus": -math.inf, "one": 1.0},
        deep=[{"values": (math.nan, 2)}],
        numpy=np.float64("inf"),
    )

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not strict JSON")

    line = json.loads(newest(tmp_path).read_text(), parse_constant=refuse)
    assert line["metrics"] == {"nan": "nan", "inf": "inf", "minus": "-inf", "one": 1.0}
    assert line["deep"] == [{"values": ["nan", 2]}]
    assert line["numpy"] == "inf"
    assert math.isnan(float(line["metrics"]["nan"]))


def test_finite_leaves_everything_else_alone():
    value = {"a": [1, 2.5, "x", None, True], "b": {"c": ()}}
    assert finite(value) == {"a": [1, 2.5, "x", None, True], "b": {"c": []}}
    assert finite({1: 2}) == {"1": 2}


def test_a_full_disk_is_told_with_a_mend(tmp_path, monkeypatch, journal_in):
    journal = journal_in(tmp_path, "sweep")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(JournalError, match=r"No space left on device\. Free space"):
        journal.append("end")


def test_a_journal_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "journal").write_text("a file where the folder should be")
    with pytest.raises(JournalError, match="cannot write in"):
        Journal(tmp_path)


def test_a_closed_journal_stays_readable(tmp_path, journal_in):
    journal = journal_in(tmp_path, "sweep")
    journal.close()
    assert len(read(tmp_path)) == 1


def test_a_sweep_without_a_line_yet_is_empty(tmp_path, journal_in):
    assert read(tmp_path) == []
    journal_in(tmp_path)
    assert read(tmp_path) == []


def test_the_header_is_the_first_line_alone(tmp_path, journal_in):
    assert read_header(tmp_path) is None
    journal = journal_in(tmp_path)
    assert read_header(tmp_path) is None
    journal.append("sweep", name="one")
    journal.append("end")
    assert read_header(tmp_path)["name"] == "one"
    journal.close()
    journal_in(tmp_path, "sweep")
    assert read_header(tmp_path)["name"] == "one", "a later generation does not hide the first"


def test_a_damaged_header_is_told(tmp_path):
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal" / "0001-0000.jsonl").write_bytes(b"{not json\n")
    with pytest.raises(JournalError, match=r"first line of .* is damaged"):
        read_header(tmp_path)
