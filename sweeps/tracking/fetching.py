"""The child process that fetches journals from MLflow; journals.py starts it.

    {"sweeps": […], "folder": …} ──► MLFLOW_TRACKING_URI=... python -m sweeps.tracking.fetching

Its last line is {} when all are in the folder, {"unknown": …, "known": […]} when MLflow has no such sweep, and
{"why": …, "mend": …} when it has not its journal.
"""

from __future__ import annotations

import gzip
import json
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from sweeps.tracking.mirror import JOURNAL


class Missing(Exception):
    """Raised with what to answer when a journal cannot be had."""


def main() -> None:
    """Fetch what standard input orders."""
    order = json.load(sys.stdin)
    client, answer = MlflowClient(), {}
    try:
        for name in order["sweeps"]:
            fetch(client, name, Path(order["folder"]) / name)
    except Missing as missing:
        (answer,) = missing.args
    except (MlflowException, OSError) as error:
        mend = "If runs are shown there and this stays: is the place of its artifacts in reach from here?"
        answer = {"why": str(error).partition("\n")[0], "mend": mend}
    print(json.dumps(answer))


def fetch(client: MlflowClient, name: str, folder: Path) -> None:
    """Make the folder of a sweep with its journal in it. Raises Missing."""
    of_name = f'tags.sweep = "{name}" AND tags.`sweep.kind` = "sweep"'
    if folder.name != name or '"' in name or not (run := newest(runs(client, of_name))):
        known = [run.data.tags["sweep"] for run in runs(client, 'tags.`sweep.kind` = "sweep"')]
        raise Missing({"unknown": name, "known": known})
    if run.info.status == "RUNNING":  # what an earlier driver left there is no longer all of it
        mend = "Wait for its end, or name its folder. `sweeps sync` of that writes one whose driver is dead."
        raise Missing({"why": f"{name} has not ended, and its journal comes there with its end", "mend": mend})
    if JOURNAL not in {file.path for file in client.list_artifacts(run.info.run_id)}:
        raise Missing({"why": f"{name} is there without {JOURNAL}", "mend": "`sweeps sync` of its folder writes it."})
    (folder / "journal").mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        packed = client.download_artifacts(run.info.run_id, JOURNAL, scratch)
        try:
            with gzip.open(packed) as source, open(folder / "journal" / "0001-0000.jsonl", "wb") as target:
                shutil.copyfileobj(source, target)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            mend = "`sweeps sync` of its folder writes it anew."
            raise Missing({"why": f"{name}'s {JOURNAL} is damaged ({error})", "mend": mend}) from error


def newest(found: Iterator[Run]) -> Run | None:
    """The run that began last: two storages may each have a sweep of the name, of different specs."""
    return max(found, key=lambda run: run.info.start_time, default=None)


def runs(client: MlflowClient, filter_string: str) -> Iterator[Run]:
    """The runs of all experiments that a filter lets through, the newest first."""
    experiments = [str(experiment.experiment_id) for experiment in every(client.search_experiments)]
    yield from every(client.search_runs, experiments, filter_string) if experiments else ()


def every(search: Any, *given: Any) -> Iterator[Any]:
    """Everything that one of MLflow's searches finds, page by page."""
    token = None
    while True:
        page = search(*given, max_results=1000, page_token=token)
        yield from page
        if not (token := page.token):
            return


if __name__ == "__main__":
    main()
