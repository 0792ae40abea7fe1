"""The journal in a real MLflow: all of it, once, however often and through whatever it is written.

Counted by SQL in MLflow's own tables against the journal's lines, so that neither side's code vouches for itself.
"""

from __future__ import annotations

import fcntl
import gzip
import json
import math
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from recorded import record
from sweeps.errors import TrackingError
from sweeps.history import History
from sweeps.journal import read
from sweeps.tracking import Writer, default_uri, sync
from sweeps.tracking.child import ENVIRONMENT, claim, log_file

LIMIT_S = 90


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recorded sweep."""
    return record(tmp_path_factory.mktemp("source") / "recorded")


@pytest.fixture(scope="module")
def synced(tmp_path_factory: pytest.TempPathFactory, source: Path) -> Path:
    """The recorded sweep with a report and two figures, written into its default MLflow."""
    folder = tmp_path_factory.mktemp("synced") / "recorded"
    shutil.copytree(source, folder)
    (folder / "figures").mkdir()
    (folder / "figures" / "curves.png").write_bytes(b"\x89PNG")
    (folder / "figures" / "data.csv").write_text("epoch\n")
    (folder / "report.html").write_text("<p>report</p>")
    sync(folder, default_uri(folder))
    return folder


def query(database: Path, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    """Rows of MLflow's tables; none while they are not there yet."""
    if not database.exists():
        return []
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)) as connection:
        try:
            return connection.execute(sql, values).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return []
            raise


