"""torch's own classes are declared as entry points, all of them, and none that no torch has."""

from __future__ import annotations

import importlib
import inspect
import re
from importlib.metadata import EntryPoint, distribution

import pytest
import torch
from torch import nn, optim

from argus_core.registry.component import ADDED_IN

LEFT_OUT = {
    "loss": {
        "NLLLoss2d": "deprecated in favour of NLLLoss, which does the same",
        "AdaptiveLogSoftmaxWithLoss": "returns an (output, loss) pair: a layer rather than a loss",
    },
    "optimizer": {"Optimizer": "abstract"},
    "lr_scheduler": {"LRScheduler": "abstract"},
}


def _declared(kind: str) -> dict[str, EntryPoint]:
    entry_points = distribution("argus-torch").entry_points
    return {entry.name: entry for entry in entry_points if entry.group == f"argus_core.{kind}"}


def _classes(module: object, names: list[str]) -> set[str]:
    return {name for name in names if inspect.isclass(getattr(module, name))}


def _public(kind: str) -> set[str]:
    """Return the names of the classes of that kind which the installed torch makes public."""
    if kind == "loss":
        return set(nn.modules.loss.__all__) | {name for name in dir(nn) if name.endswith("Loss")}
    if kind == "optimizer":
        return _classes(optim, optim.__all__)
    averaging = {name for name in optim.swa_utils.__all__ if name.endswith("LR")}
    return _classes(optim.lr_scheduler, optim.lr_scheduler.__all__) | averaging


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version.partition("+")[0])[:2])


def _oldest_torch() -> tuple[int, ...]:
    requirements = distribution("argus-torch").requires or []
    return next(_release(text) for text in requirements if re.match(r"torch\b", text))


def _exists(entry: EntryPoint) -> bool:
    return hasattr(importlib.import_module(entry.module), entry.attr)


TORCH_KINDS = ("loss", "lr_scheduler", "optimizer", "transform")
TORCH_ENTRIES = [
    pytest.param(entry, id=f"{kind}-{entry.name}")
    for kind in TORCH_KINDS
    for entry in _declared(kind).values()
    if entry.module.startswith("torch.")
]


@pytest.mark.parametrize("kind", LEFT_OUT)
def test_every_public_class_is_declared_or_left_out_with_a_reason(kind: str) -> None:
    assert _public(kind) - _declared(kind).keys() == LEFT_OUT[kind].keys()


@pytest.mark.parametrize("entry", TORCH_ENTRIES)
def test_declared_name_is_the_class_itself(entry: EntryPoint) -> None:
    if not _exists(entry):
        assert _release(torch.__version__) < _release(ADDED_IN[entry.value])
        return
    factory = entry.load()
    assert inspect.isclass(factory)
    assert factory.__name__ == entry.name


@pytest.mark.parametrize("entry", [*_declared("transform").values()], ids=lambda entry: entry.name)
def test_transform_is_a_module_without_parameters_to_train(entry: EntryPoint) -> None:
    arguments = {"Unflatten": (1, (1, 2))}.get(entry.name, ())
    assert not list(entry.load()(*arguments).parameters())


@pytest.mark.parametrize(("target", "version"), ADDED_IN.items())
def test_added_in_holds_declared_targets_that_the_oldest_torch_lacks(target: str, version: str) -> None:
    assert target in {entry.values[0].value for entry in TORCH_ENTRIES}
    assert _release(version) > _oldest_torch()


def test_oldest_torch_is_read_from_the_requirements() -> None:
    assert _oldest_torch() >= (2, 10)


def test_nll_loss_2d_is_left_out_because_it_is_deprecated() -> None:
    with pytest.warns(FutureWarning, match="`NLLLoss2d` has been deprecated"):
        nn.NLLLoss2d()


def test_adaptive_softmax_is_left_out_because_it_returns_a_pair() -> None:
    layer = nn.AdaptiveLogSoftmaxWithLoss(4, 6, cutoffs=[2])
    result = layer(torch.zeros(3, 4), torch.tensor([0, 2, 5]))
    assert result._fields == ("output", "loss")


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(entry, id=f"{entry.group}-{entry.name}")
        for entry in distribution("argus-torch").entry_points
        if entry.group.startswith("argus_core.") and entry.module.partition(".")[0] == "argus_core"
    ],
)
def test_every_part_of_our_own_that_is_declared_exists(entry: EntryPoint) -> None:
    assert callable(entry.load())
