"""The best model of a sweep into MLflow's registry, by a child process (registering.py). No mlflow import.

Place in the flow: after a sweep, when a person asks for it. What the model is called, described by and tagged with
follows from the journal, as its run's tags do (runs.py); building, exporting and checking it is the child's.
"""

from __future__ import annotations

import math
import os
import re
import shlex
import statistics
import sys
from dataclasses import asdict
from typing import Any

from sweeps.errors import TrackingError, UsageError
from sweeps.history import Epoch, History, TrialHistory
from sweeps.secrets import without_secrets
from sweeps.spec import name_of
from sweeps.tracking import orders
from sweeps.tracking.runs import Point, best_points, cut, legal, milliseconds, sweep_record, trial_record
from sweeps.tracking.uris import check, default_uri, missing, wrong

ALIAS = "champion"
"""What MLflow's own documentation calls the version that is in use."""
WITH_A_MODEL = {
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",  # what is registered has been loaded so
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "120",  # MLflow's own: a file may go through a server into an object store
}
"""Of the child's environment, where it differs from the writer's."""
OF_THE_SWEEP = (
    "sweep", "verdict", "mlflow.source.git.commit", "sweep.git_dirty", "sweep.spec_digest", "sweep.versions",
    "sweep.data_digest", "sweep.warm_start",
)  # fmt: skip
OF_THE_TRIAL = (
    "sweep.uid", "sweep.checkpoint", "phase", "trial", "role", "seed", "fidelity.epochs", "fidelity.data_fraction",
    "fidelity.classes",
)  # fmt: skip
"""Tags that a model has of its sweep's run and of its trial's."""


def register(history: History, trial: TrialHistory, name: str, alias: str, tracking: str | None) -> str:
    """Register the model in the trial's newest checkpoint under this name; models:/<name>/<version>.

    A model that is registered under the name already stays the version that it is. Either way the alias points to it
    afterwards. Raises UsageError for a name or an alias that MLflow would refuse, TrackingError when MLflow cannot be
    used or lacks the trial's run, or when the model cannot be exported.
    """
    spec = history.spec
    assert spec is not None
    if not name.strip(" .") or set(name) & set("/:"):
        raise UsageError(f"name: {name!r} is none that MLflow takes.\n  Give a name without / and :.")
    if not re.fullmatch(r"[\w-]{1,255}", alias) or re.fullmatch(r"latest|v\d+", alias, flags=re.IGNORECASE):
        wants = "letters, digits, - and _, and neither latest nor v1, v2 …, which mean versions"
        raise UsageError(f"alias: {alias!r} is none that MLflow takes.\n  Give {wants}.")
    uri = tracking or spec.tracking or default_uri(history.folder)
    check(uri)
    at = " --tracking-uri …" if tracking else ""
    sync = f"`sweeps sync {shlex.quote(str(history.folder))}{at}` writes it there."
    if missing(uri):
        raise wrong(uri, f"is not there, so {history.name} is not", sync)
    saved = kept(trial)
    order = {
        "trainable": name_of(spec.trainable), "config": trial.config, "fidelity": trial.fidelity,
        "checkpoint": str(history.folder / str(saved.checkpoint)), "epoch": saved.epoch,
        "experiment": spec.name, "name": name, "alias": alias, "sync": sync,
        "tags": tags(history, trial), "description": description(history, trial), "metrics": metrics(history, trial),
        "path": [os.path.abspath(entry) for entry in sys.path],
    }  # fmt: skip
    return ask(order, uri)


def ask(order: dict[str, Any], uri: str) -> str:
    """Have the child process register what the order says. Raises TrackingError with the reason when it cannot."""
    answer = orders.answer(orders.done("registering", order, uri, WITH_A_MODEL))
    if "reference" in answer:
        return str(answer["reference"])
    said = f"tracking: {order['tags']['trial']} is not registered: {answer['why'].rstrip('.')}.\n  {answer['mend']}"
    raise TrackingError(without_secrets(without_secrets(said, os.environ.get("MLFLOW_REGISTRY_URI", "")), uri))


def tags(history: History, trial: TrialHistory) -> dict[str, str]:
    """The tags of the model and of its version, by the names that the runs have for them."""
    spec = history.spec
    assert spec is not None
    of_sweep, of_trial = sweep_record(history), trial_record(history, trial, "")
    found = {
        **{name: of_sweep.tags[name] for name in OF_THE_SWEEP},
        **{name: of_trial.tags[name] for name in OF_THE_TRIAL},
        "sweep.confirmed": str(confirmed(history, trial)).lower(),
        "trainable": name_of(spec.trainable),
    }
    return {name: cut(value) for name, value in found.items() if value}


def metrics(history: History, trial: TrialHistory) -> list[dict[str, Any]]:
    """What a model's run does not tell of its epoch: the trial's best, and of its config mean and deviation over seeds.

    As points at step 0, stamped by the journal: the same ones whenever they are asked for.
    """
    best = best_points(history, trial)
    if not history.verdict:
        return [asdict(point) for point in best]
    metric, at = history.verdict["metric"], milliseconds(history.verdict["at"])
    (arm,) = (arm for arm in history.verdict["arms"] if trial.trial in arm["trials"])
    over_seeds = {metric: arm["values"]}
    for measured in (history.verdict["test"] or {}).get(arm["arm"], []):
        for name, value in measured.items():
            over_seeds.setdefault(name, []).append(float(value))
    found = {"seeds/count": float(len(arm["values"]))}
    for name, values in over_seeds.items():
        if not all(map(math.isfinite, values)):
            continue  # MLflow has no such numbers
        found[f"seeds/{name}_mean"] = statistics.fmean(values)
        found[f"seeds/{name}_sd"] = statistics.stdev(values) if len(values) > 1 else 0.0
    points = [Point(legal(name), value, at, 0) for name, value in found.items()]
    return [asdict(point) for point in best + points]


def description(history: History, trial: TrialHistory) -> str:
    """What the model is, in Markdown: the verdict, and which training of which config it comes from."""
    spec = history.spec
    assert spec is not None
    said = [str(history.verdict["text"])] if history.verdict else []
    if not confirmed(history, trial):
        said.append("Not confirmed: no verdict says that this is better than the baseline.")
    saved = kept(trial)
    value = f", {spec.metric} {saved.metrics[spec.metric]:.4g}" if spec.metric in saved.metrics else ""
    arm = ""
    if history.verdict:
        config = "the baseline" if trial.role == "baseline" else f"{trial.role}'s config"
        arm = f"seed {trial.fidelity['seed']} of {config}, "
    said.append(f"The model is {trial.trial} of {history.name}: {arm}after epoch {saved.epoch}{value}.")
    return cut("\n\n".join(said))


def confirmed(history: History, trial: TrialHistory) -> bool:
    """Whether the verdict stands behind a trial: its config is better than the baseline, or is the baseline."""
    return history.verdict is not None and (history.verdict["verdict"] == "ADOPT" or trial.role == "baseline")


def kept(trial: TrialHistory) -> Epoch:
    """The report with the trial's newest checkpoint."""
    return next(epoch for epoch in reversed(trial.epochs) if epoch.checkpoint)
