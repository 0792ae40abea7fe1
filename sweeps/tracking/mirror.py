"""One sweep's runs in MLflow, brought up to its journal. Imports mlflow, as only store.py and the child processes that
orders.py names do besides.

It compares and never just appends: `runs.py` says how each run should look, a look-up by the tag `sweep.uid` how it
does, and the difference is sent in one batch a run. So a crash, a server that comes back and a replay into a server
that has half of it are all the same case, and none makes anything twice.
"""

from __future__ import annotations

import gzip
import json
import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import OperationalError

from sweeps.errors import TrackingError
from sweeps.history import History, TrialHistory
from sweeps.journal import read
from sweeps.spec import name_of
from sweeps.storage import at_hand
from sweeps.tracking.runs import (
    Point,
    RunRecord,
    best_points,
    environment,
    hyperparameter_points,
    milliseconds,
    points,
    sweep_record,
    trial_record,
)
from sweeps.tracking.store import REFUSED, Known, connected, passing
from sweeps.tracking.uris import SQLITE
from sweeps.tracking.views import described, other_version, views

METRICS_A_BATCH, PARAMS_A_BATCH = 800, 100  # MLflow takes 1,000 entities a call in all
JOURNAL = "journal.jsonl.gz"
"""The artifact of the sweep's run that holds its whole record."""
log = logging.getLogger("sweeps.tracking")


class OutOfReach(Exception):
    """Raised when MLflow did not answer, or not now: the same call may work later."""


class Stumbled(OutOfReach):
    """Raised when MLflow took everything but some trials, or the sweep's files."""


