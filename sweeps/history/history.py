"""A sweep as the journal has it, line by line; and the driver's journal with its fold."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from threading import RLock
from typing import TYPE_CHECKING, Any

from sweeps.errors import JournalError, SpecError
from sweeps.history.trials import Epoch, Exploit, TrialHistory
from sweeps.journal import FORMAT, Journal, Line, now, read
from sweeps.space import Change, Space
from sweeps.spec import SweepSpec
from sweeps.storage import Folder

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass
class PhaseHistory:
    """One phase: the space it searched, how that came about, its end."""

    phase: str
    kind: str
    space: Space
    changes: list[Change]
    """What became of each parameter's range on entering this phase; empty when the space is the spec's."""
    comparison: dict[str, Any] | None
    """The fidelity and the number of trials that the changes rest on."""
    trials: int
    """Planned trials."""
    started: float
    ended: float | None = None
    status: str = "RUNNING"
    reason: str = ""
    seconds: float = 0.0
    """Of work in slots that was no trial's."""
    judged: bool = False
    """Whether a verdict, or word that there can be none, followed its end."""
    grown: tuple[int, ...] = ()
    """Trials that were planned at first, and each time that the sweep was extended."""

    @property
    def searches(self) -> bool:
        """Whether its trials are candidates, rather than some of them trained again."""
        return self.kind not in ("confirm", "replay")


@dataclass
class Driver:
    """One driver's time with the sweep."""

    began: float
    ready: float
    last: float
    """When it wrote its newest line."""


