"""Whatever a header and its manifest hold, nothing but the errors of a checkpoint comes out of reading it.

``tox run -e faults`` makes many more trials; docs/explanation/what-a-checkpoint-promises.md has its figures.
"""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from crafted import Header, crafted, payload_start, with_header
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import Net, batches, make_model

import argus_core
from argus_core import ArgusError, CheckpointError, load_model
from argus_core.checkpoint.contents import SavedFile
from argus_core.registry.part import KIND_OF_PART
from argus_core.storage import CheckpointFile
from argus_core.storage.encoding import decode, describe, tensor_names

ATOMS = [
    *(None, True, False, 0, 1, -1, 2**63, -(2**64), 1.5, 1e308, "", "a", "../../x", "os:system", "a" * 2000),
    *("nn/hidden.weight", "optimizer/out.bias/step", "net", "Adam", "float32", "channels_last", "00000000"),
]
TAGS = "$tuple $dict $float $int $bytes $path $dtype $device $scalar $tensor $ndarray $object".split()
PAYLOADS = [
    "inf",
    "0x1" + "0" * 5000,
    "YQ==",
    "float32",
    "cuda:7",
    "nn/out.bias",
    ["int8", 300],
    [["a", 1]],
    [],
]
VALUES = st.recursive(
    st.sampled_from(ATOMS)
    | st.builds(lambda tag, payload: {tag: payload}, st.sampled_from(TAGS), st.sampled_from(PAYLOADS)),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "lr", "state", *TAGS]), inner, max_size=2)
    ),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return the bytes of a checkpoint with all that a model has."""
    path = tmp_path_factory.mktemp("sound") / "model.safetensors"
    with argus_core.isolated_registry(builtins=True) as registry:
        registry.register("nn_module", "net", Net)
        weight = torch.tensor([1.0, 2.0, 3.0])
        model = make_model(
            loss=("CrossEntropyLoss", {"weight": weight}),
            optimizer=("Adam", {"lr": 0.1, "betas": (0.9, 0.99)}),
            prediction_transform=("Softmax", {"dim": 1}),
            step=["amp", ("accumulate", {"steps": 2})],
        )
        model.fit(batches())
        model.save(path, optimizer_state=True, run={"epoch": 1, "best": float("inf")})
    return path.read_bytes()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzzed") / "model.safetensors"


def places(tree: Any) -> list[tuple[Any, Any]]:
    """Return each container in a tree with each of its keys or indices."""
    keys = list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else []
    return [(tree, key) for key in keys] + [place for key in keys for place in places(tree[key])]


def fuzzed(sound: bytes, data: Any) -> bytes:
    """Return a checkpoint with one to three values in its manifest changed, and checksums that are right."""

    def change(header: Header, manifest: Header) -> None:
        for _ in range(data.draw(st.integers(1, 3))):
            # Not the tables of the storage alone, which are most of the manifest.
            section = data.draw(st.sampled_from(sorted(manifest)))
            where = [(manifest, section), *places(manifest[section])]
            node, key = data.draw(st.sampled_from(where))
            what = data.draw(st.sampled_from(["replace", "rename", "remove", "copy"]))
            if what == "replace":
                node[key] = copy.deepcopy(data.draw(VALUES))
            elif what == "rename" and isinstance(node, dict):
                node[str(data.draw(st.sampled_from(ATOMS)))] = node.pop(key)
            elif what == "remove":
                del node[key]
            else:
                other, place = data.draw(st.sampled_from(where))
                node[key] = copy.deepcopy(other[place])

    return crafted(sound, change)


@settings(deadline=None)
@given(data=st.data())
def test_reading_a_changed_manifest_raises_errors_of_a_checkpoint_alone(
    sound: bytes, path: Path, data: Any
) -> None:
    path.write_bytes(fuzzed(sound, data))
    try:
        with SavedFile(path) as saved:
            saved.params()
            for part in ("nn_module", "loss", "prediction_transform"):
                saved.forms(part)
                saved.module_state(part)
            saved.optimizer_outline()
            saved.optimizer_state()
        with CheckpointFile(path) as file:
            describe(file.header.manifest)
            run = file.header.manifest.get("run")
            decode(run, file.read(tensor_names(run)))
    except CheckpointError:
        return


@settings(deadline=None)
@given(data=st.data())
def test_loading_a_changed_manifest_raises_errors_with_a_reason_alone(
    sound: bytes, path: Path, data: Any
) -> None:
    path.write_bytes(fuzzed(sound, data))
    with argus_core.isolated_registry(builtins=True) as registry, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of parts of other versions, and of torch about its own parameters
        registry.register("nn_module", "net", Net)
        try:
            model = load_model(path)
        except ArgusError:
            return
    assert set(model.parts) == set(KIND_OF_PART)


@settings(deadline=None)
@given(data=st.data())
def test_reading_a_changed_header_raises_errors_of_a_checkpoint_alone(
    sound: bytes, path: Path, data: Any
) -> None:
    start = payload_start(sound)
    header = bytearray(sound[8:start])
    for _ in range(data.draw(st.integers(1, 3))):
        first = data.draw(st.integers(0, len(header)))
        last = data.draw(st.integers(first, min(len(header), first + 20)))
        header[first:last] = data.draw(
            st.binary(max_size=20) | st.sampled_from([b'"', b"\\", b"[" * 5000, b" "])
        )
    path.write_bytes(with_header(bytes(header), sound[start:]))
    if bytes(header) != sound[8:start]:
        with pytest.raises(CheckpointError), CheckpointFile(path):
            pass
