"""The child process that follows a sweep's journal into MLflow; child.py starts it, mirror.py does the writing.

    MLFLOW_TRACKING_URI=... python -m sweeps.tracking.writer <sweep folder> <descriptor for signs of life>

It ends when its standard input has ended and MLflow has everything, or has been out of reach for a minute since.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import select
import signal
import sys
import time
from pathlib import Path

from sweeps.errors import JournalError, TrackingError
from sweeps.history import History
from sweeps.journal import JournalReader
from sweeps.secrets import without_secrets
from sweeps.storage import Folder, place
from sweeps.tracking.child import GAVE_UP, claim

INTERVAL_S = 2.0
LONGEST_PAUSE_S = 10.0
PATIENCE_S = 60.0
"""How long a server may be out of reach after the driver has ended; before that, for ever."""
log = logging.getLogger("sweeps.tracking")


def follow(folder: Folder, uri: str, stdin: int, signs: int, patience_s: float = PATIENCE_S) -> None:
    """Write the journal into MLflow as it grows, until `stdin` ends; then the rest. `signs` gets a byte for each trial
    that MLflow has taken.

    Raises TrackingError when something is missing in the end, JournalError when the journal is damaged.
    """
    # Imported here: two seconds that main wants at low priority, and deaf to SIGINT.
    from sweeps.tracking.mirror import Mirror, OutOfReach, Stumbled

    deadline = math.inf

    def taken() -> None:
        """It answers: give it time again."""
        nonlocal deadline
        deadline = time.monotonic() + patience_s
        sign(signs)

    reader, history = JournalReader(folder), History(folder)
    mirror = Mirror(uri, history, taken)
    pause, last_at, driver_gone = 0.0, 0.0, False
    while True:
        if driver_gone:
            time.sleep(pause)
        elif ended(stdin, pause):
            driver_gone, deadline = True, time.monotonic() + patience_s
        for line in reader.poll():  # after the look at stdin, so that the last poll gets the driver's last line
            history.apply(line)
            last_at = line["at"]
            if line.get("trial") in history.trials:
                mirror.pending.add(line["trial"])
        try:
            mirror.write(last_at if driver_gone else None)
            pause = INTERVAL_S
            if driver_gone:
                break
        except OutOfReach as error:
            if driver_gone and time.monotonic() > deadline:
                if not isinstance(error, Stumbled):
                    missing = [*sorted({*mirror.pending, *mirror.refused}), "how the sweep ended"]
                    raise TrackingError(
                        f"tracking: MLflow is out of reach: {error}\n  Missing there: {', '.join(missing)}."
                    ) from error
                mirror.set_failed_aside()
            pause = min(max(2 * pause, INTERVAL_S), LONGEST_PAUSE_S)
            log.warning("out of reach, next try in %.1f s: %s", pause, error)
    if mirror.refused:
        raise TrackingError(f"tracking: MLflow refused {', '.join(mirror.refused)}; the reasons are above.")
    log.info("complete: %d trials", len(history.trials))


def ended(stdin: int, wait_s: float) -> bool:
    """Whether the driver has closed the other end, waiting so long for it."""
    readable, _, _ = select.select([stdin], [], [], wait_s)
    return bool(readable) and os.read(stdin, 1024) == b""


def sign(signs: int) -> None:
    """A byte for whoever waits for us; nobody may, and a pipe that is full says as much."""
    with contextlib.suppress(BlockingIOError, BrokenPipeError):
        os.write(signs, b".")


def step_back() -> None:
    """Take the processor only when nothing else wants it: training comes first, and Ray gives its workers 15."""
    os.nice(19)
    if hasattr(os, "SCHED_IDLE"):  # Linux
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    # Where Linux shares the processor among sessions first, all of the above counts within this one only.
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text("19", encoding="ascii")


class SecretsHidden(logging.Formatter):
    """Formats as ever, tracebacks included, and hides what is secret in the tracking URI."""

    def __init__(self, uri: str) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self.uri = uri

    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(super().format(record), self.uri)


def main() -> int:
    """Exit code 0 when MLflow has everything, else GAVE_UP, with the reason as the log's last lines."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver's business; its end is ours
    step_back()
    folder, uri = place(sys.argv[1]), os.environ["MLFLOW_TRACKING_URI"]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(SecretsHidden(uri))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    log.info("following %s into %s", folder, uri)
    deadline = time.monotonic() + PATIENCE_S
    while True:  # a writer of the driver before us may still be draining
        try:
            claim(folder, uri)
            break
        except BlockingIOError:
            if time.monotonic() > deadline and ended(0, 0):
                log.error("tracking: another writer of this sweep is at work and does not end")
                return GAVE_UP
            time.sleep(INTERVAL_S)
    try:
        follow(folder, uri, 0, int(sys.argv[2]))
    except (TrackingError, JournalError) as error:
        log.error("%s", error)
        return GAVE_UP
    except Exception:  # the process's edge: whatever it was, the log tells it without secrets
        log.exception("the writer failed")
        return GAVE_UP
    return 0


if __name__ == "__main__":
    sys.exit(main())
