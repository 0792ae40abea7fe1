"""A sweep on a Ray of two nodes, which changes while trials are at work. Run as a program by test_nodes.

    python two_nodes.py STORAGE CASE      the sweep's folder is printed last

A process is connected to one Ray only, so this one cannot be that of the tests.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster

from cluster.local import QUIET
from e2e.terminal import below, journal, of_kind, processes
from engine import toy_spec
from sweeps import Sweep
from sweeps.storage import newest_sweeps

QUICK = {  # a node that does not answer is dead after two seconds, not half a minute
    "health_check_period_ms": 500, "health_check_timeout_ms": 1000, "health_check_failure_threshold": 3,
    "health_check_initial_delay_ms": 0,
}  # fmt: skip
SPACE = {"value": {"float": [0.0, 1.0]}, "seconds": 0.4}
TRIALS = [{"kind": "explore", "trials": 10, "epochs": 4, "reduction_factor": None}]
ACROSS = {"trainable": "toys:in_step", "resources": {"workers": 2, "cpus_per_worker": 1}}
EVOLVE = {
    "trainable": "toys:annealed", "space": {"lr": {"log": [1e-2, 1.0]}, "seconds": 0.4},
    "phases": [{"kind": "evolve", "population": 3, "epochs": 8, "interval": 2, "quantile": 0.5}],
}  # fmt: skip
HALVES = {"resources": {"cpus_per_worker": 0.5, "gpus_per_worker": 0.5}}
NODE: dict[str, Any] = {"num_cpus": 1, "num_gpus": 1, "include_dashboard": False}


class Nodes:
    """The head, where the driver is, and another node that comes and goes."""

    def __init__(self, storage: Path, second: bool) -> None:
        self.storage = storage
        self.cluster = Cluster(initialize_head=True, head_node_args={**NODE, "_system_config": QUICK})
        self.second = self.cluster.add_node(**NODE) if second else None
        self.cluster.wait_for_nodes()
        self.frozen: list[int] = []

    def wait(self, reports: int, kind: str = "report") -> None:
        """Wait until the journal has so many lines of a kind."""
        while not (found := newest_sweeps(self.storage)) or len(of_kind(journal(found[0]), kind)) < reports:
            time.sleep(0.05)

    def wait_for_second(self) -> None:
        """Wait until a trial on the second node has reported and not ended: its slot is a child of that raylet."""
        (raylet,) = self.second.all_processes["raylet"]
        while True:
            self.wait(1)
            lines = journal(newest_sweeps(self.storage)[0])
            ended = {line["trial"] for line in of_kind(lines, "end") if "trial" in line}
            slots = {line["slot"] for line in of_kind(lines, "report") if line["trial"] not in ended}
            if slots & below(raylet.process.pid, processes()).keys():
                return
            time.sleep(0.05)

    def signal_second(self, sent: signal.Signals) -> None:
        """Send the signal to the second node's raylet: as good as to the machine."""
        (raylet,) = self.second.all_processes["raylet"]
        os.kill(raylet.process.pid, sent)
        if sent == signal.SIGSTOP:
            self.frozen.append(raylet.process.pid)

    def join(self) -> None:
        """Add the second node."""
        self.second = self.cluster.add_node(**NODE)

    def change(self, case: str) -> None:
        """What the case's name says, once trials are at work."""
        if case == "evolve":
            self.wait(1, "exploit")
        if case in ("kill", "freeze", "evolve"):
            self.wait_for_second()
        else:  # across both nodes all are at work
            self.wait(6)
        if case == "join":
            self.join()
        if case in ("kill", "evolve"):
            self.signal_second(signal.SIGKILL)
        if case == "freeze":
            self.signal_second(signal.SIGSTOP)
        if case == "across":
            self.signal_second(signal.SIGKILL)
            self.wait(1, "pool")
            self.join()

    def close(self) -> None:
        """End everything, what was frozen too."""
        for raylet in self.frozen:
            os.kill(raylet, signal.SIGCONT)
        ray.shutdown()
        self.cluster.shutdown()


def main() -> None:
    """Run the sweep of a case."""
    storage, case = Path(sys.argv[1]), sys.argv[2]
    os.environ.update(QUIET)
    nodes = Nodes(storage, second=case != "join")
    ray.init(address=nodes.cluster.address, log_to_driver=False, logging_level="ERROR")
    more = {"across": ACROSS, "join": HALVES, "evolve": EVOLVE}.get(case, {})
    space = {**SPACE, "seconds": 1.5} if case == "join" else SPACE  # long enough for two more slots to start
    sweep = Sweep(toy_spec(storage, **{"space": space, "phases": TRIALS, **more}))
    running = threading.Thread(target=sweep.run, daemon=True)  # a node can be added in the main thread only
    running.start()
    nodes.change(case)
    running.join()
    nodes.close()
    print(sweep.folder)


if __name__ == "__main__":
    main()
