"""The child process that fetches a PyTorch model from MLflow; models.py starts it.

    {"reference": …, "folder": …, "path": […]} ──► MLFLOW_TRACKING_URI=... python -m sweeps.tracking.weights

It ends with exit code 0 and what the model is in MLflow as its last line, or with the reason as the last line of its
standard error.
"""

from __future__ import annotations

import json
import sys

import mlflow
import mlflow.pytorch
from mlflow.exceptions import MlflowException
from pyarrow.fs import LocalFileSystem

from trainables import state


def main() -> None:
    """Load the model that standard input names, and save its weights as a checkpoint."""
    order = json.load(sys.stdin)
    sys.path += [entry for entry in order["path"] if entry not in sys.path]  # a pickled model's class may be there
    try:
        found = mlflow.models.get_model_info(order["reference"])
        if mlflow.pytorch.FLAVOR_NAME not in found.flavors:
            sys.exit(f"it is no PyTorch model, it has {' and '.join(found.flavors) or 'no flavor at all'}")
        # A model that was pickled is loaded as MLflow itself would; MLFLOW_ALLOW_PICKLE_DESERIALIZATION forbids it.
        model = mlflow.pytorch.load_model(order["reference"], map_location="cpu", weights_only=False)
    except MlflowException as error:
        sys.exit(str(error).partition("\n")[0])
    state.save({"model": dict(model.state_dict())}, LocalFileSystem(), order["folder"], 0)
    print(f"models:/{found.model_id}" if found.model_id else found.model_uri)


if __name__ == "__main__":
    main()
