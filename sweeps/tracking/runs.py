"""What MLflow should hold of a sweep: pure functions from History to runs, their params, tags and points.

One flat run a trial and one for the sweep itself. Flat, because MLflow's table shows nested runs collapsed to one row.
Everything here follows from the journal alone, times included, so that a replay asks for exactly what is there.
Names before the last `/` become sections of the UI, hence `best/…`; the tags in `sweep.…` are for filters.
"""

from __future__ import annotations

import math
import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sweeps.history import LIVE, Epoch, History, TrialHistory
from sweeps.insight.advise import changes_in_words
from sweeps.insight.diagnose import diagnose
from sweeps.insight.runs import of_trial
from sweeps.journal import Line
from sweeps.space import Float
from sweeps.spec import phase_name
from sweeps.storage import at_hand
from sweeps.warm_start import origins_of

MAX_VALUE = 5000
"""Characters of a tag or param, below MLflow's own limits (8,000 and 6,000), where it would cut without a word."""
RUN_STATUS = {
    "RUNNING": "RUNNING",
    "FINISHED": "FINISHED",
    "INFEASIBLE": "FAILED",
    "FAILED": "FAILED",
    "INTERRUPTED": "KILLED",
}
COLOURS = ("#077A9D", "#C82D4C", "#8BCAE7", "#B45091", "#FFAB00", "#00875C", "#902A6B", "#445461")
"""Of the phases, in their order."""
GONE = "the driver ended without a word; `sweeps resume` goes on"


@dataclass(frozen=True)
class Point:
    """One value of a metric; in MLflow a point with the same four fields is the same point."""

    key: str
    value: float
    timestamp: int
    step: int


@dataclass(frozen=True)
class RunRecord:
    """A run as it should stand in MLflow."""

    uid: str
    """Value of the tag `sweep.uid`, by which a run is found again: `<id>/<trial>`, the id alone for the sweep's own."""
    name: str
    started: int
    params: dict[str, str]
    tags: dict[str, str]
    """An empty one needs no tag, and empties one that is there."""
    status: str
    """RUNNING, FINISHED, FAILED or KILLED: MLflow's own."""
    ended: int | None


def sweep_record(history: History, gone_at: float | None = None, links: str = "") -> RunRecord:
    """The run of the sweep itself. `gone_at`: the driver is no more since then, whatever the journal says. `links` lead
    to the sweep's views, for its description.
    """
    spec = history.spec
    assert spec is not None  # the first line of a journal is the sweep's
    status, reason = history.status, (history.end or {}).get("reason", "")
    ended = history.end["at"] if history.end else gone_at
    if status == "RUNNING" and gone_at is not None:
        status, reason = "INTERRUPTED", GONE
    phases = ", ".join(phase_name(phase) for phase in spec.phases)
    tags = {
        **provenance(history.header, history.data),
        "sweep": history.name,
        "sweep.id": history.id,
        "sweep.uid": history.id,
        "sweep.kind": "sweep",
        "sweep.status": status,
        "sweep.stop_reason": reason,
        "verdict": (history.verdict or {}).get("verdict", ""),
        "sweep.findings": ", ".join(dict.fromkeys(finding["finding"] for finding in history.findings)),
        "sweep.warm_start": "\n".join(f"{origin.reference}: {origin.source}" for origin in origins_of(history)),
        "mlflow.note.content": note(history, status, links),
    }
    params = {
        "trainable": str(spec.trainable),
        "metric": spec.metric,
        "mode": spec.mode,
        "seed": str(spec.seed),
        "phases": phases,
        "spec_digest": spec.digest,
    }
    began = min([history.header["began"], *(trial.started for trial in history.trials.values())])
    return RunRecord(
        history.id,
        history.name,
        milliseconds(began),
        {name: cut(value) for name, value in params.items()},
        {name: cut(value) for name, value in tags.items()},
        RUN_STATUS[status],
        milliseconds(ended) if ended is not None else None,
    )


def suffered(history: History, trial: TrialHistory) -> list[str]:
    """What an ended trial suffered from, the likeliest first."""
    over = trial.epochs and trial.status not in LIVE
    found = diagnose(of_trial(history, trial)).warnings if over else []
    return [one.finding for one in found if "instead_of" not in one.evidence]


def advised(history: History, trial: TrialHistory) -> str:
    """`overfit of explore-003: dropout 0.1 → 0.2` of a trial that tests advice; empty of others."""
    line = history.advice.get(trial.trial)
    return f"{line['finding']} of {line['of']}: {changes_in_words(line['changes'])}" if line else ""


