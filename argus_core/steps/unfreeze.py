"""Parameters that begin to learn in the middle of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from argus_core.abstract_model import AbstractModel
from argus_core.errors import BuildError, ParamsError
from argus_core.hooks import hookimpl
from argus_core.steps.layers import layers_of
from argus_core.steps.parameter_patterns import check_matches, is_match, patterns_of, sleeping
from argus_core.steps.parameters import named_parameters
from argus_core.storage.stored import COUNT, check_fits
from argus_core.tensors.durations import Duration, parse_duration

__all__ = ["Unfreeze"]

_RULES = {"updates": COUNT, "stage": COUNT}


class Unfreeze:
    """Freezes parameters until they are due, and trains them from then on, block by block if asked to.

    The optimizer has them from the beginning, in the groups in which they would be anyway, with their rates and
    decays. Without gradients nothing moves them, and they have no state. When they are due they get gradients,
    and modules that hold no others leave evaluation mode. A schedule of the rates is one for the whole run.

    Args:
        match: a pattern of parameter names, or a list of them.
        after: when they are due: epochs (``"3ep"``) or updates (``"500up"``).
        every: for one layer after the other, the last one first: how long after each layer the one before it
            is due. The layers are those of ``layer_decay``.
    """

    def __init__(self, match: str | list[str], after: str, every: str | None = None) -> None:
        patterns = patterns_of(match)
        if patterns is None:
            raise ParamsError(
                f"step 'unfreeze': match is {match!r}; give a pattern of parameter names, or a list of them, "
                "such as 'backbone.*'"
            )
        self.match = patterns
        self.after = _duration("after", after)
        self.every = None if every is None else _duration("every", every)
        if self.every is not None and self.every.unit != self.after.unit:
            raise ParamsError(
                f"step 'unfreeze': after is {after!r} and every is {every!r}; give both in epochs, or both in "
                "updates"
            )
        self._stages: list[list[str]] = []
        self._own: frozenset[str] = frozenset()  # modules that are in evaluation mode because of this strategy
        self._updates = self._stage = 0

    def hold(self, model: AbstractModel) -> None:
        """Freeze the parameters of a model that has just been built.

        Raises:
            ParamsError: a pattern matches no parameter that could be frozen, or no other is left.
        """
        named = named_parameters(model)
        trainable = {name: each for name, each in named.items() if each.requires_grad}
        network = model.get_nn_module()
        self._check_patterns(network, named, trainable)
        chosen = [name for name in trainable if is_match(name, self.match)]
        if len(chosen) == len(trainable):
            raise ParamsError(
                f"step 'unfreeze': match={self.match!r} leaves no parameter to train until {self._when(0)}; "
                "narrow its patterns"
            )
        self._stages = [chosen] if self.every is None else _by_layer(network, named, chosen)
        for name in chosen:
            named[name].requires_grad_(False)
        asleep = self._asleep(network)
        self._own = frozenset(name for name, module in asleep.items() if module.training)
        for name in self._own:
            asleep[name].training = False

    @hookimpl
    def set_up(self, model: AbstractModel) -> None:
        if self._stage:
            self._release(model)

    @hookimpl
    def after_update(self, model: AbstractModel, stepped: bool) -> None:
        self._updates += stepped
        if self.after.unit == "up":
            self._reach(model, self._updates)

    def begin_epoch(self, model: AbstractModel, epoch: int) -> None:
        """Release what is due at the beginning of an epoch, counting from 0."""
        if self.after.unit == "ep":
            self._reach(model, epoch)

    def notes(self) -> Iterator[str]:
        """Yield a line for each group of parameters that is due, or was."""
        for index, names in enumerate(self._stages):
            state = "trained since" if index < self._stage else "frozen until"
            some = names[0] + (f" and {len(names) - 1} more" if names[1:] else "")
            yield f"unfreeze: {some} {state} {self._when(index)}"

    @hookimpl
    def state_dict(self) -> dict[str, Any]:
        is_new = not self._updates and not self._stage
        return {} if is_new else {"updates": self._updates, "stage": self._stage}

    @hookimpl
    def load_state_dict(self, state: dict[str, Any]) -> None:
        check_fits(state, _RULES)
        self._updates, self._stage = state["updates"], min(state["stage"], len(self._stages))

    def _reach(self, model: AbstractModel, count: int) -> None:
        """Release the stages that are due after so many epochs or updates."""
        if count < self.after.count or self._stage == len(self._stages):
            return
        each = self.every.count if self.every is not None else 1
        due = min(1 + (count - self.after.count) // each, len(self._stages))
        if due > self._stage:
            self._stage = due
            self._release(model)

    def _release(self, model: AbstractModel) -> None:
        named = named_parameters(model)
        trained = {id(each) for group in model.optimizer.param_groups for each in group["params"]} if (
            model.optimizer is not None
        ) else None
        for names in self._stages[: self._stage]:
            for name in names:
                if trained is not None and id(named[name]) not in trained:
                    raise BuildError(
                        f"step 'unfreeze': the optimizer does not have {name!r}; build the optimizer before the "
                        "parameters are frozen"
                    )
                named[name].requires_grad_(True)
        modules = dict(model.get_nn_module().named_modules())
        still = self._asleep(model.get_nn_module())
        model.wake([modules[name] for name in self._own if name in modules and name not in still])

    def _asleep(self, network: nn.Module) -> Mapping[str, nn.Module]:
        """Return the modules that hold nothing but parameters that are not due yet."""
        held = {name for names in self._stages[self._stage :] for name in names}
        parameters = dict(network.named_parameters())
        return sleeping(network, lambda name: name in held if name in parameters else is_match(name, self.match))

    def _check_patterns(
        self, network: nn.Module, named: Mapping[str, nn.Parameter], trainable: Mapping[str, nn.Parameter]
    ) -> None:
        for pattern in self.match:
            found = [name for name in named if is_match(name, [pattern])]
            if found and not any(name in trainable for name in found):
                raise ParamsError(
                    f"step 'unfreeze': {pattern!r} matches only parameters that are frozen for the whole run; "
                    "leave them out of freeze, since the strategy freezes them itself until they are due"
                )
        check_matches("step 'unfreeze'", self.match, network, [*named])

    def _when(self, index: int) -> str:
        count = self.after.count + index * (self.every.count if self.every is not None else 0)
        return f"{count} {'epoch' if self.after.unit == 'ep' else 'update'}{'s' * (count != 1)}"


def _duration(argument: str, value: Any) -> Duration:
    duration = parse_duration(value)
    if duration is None:
        raise ParamsError(
            f"step 'unfreeze': {argument} is {value!r}; give epochs or updates, such as '3ep' or '500up'"
        )
    return duration


def _by_layer(network: nn.Module, named: Mapping[str, nn.Parameter], chosen: list[str]) -> list[list[str]]:
    """Return the chosen parameters of each layer that has some, the last layer first."""
    layer_of: dict[int, int] = {}
    for number, parameters in enumerate(layers_of(network)):
        for parameter in parameters:
            layer_of.setdefault(id(parameter), number)
    last = max(layer_of.values(), default=0)  # what only the loss has acts after it
    layers: dict[int, list[str]] = {}
    for name in chosen:
        layers.setdefault(layer_of.get(id(named[name]), last), []).append(name)
    return [layers[number] for number in sorted(layers, reverse=True)]
