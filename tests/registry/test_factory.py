"""What a factory can ask while it is called: whether its initial values are wanted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from networks import Net
from small_runs import small_config, small_registry
from torch import nn

import argus_core
from argus_core import Model, initial_values_wanted, load_model
from argus_core.cli import main
from argus_core.config import read_config
from argus_core.registry.factory import build_component, call_factory, initial_values
from argus_core.runs.run import resume, train


class Asking:
    """Factories of parts with state, which note what they are told."""

    def __init__(self) -> None:
        self.answers: list[tuple[str, bool]] = []

    def part(self, name: str, build: Callable[..., Any]) -> Callable[..., Any]:
        def factory(**params: Any) -> Any:
            self.answers.append((name, initial_values_wanted()))
            return build(**params)

        return factory

    def told(self) -> dict[str, bool]:
        """Return what each part was told, whenever it asked, and forget it."""
        answers, self.answers = self.answers, []
        told: dict[str, set[bool]] = {}
        for name, answer in answers:
            told.setdefault(name, set()).add(answer)
        assert all(len(each) == 1 for each in told.values())
        return {name: each.pop() for name, each in told.items()}


def weighted_loss() -> nn.Module:
    return nn.CrossEntropyLoss(torch.ones(3))


@pytest.fixture
def asking(net_registry: None) -> Asking:
    asking = Asking()
    argus_core.register("nn_module", "asking", asking.part("network", lambda: nn.Linear(4, 3)))
    argus_core.register("loss", "asking", asking.part("loss", weighted_loss))
    argus_core.register("transform", "asking", asking.part("transform", lambda: nn.PReLU()))
    return asking


PARAMS = {"nn_module": "asking", "loss": "asking", "prediction_transform": "asking", "device": "cpu"}


@pytest.fixture
def path(asking: Asking, tmp_path: Path) -> Path:
    path = tmp_path / "a.safetensors"
    Model(PARAMS).save(path)
    asking.told()
    return path


def test_a_new_model_wants_initial_values(asking: Asking) -> None:
    Model(PARAMS)
    assert asking.told() == {"network": True, "loss": True, "transform": True}


def test_a_loaded_model_wants_none(asking: Asking, path: Path) -> None:
    load_model(path)
    assert asking.told() == {"network": False, "loss": False, "transform": False}


def test_a_network_that_is_loaded_after_it_was_built_wants_none(asking: Asking, path: Path) -> None:
    load_model(path, change_state_dict_func=lambda network, optimizer: (network, optimizer))
    assert asking.told()["network"] is False


def test_a_network_that_takes_the_place_of_the_saved_one_gets_its_state(asking: Asking, path: Path) -> None:
    argus_core.register("nn_module", "other", asking.part("other", lambda: nn.Linear(4, 3)))
    load_model(path, nn_module="other")
    assert asking.told()["other"] is False


def test_a_loss_that_takes_the_place_of_the_saved_one_wants_its_own(asking: Asking, path: Path) -> None:
    argus_core.register("loss", "other", asking.part("other", weighted_loss))
    load_model(path, loss="other")
    assert asking.told() == {"network": False, "other": True, "transform": False}


def test_a_model_inside_of_a_loaded_one_wants_its_own(asking: Asking, path: Path) -> None:
    def teacher() -> nn.Module:
        Model({"nn_module": "asking", "device": "cpu"})
        return nn.Linear(4, 3)

    argus_core.register("nn_module", "distilled", teacher)
    load_model(path, nn_module="distilled")
    assert asking.told()["network"] is True


def test_they_are_wanted_again_after_a_load_that_failed(path: Path) -> None:
    def fails() -> nn.Module:
        raise ValueError("no")

    argus_core.register("nn_module", "fails", fails)
    with pytest.raises(argus_core.BuildError, match="ValueError: no"):
        load_model(path, nn_module="fails")
    assert initial_values_wanted()


def test_a_part_that_is_built_by_itself_is_told(asking: Asking) -> None:
    with initial_values(wanted=False):
        build_component("nn_module", "asking", "here")
    build_component("loss", "asking", "here")
    assert asking.told() == {"network": False, "loss": True}


def test_a_run_wants_them_and_one_that_goes_on_or_is_explained_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asking = Asking()
    with small_registry():
        argus_core.register("nn_module", "net", asking.part("network", Net), override=True)
        file = small_config(tmp_path)
        result = train(read_config(file))
        assert asking.told() == {"network": True}
        resume(result.directory.path, ["num_epochs=5"])
        assert asking.told() == {"network": False}
        explained = CliRunner().invoke(main, ["explain", str(file)], catch_exceptions=False)
        assert explained.exit_code == 0
        assert asking.told() == {"network": False}


def test_factory_whose_signature_cannot_be_read_is_called() -> None:
    class Unsigned:
        @property
        def __signature__(self) -> object:
            raise RuntimeError("no signature")

        def __call__(self, gamma: float) -> float:
            return gamma * 2

    assert call_factory("loss 'focal'", Unsigned(), (), {"gamma": 2.0}) == 4.0
