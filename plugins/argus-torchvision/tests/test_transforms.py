from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import tv_tensors
from torchvision.transforms import v2

import argus_core
from argus_core import ArgusError, Model, UnsafeCheckpointError, load_model, resolve
from argus_core.data.order import epoch_batches, ordered
from argus_core.registry.factory import build_component
from argus_core.registry.registry import components
from argus_torchvision.pipelines import build_pipeline

OURS = {each.name: each for each in components("transform") if each.provider == "argus-torchvision"}
NAMES = sorted({*OURS} - {"main_output"})

# What those that need parameters are built with.
PARAMS: dict[str, dict[str, Any]] = {
    "CenterCrop": {"size": 12},
    "Compose": {"transforms": ["RandomInvert", ["RandomCrop", {"size": 12}]]},
    "ConvertBoundingBoxFormat": {"format": "CXCYWH"},
    "ElasticTransform": {"sigma": 1.0},
    "FiveCrop": {"size": 8},
    "GaussianBlur": {"kernel_size": 3},
    "JPEG": {"quality": 50},
    "LinearTransformation": {
        "transformation_matrix": torch.eye(768).tolist(),
        "mean_vector": [0.0] * 768,
    },
    "Normalize": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
    "Pad": {"padding": 2},
    "RandomAdjustSharpness": {"sharpness_factor": 2},
    "RandomAffine": {"degrees": 30, "translate": [0.1, 0.1], "interpolation": "bilinear"},
    "RandomApply": {"transforms": "RandomInvert"},
    "RandomChoice": {"transforms": ["RandomInvert", "RandomGrayscale"]},
    "RandomCrop": {"size": 12},
    "RandomOrder": {"transforms": ["RandomInvert", "RandomGrayscale"]},
    "RandomPosterize": {"bits": 2},
    "RandomResize": {"min_size": 8, "max_size": 20},
    "RandomResizedCrop": {"size": 12, "interpolation": "nearest"},
    "RandomRotation": {"degrees": 30},
    "RandomShortestSize": {"min_size": 12},
    "RandomSolarize": {"threshold": 100},
    "Resize": {"size": 12, "interpolation": "bicubic"},
    # Not down to one pixel, at which torch's interpolation may fail.
    "ScaleJitter": {"target_size": [16, 16], "scale_range": [0.5, 2.0]},
    "SetClampingMode": {"clamping_mode": "hard"},
    "TenCrop": {"size": 8},
    "ToDtype": {"dtype": "float32", "scale": True},
    "UniformTemporalSubsample": {"num_samples": 2},
}

# Those that work on something other than one image of bytes.
FLOAT_IMAGE = {"GaussianNoise", "LinearTransformation", "Normalize"}
PIL_IMAGE = {"PILToTensor", "ToImage"}
ANNOTATED = {
    "ClampBoundingBoxes",
    "ClampKeyPoints",
    "ConvertBoundingBoxFormat",
    "RandomIoUCrop",
    "SanitizeBoundingBoxes",
    "SanitizeKeyPoints",
    "SetClampingMode",
}
SEVERAL_IMAGES = {"FiveCrop", "TenCrop"}
# It encodes by an operator that torchvision's build must have; that it is built is tested all the same.
NEEDS_OPERATORS = {"JPEG"}

ONE_IMAGE = sorted({*NAMES} - ANNOTATED - NEEDS_OPERATORS - SEVERAL_IMAGES - {"UniformTemporalSubsample"})


def built(name: str) -> Any:
    return build_component("transform", (name, PARAMS.get(name, {})), "transform")


