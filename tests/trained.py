"""A small sweep with real weights for tests: trials trained here by the platform's loop, journalled as a driver would.

One search trial, then confirm of its config and of the baseline over three seeds, every trial with the checkpoint of
its last epoch; no Ray, so that a sweep of any trainable takes seconds.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyarrow.fs import LocalFileSystem

from sweeps.history import Record
from sweeps.insight import verdict as verdicts
from sweeps.journal import FORMAT, now
from sweeps.spec import SweepSpec
from trainables import state
from trainables.contract import Fidelity, Session, instantiate, load, resolve
from trainables.evaluation import evaluate_split

EPOCHS, SEEDS = 4, (1, 2, 3)


def trained(
    folder: Path,
    trainable: str,
    config: Mapping[str, Any],
    baseline: Mapping[str, Any] | None = None,
    **fields: Any,
) -> Path:
    """The folder of a sweep that trained the config; with a baseline it confirmed it against that and read the test."""
    phases = [{"kind": "explore", "trials": 1, "epochs": EPOCHS}, {"kind": "confirm", "top": 1, "seeds": len(SEEDS)}]
    space, given = {name: [value] for name, value in config.items()}, {"name": folder.name, **fields}
    spec = SweepSpec.model_validate(
        {"trainable": trainable, "space": space, "phases": phases if baseline else phases[:1], **given}
    )
    folder.mkdir(parents=True)
    record = Record(folder)
    record.write(
        "sweep", format=FORMAT, name=folder.name, id=folder.name, spec=spec.document(), spec_digest=spec.digest,
        generation=1,
        git={"commit": "0123abc", "dirty": False}, versions={}, hardware={}, defaults={}, began=now() - 1, ready=now(),
    )  # fmt: skip
    began(record, spec, "explore")
    train(record, spec, "explore", "explore-000", "sobol", config, 0)
    if baseline:
        confirm(record, spec, {"baseline": baseline, "explore-000": config})
    record.write("end", status="FINISHED", reason="all phases")
    record.close()
    return folder


def confirm(record: Record, spec: SweepSpec, configs: Mapping[str, Mapping[str, Any]]) -> None:
    """Both arms over three seeds, and the verdict."""
    began(record, spec, "confirm")
    arms, test = [], {}
    for arm, config in configs.items():
        found, measured = verdicts.Arm(arm, dict(config), [], [], []), []
        for seed in SEEDS:
            trial = f"confirm-{len(arms) * len(SEEDS) + seed - 1:03d}"
            value, read = train(record, spec, "confirm", trial, arm, config, seed)
            found.trials.append(trial), found.seeds.append(seed), found.values.append(value)
            measured += [read] if read else []
        arms.append(found)
        test |= {arm: measured} if measured else {}
    verdict = verdicts.judge(arms, spec.metric, spec.mode)
    best = min(zip(verdict.best.values, verdict.best.trials, strict=True))[1]
    fields = verdicts.document(verdict, epochs=EPOCHS, best_trial=best, test=test or None, test_reads=len(test))
    record.write("verdict", phase="confirm", **fields)


def began(record: Record, spec: SweepSpec, phase: str) -> None:
    """Write the phase's line."""
    space = spec.space.model_dump(mode="json", by_alias=True)
    record.write("phase", phase=phase, phase_kind=phase, space=space, changes=[], comparison=None, trials=1)


def train(
    record: Record, spec: SweepSpec, phase: str, trial: str, role: str, config: Mapping[str, Any], seed: int
) -> tuple[float, dict[str, float]]:
    """Train and journal one trial; its last value, and what it has on the test split where there is one."""
    fidelity = {"epochs": EPOCHS, "data_fraction": 1.0, "seed": seed}
    record.write("trial", phase=phase, trial=trial, attempt=1, role=role, config=dict(config), fidelity=fidelity)
    session = Session(Fidelity(**fidelity))
    for report in resolve(spec.trainable)(config, session):
        checkpoint = f"checkpoints/{trial}/{report.epoch}" if report.epoch == EPOCHS else None
        if checkpoint and session.capture:
            kept = session.capture()
            state.save(kept, LocalFileSystem(), str(record.history.folder / checkpoint), report.epoch)
        record.write(
            "report", trial=trial, attempt=1, epoch=report.epoch, metrics=dict(report.metrics),
            checkpoint=checkpoint if session.capture else None, seconds=0.1, slot=1,
        )  # fmt: skip
    record.write("end", trial=trial, status="FINISHED", reason="all epochs", seconds=0.0, whole=True)
    return report.metrics[spec.metric], tested(spec.trainable, config, fidelity, kept) if session.capture else {}


def tested(trainable: str, config: Mapping[str, Any], fidelity: Mapping[str, Any], kept: Any) -> dict[str, float]:
    """The test split's metrics of a state; none without a test split, or of a loop of the user's own."""
    made = load(trainable)
    if inspect.isgeneratorfunction(made):
        return {}
    made = instantiate(made)
    if made.data(config, Fidelity(**fidelity)).test is None:
        return {}
    return evaluate_split(made, config, Session(Fidelity(**fidelity), state=kept))
