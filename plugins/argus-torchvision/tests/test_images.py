"""Predicting on photos: what the reader of images takes, refuses and does not change."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from torchvision.datasets.folder import IMG_EXTENSIONS

import argus_core
from argus_core import ArgusError, BuildError
from argus_core.authors import main
from argus_core.testing import check_component
from argus_torchvision.images import ImageReader, read_image

TRANSFORM = [("Resize", {"size": [8, 8]}), "ToImage", ("ToDtype", {"dtype": "float32", "scale": True})]


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Train two epochs on dark and bright images by a configuration, and return the checkpoint."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for part in ("train", "val"):
        for name, grey in (("bright", 200), ("dark", 50)):
            folder = Path("pets", part, name)
            folder.mkdir(parents=True)
            for number in range(8):
                noise = random.normal(grey, 20, (9, 10, 3)).clip(0, 255)
                Image.fromarray(noise.astype("uint8")).save(folder / f"{number}.png")
    Path("pets.toml").write_text(
        """
[model]
nn_module = ["shufflenet_v2_x0_5", { num_classes = 2 }]
loss = "CrossEntropyLoss"
optimizer = ["Adam", { lr = 0.01 }]
prediction_transform = ["Softmax", { dim = 1 }]
device = "cpu"

[data]
batch_size = 8

[data.train]
name = "ImageFolder"
root = "pets/train"
transform = [
    ["Resize", { size = [8, 8] }], "RandomInvert", "ToImage",
    ["ToDtype", { dtype = "float32", scale = true }],
]

[data.val]
name = "ImageFolder"
root = "pets/val"
transform = [["Resize", { size = [8, 8] }], "ToImage", ["ToDtype", { dtype = "float32", scale = true }]]

[fit]
num_epochs = 1
seed = 0
run_dir = "run"
""",
        "utf-8",
    )
    assert CliRunner().invoke(main, ["train", "pets.toml"], catch_exceptions=False).exit_code == 0
    return Path("run/checkpoints/last.safetensors")


def photos() -> None:
    folder = Path("photos")
    folder.mkdir()
    pixels = np.full((20, 30, 3), 200, dtype="uint8")
    Image.fromarray(pixels).save(folder / "a.jpg")
    Image.fromarray(pixels).save(folder / "b.PNG")
    Image.new("CMYK", (30, 20), (10, 20, 30, 40)).save(folder / "cmyk.jpg")
    Image.fromarray(np.full((20, 30), 200 * 256, dtype="uint16")).save(folder / "deep.png")
    (folder / "text.jpg").write_text("not a photo", "utf-8")
    whole = (folder / "a.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "notes.txt").write_text("left out", "utf-8")


def test_photos_are_named_with_the_transform_of_validation(trained: Path) -> None:
    photos()
    result = CliRunner().invoke(
        main, ["predict", str(trained), "photos", "--num-workers", "1"], catch_exceptions=False
    )
    assert result.exit_code == 0, result.stderr
    with open("predictions.csv", newline="", encoding="utf-8") as file:
        rows = [*csv.DictReader(file)]
    assert [row["file"] for row in rows] == [
        f"photos/{name}" for name in ("a.jpg", "b.PNG", "cmyk.jpg", "deep.png")
    ]
    model = argus_core.load_model(trained)
    for row in rows:
        image = read_image(row["file"])
        for transform in TRANSFORM:
            image = argus_core.authors.build_component("transform", transform, "t")(image)
        best = model.predict(image[None]).max(1)
        assert row["class"] == ("bright", "dark")[best.indices]
        assert float(row["probability"]) == pytest.approx(float(best.values), abs=1e-5)
    skipped = Path("predictions.skipped.csv").read_text("utf-8").splitlines()
    assert len(skipped) == 3
    assert skipped[1].startswith("photos/cut.jpg,,the file cannot be read: ")
    assert skipped[2] == (
        'photos/text.jpg,,"the file is not one of BMP, JPEG, PNG, PPM, TIFF, WEBP; convert it or remove it"'
    )
    assert "left out: 1 file with nothing for this model" in result.stderr


def test_prediction_needs_no_training_data(trained: Path) -> None:
    photos()
    Path("pets").rename("gone")
    assert len([*argus_core.load_model(trained).predict_on("photos/[ab].*")]) == 2


def test_photos_of_several_sizes_are_told_if_no_transform_resizes(trained: Path) -> None:
    photos()
    Image.new("RGB", (40, 20)).save("photos/c.png")
    model = argus_core.load_model(trained)
    change = argus_core.authors.build_component("transform", "ToImage", "t")
    predictions = model.predict_on(
        ["photos/a.jpg", "photos/b.PNG", "photos/c.png"], prepare=lambda image: change(image).float()
    )
    assert len([*predictions]) == 2
    ((file, _, reason),) = predictions.skipped
    assert file == "photos/c.png"
    assert reason.startswith("its input has the shape (3, 20, 40), and others of its batch (3, 20, 30); give")


def test_dataset_of_grey_images_gets_grey_photos(tmp_path: Path) -> None:
    prepare = argus_core.resolve("dataset", "MNIST").load().prepares["image"]()  # type: ignore[attr-defined]
    assert prepare(Image.new("RGB", (28, 28), (9, 9, 9))).shape == (1, 28, 28)


@pytest.mark.parametrize(("depth", "suffix"), [("uint16", "png"), ("uint16", "tif"), ("int32", "tif")])
def test_images_of_16_bits_keep_their_greys(depth: str, suffix: str, tmp_path: Path) -> None:
    pixels = (np.arange(16).reshape(4, 4) * 4096 + 255).astype(depth)
    Image.fromarray(pixels).save(tmp_path / f"a.{suffix}")
    read = np.asarray(read_image(str(tmp_path / f"a.{suffix}")))
    assert (read == (pixels // 256)[:, :, None]).all()


def test_image_of_floating_point_numbers_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.ones((4, 4), dtype="float32")).save(tmp_path / "a.tif")
    with pytest.raises(BuildError, match="it holds floating-point numbers; convert it to 8 or 16 bits"):
        read_image(str(tmp_path / "a.tif"))


def test_suffixes_are_those_of_torchvision() -> None:
    assert sorted(ImageReader.suffixes) == sorted(IMG_EXTENSIONS)


def test_reader_keeps_its_contract() -> None:
    check_component("reader", "image", file=lambda path: Image.new("RGB", (5, 4)).save(path))


def test_model_trained_in_python_says_what_to_pass(tmp_path: Path) -> None:
    Image.new("RGB", (5, 4)).save(tmp_path / "a.png")
    model = argus_core.Model({"nn_module": ("resnet18", {"num_classes": 2}), "device": "cpu"})
    with pytest.raises(ArgusError, match="the data of the model do not say how .*, pass prepare=FUNCTION"):
        model.predict_on(tmp_path / "a.png")
