"""A sensor under the skin of a person with diabetes, half a year long: how will the glucose change in half an hour?

Place in the flow: the trainable of the example sweep glucose.yaml. A reading every five minutes in mg/dl, in the
package bokeh_sampledata, given to the public domain by who wore it. Neighbouring windows are much alike, so the splits
are three stretches of time one after the other, and no reading is in two of them.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np
import torch
from torch import nn

from trainables.contract import Config, Data, Fidelity, TrainableError
from trainables.examples.packaged import bokeh_sampledata
from trainables.models.series import Gru, SeriesCnn

STEP = np.timedelta64(5, "m")
WINDOW = 24
"""Readings that are seen: two hours."""
AHEAD = 6
"""Readings from the last that is seen to the one that is asked for: half an hour."""
STRIDE = 6
"""Readings from one window to the next."""
ENDS = (0.6, 0.8, 1.0)
"""Of train, val and test, as shares of the time."""


class Glucose:
    """The change in standard deviations of the training rows': a loss of 1 is what "it stays as it is" would have.

    Config keys of the model: `net` (cnn or gru), `width`, `depth`, `dropout`.
    """

    def data(self, config: Config, fidelity: Fidelity) -> Data:
        return _splits()

    def model(self, config: Config, data: Data) -> nn.Module:
        nets = {"cnn": SeriesCnn, "gru": Gru}
        net = config.get("net", "cnn")
        if net not in nets:
            raise TrainableError(f"config: net {net!r} is unknown. Choose {', '.join(nets)}")
        return nets[net](
            channels_in=1,
            outputs=1,
            width=config.get("width", 24),
            depth=config.get("depth", 2),
            dropout=config.get("dropout", 0.0),
        )


@cache
def _splits() -> Data:
    """Read and cut once a process: a slot trains many trials on the same rows."""
    readings = regular(bokeh_sampledata("glucose").data)
    borders = [0, *(round(end * len(readings)) for end in ENDS)]
    parts = [windows(readings[start:end]) for start, end in pairwise(borders)]
    (seen, asked), *_ = parts
    mean, spread, change = seen.mean(), seen.std(), asked.std()
    return Data(*((((x - mean) / spread)[:, None], y / change) for x, y in parts))


def regular(frame: object) -> np.ndarray:
    """The readings on a grid of five minutes, NaN where there is none; the last of several in one step."""
    times = frame.index.to_numpy()
    places = ((times - times[0]) // STEP).astype(int)
    readings = np.full(places[-1] + 1, np.nan, np.float32)
    readings[places] = frame["glucose"].to_numpy()
    return readings


def windows(readings: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Windows without a gap, of shape (rows, WINDOW), and how far the reading asked for lies from their last one."""
    cut = np.lib.stride_tricks.sliding_window_view(readings, WINDOW + AHEAD)[::STRIDE]
    whole = torch.tensor(cut[~np.isnan(cut).any(axis=1)])
    return whole[:, :WINDOW], whole[:, -1] - whole[:, WINDOW - 1]
