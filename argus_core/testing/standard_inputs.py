"""Standard inputs for components whose author declares none; the first accepted input is used."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["chosen", "made", "network_inputs", "pairs", "transform_inputs"]

_BATCH = 4
_SAMPLES = 7
_CLASSES = 5


def chosen(given: Any, standard: Iterable[Any], call: Callable[[Any], Any], what: str) -> Any:
    """Return the given input, or the first standard input that ``call`` accepts.

    Args:
        given: the input that the author declares, or ``None``.
        standard: the inputs to try without it.
        call: a function that raises if an input does not fit.
        what: the name of the argument, for messages.

    Raises:
        AssertionError: no standard input fits.
        Exception: the given input does not fit.
    """
    if given is not None:
        value = made(given)
        call(copy.deepcopy(value))
        return value
    tried: list[str] = []
    last: Exception | None = None
    for candidate in standard:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # torch only warns if it broadcasts shapes
                call(copy.deepcopy(candidate))
        except Exception as error:
            tried.append(_described(candidate))
            last = error
        else:
            return candidate
    raise AssertionError(
        f"it accepts none of the standard inputs ({', '.join(tried)}; the last raised {type(last).__name__}: "
        f"{' '.join(str(last).split())[:200]}); pass {what}=..., or declare checked_with = {{'{what}': ...}} "
        "on the class"
    ) from last


def made(given: Any) -> Any:
    """Return an input: the value itself, the result of a function, or random numbers of a given shape."""
    if isinstance(given, tuple | list) and given and all(type(size) is int for size in given):
        return torch.randn(tuple(given), generator=_generator())
    return given() if callable(given) and not isinstance(given, Tensor) else given


def network_inputs(network: nn.Module) -> Iterator[Any]:
    """Yield batches: first those that fit the first layers, then vectors, images, words, volumes."""
    for module in network.modules():
        yield from _fitting(module)
    for shape in ((8,), (1, 8, 8), (3, 32, 32), (1, 28, 28), (3, 64, 64), (1, 64), (16, 8), (1, 8, 8, 8)):
        yield torch.randn(_BATCH, *shape, generator=_generator())
    yield torch.randint(2, (_BATCH, 16), generator=_generator())
    yield torch.randn(2, 3, 224, 224, generator=_generator())


def transform_inputs() -> Iterator[Tensor]:
    """Yield predictions: logits of a batch, of images, of a sequence; single numbers."""
    for shape in ((_SAMPLES, _CLASSES), (_SAMPLES, _CLASSES, 4, 6), (_SAMPLES, _CLASSES, 6), (_SAMPLES,)):
        yield torch.randn(shape, generator=_generator())


def pairs(samples: int = _SAMPLES) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield predictions and targets: classes, regression, probabilities, signs, pixels."""
    generator = _generator()
    logits = torch.randn(samples, _CLASSES, generator=generator)
    classes = torch.randint(_CLASSES, (samples,), generator=generator)
    yes_or_no = torch.randint(2, (samples, _CLASSES), generator=generator)
    # Away from 0 and 1, so that a prediction may move a little.
    probabilities = 0.1 + 0.8 * torch.rand(samples, _CLASSES, generator=generator)
    yield logits, classes
    yield probabilities, yes_or_no.float()
    yield logits, torch.randn(samples, _CLASSES, generator=generator)
    yield probabilities[:, 0], yes_or_no[:, 0].float()
    yield logits, 2.0 * yes_or_no - 1
    yield logits, yes_or_no
    pixels = torch.randn(samples, _CLASSES, 4, 6, generator=generator)
    yield pixels, torch.randint(_CLASSES, (samples, 4, 6), generator=generator)


def _fitting(module: nn.Module) -> Iterator[Tensor]:
    generator = _generator()
    match module:
        case nn.Linear():
            yield torch.randn(_BATCH, module.in_features, generator=generator)
        case nn.Conv1d() | nn.Conv2d() | nn.Conv3d():
            dimensions = len(module.kernel_size)
            for size in (32, 64, 8) if dimensions < 3 else (16,):
                yield torch.randn(_BATCH, module.in_channels, *([size] * dimensions), generator=generator)
        case nn.Embedding() | nn.EmbeddingBag():
            yield torch.randint(module.num_embeddings, (_BATCH, 16), generator=generator)
        case nn.RNNBase():
            yield torch.randn(_BATCH, 16, module.input_size, generator=generator)


def _described(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    items = value.values() if isinstance(value, Mapping) else value
    return f"({', '.join(map(_described, items))})"


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
