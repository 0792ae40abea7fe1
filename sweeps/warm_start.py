"""What `warm_start` in a spec refers to: another sweep, one of its trials, a model in MLflow; each made a checkpoint.

Place in the flow: once, when a new sweep begins, before anything of it is built; from there on spec and configs name
checkpoints only, so that resume and extend cannot change what is meant. A value of `warm_start`, in the space or in the
baseline, is `null` (cold), or one of

    sweep:<folder or name>                  the newest checkpoint of that sweep's best trial
    sweep:<folder or name>#<trial>          that of one of its trials
    models:/<name>/<version>, models:/<name>@<alias>, models:/<model id>, runs:/<run id>/<path>
                                            a PyTorch model in MLflow: at the spec's tracking, else MLFLOW_TRACKING_URI
    runs/a/checkpoints/explore-003/9        the folder or URI of a checkpoint, used where it lies

Whatever is referred to is copied into the new sweep's folder: a sweep removes checkpoints that it does not need any
more, an alias moves on, and a trial that is resumed reads its weights again. The copy is named by its content, so that
two references to the same weights are seen to be the same. A checkpoint is copied whole, without a look into it: the
driver needs no torch, and a loop of the user's own finds all that it saved.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeps import tracking
from sweeps.errors import JournalError, SpecError, StorageError
from sweeps.history import History, TrialHistory
from sweeps.insight.curves import best_trial
from sweeps.retention import MANIFEST
from sweeps.spec import SweepSpec
from sweeps.storage import Folder, files, find_sweep, first_words, place, remove

PARAMETER = COPIES = "warm_start"
"""The parameter, `sgd.warm_start` too; and the folder of a sweep that has what is meant by its values."""
SWEEP, MLFLOW = "sweep:", ("models:/", "runs:/")
FORMS = (
    "Write a checkpoint's folder, sweep:<name>, sweep:<name>#<trial>, models:/<name>/<version> or runs:/<id>/<path>."
)
TRIES = 5
"""A trial at work removes its checkpoint when it has the next: so often is the newest looked for again."""


@dataclass(frozen=True)
class Origin:
    """What a value of `warm_start` stood for, as the journal keeps it."""

    reference: str
    """As the spec says it."""
    checkpoint: str
    """What trials are given: the folder or URI of a checkpoint."""
    source: str
    """Where that comes from: the other sweep's checkpoint, MLflow's id of the model; itself when used in place."""


@contextlib.contextmanager
def resolved(spec: SweepSpec, folder: Folder, tell: Callable[[str], None]) -> Iterator[tuple[SweepSpec, list[Origin]]]:
    """The spec of a new sweep in `folder` with checkpoints for what it refers to, and what each of them stands for.

    What was copied goes again when the sweep never begins to write its journal. Raises UsageError as `resolve`.
    """
    try:
        yield resolve(spec, folder, tell)
    except BaseException:
        if any(given(spec)):
            with contextlib.suppress(OSError):  # out of reach: the reason why it never began is what counts
                if not (folder / "journal").exists():
                    discard(folder)
        raise


def resolve(
    spec: SweepSpec, folder: Folder, tell: Callable[[str], None] = lambda text: None
) -> tuple[SweepSpec, list[Origin]]:
    """The spec with checkpoints for what it refers to, copied under `folder`, and what each of them stands for.

    Raises SpecError for a sweep, a trial or a checkpoint that is not there, TrackingError for what MLflow has not.
    """
    origins: dict[str, Origin] = {}
    named: dict[tuple[str, str], str] = {}
    for key, reference in given(spec):
        if reference not in origins:
            origins[reference] = origin = look_up(key, reference, spec, folder, tell)
            if origin.source != origin.checkpoint:
                tell(f"warm start: {reference} is {origin.source}")
        first = named.setdefault((key, origins[reference].checkpoint), reference)
        if first != reference:
            raise SpecError(key, f"{first} and {reference} are the same checkpoint", "Keep one of them.")
    found = list(origins.values())
    return meant(spec, found), found


def meant(spec: SweepSpec, origins: Iterable[Origin]) -> SweepSpec:
    """The spec with the checkpoints of these origins in the place of their references."""
    checkpoints = {origin.reference: origin.checkpoint for origin in origins}

    def instead(value: Any) -> Any:
        return checkpoints.get(value, value) if isinstance(value, str) else value

    if not checkpoints:
        return spec
    names = [name for name in spec.space if concerns(name)]
    baseline = spec.baseline and {
        name: instead(value) if concerns(name) else value for name, value in spec.baseline.items()
    }
    return spec.model_copy(update={"space": spec.space.exchanged(names, instead), "baseline": baseline})


def origins_of(history: History) -> list[Origin]:
    """What the values of `warm_start` in a sweep's spec stood for when it began."""
    return [Origin(**origin) for origin in history.header.get("warm_start", [])]


def concerns(name: str) -> bool:
    """Whether a parameter's values are ours: `warm_start`, or that of one optimizer."""
    return name.rpartition(".")[2] == PARAMETER


