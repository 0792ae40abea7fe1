"""Where trials are put, on logical GPUs: Ray counts them and hands them out, though the machine has none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from e2e.terminal import ROOT, of_kind
from sweeps.history import History
from sweeps.journal import read
from sweeps.storage import newest_sweeps

SCRIPT = """
import sys

import ray

from sweeps import Sweep, SweepSpec
from cluster.local import QUIET

ray.init(
    address="local", num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False,
    runtime_env={"env_vars": QUIET},
)
Sweep(
    SweepSpec(
        trainable="unit.trainable_helpers:Blobs",
        space={"lr": {"log": [1e-3, 1e-1]}, "batch_size": 16},
        phases=[{"kind": "preflight"}, {"kind": "explore", "trials": 8, "epochs": 2, "reduction_factor": None}],
        resources={"cpus_per_worker": 0.5, "gpus_per_worker": "auto"},
        storage=sys.argv[1],
    )
).run()
"""


@pytest.mark.slow
def test_trials_share_a_gpu_by_the_memory_that_preflight_measured(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (sweep,) = newest_sweeps(tmp_path)
    lines = read(sweep)
    before, *_, after = of_kind(lines, "plan")
    footprint = after["footprint"]
    fitting = min(int(footprint["device_bytes"] / footprint["peak_bytes"] / 1.5), 8)
    assert fitting > 1, "a machine with more than a GiB"
    assert (before["footprint"]["gpus"], before["phases"][0]["concurrency"]) == (1.0, 1)
    assert footprint["gpus"] == int(1e4 / fitting) / 1e4
    together = min(fitting, 4)  # four have a CPU
    assert after["phases"][0]["concurrency"] == together
    assert len({line["slot"] for line in of_kind(lines, "report")}) == together
    assert f"of a GPU each, {together} trials at a time" in done.stdout
    (end,) = (line for line in of_kind(lines, "end") if "time" in line)
    history = History.open(sweep)
    alone = history.phases["preflight"].seconds  # on a whole GPU
    assert alone > 0
    shared = sum(trial.seconds for trial in history.trials.values())
    assert end["time"]["slots"] == together
    assert end["time"]["gpu_hours"] * 3600 == pytest.approx(alone + shared * footprint["gpus"])
    assert history.measured == {name: footprint[name] for name in ("peak_bytes", "device_bytes")}
