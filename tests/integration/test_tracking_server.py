"""`sweeps tracking up` as a team runs it: a real MLflow over sqlite and over PostgreSQL, a sweep written through it.

Runs and points are counted by SQL in the server's own database, and every password is looked for where it must not be.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from e2e.terminal import ROOT, below, end_group, processes, wait_until
from integration.test_tracking import points_of
from postgres import Postgres, free_port, postgres
from recorded import record
from sweeps.errors import TrackingError
from sweeps.journal import read
from sweeps.tracking import check, fetch_journals, sync
from sweeps.tracking.child import log_file

pytestmark = [pytest.mark.slow, pytest.mark.timeout(420)]  # an MLflow takes 8 s to start, on a busy machine 40
ADMIN, OTHER = "correct-horse-battery", "wrong-staple-of-another"
POINTS = (
    "SELECT r.name, m.key, m.step, m.value, m.timestamp FROM metrics m JOIN runs r USING (run_uuid) WHERE m.step > 0"
)
OF_A_SWEEP = {"spec.json", "environment.json", "journal.jsonl.gz", "curves.png"}
SEARCH = "/api/2.0/mlflow/experiments/search?max_results=1"


@dataclass
class Up:
    """A running `sweeps tracking up`."""

    child: subprocess.Popen[bytes]
    folder: Path
    port: int
    log: Path
    """What it printed."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def processes(self) -> dict[int, str]:
        """Its process and those below it, with their command lines."""
        known = processes()
        return {self.child.pid: known[self.child.pid][1], **below(self.child.pid, known)}


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As for someone who has set nothing."""
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "PGPASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
def sweep(recorded_sweep: Path, tmp_path: Path) -> Path:
    """A sweep of one's own to write, with a figure."""
    folder = tmp_path / "sweep" / "recorded"
    shutil.copytree(recorded_sweep, folder)
    (folder / "figures").mkdir()
    (folder / "figures" / "curves.png").write_bytes(b"\x89PNG")
    return folder