def trial_record(history: History, trial: TrialHistory, sweep_run: str, gone_at: float | None = None) -> RunRecord:
    """The run of one trial; `sweep_run` is the id of the sweep's run."""
    status, reason, ended = trial.status, trial.reason, trial.ended
    if status == "RUNNING" and gone_at is not None:
        status, reason, ended = "INTERRUPTED", GONE, gone_at
    uid = f"{history.id}/{trial.trial}"
    findings = [f["finding"] for f in history.findings if f.get("trial") == trial.trial]
    failures = [f"attempt {f['attempt']}: {f['error']}: {f['message']} ({f['log']})" for f in trial.failures]
    tags = {
        **provenance(trial.header, trial.data),
        "sweep": history.name,
        "sweep.id": history.id,
        "sweep.uid": uid,
        "sweep.kind": "trial",
        "sweep.run": sweep_run,  # not mlflow.parentRunId, which collapses the table
        "sweep.status": status,
        "sweep.stop_reason": reason,
        "sweep.reports": str(len(trial.epochs)),
        "phase": trial.phase,
        "trial": trial.trial,
        "role": trial.role,
        "seed": str(trial.fidelity["seed"]),
        "fidelity.epochs": str(trial.fidelity["epochs"]),
        "fidelity.data_fraction": str(trial.fidelity["data_fraction"]),
        "fidelity.classes": str(trial.fidelity.get("classes", "")),
        "attempt": str(trial.attempt),
        "failures": "\n".join(failures),
        "pbt.cloned_from": trial.exploits[-1].donor if trial.exploits else "",
        "sweep.findings": ", ".join(dict.fromkeys(findings)),
        "sweep.diagnosis": ", ".join(suffered(history, trial)),
        "sweep.advice": advised(history, trial),
        "sweep.checkpoint": trial.checkpoint or "",  # in the sweep's folder, which may be moved
        "mlflow.runColor": colour(history, trial.phase),
        "nonfinite": ", ".join(nonfinite(trial.epochs)),
    }
    return RunRecord(
        uid,
        trial.trial,
        milliseconds(trial.started),
        trial_params(history, trial),
        {name: cut(value) for name, value in tags.items()},
        RUN_STATUS[status],
        milliseconds(ended) if ended is not None else None,
    )


def provenance(header: Line, data: str) -> dict[str, str]:
    """Tags that say which code, versions, spec and data a run's numbers come from; `header` is a driver's `sweep` line,
    `data` the data set's digest."""
    git = header.get("git") or {}
    versions = header.get("versions", {})
    return {
        "mlflow.source.git.commit": git.get("commit") or "",
        "sweep.git_dirty": str(git["dirty"]).lower() if "dirty" in git else "",
        "sweep.spec_digest": header["spec_digest"],
        "sweep.versions": ", ".join(f"{package} {version}" for package, version in versions.items()),
        "sweep.data_digest": data,
    }


def environment(history: History) -> dict[str, Any]:
    """What it ran on and with, as each driver wrote it last."""
    return {name: history.header.get(name) for name in ("git", "versions", "hardware", "spec_digest", "generation")}


def trial_params(history: History, trial: TrialHistory) -> dict[str, str]:
    """What the trial was trained with, the loop's defaults included, and the logarithm of what was searched on a
    logarithmic scale: MLflow's charts have no such axis."""
    assert history.spec is not None
    config = trial.config_at(0)  # what changes later is a series: MLflow takes a param once
    defaults = history.header.get("defaults", {})
    optimizer = config.get("optimizer", defaults.get("optimizer"))
    # Where the optimizer is sgd, `sgd.momentum` is the momentum.
    own = {name.removeprefix(f"{optimizer}."): value for name, value in config.items()}
    meant = {name: value for name, value in own.items() if name in defaults}
    params = {name: str(value) for name, value in {**defaults, **config, **meant}.items()}
    for name, value in config.items():
        domain = history.spec.space.root.get(name)
        if isinstance(domain, Float) and domain.scale == "log" and isinstance(value, int | float) and value > 0:
            params[f"log10_{name}"] = f"{math.log10(value):.6g}"
    return {legal(name): cut(value) for name, value in params.items()}


def colour(history: History, phase: str) -> str:
    """The colour of a phase's runs in MLflow's charts."""
    assert history.spec is not None
    names = [phase_name(found) for found in history.spec.phases]
    return COLOURS[names.index(phase) % len(COLOURS)] if phase in names else COLOURS[-1]


