from __future__ import annotations

import gzip
import hashlib
import inspect
import os
import pickle
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from argus_core import ArgusError, ArgusWarning, BuildError, ParamsError, SpecError, resolve
from argus_core.data.datasets import build_dataset
from argus_core.data.order import epoch_batches, ordered
from argus_torchvision import datasets

FROM_FILES = {
    "CIFAR10": "cifar-10-batches-py",
    "CIFAR100": "cifar-100-python",
    "MNIST": "MNIST/raw",
    "FashionMNIST": "FashionMNIST/raw",
    "KMNIST": "KMNIST/raw",
}


def picture(path: Path, grey: int, size: tuple[int, int] = (6, 5)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (grey, grey, grey)).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a folder of six images in two classes."""
    for number in range(6):
        picture(tmp_path / "images" / ("dog" if number % 2 else "cat") / f"{number}.png", 40 * number)
    return tmp_path / "images"


def idx(path: Path, values: np.ndarray[Any, Any]) -> None:
    """Write numbers in the form of MNIST's files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    path.write_bytes(header + values.astype("uint8").tobytes())


def write_mnist(folder: Path) -> None:
    for part, count in (("train", 5), ("t10k", 3)):
        idx(folder / f"{part}-images-idx3-ubyte", np.full((count, 28, 28), 51))
        idx(folder / f"{part}-labels-idx1-ubyte", np.arange(count))


