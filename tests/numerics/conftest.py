"""One pair of gloo processes for all the tests of this folder."""

from __future__ import annotations

import socket

import pytest
import torch.multiprocessing as mp

from numerics_helpers import WORKERS, work


@pytest.fixture(scope="session")
def pair():
    """Runs a function on both ranks of one pair of processes; what each gave."""
    context = mp.get_context("spawn")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    tasks, answers = [context.SimpleQueue() for _ in range(WORKERS)], context.Queue()
    processes = [context.Process(target=work, args=(rank, port, tasks, answers)) for rank in range(WORKERS)]
    for process in processes:
        process.start()

    def run(function, *arguments):
        for queue in tasks:
            queue.put((function, arguments))
        found = dict(answers.get(timeout=120) for _ in range(WORKERS))
        return [found[rank] for rank in range(WORKERS)]

    yield run
    for queue in tasks:
        queue.put(None)
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
