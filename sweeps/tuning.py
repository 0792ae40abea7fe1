"""Runs one phase: a searcher and a scheduler under Ray Tune, every event written to the journal as it happens.

The only module that builds a Tuner. What becomes of each trial is decided in `sweeps.events`.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import ray
from ray import tune
from ray.tune.execution.class_cache import ENV_VARS_TO_PROPAGATE
from ray.tune.schedulers import TrialScheduler

from sweeps.engine import Engine
from sweeps.errors import SweepFailed, SweepsError
from sweeps.events import Events
from sweeps.lease import LONGEST_EPOCHS, Lease
from sweeps.population import Explore, Population
from sweeps.schedule import rebuild, scheduler
from sweeps.search import PhaseSearcher, Proposer, Scratch
from sweeps.slots import INTERRUPTED_S, Order
from sweeps.spec import Evolve, rungs

FIRST_DEADLINE_S = 1800.0
"""For the first epoch after a start, which may load data and compile."""
LEAST_DEADLINE_S = 60.0
"""For any later one; see the lease."""
SAVE_DEADLINE_S = 600.0
"""Beside that for an epoch with which a slot may write its first checkpoint: how long that takes is not known."""
CHECKPOINT_S = 10.0
"""Between checkpoints, where the spec does not give epochs: what a lost slot costs at most, beside its start."""


def run_phase(
    engine: Engine,
    phase: str,
    *,
    count: int,
    propose: Proposer,
    fidelity: Mapping[str, Any],
    min_epochs: int = 1,
    reduction_factor: float | None = None,
    unstopped_share: float = 0.0,
    evolve: tuple[Evolve, Explore] | None = None,
) -> None:
    """Run a phase, whose start the journal has already, until it has `count` trials and each has ended.

    Those that an earlier driver left unfinished go first, each from its newest checkpoint.
    With `evolve` they are a population, which that phase and what it does to a donor's config describe. Raises
    SweepFailed when the first trials fail alike, none gives a result, or the metric is not reported.
    """
    earlier = engine.record.history.of_phase(phase)
    events = Events(engine, phase)
    epochs = fidelity["epochs"]
    stops = evolve[0].judged if evolve else rungs(epochs, min_epochs, reduction_factor)
    every = engine.spec.checkpoint_every
    saving: dict[str, Any] = {
        "checkpoints": tuple(sorted({*(range(0, epochs, every) if every else ()), *stops})),  # who is stopped has one
        "checkpoint_s": math.inf if every else CHECKPOINT_S,
        "judged": evolve[0].judged if evolve else (),
    }
    expected = engine.record.history.plans[-1]["seconds_per_epoch"] or 0.0
    common: dict[str, Any] = {
        "metric": engine.spec.metric, "pool": engine.pool_name, "report_every": engine.spec.report_every,
        "first_deadline": max(FIRST_DEADLINE_S, LONGEST_EPOCHS * expected), "least_deadline": LEAST_DEADLINE_S,
        "save_deadline": SAVE_DEADLINE_S,
    }  # fmt: skip
    searcher = PhaseSearcher(
        phase, count, propose, fidelity, common, events.begin, saving, limit=lambda: max(engine.slots, 1)
    )  # with none it waits for one
    events.retry, events.paused = searcher.retry, searcher.paused
    searcher.resume({trial.trial: trial.role for trial in earlier})
    judge: TrialScheduler
    if evolve:
        judge = population = events.population = Population(engine.record.history, *evolve, events.decided)
        population.rebuild(engine.spec.metric)
        population.room = searcher.limit
        population.others = lambda: (searcher.again, searcher.number < searcher.count)
        searcher.turn, searcher.limit = population.turn, lambda: max(engine.slots, 1) - population.pausing()
    else:
        judge = scheduler(engine.spec.mode, epochs, min_epochs, reduction_factor, events.decided, unstopped_share)
        decided = {(line["trial"], line["epoch"]) for line in engine.record.history.decisions}
        rebuild(judge, earlier, engine.spec.metric, decided)
    for trial in earlier:
        events.settle(trial, saving)
    common["leases"] = (phase, min(engine.slots, count - searcher.number + len(searcher.again)))
    if searcher.number >= count and not searcher.again:
        if engine.record.history.phases[phase].status != "FINISHED":
            close_phase(engine, phase, "FINISHED", "all trials")
        return
    # Leases stay beside the driver, on no CPU of the trials'.
    here = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
    room = tune.PlacementGroupFactory([{f"node:{ray.util.get_node_ip_address()}": 0.001}], bundle_label_selector=[here])
    tuner = tune.Tuner(
        tune.with_resources(Lease, room),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=judge,
            num_samples=-1,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=phase,
            storage_path=str(engine.scratch),
            verbose=0,
            callbacks=[events],
            failure_config=tune.FailureConfig(max_failures=-1),
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            stop=Halt(events),
        ),
    )
    status, reason = "INTERRUPTED", "interrupted"
    try:
        with credentials_withheld():
            tuner.fit()
        if events.problem:
            raise events.problem
        if (
            count
            and not engine.spent()
            and not any(t.epochs and t.status == "FINISHED" for t in engine.record.history.of_phase(phase))
        ):
            raise SweepFailed(f"{phase}: no trial gave a result.{events.last_failure()}")
        status, reason = ("INTERRUPTED", engine.spent()) if engine.spent() else ("FINISHED", "all trials")
    except SweepsError as error:
        status, reason = "FAILED", str(error).splitlines()[0]
        raise
    except Exception as error:
        status, reason = "FAILED", repr(error)
        raise
    except BaseException:  # Ctrl-C: an epoch may last for hours, and its trial goes on from a checkpoint anyhow
        ray.get(engine.pool.end.remote(INTERRUPTED_S))
        raise
    finally:
        ray.get(engine.pool.release_all.remote())
        close_phase(engine, phase, status, reason)


@contextlib.contextmanager
def credentials_withheld() -> Iterator[None]:
    """Have Tune give none of the driver's AWS credentials to its actors.

    It would by their runtime environment, which Ray writes into a log and shows to whoever asks for its actors; and a
    lease, which all of them are, reads no storage.
    """
    given = {name for name in ENV_VARS_TO_PROPAGATE if name.startswith("AWS_")}
    ENV_VARS_TO_PROPAGATE.difference_update(given)
    try:
        yield
    finally:
        ENV_VARS_TO_PROPAGATE.update(given)


def close_phase(engine: Engine, phase: str, status: str, reason: str, seconds: float = 0.0) -> None:
    """Write the end of a phase, and of the trials that are still at work; `seconds` of work were no trial's."""
    for trial in engine.record.history.of_phase(phase):
        if trial.status == "RUNNING":
            engine.record.write(
                "end", trial=trial.trial, status="INTERRUPTED", reason=reason, seconds=0.0, whole=False
            )  # fmt: skip
    engine.record.write("end", phase=phase, status=status, reason=reason, seconds=seconds)


class Halt(Scratch, tune.Stopper):  # type: ignore[misc]
    """Ends the phase when there is a problem, the budget is spent or somebody asks; a trial when somebody asks."""

    def __init__(self, events: Events) -> None:
        self.events = events

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return Order(**result["config"]["order"]).trial in self.events.engine.asked

    def stop_all(self) -> bool:
        self.events.engine.look_around()
        ends = self.events.problem is not None or bool(self.events.engine.spent())
        self.events.look(everybody=ends)
        return ends