def contents(database: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row about runs, in order."""
    tables = ("runs", "params", "metrics", "latest_metrics", "tags", "experiments")
    return {table: sorted(query(database, f"SELECT * FROM {table}"), key=repr) for table in tables}


def tags(database: Path, trial: str) -> dict[str, str]:
    """The tags of a trial's run, or of the sweep's."""
    sql = "SELECT t.key, t.value FROM tags t JOIN runs r USING (run_uuid) WHERE r.name = ?"
    return dict(query(database, sql, trial))


def points_in(database: Path) -> Counter[tuple[Any, ...]]:
    """(run, metric, epoch, value, ms) of all points that came from reports."""
    columns = "r.name, m.key, m.step, m.value, m.timestamp"
    sql = f"SELECT {columns} FROM metrics m JOIN runs r USING (run_uuid) WHERE m.step > 0"
    return Counter(query(database, sql))


def points_of(lines: list[dict[str, Any]]) -> Counter[tuple[Any, ...]]:
    """The same from the journal."""
    return Counter(
        (line["trial"], name, line["epoch"], value, round(line["at"] * 1000))
        for line in lines
        if line["kind"] == "report"
        for name, value in line["metrics"].items()
        if not isinstance(value, str) and math.isfinite(value)
    )


def statuses(database: Path) -> dict[str, str]:
    """MLflow's status of every run by name."""
    return dict(query(database, "SELECT name, status FROM runs"))


def write(source: Path, folder: Path, upto: int | None, id: str = "") -> None:
    """Let the folder's journal have the first lines of the source's, the last of them whole; as another sweep's."""
    whole = next((source / "journal").glob("*.jsonl")).read_bytes().splitlines(keepends=True)
    if id:
        whole[0] = json.dumps({**json.loads(whole[0]), "id": id}).encode() + b"\n"
    (folder / "journal").mkdir(parents=True, exist_ok=True)
    file = folder / "journal" / "0001-0000.jsonl"
    there = len(file.read_bytes().splitlines()) if file.exists() else 0
    with open(file, "ab") as journal:
        journal.writelines(whole[there:upto])


def in_the_middle_of(lines: list[dict[str, Any]], trial: str) -> int:
    """How many lines to take so that the trial has one report and no end."""
    return 1 + next(i for i, line in enumerate(lines) if line["kind"] == "report" and line["trial"] == trial)


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Poll until the condition holds."""
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {LIMIT_S} s for: {what}"
        time.sleep(0.1)


def test_every_trial_is_there_with_its_params_and_points(synced: Path) -> None:
    database, lines = synced / "mlflow.db", read(synced)
    trials = {line["trial"]: line for line in lines if line["kind"] == "trial"}
    assert set(statuses(database)) == {*trials, "recorded"}
    assert query(database, "SELECT count(*) FROM runs") == [(len(trials) + 1,)]
    assert points_in(database) == points_of(lines)
    for name, line in trials.items():
        sql = "SELECT p.key, p.value FROM params p JOIN runs r USING (run_uuid) WHERE r.name = ?"
        params = dict(query(database, sql, name))
        assert params.pop("log10_lr") == f"{math.log10(line['config']['lr']):.6g}"
        assert params == {key: str(value) for key, value in line["config"].items()}
        found = tags(database, name)
        assert found["sweep.uid"] == f"recorded/{name}"
        assert (found["phase"], found["role"], found["seed"]) == (
            line["phase"],
            line["role"],
            str(line["fidelity"]["seed"]),
        )


def test_status_start_and_end_are_the_journals(synced: Path) -> None:
    database, lines = synced / "mlflow.db", read(synced)
    ends = {line["trial"]: line for line in lines if line["kind"] == "end" and "trial" in line}
    begun = {line["trial"]: line["at"] for line in reversed(lines) if line["kind"] == "trial"}
    expected = {"FINISHED": "FINISHED", "INFEASIBLE": "FAILED", "FAILED": "FAILED"}
    for name, status, first, last in query(database, "SELECT name, status, start_time, end_time FROM runs"):
        if name in ends:
            assert status == expected[ends[name]["status"]], name
            assert (first, last) == (round(begun[name] * 1000), round(ends[name]["at"] * 1000)), name
            assert tags(database, name)["sweep.stop_reason"] == ends[name]["reason"]


def test_the_best_value_is_a_single_point_at_step_0(synced: Path) -> None:
    best: dict[str, float] = {}
    for line in read(synced):
        if line["kind"] == "report":
            best[line["trial"]] = max(best.get(line["trial"], -math.inf), line["metrics"]["val/accuracy"])
    sql = "SELECT r.name, m.value FROM metrics m JOIN runs r USING (run_uuid) WHERE m.key = ? AND m.step = 0"
    found = query(synced / "mlflow.db", sql, "best/val/accuracy")
    assert Counter(found) == Counter(best.items())


def test_the_sweeps_run_tells_the_story_and_holds_the_files(synced: Path) -> None:
    database = synced / "mlflow.db"
    found = tags(database, "recorded")
    assert found["mlflow.note.content"].startswith("ADOPT refine-")
    assert (found["verdict"], found["mlflow.source.git.commit"]) == ("ADOPT", "0123abc")
    artifacts = dict(query(database, "SELECT name, artifact_uri FROM runs"))
    root = Path(artifacts["recorded"])
    assert root.is_relative_to(synced / "mlartifacts")
    files = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    own = {"spec.json", "environment.json", "journal.jsonl.gz"}
    assert files == {*own, "report.html", "figures/curves.png", "figures/data.csv"}
    with gzip.open(root / "journal.jsonl.gz", "rt") as kept:
        assert [json.loads(line) for line in kept] == read(synced)
    assert json.loads((root / "environment.json").read_text())["versions"]["torch"] == "2.13.0"
    best = next(line["best_trial"] for line in read(synced) if line["kind"] == "verdict")
    assert [path.name for path in Path(artifacts[best]).rglob("*") if path.is_file()] == ["curves.png"]
    assert query(database, "SELECT name FROM experiments WHERE name != 'Default'") == [("recorded",)]
    assert "Traceback" not in log_file(synced).read_text()


def test_its_description_links_to_the_views_that_are_saved(synced: Path) -> None:
    database = synced / "mlflow.db"
    ((experiment,),) = query(database, "SELECT experiment_id FROM experiments WHERE name = 'recorded'")
    saved = query(database, "SELECT key FROM experiment_tags WHERE key LIKE 'mlflow.sharedViewState.%'")
    note = tags(database, "recorded")["mlflow.note.content"]
    linked = re.findall(r"\(#/experiments/(\d+)/runs\?\S+&viewStateShareKey=(\w+)&", note)
    assert {number for number, _ in linked} == {str(experiment)}
    assert sorted(f"mlflow.sharedViewState.{key}" for _, key in linked) == sorted(key for (key,) in saved)
    assert len(linked) == 2


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_of_another_version_of_mlflow_its_log_warns_once(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from sweeps.tracking import views
    from sweeps.tracking.mirror import Mirror

    monkeypatch.setattr(views, "READ_FROM", "2.1")
    history = History.open(source)
    mirror = Mirror(f"sqlite:///{tmp_path}/mlflow.db", history, lambda: None)
    for _ in range(2):
        mirror.write()
    (said,) = [message for message in caplog.messages if "views in MLflow" in message]
    assert "made for MLflow 2.1: 3.17" in said
    saved = "SELECT count(*) FROM experiment_tags WHERE key LIKE 'mlflow.sharedViewState.%'"
    assert query(tmp_path / "mlflow.db", saved) == [(2,)], "they are saved all the same"


def test_every_trial_says_what_its_numbers_come_from(synced: Path) -> None:
    database = synced / "mlflow.db"
    (header, *_) = read(synced)
    for name in {line["trial"] for line in read(synced) if line["kind"] == "trial"}:
        found = tags(database, name)
        assert found["mlflow.source.git.commit"] == "0123abc"
        assert found["sweep.git_dirty"] == "false"
        assert found["sweep.spec_digest"] == header["spec_digest"]
        assert found["sweep.versions"] == "torch 2.13.0, ray 2.60.0"
        assert found["sweep.data_digest"] == "0f1e2d3c4b5a6978"
    sql = (
        "SELECT r.name, d.name, d.digest, t.value FROM datasets d JOIN inputs i ON i.source_id = d.dataset_uuid "
        "JOIN runs r ON r.run_uuid = i.destination_id JOIN input_tags t ON t.input_uuid = i.input_uuid"
    )
    named = query(database, sql)
    assert sorted(named) == sorted(
        (name, "Digits", "0f1e2d3c4b5a6978", "training") for name in statuses(database) if name != "recorded"
    )


def test_writing_it_again_changes_nothing_even_when_mlflow_does_not_know_how_far_it_was(synced: Path) -> None:
    database = synced / "mlflow.db"
    before = contents(database)
    sync(synced, default_uri(synced))
    assert contents(database) == before
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("DELETE FROM tags WHERE key = 'sweep.reports'")
        connection.execute("UPDATE runs SET status = 'RUNNING', end_time = NULL")
    sync(synced, default_uri(synced))  # every point and param is sent again
    assert contents(database) == before


def test_two_sweeps_of_a_name_share_an_experiment_and_nothing_else(synced: Path, source: Path, tmp_path: Path) -> None:
    shared = tmp_path / "mlflow.db"
    shutil.copy(synced / "mlflow.db", shared)
    runs = len(statuses(shared))
    other = tmp_path / "recorded"  # of the same name, in another storage
    write(source, other, 20, id="another")
    trials = sum(line["kind"] == "trial" for line in read(other))
    sync(other, f"sqlite:///{shared}")
    assert query(shared, "SELECT count(*) FROM experiments WHERE name = 'recorded'") == [(1,)]
    assert query(shared, "SELECT count(*) FROM runs") == [(runs + trials + 1,)]
    assert len(query(shared, "SELECT 1 FROM tags WHERE key = 'sweep.uid' AND value = 'another'")) == 1
    assert points_in(shared) >= points_of(read(synced))


def test_a_renamed_sweep_is_the_same_and_others_runs_are_let_be(synced: Path, tmp_path: Path) -> None:
    folder = tmp_path / "renamed"
    shutil.copytree(synced, folder)
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection, connection:
        (experiment,) = connection.execute("SELECT experiment_id FROM experiments WHERE name = 'recorded'").fetchone()
        for run in ("theirs-1", "theirs-2"):  # evaluations of the sweep by somebody else, tagged with its name
            connection.execute(
                "INSERT INTO runs (run_uuid, name, experiment_id, status, lifecycle_stage, start_time, artifact_uri, "
                "user_id) VALUES (?, ?, ?, 'FINISHED', 'active', 1, '', '')", (run, run, experiment),
            )  # fmt: skip
            connection.executemany("INSERT INTO tags (key, value, run_uuid) VALUES (?, ?, ?)", [
                ("sweep", "recorded", run), ("sweep.id", "recorded", run),
            ])  # fmt: skip
    runs = len(statuses(folder / "mlflow.db"))
    sync(folder, default_uri(folder))
    assert query(folder / "mlflow.db", "SELECT count(*) FROM runs") == [(runs,)]
    assert query(folder / "mlflow.db", "SELECT count(*) FROM runs WHERE lifecycle_stage = 'deleted'") == [(0,)]
    assert tags(folder / "mlflow.db", "refine-001")["sweep"] == "renamed"


def test_what_a_database_cannot_store_is_written_as_far_as_it_can(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "recorded"
    write(source, folder, None)
    lines = read(folder)
    odd = {**next(line for line in lines if line["kind"] == "failure"), "message": "caf\udce9.png\0"}
    with open(folder / "journal" / "0001-0000.jsonl", "a") as journal:
        journal.write(json.dumps(odd) + "\n")
    sync(folder, default_uri(folder))
    assert "caf?.png?" in tags(folder / "mlflow.db", odd["trial"])["failures"]
    assert statuses(folder / "mlflow.db")["recorded"] == "FINISHED"


def test_a_store_that_will_not_have_the_files_hides_nothing_else(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "recorded"
    write(source, folder, None)
    (folder / "mlartifacts").write_text("no folder")
    said = given_up(folder, default_uri(folder))
    assert "MLflow refused files" in said
    assert statuses(folder / "mlflow.db")["recorded"] == "FINISHED"
    assert points_in(folder / "mlflow.db") == points_of(read(folder))


def given_up(folder: Path, uri: str) -> str:
    """What a writer says of a sweep that has ended before it gives up, after seconds instead of a minute."""
    code = (
        "import logging, os, sys; from pathlib import Path; from sweeps.tracking import writer\n"
        "logging.basicConfig(level=logging.INFO)\n"
        "nothing = os.open('/dev/null', os.O_RDWR)\n"
        "try: writer.follow(Path(sys.argv[1]), sys.argv[2], nothing, nothing, patience_s=5)\n"
        "except writer.TrackingError as error: print(error, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder), uri],
        env={**os.environ, **ENVIRONMENT}, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return done.stderr


def test_one_driver_at_work_is_followed_and_not_given_up(synced: Path, tmp_path: Path) -> None:
    folder = tmp_path / "recorded"
    shutil.copytree(synced, folder)
    with open(folder / "driver.lock", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(TrackingError, match=r"is at work\.\n  Add --follow"):
            sync(folder, default_uri(folder))


def test_the_same_mlflow_however_it_is_spelled_has_one_writer(tmp_path: Path) -> None:
    first = claim(tmp_path, "http://Host:5000/")
    with pytest.raises(BlockingIOError):
        claim(tmp_path, "http://host:5000")
    second = claim(tmp_path, f"sqlite:///{tmp_path}/./x.db")
    with pytest.raises(BlockingIOError):
        claim(tmp_path, f"sqlite:///{tmp_path}/x.db")
    os.close(first)
    os.close(second)


def test_a_writer_that_cannot_be_started_is_told_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: Any) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr("sweeps.tracking.child._popen", none)
    writer = Writer(tmp_path, default_uri(tmp_path))
    writer.mind()
    message = writer.finish(1)
    assert "cannot be started: [Errno 12] Cannot allocate memory" in message
    assert "sweeps sync" in message


def test_it_follows_the_journal_as_it_grows(source: Path, tmp_path: Path) -> None:
    folder, lines = tmp_path / "recorded", read(source)
    database = folder / "mlflow.db"
    write(source, folder, in_the_middle_of(lines, "refine-002"))
    writer = Writer(folder, default_uri(folder))
    child = writer.child
    try:
        wait_until(lambda: statuses(database).get("refine-002") == "RUNNING", "the trial under way")
        os.kill(child.pid, signal.SIGINT)  # a Ctrl-C that reached it all the same
        wait_until(lambda: points_in(database)[next(iter(points_of(lines)))], "the first point")
        with pytest.raises(TrackingError, match="being written to MLflow already"):
            sync(folder, default_uri(folder))
        write(source, folder, in_the_middle_of(lines, "confirm-004"))
        wait_until(lambda: statuses(database).get("confirm-004") == "RUNNING", "a trial that began meanwhile")
        assert statuses(database)["refine-002"] == "FINISHED"
        assert os.getsid(child.pid) == child.pid  # out of the terminal's reach
        write(source, folder, None)
        slow = writer.finish(0.0)
        assert f"process {child.pid}) is still at work" in slow  # told, and left alone
    finally:
        message = writer.finish(LIMIT_S)
    assert message == ""
    assert points_in(database) == points_of(lines)
    assert "RUNNING" not in statuses(database).values()


def test_it_ends_by_itself_when_the_driver_is_killed_and_a_resumed_sweep_goes_on(source: Path, tmp_path: Path) -> None:
    folder, lines = tmp_path / "recorded", read(source)
    database = folder / "mlflow.db"
    write(source, folder, in_the_middle_of(lines, "refine-002"))
    code = (
        "import sys, time; from pathlib import Path; from sweeps.tracking import Writer, default_uri\n"
        "writer = Writer(Path(sys.argv[1]), default_uri(Path(sys.argv[1])))\n"
        "print(writer.child.pid, flush=True); time.sleep(600)"
    )
    driver = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert driver.stdout is not None
        child = int(driver.stdout.readline())
    finally:
        driver.kill()
        driver.communicate()
    wait_until(lambda: not alive(child) and unclaimed(folder), "the writer's own end")
    assert "complete: " in log_file(folder).read_text()
    seen = lines[: in_the_middle_of(lines, "refine-002")]
    assert points_in(database) == points_of(seen)
    found = statuses(database)
    assert (found["refine-002"], found["recorded"], found["refine-001"]) == ("KILLED", "KILLED", "FINISHED")
    assert tags(database, "refine-002")["sweep.status"] == "INTERRUPTED"
    before = contents(database)
    sync(folder, default_uri(folder))
    assert contents(database) == before

    write(source, folder, None)
    sync(folder, default_uri(folder))
    found = statuses(database)
    assert (found["refine-002"], found["recorded"]) == ("FINISHED", "FINISHED")
    assert tags(database, "refine-002")["sweep.stop_reason"] == "all epochs"
    assert query(database, "SELECT count(*) FROM runs") == [(28,)]
    assert points_in(database) == points_of(lines)


def test_a_writer_that_fails_leaves_a_message_with_the_reason_and_the_replay(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "recorded"
    write(source, folder, 3)
    (folder / "mlflow.db").write_text("not a database" * 100)
    writer = Writer(folder, default_uri(folder))
    writer.child.wait(LIMIT_S)
    writer.mind()
    message = writer.finish(1)
    assert "exit code 1" in message
    assert "file is not a database" in message
    assert f"sweeps sync {folder}" in message
    assert str(log_file(folder)) in message


def test_a_server_that_never_comes_back_is_given_up_with_what_is_missing_and_no_secret(source: Path) -> None:
    uri = f"http://ann:hunter2@127.0.0.1:{free_port()}"
    code = (
        "import logging, os, sys; from pathlib import Path; from sweeps.tracking import writer\n"
        "handler = logging.StreamHandler(); handler.setFormatter(writer.SecretsHidden(sys.argv[2]))\n"
        "logging.basicConfig(handlers=[handler])\n"
        "try: writer.follow(Path(sys.argv[1]), sys.argv[2], os.open('/dev/null', os.O_RDONLY), 1, patience_s=1)\n"
        "except writer.TrackingError as error: writer.log.exception('given up')"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, str(source), uri],
        env={**os.environ, **ENVIRONMENT},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=True,
    )
    assert "out of reach, next try in 2.0 s" in answer.stderr
    assert "Missing there: confirm-000, " in answer.stderr
    assert "***@127.0.0.1" in answer.stderr
    assert "hunter2" not in answer.stderr


def alive(pid: int) -> bool:
    """Whether a process that is no child of ours runs; one that nobody reaped yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def unclaimed(folder: Path) -> bool:
    """Whether no writer is at work; threads of a process may hold its files a little longer than it shows as ended."""
    try:
        os.close(claim(folder, default_uri(folder)))
    except BlockingIOError:
        return False
    return True


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def mlflow_server(folder: Path, port: int) -> Iterator[str]:
    """An MLflow server on loopback with its database and artifacts in the folder; its address."""
    store = [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        str(folder / "artifacts"),
    ]
    with open(folder / "server.log", "ab") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *store, "--workers", "1", "--port", str(port)],
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_until(lambda: healthy(port), "the server's health")
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGKILL)  # its own session: the server and its workers
        server.wait()


