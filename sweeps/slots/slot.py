"""One slot: a warm place for trials, and the one long Ray Train run in it. The only module that knows ray.train.

One worker is the slot's own process (Ray Train's local mode), several are a worker group that Ray Train starts once
and whose process group outlives the trials. Either way the run's loop takes commands from a mailbox, each worker all
of them, and answers each once.
"""

from __future__ import annotations

import asyncio
import os
import queue
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup

from sweeps.slots.order import Answer
from sweeps.slots.worker import Worker
from sweeps.storage import place

STRAGGLER_S = 5.0
"""A worker that has not answered this long after another one failed waits for that one: it will never answer."""


class Mailbox:
    """For one worker: joins the slot's command thread with the loop, in the same process."""

    def __init__(self) -> None:
        self.commands: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self.answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()

    def send(self, name: str, argument: Any, run: threading.Thread) -> list[Answer | None]:
        """Have the worker carry out a command. Raises RuntimeError when `run`, the Ray Train run, has ended."""
        self.commands.put((name, argument))
        while True:
            try:
                return [self.answers.get(timeout=1.0)]
            except queue.Empty:
                if not run.is_alive():
                    raise RuntimeError(ENDED) from None

    def receive(self) -> tuple[str, Any]:
        """The next command."""
        return self.commands.get()

    def answer(self, found: Answer) -> None:
        """Answer it."""
        self.answers.put(found)


@ray.remote(num_cpus=0)
class Post:
    """Keeps the commands and answers of a group of workers, which are processes of their own."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.commands: list[tuple[str, Any]] = []
        self.answers: list[dict[int, Answer]] = []
        self.changed = asyncio.Condition()

    async def send(self, name: str, argument: Any) -> list[Answer | None]:
        """Have all workers carry out a command; None for one that never answers because another one failed."""
        async with self.changed:
            self.commands.append((name, argument))
            self.answers.append({})
            number = len(self.commands) - 1
            self.changed.notify_all()
            found = self.answers[number]
            await self.changed.wait_for(
                lambda: len(found) == self.workers or any(answer["failure"] for answer in found.values())
            )
        try:
            async with asyncio.timeout(STRAGGLER_S), self.changed:
                await self.changed.wait_for(lambda: len(found) == self.workers)
        except TimeoutError:
            pass  # they wait in a collective for the one that failed
        self.commands[number], self.answers[number] = ("", None), {}  # done with: a sweep has many, some are large
        return [found.get(rank) for rank in range(self.workers)]

    async def receive(self, number: int) -> tuple[str, Any]:
        """The command of that number, once there is one."""
        async with self.changed:
            await self.changed.wait_for(lambda: len(self.commands) > number)
            return self.commands[number]

    async def answer(self, number: int, rank: int, found: Answer) -> None:
        """A worker's answer to it."""
        async with self.changed:
            self.answers[number][rank] = found
            self.changed.notify_all()


class Letterbox:
    """For several workers: the same as Mailbox through an actor. Each worker has a copy, and counts for itself."""

    def __init__(self, post: Any) -> None:
        self.post, self.number = post, 0

    def send(self, name: str, argument: Any, run: threading.Thread) -> list[Answer | None]:
        """See Mailbox."""
        pending = self.post.send.remote(name, argument)
        while not ray.wait([pending], timeout=1.0)[0]:
            if not run.is_alive():
                raise RuntimeError(ENDED)
        answers: list[Answer | None] = ray.get(pending)
        return answers

    def receive(self) -> tuple[str, Any]:
        """See Mailbox."""
        command: tuple[str, Any] = ray.get(self.post.receive.remote(self.number))
        return command

    def answer(self, found: Answer) -> None:
        """See Mailbox."""
        import ray.train

        ray.get(self.post.answer.remote(self.number, ray.train.get_context().get_world_rank(), found))
        self.number += 1


ENDED = "the Ray Train run of this slot has ended"


def serve(loop_config: dict[str, Any]) -> None:
    """The per-worker loop of one long Ray Train run: a command in, an answer out, until `exit`."""
    sys.path.extend(entry for entry in loop_config["path"] if entry not in sys.path)
    import ray.train
    from ray.train.torch import get_device

    mailbox: Mailbox | Letterbox = loop_config["mailbox"]
    keep_to_share(get_device(), loop_config["gpus"])
    if loop_config["parallelism"] != "ddp":
        from trainables import parallel

        parallel.spread(loop_config["parallelism"])
    rank = ray.train.get_context().get_world_rank()
    worker = Worker(
        loop_config["trainable"], place(loop_config["folder"]), get_device(), rank, Path(loop_config["scratch"])
    )
    while True:
        name, argument = mailbox.receive()
        if name == "exit":
            mailbox.answer({"reports": [], "failure": None, "poisoned": False})
            return
        if name == "hello":
            context = ray.get_runtime_context()
            group = ray.util.get_current_placement_group()
            mailbox.answer({"failure": None, "poisoned": False, "group": group, "node": context.get_node_id()})
        else:
            mailbox.answer(worker.answer(name, argument))


