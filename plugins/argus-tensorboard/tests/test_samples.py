"""How samples of every sort are shown."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from argus_tensorboard.samples import add_samples, inputs_of


class Writer:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.images: dict[str, torch.Tensor] = {}
        self.texts: dict[str, str] = {}

    def add_images(self, tag: str, images: torch.Tensor, step: int) -> None:
        assert images.ndim == 4
        assert images.shape[1] in (1, 3)
        assert 0 <= images.min() <= images.max() <= 1
        self.images[tag] = images

    def add_text(self, tag: str, text: str, step: int) -> None:
        self.texts[tag] = text


def drawn(input: Any, prediction: Any, target: Any, count: int = 4) -> Writer:
    writer: Any = Writer()
    add_samples(writer, input, prediction, target, 1, count)
    return writer  # type: ignore[no-any-return]


def rows(writer: Writer) -> list[list[str]]:
    lines = writer.texts["samples/table"].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")][1:] for line in lines]


IMAGES = torch.rand(6, 3, 16, 16)


def test_a_frame_is_green_where_the_prediction_is_right() -> None:
    writer = drawn(IMAGES, torch.eye(6), torch.tensor([0, 0, 2, 0, 0, 0]))
    corners = writer.images["samples/images"][:, :, 0, 0]
    assert [int(corner.argmax()) for corner in corners] == [1, 0, 1, 0]
    assert rows(writer) == [["0", "0"], ["1", "0"], ["2", "2"], ["3", "0"]]


@pytest.mark.parametrize(
    ("prediction", "target"),
    [
        (torch.rand(6, 3, 16, 16), torch.rand(6, 3, 16, 16)),
        (torch.rand(6, 1, 16, 16), torch.randint(2, (6, 16, 16))),
        (torch.rand(6, 5, 16, 16), torch.randint(5, (6, 16, 16))),
        (torch.rand(6, 1, 16, 16), torch.randint(2, (6, 1, 16, 16)).float()),
        (torch.full((6, 1, 16, 16), float("nan")), torch.rand(6, 1, 16, 16)),
    ],
)
def test_predicted_images_stand_between_input_and_target(prediction: Any, target: Any) -> None:
    writer = drawn(IMAGES, prediction, target)
    assert writer.images["samples/input_prediction_target"].shape == (4, 3, 16, 48)
    assert not writer.texts


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float64])
def test_images_of_every_form_are_shown(channels: int, dtype: torch.dtype) -> None:
    images = (torch.rand(6, channels, 9, 7) * 255).to(dtype)
    writer = drawn(images, torch.rand(6, 4), torch.zeros(6, dtype=torch.int64))
    assert writer.images["samples/images"].shape == (4, 3, 11, 9)


def test_images_without_classes_have_no_frame() -> None:
    writer = drawn(IMAGES, torch.rand(6, 2), torch.rand(6, 2))
    assert writer.images["samples/images"].shape == (4, 3, 16, 16)
    assert len(rows(writer)) == 4


@pytest.mark.parametrize(
    ("prediction", "target", "first"),
    [
        (torch.tensor([0.25, 1e-9]), torch.tensor([1, 0]), ["0.25", "1"]),
        (torch.tensor([[0.25], [0.5]]), torch.tensor([1, 0]), ["0.25", "1"]),
        (torch.arange(20.0).reshape(2, 10), torch.zeros(2, 2), ["0, 1, 2, 3, 4, 5, 6, 7, ...", "0, 0"]),
        (["a |\n b", "c"], ["d", "e"], ["a \\| b", "d"]),
        ([{"x": 1}], ["y"], ["{'x': 1}", "y"]),
        (torch.tensor(3), None, ["3", "None"]),
        (torch.tensor([1.0], requires_grad=True), torch.tensor([2.0]), ["1", "2"]),
    ],
)
def test_whatever_is_no_image_makes_a_table(prediction: Any, target: Any, first: list[str]) -> None:
    assert rows(drawn("text", prediction, target))[0] == first


def test_the_input_is_the_first_of_a_pair() -> None:
    assert inputs_of((1, 2)) == 1
    assert inputs_of([]) == []
    assert inputs_of({"a": 1}) == {"a": 1}
