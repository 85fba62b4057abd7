"""Compilation of the network by torch.compile."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from argus_core.errors import ParamsError, near
from argus_core.hooks import hookimpl

if TYPE_CHECKING:
    from argus_core.model import Model

__all__ = ["Compile"]

_OPTIONS = tuple(inspect.signature(torch.compile).parameters)[1:]  # all but the model


class Compile:
    """Compiles the network's forward pass, in place: the names in its state dict stay as they are.

    Compilation happens in the first forward pass and takes from seconds to minutes; what it changes is speed
    and rounding (Ansel et al. 2024, doi:10.1145/3620665.3640366). Batches of another size, and evaluation
    after training, may compile once more.

    Args:
        **options: those of `torch.compile`: ``mode``, ``dynamic``, ``fullgraph``, ``backend``, ``options``.
    """

    runs_after = ("channels_last",)
    conflicts: ClassVar[dict[str, str]] = {
        "data_parallel": "DataParallel copies the network to each device in every forward pass"
    }

    def __init__(self, **options: Any) -> None:
        for name in options:
            if name not in _OPTIONS:
                raise ParamsError(
                    f"compile does not take {name!r}{near(name, _OPTIONS)}; "
                    f"it takes the options of torch.compile: {', '.join(_OPTIONS)}"
                )
        self.options = options

    @hookimpl
    def set_up(self, model: Model) -> None:
        module = model.get_nn_module()
        module.compile(**self.options)
        if type(module).forward.__module__.startswith("torch."):
            # torch.compile passes over torch's own classes, nn.Sequential for one, unless others call them.
            module._compiled_call_impl = torch.compile(_caller(module), **self.options)


def _caller(module: nn.Module) -> Callable[..., Any]:
    return lambda *args, **kwargs: module._call_impl(*args, **kwargs)  # type: ignore[no-untyped-call]
