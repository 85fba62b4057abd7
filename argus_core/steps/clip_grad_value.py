"""Gradient clipping by value."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from argus_core.abstract_model import AbstractModel
from argus_core.errors import BuildError, ParamsError
from argus_core.hooks import hookimpl
from argus_core.steps.numbers import is_number
from argus_core.steps.parameters import named_parameters
from argus_core.steps.sparse import Entries, with_entries

__all__ = ["ClipGradValue"]


class ClipGradValue:
    """Gradient clipping by value: limit each entry to between ``-clip_value`` and ``clip_value``.

    g_i <- min(max(g_i, -c), c), once per update, on unscaled gradients (Mikolov 2012, "Statistical
    Language Models Based on Neural Networks", section 3.2.2). It runs before ``clip_grad_norm``, so that
    both limits hold.

    Args:
        clip_value: the largest absolute value that passes unchanged.
    """

    runs_before = ("clip_grad_norm",)

    def __init__(self, clip_value: float) -> None:
        if not is_number(clip_value) or not clip_value > 0:
            raise ParamsError(f"step 'clip_grad_value': clip_value is {clip_value!r}; give a number above 0")
        self.clip_value = float(clip_value)
        self._is_dense = True
        self._local: Callable[[Tensor], Tensor] | None = None  # of an engine of shards

    @hookimpl
    def set_up(self, model: AbstractModel) -> None:
        self._local = model.parallel.local if model.parallel.is_sharded else None
        for name, parameter in named_parameters(model).items():
            if parameter.is_complex():
                raise BuildError(
                    f"clip_grad_value limits numbers between two others, and {name!r} is complex; use "
                    "clip_grad_norm"
                )

    @hookimpl
    def transform_gradients(self, parameters: tuple[nn.Parameter, ...]) -> None:
        chosen = parameters if self._is_dense else with_entries(parameters)
        if self._local is not None:
            chosen = [Entries(self._local(each.grad)) for each in parameters if each.grad is not None]
        try:
            nn.utils.clip_grad_value_(chosen, self.clip_value)  # type: ignore[arg-type]
        except NotImplementedError:  # for a sparse gradient; clipping the others twice changes nothing
            if not self._is_dense:
                raise
            self._is_dense = False
            self.transform_gradients(parameters)
