"""An MLflow server for a team: refused early, awaited until it answers, ended together with who started it.

    sweeps tracking up ──► Server ──► serve: `python -m mlflow server` in a process group of its own
                              └── basic-auth's files, readable by nobody else, in the server's folder

Runs are in sqlite or PostgreSQL; artifacts go through the server, so that a client needs its address and nothing
else. MLflow's own job execution is off: it is an endpoint that runs code, and 8 processes (1.4 GB). No password is
ever part of a command line, a URI or a line of the log: MLflow and libpq read theirs from the environment or a file.
"""

from __future__ import annotations

import base64
import configparser
import contextlib
import ipaddress
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPException
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from string import Template
from typing import TextIO

WORKERS = 2
"""Processes that answer: each takes 0.3 GB, and a call of a sweep's writer takes 60 ms."""
START_S = 180.0
"""How long MLflow may take to answer: 12 to 30 s as a rule, more where it has an old database to migrate."""
GRACE_S = 15.0
"""How long it may take to finish what it is answering when it is to end."""
LAST_WORDS = 20
SHORTEST_PASSWORD = 12
"""MLflow's own rule."""
AUTH_CACHE_S = 60
"""How long a password that was right is taken for right. Without it each call hashes it again: 250 ms."""
OWN_NAMES = ("localhost", "localhost:*", "127.0.0.1", "127.0.0.1:*")
TEMPLATES = {"systemd": "tracking.service", "kubernetes": "tracking.yaml"}


class ServerError(Exception):
    """Raised when the server cannot start as asked, or has ended by itself; says what to do."""


