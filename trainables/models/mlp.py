"""A multilayer perceptron over a table's columns, with an embedding for each column of categories.

Place in the flow: a trainable's `model(config, data)` builds it. Rows are floats of shape (rows, columns); a column of
categories holds their codes, 0 … cardinality - 1, as floats. A code beyond (a category that training did not have, a
missing value) has an embedding of its own.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from trainables.models import layers


def embedding_width(cardinality: int) -> int:
    """How wide the embedding of so many categories is (fastai's rule, min(600, 1.6 n^0.56), J. Howard 2018)."""
    return min(600, round(1.6 * cardinality**0.56))


class Mlp(nn.Module):
    """`depth` hidden layers of `width` with norm, activation and dropout, then linear.

    `outputs`: classes, or 1 for a number. `categories`: column -> number of categories. `moments`: mean and standard
    deviation of each column, by which its numbers are standardised (`data.mapped.View.moments`); the network then takes
    rows as they are, wherever it is used. Raises TrainableError for an unknown activation or norm, and for sizes that
    make no network.
    """

    def __init__(
        self,
        columns: int,
        outputs: int,
        width: int = 128,
        depth: int = 2,
        activation: str = "relu",
        norm: str = "batch",
        dropout: float = 0.0,
        categories: Mapping[int, int] | None = None,
        moments: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        super().__init__()
        layers.check(dropout, columns=(columns, 1), outputs=(outputs, 1), width=(width, 1), depth=(depth, 0))
        act, cardinalities = layers.activation(activation), dict(sorted((categories or {}).items()))
        self.numbers = [column for column in range(columns) if column not in cardinalities]
        self.codes = list(cardinalities)
        self.scale = layers.Standardise(*(part[self.numbers] for part in moments)) if moments else nn.Identity()
        self.embeddings = nn.ModuleList(
            nn.Embedding(count + 1, embedding_width(count)) for count in cardinalities.values()
        )
        inputs = len(self.numbers) + sum(embedding.embedding_dim for embedding in self.embeddings)
        hidden: list[nn.Module] = []
        for _ in range(depth):
            # A norm subtracts the mean, and with it any bias before it.
            hidden += [nn.Linear(inputs, width, bias=norm == "none"), *layers.norm(norm, width, 0), act()]
            hidden += [nn.Dropout(dropout)]
            inputs = width
        self.body = nn.Sequential(*hidden)
        self.head = nn.Linear(inputs, outputs)

    def forward(self, table: Tensor) -> Tensor:
        parts = [self.scale(table[:, self.numbers] if self.codes else table)]
        for column, embedding in zip(self.codes, self.embeddings, strict=True):
            unknown = embedding.num_embeddings - 1
            code = table[:, column].nan_to_num(unknown)
            known = (code >= 0) & (code < unknown)
            parts.append(embedding(code.where(known, unknown).long()))
        out: Tensor = self.head(self.body(torch.cat(parts, dim=1) if self.codes else parts[0]))
        return out
