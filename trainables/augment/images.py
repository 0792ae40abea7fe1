"""Random changes of images: floats of shape (rows, channels, height, width).

What a level holds goes from mild geometry to what hides parts; a flip is in none, because it changes the class of many
images (a digit, a traffic sign).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from trainables.augment.draws import Draws


@dataclass(frozen=True)
class Strength:
    """How far each transform may go; 0 leaves it out."""

    shift: float = 0.0
    """Share of the side, either way; what comes in repeats the border."""
    rotation: float = 0.0
    """Degrees, either way."""
    crop: float = 0.0
    """Share of the side that a crop may leave out, below 1; what is left fills the image."""
    flip: float = 0.0
    """Share of the images that are mirrored, left to right."""
    brightness: float = 0.0
    """Share by which all pixels are scaled, up or down."""
    noise: float = 0.0
    """Standard deviation of Gaussian noise, in those of the image's pixels."""
    erasing: float = 0.0
    """Side of a square set to the image's mean, as a share of the image's (DeVries and Taylor, Cutout, 2017)."""


LEVELS = (
    Strength(),
    Strength(shift=0.05, brightness=0.1),
    Strength(shift=0.1, rotation=10.0, crop=0.1, brightness=0.2, noise=0.05),
    Strength(shift=0.15, rotation=20.0, crop=0.2, brightness=0.3, noise=0.1, erasing=0.25),
)


def changed(x: Tensor, strength: Strength, draws: Draws) -> Tensor:
    """The images, each changed by its own draws; the same shape and dtype."""
    images = x
    if strength.shift or strength.rotation or strength.crop:
        images = moved(images, strength, draws)
    if strength.flip:
        images = torch.where(draws.uniform()[:, None, None, None] < strength.flip, images.flip(3), images)
    if strength.brightness:
        images = images * draws.between(1 - strength.brightness, 1 + strength.brightness)[:, None, None, None]
    if strength.noise:
        spread = x.std(dim=(1, 2, 3), keepdim=True)
        images = images + strength.noise * spread * draws.normal(*x.shape[1:])
    if strength.erasing:
        images = erased(images, strength.erasing, draws)
    return images.to(x.dtype)


def moved(images: Tensor, strength: Strength, draws: Draws) -> Tensor:
    """Cropped, rotated about the middle, then shifted, with bilinear interpolation."""
    angle = draws.between(-strength.rotation, strength.rotation) * math.pi / 180
    size = 1 - draws.between(0.0, strength.crop)
    # affine_grid counts from -1 to 1 across the image: a share of the side is twice as much there. A crop that leaves
    # room may lie anywhere in the image.
    across, down = (
        2 * draws.between(-strength.shift, strength.shift) + (1 - size) * draws.between(-1.0, 1.0) for _ in range(2)
    )
    tall = images.shape[2] / images.shape[3]  # both sides count as 2 there: what turns must count in pixels
    turned = (
        size * angle.cos(), -size * angle.sin() * tall, across, size * angle.sin() / tall, size * angle.cos(), down,
    )  # fmt: skip
    grid = functional.affine_grid(
        torch.stack(turned, dim=1).reshape(-1, 2, 3).to(images.dtype), list(images.shape), align_corners=False
    )
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def erased(images: Tensor, side: float, draws: Draws) -> Tensor:
    """With one square of each image set to its mean; the square's middle is anywhere in the image."""
    square = box(images, torch.full_like(draws.uniform(), side), draws)
    return torch.where(square, images.mean(dim=(1, 2, 3), keepdim=True), images)


def box(images: Tensor, side: Tensor, draws: Draws) -> Tensor:
    """Where each image has a box of so much of its sides, with its middle anywhere: (rows, 1, height, width)."""
    inside = []
    for size in images.shape[2:]:
        middle = draws.between(0.0, size)[:, None]
        pixels = torch.arange(size, device=images.device) + 0.5
        inside.append((pixels - middle).abs() < side[:, None] * size / 2)
    return (inside[0][:, :, None] & inside[1][:, None, :])[:, None]
