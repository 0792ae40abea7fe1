"""How the main job divides its time: start-up, training, bookkeeping. Shares of one run, so they travel.

`time` in the journal ends when the verdict stands; what comes after (report, MLflow's last runs) is closing.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.harness import ROOT, report
from sweeps import Sweep

if __name__ == "__main__":
    storage = Path(tempfile.mkdtemp())
    began = time.perf_counter()
    spec = "sweeps/examples/digits.yaml"
    subprocess.run([sys.executable, "-m", "sweeps", "run", spec, "--storage", str(storage)], cwd=ROOT, check=True)
    wall = time.perf_counter() - began
    (folder,) = storage.iterdir()
    history = Sweep.open(folder).history
    spent = history.end["time"]
    report(
        "demo",
        [
            ("training share of the whole", spent["training_s"] / wall, "ratio"),
            ("start-up share", spent["startup_s"] / wall, "ratio"),
            ("bookkeeping share", spent["bookkeeping_s"] / wall, "ratio"),
            ("closing share", (wall - spent["wall_s"]) / wall, "ratio"),
            ("whole run", wall, "s"),
            ("trials", len(history.trials), "trials"),
            ("epochs", sum(len(trial.epochs) for trial in history.trials.values()), "epochs"),
        ],
    )
