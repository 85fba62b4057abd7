"""Pictures and tables of samples with their predictions and targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.tensorboard.writer import SummaryWriter

from argus_core.authors import Window

__all__ = ["add_samples", "inputs_of"]

_RIGHT, _WRONG = (0.1, 0.7, 0.2), (0.9, 0.1, 0.1)  # red, green, blue
_FRAME = 8  # the width of an image divided by that of its frame
_SHOWN = 8  # shown numbers of a vector


def inputs_of(batch: Any) -> Any:
    """Return the input of a loader batch, or of the first one of an update with several."""
    batch = batch[0] if isinstance(batch, Window) else batch
    return batch[0] if isinstance(batch, list | tuple) and len(batch) else batch


def add_samples(
    writer: SummaryWriter, input: Any, prediction: Any, target: Any, step: int, count: int
) -> None:
    """Write pictures or a table of the first samples of a batch.

    Classified images have a green frame if the prediction is right, otherwise a red one. Predicted images are
    between input and target. All samples except predicted images are also listed in a table.
    """
    # An update of several batches has more predictions than its first batch has inputs.
    together = input, prediction, target
    count = min([count, *(len(each) for each in together if _is_batch(each))])
    input, prediction, target = (_first(each, count) for each in together)
    images = _images(input)
    pictures = [_pictures(each, images) for each in (prediction, target)]
    if images is not None and all(picture is not None for picture in pictures):
        row = torch.cat([_coloured(each) for each in (images, *pictures) if each is not None], dim=3)
        writer.add_images("samples/input_prediction_target", row, step)
        return
    predicted, right = _classes(prediction, target), target
    if images is not None:
        is_right = _is_right(predicted, right)
        framed = images if is_right is None else _framed(_coloured(images), is_right)
        writer.add_images("samples/images", framed, step)
    writer.add_text("samples/table", _table(predicted, right), step)


def _first(value: Any, count: int) -> Any:
    if isinstance(value, Tensor):
        value = value.detach()
        return value[:count].cpu() if value.ndim else value.cpu()
    return value[:count] if isinstance(value, list | tuple) else value


def _is_batch(value: Any) -> bool:
    return isinstance(value, list | tuple) or (isinstance(value, Tensor) and value.ndim > 0)


def _images(value: Any) -> Tensor | None:
    """Return images (batch, 1 or 3, height, width), float, 0 to 1, or None for other values."""
    if not isinstance(value, Tensor) or value.ndim != 4 or not value.numel() or value.is_complex():
        return None
    shown = value[:, :3] if value.shape[1] >= 3 else value[:, :1]
    shown = shown.float().nan_to_num(0, 0, 0)
    low, high = shown.min(), shown.max()
    scaled: Tensor = (shown - low) / (high - low).clamp(min=1e-12)
    return scaled


def _pictures(value: Any, images: Tensor | None) -> Tensor | None:
    """Return predicted or target images in the size of the inputs; classes of pixels are shades of grey."""
    if images is None or not isinstance(value, Tensor) or value.shape[-2:] != images.shape[-2:]:
        return None
    if value.ndim == 4 and value.shape[1] in (1, 3) and value.is_floating_point():
        return _images(value)
    if value.ndim == 4 and value.is_floating_point():
        value = value.argmax(1)
    return _images(value.unsqueeze(1)) if value.ndim == 3 else None


def _coloured(images: Tensor) -> Tensor:
    return images.expand(-1, 3, -1, -1)


def _classes(prediction: Any, target: Any) -> Any:
    """Return the most probable classes, if the target shows that the prediction is of classes."""
    both = isinstance(prediction, Tensor) and isinstance(target, Tensor)
    if both and target.ndim == 1 and prediction.ndim == 2 and not target.is_floating_point():
        return prediction.argmax(1) if prediction.shape[1] > 1 else prediction.squeeze(1)
    return prediction


def _is_right(predicted: Any, target: Any) -> Tensor | None:
    both = isinstance(predicted, Tensor) and isinstance(target, Tensor)
    if not both or predicted.shape != target.shape or predicted.is_floating_point() or predicted.ndim != 1:
        return None
    is_right: Tensor = predicted == target
    return is_right


def _framed(images: Tensor, is_right: Tensor) -> Tensor:
    """Return images with frames around them."""
    width = max(1, images.shape[-1] // _FRAME)
    colours = torch.where(is_right[:, None], torch.tensor(_RIGHT), torch.tensor(_WRONG))
    height, breadth = (size + 2 * width for size in images.shape[-2:])
    framed = colours[:, :, None, None].repeat(1, 1, height, breadth)
    framed[:, :, width:-width, width:-width] = images
    return framed


def _table(predicted: Any, target: Any) -> str:
    """Return a table in Markdown."""
    rows = zip(_rows(predicted), _rows(target), strict=False)
    lines = [f"| {number} | {_cell(one)} | {_cell(other)} |" for number, (one, other) in enumerate(rows)]
    return "\n".join(["| sample | predicted | target |", "|---|---|---|", *lines])


def _rows(value: Any) -> Sequence[Any]:
    if isinstance(value, Tensor):
        return value.tolist() if value.ndim <= 1 and value.ndim else list(value) if value.ndim else [value]
    return value if isinstance(value, list | tuple) else [value]


def _cell(value: Any) -> str:
    if isinstance(value, Tensor):
        numbers = value.flatten().tolist()
        more = ", ..." if len(numbers) > _SHOWN else ""
        return ", ".join(_cell(number) for number in numbers[:_SHOWN]) + more
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return " ".join(text.replace("|", "\\|").split())
