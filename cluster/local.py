"""Which Ray a sweep runs on. The first step of every run; what it returns says how much fits.

In a Ray job (`ray job submit`) it is the job's cluster. In a process that is connected already (a notebook) it is that
Ray. Otherwise it is one of its own, started here and ended with the process: never a foreign one that happens to run
on the machine, whatever RAY_ADDRESS says.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from dataclasses import dataclass

import ray

QUIET = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # trials use the user's paths
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # prints for every slot
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # five files a trial that nobody reads
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a trial that failed has no value to report
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is ours to handle
    "TUNE_MAX_PENDING_TRIALS_PG": "64",  # else leases start one after another; how many trials there are is ours to say
    "TUNE_FORCE_TRIAL_CLEANUP_S": "2",  # a lease holds nothing, so one that waits for its slot may be killed
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # Tune's own record is scratch
    "TUNE_WARN_SLOW_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "3600",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Ray's coming default; it warns until one is chosen
}


@dataclass(frozen=True)
class Cluster:
    """The Ray that this process is connected to."""

    nodes: dict[str, dict[str, float]]
    """`CPU` and `GPU` of each node that was there then, by Ray's id."""
    own: bool
    """Whether it was started here, and so is ended here."""

    def close(self) -> None:
        """End the Ray that was started here; leave another one as it is."""
        if self.own:
            ray.shutdown()


def in_job() -> bool:
    """Whether this process is the entrypoint of a Ray job."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


def connect() -> Cluster:
    """Connect to the job's cluster, the connected Ray, or a new one of this machine's CPUs and GPUs."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    # ray.tune prints a page of traceback for a lease that is mended in a second.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    own = False
    if not ray.is_initialized():
        if in_job():
            ray.init(address="auto", log_to_driver=False, logging_level=logging.ERROR)
        else:
            own = True
            # Its ports are on loopback, and it lives as long as we do.
            os.environ.setdefault("RAY_AUTH_MODE", "disabled")
            ray.init(
                address="local",
                num_cpus=len(os.sched_getaffinity(0)),
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                object_store_memory=256 * 2**20,  # commands and reports are small; data never travels through it
            )
    if (own or in_job()) and threading.current_thread() is threading.main_thread():
        # Ray's own handler has the process aborted 3 s after a SIGTERM, in the middle of its orderly end.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    return Cluster(nodes_now(), own)


def nodes_now() -> dict[str, dict[str, float]]:
    """`CPU` and `GPU` of each node that is alive, by Ray's id."""
    return {
        node["NodeID"]: {name: node["Resources"].get(name, 0.0) for name in ("CPU", "GPU")}
        for node in ray.nodes()
        if node["Alive"]
    }
