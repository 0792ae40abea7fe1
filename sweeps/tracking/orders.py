"""One order to a child process that imports mlflow, and what it answers. No mlflow import.

models.py, registry.py and journals.py give such orders. A child, as for the writer: MLflow's import, its calls and
whatever code comes with a model stay out of the process that asks.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sweeps.tracking.child import ENVIRONMENT


def done(
    module: str, order: Mapping[str, Any], uri: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a module of this package on an order, which it reads from standard input, with MLflow at this URI."""
    # -P, and our import path at the end of the child's: a file called mlflow.py in the working directory is not MLflow
    home = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    return subprocess.run(
        [sys.executable, "-P", "-m", f"sweeps.tracking.{module}"],
        env={
            **os.environ, **ENVIRONMENT, **(environment or {}),
            "MLFLOW_TRACKING_URI": uri, "PYTHONPATH": os.pathsep.join(filter(None, home)),
        },
        input=json.dumps(order), capture_output=True, text=True,
    )  # fmt: skip


def answer(process: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The JSON document that is the child's last line; of one that failed why it did, as `why` and `mend`."""
    if process.returncode:
        last = (process.stderr.strip() or f"exit code {process.returncode} without a word").rpartition("\n")[-1]
        return {"why": f"its process failed: {last}", "mend": "Mend that and try again."}
    found: dict[str, Any] = json.loads(process.stdout.strip().rpartition("\n")[-1])
    return found
