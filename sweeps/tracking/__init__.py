"""The journal mirrored into MLflow, by a child process that only reads: the sweep neither waits for it nor needs it.

    driver ──► journal ──► child process: writer.py follows, mirror.py writes ──► MLflow
       ├── uris.py: can the URI be used, asked before the start    └── runs.py: how each run should look
       ├── store.py: MLflow as the writer sees it
       ├── child.py: start the child, mind it, finish it; sync replays a sweep that has ended
       ├── views.py: the pages that MLflow's UI is to open on
       ├── models.py: a model as a checkpoint, for a warm start; weights.py is the child process that loads it
       ├── registry.py: the best as a registered model; registering.py is the child process that makes it one
       ├── journals.py: the journal of a sweep that only MLflow has here; fetching.py is the child process that gets it
       └── orders.py: how these three give their child an order, and what it answers

A child and not a thread: MLflow's import (2 s), its calls (60 ms each to many a server) and its hangs stay out of the
process that runs Tune's loop; prompt.py shortens its calls. What stands here imports no mlflow.
"""

from sweeps.tracking.child import Writer, sync
from sweeps.tracking.journals import fetch_journals
from sweeps.tracking.models import fetch_model
from sweeps.tracking.uris import check, default_uri, open_command, refuse_password

__all__ = [
    "Writer",
    "check",
    "default_uri",
    "fetch_journals",
    "fetch_model",
    "open_command",
    "refuse_password",
    "sync",
]
