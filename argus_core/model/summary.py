"""A model's modules as a tree: output shapes, parameters, memory and operations.

The operations are those that `torch.utils.flop_counter` counts.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils.flop_counter import FlopCounterMode

from argus_core.abstract_model import AbstractModel
from argus_core.checkpoint.optimizer_state import is_of_torch
from argus_core.errors import BuildError, ParamsError
from argus_core.registry.factory import in_a_sentence
from argus_core.steps.composition import Composed
from argus_core.steps.explanation import group_lines, unfreezing_lines
from argus_core.tensors.batch import deep_to
from argus_core.tensors.samples import batch_size
from argus_core.text import one_line

__all__ = ["ModuleSummary", "Summary", "summarize"]

_HEADER = ("module", "output", "parameters", "share", "trainable", "dtype", "FLOPs")
_NONE = "—"
_KILO = 1000
_UNITS = ("kB", "MB", "GB", "TB")


@dataclass(frozen=True)
class ModuleSummary:
    """One module of a network.

    Attributes:
        name: its name in the network, ``""`` for the network itself.
        kind: its class.
        output: the shape of its output, such as ``"32x10"``; ``None`` without an input, or if not called.
        parameters: how many numbers it and the modules inside it learn or hold fixed; each counts once.
        trainable: how many of them require grad.
        dtypes: of its parameters.
        nbytes: of its parameters and buffers.
        flops: floating-point operations of one sample, a multiplication and an addition being two, or
            ``None`` without an input.
        is_lazy: whether it has parameters without a shape yet.
    """

    name: str
    kind: str
    output: str | None
    parameters: int
    trainable: int
    dtypes: tuple[str, ...]
    nbytes: int
    flops: int | None
    is_lazy: bool


@dataclass(frozen=True)
class Summary:
    """A model's network, module by module; ``str()`` of it is a table.

    Attributes:
        modules: the network first, then its modules in their order, each before those inside it.
        groups: of several parameter groups of the optimizer, the line that describes each.
        unfreezing: of parameters that are frozen for a part of the run, the lines that say how long.
        weights: bytes of parameters and buffers, the loss's own included.
        gradients: bytes of the gradients of an update.
        optimizer_state: bytes of the optimizer's state from its first update on, or ``None`` if unknown.
    """

    modules: Sequence[ModuleSummary]
    groups: Sequence[str]
    unfreezing: Sequence[str]
    weights: int
    gradients: int
    optimizer_state: int | None

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as plain data."""
        return asdict(self)

    def table(self, depth: int | None = None) -> str:
        """Return the modules down to a depth as a table, and the memory below it.

        Args:
            depth: 0 for the network alone; ``None`` for all.
        """
        shown = [each for each in self.modules if depth is None or _depth(each.name) <= depth]
        rows = [_HEADER, *(self._row(each) for each in shown)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
            for row in rows
        ]
        hidden = len(self.modules) - len(shown)
        if hidden:
            lines.append(f"{hidden} modules inside these are not shown")
        return "\n".join([*lines, "", *self._memory()])

    def __str__(self) -> str:
        return self.table()

    def _row(self, module: ModuleSummary) -> tuple[str, ...]:
        total = self.modules[0].parameters
        label = module.name.rpartition(".")[2]
        return (
            one_line("  " * _depth(module.name) + (f"{label} ({module.kind})" if label else module.kind)),
            module.output or _NONE,
            "not known yet" if module.is_lazy else f"{module.parameters:,}",
            f"{module.parameters / total:.1%}" if total and module.parameters else _NONE,
            _trainable(module),
            "+".join(module.dtypes) or _NONE,
            _NONE if module.flops is None else f"{module.flops:,}",
        )

    def _memory(self) -> Iterator[str]:
        yield f"weights and buffers: {_size(self.weights)}"
        yield f"gradients: {_size(self.gradients)}"
        state = self.optimizer_state
        yield f"optimizer state: {'unknown before its first update' if state is None else _size(state)}"
        yield from (*self.groups, *self.unfreezing)


def summarize(model: AbstractModel, composed: Composed, input: Any = None) -> Summary:
    """Return the summary of a model; see `Model.summary`."""
    network = model.get_nn_module()
    outputs: Mapping[str, str] = {}
    flops: Mapping[str, int] | None = None
    if input is not None:
        outputs, flops = _traced(network, deep_to(input, model.device), batch_size(input, model.batch_dim))
    modules = [
        _module(name, module, outputs.get(name), None if flops is None else flops.get(name, 0))
        for name, module in network.named_modules()
    ]
    held = [network, *([model.loss] if isinstance(model.loss, nn.Module) else [])]
    tensors = _unique(tensor for module in held for tensor in (*module.parameters(), *module.buffers()))
    trainable = [tensor for tensor in tensors if tensor.requires_grad]
    return Summary(
        modules,
        list(group_lines(model.optimizer)),
        list(unfreezing_lines(composed)),
        weights=_bytes(tensors),
        gradients=_bytes(trainable),
        optimizer_state=_state_bytes(model.optimizer),
    )


