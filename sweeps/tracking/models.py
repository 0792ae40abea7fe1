"""A PyTorch model in MLflow as a checkpoint, fetched by a child process (weights.py). No mlflow import.

A child, as for the writer: MLflow's import and whatever code comes with a model stay out of the process that runs
Tune's loop, and that needs no torch.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from sweeps.errors import TrackingError
from sweeps.secrets import without_secrets
from sweeps.tracking import orders
from sweeps.tracking.uris import check, missing, wrong

HOME = "MLFLOW_TRACKING_URI"
MEND = "Give models:/<name>/<version>, models:/<name>@<alias> or runs:/<run id>/<path> of a PyTorch model there."


def fetch_model(reference: str, tracking: str | None, folder: Path) -> str:
    """Write the weights of a model in MLflow as a checkpoint into `folder`; what it is there: models:/<its id>.

    Asked is `tracking`, else what MLFLOW_TRACKING_URI says. Raises TrackingError when there is no such model.
    """
    uri = tracking or os.environ.get(HOME)
    if not uri:
        nowhere = f"tracking: {reference} is a model in MLflow, and neither the spec's tracking nor {HOME} says where."
        raise TrackingError(f"{nowhere}\n  Set one of them, e.g. tracking: http://host:5000.")
    check(uri)
    if missing(uri):
        raise wrong(uri, f"is not there, so {reference} is not", "Mend the path.")
    order = {"reference": reference, "folder": str(folder), "path": [os.path.abspath(entry) for entry in sys.path]}
    done = orders.done("weights", order, uri)
    said = (done.stderr if done.returncode else done.stdout).strip().splitlines() or ["it said nothing"]
    if done.returncode == 0:
        return said[-1]
    why = without_secrets(said[-1], os.environ.get("MLFLOW_REGISTRY_URI", "")).rstrip(".")
    raise wrong(uri, f"gives no {reference} ({why})", MEND)