@dataclass
class History:
    """A sweep so far."""

    folder: Folder
    spec: SweepSpec | None = None
    header: Line = field(default_factory=dict)
    """The newest `sweep` line: versions, git, hardware, slots."""
    drivers: list[Driver] = field(default_factory=list)
    """The first one, and those that resumed the sweep."""
    plans: list[Line] = field(default_factory=list)
    phases: dict[str, PhaseHistory] = field(default_factory=dict)
    trials: dict[str, TrialHistory] = field(default_factory=dict)
    decisions: list[Line] = field(default_factory=list)
    findings: list[Line] = field(default_factory=list)
    advice: dict[str, Line] = field(default_factory=dict)
    """By trial that tests it. Its line comes before the trial's own, whose driver may not have lived to write that."""
    lengths: list[Line] = field(default_factory=list)
    """Advice on the epochs of later phases."""
    tests: list[Line] = field(default_factory=list)
    """One for each time that the test split was read."""
    verdict: Line | None = None
    end: Line | None = None

    @classmethod
    def open(cls, folder: Folder) -> History:
        """The history of the sweep in a folder. Raises JournalError when its journal is damaged."""
        history = cls(folder)
        history.extend(read(folder))
        return history

    def extend(self, lines: Iterable[Line]) -> None:
        """Fold further lines in."""
        for line in lines:
            self.apply(line)

    def apply(self, line: Line) -> None:
        """Fold one line in; kinds that this version does not know are left alone.

        Raises JournalError for a line that was written by another version, or that is not what its kind says.
        """
        if line.get("kind") == "sweep" and line.get("format") != FORMAT:
            written = line.get("versions", {}).get("tunewright", "another version")
            raise JournalError(
                f"journal: that of {self.folder} is of format {line.get('format')}, this version reads {FORMAT}. "
                f"Read it with the version that wrote it ({written})."
            )
        try:
            self._fold(line)
        except (LookupError, TypeError, ValueError, AttributeError, SpecError) as error:
            why = f"{type(error).__name__}: {error}"
            raise JournalError(
                f"journal: a line of {self.folder} is no {line.get('kind')} line that this version knows ({why}): "
                f"{json.dumps(line)[:200]}"
            ) from error

    def _fold(self, line: Line) -> None:
        kind = line["kind"]
        if kind == "sweep":
            self.header, self.spec, self.end = line, SweepSpec.model_validate(line["spec"]), None
            self.drivers.append(Driver(line["began"], line["ready"], line["at"]))
        elif kind == "plan":
            self.plans.append(line)
        elif kind == "phase":
            changes = [Change.model_validate(change) for change in line["changes"]]
            known = self.phases.get(line["phase"])
            self.phases[line["phase"]] = PhaseHistory(
                line["phase"],
                line["phase_kind"],
                Space.model_validate(line["space"]),
                changes,
                line["comparison"],
                line["trials"],
                known.started if known else line["at"],
                seconds=known.seconds if known else 0.0,
                grown=tuple(dict.fromkeys((*(known.grown if known else ()), line["trials"]))),
            )
        elif kind == "trial":
            trial = self.trials.get(line["trial"])
            if trial:
                trial.attempt, trial.status, trial.reason, trial.ended = line["attempt"], "RUNNING", "", None
            else:
                trial = self.trials[line["trial"]] = TrialHistory(
                    line["trial"],
                    line["phase"],
                    line["role"],
                    line["config"],
                    line["fidelity"],
                    line["at"],
                    line["attempt"],
                    configs=tuple((epoch, config) for epoch, config in line.get("configs", ())),
                )
            trial.header, trial.data = self.header, self.data
        elif kind == "report":
            metrics = {name: float(value) for name, value in line["metrics"].items()}
            trial = self.trials[line["trial"]]
            if trial.configs:
                trial.config = trial.config_at(line["epoch"] + 1)
            trial.epochs.append(
                Epoch(
                    line["epoch"], metrics, line["at"], line["seconds"], line["attempt"], line["checkpoint"],
                    line["slot"], line.get("done", False),
                )
            )  # fmt: skip
        elif kind == "decision":
            self.decisions.append(line)
        elif kind == "exploit":
            trial = self.trials[line["trial"]]
            trial.config = line["after"]
            names = ("epoch", "attempt", "donor", "checkpoint", "before", "after", "cause", "at")
            trial.exploits.append(Exploit(**{name: line[name] for name in names}))
            if "decision" in line:
                self.decisions.append(line)
        elif kind == "failure":
            self.trials[line["trial"]].failures.append(line)
        elif kind == "finding":
            self.findings.append(line)
            if line["finding"] == "no_verdict":
                self.phases[line["phase"]].judged = True
        elif kind == "advice" and "trial" in line:
            self.advice[line["trial"]] = line
        elif kind == "advice":
            self.lengths.append(line)
        elif kind == "test":
            self.tests.append(line)
        elif kind == "verdict":
            self.verdict = line
            self.phases[line["phase"]].judged = True  # until it is opened again
        elif kind == "end" and "trial" in line:
            trial = self.trials[line["trial"]]
            trial.status, trial.reason, trial.ended = line["status"], line["reason"], line["at"]
            trial.whole = line["whole"]
            trial.unreported += line["seconds"]
        elif kind == "end" and "phase" in line:
            phase = self.phases[line["phase"]]
            phase.ended, phase.status, phase.reason = line["at"], line["status"], line["reason"]
            phase.seconds += line["seconds"]
        elif kind == "end":
            self.end = line
        if self.drivers:
            self.drivers[-1].last = line["at"]

    @cached_property
    def name(self) -> str:
        """The sweep's name: that of its folder."""
        return self.folder.name

    @property
    def id(self) -> str:
        """The sweep's own: its name may be another's in another storage, and its folder may be renamed."""
        return str(self.header["id"])

    @property
    def data(self) -> str:
        """The data set's digest, as far as it is known; empty where a loop of the user's own reads it."""
        return str(self.plans[-1]["footprint"].get("data", "")) if self.plans else ""

    @property
    def seconds(self) -> float:
        """Wall seconds of work in slots, all slots together."""
        trials = sum(trial.seconds for trial in self.trials.values())
        return trials + sum(phase.seconds for phase in self.phases.values())

    @property
    def measured(self) -> dict[str, Any]:
        """What preflight measured of a trial's memory: `peak_bytes`, `device_bytes`; empty before."""
        return self.evidence_of("cost")

    def evidence_of(self, finding: str) -> dict[str, Any]:
        """The evidence of the newest finding of that name; empty where there is none."""
        found = (line for line in reversed(self.findings) if line["finding"] == finding)
        return dict(next(found, {}).get("evidence") or {})

    @property
    def audited(self) -> dict[str, Any]:
        """The numbers of the audit; empty without one."""
        return dict(self.evidence_of("data").get("audit", {}))

    @property
    def gpu_hours(self) -> float:
        """What the trials' work took of the GPUs that their slots held."""
        if self.spec is None or not self.plans:
            return 0.0
        asked = self.spec.resources.gpus_per_worker
        # What phases do for themselves comes before the memory was measured by which trials share GPUs.
        first, now = (
            plan["footprint"].get("gpus", 0.0) if asked == "auto" else asked for plan in (self.plans[0], self.plans[-1])
        )
        phases = sum(phase.seconds for phase in self.phases.values())
        return (phases * first + (self.seconds - phases) * now) * self.spec.resources.workers / 3600

    def of_phase(self, phase: str) -> list[TrialHistory]:
        """The phase's trials in the order they began."""
        return [trial for trial in self.trials.values() if trial.phase == phase]

    @property
    def status(self) -> str:
        """RUNNING until the journal has the sweep's end."""
        return self.end["status"] if self.end else "RUNNING"

    def table(self) -> pa.Table:
        """Every report as an Arrow table: phase, trial, role, attempt, epoch, at, seconds, data_fraction, classes,
        seed, the metrics under their own names (null where a report lacks one), the config under
        `config/<parameter>`."""
        import pyarrow as pa

        rows = [(trial, epoch) for trial in self.trials.values() for epoch in trial.epochs]
        columns: dict[str, Any] = {
            "phase": pa.array([t.phase for t, _ in rows], pa.string()),
            "trial": pa.array([t.trial for t, _ in rows], pa.string()),
            "role": pa.array([t.role for t, _ in rows], pa.string()),
            "attempt": pa.array([e.attempt for _, e in rows], pa.int64()),
            "epoch": pa.array([e.epoch for _, e in rows], pa.int64()),
            "at": pa.array([e.at for _, e in rows], pa.float64()),
            "seconds": pa.array([e.seconds for _, e in rows], pa.float64()),
            "data_fraction": pa.array([t.fidelity["data_fraction"] for t, _ in rows], pa.float64()),
            "classes": pa.array([t.fidelity.get("classes") for t, _ in rows], pa.int64()),
            "seed": pa.array([t.fidelity["seed"] for t, _ in rows], pa.int64()),
        }
        for metric in sorted({name for _, e in rows for name in e.metrics}):
            columns[metric] = pa.array([e.metrics.get(metric) for _, e in rows], pa.float64())
        for parameter in sorted({name for t, e in rows for name in t.config_at(e.epoch)}):
            values = [t.config_at(e.epoch).get(parameter) for t, e in rows]
            if len({type(value) for value in values if value is not None}) > 1:
                numbers = all(value is None or type(value) in (int, float) for value in values)
                values = [None if v is None else float(v) if numbers else str(v) for v in values]
            columns[f"config/{parameter}"] = pa.array(values)
        return pa.table(columns)


class Record:
    """The driver's journal and its fold, kept in step: what is written is known at once.

    `lock` guards the history for readers in another thread (the live view).
    """

    def __init__(self, folder: Folder) -> None:
        self.journal = Journal(folder)
        try:
            self.history = History.open(folder)
        except BaseException:
            self.journal.close()
            raise
        if self.history.drivers:  # what happened later is stamped later
            self.journal.ahead = max(0.0, self.history.drivers[-1].last - now())
        self.lock = RLock()

    def write(self, kind: str, **fields: Any) -> Line:
        """Append one line and fold it in. Raises JournalError when the storage refuses it."""
        with self.lock:
            line = self.journal.append(kind, **fields)
            self.history.apply(line)
            return line

    def close(self) -> None:
        """Close the journal; the history stays."""
        self.journal.close()
