"""Networks for time series: a residual network of 1-D convolutions, and a recurrent one.

Place in the flow: a trainable's `model(config, data)` builds one. Rows are floats of shape (rows, channels, time). The
convolutions follow Wang, Yan and Oates, Time Series Classification from Scratch, 2017: three of falling width a block.
"""

from __future__ import annotations

from torch import Tensor, nn

from trainables.models import layers

KERNELS = (7, 5, 3)


class SeriesCnn(nn.Module):
    """`depth` residual blocks of `width` channels, average over time, dropout, linear; for any length from 1.

    `outputs`: classes, or 1 for a number. Raises TrainableError for an unknown activation or norm, and for sizes that
    make no network.
    """

    def __init__(
        self,
        channels_in: int,
        outputs: int,
        width: int = 64,
        depth: int = 2,
        activation: str = "relu",
        norm: str = "batch",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        layers.check(dropout, channels_in=(channels_in, 1), width=(width, 1), depth=(depth, 1))
        act = layers.activation(activation)
        blocks: list[nn.Module] = []
        for number in range(depth):
            before = width if number else channels_in
            body: list[nn.Module] = []
            for place, kernel in enumerate(KERNELS):
                body += [nn.Conv1d(width if place else before, width, kernel, padding=kernel // 2, bias=norm == "none")]
                body += layers.norm(norm, width, 1)
                body += [act()] if place < len(KERNELS) - 1 else []
            shortcut = nn.Sequential(nn.Conv1d(before, width, 1, bias=norm == "none"), *layers.norm(norm, width, 1))
            blocks.append(layers.Residual(nn.Sequential(*body), shortcut if not number else nn.Identity(), act()))
        self.blocks = nn.Sequential(*blocks)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, outputs)

    def forward(self, series: Tensor) -> Tensor:
        out: Tensor = self.head(self.dropout(self.blocks(series).mean(dim=2)))
        return out


class Gru(nn.Module):
    """`depth` recurrent layers of `width`, the mean of their outputs over time, dropout, linear.

    `outputs`: classes, or 1 for a number. Raises TrainableError for sizes that make no network.
    """

    def __init__(self, channels_in: int, outputs: int, width: int = 64, depth: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        layers.check(dropout, channels_in=(channels_in, 1), width=(width, 1), depth=(depth, 1))
        between = dropout if depth > 1 else 0.0  # torch warns of a dropout with nothing after it
        self.recurrent = nn.GRU(channels_in, width, depth, batch_first=True, dropout=between)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, outputs)

    def forward(self, series: Tensor) -> Tensor:
        states, _ = self.recurrent(series.transpose(1, 2))
        out: Tensor = self.head(self.dropout(states.mean(dim=1)))
        return out
