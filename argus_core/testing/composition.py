"""The composition matrix: every combination of step strategies is correct, or refused with a reason.

A combination trains a small network, and a hand-written loop (`argus_core.testing.by_hand`) trains the same
network. Weights, averaged weights, buffers, losses and predictions of every update must be equal within the
tolerance of the setting.
"""

from __future__ import annotations

import inspect
import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from argus_core.callbacks import on_iteration_complete
from argus_core.callbacks.state import State
from argus_core.errors import ArgusError, ConflictError
from argus_core.model.model import Model
from argus_core.registry.registry import names, resolve
from argus_core.steps.composition import Composed
from argus_core.steps.strategy import Strategy
from argus_core.testing.builtin import STEP_PARAMS
from argus_core.testing.by_hand import BY_HAND, Loop
from argus_core.testing.settings import LBFGS, Setting, settings

__all__ = [
    "Example",
    "check_close",
    "check_composition",
    "check_strategy",
    "compositions",
    "examples",
    "states_by_framework",
    "states_by_hand",
]

_EPOCHS = 2
_LARGEST = 4


@dataclass(frozen=True)
class Example:
    """A step strategy with its parameters in the matrix.

    Attributes:
        name: its registered name.
        params: the parameters for its factory.
    """

    name: str
    params: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def label(self) -> str:
        """Its name in test ids and messages: ``amp(bfloat16)``."""
        return f"{self.name}({self.params['dtype']})" if "dtype" in self.params else self.name

    @property
    def spec(self) -> tuple[str, dict[str, Any]]:
        """The spec that chooses it in ``params["step"]``."""
        return self.name, dict(self.params)

    def by_hand(self) -> Any:
        """Return its hand-written form, or ``None`` if it has no effect there."""
        factory = BY_HAND[self.name] if self.name in BY_HAND else resolve("step", self.name).load()
        return None if factory is None else factory(**self.params)


def examples(params: Mapping[str, Sequence[dict[str, Any]]] | None = None) -> list[Example]:
    """Return one or several examples of each registered step strategy except ``default``.

    Strategies that cannot be imported, or that need parameters, take part only if ``params`` has parameters
    for them.

    Args:
        params: a list of parameters to try, by name.
    """
    known = {**STEP_PARAMS, **(params or {})}
    found = [name for name in names("step") if name != "default"]
    return [
        Example(name, each)
        for name in found
        if name in known or _is_ready(name)
        for each in known.get(name, [{}])
    ]


def compositions(
    members: Sequence[Example], size: int = _LARGEST, containing: Example | None = None
) -> list[tuple[Example, ...]]:
    """Return every combination of at most ``size`` strategies, the empty one included.

    Args:
        members: the strategies to combine.
        size: the largest number of strategies in a combination.
        containing: if given, only combinations with this strategy are returned.
    """
    subsets = (itertools.combinations(members, length) for length in range(size + 1))
    return [subset for subset in itertools.chain(*subsets) if containing is None or containing in subset]


def check_strategy(name: str, params: Mapping[str, Any] | None = None, size: int = 3) -> dict[str, str]:
    """Check a step strategy with every combination of the others; return the refused combinations.

    The reference calls the strategy's own hooks in a hand-written loop. So this checks that the strategy
    composes, but not that its formula is right.

    Args:
        name: its registered name.
        params: the parameters for its factory.
        size: the largest number of strategies in a combination, this one included.

    Returns:
        The reason of each refused combination, by the labels of its members.

    Raises:
        AssertionError: a combination differs from the hand-written loop.
    """
    example = Example(name, dict(params or {}))
    members = [example, *(other for other in examples() if other.name != name)]
    checked = {
        "+".join(each.label for each in subset): check_composition(subset)
        for subset in compositions(members, size, containing=example)
    }
    return {labels: reason for labels, reason in checked.items() if reason is not None}


def check_composition(members: Sequence[Example], device: str = "cpu") -> str | None:
    """Check that a combination equals the hand-written loop in every setting in which that is defined.

    Args:
        members: the strategies to combine.
        device: the device of both trainings; on CUDA devices TF32 must be off, which is torch's default
            except for convolutions.

    Returns:
        The reason that the combination is refused, or ``None`` if it is not.

    Raises:
        AssertionError: the results differ; the message says where, and by how much.
    """
    listed = [each.spec for each in members]
    random.Random(len(listed)).shuffle(listed)  # the result must not depend on the order of the list
    for setting in settings(listed):
        setting = replace(setting, device=device)
        try:
            model = setting.model(listed)
        except ConflictError as error:
            return str(error)
        if setting.is_defined(model):
            _compare(setting, members, model)
    return None


