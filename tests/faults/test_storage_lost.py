"""The storage goes away while a sweep is at work: it ends with a message, and nothing that was told is lost."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.terminal import of_kind
from engine import toy_spec
from faults.harness import mounted
from sweeps import JournalError, StorageError, Sweep
from sweeps.journal import read
from sweeps.storage import newest_sweeps

pytestmark = pytest.mark.slow
SPACE = {"value": {"float": [0.0, 1.0]}, "seconds": 0.2}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MiB; it can be made larger with `mount -o remount,size=…`."""
    with mounted(tmp_path / "disk", "3m") as disk:
        yield disk


def test_a_full_disk_halts_the_sweep_and_resume_goes_on(ray_session: object, tmp_path: Path, small_disk: Path) -> None:
    spec = toy_spec(
        small_disk, "toys:heavy", space=SPACE, keep_checkpoints=30, tracking=f"sqlite:///{tmp_path}/mlflow.db",
        phases=[{"kind": "explore", "trials": 8, "epochs": 4, "reduction_factor": None}],
    )  # fmt: skip
    sweep = Sweep(spec)
    with pytest.raises((StorageError, JournalError)) as caught:
        sweep.run(out=io.StringIO())
    assert re.search(r"No space left on device\. Free space or mend .*, then `sweeps resume`", str(caught.value))
    history = Sweep.open(sweep.folder).history
    assert {trial.status for trial in history.trials.values()} <= {"FINISHED", "INTERRUPTED", "RUNNING"}
    before = {trial.trial: trial.told for trial in history.trials.values() if trial.status == "FINISHED"}
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    again = Sweep.open(sweep.folder).resume(out=io.StringIO())
    assert again.history.status == "FINISHED"
    assert len(again.history.trials) == 8
    assert {trial.status for trial in again.history.trials.values()} == {"FINISHED"}
    reports = Counter((line["trial"], line["epoch"]) for line in of_kind(read(sweep.folder), "report"))
    assert set(reports.values()) == {1}
    assert len(reports) == 8 * 4
    assert {trial: again.history.trials[trial].told for trial in before} == before


def test_a_removed_folder_ends_the_sweep_with_a_message(ray_session: object, tmp_path: Path) -> None:
    storage = tmp_path / "runs"
    spec = toy_spec(
        storage, space=SPACE, tracking=f"sqlite:///{tmp_path}/mlflow.db",
        phases=[{"kind": "explore", "trials": 30, "epochs": 9, "reduction_factor": None}],
    )  # fmt: skip

    def remove() -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if any(len(of_kind(read(folder), "report")) > 4 for folder in newest_sweeps(storage)):
                shutil.rmtree(storage)
                return
            time.sleep(0.05)

    thread = threading.Thread(target=remove, daemon=True)
    thread.start()
    with pytest.raises((StorageError, JournalError), match=r"it was removed|No such file or directory"):
        Sweep(spec).run(out=io.StringIO())
    thread.join()
