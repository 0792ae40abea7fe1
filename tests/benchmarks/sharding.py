"""What one process of two holds while it trains a large model: sharded (fsdp) against whole in each (ddp).

Memory that is the process's own (USS) between two steps of AdamW, less that of the same process before the model was
built: parameters, gradients and two moments, 16 bytes a parameter in all. The most that was ever resident (peak) counts
the build, too, for which each process has the whole model once. glibc keeps freed blocks of this size for itself unless
told to map each anew, which it is here for both: what is counted is in use.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import socket
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from benchmarks.harness import report
from trainables import parallel
from trainables.contract import Data, Fidelity
from trainables.training import epoch_batches, prepare, step

WORKERS, WIDTH, DEPTH = 2, 2048, 12


class Large:
    """A network of 50 million parameters."""

    def data(self, config: Any, fidelity: Fidelity) -> Data:
        x = torch.randn(64, WIDTH)
        return Data((x, x.sum(1)), (x, x.sum(1)))

    def model(self, config: Any, data: Data) -> nn.Module:
        layers = [layer for _ in range(DEPTH) for layer in (nn.Linear(WIDTH, WIDTH), nn.Tanh())]
        return nn.Sequential(*layers, nn.Linear(WIDTH, 1))


def own_bytes() -> int:
    """The memory that belongs to this process alone."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("Private_Clean", "Private_Dirty")))


def work(rank: int, port: int, kind: str, answers: Any) -> None:
    """Train a few steps; what this rank then holds beyond what it held before, and the most it ever held."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=WORKERS)
    parallel.spread(kind)
    before = own_bytes()
    training = prepare(Large(), {"batch_size": 32}, Fidelity(1), torch.device("cpu"))
    for batch in epoch_batches(training, 1):
        step(training, batch, 1e-4, 32)
    size = sum(parameter.numel() for parameter in training.parameters)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    answers.put({"held": (own_bytes() - before) / size, "peak": (peak - before) / size})
    dist.barrier()
    dist.destroy_process_group()


def measured(kind: str) -> dict[str, float]:
    """Bytes a parameter, of the rank that has most."""
    context = multiprocessing.get_context("spawn")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    answers = context.SimpleQueue()
    processes = [context.Process(target=work, args=(rank, port, kind, answers)) for rank in range(WORKERS)]
    for process in processes:
        process.start()
    found = [answers.get() for _ in processes]
    for process in processes:
        process.join()
    return {name: max(one[name] for one in found) for name in found[0]}


if __name__ == "__main__":
    os.environ["MALLOC_MMAP_THRESHOLD_"] = str(2**20)
    ddp, fsdp = measured("ddp"), measured("fsdp")
    report(
        "sharding",
        [
            ("fsdp against ddp, held between steps", fsdp["held"] / ddp["held"], "ratio"),
            ("fsdp against ddp, peak", fsdp["peak"] / ddp["peak"], "ratio"),
            ("ddp, held between steps", ddp["held"], "bytes a parameter"),
            ("fsdp, held between steps", fsdp["held"], "bytes a parameter"),
            ("ddp, peak", ddp["peak"], "bytes a parameter"),
            ("fsdp, peak", fsdp["peak"], "bytes a parameter"),
        ],
    )