def states_by_hand(setting: Setting, members: Sequence[Example]) -> dict[str, Tensor]:
    """Return the network's state after the hand-written loop, in float64, and that of evaluation."""
    return _by_hand(setting, members).states


def states_by_framework(setting: Setting, model: Model) -> dict[str, Any]:
    """Return the same after a run of `model`, as lists; ``None`` for what this process does not get."""
    with _seeded():
        model.fit(setting.batches(setting.dtype), num_epochs=_EPOCHS)
    torch.compiler.reset()
    states = _whole(model)
    with model.evaluation():
        states |= {f"evaluated {name}": value for name, value in _whole(model).items()}
    return states


def _whole(model: Model) -> dict[str, Any]:
    state = model.get_nn_module().state_dict()
    whole = {name: model.parallel.whole(value.detach()) for name, value in state.items()}
    return {name: None if value is None else value.double().tolist() for name, value in whole.items()}


def _is_ready(name: str) -> bool:
    """Return whether a strategy can be built without parameters."""
    try:
        inspect.signature(resolve("step", name).load()).bind()
    except (ArgusError, TypeError):
        return False
    return True


class _Run(NamedTuple):
    """The results of training, in float64, by name."""

    states: dict[str, Tensor]
    losses: Tensor
    predictions: list[Tensor]


def _compare(setting: Setting, members: Sequence[Example], model: Model) -> None:
    start = _copied(model)
    ours, theirs = _by_framework(setting, model), _by_hand(setting, members)
    title = f"{' + '.join(each.label for each in members) or 'default'}, {setting.label}"
    scale = 1.0
    if setting.half:
        ways = [(theirs.states[name] - value).abs().max().item() for name, value in start.items()]
        scale = max(ways)
    for name, expected in theirs.states.items():
        check_close(f"{title}: {name}", ours.states[name], expected, setting.tolerance * scale)
    size = max(theirs.losses.abs().max().item(), 1.0)
    check_close(f"{title}: losses", ours.losses, theirs.losses, setting.tolerance * size)
    for update, (own, other) in enumerate(zip(ours.predictions, theirs.predictions, strict=True)):
        check_close(f"{title}: predictions of update {update}", own, other, setting.tolerance * size)


def _by_framework(setting: Setting, model: Model) -> _Run:
    losses: list[float] = []
    predictions: list[Tensor] = []

    @on_iteration_complete
    def keep(state: State) -> None:
        losses.append(state.step_output["loss"])
        predictions.append(state.step_output["prediction"])

    with _seeded():
        model.fit(setting.batches(setting.dtype), num_epochs=_EPOCHS, callbacks=[keep])
    torch.compiler.reset()
    return _run(model, model.evaluation, losses, predictions)


def _by_hand(setting: Setting, members: Sequence[Example]) -> _Run:
    strategies = [Strategy(each.name, each.by_hand(), "by hand") for each in members]
    composed = Composed(strategy for strategy in strategies if strategy.instance is not None)
    unused = ["closure"] if setting.optimizer is LBFGS else []  # without one, a model refuses LBFGS
    loop = Loop(setting.model(unused, reference=True), composed)
    with _seeded():
        loop.fit(setting.batches(setting.reference), _EPOCHS)
    return _run(loop.model, loop.evaluation, loop.losses, loop.predictions)


@contextmanager
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        yield


def _run(model: Model, evaluation: Callable[[], Any], losses: list[float], predictions: list[Tensor]) -> _Run:
    states = _copied(model)
    with evaluation():
        states |= {f"evaluated {name}": value for name, value in _copied(model).items()}
    return _Run(
        states,
        torch.tensor(losses, dtype=torch.float64),
        [each.double().cpu() for each in predictions],
    )


def _copied(model: Model) -> dict[str, Tensor]:
    """Return a copy of the network's state, in float64 on the CPU."""
    state = model.get_nn_module().state_dict()
    return {name: value.to("cpu", torch.float64, copy=True) for name, value in state.items()}


def check_close(what: str, ours: Tensor, expected: Tensor, tolerance: float) -> None:
    """Check that a tensor equals the one of the loop by hand within an absolute tolerance."""
    assert ours.shape == expected.shape, f"{what}: shape {tuple(ours.shape)}, by hand {tuple(expected.shape)}"
    error = (ours - expected).abs().max().item() if ours.numel() else 0.0
    assert error <= tolerance, (
        f"{what}: differs by {error:.3g} from the loop by hand, allowed {tolerance:.3g}"
    )
