"""Models made of a number, by which a checkpoint can be told from another and from a mixture of both."""

from __future__ import annotations

from pathlib import Path

import torch
from networks import Net

import argus_core
from argus_core import Model, load_model

__all__ = ["load", "numbered", "run_of", "save"]

# Such a model takes 4 MB with the state of Adam: more than any of the storage's buffers.
HIDDEN = 40_000


def numbered(run: int, hidden: int = HIDDEN) -> Model:
    """Return a model whose weights, and the state of whose optimizer, are made of a number."""
    params = {"nn_module": ("net", {"hidden": hidden}), "optimizer": ("Adam", {"lr": 0.1}), "device": "cpu"}
    with argus_core.isolated_registry(builtins=True) as registry:
        registry.register("nn_module", "net", Net)
        model = Model(params)
    with torch.no_grad():
        for index, parameter in enumerate(model.nn_module.parameters()):
            values = torch.arange(parameter.numel()).reshape(parameter.shape) % 251
            parameter.copy_(values + 10 * index + run + 1)
            parameter.grad = torch.full_like(parameter, run + 1.0)
    model.optimizer.step()
    return model


def save(model: Model, path: Path) -> None:
    model.save(path, optimizer_state=True)


def load(path: Path) -> Model:
    with argus_core.isolated_registry(builtins=True) as registry:
        registry.register("nn_module", "net", Net)
        return load_model(path)


def run_of(path: Path, hidden: int = HIDDEN) -> int:
    """Return the number of the model in a checkpoint, after a look at every number in it."""
    model = load(path)
    # Adam keeps a tenth of the first gradient.
    averages = next(iter(model.optimizer.state.values()))["exp_avg"]
    run = round(averages.flatten()[0].item() * 10) - 1
    found, expected = _tensors(model), _tensors(numbered(run, hidden))
    assert len(found) == len(expected) == 4 + 4 * 3
    assert all(map(torch.equal, found, expected))
    return run


def _tensors(model: Model) -> list[torch.Tensor]:
    """Return the weights, and of each weight what Adam keeps."""
    slots = model.optimizer.state_dict()["state"]
    weights = model.nn_module.state_dict().values()
    return [*weights, *(slots[number][name] for number in sorted(slots) for name in sorted(slots[number]))]
