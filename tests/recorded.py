"""A small recorded sweep for tests: a journal written through the real Journal, with every kind of line in it.

Twelve explore trials (one infeasible, one failed after a retry, some stopped at rungs), six refine trials, and
confirm of two configs and the baseline over three seeds. The curves are made up, smooth and deterministic.
"""

from __future__ import annotations

import math
from pathlib import Path

from sweeps.journal import FORMAT, Journal
from sweeps.space import narrow
from sweeps.spec import SweepSpec

SPEC = SweepSpec.model_validate(
    {
        "name": "recorded",
        "trainable": "trainables.examples.digits:Digits",
        "space": {
            "lr": {"log": [1e-4, 1e-1]},
            "batch_size": None,
            "optimizer": ["sgd", "adamw"],
            "sgd.momentum": None,
            "dropout": {"float": [0.0, 0.5]},
        },
        "metric": "val/accuracy",
        "mode": "max",
        "baseline": {"lr": 1e-3, "batch_size": 32, "optimizer": "sgd", "sgd.momentum": 0.9, "dropout": 0.0},
        "phases": [
            {"kind": "explore", "trials": 12, "epochs": 3},
            {"kind": "refine", "trials": 6, "epochs": 9},
            {"kind": "confirm", "top": 2, "seeds": 3},
        ],
    }
)


def quality(config: dict) -> float:
    """Final accuracy of a config: best near lr 1e-2, a little better with dropout."""
    distance = abs(math.log10(config["lr"]) + 2)
    return 0.97 - 0.08 * distance**2 / 2 + 0.01 * config["dropout"]


def record(folder: Path, *, finished: bool = True) -> Path:
    """Write the journal under `folder` (made if missing) and return the folder; unfinished: the last lines lack."""
    folder.mkdir(parents=True, exist_ok=True)
    journal = Journal(folder)
    space = SPEC.space
    journal.append(
        "sweep", format=FORMAT, name=folder.name, id=folder.name, spec=SPEC.document(), spec_digest=SPEC.digest, generation=journal.generation,
        git={"commit": "0123abc", "dirty": False}, versions={"torch": "2.13.0", "ray": "2.60.0"},
        hardware={"cpus": 2, "gpus": 0, "slots": 2}, defaults={}, began=journal_time() - 8.0, ready=journal_time() - 1.0,
    )  # fmt: skip
    plan = [
        {"phase": "explore", "kind": "explore", "trials": 12, "epochs": 3, "data_fraction": 0.5, "shares": {"baseline": 1, "sobol": 11},
         "concurrency": 2, "most_epochs": 36, "expected_epochs": 20.0, "checkpoints": 5, "checkpoint_bytes": 250000, "seconds": None},
        {"phase": "refine", "kind": "refine", "trials": 6, "epochs": 9, "data_fraction": 1.0, "shares": {"tpe": 5, "old_space": 1},
         "concurrency": 2, "most_epochs": 54, "expected_epochs": 30.0, "checkpoints": 5, "checkpoint_bytes": 250000, "seconds": None},
        {"phase": "confirm", "kind": "confirm", "trials": 9, "epochs": 9, "data_fraction": 1.0, "shares": {"confirm": 6, "baseline": 3},
         "concurrency": 2, "most_epochs": 81, "expected_epochs": 81.0, "checkpoints": 9, "checkpoint_bytes": 450000, "seconds": None},
    ]  # fmt: skip
    journal.append(
        "plan",
        phases=plan,
        seconds_per_epoch=None,
        basis="unknown until measured",
        total_s=None,
        footprint={"data": "0f1e2d3c4b5a6978"},
    )
    points = [SPEC.baseline] + [
        space.decode([(0.5 + i * g) % 1 for g in (0.618, 0.755, 0.57, 0.82, 0.34)][: len(space.searched)])
        for i in range(1, 12)
    ]
    start_phase(journal, "explore", "explore", space, [], None, 12)
    for n, config in enumerate(points):
        trial = f"explore-{n:03d}"
        run(journal, "explore", trial, "baseline" if n == 0 else "sobol", config, epochs=3, fraction=0.5, seed=0, n=n)
    journal.append("end", phase="explore", status="FINISHED", reason="all trials", seconds=0.0)
    measured = [{**p, "seconds": p["expected_epochs"] * p["data_fraction"] * 0.4 / 2} for p in plan]
    journal.append(
        "plan",
        phases=measured,
        seconds_per_epoch=0.4,
        basis="measured on explore",
        total_s=sum(p["seconds"] for p in measured),
        footprint={"data": "0f1e2d3c4b5a6978", "train_rows": 1078, "val_rows": 359},
    )
    ranked = sorted((p for n, p in enumerate(points) if n not in (3, 5)), key=quality, reverse=True)
    narrowed, changes = narrow(space, ranked)
    comparison = {"phase": "explore", "epoch": 3, "data_fraction": 0.5, "trials": len(ranked)}
    start_phase(journal, "refine", "refine", narrowed, changes, comparison, 6)
    refined = [
        narrowed.decode([(0.5 + i * g) % 1 for g in (0.618, 0.755, 0.57, 0.82, 0.34)][: len(narrowed.searched)])
        for i in range(6)
    ]
    for n, config in enumerate(refined):
        run(
            journal,
            "refine",
            f"refine-{n:03d}",
            "tpe" if n else "old_space",
            config,
            epochs=9,
            fraction=1.0,
            seed=0,
            n=n + 20,
        )
    if not finished:
        journal.close()
        return folder
    journal.append("end", phase="refine", status="FINISHED", reason="all trials", seconds=0.0)
    start_phase(journal, "confirm", "confirm", narrowed, [], None, 9)
    top = sorted(range(6), key=lambda n: quality(refined[n]), reverse=True)[:2]
    arms = [("baseline", SPEC.baseline), *((f"refine-{n:03d}", refined[n]) for n in top)]
    records = []
    for a, (arm, config) in enumerate(arms):
        values, trials = [], []
        for seed in range(3):
            trial = f"confirm-{a * 3 + seed:03d}"
            values.append(
                run(
                    journal,
                    "confirm",
                    trial,
                    arm,
                    config,
                    epochs=9,
                    fraction=1.0,
                    seed=seed + 1,
                    n=a * 3 + seed + 40,
                    stop=False,
                )
            )
            trials.append(trial)
        mean = sum(values) / 3
        sd = math.sqrt(sum((v - mean) ** 2 for v in values) / 2)
        records.append(
            {
                "arm": arm,
                "config": config,
                "trials": trials,
                "seeds": [1, 2, 3],
                "values": values,
                "infeasible": [],
                "mean": mean,
                "sd": sd,
            }
        )
    journal.append("end", phase="confirm", status="FINISHED", reason="all trials", seconds=0.0)
    winner = max(records, key=lambda r: r["mean"])
    difference = winner["mean"] - records[0]["mean"]
    journal.append(
        "verdict", phase="confirm", verdict="ADOPT", metric="val/accuracy", mode="max", epochs=9, winner=winner["arm"], best_trial=winner["trials"][0], arms=records,
        comparison={"candidate": winner["arm"], "seeds": [1, 2, 3], "differences": [difference] * 3, "mean_difference": difference, "low": difference - 0.01, "high": difference + 0.01, "confidence": 0.95, "seeds_needed": 3},
        test={winner["arm"]: [{"test/accuracy": v - 0.005} for v in winner["values"]], "baseline": [{"test/accuracy": v - 0.005} for v in records[0]["values"]]},
        test_reads=1, text=f"ADOPT {winner['arm']}: val/accuracy {winner['mean']:.3f} against {records[0]['mean']:.3f} of the baseline over 3 seeds.",
    )  # fmt: skip
    journal.append(
        "finding", finding="edge_of_space", severity="info", message="lr: two of the best five lie at the low edge."
    )
    journal.append(
        "end", status="FINISHED", reason="all phases",
        time={"wall_s": 100.0, "startup_s": 10.0, "training_s": 75.0, "bookkeeping_s": 15.0, "slots": 2, "gpu_hours": 0.0},
    )  # fmt: skip
    journal.close()
    return folder


