"""Reading images, which may be untrusted: for datasets, and for prediction on files (kind ``reader``).

Nothing here needs torchvision, which takes seconds to import.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy
from PIL import Image, UnidentifiedImageError

from argus_core import BuildError
from argus_core.authors import AbstractReader, Load, open_ordinary

__all__ = ["ImageReader", "read_image"]

# Among the formats of torchvision's suffixes. Pillow ignores the suffix, and for EPS it runs Ghostscript.
_FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_DEEP = 256  # a value of 16 bits is as many times larger as one of 8 bits


class ImageReader(AbstractReader):
    """Reads images by Pillow, in RGB: grey ones, those with a palette, in CMYK or with 16 bits, too."""

    suffixes = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
    sort = "image"
    is_single = True

    def samples(self, path: str) -> Iterator[tuple[str | int, Load]]:
        """Yield the image."""
        yield "", partial(_told, path)


def read_image(path: str) -> Image.Image:
    """Return an image in RGB.

    Raises:
        BuildError: the file is not ordinary, or not an image of a supported format.
    """
    return _told(path, f"image {path!r}")


def _told(path: str, name: str = "the file") -> Image.Image:
    """Return an image; an error is a sentence that begins with ``name``."""
    try:
        return _image(path)
    except UnidentifiedImageError as error:
        raise BuildError(f"{name} is not one of {', '.join(_FORMATS)}; convert it or remove it") from error
    except Exception as error:  # a damaged file may raise anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BuildError(f"{name} cannot be read: {reason}; write it again or remove it") from error


def _image(path: str) -> Image.Image:
    with open_ordinary(path) as file:
        image = Image.open(file, formats=_FORMATS)
        if image.mode == "F":
            raise ValueError("it holds floating-point numbers; convert it to 8 or 16 bits")
        if image.mode == "I" or image.mode.startswith("I;16"):  # which Pillow would cut off at 255
            return Image.fromarray(_of_8_bits(numpy.asarray(image))).convert("RGB")
        return image.convert("RGB")


def _of_8_bits(pixels: Any) -> Any:
    """Return pixels of 16 bits as pixels of 8 bits."""
    return (pixels.clip(0, 2**16 - 1) // _DEEP).astype("uint8")
