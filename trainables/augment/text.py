"""Random changes of text: whole numbers of shape (rows, length), as `models.text.Tokenizer` encodes it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trainables.augment.draws import Draws

PADDING, UNKNOWN, END = 0, 1, 2
"""Tokens that are no words: after the text, for a word that the vocabulary lacks, at a sentence's end."""


@dataclass(frozen=True)
class Strength:
    """How far each transform may go; 0 leaves it out."""

    synonyms: float = 0.0
    """Share of the words that are replaced by a synonym, of those that have one."""
    dropout: float = 0.0
    """Share of the words that become unknown."""
    order: float = 0.0
    """Share of the texts whose sentences come in another order."""


LEVELS = (
    Strength(),
    Strength(synonyms=0.05, dropout=0.05),
    Strength(synonyms=0.1, dropout=0.1, order=0.25),
    Strength(synonyms=0.2, dropout=0.2, order=0.5),
)


def changed(x: Tensor, strength: Strength, draws: Draws, synonyms: Tensor | None = None) -> Tensor:
    """The texts, each changed by its own draws; the same shape and dtype. `synonyms`: a table, a row for each token."""
    tokens = x
    if strength.synonyms and synonyms is not None:
        chosen = (draws.uniform(x.shape[1]) * synonyms.shape[1]).long()
        other = synonyms.to(x.device)[tokens, chosen]
        tokens = torch.where(draws.uniform(x.shape[1]) < strength.synonyms, other, tokens)
    if strength.order:
        other = reordered(tokens, draws)
        tokens = torch.where(draws.uniform()[:, None] < strength.order, other, tokens)
    if strength.dropout:
        dropped = (draws.uniform(x.shape[1]) < strength.dropout) & (tokens > END)
        tokens = tokens.masked_fill(dropped, UNKNOWN)
    return tokens


def reordered(tokens: Tensor, draws: Draws) -> Tensor:
    """The texts with their sentences in an order of their own; the words of each stay together and in order."""
    length = tokens.shape[1]
    ends = tokens == END
    sentence = ends.cumsum(1) - ends.long()  # of each token, counted from 0; an end belongs to what it ends
    rank = draws.uniform(length + 1).gather(1, sentence)
    rank = rank.masked_fill(tokens == PADDING, 2.0)  # stays last
    return tokens.gather(1, rank.argsort(dim=1, stable=True))
