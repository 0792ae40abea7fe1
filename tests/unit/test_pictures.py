"""Pictures of rows: those of the rows that are named, as the network is given them, and small."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch.nn import functional as F

from trainables.contract import Fidelity, Session
from trainables.data.rows import open_rows
from trainables.error_analysis import error_analysis
from trainables.examples.digits import Digits
from trainables.loop import capture
from trainables.pictures import MOST_TEXT, pictures
from trainables.training import prepare
from unit.trainable_helpers import Pairs

CPU = torch.device("cpu")


def rows_of(x):
    return open_rows("val", (x, torch.zeros(len(x), dtype=torch.int64)), CPU)


def decoded(picture):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(picture["png"]))).convert("RGB"))


def noise(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def test_the_worst_digits_are_shown_as_they_are():
    config = {"batch_size": 64, "augment": 3, "width": 4}
    state = capture(prepare(Digits(), config, Fidelity(1), CPU), 1)
    found = error_analysis(Digits(), config, Session(Fidelity(1), state=state))
    images, labels = Digits().data(config, Fidelity(1)).val
    shown = {one["row"]: decoded(one) for one in found.pictures}
    named = [one["row"] for one in (*found.worst, *found.confident, *found.unsure)]
    assert set(shown) == set(named)
    in_turn = [found.worst[0]["row"], found.confident[0]["row"], found.unsure[0]["row"], found.worst[1]["row"]]
    assert list(shown)[:3] == list(dict.fromkeys(in_turn))[:3], "the first of each list first"
    for row, pixels in shown.items():
        assert pixels.shape == (8, 8, 3)
        np.testing.assert_array_equal(pixels[..., 0], (255 * images[row, 0]).round().numpy())
    for one in found.confident:
        assert labels[one["row"]] == one["target"] != one["predicted"]


def test_bytes_are_shown_as_floats_are():
    x = (255 * noise(4, 3, 5, 7)).round().to(torch.uint8)
    x[0, 0, 0, 0] = 255
    assert pictures(rows_of(x), [0, 2]) == pictures(rows_of(x / 255), [0, 2])
    assert pictures(rows_of(x.int()), [0, 2]) == []


def test_a_dataset_and_arrays_give_the_same_pictures():
    x = noise(9, 3, 5, 7)
    data = open_rows("val", Pairs(x, torch.zeros(9, dtype=torch.int64)), CPU)
    assert pictures(data, [4, 0, 8]) == pictures(rows_of(x), [4, 0, 8])
    assert [one["row"] for one in pictures(data, [4, 0, 8])] == [4, 0, 8]


@pytest.mark.parametrize(
    "x",
    [noise(4, 6), noise(4, 3, 12), noise(4, 2, 8, 8), noise(4, 4, 8, 8), torch.zeros(4, 9, dtype=torch.int64)],
    ids=["table", "series", "two channels", "four channels", "text"],
)
def test_what_is_no_image_has_no_picture(x):
    assert pictures(rows_of(x), [0, 1]) == []


def test_of_no_rows_there_are_no_pictures():
    assert pictures(rows_of(noise(4, 1, 8, 8)), []) == []


@pytest.mark.parametrize(("channels", "count", "side"), [(1, 3, 96), (3, 24, 64), (3, 40, 48)])
def test_large_images_are_brought_to_the_size_with_which_all_fit(channels, count, side):
    found = pictures(rows_of(noise(count, channels, 300, 150)), list(range(count)))
    assert len(found) == count
    assert {decoded(one).shape for one in found} == {(side, side // 2, 3)}
    assert sum(len(one["png"]) for one in found) <= MOST_TEXT


def test_where_not_all_fit_the_first_are_kept():
    found = pictures(rows_of(noise(90, 3, 64, 64)), list(range(89, -1, -1)))
    assert 0 < len(found) < 90
    assert [one["row"] for one in found] == list(range(89, 89 - len(found), -1))
    assert sum(len(one["png"]) for one in found) <= MOST_TEXT


def test_a_smaller_picture_shows_the_same_image():
    flag = torch.zeros(1, 1, 192, 192)
    flag[..., 96:] = 1.0
    (one,) = pictures(rows_of(flag), [0])
    assert decoded(one).shape == (96, 96, 3)
    assert (decoded(one)[:, :48] == 0).all()
    assert (decoded(one)[:, 48:] == 255).all()


def test_a_normalisation_by_channel_is_undone():
    plain = noise(6, 3, 8, 8)
    plain[0, :, 0, 0], plain[0, :, 7, 7] = 0.0, 1.0  # each channel has its whole range
    mean, deviation = (torch.tensor(values)[:, None, None] for values in ([0.5, 0.4, 0.3], [0.2, 0.1, 0.3]))
    as_given, normalised = (pictures(rows_of(x), list(range(6))) for x in (plain, (plain - mean) / deviation))
    for one, other in zip(as_given, normalised, strict=True):
        assert np.abs(decoded(one).astype(int) - decoded(other).astype(int)).max() <= 2


@pytest.mark.parametrize("highest", [1.0, 16.0, 255.0])
def test_a_dark_image_stays_dark_on_any_scale(highest):
    x = torch.full((2, 1, 4, 4), highest)
    x[1] *= 0.2
    bright, dark = (decoded(one) for one in pictures(rows_of(x), [0, 1]))
    assert (bright == 255).all()
    assert (dark == 51).all()


def test_an_image_of_one_value_is_black_or_white_and_raises_nothing():
    for value in (0.0, -1.0):
        (one,) = pictures(rows_of(torch.full((1, 3, 4, 4), value)), [0])
        assert (decoded(one) == 0).all()


def test_photographs_are_recognised_in_few_colours_and_two_dozen_fit_at_48_pixels():
    photographs = torch.stack([torch.from_numpy(photograph.copy()) for photograph in load_sample_images().images])
    x = F.interpolate(photographs.permute(0, 3, 1, 2).float() / 255, (96, 96), mode="area").repeat(12, 1, 1, 1)
    found = pictures(rows_of(x), list(range(24)))
    assert len(found) == 24
    for one, image in zip(found, F.avg_pool2d(255 * x / x.max(), 2), strict=True):
        wanted = image.permute(1, 2, 0).numpy()
        assert decoded(one).shape == (48, 48, 3)
        assert np.abs(decoded(one) - wanted).mean() < 6
