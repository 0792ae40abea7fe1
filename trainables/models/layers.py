"""What the networks share: activations, norms and the check of their sizes, by the words that a config uses."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from trainables.contract import TrainableError

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "gelu": nn.GELU}
NORMS = ("batch", "layer", "group", "none")
MAX_GROUPS = 8
_BATCH_NORMS = {0: nn.BatchNorm1d, 1: nn.BatchNorm1d, 2: nn.BatchNorm2d}


def activation(name: str) -> type[nn.Module]:
    """The activation of that name. Raises TrainableError when there is none."""
    if name not in ACTIVATIONS:
        raise TrainableError(f"config: activation {name!r} is unknown. Choose {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def norm(name: str, channels: int, dimensions: int) -> list[nn.Module]:
    """The norm of that name over `channels`, for features with so many dimensions after them; none for `none`.

    Raises TrainableError when there is no such norm.
    """
    if name not in NORMS:
        raise TrainableError(f"config: norm {name!r} is unknown. Choose {', '.join(NORMS)}")
    if name == "batch":
        return [_BATCH_NORMS[dimensions](channels)]
    if name == "layer":  # over all channels and places of a row
        return [nn.LayerNorm(channels) if dimensions == 0 else nn.GroupNorm(1, channels)]
    if name == "group":
        return [nn.GroupNorm(max(g for g in range(1, MAX_GROUPS + 1) if channels % g == 0), channels)]
    return []


def check(dropout: float = 0.0, **sizes: tuple[Any, int]) -> None:
    """Raises TrainableError for a dropout outside [0, 1), and for a size, given as (size, least), below its least."""
    if not 0 <= dropout < 1:
        raise TrainableError(f"config: dropout {dropout} makes no network. Give a number in [0, 1)")
    for name, (size, least) in sizes.items():
        if size < least:
            raise TrainableError(f"config: {name} {size} makes no network. Give at least {least}")


class Standardise(nn.Module):
    """Takes numbers of columns to mean 0 and deviation 1, by a mean and a spread that are not trained."""

    def __init__(self, mean: Tensor, spread: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean.clone())
        self.register_buffer("spread", spread.clone())

    def forward(self, columns: Tensor) -> Tensor:
        return (columns - self.mean) / self.spread


class Residual(nn.Module):
    """A body and a shortcut around it; the shortcut is as wide as the body's output."""

    def __init__(self, body: nn.Module, shortcut: nn.Module, after: nn.Module) -> None:
        super().__init__()
        self.body, self.shortcut, self.after = body, shortcut, after

    def forward(self, features: Tensor) -> Tensor:
        out: Tensor = self.after(self.shortcut(features) + self.body(features))
        return out