def start(folder: Path, port: int, *options: str, **environment: str) -> subprocess.Popen[bytes]:
    """The command, its output in a file beside the folder."""
    with open(folder.with_suffix(".log"), "wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "sweeps", "tracking", "up", "--folder", folder, "--port", str(port), *options],
            cwd=ROOT, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip


@contextmanager
def up(folder: Path, *options: str, **environment: str) -> Iterator[Up]:
    """A server that answers; a SIGTERM in the end, after which none of its processes is left."""
    port = free_port()
    child = start(folder, port, *options, **environment)
    found = Up(child, folder, port, folder.with_suffix(".log"))
    try:
        wait_until(lambda: "MLflow answers at" in found.log.read_text(), f"MLflow, log in {found.log}", child, 240)
        yield found
        known = found.processes()
        assert len(known) >= 4, known
        child.send_signal(signal.SIGTERM)
        assert child.wait(60) == 0
        left = {pid: line for pid, (_, line) in processes().items() if known.get(pid) == line}
        assert left == {}
        assert "MLflow has ended." in found.log.read_text()
    finally:
        end_group(child)


def refused(folder: Path, *options: str, port: int = 0, **environment: str) -> str:
    """What it says when it ends by itself with exit code 2."""
    child = start(folder, port or free_port(), *options, **environment)
    try:
        assert child.wait(240) == 2
    finally:
        end_group(child)
    return folder.with_suffix(".log").read_text()


def ask(url: str, who: str = "", data: bytes | None = None, **headers: str) -> int:
    """The status of a request."""
    if who:
        headers["Authorization"] = f"Basic {b64encode(who.encode()).decode()}"
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


@contextmanager
def command_lines() -> Iterator[set[str]]:
    """All command lines of the machine that are seen meanwhile."""
    seen: set[str] = set()
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.05):
            seen.update(line for _, line in processes().values())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def holding(folder: Path, secrets: Mapping[str, str]) -> list[tuple[str, str]]:
    """(file, name of the secret) of every file below the folder that has one in it."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [
        (str(file), name) for file in files for name, secret in secrets.items() if secret.encode() in file.read_bytes()
    ]


def test_over_sqlite_a_sweep_is_written_through_the_server(sweep: Path, tmp_path: Path) -> None:
    with up(tmp_path / "hub", "--allowed-hosts", "mlflow.lab") as server:
        said = server.log.read_text()
        assert f"--tracking-uri http://mlflow.lab:{server.port}" in said
        assert f"export MLFLOW_TRACKING_URI=http://mlflow.lab:{server.port}" in said
        second = refused(tmp_path / "second", port=server.port)
        assert "cannot be listened on (Address already in use)" in second
        assert "MLflow answers" not in second

        sync(sweep, server.url)
        lines = read(sweep)
        trials = {line["trial"] for line in lines if line["kind"] == "trial"}
        with closing(sqlite3.connect(f"file:{server.folder}/mlflow.db?mode=ro", uri=True)) as database:
            names = Counter(name for (name,) in database.execute("SELECT name FROM runs"))
            assert names == Counter([*trials, sweep.name])
            assert Counter(database.execute(POINTS)) == points_of(lines)
            (places,) = zip(*database.execute("SELECT DISTINCT artifact_uri FROM runs"), strict=True)
        assert all(place.startswith("mlflow-artifacts:/") for place in places)
        files = [path for path in (server.folder / "artifacts").rglob("*") if path.is_file()]
        assert {path.name for path in files} == OF_A_SWEEP
        assert not (sweep / "mlartifacts").exists()

        # Whoever has no folder of the sweep gets its journal through the server.
        (fetched,) = fetch_journals([sweep.name], server.url, tmp_path / "fetched")
        assert read(fetched) == lines
        with pytest.raises(TrackingError, match=rf"has no sweep rec.\n  Did you mean {sweep.name}"):
            fetch_journals(["rec"], server.url, tmp_path / "fetched")
        # Others on the machine have no business with it.
        assert {stat.S_IMODE(path.stat().st_mode) for path in [server.folder / "mlflow.db", *files]} == {0o600}

        # Names: those it was given, and its pages under them; no other.
        body, runs = b'{"experiment_ids": ["1"]}', f"{server.url}/ajax-api/2.0/mlflow/runs/search"
        ours = {"Host": f"mlflow.lab:{server.port}", "Origin": f"http://mlflow.lab:{server.port}"}
        assert ask(server.url + SEARCH, Host=ours["Host"]) == 200
        assert ask(server.url + SEARCH, Host=f"evil.example:{server.port}") == 403
        assert ask(runs, data=body, **ours) == 200
        assert ask(runs, data=body, **{**ours, "Origin": "http://evil.example"}) == 403
        assert ask(f"{server.url}/health", Host="10.0.0.7:5000") == 200  # as a kubelet asks


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    """A PostgreSQL."""
    with postgres() as found:
        yield found


def test_over_postgresql_with_users_nothing_is_lost_and_no_password_is_told(
    sweep: Path, tmp_path: Path, database: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "admin-password"
    secret.write_text(f"{ADMIN}\n")
    secret.chmod(0o600)
    secrets = {"admin": ADMIN, "database": database.password, "wrong": OTHER}
    options = ("--store", database.uri, "--auth", "--password-file", str(secret))
    with command_lines() as seen, up(tmp_path / "hub", *options, PGPASSWORD=database.password) as server:
        said = server.log.read_text()
        assert f"runs       {database.uri}" in said
        assert f"users      {database.uri}" in said
        assert "another password" not in said

        assert ask(server.url + SEARCH) == 401
        with pytest.raises(TrackingError, match="refuses us \\(401\\)"):
            sync(sweep, server.url)
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", OTHER)
        with pytest.raises(TrackingError, match=r"refuses us \(401\).\n  Set MLFLOW_TRACKING_USERNAME and") as caught:
            sync(sweep, server.url)
        assert OTHER not in str(caught.value)
        assert database.query("SELECT count(*) FROM runs") == [(0,)]

        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", ADMIN)
        sync(sweep, server.url)
        lines = read(sweep)
        trials = {line["trial"] for line in lines if line["kind"] == "trial"}
        assert database.query("SELECT count(*) FROM runs") == [(len(trials) + 1,)]
        assert Counter(database.query(POINTS)) == points_of(lines)
        files = [path for path in (server.folder / "artifacts").rglob("*") if path.is_file()]
        assert {path.name for path in files} == OF_A_SWEEP
        assert database.query("SELECT username, is_admin FROM users") == [("admin", True)]

        # A database that was away: the server's connections are made anew.
        database.restart()
        sync(sweep, server.url)
        assert database.query("SELECT count(*) FROM runs") == [(len(trials) + 1,)]
        assert Counter(database.query(POINTS)) == points_of(lines)

        # Somebody else of the team, whom the admin adds, keeps a sweep of their own.
        person = b'{"username": "bea", "password": "another-long-one"}'
        assert ask(f"{server.url}/api/2.0/mlflow/users/create", f"admin:{ADMIN}", person) == 200
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "bea")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "another-long-one")
        other = record(tmp_path / "sweep" / "of-bea")
        sync(other, server.url)
        assert database.query("SELECT count(*) FROM runs") == [(2 * (len(trials) + 1),)]
        secrets["bea"] = "another-long-one"
    assert any("mlflow server --backend-store-uri postgresql:" in line for line in seen)
    assert any("sweeps.tracking.writer" in line for line in seen)
    assert [(line, name) for line in seen for name, secret in secrets.items() if secret in line] == []
    (secret_file,) = [file for file, _ in holding(tmp_path, {"admin": ADMIN})]
    assert secret_file == str(secret)
    assert holding(tmp_path / "sweep", secrets) == holding(tmp_path / "hub", secrets) == []
    assert "complete: " in log_file(sweep).read_text()
    kept = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "hub").iterdir() if path.is_file()}
    assert kept == {"auth.ini": 0o600, "secret.key": 0o600}


def test_a_database_that_refuses_is_told_at_once(tmp_path: Path, database: Postgres) -> None:
    said = refused(tmp_path / "hub", "--store", database.uri, PGPASSWORD=OTHER)
    assert 'password authentication failed for user "tunewright"' in said
    assert "PGPASSWORD" in said
    assert OTHER not in said
    assert "Starting" not in said
    nowhere = database.uri.replace("/mlflow", "/nowhere")
    assert 'database "nowhere" does not exist' in refused(
        tmp_path / "b", "--store", nowhere, PGPASSWORD=database.password
    )


def test_a_databases_password_may_be_in_a_file(
    tmp_path: Path, database: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "pgpass"
    file.write_text(f"127.0.0.1:{database.port}:mlflow:tunewright:{database.password}\n")
    file.chmod(0o600)
    with pytest.raises(TrackingError, match="no password supplied"):
        check(database.uri)
    monkeypatch.setenv("PGPASSFILE", str(file))
    check(database.uri)


def test_the_password_of_the_first_start_counts_and_another_one_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "hub"
    with up(folder, "--auth", MLFLOW_TRACKING_PASSWORD=ADMIN) as server:
        assert ask(server.url + SEARCH, f"admin:{ADMIN}") == 200
        assert "another password" not in server.log.read_text()
        key = (folder / "secret.key").read_text()
    with up(folder, "--auth", MLFLOW_TRACKING_PASSWORD=OTHER) as server:
        assert "has another password for admin: that one counts" in server.log.read_text()
        assert ask(server.url + SEARCH, f"admin:{ADMIN}") == 200
        assert (folder / "secret.key").read_text() == key
        server.child.send_signal(signal.SIGINT)  # Ctrl-C, a SIGTERM behind it
    assert holding(tmp_path, {"admin": ADMIN, "other": OTHER}) == []


def test_a_server_that_dies_as_it_starts_leaves_its_last_words_without_a_secret(tmp_path: Path) -> None:
    (tmp_path / "hub").mkdir()
    with closing(sqlite3.connect(tmp_path / "hub" / "mlflow.db")) as database, database:
        database.execute("CREATE TABLE alembic_version (version_num TEXT)")
        database.execute("INSERT INTO alembic_version VALUES (?)", [f"of the future {ADMIN}"])  # MLflow repeats it
    said = refused(tmp_path / "hub", "--auth", MLFLOW_TRACKING_PASSWORD=ADMIN)
    assert "TrackingError: tracking: MLflow ended while it started, with exit code 1; its last words:" in said
    assert "of the future ***" in said
    assert ADMIN not in said
    assert "MLflow answers" not in said


def test_a_server_that_is_killed_takes_the_command_with_it(tmp_path: Path) -> None:
    folder = tmp_path / "hub"
    child = start(folder, port := free_port())
    log = folder.with_suffix(".log")
    try:
        wait_until(lambda: "MLflow answers at" in log.read_text(), f"MLflow, log in {log}", child, 240)
        known = below(child.pid, processes())
        (mlflow,) = [pid for pid, line in known.items() if "-m mlflow server" in line]
        os.kill(mlflow, signal.SIGKILL)
        assert child.wait(60) == 2
        assert "MLflow ended by itself, with exit code -9" in log.read_text()
        assert {pid for pid, (_, line) in processes().items() if known.get(pid) == line} == set()
        with pytest.raises(TrackingError, match="cannot be reached"):
            check(f"http://127.0.0.1:{port}")
    finally:
        end_group(child)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
