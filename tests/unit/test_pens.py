"""The journal in an object store: immutable objects, in order, one driver, and what an outage does."""

from __future__ import annotations

import json
import re
import resource
import threading
import time

import pytest

from sweeps.errors import JournalError
from sweeps.journal import Journal, JournalReader, read, read_header
from sweeps.storage import RemotePath, files, opened, place


@pytest.fixture
def folder(bucket, tmp_path, monkeypatch):
    """A remote sweep's folder; what must lie in a local one lies under tmp_path."""
    monkeypatch.chdir(tmp_path)
    return place(bucket) / "team" / "digits-20260101-000000"


@pytest.fixture
def journal_in():
    """Open journals that are closed after the test."""
    opened = []

    def make(folder):
        opened.append(Journal(folder))
        return opened[-1]

    yield make
    for journal in opened:
        journal.close()


@pytest.fixture
def no_locks(monkeypatch):
    """Two machines: no lock holds between them."""
    import os

    monkeypatch.setattr("sweeps.journal.lock", lambda *_: os.open(os.devnull, os.O_RDONLY))


def objects(folder):
    """The names of the journal's objects."""
    return [name for name, _ in files(folder / "journal") if name.endswith(".jsonl")]


def test_lines_are_stored_in_order_a_second_later_at_most(folder, journal_in):
    journal, reader = journal_in(folder), JournalReader(folder)
    assert reader.poll() == []
    assert read_header(folder) is None
    written = [journal.append("sweep", name="one")]
    assert reader.poll() == written, "an awaited line is there when append returns"
    written += [journal.append("report", epoch=epoch) for epoch in range(50)]
    found, deadline = [], time.monotonic() + 20
    while len(found) < 50 and time.monotonic() < deadline:
        found += reader.poll()
    assert found == written[1:]
    assert len(objects(folder)) < 6, "lines travel together"
    journal.append("report", epoch=50)
    journal.append("verdict")
    assert [line["kind"] for line in read(folder)][-2:] == ["report", "verdict"], "what came before goes along"
    assert read_header(folder) == written[0]


def test_what_is_left_is_stored_at_the_end(folder, journal_in):
    journal = journal_in(folder)
    journal.append("sweep")
    journal.append("end")
    journal.close()
    journal.close()
    assert [line["kind"] for line in read(folder)] == ["sweep", "end"]


def test_what_must_wait_for_the_storage_does(folder, journal_in):
    journal, seen = journal_in(folder), []
    journal.append("sweep")
    journal.append("report", epoch=1)
    journal.once_stored(lambda: seen.append([line["kind"] for line in read(folder)]))
    journal.append("report", epoch=2)
    journal.close()
    assert len(seen) == 1
    assert seen[0][:2] == ["sweep", "report"]


def test_what_goes_wrong_beside_the_storing_is_told_and_hangs_nothing(folder, journal_in):
    journal = journal_in(folder)
    journal.append("sweep")
    journal.once_stored(lambda: 1 / 0)
    deadline = time.monotonic() + 20
    while not journal._pen._problem and time.monotonic() < deadline:
        time.sleep(0.01)
    with pytest.raises(JournalError, match="ZeroDivisionError"):
        journal.append("verdict")
    with pytest.raises(JournalError):
        journal.close()


def test_generations_follow_each_other_and_are_followed(folder, journal_in):
    reader = JournalReader(folder)
    found = []
    for number in range(3):
        journal = journal_in(folder)
        journal.append("sweep", number=number)
        found += reader.poll()
        journal.append("report", number=number)
        journal.close()
    found += reader.poll()
    assert [(line["kind"], line["number"]) for line in found] == [
        (kind, number) for number in range(3) for kind in ("sweep", "report")
    ]
    assert [name[:4] for name in objects(folder)] == ["0001", "0001", "0002", "0002", "0003", "0003"]
    assert read(folder) == found


def test_the_older_of_two_drivers_stops_before_its_next_line(folder, journal_in, no_locks):
    first = journal_in(folder)
    first.append("sweep")
    second = journal_in(folder)
    with pytest.raises(JournalError, match=r"another driver has taken s3://.*20260101-000000 over. This one stops"):
        first.append("verdict")
    second.append("sweep")
    assert [line["kind"] for line in read(folder)] == ["sweep", "sweep"]
    with pytest.raises(JournalError, match="another driver"):
        first.close()


def test_two_that_claim_at_once_do_not_write_over_each_other(folder, journal_in, no_locks):
    first, second = journal_in(folder), journal_in(folder)
    assert first.generation == second.generation == 1
    with pytest.raises(JournalError, match="another driver"):
        first.append("sweep")
    second.append("sweep", by="second")
    assert [line["by"] for line in read(folder)] == ["second"]
    with pytest.raises(JournalError, match="another driver"):
        first.close()


def test_a_removed_sweep_is_told(folder, journal_in, bucket):
    from pyarrow.fs import FileSystem

    journal = journal_in(folder)
    journal.append("sweep")
    filesystem, path = FileSystem.from_uri(str(folder))
    filesystem.delete_dir(path)
    with pytest.raises(JournalError, match="was removed while its sweep was at work"):
        journal.append("verdict")
    with pytest.raises(JournalError):
        journal.close()


