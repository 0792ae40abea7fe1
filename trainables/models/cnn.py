"""A small convolutional network by config.

Place in the flow: a trainable's `model(config, data)` builds it. 3x3 convolutions of stride 1 throughout, which beat
larger kernels at equal cost, in residual blocks, so that depth can be searched without the first layers starving; a
global average pool makes it work for any image size from 1x1.
"""

from __future__ import annotations

from torch import Tensor, nn

from trainables.contract import TrainableError

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "gelu": nn.GELU}
NORMS = ("batch", "group", "none")
MAX_GROUPS = 8


class Cnn(nn.Module):
    """Stem, `depth` residual blocks of `width` channels, average pool, dropout, linear.

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
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise TrainableError(f"config: activation {activation!r} is unknown. Choose {', '.join(ACTIVATIONS)}")
        if norm not in NORMS:
            raise TrainableError(f"config: norm {norm!r} is unknown. Choose {', '.join(NORMS)}")
        if width < 1 or depth < 0 or not 0 <= dropout < 1:
            raise TrainableError(
                f"config: width {width}, depth {depth}, dropout {dropout} make no network. "
                "Give width of at least 1, depth of at least 0, dropout in [0, 1)"
            )
        act = ACTIVATIONS[activation]
        self.stem = nn.Sequential(*_convolution(channels_in, width, norm), act())
        self.blocks = nn.Sequential(*(Block(width, norm, act) for _ in range(depth)))
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.blocks(self.stem(images)).mean(dim=(2, 3))
        logits: Tensor = self.head(self.dropout(features))
        return logits


class Block(nn.Module):
    """Two convolutions and a shortcut around them."""

    def __init__(self, width: int, norm: str, act: type[nn.Module]) -> None:
        super().__init__()
        self.body = nn.Sequential(*_convolution(width, width, norm), act(), *_convolution(width, width, norm))
        self.act = act()

    def forward(self, features: Tensor) -> Tensor:
        out: Tensor = self.act(features + self.body(features))
        return out


def _convolution(channels_in: int, width: int, norm: str) -> list[nn.Module]:
    # A norm subtracts the mean, and with it any bias before it.
    convolution = nn.Conv2d(channels_in, width, kernel_size=3, padding=1, bias=norm == "none")
    if norm == "batch":
        return [convolution, nn.BatchNorm2d(width)]
    if norm == "group":
        groups = max(g for g in range(1, MAX_GROUPS + 1) if width % g == 0)
        return [convolution, nn.GroupNorm(groups, width)]
    return [convolution]
