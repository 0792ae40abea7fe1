"""The child process that registers a trial's model in MLflow; registry.py starts it.

    {"trainable": …, "checkpoint": …, "name": …} ──► MLFLOW_TRACKING_URI=... python -m sweeps.tracking.registering

It builds the model with the checkpoint's weights, exports it on a few validation rows (MLflow's pt2, a traced graph
without pickle), loads the export as anyone would, compares what both predict, and only then tells MLflow of it. Its
last line is {"reference": "models:/<name>/<version>"}, or {"why": …, "mend": …} when that cannot be.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import mlflow
import mlflow.pytorch
import torch
from mlflow import MlflowClient
from mlflow.entities import Metric, Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model, infer_signature
from torch import Tensor, nn

from sweeps.storage import opened, place
from trainables import state
from trainables.contract import Fidelity, Trainable, TrainableError, instantiate, load
from trainables.data.rows import Rows, open_rows
from trainables.evaluation import load_model

EXAMPLE_ROWS = 3
"""Rows of the example: of a single one torch.export would make a network for batches of one row."""
CHECKED_ROWS = (1, 2 * EXAMPLE_ROWS + 1, 64)
"""Sizes of the batches on which the export must predict what the model does."""
RELATIVE, ABSOLUTE = 1e-4, 1e-5
"""An export may sum in another order: attention has a fused kernel in eval mode, and none once it is exported."""
EXPORT = (
    "Write its forward so that torch.export can trace it for any number of rows, or take sweep.best.load() and log it "
    "yourself."
)


class Refused(Exception):
    """Raised with the reason why the model cannot be registered, and what to do."""


def main() -> None:
    """Register what standard input orders."""
    order = json.load(sys.stdin)
    sys.path += [entry for entry in order["path"] if entry not in sys.path]  # where the trainable is
    try:
        answer = {"reference": registered(MlflowClient(), order)}
    except Refused as refused:
        answer = dict(zip(("why", "mend"), refused.args, strict=True))
    except MlflowException as error:
        mend = "Mend that and register anew: nothing is registered twice."
        answer = {"why": f"MLflow does not take it: {error}", "mend": mend}
    print(json.dumps(answer))


def registered(client: MlflowClient, order: dict[str, Any]) -> str:
    """Bring the registry to what the order says; the version."""
    run = run_of(client, order)
    version = version_of(client, order) or new_version(client, order, run)
    brought_up(client, order, version)
    return f"models:/{version.name}/{version.version}"


def run_of(client: MlflowClient, order: dict[str, Any]) -> Run:
    """The trial's run."""
    uid = order["tags"]["sweep.uid"]
    experiment = client.get_experiment_by_name(order["experiment"])
    if experiment is not None and experiment.lifecycle_stage == "active":
        for run in client.search_runs([experiment.experiment_id], f'tags.`sweep.uid` = "{uid}"', max_results=1):
            return run
    raise Refused(f"MLflow has no run of {order['tags']['sweep']}/{order['tags']['trial']}", order["sync"])


def version_of(client: MlflowClient, order: dict[str, Any]) -> ModelVersion | None:
    """The version that this very model is registered as, under the name, if it is."""
    for version in client.search_model_versions(f"tags.`sweep.uid` = '{order['tags']['sweep.uid']}'"):
        if (version.name, version.tags.get("sweep.checkpoint")) == (order["name"], order["tags"]["sweep.checkpoint"]):
            return version
    return None


