"""Text: a tokenizer for raw text, and an encoder of embeddings and attention.

Place in the flow: a trainable's `data` encodes its texts once with a Tokenizer made from the training texts, its
`model` builds the encoder. Words are what a regular expression says, in lower case; a vocabulary learnt elsewhere
would have to be downloaded.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from trainables.augment.text import END, PADDING, UNKNOWN
from trainables.contract import TrainableError
from trainables.models import layers

WORD = re.compile(r"[^\W\d_]+|\d+|[^\w\s]")
SENTENCE_ENDS = frozenset(".!?。！？")


def words(text: str) -> list[str]:
    """The words, numbers and signs of a text, in lower case."""
    return WORD.findall(text.lower())


class Tokenizer:
    """Turns texts into whole numbers: the most frequent words of the texts it was made from, and three signs.

    0 is padding, 1 an unknown word, 2 the end of a sentence.
    """

    def __init__(self, texts: Iterable[str], size: int = 20_000, least: int = 2) -> None:
        """At most `size` words, each seen at least `least` times; of equals the first in the alphabet."""
        counts = Counter(word for text in texts for word in words(text) if word not in SENTENCE_ENDS)
        frequent = sorted((word for word, count in counts.items() if count >= least), key=lambda w: (-counts[w], w))
        self.tokens = {word: number for number, word in enumerate(frequent[:size], END + 1)}

    def __len__(self) -> int:
        """How many different tokens there are, the signs included."""
        return END + 1 + len(self.tokens)

    def encode(self, texts: Sequence[str], length: int) -> Tensor:
        """The texts as int64 of shape (texts, length), cut or padded."""
        encoded = torch.full((len(texts), length), PADDING, dtype=torch.int64)
        for row, text in enumerate(texts):
            tokens = [END if w in SENTENCE_ENDS else self.tokens.get(w, UNKNOWN) for w in words(text)[:length]]
            encoded[row, : len(tokens)] = torch.tensor(tokens, dtype=torch.int64)
        return encoded

    def synonyms(self, dictionary: Mapping[str, Iterable[str]]) -> Tensor:
        """A table for `augment_synonyms`: row t has tokens that may stand for t, t itself where there are none.

        Words of the dictionary that the vocabulary lacks are left out.
        """
        known = {
            self.tokens[word]: [self.tokens[other] for other in others if other in self.tokens]
            for word, others in dictionary.items()
            if word in self.tokens
        }
        table = torch.arange(len(self))[:, None].repeat(1, max(map(len, known.values()), default=1) or 1)
        for token, others in known.items():
            for place in range(table.shape[1] if others else 0):
                table[token, place] = others[place % len(others)]
        return table


class TextEncoder(nn.Module):
    """Embeddings of tokens and places, `depth` layers of self-attention, the mean over the words, dropout, linear.

    Rows are tokens of shape (rows, length), 0 after the end. Raises TrainableError for sizes that make no network, and
    for texts longer than `length`.
    """

    def __init__(
        self,
        vocabulary: int,
        outputs: int,
        length: int,
        width: int = 64,
        depth: int = 2,
        heads: int = 4,
        activation: str = "gelu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        layers.check(dropout, vocabulary=(vocabulary, END + 1), width=(width, 1), depth=(depth, 0), heads=(heads, 1))
        if width % heads:
            raise TrainableError(f"config: width {width} does not divide by {heads} heads. Give a multiple")
        self.words = nn.Embedding(vocabulary, width, padding_idx=PADDING)
        self.places = nn.Parameter(torch.randn(length, width) * 0.02)
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout, layers.activation(activation)(), batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False) if depth else None
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, outputs)

    def forward(self, tokens: Tensor) -> Tensor:
        if tokens.shape[1] > len(self.places):
            raise TrainableError(
                f"model: texts of {tokens.shape[1]} tokens for a TextEncoder of length {len(self.places)}. "
                "Cut them, or raise length"
            )
        empty = tokens == PADDING
        empty[:, 0] = False  # a text without a word still attends to something
        features = self.dropout(self.words(tokens) + self.places[: tokens.shape[1]])
        if self.layers is not None:
            features = self.layers(features, src_key_padding_mask=empty)
        present = (~empty).to(features.dtype)[:, :, None]
        mean = (self.norm(features) * present).sum(1) / present.sum(1)
        out: Tensor = self.head(self.dropout(mean))
        return out