def test_an_outage_is_waited_out(folder, journal_in, monkeypatch):
    journal, tries = journal_in(folder), []
    journal.append("sweep")
    write = RemotePath.write_bytes

    def out_of_reach_twice(path, content):
        tries.append(path.name)
        if len(tries) < 3:
            raise OSError("Could not connect to server. Detail: [errno 5]")
        write(path, content)

    monkeypatch.setattr(RemotePath, "write_bytes", out_of_reach_twice)
    journal.append("verdict")
    assert tries == ["0001-000001.jsonl"] * 3
    assert [line["kind"] for line in read(folder)] == ["sweep", "verdict"]


def test_a_lasting_outage_loses_no_line(folder, tmp_path, journal_in, monkeypatch):
    journal = journal_in(folder)
    journal.append("sweep")

    def out_of_reach(path, content):
        raise OSError("Could not connect to server. Detail: [errno 5]")

    with monkeypatch.context() as patched:
        patched.setattr(RemotePath, "write_bytes", out_of_reach)
        patched.setattr("sweeps.storage.PATIENCE_S", 0.1)
        journal.append("report", epoch=1)
        with pytest.raises(JournalError, match=r"cannot write in s3://.*: Could not connect to server\.\n") as caught:
            journal.append("verdict")
        with pytest.raises(JournalError, match="Could not connect"):
            journal.append("report", epoch=2)
    assert [line["kind"] for line in read(folder)] == ["sweep"]
    kept = tmp_path / "runs" / folder.name / "unstored" / "0001-000001.jsonl"
    told = re.search(r"copy (\S+) to (\S+), then `sweeps resume`; without the copy, its (\d+) lines", str(caught.value))
    assert told is not None
    assert told.groups() == (str(kept), str(folder / "journal" / kept.name), "2")
    (folder / "journal" / kept.name).write_bytes(kept.read_bytes())
    assert [line["kind"] for line in read(folder)] == ["sweep", "report", "verdict"]
    with pytest.raises(JournalError):
        journal.close()


def test_what_waits_for_an_outage_to_end_is_kept_too(folder, tmp_path, journal_in, monkeypatch):
    journal, entered, release = journal_in(folder), threading.Event(), threading.Event()
    journal.append("sweep")

    def hangs_then_fails(path, content):
        entered.set()
        release.wait(30)
        raise OSError("Could not connect")

    with monkeypatch.context() as patched:
        patched.setattr(RemotePath, "write_bytes", hangs_then_fails)
        patched.setattr("sweeps.storage.PATIENCE_S", 0.0)
        journal.append("report", epoch=0)
        assert entered.wait(30)
        for epoch in range(1, 6):
            journal.append("report", epoch=epoch)
        release.set()
        with pytest.raises(JournalError, match="its 6 lines are done again"):
            journal.close()
    (kept,) = (tmp_path / "runs" / folder.name / "unstored").iterdir()
    assert [json.loads(line)["epoch"] for line in kept.read_bytes().splitlines()] == list(range(6))


def test_an_outage_that_cannot_be_kept_at_hand_either_is_told(folder, tmp_path, journal_in, monkeypatch):
    (tmp_path / "runs").write_text("a file where the folder should be")
    journal = journal_in(folder)
    journal.append("sweep")

    def out_of_reach(path, content):
        raise OSError("Could not connect")

    with monkeypatch.context() as patched:
        patched.setattr(RemotePath, "write_bytes", out_of_reach)
        patched.setattr("sweeps.storage.PATIENCE_S", 0.0)
        with pytest.raises(JournalError, match=r"The last 1 lines are lost, for .* cannot be written either"):
            journal.append("verdict")
    with pytest.raises(JournalError):
        journal.close()


def test_a_journal_that_could_not_be_opened_holds_no_lock(folder, journal_in, monkeypatch):
    def out_of_reach(path, content):
        raise OSError("Could not connect")

    with monkeypatch.context() as patched:
        patched.setattr(RemotePath, "write_bytes", out_of_reach)
        with pytest.raises(JournalError, match="cannot write in"):
            Journal(folder)
    assert journal_in(folder).generation == 1


def test_a_copy_that_someone_left_there_is_no_part_of_the_journal(folder, tmp_path, journal_in):
    for where in (folder, tmp_path / "local"):
        if where is not folder:
            where.mkdir()
        journal = journal_in(where)
        journal.append("sweep")
        journal.close()
        filesystem, path = opened(where / "journal" / "backup-0001.jsonl.jsonl")
        with filesystem.open_output_stream(path) as stream:
            stream.write(b'{"kind":"end"}\n')
        assert [line["kind"] for line in read(where)] == ["sweep"]
        assert journal_in(where).generation == 2


def test_a_line_that_did_not_fit_is_followed_by_none(tmp_path, journal_in):
    """The system takes a part of the line, as a full disk does; what is written later would make it damaged."""
    journal = journal_in(tmp_path)
    journal.append("sweep")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, before[1]))
    try:
        with pytest.raises(JournalError, match=r"cannot write .*\. Free space or mend the storage"):
            journal.append("report", text="x" * 300)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (tmp_path / "journal" / "0001-0000.jsonl").stat().st_size == 200, "a part of it"
    with pytest.raises(JournalError, match="cannot write"):
        journal.append("end")
    journal.close()
    assert [line["kind"] for line in read(tmp_path)] == ["sweep"]
    journal_in(tmp_path).append("sweep")
    assert [line["kind"] for line in read(tmp_path)] == ["sweep", "sweep"]


def test_a_file_that_was_removed_is_told(tmp_path, journal_in):
    journal = journal_in(tmp_path)
    journal.append("sweep")
    (tmp_path / "journal" / "0001-0000.jsonl").unlink()
    with pytest.raises(JournalError, match=r"it was removed\. Free space or mend the storage"):
        journal.append("report")