def write_cifar(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Write files in the form of CIFAR's, and let torchvision know their checksums for the real ones."""
    cls = getattr(torchvision.datasets, name)
    folder.mkdir(parents=True)
    key = "labels" if name == "CIFAR10" else "fine_labels"

    def entry(file: str, content: dict[str, Any]) -> tuple[str, str]:
        (folder / file).write_bytes(pickle.dumps(content))
        return file, hashlib.md5((folder / file).read_bytes()).hexdigest()

    data = np.full((2, 3072), 51, dtype="uint8")
    lists = {
        part: [entry(file, {"data": data, key: [0, 1]}) for file, _ in getattr(cls, part)]
        for part in ("train_list", "test_list")
    }
    meta = dict(cls.meta)
    _, meta["md5"] = entry(meta["filename"], {meta["key"]: ["one", "two"]})
    for attribute, value in {**lists, "meta": meta}.items():
        monkeypatch.setattr(cls, attribute, value)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder with small files for every dataset that reads files."""
    for name, files in FROM_FILES.items():
        if name.startswith("CIFAR"):
            write_cifar(tmp_path / files, monkeypatch, name)
        else:
            write_mnist(tmp_path / files)
    return tmp_path


@pytest.mark.parametrize("name", FROM_FILES)
def test_a_dataset_is_read_from_its_files(name: str, root: Path, attempts: list[Any]) -> None:
    dataset = build_dataset((name, {"root": str(root)}), "[data] train")
    image, label = dataset[1]
    assert (image.dtype, label) == (torch.float32, 1)
    assert image.shape == ((3, 32, 32) if name.startswith("CIFAR") else (1, 28, 28))
    torch.testing.assert_close(image, torch.full_like(image, 0.2))
    assert attempts == []


@pytest.mark.parametrize("name", FROM_FILES)
def test_the_part_to_test_on_is_another(name: str, root: Path) -> None:
    parts = [resolve("dataset", name).load()(root=root, train=train) for train in (True, False)]
    assert [len(part) for part in parts] == {"CIFAR10": [10, 2], "CIFAR100": [2, 2]}.get(name, [5, 3])


@pytest.mark.parametrize("name", FROM_FILES)
def test_files_that_are_not_there_are_told_and_not_fetched(
    name: str, tmp_path: Path, attempts: list[Any]
) -> None:
    with pytest.raises(BuildError) as error:
        build_dataset((name, {"root": str(tmp_path)}), "[data] train")
    assert re.match(
        rf"dataset '{name}' finds no files, or wrong files, in '{tmp_path}/{FROM_FILES[name]}' "
        r"\(from '.*'\): Dataset not found.*; put them there, or download them with download = true$",
        str(error.value),
    )
    assert attempts == []


def test_a_file_of_another_dataset_is_told(root: Path) -> None:
    (root / "cifar-10-batches-py" / "data_batch_2").write_bytes(b"something else")
    expected = "or wrong files, .*: Dataset not found or corrupted; put them"
    with pytest.raises(BuildError, match=expected):
        datasets.cifar10(root)


@pytest.mark.parametrize("name", FROM_FILES)
def test_files_are_fetched_if_that_is_asked_for(name: str, tmp_path: Path, attempts: list[Any]) -> None:
    expected = rf"dataset '{name}' cannot be downloaded to '.*': .*the network is cut>.*; put its files there"
    with pytest.raises(BuildError, match=expected):
        resolve("dataset", name).load()(root=tmp_path, download=True)
    assert attempts


def test_folder_may_be_in_the_home_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    dataset: Any = build_dataset(("ImageFolder", {"root": "~/images"}), "[data] train")
    assert len(dataset) > 0


@pytest.mark.parametrize("parameter", ["train", "download"])
def test_a_word_in_the_place_of_a_boolean_is_refused(parameter: str, tmp_path: Path) -> None:
    with pytest.raises(
        ParamsError, match=rf"dataset 'MNIST': {parameter} is 'false', .*; give true or false"
    ):
        build_dataset(("MNIST", {"root": str(tmp_path), parameter: "false"}), "[data] train")


def test_a_damaged_file_is_told(root: Path) -> None:
    (root / "MNIST/raw/train-images-idx3-ubyte").write_bytes(gzip.compress(b"not that"))
    with pytest.raises(ArgusError, match="dataset 'MNIST' finds no files, or wrong files"):
        datasets.mnist(root)


def test_the_folders_of_images_are_the_classes(folder: Path) -> None:
    dataset: Any = build_dataset(("ImageFolder", {"root": str(folder)}), "[data] train")
    assert (dataset.classes, len(dataset)) == (["cat", "dog"], 6)
    image, label = dataset[4]
    assert (image.shape, image.dtype, label) == ((3, 5, 6), torch.float32, 1)
    torch.testing.assert_close(image, torch.full((3, 5, 6), 120 / 255))


def test_labels_follow_the_classes_that_are_named_even_where_one_has_no_folder(folder: Path) -> None:
    dataset = datasets.image_folder(folder, classes=["ant", "dog", "cat"])
    assert sorted({label for _, label in dataset}) == [1, 2]
    assert dataset.class_to_idx == {"ant": 0, "dog": 1, "cat": 2}


@pytest.mark.parametrize("classes", [["cat"], ["cat", "dgo"], ["cat", "dog", "cat"]])
def test_classes_that_do_not_name_each_folder_are_refused(folder: Path, classes: list[str]) -> None:
    with pytest.raises(ParamsError, match=r"do not name each folder of '.*' once; it has 'cat', 'dog'"):
        datasets.image_folder(folder, classes=classes)


def test_number_of_classes_in_the_place_of_their_names_is_told_with_the_folders(folder: Path) -> None:
    message = r"has classes=2; give the names of the folders in the order of their labels: \['cat', 'dog'\]$"
    with pytest.raises(ParamsError, match=message):
        datasets.image_folder(folder, classes=2)  # type: ignore[arg-type]


def test_images_of_formats_that_are_not_read_are_left_out_with_a_warning(folder: Path) -> None:
    for name in ("cat/a.gif", "dog/b.GIF", "dog/c.heic", "dog/notes.txt"):
        (folder / name).write_bytes(b"")
    message = r"leaves out 2 \.gif, 1 \.heic in '.*images', whose format it does not read; convert them to"
    with pytest.warns(ArgusWarning, match=message):
        assert len(datasets.image_folder(folder)) == 6


def test_a_folder_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    expected = rf"finds no folder 'images/train' \(from '{tmp_path}'\); give root a folder with one folder of"
    with pytest.raises(BuildError, match=expected):
        datasets.image_folder("images/train")


def test_a_folder_without_classes_is_told(tmp_path: Path) -> None:
    picture(tmp_path / "1.png", 3)
    with pytest.raises(BuildError, match="cannot use .*: Couldn't find any class folder in .*; give root"):
        datasets.image_folder(tmp_path)


def test_a_class_without_images_is_told(folder: Path) -> None:
    (folder / "zebra").mkdir()
    with pytest.raises(BuildError, match="cannot use .*: Found no valid file for the classes zebra"):
        datasets.image_folder(folder)


def test_noise_is_the_same_each_time() -> None:
    spec = ("FakeData", {"size": 4, "image_size": [1, 8, 8], "num_classes": 3})
    one, other = (build_dataset(spec, "[data] train") for _ in range(2))
    assert all(torch.equal(one[number][0], other[number][0]) for number in range(4))
    assert one[0][0].shape == (1, 8, 8)


def test_a_table_with_a_name_is_a_transform_too(folder: Path) -> None:
    dataset = datasets.image_folder(folder, transform=["ToImage", {"name": "CenterCrop", "size": 4}])
    assert dataset[0][0].shape == (3, 4, 4)


def test_one_transform_needs_no_list(folder: Path) -> None:
    assert datasets.image_folder(folder, transform="ToImage")[0][0].dtype == torch.uint8


def test_labels_have_transforms_of_their_own(folder: Path) -> None:
    import argus_core

    with argus_core.isolated_registry(builtins=True) as registry:
        registry.register("transform", "negative", lambda: lambda label: -label)
        dataset = datasets.image_folder(folder, target_transform="negative", transform=None)
    assert dataset[5][1] == -1


def test_an_image_that_no_batch_can_hold_is_told(folder: Path) -> None:
    dataset = datasets.image_folder(folder, transform=[["CenterCrop", {"size": 4}]])
    with pytest.raises(
        SpecError, match='returns an image, which a batch cannot contain; end it with "ToImage"'
    ):
        dataset[0]


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (["ToImage", 5], r"transform\[1\] is 5; give a name or"),
        ("ToImag", "no transform named 'ToImag'; did you mean 'ToImage'"),
        (
            [["Resize", {"sise": 4}]],
            r"'Resize' has no parameter .*did you mean 'size'\?",
        ),
        ({"size": 4}, r"transform is {'size': 4}; give a name or"),
    ],
)
def test_transforms_that_are_wrong_are_told(folder: Path, transform: Any, message: str) -> None:
    with pytest.raises(ArgusError, match=message):
        build_dataset(("ImageFolder", {"root": str(folder), "transform": transform}), "[data] train")


AUGMENTED = [
    ["RandomCrop", {"size": 4}],
    ["RandomApply", {"transforms": [["ColorJitter", {"brightness": 0.5}]], "p": 0.5}],
    "RandomHorizontalFlip",
    "ToImage",
    ["ToDtype", {"dtype": "float32", "scale": True}],
    ["GaussianNoise", {"sigma": 0.1}],
]


def batches(workers: int, epoch: int = 0, skip: int = 0, seed: int = 1) -> list[Tensor]:
    dataset = datasets.fake_data(12, (3, 8, 8), transform=AUGMENTED)
    loader = ordered(DataLoader(dataset, 4, shuffle=True, num_workers=workers), seed, "train")
    return [images for images, _ in epoch_batches(loader, epoch, skip)]


def test_augmentation_follows_from_seed_epoch_and_index_whoever_reads() -> None:
    expected = batches(workers=0)
    torch.manual_seed(99)
    assert all(map(torch.equal, batches(workers=2), expected))
    assert all(map(torch.equal, batches(workers=0, skip=1), expected[1:]))
    assert not torch.equal(batches(workers=0, epoch=1)[0], expected[0])
    assert not torch.equal(batches(workers=0, seed=2)[0], expected[0])


@pytest.mark.parametrize("name", datasets.__all__)
def test_every_parameter_is_documented(name: str) -> None:
    factory = getattr(datasets, name)
    documentation = inspect.getdoc(factory) or ""
    assert all(f"    {parameter}: " in documentation for parameter in inspect.signature(factory).parameters)


class Program:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["CIFAR10", "CIFAR100"])
def test_pickle_that_is_not_the_data_sets_own_is_not_opened(name: str, root: Path) -> None:
    folder = root / FROM_FILES[name]
    for file in list(folder.iterdir()):
        file.write_bytes(pickle.dumps(Program(root / "ran")))
    with pytest.raises(BuildError, match="finds no files, or wrong files"):
        resolve("dataset", name).load()(root=root)
    assert not (root / "ran").exists()


def write_legacy(folder: Path, content: Any) -> None:
    """Write what early versions of torchvision read in the place of the raw files."""
    folder.mkdir()
    for name in ("training.pt", "test.pt"):
        torch.save(content, folder / name)


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST", "KMNIST"])
def test_legacy_pickles_are_not_opened(name: str, root: Path) -> None:
    write_legacy(root / name / "processed", Program(root / "ran"))
    dataset = resolve("dataset", name).load()(root=root)
    assert (len(dataset), (root / "ran").exists()) == (5, False)


def test_legacy_pickles_alone_are_no_data_set(tmp_path: Path) -> None:
    (tmp_path / "MNIST").mkdir()
    write_legacy(tmp_path / "MNIST/processed", (torch.zeros(3, 28, 28, dtype=torch.uint8), torch.zeros(3)))
    with pytest.raises(BuildError, match="finds no files, or wrong files, in '.*MNIST/raw'"):
        datasets.mnist(tmp_path)


@pytest.mark.parametrize("name", FROM_FILES)
def test_file_full_of_holes_is_not_read(name: str, root: Path) -> None:
    folder = root / FROM_FILES[name]
    with next(folder.iterdir()).open("r+b") as file:
        file.truncate(2**40)
    with pytest.raises(BuildError, match="is larger than 256 MiB"):
        resolve("dataset", name).load()(root=root)


def test_images_without_labels_are_told(root: Path) -> None:
    idx(root / "MNIST/raw/train-labels-idx1-ubyte", np.arange(2))
    with pytest.raises(BuildError, match="5 images and 2 labels"):
        datasets.mnist(root)


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\n(ran) (w) file closefile\n%%EOF\n"


def test_no_program_is_run_for_a_format_in_disguise(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[Any] = []
    monkeypatch.setattr("subprocess.check_call", lambda *args, **_: ran.append(args))
    monkeypatch.setattr("PIL.EpsImagePlugin.has_ghostscript", lambda: True)
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", "gs")
    (folder / "cat/0.png").write_bytes(EPS)
    with pytest.raises(BuildError, match="image '.*cat/0.png' is not one of BMP, JPEG, PNG, .*convert"):
        datasets.image_folder(folder)[0]
    assert ran == []


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda path: os.mkfifo(path), "cannot be read: is a FIFO; it must be an ordinary file; write it"),
        (lambda path: path.write_bytes(b""), "is not one of"),
        (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40)), "image '.*'"),
        (lambda path: path.symlink_to(path), "cannot be read: .*symbolic link"),
    ],
    ids=["FIFO", "empty", "damaged", "circle"],
)
def test_image_that_cannot_be_read_is_named(folder: Path, spoil: Any, told: str) -> None:
    (folder / "cat/0.png").unlink()
    spoil(folder / "cat/0.png")
    with pytest.raises(BuildError, match=told):
        datasets.image_folder(folder)[0]


def test_links_without_end_are_refused_at_once(folder: Path) -> None:
    for name in ("a", "b"):
        (folder / "dog" / name).symlink_to(folder / "dog")
    with pytest.raises(BuildError, match="is a link to '.*dog'; remove the link"):
        datasets.image_folder(folder)


def test_images_behind_links_are_found_in_torchvisions_order(folder: Path, tmp_path: Path) -> None:
    for number, name in enumerate(("z/b.PNG", "z/a.jpg", "y/c.png")):
        picture(tmp_path / "elsewhere" / name, 10 * number)
    (tmp_path / "elsewhere/y/notes.txt").touch()
    (folder / "dog/2").symlink_to(tmp_path / "elsewhere")
    expected = torchvision.datasets.ImageFolder(folder)
    dataset = datasets.image_folder(folder)
    assert (dataset.samples, dataset.classes) == (expected.samples, expected.classes)
    assert len(dataset) == 9
