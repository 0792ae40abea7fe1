"""Random numbers by counter: what is drawn for a row depends on (seed, epoch, row, which draw) and on nothing else.

A generator would give a row other numbers in another batch, on another rank, or after a resume. The mixing function is
splitmix64 (Steele, Lea, Flood, Fast Splittable Pseudorandom Number Generators, OOPSLA 2014), vectorised: each number
is the mix of its counter, as in Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3, SC 2011.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

_STRIDE = -0x61C8864680B583EB  # 2^64 over the golden ratio, as a signed number
_MIXES = ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15))
"""Shift and multiplier of splitmix64's two rounds."""


class Draws:
    """The numbers of some rows in one epoch; each call gives the next ones of each row."""

    def __init__(self, seed: int, epoch: int, rows: Tensor) -> None:
        """`rows`: their numbers, int64, on the device where the draws are to be."""
        base = np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64).astype(np.int64).item()
        self.keys = _mixed(_mixed(rows * _STRIDE) + base)
        self.drawn = 0

    def uniform(self, *shape: int) -> Tensor:
        """Floats in [0, 1) of shape (rows, *shape), with 24 random bits."""
        count = math.prod(shape)
        counters = torch.arange(self.drawn, self.drawn + count, device=self.keys.device)
        self.drawn += count
        bits = _mixed(self.keys[:, None] + (counters + 1) * _STRIDE)
        return (_shifted(bits, 40).float() / 2**24).reshape(-1, *shape)

    def between(self, low: float, high: float) -> Tensor:
        """A float in [low, high) for each row, of shape (rows,)."""
        return low + (high - low) * self.uniform()

    def normal(self, *shape: int) -> Tensor:
        """Standard normal floats of shape (rows, *shape), by Box and Muller."""
        radius = (-2 * (1 - self.uniform(*shape)).log()).sqrt()
        return radius * (2 * math.pi * self.uniform(*shape)).cos()


def _mixed(bits: Tensor) -> Tensor:
    for shift, factor in _MIXES:
        bits = (bits ^ _shifted(bits, shift)) * factor
    return bits ^ _shifted(bits, 31)


def _shifted(bits: Tensor, by: int) -> Tensor:
    """Shift right, zeros coming in: torch's own shift of a signed number repeats the sign."""
    return (bits >> by) & ((1 << (64 - by)) - 1)