class Images:
    """Pictures of noise in three classes, each read through a transform and then made 8 x 8."""

    def __init__(self, name: str) -> None:
        self.name = name
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randint(256, (6, 3, 16, 16), generator=generator, dtype=torch.uint8)
        self.transform = build_pipeline(
            [
                "ToPILImage" if name in PIL_IMAGE else "ToImage",
                *([["ToDtype", {"dtype": "float32", "scale": True}]] if name in FLOAT_IMAGE else []),
                [name, PARAMS.get(name, {})],
                "ToImage",
                ["ToDtype", {"dtype": "float32", "scale": True}],
                ["Resize", {"size": [8, 8]}],
                ["RGB", {}],
                "ToPureTensor",
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.images[index]), index % 3


def batches(name: str, skip: int = 0) -> list[Tensor]:
    loader: Any = DataLoader(Images(name), 3, shuffle=True)  # type: ignore[arg-type]
    return [images for images, _ in epoch_batches(ordered(loader, 3, "train"), 1, skip)]


def annotated() -> dict[str, Any]:
    size = (16, 16)
    boxes = tv_tensors.BoundingBoxes([[2, 2, 12, 12], [0, 0, 20, 8]], format="XYXY", canvas_size=size)
    return {
        "image": tv_tensors.Image(torch.zeros(3, *size, dtype=torch.uint8)),
        "boxes": boxes,
        "points": tv_tensors.KeyPoints([[3.0, 4.0], [20.0, 4.0]], canvas_size=size),
        "labels": torch.tensor([1, 2]),
    }


@pytest.mark.parametrize("name", NAMES)
def test_every_transform_is_built_by_name_as_torchvision_builds_it(name: str) -> None:
    assert type(built(name)) is getattr(v2, name)


@pytest.mark.parametrize("name", ONE_IMAGE)
def test_a_transform_of_an_image_is_used_in_an_update(name: str) -> None:
    loader: Any = DataLoader(Images(name), 3)  # type: ignore[arg-type]
    with argus_core.isolated_registry(builtins=True) as registry:
        registry.register("nn_module", "flat", lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 3)))
        model = Model(
            {
                "nn_module": "flat",
                "loss": "CrossEntropyLoss",
                "optimizer": ("SGD", {"lr": 0.1}),
                "device": "cpu",
            }
        )
        before = model.nn_module[1].weight.detach().clone()
        assert model.fit(loader, num_epochs=1)["train_loss"] > 0
    assert not torch.equal(before, model.nn_module[1].weight)


@pytest.mark.parametrize("name", ONE_IMAGE)
def test_a_transform_draws_by_seed_epoch_and_index_alone(name: str) -> None:
    expected = batches(name)
    torch.manual_seed(5)
    assert all(map(torch.equal, batches(name), expected))
    assert all(map(torch.equal, batches(name, skip=1), expected[1:]))


@pytest.mark.parametrize("name", sorted(ANNOTATED))
def test_a_transform_of_annotations_is_applied_to_boxes_and_points(name: str) -> None:
    changes = []
    for transform in (built(name), getattr(v2, name)(**PARAMS.get(name, {}))):
        torch.manual_seed(0)
        changes.append(transform(annotated()))
    ours, theirs = changes
    assert ours.keys() == theirs.keys() == annotated().keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("name", sorted(SEVERAL_IMAGES))
def test_a_transform_that_cuts_an_image_gives_its_pieces(name: str) -> None:
    pieces = built(name)(torch.zeros(3, 16, 16))
    assert {tuple(piece.shape) for piece in pieces} == {(3, 8, 8)}
    assert len(pieces) == {"FiveCrop": 5, "TenCrop": 10}[name]


def test_a_transform_of_clips_takes_its_share_of_frames() -> None:
    assert built("UniformTemporalSubsample")(tv_tensors.Video(torch.zeros(8, 3, 4, 4))).shape[0] == 2


def test_a_transform_may_be_that_of_predictions(tmp_path: Path) -> None:
    with argus_core.isolated_registry(builtins=True) as registry:
        registry.register("nn_module", "same", lambda: nn.Conv2d(3, 3, 1))
        registry.register("transform", "Normalize", OURS["Normalize"].load())
        params = {"nn_module": "same", "prediction_transform": ("Normalize", PARAMS["Normalize"])}
        model = Model({**params, "device": "cpu"})
        model.save(tmp_path / "a.safetensors")
        images = torch.rand(2, 3, 4, 4)
        assert torch.equal(load_model(tmp_path / "a.safetensors").predict(images), model.predict(images))


def test_a_pipeline_in_a_pipeline_holds_transforms_of_any_package() -> None:
    pipeline = build_pipeline(
        [["Compose", {"transforms": ["ToImage", ["Compose", {"transforms": ["Sigmoid"]}]]}]]
    )
    assert torch.equal(pipeline(torch.zeros(3, 2, 2)), torch.full((3, 2, 2), 0.5))


