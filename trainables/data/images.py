"""Folders of images as rows that all slots of a node share: one folder a class, converted once, mapped into memory.

    found = image_folder("flowers", size=(32, 32))
    return Data(*found.split(0.8, 0.2))

Place in the flow: as `tables`; a trainable's `data` calls `image_folder` and gives views of it as splits. Pixels are
kept as bytes, a quarter of what floats take; a batch has them as floats from 0 to 1, of shape (rows, channels, height,
width).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from trainables.contract import TrainableError
from trainables.data import mapped
from trainables.data.faults import Fault, met

Pixels = NDArray[np.uint8]
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")


@dataclass(frozen=True)
class Images(mapped.Mapped):
    """Converted images; `x` is uint8 of shape (rows, channels, height, width)."""

    files: pa.Table = field(default_factory=lambda: pa.table({}))
    """Of each row its `file`, below the folder of all, and what that held: `height`, `width`, and `mode` as Pillow has
    it; a side of 0 where nothing could be read."""


def image_folder(path: str | Path, size: tuple[int, int] | None = None, cache: str | Path | None = None) -> Images:
    """The images in `<path>/<class>/…`, classes and files in the order of their names.

    `size`: (height, width) that all are brought to; None: they have one size. Raises TrainableError, with the folder or
    the file, for a class without images, for what is no image, and for images of different sizes.
    """
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise TrainableError(f"data: size {size} is none of an image. Give (height, width)")
    place = mapped.cache_at(cache)
    found = files_by_class(Path(path))
    files = [file for of_class in found.values() for file in of_class]
    settings = ["images", size, {name: len(of_class) for name, of_class in found.items()}]
    name = mapped.digest(settings, mapped.digest_of_files(files, place))
    stored = mapped.converted(place, name, lambda: convert(Path(path), found, size))
    x, y, meaning = mapped.unpacked(stored)
    told = stored.select(["file", "height", "width", "mode"])
    return Images(x, y, meaning["classes"], faults=meaning["faults"], files=told)


def files_by_class(path: Path) -> dict[str, list[Path]]:
    """Class -> its image files."""
    if not path.is_dir():
        raise TrainableError(f"data: {path} is no folder. Give one that has a folder of images for each class")
    folders = sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    found = {
        folder.name: sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES) for folder in folders
    }
    empty = [name for name, files in found.items() if not files]
    if empty or not found:
        what = f"class folder {path / empty[0]} holds no image" if empty else f"{path} holds no class folders"
        raise TrainableError(f"data: {what} ({', '.join(SUFFIXES)}). Lay images in one folder a class")
    return found


def convert(root: Path, found: dict[str, list[Path]], size: tuple[int, int] | None) -> pa.Table:
    """Pixels and classes as they are mapped, and what the files below the root held."""
    files = [file for of_class in found.values() for file in of_class]
    faults: list[Fault] = []
    modes = [told(partial(mode_of, file), number, faults) for number, file in enumerate(files)]
    colours = any(mode not in ("L", None) for mode in modes)  # grey where all images are
    images, sides = [], np.zeros((len(files), 2), np.int32)
    for number, (file, mode) in enumerate(zip(files, modes, strict=True)):
        image = told(partial(upright, file, colours), number, faults) if mode else None
        if image:
            sides[number] = image.height, image.width
        images.append(pixels(image, size) if image else None)
    x = np.stack(of_one_size(files, images, faults))
    y = np.repeat(np.arange(len(found)), [len(of_class) for of_class in found.values()])
    names = [str(file.relative_to(root)) for file in files]
    return mapped.packed(
        x, pa.array(y, pa.int64()), {"classes": list(found)}, faults, file=pa.array(names),
        height=pa.array(sides[:, 0]), width=pa.array(sides[:, 1]), mode=pa.array([mode or "" for mode in modes]),
    )  # fmt: skip


def told(read: Callable[[], Any], number: int, faults: list[Fault]) -> Any:
    """What is read of an image; None, and a fault, where that cannot be."""
    try:
        return read()
    except TrainableError as error:
        faults.append(met(Fault("unreadable_images", str(error), [number])))
        return None


def of_one_size(files: list[Path], images: list[Pixels | None], faults: list[Fault]) -> list[Pixels]:
    """The images; black ones for those that could not be read, and for those of another size than most."""
    shapes = Counter(image.shape for image in images if image is not None)
    if not shapes:
        raise TrainableError(faults[0].message)
    (usual, _), *others = shapes.most_common()
    if others:
        odd = [number for number, image in enumerate(images) if image is not None and image.shape != usual]
        first = next(image.shape for image in images if image is not None and image.shape != usual)
        sides = " and ".join(" x ".join(map(str, shape[1:])) for shape in (first, usual))
        why = f"{files[odd[0]]} is of another size than most images ({sides}, height x width)"
        faults.append(met(Fault("odd_sizes", f"data: {why}. Give size=(height, width)", odd)))
    black = np.zeros(usual, np.uint8)
    return [black if image is None or image.shape != usual else image for image in images]


def opened(file: Path) -> Any:
    """The image in a file, not yet decoded."""
    from PIL import Image, UnidentifiedImageError

    try:
        return Image.open(file)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise TrainableError(f"data: {file} is no image: {error}. Remove or mend it") from None


def mode_of(file: Path) -> str:
    """How the image in a file is stored: L is grey."""
    with opened(file) as image:
        mode = str(image.mode)
    if mode.startswith("I") or mode == "F":
        raise TrainableError(f"data: {file} has pixels of mode {mode}, more than 8 bits. Bring them to 8 bits")
    return mode


def upright(file: Path, colours: bool) -> Any:
    """The image in a file, decoded, as it is meant to be seen; of a moving one the first."""
    from PIL import ImageOps

    try:
        with opened(file) as image:
            return ImageOps.exif_transpose(image).convert("RGB" if colours else "L")
    except (OSError, ValueError) as error:
        raise TrainableError(f"data: {file} cannot be decoded: {error}. Is it whole?") from None


def pixels(image: Any, size: tuple[int, int] | None) -> Pixels:
    """An image as bytes of shape (channels, height, width)."""
    from PIL import Image

    if size is not None:
        image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    found = np.asarray(image, dtype=np.uint8)
    return found.transpose(2, 0, 1) if found.ndim == 3 else found[None]
