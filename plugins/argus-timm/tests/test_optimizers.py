from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from timm.optim import create_optimizer_v2, get_optimizer_info, list_optimizers
from torch import nn

import argus_core
from argus_core import ArgusWarning, Model, ParamsError, load_model, resolve
from argus_timm.optimizers import NAMES, optimizer

INFO = {name: get_optimizer_info(name) for name in list_optimizers()}


@pytest.fixture(autouse=True)
def network() -> Iterator[None]:
    """Register a small network; kron, which compiles its updates for minutes, makes them as they are."""
    argus_core.register("nn_module", "small", _small, override=True)
    torch.compiler.set_stance("force_eager")
    yield
    torch.compiler.set_stance("default")


def _small() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))


def model(name: str, **params: Any) -> Model:
    torch.manual_seed(0)
    return Model(
        {
            "nn_module": "small",
            "loss": "CrossEntropyLoss",
            "optimizer": (name, {"lr": 0.01, **params}),
            "device": "cpu",
        }
    )


BATCHES = [
    (torch.randn(4, 6, generator=torch.Generator().manual_seed(seed)), torch.tensor([0, 1, 2, 1]))
    for seed in range(4)
]


@pytest.mark.parametrize("name", NAMES)
def test_updates_are_those_of_timms_own(name: str) -> None:
    ours = model(name, weight_decay=0.1)
    theirs = _small()
    theirs.load_state_dict(ours.nn_module.state_dict())
    expected = create_optimizer_v2(list(theirs.parameters()), name, lr=0.01, weight_decay=0.1)
    for seed, batch in enumerate(BATCHES):
        torch.manual_seed(seed)  # kron draws
        ours.train_step(batch)
        torch.manual_seed(seed)
        expected.zero_grad()
        nn.functional.cross_entropy(theirs(batch[0]), batch[1]).backward()
        expected.step()
    assert all(map(torch.equal, ours.nn_module.parameters(), theirs.parameters()))


@pytest.mark.parametrize("name", NAMES)
def test_training_goes_on_from_a_file_as_if_it_had_not_stopped(name: str, tmp_path: Path) -> None:
    whole = model(name)
    for batch in BATCHES[:2]:
        whole.train_step(batch)
    has_generator = pytest.warns(ArgusWarning, match="the checkpoint lacks 'rng_state' of Kron")
    with has_generator if name == "kron" else nullcontext():
        whole.save(tmp_path / "a.safetensors", optimizer_state=True)
    loaded = load_model(tmp_path / "a.safetensors")
    for each in (whole, loaded):
        torch.manual_seed(7)
        for batch in BATCHES[2:]:
            each.train_step(batch)
    assert all(map(torch.equal, whole.nn_module.parameters(), loaded.nn_module.parameters()))


def test_every_optimizer_that_torch_does_not_have_is_there() -> None:
    own = {
        info.opt_class
        for name, info in INFO.items()
        if not isinstance(info.opt_class, str)
        and info.opt_class.__module__.startswith("timm.")
        and not info.second_order
        and "legacy" not in info.opt_class.__name__.lower()
    }
    assert {INFO[name].opt_class for name in NAMES} == own


@pytest.mark.parametrize("name", NAMES)
def test_defaults_are_those_that_timm_uses(name: str) -> None:
    shown = inspect.signature(resolve("optimizer", name).load()).parameters
    built = create_optimizer_v2([nn.Parameter(torch.zeros(2, 2))], name, lr=0.01)
    group = built.param_groups[0]
    same = [key for key in shown if key in group and key not in ("params", "lr")]
    assert "weight_decay" in same
    for key in same:
        if shown[key].default is not None:  # which leaves it to the optimizer
            assert group[key] == shown[key].default


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_is_documented(name: str) -> None:
    factory = resolve("optimizer", name).load()
    text = inspect.getdoc(factory) or ""
    own = [*inspect.signature(factory).parameters][1:]
    assert [each for each in own if not re.search(rf"^ +{each}\b[^:\n]*:\s*\S", text, re.MULTILINE)] == []


def test_what_timm_documents_itself_stays_as_timm_says_it() -> None:
    text = inspect.getdoc(resolve("optimizer", "lamb").load()) or ""
    assert "max_grad_norm: Value used to clip global grad norm." in text
    assert "Initialize self" not in text
    assert text.count("bias_correction: ") == text.count("\n    lr: ") == 1


def test_a_variant_is_a_parameter() -> None:
    assert model("lion", caution=True).optimizer.param_groups[0]["caution"] is True


def test_a_parameter_that_an_optimizer_does_not_take_is_told() -> None:
    with pytest.raises(ParamsError, match=r"'lamb' has no parameter .*; did you mean 'weight_decay'"):
        model("lamb", weight_decai=0.1)


def test_a_name_that_timm_does_not_have_is_no_attribute() -> None:
    from argus_timm import optimizers

    with pytest.raises(AttributeError, match="has no attribute 'lambx'"):
        _ = optimizers.lambx
    assert optimizer("lamb") is optimizers.lamb
