"""The networks that ship: shapes, what each option does, that they learn, and what makes none."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainables.contract import TrainableError
from trainables.models.cnn import Cnn
from trainables.models.layers import ACTIVATIONS, NORMS
from trainables.models.mlp import Mlp, embedding_width
from trainables.models.series import Gru, SeriesCnn
from trainables.models.text import TextEncoder, Tokenizer, words


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(
    ("make", "x"),
    [
        (lambda **o: Mlp(6, 3, width=12, **o), torch.randn(5, 6)),
        (lambda **o: Cnn(2, 3, width=12, **o), torch.randn(5, 2, 7, 9)),
        (lambda **o: Cnn(2, 3, width=12, depth=4, stride=2, kernel=5, **o), torch.randn(5, 2, 16, 16)),
        (lambda **o: SeriesCnn(2, 3, width=12, **o), torch.randn(5, 2, 30)),
    ],
    ids=["mlp", "cnn", "wide cnn", "series"],
)
def test_every_norm_and_activation_trains_every_parameter(make, x, norm, activation):
    model = make(norm=norm, activation=activation)
    out = model(x)
    assert out.shape == (5, 3)
    out.square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())
    kinds = {type(m) for m in model.modules()}
    assert ACTIVATIONS[activation] in kinds
    has = {nn.BatchNorm1d, nn.BatchNorm2d} & kinds, {nn.GroupNorm, nn.LayerNorm} & kinds
    assert [bool(found) for found in has] == [norm == "batch", norm in ("layer", "group")]


def test_a_stride_makes_the_image_smaller_and_the_network_wider():
    model = Cnn(1, 10, width=8, depth=4, stride=2)
    features = model.blocks(model.stem(torch.randn(2, 1, 32, 32)))
    assert features.shape == (2, 32, 8, 8)


def test_categories_have_embeddings_and_one_for_what_is_unknown():
    torch.manual_seed(0)
    model = Mlp(4, 2, depth=0, categories={1: 3, 3: 10}).eval()
    assert [e.num_embeddings for e in model.embeddings] == [4, 11]
    assert [e.embedding_dim for e in model.embeddings] == [embedding_width(3), embedding_width(10)]
    table = torch.zeros(6, 4)
    table[:, 1] = torch.tensor([0.0, 1.0, 2.0, 3.0, float("nan"), -1.0])
    out = model(table)
    assert len({tuple(row.tolist()) for row in out[:3]}) == 3
    assert torch.allclose(out[3:], out[3], atol=1e-6)
    assert not any(torch.allclose(out[3], known, atol=1e-4) for known in out[:3])


def test_a_recurrent_network_sees_the_order_of_time():
    model, x = Gru(2, 3, width=8, depth=2, dropout=0.1).eval(), torch.randn(4, 2, 20)
    assert model(x).shape == (4, 3)
    assert not torch.allclose(model(x), model(x.flip(2)), atol=1e-4)


def test_words_are_words_numbers_and_signs_of_any_language():
    assert words("Don't panic: 42 Äpfel, 3.5!") == [
        "don", "'", "t", "panic", ":", "42", "äpfel", ",", "3", ".", "5", "!",
    ]  # fmt: skip


def test_a_tokenizer_knows_the_frequent_words_and_the_ends_of_sentences():
    tokenizer = Tokenizer(["b b a a c.", "a c d!"], size=2)
    assert tokenizer.tokens == {"a": 3, "b": 4}
    assert len(tokenizer) == 5
    assert tokenizer.encode(["A x. b", "", "a a a a a"], 4).tolist() == [[3, 1, 2, 4], [0] * 4, [3] * 4]


def test_synonyms_are_a_table_of_tokens():
    tokenizer = Tokenizer(["big large huge small dog"], least=1)
    table = tokenizer.synonyms({"big": ["large", "huge"], "small": ["tiny"], "cat": ["dog"], "dog": ["big"]})
    named = {
        word: {tuple(tokenizer.tokens)[t - 3] for t in table[token].tolist()}
        for word, token in tokenizer.tokens.items()
    }
    assert named == {"big": {"large", "huge"}, "large": {"large"}, "huge": {"huge"}, "small": {"small"}, "dog": {"big"}}
    assert table[:3].tolist() == [[0, 0], [1, 1], [2, 2]]


def test_padding_says_nothing_to_the_encoder():
    torch.manual_seed(0)
    model = TextEncoder(30, 2, length=12, width=16, heads=2).eval()
    tokens = torch.randint(1, 30, (4, 6))
    padded = torch.cat((tokens, torch.zeros(4, 6, dtype=torch.int64)), dim=1)
    assert torch.allclose(model(tokens), model(padded), atol=1e-5)
    assert not torch.allclose(model(tokens), model(tokens.flip(1)), atol=1e-4), "places matter"
    empty = model(torch.zeros(2, 6, dtype=torch.int64))
    assert bool(empty.isfinite().all()), "a text without a word is a text"


def test_an_encoder_learns_which_word_is_in_a_text():
    torch.manual_seed(0)
    tokens = torch.randint(3, 20, (200, 8))
    target = (tokens == 7).any(1).long()
    model = TextEncoder(20, 2, length=8, width=16, depth=1, heads=2)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(tokens), target).backward()
        optimizer.step()
    assert float((model.eval()(tokens).argmax(1) == target).float().mean()) > 0.95


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Mlp(3, 2, activation="swish"), "activation 'swish' is unknown. Choose relu"),
        (lambda: Mlp(3, 2, norm="instance"), "norm 'instance' is unknown. Choose batch"),
        (lambda: Mlp(3, 2, dropout=1.0), "dropout 1.0 makes no network"),
        (lambda: Mlp(3, 0), "outputs 0 makes no network. Give at least 1"),
        (lambda: Cnn(1, 2, kernel=4), "kernel 4 has no middle. Give an odd number"),
        (lambda: Cnn(1, 2, stride=0), "stride 0 makes no network"),
        (lambda: SeriesCnn(1, 2, width=0), "width 0 makes no network"),
        (lambda: Gru(1, 2, depth=0), "depth 0 makes no network"),
        (lambda: TextEncoder(20, 2, 8, width=30, heads=4), "width 30 does not divide by 4 heads"),
        (lambda: TextEncoder(20, 2, 8)(torch.ones(1, 9, dtype=torch.int64)), "texts of 9 tokens for .* of length 8"),
    ],
)
def test_what_makes_no_network_is_told(make, message):
    with pytest.raises(TrainableError, match=message):
        make()


@pytest.mark.filterwarnings("ignore:The tensor attributes self.recurrent:UserWarning")  # torch's own GRU's
@pytest.mark.parametrize(
    ("model", "example"),
    [
        (Mlp(6, 3, moments=(torch.zeros(6), torch.ones(6))), torch.randn),
        (Mlp(6, 3, categories={1: 3, 4: 10}), lambda rows, columns: torch.randn(rows, columns) * 5),
        (Cnn(1, 3, depth=4, stride=2, norm="group"), lambda rows, _: torch.randn(rows, 1, 8, 8)),
        (SeriesCnn(2, 3), lambda rows, _: torch.randn(rows, 2, 30)),
        (Gru(2, 3, depth=2), lambda rows, _: torch.randn(rows, 2, 30)),
        (TextEncoder(50, 3, length=6, width=16), lambda rows, columns: torch.randint(0, 50, (rows, columns))),
    ],
    ids=["mlp", "categories", "cnn", "series", "gru", "text"],
)
def test_each_is_exported_for_any_number_of_rows(model, example):
    """As MLflow does it for the registry. Attention has a fused kernel in eval mode, and none once it is exported."""
    free = torch.export.Dim.AUTO
    exported = torch.export.export(model.eval(), (example(3, 6),), dynamic_shapes=[{0: free}]).module()
    with torch.no_grad():
        for rows in (1, 2, 64):
            x = example(rows, 6)
            torch.testing.assert_close(exported(x), model(x), rtol=0, atol=1e-6)
