"""Prediction over a whole loader, with metrics where targets are known."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from argus_core.callbacks.callback import Callback
from argus_core.data.order import ordered
from argus_core.errors import ArgusError
from argus_core.registry.component import BUILTIN
from argus_core.registry.spec import parse_specs
from argus_core.tensors.device import check_has_values
from argus_core.tensors.listing import named_tensors
from argus_core.training.exception_note import note_prediction

if TYPE_CHECKING:
    from argus_core.callbacks.state import State
    from argus_core.model.model import Model

from argus_core.tensors.single_process import check_single_process

__all__ = ["predict_all", "without_compile"]

_COMPILE = ("compile", f"{BUILTIN}/compile")


def predict_all(
    model: Model, loader: Iterable[Any], metrics: Any = None
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Return the predictions of ``model`` for every sample, in order, and the values of ``metrics``.

    Args:
        model: needs its loss only if there are metrics.
        loader: gives inputs, or pairs (input, target).
        metrics: names, specs or instances.

    Returns:
        On the CPU, ``prediction`` (for a network with several outputs ``prediction.0`` and so on) and, where
        targets are known, ``target``; and each metric's value by its name.

    Raises:
        ArgusError: the predictions of the batches cannot be put together.
        BuildError: the model's tensors have no values.
    """
    check_single_process("argus predict")
    check_has_values(model.device, "predict")
    collected = _Collected()
    if metrics:
        values = model.validate(loader, metrics, [collected])
        return collected.joined(), {name.removeprefix("val_"): value for name, value in values.items()}
    try:
        with model.evaluation():
            for batch in ordered(loader, 0, "val"):
                input, target = _split(batch)
                collected.add(model.predict(input), target)
    except Exception as error:
        note_prediction(error, model)
        raise
    return collected.joined(), {}


def without_compile(params: dict[str, Any]) -> dict[str, Any]:
    """Return a model's params without ``compile``, which changes only speed and rounding."""
    if params.get("step") is None:
        return params
    specs = parse_specs("step", params["step"], "params['step']")
    return {**params, "step": [(spec.name, spec.params) for spec in specs if spec.name not in _COMPILE]}


class _Collected(Callback):
    """Keeps the predictions and targets of every step output."""

    def __init__(self) -> None:
        self.parts: dict[str, list[Tensor]] = {}

    def iteration_complete(self, state: State) -> None:
        self.add(state.step_output["prediction"], state.step_output["target"])

    def add(self, prediction: Any, target: Any) -> None:
        for name, value in [*named_tensors("prediction", prediction), *named_tensors("target", target)]:
            self.parts.setdefault(name, []).append(_plain(name, value.detach()))

    def joined(self) -> dict[str, Tensor]:
        if not self.parts:
            raise ArgusError("the loader gave no batches; give it data to predict on")
        try:
            return {name: torch.cat(parts) for name, parts in self.parts.items()}
        except RuntimeError as error:
            raise ArgusError(
                f"the predictions of the batches cannot be concatenated ({error}); predict batch by "
                "batch with model.predict"
            ) from error


def _plain(name: str, tensor: Tensor) -> Tensor:
    """Return a tensor on the CPU in a form that files can hold.

    Raises:
        ArgusError: files cannot hold it; raised at the first batch.
    """
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_nested:
        sort = "quantized" if tensor.is_quantized else "nested" if tensor.is_nested else str(tensor.layout)
        raise ArgusError(
            f"{name} is a {sort.removeprefix('torch.')} tensor, and a file holds dense tensors only; "
            "choose a prediction_transform that makes it dense"
        )
    plain = tensor.cpu().resolve_conj().resolve_neg()
    return plain.to(torch.complex64) if plain.dtype is torch.complex32 else plain


def _split(batch: Any) -> tuple[Any, Any]:
    """Return a batch's input, and its target or None."""
    if isinstance(batch, list | tuple) and len(batch) in (1, 2):
        return batch[0], batch[1] if len(batch) == 2 else None
    return batch, None