def _module(name: str, module: nn.Module, output: str | None, flops: int | None) -> ModuleSummary:
    parameters = [*module.parameters()]
    known = [each for each in parameters if not is_lazy(each)]
    return ModuleSummary(
        name,
        type(module).__name__,
        output,
        sum(each.numel() for each in known),
        sum(each.numel() for each in known if each.requires_grad),
        tuple(dict.fromkeys(str(each.dtype).removeprefix("torch.") for each in parameters)),
        _bytes(_unique([*parameters, *module.buffers()])),
        flops,
        len(known) < len(parameters),
    )


def _traced(network: nn.Module, input: Any, samples: int) -> tuple[dict[str, str], dict[str, int]]:
    """Return each module's output shape, and its operations for one sample, in one forward pass.

    The network is in evaluation mode meanwhile, and random numbers are as before afterwards.
    """
    if any(map(is_lazy, network.parameters())):
        raise ParamsError(
            "the network has lazy modules, whose first input decides their shapes; call model.predict(input) "
            "once, then model.summary(input)"
        )
    outputs: dict[str, str] = {}
    modes = {module: module.training for module in network.modules()}
    counter = FlopCounterMode(display=False)
    with ExitStack() as stack:
        for name, module in network.named_modules():
            stack.callback(module.register_forward_hook(_noting(outputs, name)).remove)
        stack.callback(_restore_modes, modes)
        network.eval()
        stack.enter_context(torch.random.fork_rng())
        stack.enter_context(torch.no_grad())
        stack.enter_context(counter)
        stack.enter_context(
            in_a_sentence(
                BuildError,
                lambda: f"the network failed on an input of {_shape(input)}",
                "give a batch as the network takes it",
            )
        )
        network(input)
    flops: defaultdict[str, int] = defaultdict(int)
    root = type(network).__name__
    for label, operations in counter.get_flop_counts().items():
        if label == root or label.startswith(f"{root}."):
            flops[label[len(root) + 1 :]] = sum(operations.values()) // max(samples, 1)
    return outputs, flops


def _noting(outputs: dict[str, str], name: str) -> Callable[[nn.Module, Any, Any], None]:
    def note(module: nn.Module, args: Any, output: Any) -> None:
        outputs.setdefault(name, _shape(output))

    return note


def _restore_modes(modes: Mapping[nn.Module, bool]) -> None:
    for module, training in modes.items():
        module.training = training


def _shape(output: Any) -> str:
    if isinstance(output, Tensor):
        return "x".join(map(str, output.shape)) or "1"
    if isinstance(output, Mapping):
        return ", ".join(f"{key}: {_shape(value)}" for key, value in output.items())
    if isinstance(output, list | tuple):
        return ", ".join(map(_shape, output))
    return type(output).__name__


def _state_bytes(optimizer: Any) -> int | None:
    if optimizer is None:
        return 0
    state = optimizer.state or _state_after_an_update(optimizer)
    if state is None:
        return None
    values = (value for entries in state.values() for value in entries.values())
    return _bytes(_unique(value for value in values if isinstance(value, Tensor)))


def _state_after_an_update(optimizer: Any) -> Mapping[Any, Any] | None:
    """Return the state that torch's own optimizers will have, on tensors that take no memory."""
    if not is_of_torch(optimizer):
        return None
    groups = []
    for group in optimizer.param_groups:
        options = {**group, **{name: False for name in ("foreach", "fused", "capturable") if name in group}}
        empty = [
            nn.Parameter(torch.empty_like(each, device="meta"), each.requires_grad)
            for each in group["params"]
        ]
        groups.append({**options, "params": empty})
    try:
        trial = type(optimizer)(groups)
        for parameter in chain.from_iterable(group["params"] for group in groups):
            if parameter.requires_grad:  # those that unfreeze holds get no state before they are due
                parameter.grad = torch.empty_like(parameter)
        trial.step()
    except Exception:  # some need a closure, or values
        return None
    return cast("Mapping[Any, Any]", trial.state)


def _unique(tensors: Iterable[Tensor]) -> list[Tensor]:
    return list({id(each): each for each in tensors}.values())


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(0 if is_lazy(each) else each.numel() * each.element_size() for each in tensors)


def _depth(name: str) -> int:
    return name.count(".") + 1 if name else 0


def _trainable(module: ModuleSummary) -> str:
    if not module.parameters:
        return _NONE
    if module.trainable in (0, module.parameters):
        return "yes" if module.trainable else "no"
    return f"{module.trainable / module.parameters:.1%}"


def _size(nbytes: int) -> str:
    if nbytes < _KILO:
        return f"{nbytes} bytes"
    power = min(int(math.log(nbytes, _KILO)), len(_UNITS))
    return f"{nbytes / _KILO**power:.1f} {_UNITS[power - 1]}"
