"""Folders of images as rows that all slots of a node share: one folder a class, converted once, mapped into memory.

    found = image_folder("flowers", size=(32, 32))
    return Data(*found.split(0.8, 0.2))

Place in the flow: as `tables`; a trainable's `data` calls `image_folder` and gives views of it as splits. Pixels are
kept as bytes, a quarter of what floats take; a batch has them as floats from 0 to 1, of shape (rows, channels, height,
width).
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from trainables.contract import TrainableError
from trainables.data import mapped

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")


def image_folder(
    path: str | Path, size: tuple[int, int] | None = None, cache: str | Path | None = None
) -> mapped.Mapped:
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
    x, y, meaning = mapped.unpacked(mapped.converted(place, name, lambda: convert(found, size)))
    return mapped.Mapped(x, y, meaning["classes"])


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


def convert(found: dict[str, list[Path]], size: tuple[int, int] | None) -> pa.Table:
    """Pixels and classes as they are mapped."""
    files = [file for of_class in found.values() for file in of_class]
    colours = any(mode_of(file) != "L" for file in files)  # grey where all images are
    images = [pixels(file, colours, size) for file in files]
    shapes = Counter(image.shape for image in images)
    if len(shapes) > 1:
        (usual, _), *_ = shapes.most_common()
        at = next(number for number, image in enumerate(images) if image.shape != usual)
        sides = " and ".join(" x ".join(map(str, shape[1:])) for shape in (images[at].shape, usual))
        raise TrainableError(
            f"data: {files[at]} is of another size than most images ({sides}, height x width). "
            "Give size=(height, width)"
        )
    y = np.repeat(np.arange(len(found)), [len(of_class) for of_class in found.values()])
    return mapped.packed(np.stack(images), pa.array(y, pa.int64()), {"classes": list(found)})


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


def pixels(file: Path, colours: bool, size: tuple[int, int] | None) -> np.ndarray[Any, Any]:
    """The image as bytes of shape (channels, height, width), upright; of a moving one the first."""
    from PIL import Image, ImageOps

    try:
        with opened(file) as image:
            plain = ImageOps.exif_transpose(image).convert("RGB" if colours else "L")
    except (OSError, ValueError) as error:
        raise TrainableError(f"data: {file} cannot be decoded: {error}. Is it whole?") from None
    if size is not None:
        plain = plain.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    found = np.asarray(plain, dtype=np.uint8)
    return found.transpose(2, 0, 1) if colours else found[None]
