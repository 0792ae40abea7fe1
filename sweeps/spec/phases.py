"""The phases that a spec may have: which trials each tries, how long, and what it stops."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Model(BaseModel):
    """What every part of the spec shares: immutable, and no key that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SearchPhase(Model):
    """A phase that tries configs at one fidelity."""

    name: str = Field(default="", pattern=r"^[a-z0-9_]*$")
    """How the phase is called in trial ids and reports; its kind, unless two phases share it."""
    epochs: int = Field(gt=0)
    """Epochs of a trial that is not stopped."""
    data_fraction: float = Field(default=1.0, gt=0, le=1)
    """Share of the training rows; the validation rows are always all used."""
    classes: int | None = Field(default=None, ge=2)
    """So many of the classes only, those with most training rows, in validation too; null: all. Values of such a phase
    compare with each other only."""


class Halving(SearchPhase):
    """One under early stopping (ASHA)."""

    min_epochs: int = Field(default=1, gt=0)
    """No trial is stopped before this epoch, the first rung (ASHA's grace period)."""
    reduction_factor: float | None = Field(default=3, gt=1)
    """At each rung about one trial in this many goes on; null: every trial runs all its epochs."""
    unstopped_share: float = Field(default=0.0, ge=0, le=0.25)
    """Share of the trials that are judged like the others and never stopped, to learn what stopping costs: 0.125 is one
    in eight."""


class Advised(Halving):
    """One that also tries what is advised for its good trials."""

    advice_share: float = Field(default=0.125, ge=0, le=0.25)
    """Share of the trials that test advice, the remedy of what a good trial suffers from: one in eight. None in a sweep
    whose explore and refine phases have fewer than 32 trials."""


class Explore(Advised):
    """Wide and cheap: the baseline, then points of a scrambled Sobol sequence over the whole space."""

    kind: Literal["explore"]
    trials: int = Field(default=24, gt=0)
    epochs: int = Field(default=3, gt=0)
    data_fraction: float = Field(default=0.5, gt=0, le=1)


class Refine(Advised):
    """Narrow and longer: TPE over the space narrowed on the evidence so far."""

    kind: Literal["refine"]
    trials: int = Field(default=12, gt=0)
    epochs: int = Field(default=9, gt=0)
    old_space_share: float = Field(default=0.125, ge=0, le=0.25)
    """Share of the trials drawn from the space as it was before, in case the evidence misled."""


class Grid(Halving):
    """Every combination of evenly spaced values."""

    kind: Literal["grid"]
    points: int = Field(default=3, gt=0)
    """Values of each numeric parameter; a choice gives all of its values."""
    epochs: int = Field(default=3, gt=0)
    reduction_factor: float | None = Field(default=None, gt=1)
    """A grid is read as a whole, so nothing is stopped unless this says so."""


class Mutation(Model):
    """How a parameter of a population changes when a member takes over another's state."""

    factors: tuple[Annotated[float, Field(gt=0, lt=1)], Annotated[float, Field(gt=1, allow_inf_nan=False)]] = (
        0.8,
        1.25,
    )
    """A number is multiplied by one of them, on its domain's own scale; a listed value gives way to its neighbour."""
    resample: float = Field(default=0.25, ge=0, le=1)
    """Probability of a value drawn anew from the domain instead."""


class Evolve(SearchPhase):
    """A population trained side by side (PBT): every few epochs the worst take over the weights of the best, with
    hyperparameters a little changed, so that what is found is a schedule of them."""

    kind: Literal["evolve"]
    population: int = Field(default=8, ge=2)
    """Members: the baseline, the best of the search before, points of a Sobol sequence."""
    epochs: int = Field(default=27, gt=0)
    interval: int = Field(default=3, gt=0)
    """Epochs between two comparisons; a member is compared with those that came to the same epoch before it."""
    quantile: float = Field(default=0.25, gt=0, le=0.5)
    """One among the worst of this share takes over from one among the best of this share."""
    mutations: dict[str, Annotated[Mutation, BeforeValidator(lambda given: {} if given is None else given)]] | None = (
        Field(default=None, min_length=1)
    )
    """The parameters that may change, and how; nothing after a name: the defaults. null: all that are searched, of the
    platform's loop only those that it reads itself and that leave the network and its optimizer what they are."""

    @property
    def judged(self) -> tuple[int, ...]:
        """The epochs at which members are compared; not the last, after which there is nothing to train."""
        return tuple(range(self.interval, self.epochs, self.interval))


class Confirm(Model):
    """The best configs and the baseline again over several seeds at full length, compared in pairs."""

    kind: Literal["confirm"]
    name: str = Field(default="", pattern=r"^[a-z0-9_]*$")
    top: int = Field(default=2, gt=0)
    seeds: int = Field(default=3, ge=2)
    epochs: int | None = Field(default=None, gt=0)
    """As in the search phase before it, unless given."""
    data_fraction: float = Field(default=1.0, gt=0, le=1)


class Replay(Model):
    """One trial again, from scratch: trained by the schedule of hyperparameters that its ancestors had. What `sweeps
    replay` adds to a sweep."""

    kind: Literal["replay"]
    name: str = Field(default="", pattern=r"^[a-z0-9_]*$")
    trial: str = Field(pattern=r"^[a-z0-9_]+-[0-9]{3,}$")
    """As in the report: `evolve-003`."""
    seeds: int = Field(default=3, gt=0)
    """The first is the trial's own, which gives its numbers again."""


Check = Literal[
    "initial_loss", "input_independent", "overfits_one_batch", "gradients", "gradients_accumulate",
    "learns_shuffled_labels",
]  # fmt: skip


class Preflight(Model):
    """Before any tuning: can this network learn these data at all? A check that fails stops the sweep."""

    kind: Literal["preflight"]
    name: str = Field(default="", pattern=r"^[a-z0-9_]*$")
    skip: dict[Check, Annotated[str, Field(min_length=1)]] = Field(default_factory=dict)
    """Checks that may fail, each with the reason; it stands in the report."""


Blocks = Literal["constant_features", "labels_out_of_range", "leakage", "non_finite_inputs"]


class Audit(Model):
    """Before anything else: what is wrong with the data? A finding that blocks stops the sweep until it is waived."""

    kind: Literal["audit"]
    name: str = Field(default="", pattern=r"^[a-z0-9_]*$")
    waive: dict[Blocks, Annotated[str, Field(min_length=1)]] = Field(default_factory=dict)
    """Findings that may be, each with the reason; it stands in the report."""


Phase = Annotated[Audit | Preflight | Explore | Refine | Grid | Evolve | Confirm | Replay, Field(discriminator="kind")]


def rungs(epochs: int, min_epochs: int, reduction_factor: float | None) -> list[float]:
    """The epochs at which ASHA judges a trial, all before the last one; none where nothing is stopped."""
    found: list[float] = []
    while reduction_factor and (rung := float(min_epochs * reduction_factor ** len(found))) < epochs:
        found.append(rung)  # Ray's own arithmetic, equal to the last bit
    return found


def phase_name(phase: Audit | Preflight | SearchPhase | Confirm | Replay) -> str:
    """The phase's own name, or its kind."""
    return phase.name or str(phase.kind)  # type: ignore[union-attr]
