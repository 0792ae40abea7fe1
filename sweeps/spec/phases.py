"""The phases that a spec may have: which trials each tries, how long, and what it stops."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Model(BaseModel):
    """What every part of the spec shares: immutable, and no key that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SearchPhase(Model):
    """A phase that tries configs under early stopping (ASHA) at one fidelity."""

    name: str = Field(default="", pattern=r"^[a-z0-9_]*$")
    """How the phase is called in trial ids and reports; its kind, unless two phases share it."""
    epochs: int = Field(gt=0)
    """Epochs of a trial that is not stopped."""
    data_fraction: float = Field(default=1.0, gt=0, le=1)
    """Share of the training rows; the validation rows are always all used."""
    classes: int | None = Field(default=None, ge=2)
    """So many of the classes only, those with most training rows, in validation too; null: all. Values of such a phase
    compare with each other only."""
    min_epochs: int = Field(default=1, gt=0)
    """No trial is stopped before this epoch, the first rung (ASHA's grace period)."""
    reduction_factor: float | None = Field(default=3, gt=1)
    """At each rung about one trial in this many goes on; null: every trial runs all its epochs."""
    unstopped_share: float = Field(default=0.0, ge=0, le=0.25)
    """Share of the trials that are judged like the others and never stopped, to learn what stopping costs: 0.125 is one
    in eight."""


class Explore(SearchPhase):
    """Wide and cheap: the baseline, then points of a scrambled Sobol sequence over the whole space."""

    kind: Literal["explore"]
    trials: int = Field(default=24, gt=0)
    epochs: int = Field(default=3, gt=0)
    data_fraction: float = Field(default=0.5, gt=0, le=1)


class Refine(SearchPhase):
    """Narrow and longer: TPE over the space narrowed on the evidence so far."""

    kind: Literal["refine"]
    trials: int = Field(default=12, gt=0)
    epochs: int = Field(default=9, gt=0)
    old_space_share: float = Field(default=0.125, ge=0, le=0.25)
    """Share of the trials drawn from the space as it was before, in case the evidence misled."""


class Grid(SearchPhase):
    """Every combination of evenly spaced values."""

    kind: Literal["grid"]
    points: int = Field(default=3, gt=0)
    """Values of each numeric parameter; a choice gives all of its values."""
    epochs: int = Field(default=3, gt=0)
    reduction_factor: float | None = Field(default=None, gt=1)
    """A grid is read as a whole, so nothing is stopped unless this says so."""


class Confirm(Model):
    """The best configs and the baseline again over several seeds at full length, compared in pairs."""

    kind: Literal["confirm"]
    name: str = Field(default="", pattern=r"^[a-z0-9_]*$")
    top: int = Field(default=2, gt=0)
    seeds: int = Field(default=3, ge=2)
    epochs: int | None = Field(default=None, gt=0)
    """As in the search phase before it, unless given."""
    data_fraction: float = Field(default=1.0, gt=0, le=1)


Check = Literal["initial_loss", "input_independent", "overfits_one_batch", "gradients"]


class Preflight(Model):
    """Before any tuning: can this network learn these data at all? A check that fails stops the sweep."""

    kind: Literal["preflight"]
    name: str = Field(default="", pattern=r"^[a-z0-9_]*$")
    skip: dict[Check, Annotated[str, Field(min_length=1)]] = Field(default_factory=dict)
    """Checks that may fail, each with the reason; it stands in the report."""


Phase = Annotated[Preflight | Explore | Refine | Grid | Confirm, Field(discriminator="kind")]


def rungs(epochs: int, min_epochs: int, reduction_factor: float | None) -> list[float]:
    """The epochs at which ASHA judges a trial, all before the last one; none where nothing is stopped."""
    found: list[float] = []
    while reduction_factor and (rung := float(min_epochs * reduction_factor ** len(found))) < epochs:
        found.append(rung)  # Ray's own arithmetic, equal to the last bit
    return found


def phase_name(phase: Preflight | SearchPhase | Confirm) -> str:
    """The phase's own name, or its kind."""
    return phase.name or str(phase.kind)  # type: ignore[union-attr]