@pytest.mark.parametrize("name", ["float16", "torch.float16", "half"])
def test_a_dtype_is_written_as_a_word(name: str) -> None:
    assert built_with("ToDtype", dtype=name)(torch.zeros(3)).dtype == torch.float16


def test_dtypes_may_differ_by_type_of_tensor() -> None:
    convert = built_with("ToDtype", dtype={"Image": "float32", "Mask": "int64", "others": None}, scale=True)
    image = convert(tv_tensors.Image(torch.full((3, 2, 2), 255, dtype=torch.uint8)))
    mask = convert(tv_tensors.Mask(torch.ones(2, 2, dtype=torch.uint8)))
    assert (image.dtype, image.max(), mask.dtype, mask.max()) == (torch.float32, 1.0, torch.int64, 1)


def test_a_policy_is_written_as_a_word() -> None:
    assert built_with("AutoAugment", policy="svhn").policy is v2.AutoAugmentPolicy.SVHN


def built_with(name: str, **params: Any) -> Any:
    return build_component("transform", (name, params), "transform")


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("ToDtype", {"dtype": "flaot32"}, "dtype is 'flaot32', which is not a dtype; did you mean 'float32'"),
        ("ToDtype", {"dtype": 32}, "dtype is 32, which is not a dtype; give one such as float32"),
        ("ToDtype", {"dtype": {"Imag": "float32"}}, "dtype has the key 'Imag'; it takes Image, Mask"),
        (
            "Resize",
            {"size": 3, "interpolation": "bilnear"},
            "'bilnear'; did you mean 'bilinear'?; choose 'near",
        ),
        ("AutoAugment", {"policy": "mnist"}, "policy is 'mnist'; choose 'imagenet', 'cifar10', 'svhn'"),
        ("RandomCrop", {}, "transform 'RandomCrop' does not take these parameters (missing a required"),
        ("Compose", {"transforms": ["ToImag"]}, "no transform named 'ToImag'; did you mean 'ToImage'"),
        (
            "Compose",
            {"transforms": [7]},
            "transform 'Compose': transforms[0] is 7; give a name or",
        ),
        ("RandomCrop", {"size": "big"}, "transform 'RandomCrop' cannot be built from (size='big'): "),
    ],
)
def test_parameters_that_are_wrong_are_told_in_a_sentence(
    name: str, params: dict[str, Any], message: str
) -> None:
    with pytest.raises(ArgusError) as error:
        built_with(name, **params)
    assert message in str(error.value)


@pytest.mark.parametrize("name", ["Lambda", "ToTensor", "Identity", "resnet18"])
def test_what_is_left_out_is_no_attribute(name: str) -> None:
    from argus_torchvision import transforms

    with pytest.raises(AttributeError, match=f"has no attribute '{name}'"):
        getattr(transforms, name)


@pytest.mark.parametrize("name", NAMES)
def test_a_transform_has_the_signature_of_its_class(name: str) -> None:
    assert inspect.signature(resolve("transform", name).load()) == inspect.signature(getattr(v2, name))


@pytest.mark.parametrize(
    ("name", "parameter"),
    [
        ("AugMix", "chain_depth"),
        ("AugMix", "mixture_width"),
        ("RandAugment", "num_ops"),
        ("RandAugment", "num_magnitude_bins"),
        ("RandomIoUCrop", "trials"),
        ("TrivialAugmentWide", "num_magnitude_bins"),
    ],
)
def test_checkpoint_chooses_no_work_without_end(name: str, parameter: str, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    params = {"nn_module": "net", "prediction_transform": (name, {parameter: 10**9}), "device": "cpu"}
    with argus_core.isolated_registry(builtins=True):
        argus_core.register("nn_module", "net", lambda: nn.Linear(2, 2))
        argus_core.register("transform", name, OURS[name].load())
        Model(params).save(path)
        with pytest.raises(
            UnsafeCheckpointError, match=f"{parameter} of transform .* numbers up to [10,]+, since"
        ):
            load_model(path)
