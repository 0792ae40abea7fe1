"""The spec itself, and what must hold between its parts; what pydantic says of a mistake is told as a sentence."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    ModelWrapValidatorHandler,
    PlainSerializer,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from sweeps.errors import SpecError, in_words
from sweeps.secrets import holds_secret
from sweeps.space import Config, Space
from sweeps.space.domains import Range
from sweeps.spec.phases import (
    Audit,
    Confirm,
    Evolve,
    Explore,
    Grid,
    Halving,
    Model,
    Mutation,
    Phase,
    Preflight,
    Refine,
    Replay,
    SearchPhase,
    phase_name,
)


def name_of(trainable: Any) -> str:
    """`module:attr` of a trainable given as an object; the journal, a job and a resume know it by this name."""
    if isinstance(trainable, str):
        return trainable
    owner = trainable if hasattr(trainable, "__qualname__") else type(trainable)
    return f"{owner.__module__}:{owner.__qualname__}"


def _trainable(given: Any) -> Any:
    if given is None or (isinstance(given, str) and not all(given.partition(":"))):
        raise SpecError("trainable", f"{given!r} is not of the form module:attr", "Write e.g. my_model:Digits.")
    return given


def _tracking(given: Any) -> Any:
    """Refuse a password before anything else is said of the value: other messages repeat what they were given."""
    if given is None:
        return None
    try:
        parts = urlsplit(given) if isinstance(given, str) else None
    except ValueError:
        parts = None
    if parts is None:
        raise SpecError("tracking", "is not a URI", "Write e.g. http://host:5000 or sqlite:////path/to/mlflow.db.")
    if holds_secret(given):
        raise SpecError(
            "tracking",
            "holds a password, which would end up in the journal",
            "Drop it; give it through the environment (MLFLOW_TRACKING_PASSWORD, PGPASSWORD).",
        )
    return given


class Resources(Model):
    """What one trial takes, and how many run at a time."""

    workers: int = Field(default=1, gt=0)
    """Processes of one trial, on one node where there is room, else on several; `batch_size` stays what all of them
    take together."""
    parallelism: Literal["ddp", "fsdp"] = "ddp"
    """Of several workers: `ddp` gives each the whole model; `fsdp` a share of its parameters, gradients and optimizer
    state, for a model that is too large for one device."""
    cpus_per_worker: float = Field(default=1, gt=0)
    gpus_per_worker: Annotated[float, Field(ge=0)] | Literal["auto"] = 0.0
    """A share of one GPU is a share of its memory, too: a trial that wants more fails by itself, not its neighbour.
    `auto`: as many trials on a GPU as fit by the memory that preflight measures on the baseline, half as much again
    kept free for larger configs; a whole one for each of several workers."""
    concurrency: int | None = Field(default=None, gt=0)
    """Trials at a time; null: as many as fit."""


class Budget(Model):
    """Upper bounds. The sweep ends when time or GPU-hours are spent; a plan above `trials` is refused, and one whose
    least work, by the time that an epoch was measured to take, is above `hours`."""

    trials: int | None = Field(default=None, gt=0)
    hours: float | None = Field(default=None, gt=0)
    gpu_hours: float | None = Field(default=None, gt=0)


class SweepSpec(Model):
    """A sweep: what is trained, what may vary, what counts as better, in which phases, on what."""

    name: str = Field(default="sweep", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """First part of the sweep's folder name and of the MLflow experiment."""
    trainable: Annotated[
        Any,
        BeforeValidator(_trainable),
        PlainSerializer(name_of),
        WithJsonSchema({"type": "string", "pattern": ".+:.+"}),
    ]
    """`module:attr`, or in Python the object itself."""
    space: Annotated[
        Space,
        WithJsonSchema({"type": "object", "description": "parameter: domain; see sweeps.space.domains"}),
    ]
    """What may vary: the loop's own parameters (`trainables.hyperparameters`) and whatever the trainable reads from its
    config. For what `warm_start` may refer to see `sweeps.warm_start`."""
    metric: str = "val/loss"
    mode: Literal["min", "max"] = "min"
    baseline: Config | None = None
    """The config used today, compared with the winner; null: the middle of every domain."""
    phases: tuple[Phase, ...] = Field(
        default=(
            Audit(kind="audit"),
            Preflight(kind="preflight"),
            Explore(kind="explore"),
            Refine(kind="refine"),
            Confirm(kind="confirm"),
        ),
        min_length=1,
    )
    resources: Resources = Resources()
    budget: Budget = Budget()
    storage: str = "./runs"
    """Where sweeps keep their folders: a local folder, or a URI of any file system of pyarrow (`s3://bucket/sweeps`)."""
    tracking: Annotated[str | None, BeforeValidator(_tracking)] = None
    """MLflow tracking URI; null: an sqlite file in the sweep's folder, or under ./runs for a remote storage."""
    checkpoint_every: int | None = Field(default=None, gt=0)
    """Epochs between checkpoints; null: by time, ten seconds. A rung, where a trial may be stopped, and the last epoch
    always have one."""
    report_every: float = Field(default=1.0, ge=0)
    """Seconds: reports of shorter epochs travel together. No trial passes a rung or a checkpoint with one untold."""
    keep_checkpoints: int = Field(default=3, gt=0)
    """Checkpoints kept of the sweep's best ended trials, one each; confirm keeps its own until the verdict besides."""
    seed: int = Field(default=0, ge=0, lt=2**62)

    @model_validator(mode="wrap")
    @classmethod
    def _readable_errors(cls, raw: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(raw)
        except ValidationError as error:
            raise readable(error) from None

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        names = [phase_name(phase) for phase in self.phases]
        for i, (phase, name) in enumerate(zip(self.phases, names, strict=True)):
            if name in names[:i]:
                raise SpecError(f"phases[{i}].name", f"two phases are called {name}", f"Write e.g. name: {name}2.")
            if isinstance(phase, Refine | Confirm) and not any(isinstance(p, SearchPhase) for p in self.phases[:i]):
                raise SpecError(
                    f"phases[{i}]",
                    f"{phase.kind} has nothing before it to go on from",
                    "Put an explore or grid phase first.",
                )
            if isinstance(phase, Replay) and (origin := phase.trial.rpartition("-")[0]) not in names[:i]:
                raise SpecError(
                    f"phases[{i}].trial", f"there is no phase {origin!r} before it", "Name one of its trials."
                )
            if isinstance(phase, Confirm):
                self._confirms_a_schedule_whole(f"phases[{i}]", phase, self.phases[:i])
            before = {other.kind for other in self.phases[:i]}
            if isinstance(phase, Audit | Preflight) and before - ({"audit"} - {phase.kind}):
                mend = "Put audit first, then preflight, then the others."
                raise SpecError(f"phases[{i}]", f"{phase.kind} comes after another phase", mend)
            if isinstance(phase, Halving) and phase.min_epochs > phase.epochs:
                raise SpecError(
                    f"phases[{i}].min_epochs",
                    f"min_epochs ({phase.min_epochs}) is above epochs ({phase.epochs})",
                    "Lower it, or train longer.",
                )
            if isinstance(phase, Evolve):
                self._can_evolve(f"phases[{i}]", phase)
        if self.resources.gpus_per_worker == "auto" and not any(isinstance(phase, Preflight) for phase in self.phases):
            mend = "Put {kind: preflight} before the other phases, or write a number."
            raise SpecError("resources.gpus_per_worker", "auto is measured by preflight, which the phases lack", mend)
        if self.resources.parallelism == "fsdp" and self.resources.workers == 1:
            mend = "Raise workers, or leave parallelism out."
            raise SpecError("resources.parallelism", "fsdp spreads a model over several workers, and there is 1", mend)
        if not self.space.searched:
            raise SpecError("space", "every parameter is a constant", "Give at least one of them a range.")
        for parameter, value in (self.baseline or {}).items():
            domain = self.space.root.get(parameter)
            if isinstance(domain, Range) and (isinstance(value, bool) or not isinstance(value, int | float)):
                raise SpecError(f"baseline.{parameter}", f"{value!r} is not a number", "Write one, without quotes.")
            try:
                json.dumps(value, allow_nan=False)
            except (TypeError, ValueError):
                raise SpecError(
                    f"baseline.{parameter}",
                    f"{value!r} is a {type(value).__name__} that JSON has not",
                    "Write a finite number or a text (in quotes).",
                ) from None
            if parameter not in self.space:
                near = difflib.get_close_matches(parameter, list(self.space), n=1)
                mend = f"Did you mean {near[0]}?" if near else "Add it to the space, as a constant if it never varies."
                raise SpecError(f"baseline.{parameter}", "not a parameter of the space", mend)
        return self

    def _can_evolve(self, path: str, phase: Evolve) -> None:
        """Raises SpecError for a population in which nobody could ever take over from another."""
        if phase.interval >= phase.epochs:
            raise SpecError(
                f"{path}.interval",
                f"interval ({phase.interval}) is not below epochs ({phase.epochs}), so nothing is ever compared",
                "Lower it, or train longer.",
            )
        for name in phase.mutations or {}:
            if name not in self.space.searched:
                known = name in self.space
                near = difflib.get_close_matches(name, self.space.searched, n=1)
                raise SpecError(
                    f"{path}.mutations.{name}",
                    "is a constant of the space" if known else "not a parameter of the space",
                    "Give it a range, or leave it out."
                    if known
                    else f"Did you mean {near[0]}?"
                    if near
                    else f"Known: {', '.join(self.space.searched)}.",
                )

    def _confirms_a_schedule_whole(self, path: str, phase: Confirm, before: tuple[Phase, ...]) -> None:
        """Raises SpecError where a population's schedule would be confirmed over fewer or more epochs than it has."""
        last = next((found for found in reversed(before) if isinstance(found, SearchPhase)), None)
        if isinstance(last, Evolve) and phase.epochs not in (None, last.epochs):
            raise SpecError(
                f"{path}.epochs",
                f"{phase_name(last)} finds schedules of {last.epochs} epochs, not of {phase.epochs}",
                "Leave it out.",
            )

    @property
    def with_trials(self) -> tuple[Explore | Refine | Grid | Evolve | Confirm | Replay, ...]:
        """The phases that have trials: all but audit and preflight."""
        return tuple(phase for phase in self.phases if not isinstance(phase, Audit | Preflight))

    @property
    def digest(self) -> str:
        """Short hash of everything in the spec."""
        text = json.dumps(self.document(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def document(self) -> dict[str, Any]:
        """The spec as plain data; `SweepSpec.model_validate` of it gives an equal spec."""
        return self.model_dump(mode="json", by_alias=True)


def readable(error: ValidationError) -> SpecError:
    """The first problem that pydantic found, as a sentence with a mend; unknown keys get the nearest known one."""
    first = error.errors()[0]
    tags = {"audit", "preflight", "explore", "refine", "grid", "evolve", "confirm", "replay"}
    parts = first["loc"]
    of_kind = {at for at, part in enumerate(parts) if at and isinstance(parts[at - 1], int) and part in tags}
    loc = [part for at, part in enumerate(parts) if at not in of_kind and part not in {"[key]", "constrained-float"}]
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".") or "spec"
    if first["type"] == "extra_forbidden":
        known = known_keys(first["loc"])
        near = difflib.get_close_matches(str(loc[-1]), known, n=1, cutoff=0.5)
        return SpecError(
            path, "unknown key", f"Did you mean {near[0]}?" if near else f"Known here: {', '.join(known)}."
        )
    if first["type"] == "missing" and isinstance(loc[-1], int):
        return SpecError(path.rpartition("[")[0], f"has {loc[-1]} values and needs one more", "Add it to the list.")
    if first["type"] == "missing":
        return SpecError(path, "is missing", f"Add `{loc[-1]}:`.")
    if first["type"] in ("union_tag_not_found", "union_tag_invalid"):
        given = first["input"].get("kind") if isinstance(first["input"], Mapping) else None
        near = difflib.get_close_matches(str(given), tags, n=1)
        mend = f"Did you mean {near[0]}?" if near else f"Write kind: one of {', '.join(sorted(tags))}."
        return SpecError(f"{path}.kind", "names no kind of phase", mend)
    return SpecError(path, *in_words(first))


def known_keys(loc: tuple[str | int, ...]) -> list[str]:
    """The keys that the spec knows at the place of `loc`."""
    models: dict[str, type[BaseModel]] = {
        "resources": Resources,
        "budget": Budget,
        "audit": Audit,
        "preflight": Preflight,
        "explore": Explore,
        "refine": Refine,
        "grid": Grid,
        "evolve": Evolve,
        "mutations": Mutation,
        "confirm": Confirm,
        "replay": Replay,
    }
    for part in reversed(loc[:-1]):
        if part in models:
            return list(models[str(part)].model_fields)
    return list(SweepSpec.model_fields)
