"""The files of data sets, which may be a stranger's: images in folders, and MNIST's and its like."""

from __future__ import annotations

import os
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from torchvision import datasets
from torchvision.datasets.folder import IMG_EXTENSIONS

from argus_core import BuildError
from argus_core.authors import open_ordinary

__all__ = ["KMNIST", "MNIST", "FashionMNIST", "check_sizes", "images_in", "read_image"]

# Of the endings that torchvision takes. Pillow looks at what a file holds: for EPS, say, it runs Ghostscript.
_FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_LARGEST = 2**28  # bytes; CIFAR-100's has 155 million


def read_image(path: str) -> Image.Image:
    """Return an image in three colours.

    Raises:
        BuildError: the file is not an ordinary one, or not an image of a known format.
    """
    try:
        with open_ordinary(path) as file:
            return Image.open(file, formats=_FORMATS).convert("RGB")
    except UnidentifiedImageError as error:
        raise BuildError(
            f"image {path!r} is not one of {', '.join(_FORMATS)}; convert it or remove it"
        ) from error
    except Exception as error:  # a damaged file may raise anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BuildError(f"image {path!r} cannot be read: {reason}; write it again or remove it") from error


def images_in(folder: str) -> list[str]:
    """Return the paths of the images in a folder and in those below, in the order of torchvision.

    Raises:
        BuildError: links lead to one folder twice: there may be no end to them.
    """
    seen: dict[tuple[int, int], str] = {}
    found: list[tuple[str, list[str]]] = []
    for place, _, names in os.walk(folder, followlinks=True):
        status = os.stat(place)
        first = seen.setdefault((status.st_dev, status.st_ino), place)
        if first != place:
            raise BuildError(f"folder {place!r} is {first!r} once more; remove the link that leads to it")
        found.append((place, [name for name in names if name.lower().endswith(IMG_EXTENSIONS)]))
    return [os.path.join(place, name) for place, names in sorted(found) for name in sorted(names)]


def check_sizes(folder: Path) -> None:
    """Check that no file in the folder of a standard data set is larger than its files are.

    Raises:
        BuildError: one is; it would be read whole.
    """
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.is_file() and path.stat().st_size > _LARGEST:
            raise BuildError(
                f"{str(path)!r} is larger than {_LARGEST // 2**20} MiB, and no file of the data set is; "
                "put its own there"
            )


class _Raw:
    """Reads numbers alone: torchvision prefers pickles in ``processed`` that its early versions wrote."""

    def _check_legacy_exist(self) -> bool:
        return False


class MNIST(_Raw, datasets.MNIST):  # type: ignore[misc]
    """torchvision's, from its raw files."""


class FashionMNIST(_Raw, datasets.FashionMNIST):  # type: ignore[misc]
    """torchvision's, from its raw files."""


class KMNIST(_Raw, datasets.KMNIST):  # type: ignore[misc]
    """torchvision's, from its raw files."""
