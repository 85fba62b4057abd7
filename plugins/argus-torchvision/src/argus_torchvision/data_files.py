"""Reading the files of data sets, which may be untrusted: images in folders, and the format of MNIST."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from torchvision import datasets
from torchvision.datasets.folder import IMG_EXTENSIONS

from argus_core import BuildError

__all__ = ["KMNIST", "MNIST", "FashionMNIST", "check_sizes", "images_in", "unread_images"]

_OTHER_FORMATS = frozenset(".avif .gif .heic .heif .ico .jp2 .jxl .psd .svg .tga".split())
_LARGEST = 2**28  # bytes; CIFAR-100's has 155 million


def images_in(folder: str) -> list[str]:
    """Return the paths of the images in a folder and in those below, in the order of torchvision.

    Raises:
        BuildError: a link leads to a folder a second time, perhaps without end.
    """
    seen: dict[tuple[int, int], str] = {}
    found: list[tuple[str, list[str]]] = []
    for place, _, names in os.walk(folder, followlinks=True):
        status = os.stat(place)
        first = seen.setdefault((status.st_dev, status.st_ino), place)
        if first != place:
            raise BuildError(f"folder {place!r} is a link to {first!r}; remove the link")
        found.append((place, [name for name in names if name.lower().endswith(IMG_EXTENSIONS)]))
    return [os.path.join(place, name) for place, names in sorted(found) for name in sorted(names)]


def unread_images(folder: str | Path) -> dict[str, int]:
    """Return the number of images in a folder, and in those below, of each format that is not read."""
    found: Counter[str] = Counter()
    for _, _, names in os.walk(folder):  # without the folders of links: images_in refuses loops of them
        found.update(
            suffix for name in names if (suffix := os.path.splitext(name)[1].lower()) in _OTHER_FORMATS
        )
    return dict(sorted(found.items()))


def check_sizes(folder: Path) -> None:
    """Check the sizes of the files in the folder of a standard data set.

    Raises:
        BuildError: a file is larger than those of the data set; torchvision would read it whole.
    """
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.is_file() and path.stat().st_size > _LARGEST:
            raise BuildError(
                f"{str(path)!r} is larger than {_LARGEST // 2**20} MiB, which no file of the data set is; "
                "restore the original file"
            )


class _Raw:
    """Reads only the raw files, not the pickles in ``processed``, which torchvision would prefer."""

    def _check_legacy_exist(self) -> bool:
        return False


class MNIST(_Raw, datasets.MNIST):  # type: ignore[misc]
    """The dataset of torchvision, read from its raw files."""


class FashionMNIST(_Raw, datasets.FashionMNIST):  # type: ignore[misc]
    """The dataset of torchvision, read from its raw files."""


class KMNIST(_Raw, datasets.KMNIST):  # type: ignore[misc]
    """The dataset of torchvision, read from its raw files."""
