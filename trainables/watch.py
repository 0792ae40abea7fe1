"""What an epoch shows besides its results: how steep its gradients were, which units are dead, how sure it is.

Place in the flow: `loop` asks for `gradients` after the last step of an epoch, and has a `Watch` look on while
validation is measured. Diagnosis reads the numbers from the journal; nothing here stops or steers a training. All ranks
give the same numbers, and all of it is at the epoch's end or costs a step nothing.

    grad/norm, grad/norm_p50 …       mean and percentiles of the steps' total gradient norms, before clipping
    grad/first_to_last               gradient norm of the first matrix or kernel over that of the last, at the last step
    val/dead_units                   share of the units behind a ReLU that are zero over a whole validation batch
    val/max_probability              mean probability of the likeliest class
    val/ece                          expected calibration error, by the bins of `calibration`
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from trainables import parallel, shards
from trainables.calibration import binned, ece
from trainables.contract import Batch

PERCENTILES = (50, 90, 99)
HELD = 2**20
"""So many numbers of outputs are kept before they are looked at together."""


def gradients(norms: Sequence[Tensor], parameters: Sequence[nn.Parameter], scaled: bool) -> dict[str, float]:
    """Of an epoch's steps, by their total gradient norms and the gradients that the last one left.

    Where the loss is `scaled` (fp16) a norm that overflowed is of a step that was skipped, and is left out.
    """
    every = torch.stack(list(norms)).double()
    if scaled:
        every = every[every.isfinite()]
    ends = [p.grad for p in parameters if p.grad is not None and p.ndim > 1]
    first, last = (shards.whole(ends[n].norm()).double() if ends else every.new_zeros(()) for n in (0, -1))
    shares = torch.tensor([0.01 * p for p in PERCENTILES], dtype=every.dtype, device=every.device)
    levels = every.quantile(shares) if len(every) else every.new_zeros(len(PERCENTILES))
    mean = every.sum() / max(1, len(every))
    values = torch.cat((torch.stack((mean, first / last)), levels)).tolist()
    names = ["grad/norm", "grad/first_to_last", *(f"grad/norm_p{p}" for p in PERCENTILES)]
    found = dict(zip(names, values, strict=True))
    if not math.isfinite(found["grad/first_to_last"]):  # no matrix, none that moves, or a last step that overflowed
        del found["grad/first_to_last"]
    return found


class Watch:
    """Looks on while validation is measured."""

    def __init__(self, model: nn.Module, classes: bool, batch_size: int) -> None:
        """`classes`: the outputs are logits of classes; `batch_size`: rows of the batch that units are looked at on."""
        self._model, self._classes = model, classes
        # Of that many rows of the split this rank has the first so many.
        self._rows = len(range(parallel.rank(), batch_size, parallel.world_size()))
        self._alive: list[Tensor] = []
        self._held: list[tuple[Tensor, Tensor]] = []
        self._sums: list[Tensor] = []

    @contextlib.contextmanager
    def units(self) -> Iterator[None]:
        """Look at the units while the model is called once."""
        over_time = any(isinstance(part, nn.Conv1d) for part in self._model.modules())
        hooks = [part.register_forward_hook(self._look(over_time)) for part in rectifiers(self._model)]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _look(self, over_time: bool) -> Any:
        def look(module: nn.Module, _: Any, output: Any) -> None:
            if not isinstance(output, Tensor) or output.ndim < 2 or not output.numel():
                return  # a rectifier of something else than rows of units
            # Of images and of series under convolutions the channels, of words in a text the last dimension.
            units = 2 if output.ndim == 3 and not over_time else 1
            others = tuple(dimension for dimension in range(output.ndim) if dimension != units)
            self._alive.append((output[: self._rows] != 0).any(dim=others))

        return look

    def see(self, output: Any, batch: Batch) -> None:
        """Take a batch's output."""
        if self._classes and output.ndim == 2 and not batch[1].is_floating_point():
            self._held.append((output, batch[1]))
            if sum(held.numel() for held, _ in self._held) >= HELD:
                self._reduce()

    def _reduce(self) -> None:
        """Keep of the outputs that are held how sure they are, in bins, and how right: many rows at a time, which a
        batch's few rows cost as much as."""
        if self._held:
            logits = torch.cat([output for output, _ in self._held]).float()
            sure, likeliest = logits.softmax(1).max(1)
            right = likeliest == torch.cat([target for _, target in self._held])
            self._sums.append(binned(sure, right))
            self._held.clear()

    def metrics(self, shared: bool) -> dict[str, float]:
        """What was seen; `shared`: each rank saw rows of its own. All ranks take part."""
        total = parallel.total if shared else lambda tensor: tensor
        found: dict[str, Tensor] = {}
        sizes = [len(units) for units in self._alive]
        # Where ranks saw other numbers of units, what was taken for units are rows.
        if sizes and (not shared or all(other == sizes for other in parallel.gather(sizes))):
            found["val/dead_units"] = (total(torch.cat(self._alive).float()) == 0).double().mean()
        self._reduce()
        if self._sums:
            sums = total(torch.stack(self._sums).sum(0))
            found["val/max_probability"] = sums[1].sum() / sums[0].sum()
            found["val/ece"] = ece(sums)
        values = torch.stack(list(found.values())).tolist() if found else []
        # A loss that is not finite says so by itself; nothing that is only watched ends a trial.
        return {name: value for name, value in zip(found, values, strict=True) if math.isfinite(value)}


def rectifiers(model: nn.Module) -> list[nn.Module]:
    """The model's ReLUs; one that is called as a function is not seen."""
    return [part for part in model.modules() if isinstance(part, nn.ReLU | nn.ReLU6)]
