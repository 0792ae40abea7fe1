"""Where sweeps keep their folders: local ones, and those in an object store, by a real S3 protocol on loopback."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sweeps.errors import StorageError
from sweeps.journal import Journal
from sweeps.storage import (
    RemotePath,
    at_hand,
    files,
    find_sweep,
    lock_file,
    new_sweep_folder,
    newest_sweeps,
    opened,
    persistently,
    place,
    remove,
    storage_folder,
)


@pytest.fixture
def begun():
    """Begins the journal of a sweep in a folder; ended after the test."""
    journals = []

    def begin(folder):
        journals.append(Journal(folder))
        journals[-1].append("sweep")
        return folder

    yield begin
    for journal in journals:
        journal.close()


def test_no_two_sweeps_share_a_folder(tmp_path):
    storage = tmp_path / "not" / "yet"
    folders = [new_sweep_folder(storage, "digits") for _ in range(20)]
    assert len(set(folders)) == 20
    assert all(folder.is_dir() and folder.parent == storage for folder in folders)
    assert all(re.fullmatch(r"digits-\d{8}-\d{6}(-\d+)?", folder.name) for folder in folders)


def test_a_storage_that_cannot_hold_a_sweep_is_told(tmp_path):
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(StorageError, match=r"cannot make .*Check the path"):
        new_sweep_folder(file / "below", "digits")
    with pytest.raises(StorageError, match=r"is a file. Give a folder"):
        storage_folder(str(file))


def test_a_storage_is_an_absolute_folder_however_it_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert storage_folder("./runs") == tmp_path / "runs"
    assert storage_folder(f"file://{tmp_path}/runs") == tmp_path / "runs"
    assert storage_folder("~/runs") == tmp_path / "home" / "runs"


def test_a_sweep_is_found_by_its_path_and_by_its_name(tmp_path, monkeypatch, begun):
    folder = new_sweep_folder(tmp_path / "runs", "digits")
    begun(folder)
    monkeypatch.chdir(tmp_path)
    assert find_sweep(folder) == folder
    assert find_sweep(folder.name) == folder
    assert find_sweep(f"runs/{folder.name}") == folder
    assert find_sweep(folder.name, str(tmp_path / "runs")) == folder


def test_a_sweep_that_is_not_there_is_told_with_both_places(tmp_path):
    (tmp_path / "digits").mkdir()  # a folder without a journal is no sweep
    with pytest.raises(StorageError, match=r"no sweep at digits, nor under .*`sweeps run`") as caught:
        find_sweep("digits", str(tmp_path))
    assert str(tmp_path) in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("strange", ["a%41", "what?", "a#b"])
def test_a_storage_that_a_uri_cannot_name_is_refused(tmp_path, strange):
    with pytest.raises(StorageError, match="holds"):
        storage_folder(str(tmp_path / strange))


def test_a_remote_path_is_like_a_path():
    where = place("s3://bucket/team/sweeps/?region=eu-west-1")
    assert isinstance(where, RemotePath)
    below = where / "digits" / "journal"
    assert str(below) == "s3://bucket/team/sweeps/digits/journal?region=eu-west-1"
    assert (below.name, below.parent.name, below.parent.parent) == ("journal", "digits", where)
    assert place(str(below)) == below
    assert place(below) is below


def test_a_remote_file_is_there_whole_or_not_at_all(bucket):
    file = place(bucket) / "team" / "note.txt"
    assert not file.exists()
    with pytest.raises(FileNotFoundError):
        file.read_bytes()
    file.write_bytes(b"one")
    file.write_bytes(b"two")
    assert file.exists()
    assert file.parent.exists(), "a folder is there while something lies in it"
    assert file.read_bytes() == b"two"


@pytest.mark.parametrize("remote", [False, True], ids=["local", "remote"])
def test_files_are_listed_and_folders_removed_alike(tmp_path, bucket, remote):
    root = place(bucket if remote else tmp_path) / "sweep"
    assert files(root) == []
    for name in ("a/1/manifest.json", "a/1/state.pt", "b/2/manifest.json"):
        filesystem, path = opened(root / name)
        filesystem.create_dir(path.rpartition("/")[0], recursive=True)
        with filesystem.open_output_stream(path) as stream:
            stream.write(name.encode())
    assert files(root) == [("a/1/manifest.json", 17), ("a/1/state.pt", 12), ("b/2/manifest.json", 17)]
    remove(root / "a" / "1", "manifest.json")
    assert files(root) == [("b/2/manifest.json", 17)]
    remove(root / "a" / "1", "manifest.json")
    assert files(root) == [("b/2/manifest.json", 17)]


def test_a_remote_sweep_is_found_and_the_newest_comes_first(bucket, begun):
    storage = storage_folder(f"{bucket}/team")
    assert newest_sweeps(storage) == []
    for stamp in ("a-20260102-000000", "b-20260101-000000", "a-20260103-000000-2"):
        begun(storage / stamp)
    (storage / "elsewhere" / "file").write_bytes(b"")
    assert [folder.name for folder in newest_sweeps(storage)] == [
        "a-20260103-000000-2", "a-20260102-000000", "b-20260101-000000",
    ]  # fmt: skip
    assert find_sweep(f"{bucket}/team/a-20260102-000000") == storage / "a-20260102-000000"
    with pytest.raises(StorageError, match=r"no sweep at s3://.*/team/c\. Give"):
        find_sweep(f"{bucket}/team/c")


def test_a_new_remote_sweep_is_in_no_other_ones_folder(bucket, begun, monkeypatch):
    monkeypatch.setattr("sweeps.storage.datetime", Standing)
    storage = storage_folder(bucket)
    first, second = begun(new_sweep_folder(storage, "digits")), begun(new_sweep_folder(storage, "digits"))
    assert (first.name, second.name) == ("digits-20260101-000000", "digits-20260101-000000-2")


class Standing:
    """A clock that stands."""

    @staticmethod
    def now():
        from datetime import datetime

        return datetime(2026, 1, 1)


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("s3://key:secret@bucket/runs", r"s3://…@bucket holds a secret\. Leave it out, and set AWS_ACCESS_KEY_ID"),
        ("s3://bucket/runs?colour=red", "Unexpected query parameter in S3 URI: 'colour'. Give a folder"),
        ("s3://bucket/team#1/runs", r"holds a '#', which ends a URI's path\. Choose"),
        ("s3:/bucket/runs", r"has one slash after s3:\. Write s3://…"),
        ("nowhere://bucket/runs", "nowhere://bucket: Unrecognized filesystem type"),
    ],
)
def test_a_uri_that_cannot_be_a_storage_is_told(bucket, uri, told):
    with pytest.raises(StorageError, match=told) as caught:
        storage_folder(uri)
    assert "key" not in str(caught.value)
    assert ":secret" not in str(caught.value)


def test_a_bucket_that_is_not_there_is_told(bucket):
    with pytest.raises(StorageError, match=r"s3://no-such-bucket is not there\. Make it first"):
        storage_folder("s3://no-such-bucket/runs")


@pytest.mark.slow
def test_an_object_store_out_of_reach_is_told(bucket, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(StorageError, match=r"cannot be reached: .*Are the credentials .* AWS_REGION or AWS_ENDPOINT"):
        storage_folder(bucket)


def test_what_needs_a_local_file_has_one(tmp_path, bucket, monkeypatch):
    monkeypatch.chdir(tmp_path)
    here, there = tmp_path / "runs" / "a", place(bucket) / "team" / "a"
    assert at_hand(here) == here
    assert at_hand(there) == tmp_path / "runs" / "a"
    assert lock_file(here, "driver") == here / "driver.lock"
    assert lock_file(there, "driver") != lock_file(there.parent / "b", "driver")
    assert lock_file(there, "driver") == lock_file(place(str(there)), "driver")


def test_an_outage_is_waited_out_where_there_can_be_one(tmp_path, bucket, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    tries = []

    def third_time() -> str:
        tries.append(1)
        if len(tries) < 3:
            raise OSError("out of reach")
        return "done"

    assert persistently(third_time, place(bucket)) == "done"
    with pytest.raises(OSError, match="out of reach"):
        persistently(lambda: (_ for _ in ()).throw(OSError("out of reach")), tmp_path)
    with pytest.raises(FileNotFoundError):
        persistently((place(bucket) / "missing").read_bytes, place(bucket))


def test_a_lock_keeps_a_second_driver_of_a_remote_sweep_out(bucket, begun):
    folder = begun(place(bucket) / "a")
    with pytest.raises(StorageError, match=rf"{re.escape(str(folder))} is at work: process"):
        Journal(folder)


def test_a_path_says_where_it_is_not_a_uri(tmp_path):
    assert isinstance(place(tmp_path), Path)
    assert place(f"file://{tmp_path}") == tmp_path
