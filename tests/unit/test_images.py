"""Folders of images: what becomes of them, that they are converted once, and what is none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from trainables.contract import Data, Fidelity, Session, TrainableError, resolve
from trainables.data.images import image_folder
from trainables.data.rows import open_rows
from trainables.models.cnn import Cnn

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def stripes(across, sides=(12, 10), seed=0):
    """Grey levels in stripes, across or down, with noise."""
    draw = np.random.default_rng(seed)
    levels = draw.integers(0, 60, sides)
    (levels if across else levels.T)[::2] += 150
    return levels.astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Two classes of stripes, 20 images each."""
    for name, across in (("down", False), ("across", True)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(20):
            image = Image.fromarray(stripes(across, seed=number))
            image.save(tmp_path / "images" / name / f"{number:02}.png")
    return tmp_path / "images"


def test_pixels_are_kept_as_bytes_and_seen_as_floats(folder):
    found = image_folder(folder)
    assert found.classes == ["across", "down"]
    assert (found.x.dtype, tuple(found.x.shape)) == (torch.uint8, (40, 1, 12, 10))
    assert found.x[3, 0].numpy().tolist() == stripes(True, seed=3).tolist()
    assert found.y.tolist() == [0] * 20 + [1] * 20
    ((x, y),) = open_rows("train", found.rows([3, 25]), CPU).batches(torch.tensor([1, 0]), 2)
    assert x.dtype == torch.float32
    assert x[1, 0].numpy() * 255 == pytest.approx(stripes(True, seed=3))
    assert y.tolist() == [1, 0]


def test_one_image_of_colours_makes_all_of_three_channels(folder):
    colours = np.stack([stripes(True), np.zeros((12, 10), np.uint8), np.full((12, 10), 9, np.uint8)], axis=2)
    Image.fromarray(colours).save(folder / "across" / "00.png")
    found = image_folder(folder)
    assert tuple(found.x.shape) == (40, 3, 12, 10)
    assert found.x[0].numpy().tolist() == colours.transpose(2, 0, 1).tolist()
    assert torch.equal(found.x[1, 0], found.x[1, 2])


def test_images_are_brought_to_a_size_that_is_given(folder):
    Image.fromarray(stripes(True, (30, 40))).save(folder / "down" / "big.jpg")
    assert tuple(image_folder(folder, size=(6, 8)).x.shape) == (41, 1, 6, 8)
    with pytest.raises(TrainableError, match=r"down/big\.jpg is of another size .*\(30 x 40 and 12 x 10, height x wid"):
        image_folder(folder)


def test_a_folder_is_converted_once_and_again_when_a_file_changes(folder, cache):
    image_folder(folder)
    (file,) = cache.glob("*.arrow")
    before = file.stat().st_mtime_ns
    image_folder(folder)
    assert file.stat().st_mtime_ns == before
    (folder / "down" / "07.png").unlink()
    assert len(image_folder(folder)) == 39
    (folder / "down" / "08.png").rename(folder / "across" / "08b.png")
    assert image_folder(folder).y.bincount().tolist() == [21, 18]
    assert len(list(cache.glob("*.arrow"))) == 3


class Stripes:
    def __init__(self, folder):
        self.folder = folder

    def data(self, config, fidelity):
        return Data(*image_folder(self.folder).split(0.6, 0.4))

    def model(self, config, data):
        return Cnn(1, 2, width=4, depth=1)


def test_a_network_learns_from_a_folder(folder):
    reports = list(resolve(Stripes(folder))({"lr": 1e-2, "batch_size": 8, "augment": 1}, Session(Fidelity(8))))
    assert reports[-1].metrics["val/accuracy"] > 0.9


def test_what_is_no_folder_of_images_is_named(folder, tmp_path):
    with pytest.raises(TrainableError, match=r"nowhere is no folder"):
        image_folder(tmp_path / "nowhere")
    with pytest.raises(TrainableError, match=r"across holds no class folders"):
        image_folder(folder / "across")
    (folder / "empty").mkdir()
    with pytest.raises(TrainableError, match=r"class folder .*/empty holds no image \(\.png"):
        image_folder(folder)
    whole = (folder / "down" / "03.png").read_bytes()
    (folder / "empty" / "cut.png").write_bytes(whole[:-30])
    with pytest.raises(TrainableError, match=r"empty/cut\.png cannot be decoded: .*Is it whole"):
        image_folder(folder)
    (folder / "empty" / "cut.png").write_bytes(b"no image at all")
    with pytest.raises(TrainableError, match=r"empty/cut\.png is no image"):
        image_folder(folder)


def test_pixels_of_more_than_a_byte_are_refused_and_photos_stand_upright(folder):
    turned = Image.fromarray(stripes(True))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    turned.save(folder / "across" / "00.png", exif=exif)
    assert image_folder(folder).x[0, 0].numpy().tolist() == stripes(True)[::-1, ::-1].tolist()
    Image.fromarray(np.full((12, 10), 4000, np.uint16)).save(folder / "across" / "01.png")
    with pytest.raises(TrainableError, match=r"across/01\.png has pixels of mode I;16, more than 8 bits"):
        image_folder(folder)
    with pytest.raises(TrainableError, match=r"size \(0, 4\) is none of an image"):
        image_folder(folder, size=(0, 4))
