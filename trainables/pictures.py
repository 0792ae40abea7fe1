"""Small pictures of rows that are images, for a person to look at.

Place in the flow: `error_analysis` adds those of the rows that it names; they travel through the journal into the
report, so that all of them together are kept small.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.data.rows import Rows

SIDES = (96, 64, 48)
"""Pixels of a picture's longer side at most: the largest with which all pictures fit; below, little can be seen."""
MOST_TEXT = 64 * 1024
"""Characters of all pictures together: a journal line that many readers fetch."""
COLOURS = 64
"""Of one coloured picture: on photographs a quarter of the bytes of all colours, and values 4 of 255 off on average."""


def pictures(rows: Rows, wanted: Sequence[int]) -> list[dict[str, Any]]:
    """Pictures of the wanted rows, as the network is given them: `row`, and `png`, which is base64.

    Empty unless the inputs are images of one channel or three, of floats or bytes. Later rows are left out where all do
    not fit.
    """
    if not wanted:
        return []
    thumbnails: list[Tensor] = []
    for x, _ in rows.batches(torch.tensor(wanted, dtype=torch.int64), 1):
        if x.ndim != 4 or x.shape[1] not in (1, 3) or not (x.is_floating_point() or x.dtype == torch.uint8):
            return []
        thumbnails.append(smaller(x.float(), SIDES[0]).cpu())
    bytes_of = as_bytes(thumbnails)
    for side in SIDES:
        texts = [base64.b64encode(png(smaller(one, side))).decode() for one in bytes_of]
        if sum(map(len, texts)) <= MOST_TEXT:
            break
    while sum(map(len, texts)) > MOST_TEXT:
        texts.pop()
    return [{"row": row, "png": text} for row, text in zip(wanted, texts, strict=False)]


def smaller(x: Tensor, side: int) -> Tensor:
    """An image of shape (1, channels, height, width) with at most so many pixels a side; small ones stay as they are.

    Each pixel is the mean of those that it stands for.
    """
    height, width = x.shape[2:]
    if max(height, width) <= side:
        return x
    share = side / max(height, width)
    return F.adaptive_avg_pool2d(x, (max(1, round(share * height)), max(1, round(share * width))))


def as_bytes(images: Sequence[Tensor]) -> list[Tensor]:
    """The images, each of shape (1, channels, height, width), with values from 0 to 255, on one scale for all of them.

    Of values from 0 on, the highest of all is white: a dark image stays dark. Where some are negative, each channel
    goes from its lowest to its highest value, which undoes a normalisation by channel.
    """
    flat = [image.nan_to_num().flatten(2).squeeze(0) for image in images]
    low = torch.stack([one.amin(1) for one in flat]).amin(0)
    high = torch.stack([one.amax(1) for one in flat]).amax(0)
    if bool((low >= 0).all()):
        low, high = torch.zeros_like(low), high.max().expand_as(high)
    low, high = (bound.reshape(1, -1, 1, 1) for bound in (low, high))
    spread = (high - low).where(high > low, 1.0)
    return [255 * (image.nan_to_num() - low) / spread for image in images]


def png(image: Tensor) -> bytes:
    """An image of shape (1, channels, height, width) with values from 0 to 255 as a PNG file."""
    from PIL import Image

    pixels = image[0].round().clamp(0, 255).to(torch.uint8)
    if len(pixels) == 1:
        made = Image.fromarray(pixels[0].numpy())
    else:
        made = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy()).quantize(COLOURS)
    file = io.BytesIO()
    made.save(file, "PNG", optimize=True)
    return file.getvalue()