@dataclass(frozen=True)
class Admin:
    """Who may do everything on a server with basic-auth, other users' accounts included."""

    name: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class Server:
    """What to run; `planned` makes it."""

    folder: Path
    """What the server keeps on this machine, each unless it is elsewhere: runs, artifacts, basic-auth's files."""
    store: str
    """Where runs are: an sqlite URI with an absolute path, or a PostgreSQL URI without a password."""
    artifacts: str
    """A folder's absolute path, or a URI."""
    host: str
    """The address to bind to."""
    port: int
    allowed_hosts: tuple[str, ...] = ()
    """By which names it is called; none: by those of this machine alone."""
    admin: Admin | None = None
    """Given for basic-auth, else whoever reaches the port may do everything."""

    @property
    def address(self) -> str:
        """How this machine reaches it."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def url(self) -> str:
        """How the team reaches it: by the first of its names."""
        names = [name for name in self.allowed_hosts if "*" not in name]
        return f"http://{with_port(names[0], self.port)}" if names else self.address

    @property
    def users(self) -> str:
        """Where basic-auth keeps its users: in the same PostgreSQL, its tables have other names; else a file."""
        return self.store if self.store.startswith("postgresql") else f"sqlite:///{self.folder}/users.db"


def planned(
    folder: Path,
    store: str | None,
    artifacts: str | None,
    host: str,
    port: int,
    allowed_hosts: tuple[str, ...],
    admin: Admin | None,
) -> Server:
    """The server as asked for, with what was left out; raises ServerError when it would be of no use.

    Makes the folder, so that a store in it can be looked at.
    """
    folder = folder.absolute()
    if "*" in allowed_hosts:
        raise ServerError(
            "allowed hosts: * lets any web page reach the server.\n  Give the names that it is called by."
        )
    if not on_loopback(host) and not allowed_hosts:
        raise ServerError(
            f"host: on {host} the server is called by names that it has to know, else it refuses the call.\n"
            "  Give them, e.g. --allowed-hosts mlflow.example,10.0.0.7"
        )
    _check_port(host, port)
    store = store or f"sqlite:///{folder}/mlflow.db"
    if store.startswith("sqlite:///") and not store.startswith("sqlite:////"):
        store = f"sqlite:///{Path(store.removeprefix('sqlite:///')).absolute()}"
    if not store.startswith(("sqlite:////", "postgresql:", "postgresql+psycopg:")):
        raise ServerError(
            f"store: {store.partition('://')[0]} is neither sqlite nor PostgreSQL.\n"
            "  Write sqlite:////path/mlflow.db or postgresql://user@host:5432/database."
        )
    artifacts = artifacts or str(folder / "artifacts")
    if "://" not in artifacts:
        artifacts = str(Path(artifacts).absolute())
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ServerError(f"folder: {folder} cannot be made ({error.strerror}).\n  Choose another one.") from None
    return Server(folder, store, artifacts, host, port, allowed_hosts, admin)


def admin_of(password_file: Path | None) -> Admin:
    """The admin by the file, else by MLFLOW_TRACKING_PASSWORD, else by ~/.mlflow/credentials; as clients name theirs.

    Raises ServerError when there is no password, or none that MLflow takes.
    """
    credentials = configparser.ConfigParser(interpolation=None)
    try:
        credentials.read(Path("~/.mlflow/credentials").expanduser(), encoding="utf-8")
    except configparser.Error as error:
        raise ServerError(f"~/.mlflow/credentials cannot be read ({type(error).__name__}).\n  Mend it.") from None
    known = dict(credentials["mlflow"]) if credentials.has_section("mlflow") else {}
    name = os.environ.get("MLFLOW_TRACKING_USERNAME") or known.get("mlflow_tracking_username") or "admin"
    if password_file is not None:
        password = _read_secret(password_file)
    else:
        password = os.environ.get("MLFLOW_TRACKING_PASSWORD") or known.get("mlflow_tracking_password", "")
    if not password:
        raise ServerError(
            f"auth: no password is given for {name}.\n"
            "  Set MLFLOW_TRACKING_PASSWORD, write ~/.mlflow/credentials, or name a file with --password-file."
        )
    if len(password) < SHORTEST_PASSWORD:
        raise ServerError(
            f"auth: the password of {name} has fewer than {SHORTEST_PASSWORD} characters.\n  Take a longer one."
        )
    return Admin(name, password)


def command(server: Server) -> list[str]:
    """The command line that runs MLflow; anyone on the machine can read it."""
    return [
        sys.executable, "-m", "mlflow", "server",
        "--backend-store-uri", server.store,
        "--serve-artifacts", "--artifacts-destination", server.artifacts,
        "--host", server.host, "--port", str(server.port), "--workers", str(WORKERS),
        "--uvicorn-opts", "--log-level warning",
        *(["--app-name", "basic-auth"] if server.admin else []),
    ]  # fmt: skip


def environment(server: Server) -> dict[str, str]:
    """MLflow's environment: ours, without what makes a client of it, and what the server is told in secret."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_TRACKING_")}
    told = {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PYTHONSAFEPATH": "1",  # a file called mlflow.py in the working directory is not MLflow
        "PYTHONUNBUFFERED": "1",
    }
    if server.allowed_hosts:
        # Clients and browsers send the port with the name, but for 80 and 443, which a proxy before it may have.
        names = dict.fromkeys(form for name in server.allowed_hosts for form in (name, with_port(name, server.port)))
        told["MLFLOW_SERVER_ALLOWED_HOSTS"] = ",".join((*OWN_NAMES, *names))
        # Its own pages count as foreign under any name but localhost: without these they stay empty.
        origins = (f"{scheme}://{name}" for name in names for scheme in ("http", "https"))
        told["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"] = ",".join(origins)
    if server.admin:
        told |= {
            "MLFLOW_AUTH_CONFIG_PATH": str(server.folder / "auth.ini"),
            "MLFLOW_AUTH_ADMIN_USERNAME": server.admin.name,
            "MLFLOW_AUTH_ADMIN_PASSWORD": server.admin.password,
            "MLFLOW_FLASK_SERVER_SECRET_KEY": _secret_key(server.folder),
        }
    return {**inherited, **told}


def serve(server: Server, ready: Callable[[], None], log: TextIO) -> None:
    """Run MLflow until this process is interrupted; no process of it is left then.

    `ready` is called once it answers; what it says from then on goes to `log`, secrets hidden. Raises ServerError when
    it cannot start or ends by itself.
    """
    try:
        if "://" not in server.artifacts:
            Path(server.artifacts).mkdir(parents=True, exist_ok=True)
        if server.admin:
            _write_secret(server.folder / "auth.ini", _auth_ini(server))
        told = environment(server)
    except OSError as error:
        raise ServerError(f"{error.filename} cannot be written ({error.strerror}).\n  Mend its permissions.") from None
    hidden = [
        told.get(name, "") for name in ("MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY", "PGPASSWORD")
    ]
    last: deque[str] = deque(maxlen=LAST_WORDS)
    answers = threading.Event()
    child = subprocess.Popen(
        command(server), env=told, cwd=server.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace",
        umask=0o077,  # what it writes, the users' hashed passwords among it, is the server's alone
        start_new_session=True,  # Ctrl-C in the terminal reaches us, and we end it in order
    )  # fmt: skip

    def listen() -> None:
        assert child.stdout is not None
        with child.stdout as said:
            for line in said:
                for secret in filter(None, hidden):
                    line = line.replace(secret, "***")
                last.append(line)
                if answers.is_set():
                    with contextlib.suppress(OSError):  # nobody reads us any more; MLflow must not wait for that
                        log.write(line)
                        log.flush()

    reader = threading.Thread(target=listen, daemon=True)
    reader.start()
    try:
        deadline = time.monotonic() + START_S
        while not _answers(server):
            if child.poll() is not None:
                raise _ended(child, reader, last, "while it started")
            if time.monotonic() > deadline:
                raise ServerError(f"MLflow does not answer after {START_S:.0f} s; its last words:\n  {_tail(last)}")
            time.sleep(0.2)
        answers.set()
        ready()
        child.wait()
        raise _ended(child, reader, last, "by itself")
    finally:
        _end(child)
        reader.join(5)


