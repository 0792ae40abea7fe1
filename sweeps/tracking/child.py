"""The driver's side of the MLflow writer: start it, end it, replay with it. No mlflow import.

The child's standard input is the driver's sign of life: its end means that the driver is done, or dead by whatever
means, and either way the child writes what the journal still holds and ends by itself. The sweep never fails because
MLflow did: `finish` gives a message, and `sync` repeats the work from the journal whenever one likes.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import cast

from sweeps.errors import TrackingError
from sweeps.storage import Folder, at_hand, lock_file, place
from sweeps.tracking.uris import check

ENVIRONMENT = {
    "MLFLOW_CONFIGURE_LOGGING": "false",  # its lines go through the writer's own handler, which hides secrets
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # a retried create_run makes a second run: the writer looks up first
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


def start(folder: Folder, uri: str) -> subprocess.Popen[bytes]:
    """Start the process that follows the sweep's journal into MLflow, until its standard input ends."""
    return _popen(folder, uri, subprocess.PIPE)


def finish(child: subprocess.Popen[bytes], timeout_s: float) -> str:
    """Tell the writer that the journal is complete and wait for it. Empty when MLflow has everything, else a message.

    A writer that takes longer is left alone: it goes on by itself and gives up a minute after an unreachable server.
    """
    folder = place(cast(list[str], child.args)[-1])
    if child.stdin:
        with contextlib.suppress(BrokenPipeError):  # it has ended already; its exit code tells how
            child.stdin.close()
    replay = f"Nothing is lost: `sweeps sync {shlex.quote(str(folder))}` writes what is missing."
    try:
        code = child.wait(timeout_s)
    except subprocess.TimeoutExpired:
        return f"MLflow: the writer (process {child.pid}) is still at work after {timeout_s:.0f} s.\n  {replay}"
    if code == 0:
        return ""
    log = log_file(folder)
    last = "\n  ".join(log.read_text(errors="replace").splitlines()[-5:])
    return f"MLflow: the writer ended with exit code {code}; its last words in {log}:\n  {last}\n  {replay}"


def sync(folder: Folder, uri: str) -> None:
    """Write a finished or dead sweep into MLflow, which may already hold all, a part or nothing of it.

    Raises TrackingError when the URI cannot be used, when the sweep has a writer already, or when something is missing
    in the end.
    """
    check(uri)
    try:
        os.close(claim(folder))
    except BlockingIOError:
        raise TrackingError(
            f"tracking: {folder} is being written to MLflow already.\n  Wait until its sweep has ended."
        ) from None
    child = _popen(folder, uri, subprocess.DEVNULL)
    if child.wait() != 0:
        raise TrackingError(finish(child, 0))


def claim(folder: Folder) -> int:
    """Become the sweep's only writer, for as long as the returned file stays open; two would create runs twice.

    Raises BlockingIOError when another process is it.
    """
    descriptor = os.open(lock_file(folder, "mlflow"), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise
    return descriptor


def log_file(folder: Folder) -> Path:
    """Where the writer's log is."""
    return at_hand(folder) / "logs" / "mlflow.log"


def _popen(folder: Folder, uri: str, stdin: int) -> subprocess.Popen[bytes]:
    path = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": os.pathsep.join(filter(None, path))}
    environment["MLFLOW_TRACKING_URI"] = uri  # not an argument: those can be read by anyone on the machine
    log_file(folder).parent.mkdir(parents=True, exist_ok=True)
    with open(log_file(folder), "ab") as log:
        return subprocess.Popen(
            # -P: a file called mlflow.py in the working directory is not MLflow
            [sys.executable, "-P", "-m", "sweeps.tracking.writer", str(place(folder))],
            env=environment,
            stdin=stdin,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C in the terminal stops the driver; the child then still drains
        )
