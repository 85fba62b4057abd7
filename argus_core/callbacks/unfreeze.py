"""The step strategy `unfreeze`: parameters that begin to learn in the middle of a run."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import nn

from argus_core.abstract_model import AbstractModel
from argus_core.callbacks.callback import Callback
from argus_core.callbacks.run_length import Share, parse_share
from argus_core.callbacks.state import State
from argus_core.errors import ArgusWarning, BuildError, ParamsError
from argus_core.hooks import hookimpl
from argus_core.registry.factory import described
from argus_core.steps.layers import layer_numbers
from argus_core.steps.parameter_patterns import check_matches, is_match, patterns_of, sleeping
from argus_core.steps.parameters import named_parameters
from argus_core.steps.unfreezing import AbstractUnfreezing
from argus_core.storage.stored import COUNT, check_fits

__all__ = ["Unfreeze"]

_RULES = {"updates": COUNT, "stage": COUNT, "begin": COUNT, "length": COUNT}
_EXAMPLES = "'3ep', '500up' or '50%'"
_WHOLE = 100
_UNITS = {"ep": "epoch", "up": "update"}


class Unfreeze(AbstractUnfreezing):
    """Freezes parameters until they are due, and trains them from then on, block by block if asked to.

    The optimizer has them from the beginning, in the groups in which they would be anyway, with their rates
    and decays. Until they are due they get no gradients, no update moves them, and the optimizer keeps no
    state of them. Modules that contain only such parameters are in evaluation mode meanwhile.

    Args:
        match: a pattern of parameter names, or a list of them. It may name parameters of the option
            ``freeze``, which are then trained as well when they are due.
        after: how long they are frozen: epochs (``"3ep"``), updates that moved the weights (``"500up"``), or
            a share of the run's updates (``"50%"``).
        every: for one layer after the other, the last one first: how long after each layer the one before it
            is due, in the unit of ``after``. The layers are those of ``layer_decay``.
    """

    def __init__(self, match: str | list[str], after: str, every: str | None = None) -> None:
        patterns = patterns_of(match)
        if patterns is None:
            raise ParamsError(
                f"step 'unfreeze': match is {described(match)}; give a pattern of parameter names, or a list "
                "of them, such as 'backbone.*'"
            )
        self.match = patterns
        self.after = _share("after", after)
        self.every = None if every is None else _share("every", every)
        if self.every is not None and (self.every.unit != self.after.unit or not self.every.count):
            raise ParamsError(
                f"step 'unfreeze': after is {after!r} and every is {every!r}; give both in one unit, and "
                "every more than 0"
            )
        self._stages: list[list[str]] = []
        self._stage = self._updates = 0
        self._begin = self._length = 0  # of the run, in updates, where the shares are parts of it

    def covers(self, name: str) -> bool:
        return is_match(name, self.match)

    def held(self) -> frozenset[str]:
        return frozenset(name for names in self._stages[self._stage :] for name in names)

    def hold(self, model: AbstractModel) -> None:
        """Freeze the parameters that are not due.

        Raises:
            ParamsError: a pattern matches no parameter that could learn, or no other is left to train.
        """
        named = named_parameters(model)
        own = {name for names in self._stages for name in names}  # of the call before
        able = [name for name, each in named.items() if each.requires_grad or name in own]
        chosen = [name for name in able if self.covers(name)]
        network = model.get_nn_module()
        if not own:
            check_matches("step 'unfreeze'", self.match, network, able)
            self._check_rest(len(able) - len(chosen))
        self._stages = [chosen] if self.every is None else _by_layer(network, named, chosen)
        self._stage = min(self._stage, len(self._stages))
        self._put(model)
        if self.after.unit == "up":
            self.reach(model)

    @hookimpl
    def set_up(self, model: AbstractModel) -> None:
        self.hold(model)

    @hookimpl
    def after_update(self, model: AbstractModel, stepped: bool) -> None:
        self._updates += stepped
        if stepped and self.after.unit != "ep":
            self.reach(model)

    def begin_run(
        self, model: AbstractModel, updates: int | None, epochs: int | None, is_resumed: bool
    ) -> None:
        """Note the length of a run, of which a share may be meant; warn of what it is too short for.

        Raises:
            ParamsError: it is not known, and a share is meant.
        """
        end = epochs if self.after.unit == "ep" else updates
        if self.after.unit != "%":
            self._warn(end if end is None or is_resumed or self.after.unit == "ep" else self._updates + end)
        if self.after.unit != "%" or (is_resumed and self._length) or self._stage == len(self._stages):
            return
        if updates is None:
            raise ParamsError(
                "step 'unfreeze': after is a share of the run, whose number of updates is not known; give "
                "num_updates, or after in updates such as '500up'"
            )
        self._begin, self._length = 0 if is_resumed else self._updates, updates
        self._warn(self._begin + updates)
        self.reach(model)

    def reach(self, model: AbstractModel, epoch: int = 0) -> None:
        """Train what is due after the updates so far, or at the beginning of an epoch, counting from 0."""
        done = epoch if self.after.unit == "ep" else self._updates
        stage = self._stage
        while stage < len(self._stages) and done >= self._due(stage):
            stage += 1
        if stage > self._stage:
            names = [name for each in self._stages[self._stage : stage] for name in each]
            self._stage = stage
            self._put(model)
            model.logger.info("unfreeze: %s: trained from now on", _listed(names))

    def notes(self) -> Iterator[str]:
        for index, names in enumerate(self._stages):
            state = "trained after" if index < self._stage else "frozen for"
            yield f"unfreeze: {_listed(names)}: {state} the first {self._when(index)}"

    def run_callback(self, updates: int | None, epochs: int | None) -> Callback:
        return _RunOfUnfreeze(self, updates, epochs)

    @hookimpl
    def state_dict(self) -> dict[str, Any]:
        if not self._updates and not self._stage:
            return {}
        return {
            "updates": self._updates, "stage": self._stage, "begin": self._begin, "length": self._length,
        }  # fmt: skip

    @hookimpl
    def load_state_dict(self, state: dict[str, Any]) -> None:
        check_fits(state, _RULES)
        self._updates, self._stage = state["updates"], state["stage"]
        self._begin, self._length = state["begin"], state["length"]

    def _check_rest(self, count: int) -> None:
        if not count and self.after.count:
            raise ParamsError(
                f"step 'unfreeze': match is {self.match!r}, which leaves no parameter to train in the first "
                f"{self._when(0)}; narrow its patterns"
            )

    def _warn(self, end: int | None) -> None:
        """Warn of parameters that are not due before a number of epochs or updates, at which the run ends."""
        last = math.inf if end is None else end
        late = [stage for stage in range(self._stage, len(self._stages)) if self._due(stage) >= last]
        if late:
            names = [name for stage in late for name in self._stages[stage]]
            unit = _UNITS["ep" if self.after.unit == "ep" else "up"]
            warnings.warn(
                f"step 'unfreeze': {_listed(names)} stay frozen, since they are due after "
                f"{self._when(late[0])}, and the run ends after {end} {unit}{'s' * (end != 1)}; give less in "
                "after or every, or a share of the run such as '50%'",
                ArgusWarning,
                stacklevel=5,
            )

    def _put(self, model: AbstractModel) -> None:
        """Freeze what is not due, with modules that contain nothing else, and train the rest."""
        held, named = self.held(), named_parameters(model)
        groups = getattr(model.optimizer, "param_groups", None)
        trained = None if groups is None else {id(each) for group in groups for each in group["params"]}
        for names in self._stages:
            for name in names:
                if trained is not None and id(named[name]) not in trained:
                    raise BuildError(
                        f"step 'unfreeze': the optimizer does not have {name!r}; let build_optimizer take "
                        "all of model.trainable_parameters()"
                    )
                named[name].requires_grad = name not in held  # requires_grad_() refuses lazy ones
        network = model.get_nn_module()
        own = {name for name, _ in network.named_parameters(remove_duplicate=False)}
        asleep = sleeping(network, lambda name: name in held if name in own else self.covers(name))
        model.hold_modules(list(asleep.values()))

    def _due(self, stage: int) -> int:
        """Return the number of epochs or updates after which a stage is due."""
        count = self._count(stage)
        if self.after.unit != "%":
            return round(count)
        if not self._length:  # outside of a run
            return self._updates + 1
        return self._begin + round(self._length * count / _WHOLE)

    def _count(self, stage: int) -> float:
        return self.after.count + stage * (self.every.count if self.every is not None else 0)

    def _when(self, stage: int) -> str:
        count = self._count(stage)
        if self.after.unit == "%":
            return f"{count:g}% of the run"
        return f"{count:g} {_UNITS[self.after.unit]}{'s' * (count != 1)}"


class _RunOfUnfreeze(Callback):
    """Tells the strategy of the length and the epochs of a run."""

    name = "unfreeze"
    reads_predictions = False
    computes = ()

    def __init__(self, strategy: Unfreeze, updates: int | None, epochs: int | None) -> None:
        self.strategy = strategy
        self.updates = updates
        self.epochs = epochs

    @hookimpl(tryfirst=True)
    def start(self, state: State) -> None:
        self.strategy.begin_run(state.model, self.updates, self.epochs, state.engine.is_resumed)

    @hookimpl(tryfirst=True)
    def epoch_start(self, state: State) -> None:
        self.strategy.reach(state.model, state.epoch)


def _share(argument: str, value: Any) -> Share:
    share = parse_share(value)
    if (
        share is None
        or (share.unit == "%" and share.count > _WHOLE)
        or (share.unit != "%" and share.count % 1)
    ):
        raise ParamsError(
            f"step 'unfreeze': {argument} is {described(value)}; give epochs, updates or a share of the run, "
            f"such as {_EXAMPLES}"
        )
    return share


def _listed(names: list[str]) -> str:
    return names[0] + (f" and {len(names) - 1} more" if names[1:] else "")


def _by_layer(
    network: nn.Module, named: Mapping[str, nn.Parameter], chosen: Iterable[str]
) -> list[list[str]]:
    """Return the chosen parameters of each layer that has some, the last layer first."""
    numbers, _ = layer_numbers(network, named)
    layers: dict[int, list[str]] = {}
    for name in chosen:
        layers.setdefault(numbers[name], []).append(name)
    return [layers[number] for number in sorted(layers, reverse=True)]
