"""A model from a file is built by an ordinary call of its class, with options that its parts do not see."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import PARAMS, Net, make_model, same_weights
from torch import nn

import argus_core
from argus_core import Model, UnsafeCheckpointError, load_model
from argus_core.model.build_options import BuildOptions
from argus_core.registry.factory import initial_values_wanted
from argus_core.registry.file_params import Source

pytestmark = pytest.mark.usefixtures("net_registry")


class Wanting(nn.Linear):
    """A loss, or a part of one, that notes whether its initial values are wanted."""

    def __init__(self) -> None:
        super().__init__(3, 3)
        self.wanted = initial_values_wanted()

    def forward(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return super().forward(prediction).mean()


def test_options_hold_for_the_parts_of_one_model_and_not_for_models_in_them() -> None:
    class Distilling(Wanting):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Model(PARAMS | {"loss": "wanting"})

    argus_core.register("loss", "wanting", Wanting)
    argus_core.register("loss", "distilling", Distilling)
    options = BuildOptions(overwritten=frozenset(["loss"]))
    model = options.build(Model, PARAMS | {"loss": "distilling"})
    assert (model.loss.wanted, model.loss.inner.loss.wanted) == (False, True)
    assert Model(PARAMS | {"loss": "wanting"}).loss.wanted


def test_options_hold_for_the_model_and_not_for_one_that_its_class_builds_first() -> None:
    class Teaching(Model):
        def __init__(self, params: Any) -> None:
            self.teacher = Model(params)
            super().__init__(params)

    argus_core.register("loss", "wanting", Wanting)
    options = BuildOptions(overwritten=frozenset(["loss"]))
    model = options.build(Teaching, PARAMS | {"loss": "wanting"})
    assert (model.loss.wanted, model.teacher.loss.wanted) == (False, True)


def test_options_are_gone_after_a_failed_build() -> None:
    argus_core.register("loss", "wanting", Wanting)
    with pytest.raises(argus_core.UnknownNameError, match="no optimizer named 'none'"):
        BuildOptions(overwritten=frozenset(["loss"])).build(Model, PARAMS | {"optimizer": "none"})
    assert Model(PARAMS | {"loss": "wanting"}).loss.wanted
    assert BuildOptions.take() == BuildOptions()


def test_a_class_with_a_new_method_of_its_own_is_loaded(tmp_path: Path) -> None:
    class Counted(Model):
        made: list[dict[str, Any]] = []

        def __new__(cls, params: Any) -> Counted:
            cls.made.append(params)
            return super().__new__(cls, params)

    model = Counted(PARAMS)
    model.save(tmp_path / "model.safetensors")
    loaded = load_model(tmp_path / "model.safetensors")
    assert same_weights(model, loaded)
    assert Counted.made == [PARAMS, loaded.params]


def test_the_components_of_a_loaded_model_stay_those_of_its_file(tmp_path: Path) -> None:
    make_model().save(tmp_path / "model.safetensors")
    loaded = load_model(tmp_path / "model.safetensors")
    argus_core.register("nn_module", "net", nn.Identity, override=True)
    for model in (loaded, copy.copy(loaded)):
        part = model.choose_parts()["nn_module"]
        assert part is not None
        assert part.factory is Net


def test_a_loaded_model_does_not_hold_its_file(tmp_path: Path) -> None:
    make_model().save(tmp_path / "model.safetensors")
    options = load_model(tmp_path / "model.safetensors")._build_options
    assert (options.source, options.restore_network, options.limit) == (None, None, None)
    assert options.bindings


def test_the_source_of_params_ends_with_the_build() -> None:
    options = BuildOptions(source=Source("model.safetensors", is_checkpoint=True))
    with pytest.raises(UnsafeCheckpointError, match="a checkpoint may choose"):
        options.build(Model, PARAMS | {"step": ("compile", {"backend": "own"})})
    with pytest.raises(argus_core.BuildError, match="backend 'own'"):
        Model(PARAMS | {"step": ("compile", {"backend": "own"})}).window_size()
