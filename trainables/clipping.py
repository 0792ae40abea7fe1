"""Bounding the gradient: at a fixed norm, or at a percentile of the norms that the training has seen.

The percentile follows the training by itself where a fixed norm is right for one network at one time only: Seetharaman
et al., AutoClip: Adaptive Gradient Clipping for Source Separation Networks, 2020. Only the newest norms count, so that
the steep ones of the beginning are forgotten.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from trainables import shards

WINDOW = 256
"""So many of the newest norms make the percentile."""


class Clipper:
    """Clips gradients in place; nothing waits for the device. All ranks see the same norms, and so clip alike."""

    def __init__(self, norm: float | None, percentile: float | None, device: torch.device) -> None:
        self.norm, self.percentile = norm, percentile
        self.seen = torch.full((WINDOW,), torch.nan, device=device)
        self.count = 0

    def __call__(self, parameters: Sequence[nn.Parameter]) -> Tensor:
        """Clip the gradients of the parameters; their total norm before."""
        norm = shards.whole(get_total_norm([p.grad for p in parameters if p.grad is not None]))
        if self.norm is not None:
            clip_grads_with_norm_(parameters, self.norm, norm)
        if self.percentile is not None:
            # One that overflowed says nothing of how steep the loss is: its step is skipped, or ends the trial.
            self.seen[self.count % WINDOW] = norm.where(norm.isfinite(), torch.nan)
            self.count += 1
            limit = self.seen.nanquantile(self.percentile / 100).nan_to_num(torch.inf)
            clip_grads_with_norm_(parameters, 1.0, norm / limit)  # a limit that is a tensor would be waited for
        return norm

    def capture(self) -> Tensor:
        """The norms seen and their number, as one tensor."""
        return torch.cat((self.seen.double(), torch.tensor([self.count], device=self.seen.device)))

    def restore(self, saved: Tensor) -> None:
        """Go on with what `capture` gave."""
        self.seen.copy_(saved[:-1])
        self.count = int(saved[-1])
