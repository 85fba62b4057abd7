"""Reading into tensors that are there already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from argus_core.errors import CorruptCheckpointError
from argus_core.storage import CheckpointFile, write
from argus_core.storage.crc import CHUNK


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


def read_into(path: Path, stored: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    write(path, {"a": stored}, {})
    with CheckpointFile(path) as file:
        return file.read(into={"a": place})["a"]


@pytest.mark.parametrize("size", [5, CHUNK // 2 + 5])
def test_a_tensor_of_the_same_form_is_filled(path: Path, size: int) -> None:
    place = torch.zeros(size)
    found = read_into(path, torch.arange(float(size)), place)
    assert found is place
    assert torch.equal(place, torch.arange(float(size)))


def test_a_parameter_is_filled(path: Path) -> None:
    place = nn.Parameter(torch.zeros(3))
    assert read_into(path, torch.ones(3), place) is place
    assert place.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    "place",
    [
        torch.zeros(2, 3, 4, 5, dtype=torch.float64),
        torch.zeros(2, 3, 4, 4),
        torch.zeros(2, 3, 5, 4).transpose(2, 3),
        torch.zeros(2, 3, 4, 5).to(memory_format=torch.channels_last),
        torch.zeros(2, 3, 4, 5, device="meta"),
        torch.zeros(2, 3, 4, 5).to_sparse(),
        torch._neg_view(torch.zeros(2, 3, 4, 5)),
    ],
    ids=["dtype", "shape", "strides", "channels_last", "device", "layout", "negated"],
)
def test_a_tensor_of_another_form_is_left_alone(path: Path, place: torch.Tensor) -> None:
    stored = torch.randn(2, 3, 4, 5)
    found = read_into(path, stored, place)
    assert found is not place
    assert torch.equal(found, stored)


def test_what_is_stored_in_channels_last_is_not_put_into_other_tensors(path: Path) -> None:
    stored: Any = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    found = read_into(path, stored, torch.zeros(2, 3, 4, 5))
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_another_name_of_a_stored_tensor_gets_the_tensor_that_was_filled(path: Path) -> None:
    tensor, place = torch.randn(3), torch.zeros(3)
    write(path, {"a": tensor, "b": tensor}, {})
    with CheckpointFile(path) as file:
        assert file.read(into={"a": place})["b"] is place


def test_damage_is_named_all_the_same(path: Path) -> None:
    write(path, {"a": torch.ones(3)}, {})
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    with CheckpointFile(path) as file, pytest.raises(CorruptCheckpointError, match="tensor 'a' is damaged"):
        file.read(into={"a": torch.zeros(3)})
