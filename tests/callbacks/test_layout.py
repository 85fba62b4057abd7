"""What a run changes in its model so that its checkpoints cannot be resumed is told at the first save."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import Net, batches, make_model
from torch import nn

import argus_core
from argus_core import Callback, Model, State
from argus_core.errors import ArgusWarning

pytestmark = pytest.mark.usefixtures("net_registry")


class FineTuned(Net):
    """Has a part that is frozen at first."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden.requires_grad_(False)


class LazyNet(nn.Sequential):
    """Gets its shapes from the first batch."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(4, 5), nn.LazyBatchNorm1d(), nn.Linear(5, 3))


@pytest.fixture(autouse=True)
def networks(net_registry: None) -> None:
    argus_core.register("nn_module", "fine_tuned", FineTuned)
    argus_core.register("nn_module", "lazy_net", LazyNet)


class Change(Callback):
    """Changes the model when the second epoch begins."""

    def __init__(self, change: Callable[[Model], Any]) -> None:
        self.change = change

    def epoch_start(self, state: State) -> None:
        if state.epoch == 1:
            self.change(state.model)


def add_group(model: Model) -> None:
    hidden = model.nn_module.hidden.requires_grad_(True)
    model.optimizer.add_param_group({"params": list(hidden.parameters()), "lr": 0.01})


def replace_optimizer(model: Model) -> None:
    model.optimizer = torch.optim.Adam(model.nn_module.out.parameters())


def merge_groups(model: Model) -> None:
    model.optimizer.param_groups = [
        {**model.optimizer.param_groups[0], "params": [parameter]}
        for parameter in model.nn_module.out.parameters()
    ]


def add_module(model: Model) -> None:
    model.nn_module.head = nn.Linear(3, 3)


def widen(model: Model) -> None:
    model.nn_module.register_buffer("table", torch.ones(2))


CHANGES: list[tuple[Callable[[Model], Any], str]] = [
    (
        add_group,
        r"the optimizer has other parameters .* \('hidden.bias', 'hidden.weight'\), so the checkpoint can",
    ),
    (merge_groups, r"the optimizer has other parameters .* \(1 groups were 2\), so the checkpoint cannot be"),
    (
        replace_optimizer,
        "the run has replaced its optimizer SGD with Adam, so the checkpoint cannot be resumed",
    ),
    (
        lambda model: model.nn_module.out.bias.requires_grad_(False),
        "requires_grad of 'out.bias' has changed since",
    ),
    (
        add_module,
        r"the network has changed .* \('head.bias', 'head.weight'\), so load_model and resume, which bui",
    ),
    (widen, r"the network has changed .* \('table'\), so load_model and resume"),
]


def fit(
    folder: Path, change: Callable[[Model], Any], optimizer_state: bool = True, network: Any = "fine_tuned"
) -> None:
    keep = ("checkpoint", {"dir_path": str(folder), "optimizer_state": optimizer_state})
    make_model(nn_module=network).fit(batches(), num_epochs=4, callbacks=[keep, Change(change)])


@pytest.mark.parametrize(("change", "message"), CHANGES)
def test_it_is_told_once_at_the_first_save_that_cannot_be_resumed(
    change: Callable[[Model], Any], message: str, tmp_path: Path
) -> None:
    with pytest.warns(ArgusWarning, match=f"checkpoint: {message}") as caught:
        fit(tmp_path, change)
    assert len(caught) == 1
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize("change", [add_module, widen])
def test_a_file_that_cannot_be_loaded_at_all_is_told_of_without_the_optimizers_state_too(
    change: Callable[[Model], Any], tmp_path: Path
) -> None:
    with pytest.warns(ArgusWarning, match="the network has changed"):
        fit(tmp_path, change, optimizer_state=False)


@pytest.mark.parametrize("change", [add_group, replace_optimizer])
def test_the_optimizer_does_not_matter_where_its_state_is_not_kept(
    change: Callable[[Model], Any], tmp_path: Path
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(tmp_path, change, optimizer_state=False)


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.set_lr(0.01),
        lambda model: setattr(model, "optimizer", torch.optim.SGD(model.nn_module.out.parameters(), lr=0.1)),
        lambda model: None,
    ],
)
def test_what_a_resumed_run_can_take_is_not_told(change: Callable[[Model], Any], tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(tmp_path, change)


def test_shapes_that_come_with_the_first_batch_are_no_change(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Lazy modules")
        fit(tmp_path, lambda model: None, network="lazy_net")