def given(spec: SweepSpec) -> Iterator[tuple[str, str]]:
    """(key of the spec, value) of all that the spec refers to. Other values than texts are the trainable's business."""
    for name, domain in spec.space.root.items():
        if concerns(name):
            yield from ((f"space.{name}", value) for value in domain.grid(1) if isinstance(value, str))
    for name, value in (spec.baseline or {}).items():
        if concerns(name) and isinstance(value, str):
            yield f"baseline.{name}", value


def look_up(key: str, reference: str, spec: SweepSpec, folder: Folder, tell: Callable[[str], None]) -> Origin:
    """The checkpoint that a reference stands for, copied under `folder` unless it is one. Raises UsageError."""
    try:
        if reference.startswith(SWEEP):
            return from_sweep(key, reference, spec.storage, folder)
        if reference.startswith(MLFLOW):
            tell(f"warm start: asking MLflow for {reference} …")
            with tempfile.TemporaryDirectory() as scratch:
                model = tracking.fetch_model(reference, spec.tracking, Path(scratch))
                return Origin(reference, str(copied(key, Path(scratch), folder)), model)
        checkpoint = place(reference)
        if not (checkpoint / MANIFEST).exists():
            sweep = (checkpoint / "journal").exists()
            mend = f"It is a sweep: write {SWEEP}{reference}, which means its best trial." if sweep else FORMS
            raise SpecError(key, f"there is no checkpoint at {checkpoint}", mend)
        return Origin(reference, str(checkpoint), str(checkpoint))
    except StorageError as error:
        raise SpecError(key, str(error).removeprefix("storage: ").rstrip("."), FORMS) from None
    except OSError as error:
        mend = "Is the storage up, and are this machine's credentials right?"
        raise SpecError(key, f"{reference} cannot be read or copied: {first_words(error)}", mend) from None


def from_sweep(key: str, reference: str, storage: str, folder: Folder) -> Origin:
    """A copy of the newest checkpoint of another sweep's trial. Raises SpecError when there is none."""
    name, mark, named = reference.removeprefix(SWEEP).partition("#")
    other = find_sweep(name, storage)
    for _ in range(TRIES):
        trial = trial_of(key, other, named if mark else None)
        if trial.checkpoint is None:
            raise SpecError(key, f"{trial.trial} of {other} has written no checkpoint", those_with_one(other))
        source = other / trial.checkpoint
        with contextlib.suppress(FileNotFoundError):  # it was removed since the journal named it
            return Origin(reference, str(copied(key, source, folder)), str(source))
    gone = f"the checkpoint of {trial.trial} of {other} is not there any more: a sweep keeps those of its best trials"
    raise SpecError(key, gone, those_with_one(other))


def trial_of(key: str, sweep: Folder, name: str | None) -> TrialHistory:
    """The trial of that name, or the sweep's best, as its journal stands. Raises SpecError when there is none."""
    try:
        history = History.open(sweep)
    except JournalError as error:
        raise SpecError(key, str(error), "Name another sweep.") from None
    trial = best_trial(history) if name is None else history.trials.get(name)
    if trial is not None:
        return trial
    if name is None:
        raise SpecError(key, f"no trial of {sweep} has a result yet", "Wait for one, or name another sweep.")
    near = difflib.get_close_matches(name, history.trials, n=1)
    hint = f"Did you mean {near[0]}? " if near else ""
    raise SpecError(key, f"{sweep} has no trial {name!r}", hint + those_with_one(sweep))


def those_with_one(sweep: Folder) -> str:
    """Which trials of a sweep have a checkpoint on its storage now, as a mend."""
    whole = (path for path, _ in files(sweep / "checkpoints") if path.endswith(f"/{MANIFEST}"))
    names = sorted({path.partition("/")[0] for path in whole})
    return f"Trials with a checkpoint: {', '.join(names)}." if names else "None of its trials has a checkpoint now."


def copied(key: str, checkpoint: Folder, folder: Folder) -> Folder:
    """The sweep's own copy of a checkpoint. Raises FileNotFoundError when that is gone, SpecError when it is torn."""
    manifest = (checkpoint / MANIFEST).read_bytes()
    try:
        digests = {name: of["sha256"] for name, of in json.loads(manifest)["files"].items()}
    except (ValueError, KeyError, TypeError):
        digests = {}
    if any(Path(name).name != name for name in digests):
        raise SpecError(key, f"the manifest of {checkpoint} names files elsewhere", "Name another one.")
    parts = {name: (checkpoint / name).read_bytes() for name in digests}
    if not parts or any(hashlib.sha256(content).hexdigest() != digests[name] for name, content in parts.items()):
        raise SpecError(key, f"the checkpoint {checkpoint} is torn", "Name another one.")
    copy = folder / COPIES / hashlib.sha256("".join(digests.values()).encode()).hexdigest()[:16]
    if isinstance(copy, Path):
        copy.mkdir(parents=True, exist_ok=True)
    for name, content in {**parts, MANIFEST: manifest}.items():  # the manifest last, as in any checkpoint
        (copy / name).write_bytes(content)
    return copy


def discard(folder: Folder) -> None:
    """Remove the copies of a sweep that never began."""
    for name in {path.partition("/")[0] for path, _ in files(folder / COPIES)}:
        remove(folder / COPIES / name, MANIFEST)