class Mirror:
    """One sweep's runs in MLflow."""

    def __init__(self, uri: str, history: History, taken: Callable[[], None]) -> None:
        """`taken` is called whenever MLflow has taken something."""
        self.uri, self.history, self.taken = uri, history, taken
        self.pending: set[str] = set()
        """Trials with something new in the journal."""
        self.failed: dict[str, str] = {}
        """Those among them that failed when MLflow was last written to, and how."""
        self.refused: dict[str, str] = {}
        """What MLflow will not take, and why: a record, a file, or a whole trial."""
        self._spoilt: set[str] = set()
        """Runs that lack a record: whoever writes the sweep again is to send all of theirs."""
        self._last = False
        """Whether a file that fails is not tried again."""
        self._unsure: set[str] = set()
        """Runs that a call failed for, which may have been done: to be looked up before the next."""
        self._client: MlflowClient | None = None
        self._runs: dict[str, Known] | None = None
        self._asked_version = False
        self._experiment = ""
        self._experiment_tags: dict[str, str] = {}

    def write(self, gone_at: float | None = None) -> None:
        """Bring MLflow up to the journal; `gone_at`: for the last time, the driver is no more.

        Raises OutOfReach: what was not sent stays pending, and is looked up before it is sent again.
        Raises TrackingError when MLflow will not take this sweep, which it is told for good only for the last time.
        """
        try:
            if self._client is None:
                self._client = connected(self.uri)
                self.taken()  # a database was made, at least
            if self.history.spec is None:
                return
            if self._runs is None:
                self._experiment = self._find_experiment(self.history.spec.name)
                self._runs = self._look_up()
            self._write_all(gone_at)
        # requests' errors are OSErrors, and so is a full disk; a database that is gone at the start raises its own
        except (MlflowException, OSError, OperationalError) as error:
            self._runs = None  # a call that failed may still have been done
            if isinstance(error, MlflowException) and not passing(error) and gone_at is not None:
                raise TrackingError(f"tracking: MLflow refuses the sweep: {error}") from error
            raise OutOfReach(str(error)) from error

    def set_failed_aside(self) -> None:
        """Go on without what MLflow could not be written: these trials now, and files that fail again."""
        self._last = True
        for name, why in self.failed.items():
            self._set_aside(name, why)
            self.pending.discard(name)
        self.failed.clear()

    def _write_all(self, gone_at: float | None) -> None:
        links = described(self.history, self._experiment)
        sweep = self._found(sweep_record(self.history))
        self._save_views()
        if gone_at is not None:
            self.pending |= {trial.trial for trial in self.history.trials.values() if trial.status == "RUNNING"}
            self.pending -= self.refused.keys()
        self._write_trials(sweep.run_id, gone_at)
        if gone_at is None:
            self._send(sweep_record(self.history, links=links))
        if self.failed:
            self._look_up(self.history.id)  # raises where it is the server that is out of reach
            raise Stumbled(next(iter(self.failed.values())))
        if gone_at is not None:  # last, so that a sweep shown as ended has everything
            self._runs = self._look_up()  # what a server was asked for while it hung it may have done since
            self._try_files(sweep.run_id)
            self._send(sweep_record(self.history, gone_at, links))

    def _write_trials(self, sweep_run: str, gone_at: float | None) -> None:
        """Bring the runs of the pending trials up to the journal.

        One that fails is tried again after the others, so that a record on which the server stumbles holds up nothing
        but its own trial; after two in a row, which may be the server's, not before the next time.
        """
        assert self._runs is not None
        due = sorted((name for name in self.history.trials if name in self.pending), key=self.failed.__contains__)
        in_a_row = 0
        for name in due:
            record = trial_record(self.history, self.history.trials[name], sweep_run, gone_at)
            try:
                self._write_trial(record, self.history.trials[name])
            except MlflowException as error:
                self.failed[name] = str(error)
                self._unsure.add(record.uid)
                self._runs.pop(record.uid, None)
                in_a_row += 1
                if in_a_row == 2:
                    return
                continue
            self.taken()
            self.pending.discard(name)
            self.failed.pop(name, None)
            in_a_row = 0

    def _write_trial(self, record: RunRecord, trial: TrialHistory) -> None:
        """Bring a trial's run up to the journal."""
        known = self._found(record)
        new = points(trial.epochs[known.arrived :])
        new += hyperparameter_points(self.history, trial, known.arrived)
        self._send(record, new + (best_points(self.history, trial) if known.status != record.status else []))
        known.arrived = len(trial.epochs)
        if trial.data and not known.data:
            self._name_data(known, trial.data)

    def _name_data(self, known: Known, digest: str) -> None:
        """Have a run name the data set that it was trained on, as MLflow's column Dataset shows it."""
        assert self._client is not None
        assert self.history.spec is not None
        trainable = name_of(self.history.spec.trainable)
        sizes = {k: v for k, v in self.history.plans[-1]["footprint"].items() if k.endswith("_rows") or k == "classes"}
        found = Dataset(
            trainable.rpartition(":")[2],
            digest,
            "code",
            json.dumps({"tags": {"mlflow.source.name": trainable}}),
            profile=json.dumps(sizes),
        )
        context = InputTag("mlflow.data.context", "training")
        self._client.log_inputs(known.run_id, [DatasetInput(found, [context])])
        known.data = True

    def _find_experiment(self, name: str) -> str:
        """The id of the experiment of this name, made if missing."""
        assert self._client is not None
        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self._client.create_experiment(name, artifact_location=self._artifact_location()))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                found = self._client.get_experiment_by_name(name)  # another sweep of the name made it just now
        if found.lifecycle_stage != "active":
            mend = f"Restore it (mlflow experiments restore -x {found.experiment_id}), or give the spec another name."
            raise TrackingError(f"tracking: the experiment {name} is in MLflow's trash.\n  {mend}")
        self._experiment_tags = dict(found.tags)
        return str(found.experiment_id)

    def _artifact_location(self) -> str | None:
        """Beside an sqlite file, beside the sweeps for other databases, a server's own place otherwise.

        Without it MLflow would write into the current directory of whoever came first.
        """
        if self.uri.startswith(SQLITE):
            return str(Path(self.uri.removeprefix(SQLITE)).absolute().parent / "mlartifacts")
        return None if self.uri.startswith("http") else str(at_hand(self.history.folder).parent / "mlartifacts")

    def _look_up(self, uid: str | None = None) -> dict[str, Known]:
        """The runs of the sweep that MLflow has, by `sweep.uid`: all, or the one of that uid."""
        assert self._client is not None
        mine = f'tags.`sweep.id` = "{self.history.id}"' + (f' AND tags.`sweep.uid` = "{uid}"' if uid else "")
        runs: dict[str, Known] = {}
        token = None
        while True:
            page = self._client.search_runs([self._experiment], mine, max_results=500, page_token=token)
            for run in page:
                if (found := run.data.tags.get("sweep.uid")) is None:  # somebody else's, who tagged it like ours
                    continue
                # A server that hung makes a run that was asked for long ago, beside the one asked for since.
                fewer, runs[found] = sorted((Known.of(run), runs.get(found, Known.of(run))), key=self._weight)
                if fewer.run_id != runs[found].run_id:
                    self._client.delete_run(fewer.run_id)
            token = page.token
            if not token:
                return runs

    def _weight(self, known: Known) -> tuple[int, bool]:
        """Which of two runs of one uid is kept: the one with more reports, of equals the one that is written to."""
        current = (self._runs or {}).get(known.tags["sweep.uid"])
        return known.arrived, current is not None and current.run_id == known.run_id

    def _found(self, record: RunRecord) -> Known:
        """The run for this record, made if missing, as yet without anything but its identity."""
        assert self._client is not None
        assert self._runs is not None
        if record.uid in self._unsure:
            self._runs |= self._look_up(record.uid)
            self._unsure.discard(record.uid)
        if record.uid not in self._runs:
            identity = {name: record.tags[name] for name in ("sweep", "sweep.id", "sweep.uid", "sweep.kind")}
            run = self._client.create_run(self._experiment, record.started, dict(identity), record.name)
            self._runs[record.uid] = Known(run.info.run_id, set(), identity, "RUNNING")
        return self._runs[record.uid]

    def _send(self, record: RunRecord, new: Iterable[Point] = ()) -> Known:
        """Send what a run lacks. Tags go last: `sweep.reports` stands for points that have arrived."""
        assert self._client is not None
        known = self._found(record)
        metrics = [Metric(point.key, point.value, point.timestamp, point.step) for point in new]
        # Only missing params: one that differs, as after a sweep was extended, would have the batch refused.
        params = [Param(name, value) for name, value in record.params.items() if name not in known.params]
        tags = {name: value for name, value in record.tags.items() if known.tags.get(name, "") != value}
        while metrics or params or tags:
            last = len(metrics) <= METRICS_A_BATCH and len(params) <= PARAMS_A_BATCH
            marks = [RunTag(name, value) for name, value in tags.items()] if last else []
            self._log(record, known, [*metrics[:METRICS_A_BATCH], *params[:PARAMS_A_BATCH], *marks])
            known.params |= {param.key for param in params[:PARAMS_A_BATCH]}
            metrics, params = metrics[METRICS_A_BATCH:], params[PARAMS_A_BATCH:]
            if last:
                known.tags |= tags
                break
        if (known.status, known.ended) != (record.status, record.ended):
            if record.ended is None:  # it goes on after a resume
                self._client.update_run(known.run_id, status=record.status)
            else:
                self._client.set_terminated(known.run_id, record.status, record.ended)
            known.status, known.ended = record.status, record.ended
        return known

    def _log(self, record: RunRecord, known: Known, entities: Sequence[Metric | Param | RunTag]) -> None:
        """Send metrics, params and tags in one call, and in halves where MLflow refuses it: a bad one among them is set
        aside, and the others arrive."""
        assert self._client is not None
        if record.uid in self._spoilt:
            entities = [entity for entity in entities if entity.key != "sweep.reports"]
        if not entities:
            return
        try:
            self._client.log_batch(
                known.run_id,
                [entity for entity in entities if isinstance(entity, Metric)],
                [entity for entity in entities if isinstance(entity, Param)],
                [entity for entity in entities if isinstance(entity, RunTag)],
            )
        except MlflowException as error:
            run = self._client.get_run(known.run_id) if error.error_code in REFUSED else None
            if run is None or run.info.lifecycle_stage != "active":  # what was sent is not at fault
                raise
            if len(entities) == 1:
                kind = type(entities[0]).__name__.removeprefix("Run").lower()
                self._spoilt.add(record.uid)
                self._set_aside(f"{record.name}'s {kind} {entities[0].key}", str(error))
                return
            half = len(entities) // 2
            self._log(record, known, entities[:half])
            self._log(record, known, entities[half:])

    def _set_aside(self, what: str, why: str) -> None:
        """Go on without something that MLflow will not take; the journal has it."""
        self.refused[what] = why
        log.error("%s: refused by MLflow: %s", what, why)

    def _save_views(self) -> None:
        """Have the sweep's pages open as `views.py` says; without them the usual ones do."""
        assert self._client is not None
        if not self._asked_version:
            self._asked_version = True
            if warning := other_version(self.uri):
                log.warning("the sweep's views in MLflow: %s", warning)
        for view in views(self.history):
            value = view.value(milliseconds(self.history.header["began"]))
            if self._experiment_tags.get(view.tag) == value:
                continue
            try:
                self._client.set_experiment_tag(self._experiment, view.tag, value)
            except MlflowException as error:
                if passing(error):
                    raise
                log.warning("the view %r cannot be saved, MLflow opens on its own table: %s", view.name, error)
            self._experiment_tags[view.tag] = value

    def _try_files(self, sweep_run: str) -> None:
        """Send the files; where their store will not have them, the sweep's end is told all the same."""
        try:
            self._send_files(sweep_run)
        except Exception as error:
            if not self._last:
                raise Stumbled(f"the sweep's files: {error}") from error
            self._set_aside("files", str(error))

    def _send_files(self, sweep_run: str) -> None:
        """The sweep's record and its report to its own run, the figures to the best trial's as well.

        The journal is the record itself: whoever has MLflow only can still read the sweep.
        """
        assert self._client is not None
        assert self._runs is not None
        assert self.history.spec is not None
        self._client.log_dict(sweep_run, self.history.spec.document(), "spec.json")
        self._client.log_dict(sweep_run, environment(self.history), "environment.json")
        errors = [finding for finding in self.history.findings if finding["finding"] == "errors"]
        if errors:
            self._client.log_dict(sweep_run, errors[-1]["evidence"], "errors.json")
        with TemporaryDirectory(prefix="tunewright-") as scratch:
            packed = Path(scratch) / JOURNAL
            with gzip.open(packed, "wt", encoding="utf-8") as lines:
                lines.writelines(json.dumps(line) + "\n" for line in read(self.history.folder))
            self._client.log_artifact(sweep_run, str(packed))
        here = at_hand(self.history.folder)
        figures, report = here / "figures", here / "report.html"
        if report.is_file():
            self._client.log_artifact(sweep_run, str(report))
        if figures.is_dir() and any(figures.iterdir()):
            self._client.log_artifacts(sweep_run, str(figures), "figures")
        best = self._runs.get(f"{self.history.id}/{(self.history.verdict or {}).get('best_trial')}")
        if best:
            for figure in sorted(figures.glob("*.png")):
                self._client.log_artifact(best.run_id, str(figure), "figures")