def knows(server: Server) -> bool:
    """Whether a running server takes the admin's password: it keeps the one that it was first started with."""
    assert server.admin is not None
    request = urllib.request.Request(f"{server.address}/api/2.0/mlflow/experiments/search?max_results=1")
    pair = base64.b64encode(f"{server.admin.name}:{server.admin.password}".encode()).decode()
    request.add_header("Authorization", f"Basic {pair}")
    try:
        with urllib.request.urlopen(request, timeout=30):
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return error.code != 401
    except (OSError, HTTPException):
        return True  # busy: its own log will tell


def template(kind: str) -> str:
    """What runs the server elsewhere, `systemd` or `kubernetes`, with this environment's command and version in it."""
    text = resources.files("cluster").joinpath("templates", TEMPLATES[kind]).read_text(encoding="utf-8")
    return Template(text).substitute(sweeps=Path(sys.executable).parent / "sweeps", version=version("tunewright"))


def on_loopback(host: str) -> bool:
    """Whether nothing but this machine reaches a server bound to this address."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def with_port(name: str, port: int) -> str:
    """The name with this port, unless it comes with one."""
    return name if ":" in name.rpartition("]")[2] else f"{name}:{port}"


def _check_port(host: str, port: int) -> None:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as uvicorn does
            probe.bind((host, port))
    except OSError as error:
        raise ServerError(
            f"port: {host}:{port} cannot be listened on ({error.strerror}).\n"
            "  Give another --port or --host, or end what runs there."
        ) from None


def _read_secret(file: Path) -> str:
    try:
        if file.stat().st_mode & 0o007:
            raise ServerError(f"auth: {file} can be read by everyone on this machine.\n  chmod 600 {file}")
        return file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ServerError(f"auth: {file} cannot be read ({error.strerror}).\n  Mend --password-file.") from None


def _write_secret(file: Path, text: str) -> None:
    """Written beside and moved there, so that it is never another's to read."""
    beside = file.with_suffix(".new")
    beside.unlink(missing_ok=True)
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as new:
        new.write(text)
    beside.rename(file)


def _secret_key(folder: Path) -> str:
    """What signs the pages' forms, the same for all workers and after a restart: made once and kept."""
    if given := os.environ.get("MLFLOW_FLASK_SERVER_SECRET_KEY"):
        return given
    file = folder / "secret.key"
    if not file.exists():
        _write_secret(file, secrets.token_hex(32))
    return file.read_text(encoding="utf-8")


def _auth_ini(server: Server) -> str:
    users = server.users.replace("%", "%%")  # MLflow reads it with interpolation
    return (
        "# Written by `sweeps tracking up` at each start. The admin's password comes in the environment.\n"
        "# EDIT: sweeps of one name share an experiment, whoever runs them; only an owner or the admin deletes.\n"
        f"[mlflow]\ndefault_permission = EDIT\ndatabase_uri = {users}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
        f"auth_cache_ttl_seconds = {AUTH_CACHE_S}\n"
    )


def _answers(server: Server) -> bool:
    try:
        with urllib.request.urlopen(f"{server.address}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, HTTPException):
        return False


def _ended(child: subprocess.Popen[str], reader: threading.Thread, last: deque[str], when: str) -> ServerError:
    _end(child)  # its workers outlive it, and hold the pipe
    reader.join(5)
    return ServerError(f"MLflow ended {when}, with exit code {child.returncode}; its last words:\n  {_tail(last)}")


def _tail(last: deque[str]) -> str:
    return "  ".join(list(last)).rstrip() or "none"


def _end(child: subprocess.Popen[str]) -> None:
    """End MLflow and all its workers; deaf to a second Ctrl-C, which would leave some behind."""
    ends = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    heeded = {number: signal.signal(number, signal.SIG_IGN) for number in ends}
    try:
        child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(GRACE_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    finally:
        for number, handler in heeded.items():
            signal.signal(number, handler)
