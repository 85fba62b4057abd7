"""A state that does not fit is refused with what differs, and with what has likely made it differ."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from small_runs import small_registry
from torch import nn

from argus_core import Model, load_model
from argus_core.checkpoint.module_state import check_module_forms, form_of
from argus_core.errors import StateMismatchError

DTYPE = "call torch.set_default_dtype"


@pytest.fixture(autouse=True)
def default_dtype() -> Iterator[None]:
    before = torch.get_default_dtype()
    yield
    torch.set_default_dtype(before)


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


def forms(module: nn.Module) -> dict[str, str]:
    return {name: form_of(value) for name, value in module.state_dict().items()}


def refusal(built: nn.Module, stored: dict[str, str]) -> str:
    with pytest.raises(StateMismatchError) as caught:
        check_module_forms(built, stored, "nn_module 'net'")
    return str(caught.value)


@pytest.mark.parametrize(("then", "now"), [("float64", "float32"), ("float32", "float64")])
def test_another_default_dtype_is_named_as_the_likely_cause(then: str, now: str) -> None:
    torch.set_default_dtype(getattr(torch, then))
    stored = forms(network())
    torch.set_default_dtype(getattr(torch, now))
    message = refusal(network(), stored)
    assert f"'0.weight' is {then}[2, 3] in the file and {now}[2, 3] in what was built" in message
    assert message.endswith(
        f"; torch's default dtype was likely {then} when it was built: it is {now} here; "
        f"call torch.set_default_dtype(torch.{then}) before, or give change_state_dict_func"
    )
    torch.set_default_dtype(getattr(torch, then))
    check_module_forms(network(), stored, "nn_module 'net'")  # the advice holds


@pytest.mark.parametrize(
    "others",
    [
        {"new": "float64[2]"},
        {"0.weight": "float64[2, 4]"},
        {"0.weight": "float16[2, 3]"},
        {"0.weight": "int64[2, 3]"},
        {"1.num_batches_tracked": "int32[]"},
    ],
)
def test_other_differences_are_not_put_down_to_the_default_dtype(others: dict[str, str]) -> None:
    torch.set_default_dtype(torch.float64)
    stored = {**forms(network()), **others}
    torch.set_default_dtype(torch.float32)
    message = refusal(network(), stored)
    assert DTYPE not in message
    assert message.endswith("or give change_state_dict_func")


def test_a_dtype_that_cannot_be_the_default_is_not_put_down_to_it() -> None:
    stored = {name: form.replace("float32", "float8_e4m3fn") for name, form in forms(network()).items()}
    assert DTYPE not in refusal(network(), stored)


def test_a_network_that_was_converted_is_not_put_down_to_the_default_dtype() -> None:
    assert DTYPE not in refusal(network().half(), forms(network()))


def test_load_model_names_the_default_dtype(tmp_path: Path) -> None:
    torch.set_default_dtype(torch.float64)
    with small_registry():
        params = {"nn_module": ("net", {}), "loss": "MSELoss", "optimizer": "SGD", "device": "cpu"}
        Model(params).save(tmp_path / "a.safetensors")
        torch.set_default_dtype(torch.float32)
        with pytest.raises(StateMismatchError, match=r"call torch\.set_default_dtype\(torch\.float64\)"):
            load_model(tmp_path / "a.safetensors", device="cpu")
