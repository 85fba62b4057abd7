"""torchvision's datasets, kind ``dataset``: images with their labels, from local files.

Every factory takes

- ``transform``: the specs of transforms of an image, in order; by default images become float32 tensors
  (channels, height, width), 0 to 1;
- ``target_transform``: the specs of transforms of a label; by default the label is an integer.

Nothing is downloaded unless ``download`` is true.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torchvision import datasets
from torchvision.transforms import v2

from argus_core import ArgusWarning, BuildError, ParamsError
from argus_core.authors import READS, FileParam, checked_path
from argus_torchvision.data_files import KMNIST, MNIST, FashionMNIST, check_sizes, images_in, unread_images
from argus_torchvision.images import read_image
from argus_torchvision.pipelines import Pipeline, build_pipeline

__all__ = ["cifar10", "cifar100", "fake_data", "fashion_mnist", "image_folder", "kmnist", "mnist"]


_CLASSES = {
    "CIFAR10": datasets.CIFAR10,  # pickles, which torchvision opens only with the right checksums
    "CIFAR100": datasets.CIFAR100,
    "MNIST": MNIST,
    "FashionMNIST": FashionMNIST,
    "KMNIST": KMNIST,
}
_GREY = ("MNIST", "FashionMNIST", "KMNIST")


def _prepare(transform: Any = None) -> Pipeline:
    """Return what makes an input of an image in RGB."""
    return build_pipeline(transform)


def _prepare_grey(transform: Any = None) -> Pipeline:
    """Return what makes an input of an image in RGB for a data set of grey images."""
    return Pipeline([v2.Grayscale(), *build_pipeline(transform).transforms])


_IN_COLOUR = {"image": _prepare}
_DOWNLOAD = FileParam(
    "fetches the data set from its own address", values=(False,), in_configuration=True, writes=True
)


def image_folder(
    root: str | Path,
    classes: Sequence[str] | None = None,
    transform: Any = None,
    target_transform: Any = None,
) -> Any:
    """The images of a folder with one folder of images for each class.

    Args:
        root: the folder.
        classes: the names of the folders in the order of their labels; by default all folders in the order
            of their names. Set it if a class may have no folder; otherwise labels shift.
        transform: specs of transforms of an image.
        target_transform: specs of transforms of a label.
    """
    root = checked_path("dataset 'ImageFolder'", "root", root)
    if not root.is_dir():
        raise BuildError(
            f"dataset 'ImageFolder' finds no folder {str(root)!r} (from {str(Path.cwd())!r}); "
            "give root a folder with one folder of images for each class"
        )
    if classes is not None and (isinstance(classes, str) or not isinstance(classes, Sequence)):
        folders = sorted(each.name for each in root.iterdir() if each.is_dir())
        raise ParamsError(
            f"dataset 'ImageFolder' has classes={classes!r}; give the names of the folders in the order of "
            f"their labels: {folders!r}"
        )
    if left_out := unread_images(root):
        counts = ", ".join(f"{count} {suffix}" for suffix, count in left_out.items())
        warnings.warn(
            f"dataset 'ImageFolder' leaves out {counts} in {str(root)!r}, whose format it does not read; "
            "convert them to .png or .jpg to train on them",
            ArgusWarning,
            stacklevel=2,
        )
    try:
        return _ImageFolder(root, classes, **_transforms(transform, target_transform))
    except FileNotFoundError as error:
        raise BuildError(
            f"dataset 'ImageFolder' cannot use {str(root)!r}: {str(error).rstrip('.')}; "
            "give root a folder with one folder of images for each class"
        ) from error


image_folder.file_params = {"root": READS}  # type: ignore[attr-defined]
image_folder.prepares = _IN_COLOUR  # type: ignore[attr-defined]


class _ImageFolder(datasets.ImageFolder):  # type: ignore[misc]
    """An ImageFolder with a given order of the labels."""

    def __init__(self, root: str | Path, classes: Sequence[str] | None, **transforms: Any) -> None:
        self._classes = classes
        # A listed class may have no images, as in a small validation set.
        super().__init__(root, loader=read_image, allow_empty=classes is not None, **transforms)

    @staticmethod
    def make_dataset(
        directory: str | Path,
        class_to_idx: Mapping[str, int],
        extensions: Any = None,
        is_valid_file: Any = None,
        allow_empty: bool = False,
    ) -> list[tuple[str, int]]:
        found = {name: images_in(os.path.join(directory, name)) for name in sorted(class_to_idx)}
        empty = [name for name, paths in found.items() if not paths]
        if empty and not allow_empty:
            raise FileNotFoundError(f"Found no valid file for the classes {', '.join(empty)}")
        return [(path, class_to_idx[name]) for name, paths in found.items() for path in paths]

    def find_classes(self, directory: str | Path) -> tuple[list[str], dict[str, int]]:
        names, labels = super().find_classes(directory)
        if self._classes is None:
            return names, labels
        wanted = list(self._classes)
        others = [name for name in names if name not in wanted]
        if others or len(set(wanted)) != len(wanted):
            raise ParamsError(
                f"classes={wanted!r} do not name each folder of {str(directory)!r} once; "
                f"it has {', '.join(map(repr, names))}"
            )
        return wanted, {name: label for label, name in enumerate(wanted)}


def fake_data(
    size: int = 1000,
    image_size: Sequence[int] = (3, 224, 224),
    num_classes: int = 10,
    random_offset: int = 0,
    transform: Any = None,
    target_transform: Any = None,
) -> Any:
    """Images of noise with random labels, the same each time, to try a configuration without data.

    Args:
        size: the number of samples.
        image_size: (channels, height, width).
        num_classes: labels are 0 to ``num_classes - 1``.
        random_offset: another number gives other images.
        transform: specs of transforms of an image.
        target_transform: specs of transforms of a label.
    """
    return datasets.FakeData(
        size,
        tuple(image_size),
        num_classes,
        random_offset=random_offset,
        **_transforms(transform, target_transform),
    )


fake_data.prepares = _IN_COLOUR  # type: ignore[attr-defined]


def _standard(name: str, files: str) -> Callable[[Callable[[], None]], Callable[..., Any]]:
    """Make the factory of a standard data set; the function has its name and the first sentence of its docs.

    Args:
        name: the name of torchvision's class.
        files: the folder in root with its files.
    """

    def factory_of(named: Callable[[], None]) -> Callable[..., Any]:
        def build(
            root: str | Path = "data",
            train: bool = True,
            transform: Any = None,
            target_transform: Any = None,
            download: bool = False,
        ) -> Any:
            return _from_files(name, files, root, train, download, _transforms(transform, target_transform))

        build.file_params = {"root": READS, "download": _DOWNLOAD}  # type: ignore[attr-defined]
        build.prepares = {"image": _prepare_grey} if name in _GREY else _IN_COLOUR  # type: ignore[attr-defined]
        build.__name__ = build.__qualname__ = named.__name__
        build.__doc__ = f"{named.__doc__}\n\n{_PARAMETERS.format(files)}"
        return build

    return factory_of


_PARAMETERS = """\
Args:
    root: the folder that contains ``{}``.
    train: whether to use the training samples.
    transform: specs of transforms of an image.
    target_transform: specs of transforms of a label.
    download: whether to download missing files."""


@_standard("CIFAR10", "cifar-10-batches-py")
def cifar10() -> None:
    """Return CIFAR-10: 50,000 photographs to train on and 10,000 to test on, 32 x 32, in 10 classes."""


@_standard("CIFAR100", "cifar-100-python")
def cifar100() -> None:
    """Return CIFAR-100: 50,000 photographs to train on and 10,000 to test on, 32 x 32, in 100 classes."""


@_standard("MNIST", "MNIST/raw")
def mnist() -> None:
    """Return MNIST: 60,000 handwritten digits to train on and 10,000 to test on, 28 x 28, grey."""


@_standard("FashionMNIST", "FashionMNIST/raw")
def fashion_mnist() -> None:
    """Return Fashion-MNIST: 60,000 pieces of clothing to train on and 10,000 to test on, 28 x 28, grey."""


@_standard("KMNIST", "KMNIST/raw")
def kmnist() -> None:
    """Return KMNIST: 60,000 handwritten Hiragana to train on and 10,000 to test on, 28 x 28, grey."""


def _from_files(
    name: str,
    files: str,
    root: str | Path,
    train: bool,
    download: bool,
    transforms: dict[str, Any],
) -> Any:
    for parameter, value in (("train", train), ("download", download)):
        if not isinstance(value, bool):  # "false" would be true
            raise ParamsError(f"{parameter} of dataset {name!r} is {value!r}; give true or false")
    root = checked_path(f"dataset {name!r}", "root", root)
    check_sizes(root / files)
    try:
        dataset = _CLASSES[name](root, train=train, download=download, **transforms)
        if len(dataset.data) != len(dataset.targets):
            raise ValueError(f"{len(dataset.data)} images and {len(dataset.targets)} labels")
        return dataset
    except Exception as error:  # a damaged file may raise anything
        folder = str(root / files)
        reason = " ".join(str(error).split()) or type(error).__name__
        if download:
            raise BuildError(
                f"dataset {name!r} cannot be downloaded to {folder!r}: {reason}; put its files there by hand"
            ) from error
        raise BuildError(
            f"dataset {name!r} finds no files, or wrong files, in {folder!r} "
            f"(from {str(Path.cwd())!r}): {reason.partition('.')[0]}; "
            "put them there, or download them with download = true"
        ) from error


def _transforms(transform: Any, target_transform: Any) -> dict[str, Any]:
    chosen = {"transform": build_pipeline(transform)}
    if target_transform is not None:
        chosen["target_transform"] = build_pipeline(target_transform)
    return chosen