def points(epochs: Iterable[Epoch]) -> list[Point]:
    """The finite values of some reports, stamped as the journal stamped them."""
    return [
        Point(legal(name), value, milliseconds(epoch.at), epoch.epoch)
        for epoch in epochs
        for name, value in epoch.metrics.items()
        if math.isfinite(value)
    ]


def hyperparameter_points(history: History, trial: TrialHistory, first: int) -> list[Point]:
    """The numeric hyperparameters of a trial whose config may change with each of its reports from that number on.

    One that the trial reports itself (`hp/lr`, the rate of its last step) stays as it is.
    """
    if history.phases[trial.phase].kind != "evolve" and not trial.configs:
        return []
    space = history.phases[trial.phase].space
    return [
        Point(legal(f"hp/{name}"), float(value), milliseconds(epoch.at), epoch.epoch)
        for epoch in trial.epochs[first:]
        for name, value in trial.config_at(epoch.epoch).items()
        if name in space.searched and not isinstance(value, bool) and isinstance(value, int | float)
        if f"hp/{name}" not in epoch.metrics
    ]


def best_points(history: History, trial: TrialHistory) -> list[Point]:
    """The best value and its epoch, once a trial has ended for good; one point at step 0, which MLflow draws as a bar.

    MLflow's own summary of a metric is its last value. An interrupted trial goes on and gets its best then.
    """
    if history.spec is None or trial.ended is None or trial.status == "INTERRUPTED":
        return []
    best = trial.best(history.spec.metric, history.spec.mode)
    if best is None:
        return []
    epoch, value = best
    at = milliseconds(trial.ended)
    return [Point(legal(f"best/{history.spec.metric}"), value, at, 0), Point("best/epoch", float(epoch), at, 0)]


def nonfinite(epochs: Iterable[Epoch]) -> list[str]:
    """`val/loss nan at epoch 2` for every value that MLflow cannot hold (it would show inf as 1.8e308)."""
    return [
        f"{name} {value} at epoch {epoch.epoch}"
        for epoch in epochs
        for name, value in epoch.metrics.items()
        if not math.isfinite(value)
    ]


def note(history: History, status: str, links: str = "") -> str:
    """The sweep's description in Markdown: the verdict first, then where to look, and what it rests on."""
    parts = [str(history.verdict["text"]) if history.verdict else f"No verdict yet; the sweep is {status}."]
    parts += [links] if links else []
    if history.verdict:
        metric = history.verdict["metric"]
        rows = [
            f"| {arm['arm']} | {arm['mean']:.4g} ± {arm['sd']:.2g} | {len(arm['values'])} |"
            for arm in history.verdict["arms"]
        ]
        parts.append("\n".join([f"| arm | {metric}, mean ± sd | seeds |", "|---|---|---|", *rows]))
    counts = [f"{len(history.trials)} trials"]
    for status in ("INFEASIBLE", "FAILED", "INTERRUPTED"):
        count = sum(trial.status == status for trial in history.trials.values())
        counts += [f"{count} {status.lower()}"] if count else []
    parts.append(", ".join(counts) + ".")
    time = (history.end or {}).get("time")
    if time:
        parts.append(
            f"Time: {time['wall_s']:.0f} s, of which {time['startup_s']:.0f} s starting, {time['training_s']:.0f} s "
            f"training, {time['bookkeeping_s']:.0f} s bookkeeping; {time['slots']} slots, "
            f"{time['gpu_hours']:.2f} GPU-hours."
        )
    if history.findings:
        parts.append("\n".join(f"- {finding['severity']}: {finding['message']}" for finding in history.findings))
    if (at_hand(history.folder) / "report.html").exists():
        parts.append(f"Report: `report.html` among the artifacts, or {history.folder / 'report.html'}")
    return cut("\n\n".join(parts))


def legal(name: str) -> str:
    """The nearest name that MLflow accepts for a metric or a param; one that it refuses costs the whole batch."""
    name = posixpath.normpath(re.sub(r"[^/\w.\- :]", "_", name)).lstrip("/.")
    return name[:250].rstrip("/") or "_"


def cut(value: str) -> str:
    """The value within MLflow's limits, and seen to be cut; of characters that a database can store."""
    value = value.encode("utf-8", "replace").decode().replace("\0", "?")
    return value if len(value) <= MAX_VALUE else value[: MAX_VALUE - 1] + "…"


def milliseconds(at: float) -> int:
    """Unix seconds as MLflow counts them."""
    return round(at * 1000)
