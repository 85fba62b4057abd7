"""Prediction over a whole loader, with metrics where targets are known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from argus_core.callbacks.callback import Callback
from argus_core.data.order import OrderedLoader, ordered
from argus_core.data.samplers import knows_of_processes
from argus_core.data.slices import Silent
from argus_core.errors import ArgusError, ParamsError
from argus_core.parallel.group import control_group
from argus_core.prediction.turns import PATIENCE
from argus_core.registry.component import BUILTIN
from argus_core.registry.spec import parse_spec, parse_specs
from argus_core.tensors.device import check_has_values
from argus_core.tensors.listing import named_tensors
from argus_core.tensors.processes import gather_to_first, is_first
from argus_core.training.exception_note import note_prediction
from argus_core.training.slicing import sliced
from argus_core.training.together import evaluating_together, share_of

if TYPE_CHECKING:
    from argus_core.callbacks.state import State
    from argus_core.model.model import Model


__all__ = ["for_evaluation", "predict_all"]

_COMPILE = ("compile", f"{BUILTIN}/compile")
_SINGLE = ("single", f"{BUILTIN}/single")


def predict_all(
    model: Model, loader: Iterable[Any], metrics: Any = None
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Return the predictions of ``model`` for every sample, in order, and the values of ``metrics``.

    Each process of a run must call it: they share each batch, and the first gets the predictions.

    Args:
        model: needs its loss only if there are metrics.
        loader: gives inputs, or pairs (input, target).
        metrics: names, specs or instances.

    Returns:
        On the CPU, ``prediction`` (for a network with several outputs ``prediction.0`` and so on) and, where
        targets are known, ``target``, nothing in a process that is not the first; and each metric's value by
        its name.

    Raises:
        ArgusError: the predictions of the batches cannot be put together.
        BuildError: the model's tensors have no values.
        ParamsError: several processes cannot share the batches of the loader.
    """
    check_has_values(model.device, "predict")
    if model.parallel.several:
        _check_sliceable(loader)
    with evaluating_together(model):
        collected = _Collected(model)
        if metrics:
            values = model.validate(loader, metrics, [collected])
            return collected.joined(), {name.removeprefix("val_"): value for name, value in values.items()}
        try:
            with model.evaluation():
                for batch in _own_batches(model, loader):
                    input, target = _split(batch)
                    collected.add(model.predict(input), target)
        except Exception as error:
            note_prediction(error, model)
            raise
        return collected.joined(), {}


def for_evaluation(params: dict[str, Any]) -> dict[str, Any]:
    """Return the params of a model that is not trained.

    They are without ``compile``, which changes only speed and rounding, and without the engine ``single``,
    which refuses several processes.
    """
    if params.get("parallel") is not None:
        engine = parse_spec("parallel", params["parallel"], "params['parallel']").name
        if engine in _SINGLE:
            params = {name: value for name, value in params.items() if name != "parallel"}
    if params.get("step") is None:
        return params
    specs = parse_specs("step", params["step"], "params['step']")
    return {**params, "step": [(spec.name, spec.params) for spec in specs if spec.name not in _COMPILE]}


def _own_batches(model: Model, loader: Iterable[Any]) -> Iterator[Any]:
    """Yield the batches of a loader, in a run of several processes this one's slice of each."""
    share = share_of(model)
    batches = ordered(loader, 0, "val", share)
    if share is None:
        yield from batches
        return
    model.parallel.begin_evaluation(model)  # type: ignore[union-attr]  # of several processes
    is_sliced = isinstance(batches, OrderedLoader) and batches.is_sliced
    for batch in batches:
        if is_sliced:
            batches.wholes.clear()  # type: ignore[attr-defined]  # facts for training
            own, is_silent = (batch.batch, True) if isinstance(batch, Silent) else (batch, False)
        else:
            own, is_silent, _ = sliced(batch, model.batch_size(batch), share, model.batch_dim)
        model.parallel.silent = [is_silent]
        yield own


def _check_sliceable(loader: Any) -> None:
    """Raise for a loader of which a process cannot read its slice.

    Raises:
        ParamsError: it is one.
    """
    is_list = isinstance(loader, list | tuple)
    if is_list or (isinstance(ordered(loader, 0, "val"), OrderedLoader) and not knows_of_processes(loader)):
        return
    name = type(getattr(loader, "dataset", loader)).__name__
    raise ParamsError(
        f"the loader to predict on ({name}) gives no batches of which each process could read its slice; "
        "give a DataLoader over a dataset with indices, without a sampler that knows of the processes, or "
        "predict in one process"
    )


class _Collected(Callback):
    """Keeps the predictions and targets of every step output; in the first process, those of all.

    Args:
        model: that predicts.
    """

    def __init__(self, model: Model) -> None:
        self.parts: dict[str, list[Tensor]] = {}
        self._is_empty = True
        self._engine = model.parallel
        self._group = control_group(PATIENCE) if self._engine.several else None

    def iteration_complete(self, state: State) -> None:
        self.add(state.step_output["prediction"], state.step_output["target"])

    def add(self, prediction: Any, target: Any) -> None:
        self._is_empty = False
        named = [*named_tensors("prediction", prediction), *named_tensors("target", target)]
        own = {name: _plain(name, value.detach()) for name, value in named}
        if self._group is not None:
            is_copied = all(self._engine.silent)
            parts = gather_to_first({} if is_copied else own, torch.device("cpu"), self._group)
        else:
            parts = [own]
        for name, part in ((name, part) for each in parts for name, part in each.items()):
            self.parts.setdefault(name, []).append(part)

    def joined(self) -> dict[str, Tensor]:
        self._group = None
        if self._is_empty or (is_first() and not self.parts):
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
