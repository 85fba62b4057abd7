"""Strategies that change how the network runs and not what it computes: channels_last and compile."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import batches
from strategies import build, register_all
from torch import Tensor, nn

import argus_core
from argus_core import ConflictError, Model, ParamsError
from argus_core.steps.channels_last import ChannelsLast
from argus_core.steps.compile import Compile

EAGER = ("compile", {"backend": "eager"})


def conv() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(16, 3))


def images(sizes: tuple[int, ...] = (5, 3)) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randn(size, 2, 4, 4, generator=generator), torch.randint(3, (size,), generator=generator))
        for size in sizes
    ]


@pytest.fixture(autouse=True)
def _registry() -> Iterator[None]:
    with argus_core.isolated_registry(builtins=True):
        register_all()
        argus_core.register("nn_module", "conv", conv)
        yield
    torch.compiler.reset()


def close(one: Model, other: Model) -> bool:
    ours, theirs = one.nn_module.state_dict(), other.nn_module.state_dict()
    return list(ours) == list(theirs) and all(
        torch.allclose(ours[name], theirs[name], atol=1e-6) for name in ours
    )


@pytest.mark.parametrize("steps", [["channels_last"], [EAGER], ["channels_last", EAGER]], ids=str)
def test_the_update_and_the_names_of_the_weights_stay_the_same(steps: list[Any]) -> None:
    model, plain = build(*steps, nn_module="conv"), build(nn_module="conv")
    for each in (model, plain):
        each.fit(images(), val_loader=images(), num_epochs=2)
    assert close(model, plain)
    torch.testing.assert_close(model.predict(images()[0][0]), plain.predict(images()[0][0]))


def test_weights_and_batches_have_their_channels_last() -> None:
    seen: list[bool] = []
    model = build("channels_last", nn_module="conv")
    model.nn_module.register_forward_pre_hook(
        lambda module, inputs: seen.append(inputs[0].is_contiguous(memory_format=torch.channels_last))
    )
    model.train_step(images()[0])
    model.val_step(images()[0])
    model.predict(images()[0][0])
    assert seen == [True] * 3
    weight = model.nn_module[0].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert weight.grad.is_contiguous(memory_format=torch.channels_last)


def test_five_dimensions_have_their_own_layout_and_others_stay() -> None:
    volume, label = torch.ones(2, 3, 4, 5, 6), torch.zeros(2)
    laid_out = ChannelsLast().prepare_batch({"volume": volume, "label": label}, torch.device("cpu"))
    assert laid_out["volume"].is_contiguous(memory_format=torch.channels_last_3d)
    assert laid_out["label"] is label


def test_a_checkpoint_of_it_loads_without_it(tmp_path: Path) -> None:
    model = build("channels_last", EAGER, nn_module="conv")
    model.fit(images())
    model.save(tmp_path / "model.safetensors", optimizer_state=True)
    loaded = argus_core.load_model(tmp_path / "model.safetensors", step=None)
    assert close(loaded, model)


@pytest.mark.parametrize("network", ["conv", "net"])
def test_it_is_the_compiled_network_that_runs(network: str) -> None:
    compiled: list[Any] = []

    def backend(graph: torch.fx.GraphModule, inputs: Any) -> Any:
        compiled.append(graph)
        return graph.forward

    argus_core.register("step", "compile", lambda: Compile(backend=backend), override=True)
    model = build("compile", nn_module=network)
    model.train_step(images()[0] if network == "conv" else batches()[0])
    assert compiled


def test_a_copy_of_a_compiled_model_trains_on() -> None:
    model = build(EAGER, nn_module="conv")
    model.fit(images())
    twin = copy.deepcopy(model)
    for each in (model, twin):
        each.fit(images())
    assert close(model, twin)


def test_compile_takes_the_options_of_torch_and_no_others() -> None:
    with pytest.raises(
        ParamsError, match=r"compile does not take 'mod'; did you mean 'mode'\?; it takes the opt"
    ):
        Compile(mod="default")


def test_compile_does_not_go_with_data_parallel() -> None:
    class Spread(Model):
        def traits(self) -> set[str]:
            return super().traits() | {"data_parallel"}  # as on two CUDA devices

    with pytest.raises(
        ConflictError, match="'compile' does not go with 'data_parallel': DataParallel copies the net"
    ):
        Spread({"nn_module": "conv", "step": "compile", "device": "cpu"})


def test_channels_last_does_not_go_with_lbfgs() -> None:
    lbfgs = {"nn_module": "conv", "optimizer": ("LBFGS", {"lr": 0.1})}
    with pytest.raises(
        ConflictError, match="'channels_last' does not go with 'optimizer:LBFGS': torch's LBFGS"
    ):
        build("channels_last", "closure", **lbfgs)
