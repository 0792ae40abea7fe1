"""Random changes of training rows, whole batches at a time, drawn from (seed, epoch, row) alone.

Place in the flow: `training.epoch_batches` applies an `Augmentation` to each batch of an epoch. A row is changed in the
same way whichever batch it is in, whichever process has it, and whether or not the trial was interrupted before: so a
resumed trial is bit-identical, and several workers see the rows that one sees. Nothing is drawn from the trial's own
generators.

What kind of rows they are is seen by their shape: floats of (rows, channels, height, width) are images, of (rows,
channels, time) series, whole numbers of (rows, length) text as `models.text.Tokenizer` encodes it. `augment: 0…3` sets
all transforms of a kind; `augment_noise: 0.1` one of them, whatever the level.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from types import ModuleType
from typing import Any

from torch import Tensor

from trainables.augment import images, series, text
from trainables.augment.draws import Draws
from trainables.augment.mixing import MIXES, Mixing
from trainables.contract import Config, TrainableError

KINDS: dict[str, ModuleType] = {"images": images, "series": series, "text": text}
PREFIX = "augment_"


def kind_of(x: Tensor) -> str:
    """What kind of rows the inputs are; empty for none that has transforms."""
    if x.is_floating_point():
        return {4: "images", 3: "series"}.get(x.ndim, "")
    return "text" if x.ndim == 2 else ""


@dataclass(frozen=True)
class Augmentation:
    """Changes rows: by a level, and by single transforms that are set."""

    level: int
    single: dict[str, float]
    seed: int
    synonyms: Tensor | None = None

    def __call__(self, epoch: int, rows: Tensor, x: Tensor) -> Tensor:
        """The inputs `x` of the training rows of the numbers `rows`, as they are seen in an epoch.

        Raises TrainableError for inputs of a kind that has no transforms, or not the one that was set.
        """
        kind = kind_of(x)
        if not kind:
            raise TrainableError(
                f"config: rows are to be augmented, but a batch is of shape {tuple(x.shape)}, {x.dtype}. Give images "
                "(rows, channels, height, width), series (rows, channels, time) or text, or leave augment at 0"
            )
        module = KINDS[kind]
        known = {field.name for field in fields(module.Strength)}
        if strange := sorted(set(self.single) - known):
            mend = f"For {kind} there are {', '.join(PREFIX + name for name in sorted({*known, *MIXES}))}"
            raise TrainableError(f"config: {PREFIX}{strange[0]} changes nothing of {kind}. {mend}")
        strength = replace(module.LEVELS[self.level], **self.single)
        draws = Draws(self.seed, epoch, rows.to(x.device))
        if module is text:
            return text.changed(x, strength, draws, self.synonyms)
        changed: Tensor = module.changed(x, strength, draws)
        return changed


def augmentation(
    config: Config, level: int, seed: int, synonyms: Tensor | None = None
) -> tuple[Augmentation | None, Mixing | None]:
    """What a config asks for: changes of rows, and mixing of pairs. Raises TrainableError for a key nobody reads."""
    every = {name for module in KINDS.values() for field in fields(module.Strength) for name in [field.name]}
    found = {key.removeprefix(PREFIX): value for key, value in config.items() if key.startswith(PREFIX)}
    for name, value in found.items():
        if name not in every | set(MIXES):
            known = ", ".join(PREFIX + known for known in sorted(every | set(MIXES)))
            raise TrainableError(f"config: {PREFIX}{name} would be read by nobody; known are {known}")
        check(name, value)
    mixes = {name: float(found.pop(name)) for name in MIXES if name in found}
    single = {name: float(value) for name, value in found.items()}
    if single.get("synonyms") and synonyms is None:
        raise TrainableError("config: augment_synonyms is set, but data() gives no table. Give Data(synonyms=…)")
    changes = Augmentation(level, single, seed, synonyms) if level or any(single.values()) else None
    return changes, Mixing(**mixes, seed=seed) if any(mixes.values()) else None


def check(name: str, value: Any) -> None:
    """Raises TrainableError for a strength that is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise TrainableError(f"config: {PREFIX}{name} is {value!r}. Give a number of at least 0, which leaves it out")
