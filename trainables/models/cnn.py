"""A small convolutional network by config.

Place in the flow: a trainable's `model(config, data)` builds it. 3x3 convolutions of stride 1 by default, which beat
larger kernels at equal cost, in residual blocks, so that depth can be searched without the first layers starving; a
global average pool makes it work for any image size from 1x1.
"""

from __future__ import annotations

from torch import Tensor, nn

from trainables.contract import TrainableError
from trainables.models import layers


class Cnn(nn.Module):
    """Stem, `depth` residual blocks of `width` channels, average pool, dropout, linear.

    With a `stride` above 1 every second block makes the image so many times smaller and the network twice as wide.
    Raises TrainableError for an unknown activation or norm, and for sizes that make no network.
    """

    def __init__(
        self,
        channels_in: int,
        classes: int,
        width: int = 16,
        depth: int = 2,
        activation: str = "relu",
        norm: str = "batch",
        dropout: float = 0.0,
        kernel: int = 3,
        stride: int = 1,
    ) -> None:
        super().__init__()
        layers.check(dropout, width=(width, 1), depth=(depth, 0), kernel=(kernel, 1), stride=(stride, 1))
        if kernel % 2 == 0:
            raise TrainableError(f"config: kernel {kernel} has no middle. Give an odd number")
        act = layers.activation(activation)
        self.stem = nn.Sequential(*_convolution(channels_in, width, norm, kernel), act())
        blocks: list[nn.Module] = []
        for number in range(depth):
            step = stride if number % 2 else 1
            out = width * 2 if step > 1 else width
            body = [*_convolution(width, out, norm, kernel, step), act(), *_convolution(out, out, norm, kernel)]
            shortcut = nn.Identity() if step == 1 else nn.Sequential(*_convolution(width, out, norm, 1, step))
            blocks.append(layers.Residual(nn.Sequential(*body), shortcut, act()))
            width = out
        self.blocks = nn.Sequential(*blocks)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.blocks(self.stem(images)).mean(dim=(2, 3))
        logits: Tensor = self.head(self.dropout(features))
        return logits


def _convolution(channels_in: int, width: int, norm: str, kernel: int, stride: int = 1) -> list[nn.Module]:
    # A norm subtracts the mean, and with it any bias before it.
    convolution = nn.Conv2d(channels_in, width, kernel, stride, padding=kernel // 2, bias=norm == "none")
    return [convolution, *layers.norm(norm, width, 2)]
