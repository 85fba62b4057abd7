"""Checkpoints of every schema that was ever released load for ever, with the numbers that went in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from golden import make
from same_tensors import assert_same

import argus_core
from argus_core import load_model
from argus_core.storage import CheckpointFile, manifest
from argus_core.storage.encoding import decode, tensor_names

FOLDER = Path(__file__).parents[1] / "golden"
# These are files that people have: a change of one is a change of theirs.
DIGESTS = {
    "schema-1-model.safetensors": "ec5bcc0f65ca9fa2ad85f9c39ce562618024170a834f358c12a0019fe3738ef3",
    "schema-1-tensors.safetensors": "dc6a65c7bf1dd871b294374e718dabba144519a51892bf8bcd14840e1606dae2",
}


SCHEMAS = sorted({int(name.split("-")[1]) for name in DIGESTS})


@pytest.fixture
def registry() -> Iterator[None]:
    with argus_core.isolated_registry(builtins=True) as registry:
        registry.register("nn_module", "golden", make.Golden)
        yield


def exactly_equal(one: Any, other: Any) -> bool:
    """Return whether plain data, with tensors and arrays, agree in types and values."""
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor | numpy.ndarray):
        return bool(one.dtype == other.dtype and one.shape == other.shape and (one == other).all())
    if isinstance(one, dict):
        return exactly_equal(list(one.items()), list(other.items()))
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(exactly_equal, one, other))
    return bool(one == other)


def test_every_schema_has_its_files() -> None:
    assert list(range(1, manifest.SCHEMA + 1)) == SCHEMAS
    assert {path.name for path in FOLDER.glob("*.safetensors")} == set(DIGESTS)


@pytest.mark.parametrize("name", DIGESTS)
def test_file_is_never_written_again(name: str) -> None:
    assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == DIGESTS[name]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_tensors_of_every_dtype_and_layout_load(schema: int) -> None:
    with CheckpointFile(FOLDER / f"schema-{schema}-tensors.safetensors") as file:
        found, expected = file.read(), make.tensors()
        aliases = file.header.aliases
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert_same(found[name], tensor)
        if "channels_last" in name:
            assert found[name].stride() == tensor.stride()
    assert aliases == {"tied/other": "tied/one"}


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize("schema", SCHEMAS)
def test_model_loads_with_its_optimizer(schema: int) -> None:
    loaded, expected = load_model(FOLDER / f"schema-{schema}-model.safetensors"), make.model()
    assert exactly_equal(loaded.params, expected.params)
    assert exactly_equal(dict(loaded.nn_module.state_dict()), dict(expected.nn_module.state_dict()))
    assert exactly_equal(loaded.optimizer.state_dict(), expected.optimizer.state_dict())
    assert exactly_equal(loaded.loss.weight, expected.loss.weight)
    assert [part.name for part in loaded.step_parts] == ["amp", "accumulate"]
    assert loaded.nn_module.second.weight is loaded.nn_module.first.weight


@pytest.mark.parametrize("schema", SCHEMAS)
def test_plain_data_of_every_kind_come_back(schema: int) -> None:
    with CheckpointFile(FOLDER / f"schema-{schema}-model.safetensors") as file:
        encoded = file.header.manifest["run"]
        assert exactly_equal(decode(encoded, file.read(tensor_names(encoded))), make.plain())


@pytest.mark.usefixtures("registry")
def test_file_of_an_old_schema_loads_through_a_chain_of_migrations(monkeypatch: pytest.MonkeyPatch) -> None:
    def rename(old: dict[str, Any]) -> dict[str, Any]:
        network = {"$tuple": ["golden", {"width": 4}]}
        return {**old, "params": {**old["params"], "nn_module": network}}

    def rename_back(old: dict[str, Any]) -> dict[str, Any]:
        assert old["schema"] == 2
        width = old["params"]["nn_module"]["$tuple"][1]["width"]
        network = {"$tuple": ["golden", {"size": width}]}
        return {**old, "params": {**old["params"], "nn_module": network}, "note": "from 2"}

    monkeypatch.setattr(manifest, "SCHEMA", 3)
    monkeypatch.setitem(manifest.MIGRATIONS, 1, rename)
    monkeypatch.setitem(manifest.MIGRATIONS, 2, rename_back)
    path = FOLDER / "schema-1-model.safetensors"
    with CheckpointFile(path) as file:
        assert (file.header.manifest["schema"], file.header.manifest["note"]) == (3, "from 2")
    assert exactly_equal(load_model(path).params, make.model().params)