def healthy(port: int) -> bool:
    """Whether a server answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.mark.slow
def test_a_server_that_is_killed_and_restarted_in_the_middle_misses_nothing(source: Path, tmp_path: Path) -> None:
    folder, lines, port = tmp_path / "recorded", read(source), free_port()
    hub = tmp_path / "hub"
    hub.mkdir()
    database = hub / "mlflow.db"
    write(source, folder, in_the_middle_of(lines, "refine-002"))
    (folder / "figures").mkdir()
    (folder / "figures" / "curves.png").write_bytes(b"\x89PNG")
    with mlflow_server(hub, port) as uri:
        writer = Writer(folder, uri)
        # Killed while it writes: some trials are there, others not.
        wait_until(lambda: len(statuses(database)) > 4, "the first runs")
    try:
        write(source, folder, in_the_middle_of(lines, "confirm-004"))
        gone = time.monotonic()
        wait_until(lambda: "out of reach" in log_file(folder).read_text(), "the writer's notice of it")
        wait_until(lambda: time.monotonic() > gone + 60, "a minute")  # what a restart by hand takes
        with mlflow_server(hub, port):
            wait_until(lambda: statuses(database).get("confirm-004") == "RUNNING", "what came meanwhile")
            write(source, folder, None)
            message = writer.finish(LIMIT_S)
            assert message == ""
            assert query(database, "SELECT count(*) FROM runs") == [(28,)]
            assert points_in(database) == points_of(lines)
            before = contents(database)
            sync(folder, uri)
            assert contents(database) == before
    finally:
        if writer.child.poll() is None:
            writer.child.kill()
            writer.child.wait()
    kept = {path.name for path in (hub / "artifacts").rglob("*") if path.is_file()}
    assert kept == {"spec.json", "environment.json", "journal.jsonl.gz", "curves.png"}
    assert not (folder / "mlartifacts").exists()