def new_version(client: MlflowClient, order: dict[str, Any], run: Run) -> ModelVersion:
    """See that the model can be exported and stays the same, log it with its run, and make a version of it."""
    model, rows = built(order)
    try:
        how = export(model, inputs(rows, EXAMPLE_ROWS))
        with tempfile.TemporaryDirectory() as scratch:  # before MLflow knows of it: nothing is left of one that fails
            mlflow.pytorch.save_model(path=Path(scratch) / "model", **how)
            differs = compared(model, mlflow.pytorch.load_model(str(Path(scratch) / "model")), rows)
    except Exception as error:  # whatever torch.export says of the user's network
        raise Refused(f"{type(model).__name__} cannot be exported: {first_line(error)}", EXPORT) from error
    if differs:
        raise Refused(f"{type(model).__name__} is not the same once it is exported: {differs}", EXPORT)
    # Made here and not by pytorch.log_model, which knows no run and no experiment but the active ones, and would write
    # into the current folder without them, or open the trial's run again.
    logged = client.create_logged_model(
        run.info.experiment_id, order["tags"]["trial"], run.info.run_id, order["tags"], dict(run.data.params)
    )
    Model.log(None, mlflow.pytorch, run_id=run.info.run_id, step=order["epoch"], model_id=logged.model_id, **how)
    points = [Metric(**point, model_id=logged.model_id) for point in order["metrics"]]
    client.log_batch(run.info.run_id, metrics=points)
    return mlflow.register_model(logged.model_uri, order["name"], tags=order["tags"])


def brought_up(client: MlflowClient, order: dict[str, Any], version: ModelVersion) -> None:
    """Give the version what it lacks: after an extend the verdict is another one, though the best may be the same."""
    for name, value in order["tags"].items():
        if version.tags.get(name) != value:
            client.set_model_version_tag(version.name, version.version, name, value)
    if version.description != order["description"]:
        client.update_model_version(version.name, version.version, order["description"])
    client.set_registered_model_alias(version.name, order["alias"], version.version)


def built(order: dict[str, Any]) -> tuple[nn.Module, Rows]:
    """The model with the checkpoint's weights, and the validation rows as it gets them."""
    try:
        trainable: Trainable = instantiate(load(order["trainable"]))
        fidelity = Fidelity(**order["fidelity"])
        saved = state.load(*opened(place(order["checkpoint"])))
        model = load_model(trainable, order["config"], fidelity, saved)
        return model, open_rows("val", trainable.data(order["config"], fidelity).val, torch.device("cpu"))
    except state.CheckpointError as error:
        raise Refused(str(error), "Restore it from a copy.") from error
    except TrainableError as error:
        raise Refused(str(error), "The trainable has to be what it was when the sweep ran.") from error
    except Exception as error:  # whatever the user's own code raises
        why = f"{order['trainable']} raised {type(error).__name__}: {first_line(error)}"
        raise Refused(why, "Mend it, and register anew.") from error


def inputs(rows: Rows, count: int) -> Tensor:
    """So many inputs of the first rows, from the front again where there are not so many."""
    batch, _ = next(iter(rows.batches(torch.arange(count) % len(rows), count)))
    return batch


def export(model: nn.Module, example: Tensor) -> dict[str, Any]:
    """How MLflow is to save the model."""
    with torch.no_grad():
        output = model(example)
    given = example.numpy()
    return {
        "pytorch_model": model,
        "serialization_format": "pt2",
        "input_example": given,
        # Of an output that is no tensor a signature has no words.
        "signature": infer_signature(given, output.numpy() if isinstance(output, Tensor) else None),
        # Else MLflow runs the model in another process to see what it imports: an export needs torch alone.
        "pip_requirements": [f"torch=={torch.__version__.partition('+')[0]}"],
    }


def compared(model: nn.Module, exported: Any, rows: Rows) -> str:
    """On which batch the export predicts something else than the model; empty when on none."""
    for count in CHECKED_ROWS:
        batch = inputs(rows, count)
        with torch.no_grad():
            try:
                torch.testing.assert_close(
                    exported(batch), model(batch), rtol=RELATIVE, atol=ABSOLUTE, equal_nan=True
                )  # fmt: skip
            except (AssertionError, RuntimeError) as error:
                return f"on {count} rows, {first_line(error)}"
    return ""


def first_line(error: Exception) -> str:
    """The first line of an error that says something."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), repr(error))


if __name__ == "__main__":
    main()