CONTEXT = 800 * 2**20
"""Bytes that the driver takes of a GPU for each process: 518 MiB as it begins on an H100 (CUDA 13), and up to 777 with
the kernels that the shipped networks load."""


def keep_to_share(device: Any, gpus: float) -> None:
    """Let a worker on a part of a GPU have that part of its memory: a trial that wants more fails by itself.

    What the driver takes for the process is part of the share, which torch does not count: where all shares were used
    up, one that kept to its own would fail. Of a small share half is the trial's all the same.
    """
    if device.type == "cuda" and gpus < 1:
        import torch

        beside = CONTEXT / torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(max(gpus - beside, gpus / 2), device)


def joined(answers: Sequence[Answer | None]) -> Answer:
    """One answer of all workers': rank 0's, or the failure of another one with rank 0's reports, where it gave any.

    `poisoned` when some can never answer, or never train again.
    """
    given = [answer for answer in answers if answer is not None]
    failed = [answer for answer in given if answer["failure"]]
    told = answers[0]["reports"] if answers[0] else []  # another's may be of its own rows only
    poisoned = len(given) < len(answers) or any(answer["poisoned"] for answer in given)
    return {**(failed or given)[0], "reports": told, "poisoned": poisoned}


@ray.remote
class Slot:
    """One warm place for a trial: a process, or a group of them, with the trial's resources."""

    def __init__(
        self, resources: dict[str, float], trainable: Any, folder: str, scratch: str, path: list[str], parallelism: str
    ) -> None:
        """`path` is the driver's import path: what it can import by name, a slot can."""
        sys.path.extend(entry for entry in path if entry not in sys.path)
        from ray.train import RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer

        workers = int(resources["workers"])
        self.mailbox: Mailbox | Letterbox
        if workers == 1:
            self.mailbox = Mailbox()
            scaling = ScalingConfig(num_workers=0, use_gpu=bool(ray.get_gpu_ids()))
        else:
            self.mailbox = Letterbox(Post.remote(workers))  # type: ignore[attr-defined]
            each = {"CPU": resources["cpus"], "GPU": resources["gpus"]}
            scaling = ScalingConfig(
                num_workers=workers, use_gpu=resources["gpus"] > 0,
                resources_per_worker={name: amount for name, amount in each.items() if amount},
            )  # fmt: skip
        trainer = TorchTrainer(
            serve,
            train_loop_config={
                "mailbox": self.mailbox,
                "trainable": trainable,
                "folder": folder,
                "scratch": scratch,
                "gpus": resources["gpus"],
                "path": path,
                "parallelism": parallelism,
            },
            scaling_config=scaling,
            run_config=RunConfig(name=f"slot-{os.getpid()}", storage_path=scratch),
        )
        self.poisoned = False
        self.lease: tuple[str, int] | None = None
        self.run = threading.Thread(target=trainer.fit, daemon=True)
        self.run.start()

    def ready(self) -> tuple[PlacementGroup | None, frozenset[str]]:
        """Wait for the workers; their placement group, where they are processes of their own, and all their nodes."""
        answers = [answer for answer in self.mailbox.send("hello", None, self.run) if answer]
        group = answers[0]["group"] if isinstance(self.mailbox, Letterbox) else None
        return group, frozenset([ray.get_runtime_context().get_node_id(), *(answer["node"] for answer in answers)])

    def over(self) -> None:
        """Wait for the end of the Ray Train run, which clears up behind its workers when they are gone."""
        self.run.join()

    def next(self, lease: tuple[str, int], report_every: float) -> Answer:
        """Have the workers train on for the lease, a holder and its number. Raises RuntimeError when it is not the one
        that started the trial: another has taken over from it."""
        if lease != self.lease:
            raise RuntimeError(f"lease {lease[1]} of {lease[0]} was replaced")
        return self.command("next", report_every)

    def command(self, name: str, argument: Any = None) -> Answer:
        """Have the workers carry out a command: their joined answer. Raises RuntimeError when they are gone.

        Once an answer was `poisoned`, some workers hang, and nothing but the end of the slot helps.
        """
        if self.poisoned:
            failure = {"kind": "lost", "error": "SlotLost", "message": "its workers hang", "traceback": ""}
            return {"reports": [], "done": True, "failure": failure, "poisoned": True, "slot": 0, "seconds": 0.0}
        if name == "start":
            self.lease = argument.holder, argument.lease
        answer = joined(self.mailbox.send(name, argument, self.run))
        self.poisoned = answer["poisoned"]
        return answer
