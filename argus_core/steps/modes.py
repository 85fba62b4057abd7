"""Training and evaluation mode of a model's modules, some of which stay in evaluation mode."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from torch import nn

from argus_core.abstract_model import AbstractModel
from argus_core.steps.parameters import module_parts

__all__ = ["Modes"]


class Modes:
    """Training and evaluation mode of a model's network and loss, with the mode of each submodule restored.

    `train` restores the mode that a submodule had when training last ended. Submodules that a network's own
    ``train()`` puts in evaluation mode follow that method each time.

    Args:
        model: built; submodules that its network and loss have put in evaluation mode stay in it.
    """

    def __init__(self, model: AbstractModel) -> None:
        self._asleep: list[nn.Module] = []  # in evaluation mode while the model trains
        self._held: list[nn.Module] = []  # put there by a step strategy, for now
        self._decided: list[nn.Module] = []  # put there by a module's own train()
        self._decides = any(map(_overrides_train, _modules(model)))
        if self._decides and model.nn_module.training:
            self.train(model)

    def train(self, model: AbstractModel) -> None:
        """Put a model in training mode, except for the submodules that stay in evaluation mode."""
        if model.nn_module.training:
            if not self._decides:
                return
            self._note(model)
        _set(model, True)
        if self._decides:
            self._decided = [module for module in _modules(model) if not module.training]
            decided = set(map(id, self._decided))
            self._asleep = [module for module in self._asleep if id(module) not in decided]
        for module in (*self._asleep, *self._held):
            module.training = False

    def hold(self, model: AbstractModel, modules: Sequence[nn.Module]) -> None:
        """Keep these modules in evaluation mode in training, and no longer those of the last call."""
        if not modules and not self._held:
            return
        if model.nn_module.training:
            self._note(model)
        before, self._held = self._held, list(modules)
        if model.nn_module.training:
            self._apply([*before, *modules])

    def eval(self, model: AbstractModel) -> None:
        """Put a model in evaluation mode."""
        if model.nn_module.training:
            self._note(model)
        _set(model, False)

    def state(self, model: AbstractModel) -> dict[str, list[str]]:
        """Return, by slot, the submodules whose mode in training differs from their parent module's."""
        if model.nn_module.training:
            self._note(model)
        asleep = set(map(id, self._asleep))
        return {slot: [*_turns(root, asleep)] for slot, root in module_parts(model)}

    def load_state(self, model: AbstractModel, state: Mapping[str, Sequence[str]]) -> None:
        """Restore the modes that `state` returned; names of missing modules have no effect."""
        if model.nn_module.training:
            self._note(model)
        if not (self._asleep or self._decided or any(state.values())):
            return  # most networks: all submodules train, before and after
        for slot, root in module_parts(model):
            if slot in state:
                own = set(map(id, root.modules()))
                asleep = [module for module in self._asleep if id(module) not in own]
                self._asleep = [*asleep, *_sleepers(root, frozenset(state[slot]))]
        if model.nn_module.training:
            self._apply(_modules(model))

    def _apply(self, modules: Iterable[nn.Module]) -> None:
        """Put each module of a model that trains in its mode."""
        sleeping = set(map(id, (*self._asleep, *self._decided, *self._held)))
        for module in modules:
            module.training = id(module) not in sleeping

    def _note(self, model: AbstractModel) -> None:
        of_others = set(map(id, (*self._decided, *self._held))) - set(map(id, self._asleep))
        self._asleep = [each for each in _modules(model) if not each.training and id(each) not in of_others]


def _modules(model: AbstractModel) -> Iterator[nn.Module]:
    yield from model.nn_module.modules()
    if isinstance(model.loss, nn.Module):
        yield from model.loss.modules()


def _set(model: AbstractModel, training: bool) -> None:
    model.nn_module.train(training)
    if isinstance(model.loss, nn.Module):
        model.loss.train(training)


def _overrides_train(module: nn.Module) -> bool:
    return type(module).train is not nn.Module.train or "train" in vars(module)


def _turns(root: nn.Module, asleep: set[int]) -> Iterator[str]:
    sleeps: dict[str, bool] = {}
    for name, module in root.named_modules():
        sleeps[name] = id(module) in asleep
        if sleeps[name] != (bool(name) and sleeps[name.rpartition(".")[0]]):
            yield name


def _sleepers(root: nn.Module, turns: frozenset[str]) -> Iterator[nn.Module]:
    sleeps: dict[str, bool] = {}
    for name, module in root.named_modules():
        sleeps[name] = (bool(name) and sleeps[name.rpartition(".")[0]]) != (name in turns)
        if sleeps[name]:
            yield module
