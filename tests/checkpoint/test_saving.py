"""What save writes: names, versions, providers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import Net, make_model
from torch import nn

from argus_core import Model
from argus_core.errors import ArgusWarning
from argus_core.storage import CheckpointFile

pytestmark = pytest.mark.usefixtures("net_registry")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


def test_an_unregistered_class_warns_once_at_save_and_says_how_to_register(path: Path) -> None:
    class Choice(Model):
        nn_module = {"small": nn.Linear, "net": Net}

    model = Choice({"nn_module": ("small", {"in_features": 2, "out_features": 1}), "device": "cpu"})
    with pytest.warns(
        ArgusWarning, match=r"nn_module 'small' will not load by name elsewhere.*argus_core.register"
    ):
        model.save(path)
    model.save(path)  # a second warning would be an error


def test_what_says_how_to_register_is_code(path: Path) -> None:
    class Local(nn.Linear):
        pass

    for factory, code in (
        (lambda: nn.Linear(2, 1), r"\('nn_module', 'factory', factory\)"),
        (Local, r"\('nn_module', 'Local', Local\)"),
    ):
        fixed = type("Fixed", (Model,), {"nn_module": staticmethod(factory)})
        params = {"in_features": 2, "out_features": 1} if factory is Local else {}
        model = fixed({"nn_module": params, "device": "cpu"})
        with pytest.warns(ArgusWarning, match=f"argus_core.register{code}, or publish"):
            model.save(path)


def test_a_class_that_some_plugin_declares_counts_as_registered(path: Path) -> None:
    class Fixed(Model):
        nn_module = Net
        optimizer = torch.optim.SGD

    Fixed({"optimizer": {"lr": 0.1}, "device": "cpu"}).save(path)
    with CheckpointFile(path) as file:
        assert file.header.manifest["components"]["optimizer"]["name"] == "argus-torch/SGD"


def test_the_manifest_holds_names_and_versions(path: Path) -> None:
    model = make_model()
    model.save(path, run={"epoch": 4, "metrics": {"val_loss": 0.5}})
    with CheckpointFile(path) as file:
        manifest = file.header.manifest
    assert manifest["schema"] == 1
    assert manifest["versions"]["torch"] == torch.__version__
    assert manifest["run"] == {"epoch": 4, "metrics": {"val_loss": 0.5}}
    loss = manifest["components"]["loss"]
    assert (loss["name"], loss["provider"]) == ("argus-torch/CrossEntropyLoss", "argus-torch")
    assert json.dumps(manifest)


def test_state_of_an_optimizer_that_a_checkpoint_lacks_is_told(path: Path) -> None:
    class Noisy(torch.optim.SGD):
        def state_dict(self) -> Any:
            return {**super().state_dict(), "generator": torch.get_rng_state()}

    class Own(Model):
        nn_module = Net
        optimizer = {"noisy": Noisy}

        warned_unregistered = True

    model = Own({"optimizer": ("noisy", {"lr": 0.1}), "device": "cpu"})
    model.save(path)
    with pytest.warns(
        ArgusWarning, match=r"the checkpoint lacks 'generator' of Noisy.state_dict\(\), because"
    ):
        model.save(path, optimizer_state=True)