def journal_time() -> float:
    """Now, as the journal stamps it."""
    import time

    return time.time()


def start_phase(journal, phase, kind, space, changes, comparison, trials):
    journal.append(
        "phase", phase=phase, phase_kind=kind, space=space.model_dump(mode="json", by_alias=True),
        changes=[c.model_dump(mode="json") for c in changes], comparison=comparison, trials=trials,
    )  # fmt: skip


def run(journal, phase, trial, role, config, *, epochs, fraction, seed, n, stop=True):
    """Write one trial's lines; n = 3 becomes infeasible, 5 fails twice, others may stop at epoch 1. Last value."""
    fidelity = {"epochs": epochs, "data_fraction": fraction, "seed": seed}
    journal.append("trial", phase=phase, trial=trial, attempt=1, role=role, config=config, fidelity=fidelity)
    if n == 5:
        for attempt in (1, 2):
            if attempt == 2:
                journal.append(
                    "trial", phase=phase, trial=trial, attempt=2, role=role, config=config, fidelity=fidelity
                )
            journal.append(
                "failure",
                trial=trial,
                attempt=attempt,
                failure_kind="error",
                error="RuntimeError",
                message="bad batch",
                traceback="Traceback …",
                log=f"logs/{trial}.log",
                seconds=0.2,
            )
        journal.append("end", trial=trial, status="FAILED", reason="RuntimeError: bad batch", seconds=0.0, whole=False)
        return 0.0
    final = quality(config) + 0.002 * math.sin(7 * n)
    last = 0.0
    for epoch in range(1, epochs + 1):
        last = final * (1 - math.exp(-1.2 * epoch))
        loss = 2.3 * math.exp(-0.7 * epoch) + (1 - final)
        metrics = {
            "train/loss": loss * 0.9, "train/accuracy": min(1.0, last + 0.01), "val/loss": loss, "val/accuracy": last,
            "grad/norm": 1.0 / epoch, "time/train_s": 0.3, "time/eval_s": 0.05, "hp/lr": config["lr"],
        }  # fmt: skip
        if n == 3 and epoch == 2:
            metrics["val/loss"] = math.nan
        checkpoint = None if n == 3 and epoch == 2 else f"checkpoints/{trial}/{epoch}"
        journal.append(
            "report",
            trial=trial,
            attempt=1,
            epoch=epoch,
            metrics=metrics,
            checkpoint=checkpoint,
            seconds=0.4,
            slot=100 + n % 2,
        )
        if n == 3 and epoch == 2:
            journal.append(
                "end",
                trial=trial,
                status="INFEASIBLE",
                reason="non-finite val/loss at epoch 2",
                seconds=0.0,
                whole=False,
            )
            return last
        if stop and n > 3 and n % 3 == 0 and epoch == 1:
            journal.append("decision", trial=trial, epoch=1, rung=1, value=last, cutoff=last + 0.01, decision="STOP")
            journal.append("end", trial=trial, status="FINISHED", reason="stopped at rung 1", seconds=0.0, whole=False)
            return last
        if stop and epoch in (1, 3) and epoch < epochs:
            journal.append(
                "decision", trial=trial, epoch=epoch, rung=epoch, value=last, cutoff=last - 0.01, decision="CONTINUE"
            )
    journal.append("end", trial=trial, status="FINISHED", reason="all epochs", seconds=0.0, whole=True)
    return last
