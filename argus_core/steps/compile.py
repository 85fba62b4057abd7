"""Compilation of the network by torch.compile."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import nn

from argus_core.abstract_model import AbstractModel
from argus_core.errors import BuildError, ParamsError, near
from argus_core.hooks import hookimpl
from argus_core.registry.file_params import OBJECT, FileParam

__all__ = ["Compile"]

# Inductor's options that change the compiled code, and neither name nor write files.
_HARMLESS = frozenset(
    "coordinate_descent_tuning epilogue_fusion fallback_random max_autotune max_autotune_gemm "
    "max_autotune_pointwise permute_fusion shape_padding triton.cudagraphs".split()
)

_OPTIONS = tuple(inspect.signature(torch.compile).parameters)[1:]  # all but the model


class Compile:
    """Compilation of the network's forward pass, in place: the names in its state dict do not change.

    The first forward pass compiles, which takes seconds to minutes. Compilation changes speed and rounding
    (Ansel et al. 2024, doi:10.1145/3620665.3640366). Batches of another size, and evaluation after training,
    may compile again.

    Args:
        **options: those of `torch.compile`: ``mode``, ``dynamic``, ``fullgraph``, ``backend``, ``options``.
    """

    runs_after = ("channels_last",)
    conflicts: ClassVar[dict[str, str]] = {
        "data_parallel": "DataParallel copies the network to each device in every forward pass"
    }

    file_params: ClassVar[dict[str, FileParam]] = {
        "backend": FileParam(
            "names a package whose code runs", values=("inductor", "eager", "aot_eager", "cudagraphs")
        ),
        "options": FileParam("names programs to run and folders to write", keys=_HARMLESS),
        "name": FileParam("goes to other tools under this name"),
        "shapes_spec": OBJECT,
    }

    def __init__(self, **options: Any) -> None:
        for name in options:
            if name not in _OPTIONS:
                raise ParamsError(
                    f"compile does not take {name!r}{near(name, _OPTIONS)}; "
                    f"it takes the options of torch.compile: {', '.join(_OPTIONS)}"
                )
        _check_values(options)
        self.options = options

    @hookimpl
    def set_up(self, model: AbstractModel) -> None:
        _check_backend(self.options.get("backend"))
        module = model.get_nn_module()
        try:
            module.compile(**self.options)
            if type(module).forward.__module__.startswith("torch."):
                # torch.compile skips torch's own classes, such as nn.Sequential, unless other code calls
                # them.
                module._compiled_call_impl = torch.compile(_caller(module), **self.options)
        except (RuntimeError, TypeError, ValueError) as error:  # no code has been compiled so far
            reason = " ".join(str(error).split())
            raise BuildError(f"torch.compile does not take {self.options}: {reason}; change them") from error


def _check_values(options: dict[str, Any]) -> None:
    accepted = {
        "fullgraph": ("True or False", (bool,)),
        "disable": ("True or False", (bool,)),
        "dynamic": ("True, False or None", (bool, type(None))),
        "mode": ("a string or None", (str, type(None))),
        "options": ("a dict or None", (dict, type(None))),
    }
    for name, value in options.items():
        wanted, types = accepted.get(name, ("", (object,)))
        if not isinstance(value, types):
            raise ParamsError(f"step 'compile': {name} is {value!r}; give {wanted}")
    if not isinstance(options.get("backend", ""), str) and not callable(options["backend"]):
        raise ParamsError(
            f"step 'compile': backend is {options['backend']!r}; give a backend's name, such as 'inductor'"
        )
    if options.get("mode") is not None and options.get("options") is not None:
        raise ParamsError(
            "step 'compile' has both mode and options, and a mode is a set of options; give one of them"
        )


def _check_backend(backend: Any) -> None:
    """Raise for an unknown backend; torch itself raises only in the first forward pass."""
    if isinstance(backend, str):
        from torch._dynamo import list_backends  # takes seconds, and compiling needs it anyway

        known = list_backends(None)
        if backend not in known:
            raise BuildError(
                f"compile has backend {backend!r}, which torch does not have{near(backend, known)} "
                f"({len(known)} known: {', '.join(known)})"
            )


def _caller(module: nn.Module) -> Callable[..., Any]:
    return lambda *args, **kwargs: module._call_impl(*args, **kwargs)  # type: ignore[no-untyped-call]
