"""What is odd about images: sizes and shapes of their files, bars at their edges, nothing on them.

Place in the flow: `trainables.audit` asks for it; `sweeps.insight.audit` says what it means. Sizes were noted when the
files were converted; bars and blank images are found in the pass over all rows that the audit makes anyway.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from trainables.data.raw import EXAMPLES

ODD = 2.0
"""An image whose side (the root of its area), or whose width over height, is so many times the median's, or less than
its inverse, is far from the usual."""
ENLARGED = 2.0
"""An image whose sides are scaled up by more is blurred: three of four pixels are made up."""
STRETCHED = 2.0
"""An image whose width over height changes by more when it is brought to size is distorted: 16:9 made square is 1.8."""
LEAST_SIDE = 16
"""Smaller images have no bars: a stroke beside some empty pixels looks like one."""
BAR = 16
"""A bar is at least a side's share of one in so many."""
ALIKE = 0.03
"""Of an image's range: pixels that differ by less are of one value, as a bar is after compression."""
SHARP = 0.5
"""A bar ends at once: beyond it more of the pixels than this are of another value. A background's ink begins small."""
SOFT = 32
"""One in so many lines may lie between bar and picture: compression blurs the edge over up to eight pixels."""

Truths = NDArray[np.bool_]


def sizes(files: pa.Table, size: tuple[int, int]) -> dict[str, Any]:
    """Of image files (`images.Images.files`) that were brought to `size` (height, width): the median, least and largest
    side (the root of the area), width over height, how many there are of each mode, and how many, with examples of
    (file, height, width), are `odd`, `enlarged` or `stretched`."""
    height, width = (files[name].to_numpy().astype(np.float64) for name in ("height", "width"))
    side, ratio = np.sqrt(height * width), width / height
    off = [np.abs(np.log(values / np.median(values))) for values in (side, ratio)]
    larger = np.maximum(size[0] / height, size[1] / width)
    change = np.abs(np.log(ratio * size[0] / size[1]))
    kinds = {
        "odd": (np.maximum(*off), np.log(ODD)),
        "enlarged": (larger, ENLARGED),
        "stretched": (change, np.log(STRETCHED)),
    }
    found: dict[str, Any] = {
        "rows": len(files),
        "size": list(size),
        "usual": [int(np.median(height)), int(np.median(width))],
        "sides": [float(side.min()), float(np.median(side)), float(side.max())],
        "ratios": [float(ratio.min()), float(np.median(ratio)), float(ratio.max())],
        "modes": {pair["values"]: pair["counts"] for pair in pc.value_counts(files["mode"]).to_pylist()},
    }
    for kind, (measure, bound) in kinds.items():
        at = np.flatnonzero(measure > bound)
        worst = at[np.argsort(-measure[at], kind="stable")][:EXAMPLES]
        examples = [[files["file"][int(row)].as_py(), int(height[row]), int(width[row])] for row in worst]
        found[kind] = {"rows": len(at), "examples": examples}
    return found


class Frames:
    """Of images, which have one value everywhere, and which have bars at two edges that face each other, or at one."""

    def __init__(self) -> None:
        self.blank: list[int] = []
        self.barred: list[int] = []
        self.blanks = self.bars = 0

    def add(self, start: int, part: NDArray[Any]) -> None:
        """Take in some rows, the first of which has this place."""
        images = channels_first(part)
        low, high = images.min((1, 2, 3)), images.max((1, 2, 3))
        blank = np.flatnonzero(low == high)
        self.blanks += len(blank)
        self.blank += (start + blank[: EXAMPLES - len(self.blank)]).tolist()
        if min(images.shape[2:]) < LEAST_SIDE:
            return
        tolerance = ALIKE * (high.astype(np.float32) - low)
        tolerance[blank] = np.nan  # they have no edges
        upright = edges(images, tolerance)
        across = edges(images.swapaxes(2, 3), tolerance)
        # A background lies on all sides, a bar on one, or on two that face each other.
        none = [~there.any(0) for there, _ in (upright, across)]
        barred = (upright[1].any(0) & none[1]) | (across[1].any(0) & none[0])
        at = np.flatnonzero(barred)
        self.bars += len(at)
        self.barred += (start + at[: EXAMPLES - len(self.barred)]).tolist()


def are_pictures(part: NDArray[Any]) -> bool:
    """Whether rows are images: of one, three or four channels, or grey levels of a byte."""
    if part.ndim == 3:
        return part.dtype == np.uint8 and min(part.shape[1:]) > 4
    return part.ndim == 4 and (part.shape[1] in (1, 3, 4) or part.shape[3] in (1, 3, 4)) and part.dtype.kind != "b"


def channels_first(part: NDArray[Any]) -> NDArray[Any]:
    """Images as (rows, channels, height, width)."""
    if part.ndim == 3:
        return part[:, None]
    return part if part.shape[1] in (1, 3, 4) else part.transpose(0, 3, 1, 2)


def edges(images: NDArray[Any], tolerance: NDArray[np.float32]) -> tuple[Truths, Truths]:
    """Whether the first and the last lines of each image are of one value; and whether that is a bar. Of shape (2,
    images)."""
    low, high = (lines.astype(np.float32) for lines in (images.min(3), images.max(3)))  # rows, channels, lines
    there, bars = [], []
    for first, last, flipped in ((low, high, images), (low[..., ::-1], high[..., ::-1], images[:, :, ::-1])):
        same = (last - first[..., :1] <= tolerance[:, None, None]) & (last[..., :1] - first <= tolerance[:, None, None])
        line = same.all(1)
        line &= (last - first).max(1) <= tolerance[:, None]
        width = np.where(line.all(1), 0, line.argmin(1))
        there.append(width > 0)
        bar = width >= max(2, images.shape[2] // BAR)
        at = np.flatnonzero(bar)
        after = width[at] + flipped.shape[2] // SOFT
        beyond = flipped[at, :, np.minimum(after, flipped.shape[2] - 1)].astype(np.float32)  # rows, channels, pixels
        apart = (np.abs(beyond - first[at, :, :1]) > tolerance[at, None, None]).any(1).mean(1)
        bar[at[apart <= SHARP]] = False
        bars.append(bar)
    return np.stack(there), np.stack(bars)
