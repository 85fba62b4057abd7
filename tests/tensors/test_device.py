"""Devices: from what a user writes to devices that exist here."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from argus_core import BuildError, SpecError
from argus_core.tensors.device import resolve_devices

CPU = torch.device("cpu")


@pytest.mark.parametrize("device", ["cpu", CPU, ["cpu"], (CPU,)], ids=str)
def test_one_device_is_written_in_any_of_these_ways(device: Any) -> None:
    assert resolve_devices(device) == [CPU]


def test_meta_is_always_there() -> None:
    assert resolve_devices("meta") == [torch.device("meta")]


def test_auto_is_the_best_device_of_this_machine() -> None:
    (device,) = resolve_devices("auto")
    if torch.cuda.is_available():
        assert device == torch.device("cuda")
    elif torch.xpu.is_available():
        assert device == torch.device("xpu")
    elif torch.backends.mps.is_available():
        assert device == torch.device("mps")
    else:
        assert device == CPU


def test_auto_may_stand_in_a_list() -> None:
    assert resolve_devices(["auto"]) == resolve_devices("auto")


@pytest.mark.parametrize(
    ("device", "hint"),
    [
        ("cud", r"; did you mean 'cuda'"),
        ("gpu", r"; did you mean 'cuda'\?"),
        ("CPU", r"; did you mean 'cpu'"),
        ("cuda:-1", r"; did you mean 'cuda'\?"),
        ("cuda:first", ""),
        ("", ""),
        (None, ""),
        (1.5, ""),
        ({"cuda": 0}, ""),
        (10**30, ""),
        ([["cpu"]], ""),
    ],
    ids=str,
)
def test_what_is_no_device_is_refused_with_near_names(device: Any, hint: str) -> None:
    with pytest.raises(
        SpecError, match=rf"unknown device .*; give 'auto', 'cpu', 'cuda', 'cuda:0' or another .*{hint}"
    ):
        resolve_devices(device)


@pytest.mark.parametrize("device", ["cuda:99", ["cpu", "cuda:99"]], ids=str)
def test_a_device_that_is_not_here_says_which_are(device: Any) -> None:
    with pytest.raises(
        BuildError, match=r"device 'cuda:99' is not on this machine.*; choose from 'cpu'.* or 'auto'"
    ):
        resolve_devices(device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_without_a_cuda_device_is_refused() -> None:
    with pytest.raises(BuildError, match="device 'cuda' is not on this machine"):
        resolve_devices("cuda")


@pytest.mark.skipif(torch.version.cuda is not None, reason="this torch has CUDA")
def test_a_torch_without_cuda_is_named() -> None:
    with pytest.raises(BuildError, match=r"\(this torch is built without CUDA\); choose from 'cpu'"):
        resolve_devices("cuda")


def test_an_empty_list_is_refused() -> None:
    with pytest.raises(SpecError, match=r"params\['device'\] is an empty list; give a device such as 'auto'"):
        resolve_devices([])


@pytest.mark.parametrize("devices", [["cpu", "cpu"], ("cpu", "meta")], ids=str)
def test_several_devices_are_refused_where_data_parallel_cannot_use_them(devices: Any) -> None:
    with pytest.raises(
        BuildError, match=r"needs different CUDA devices, not \['cpu', '\w+'\]; give one device"
    ):
        resolve_devices(devices)


@pytest.mark.gpu
@pytest.mark.parametrize("devices", [["cuda:0", "cpu"], ["cuda", "cuda:0"], [0, 0]], ids=str)
def test_several_cuda_devices_differ(devices: Any) -> None:
    with pytest.raises(BuildError, match="needs different CUDA devices"):
        resolve_devices(devices)


@pytest.mark.gpu
def test_a_number_means_a_cuda_device() -> None:
    assert resolve_devices(0) == [torch.device("cuda:0")]


@pytest.mark.parametrize("device", ["cuda:255", "cuda:256", "cuda:999", "cpu:256", "meta:300"])
def test_number_that_torch_wraps_is_refused(device: Any) -> None:
    with pytest.raises(BuildError, match=f"device '{device}' is not on this machine.*; choose from"):
        resolve_devices(device)
