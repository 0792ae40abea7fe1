"""A PostgreSQL of a test's own: on a free port of loopback, in a temporary folder, asking for a password (scram).

with postgres() as database:
    database.uri, database.password, database.query("SELECT 1"), database.restart()
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

USER, DATABASE = "tunewright", "mlflow"
LIMIT_S = 60


@dataclass
class Postgres:
    """A server of one database, whose owner we are."""

    programs: Path
    folder: Path
    port: int
    password: str
    child: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        """For a client that has the password from elsewhere."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{DATABASE}"

    def query(self, sql: str, *values: Any, database: str = DATABASE) -> list[tuple[Any, ...]]:
        """The rows that a statement gives; each is a transaction of its own."""
        with self._connect(database) as connection:
            cursor = connection.execute(sql, values or None)  # no values: a % means itself
            return cursor.fetchall() if cursor.description else []

    def start(self) -> None:
        """Start it and wait until it answers."""
        settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "port": self.port, "fsync": "off"}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with open(self.folder / "log", "ab") as log:
            self.child = subprocess.Popen(
                [self.programs / "postgres", "-D", self.folder / "data", *options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, **unprivileged(self.folder),
            )  # fmt: skip
        deadline = time.monotonic() + LIMIT_S
        while not self._answers():
            told = (self.folder / "log").read_text()
            assert self.child.poll() is None, f"PostgreSQL ended at its start:\n{told}"
            assert time.monotonic() < deadline, f"PostgreSQL does not answer after {LIMIT_S} s:\n{told}"
            time.sleep(0.05)

    def stop(self) -> None:
        """End it and cut its connections, as a maintenance does; what is committed stays."""
        if self.child and self.child.poll() is None:
            self.child.send_signal(signal.SIGINT)  # "fast"
            try:
                self.child.wait(LIMIT_S)
            except subprocess.TimeoutExpired:
                self.child.send_signal(signal.SIGQUIT)
                self.child.wait()

    def restart(self) -> None:
        """Stop and start it."""
        self.stop()
        self.start()

    def _answers(self) -> bool:
        try:
            self._connect("postgres").close()
        except psycopg.OperationalError:
            return False
        return True

    def _connect(self, database: str) -> psycopg.Connection:
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user=USER, password=self.password, dbname=database, autocommit=True,
            connect_timeout=5,
        )  # fmt: skip


@contextlib.contextmanager
def postgres() -> Iterator[Postgres]:
    """A running one, removed in the end. Skips the test where PostgreSQL is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not found:
        pytest.skip("no PostgreSQL to start: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="tw-postgres-"))
    server = Postgres(found[-1].parent, folder, free_port(), secrets.token_hex(16))
    try:
        (folder / "password").write_text(server.password)
        if os.getuid() == 0:
            for path in (folder, folder / "password"):
                shutil.chown(path, "postgres", "postgres")
        subprocess.run(
            [server.programs / "initdb", "-D", folder / "data", "-U", USER, "--auth=scram-sha-256", "--no-sync",
             f"--pwfile={folder / 'password'}", "--encoding=UTF8", "--locale=C"],
            check=True, stdout=subprocess.DEVNULL, **unprivileged(folder),
        )  # fmt: skip
        (folder / "password").unlink()
        server.start()
        server.query(f"CREATE DATABASE {DATABASE}", database="postgres")
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def unprivileged(folder: Path) -> dict[str, Any]:
    """How to run a program of PostgreSQL, which refuses root: as the user that its package makes."""
    if os.getuid() != 0:
        return {"cwd": folder}
    user = pwd.getpwnam("postgres")
    return {"cwd": folder, "user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
