"""MLflow as its writer sees it: a client, what its errors mean, a run that it has. Imports mlflow, in child processes.

Place in the flow: mirror.py compares what a run should be with the `Known` that a search found, and asks here whether a
call that failed may work later.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from sweeps.tracking.prompt import answer_promptly
from sweeps.tracking.uris import SQLITE

PASSING = {
    "INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "DEADLINE_EXCEEDED", "REQUEST_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED",
    "ABORTED", "CANCELLED",
}  # fmt: skip
"""Error codes that mean "later", not "never": MLflow gives the first when a server cannot be reached at all, and
RESOURCE_EXHAUSTED for a plain 429."""
REFUSED = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST"}
"""Error codes that are about what was sent."""


@dataclass
class Known:
    """A run as MLflow has it."""

    run_id: str
    params: set[str]
    tags: dict[str, str]
    status: str
    ended: int | None = None
    data: bool = False
    """Whether it names the data set that it was trained on."""
    arrived: int = 0
    """So many of the trial's reports have been sent."""

    @classmethod
    def of(cls, run: Run) -> Known:
        """A run that a search has found."""
        data = run.data
        return cls(
            run.info.run_id, set(data.params), dict(data.tags), run.info.status, run.info.end_time,
            bool(run.inputs.dataset_inputs), int(data.tags.get("sweep.reports", 0)),
        )  # fmt: skip


def connected(uri: str) -> MlflowClient:
    """A client of this URI. An sqlite file that is not there yet is made first.

    It is made under another name and only then put in its place: MLflow makes tables one by one, and cannot go on in a
    file in which a process that was killed made a part of them.
    """
    answer_promptly()
    name = uri.removeprefix(SQLITE).partition("?")[0]
    if uri.startswith(SQLITE) and not Path(name).exists():
        with TemporaryDirectory(prefix=".mlflow-", dir=Path(name).parent) as folder:
            new = Path(folder) / "mlflow.db"
            MlflowClient(tracking_uri=f"{SQLITE}{new}").search_experiments(max_results=1)
            try:
                os.link(new, name)
            except FileExistsError:  # another sweep that shares it was first
                pass
            except OSError:  # a file system without links
                new.rename(name)
    return MlflowClient(tracking_uri=uri)


def passing(error: MlflowException) -> bool:
    """Whether the same call may work later."""
    return error.error_code in PASSING
