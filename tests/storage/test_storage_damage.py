"""Whatever has happened to a file, reading it raises a CheckpointError or returns what was written."""

from __future__ import annotations

import json
import os
import pickle
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from crafted import Header, crafted, payload_start
from hypothesis import given
from hypothesis import strategies as st

from argus_core.errors import (
    CheckpointError,
    CorruptCheckpointError,
    NewerCheckpointError,
    UnsafeCheckpointError,
)
from argus_core.storage import CheckpointFile, read_header, write

TENSORS = {
    "nn/weight": torch.arange(64.0).reshape(8, 8),
    "nn/bias": torch.arange(8, dtype=torch.float64),
    "nn/mask": torch.tensor([True, False, True]),
    "nn/none": torch.empty(0, 3),
}
TENSORS["nn/tied"] = TENSORS["nn/weight"]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return the bytes of a sound checkpoint."""
    path = tmp_path_factory.mktemp("sound") / "a.safetensors"
    write(path, TENSORS, {"versions": {"argus": "0.1"}, "params": {"lr": 0.5, "net": {"$tuple": ["cnn", 1]}}})
    return path.read_bytes()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


def read_all(path: Path) -> dict[str, torch.Tensor]:
    with CheckpointFile(path) as file:
        return file.read()


def read_bytes(path: Path, data: bytes) -> dict[str, torch.Tensor]:
    path.write_bytes(data)
    return read_all(path)


# Accidents


def test_sound_file_is_read(sound: bytes, path: Path) -> None:
    back = read_bytes(path, sound)
    for name, tensor in TENSORS.items():
        assert torch.equal(back[name], tensor)


def test_one_flipped_bit_in_any_byte_is_corruption(sound: bytes, path: Path) -> None:
    for index in range(len(sound)):
        data = bytearray(sound)
        data[index] ^= 1 << index % 8
        with pytest.raises(
            CorruptCheckpointError, match=r"model\.safetensors: .*(header|tensor|manifest|cut off)"
        ):
            read_bytes(path, bytes(data))


@given(data=st.data())
def test_any_flipped_bits_are_refused(sound: bytes, tmp_path_factory: Any, data: Any) -> None:
    bits = data.draw(st.lists(st.integers(0, len(sound) * 8 - 1), min_size=1, max_size=3, unique=True))
    flipped = bytearray(sound)
    for bit in bits:
        flipped[bit // 8] ^= 1 << bit % 8
    with pytest.raises(CheckpointError):
        read_bytes(tmp_path_factory.getbasetemp() / "flipped.safetensors", bytes(flipped))


def test_any_truncation_is_corruption(sound: bytes, path: Path) -> None:
    for size in range(len(sound)):
        with pytest.raises(CorruptCheckpointError, match="cut off"):
            read_bytes(path, sound[:size])


def test_truncation_names_the_first_tensor_that_is_not_whole(sound: bytes, path: Path) -> None:
    with pytest.raises(
        CorruptCheckpointError,
        match=r"the file is cut off in tensor 'nn/mask' \(1 of [\d,]+ bytes are missing\); use another copy",
    ):
        read_bytes(path, sound[:-1])


def test_bytes_after_the_last_tensor_are_corruption(sound: bytes, path: Path) -> None:
    with pytest.raises(CorruptCheckpointError, match="3 bytes follow the last tensor"):
        read_bytes(path, sound + b"abc")


def test_zeroed_tail_is_corruption(sound: bytes, path: Path) -> None:
    for size in range(2, len(sound)):
        with pytest.raises(CorruptCheckpointError):
            read_bytes(path, sound[:-size] + bytes(size))


@pytest.mark.parametrize("page", [64, 512])
def test_zeroed_page_is_corruption(sound: bytes, path: Path, page: int) -> None:
    for start in range(0, len(sound), page):
        data = sound[:start] + bytes(len(sound[start : start + page])) + sound[start + page :]
        with pytest.raises(CorruptCheckpointError):
            read_bytes(path, data)


def test_damaged_tensor_is_named_with_its_chunk(path: Path) -> None:
    write(path, {"a": torch.zeros(2**20 * 5), "b": torch.ones(3)}, {})
    data = bytearray(path.read_bytes())
    data[payload_start(data) + 2**20 * 9] ^= 64
    with pytest.raises(
        CorruptCheckpointError, match=r"tensor 'a' is damaged \(chunk 2 of 3\); use another copy"
    ):
        read_bytes(path, bytes(data))


def test_file_cut_off_after_its_header_was_read(sound: bytes, path: Path) -> None:
    path.write_bytes(sound)
    with CheckpointFile(path) as file:
        os.truncate(path, len(sound) - 1)
        with pytest.raises(
            CorruptCheckpointError, match="the file was cut off in tensor 'nn/mask' while it was read"
        ):
            file.read()


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(tmp_path_factory: Any, data: bytes) -> None:
    with pytest.raises(CheckpointError):
        read_bytes(tmp_path_factory.getbasetemp() / "any.safetensors", data)


@given(st.text(alphabet='{}[]":,0123eE.-+abcdefmt_\\u \n', max_size=200))
def test_any_header_is_refused(tmp_path_factory: Any, text: str) -> None:
    data = text.encode()
    with pytest.raises(CheckpointError):
        read_bytes(
            tmp_path_factory.getbasetemp() / "header.safetensors", len(data).to_bytes(8, "little") + data
        )


# Malice: every checksum is right


HARMFUL = [
    *("", "../../x", "/etc/passwd", "F64", "nn/bias", "channels_last", None, True, 1.5, -1, 2**63, 10**30),
    *([], {}, [[]], [8], [2**40, 2**40], [0, 2**62], ["00000000"]),
]


def places(tree: Any) -> list[tuple[Any, Any]]:
    """Return each container in a tree with each of its keys or indices."""
    keys = list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else []
    return [(tree, key) for key in keys] + [place for key in keys for place in places(tree[key])]


@given(data=st.data())
def test_any_value_anywhere_is_refused_or_harmless(sound: bytes, tmp_path_factory: Any, data: Any) -> None:
    def change(header: Header, manifest: Header) -> None:
        metadata = header.pop("__metadata__")
        node, key = data.draw(st.sampled_from(places(header) + places(manifest)))
        value = data.draw(st.sampled_from(HARMFUL))
        if isinstance(node, dict) and data.draw(st.booleans()):
            node[str(value)] = node.pop(key)
        else:
            node[key] = value
        rest = dict(header)
        header.clear()
        header.update({"__metadata__": metadata, **rest})

    path = tmp_path_factory.getbasetemp() / "malice.safetensors"
    try:
        back = read_bytes(path, crafted(sound, change))
    except CheckpointError:
        return
    assert all(any(torch.equal(tensor, known) for known in TENSORS.values()) for tensor in back.values())


def test_crafted_file_is_read_where_nothing_was_changed(sound: bytes, path: Path) -> None:
    assert crafted(sound, lambda header, manifest: None) == sound
    assert set(read_bytes(path, crafted(sound, lambda header, manifest: None))) == set(TENSORS)


def rename(old: str, new: str) -> Callable[[Header, Header], None]:
    def change(header: Header, manifest: Header) -> None:
        for table in (header, manifest["tensors"]):
            items = [(new if name == old else name, entry) for name, entry in table.items()]
            table.clear()
            table.update(items)

    return change


@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", "a\\b", "a//b", "a\0b", "\x1b[2J", "C:\\x", ""])
def test_name_that_could_do_harm_is_unsafe(sound: bytes, path: Path, name: str) -> None:
    with pytest.raises(
        UnsafeCheckpointError, match=r"tensor '.*' (could be taken for a path|holds characters)"
    ):
        read_bytes(path, crafted(sound, rename("nn/bias", name)))


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ({"shape": [-1]}, "has an impossible shape"),
        ({"shape": [8.0]}, "has an impossible shape"),
        ({"shape": [True]}, "has an impossible shape"),
        ({"shape": [0, 2**62, 2**62]}, "has an impossible shape"),
        ({"shape": [2**61]}, "has an impossible shape"),
        ({"shape": [1] * 65}, "has an impossible shape"),
        ({"shape": 8}, "lacks a dtype, a shape or checksums"),
        ({"dtype": 8}, "lacks a dtype, a shape or checksums"),
        ({"crc": []}, "has too many checksums or too few"),
        ({"crc": ["00000000"] * 2}, "has too many checksums or too few"),
        ({"crc": ["0x000000"]}, "has checksums that are none"),
        ({"crc": [1]}, "has checksums that are none"),
        ({"memory_format": "channels_last"}, "has a memory format that its shape cannot have"),
        ({"memory_format": "nn"}, "has a memory format that its shape cannot have"),
        ({"memory_format": ["channels_last"]}, "has a memory format that its shape cannot have"),
    ],
)
def test_impossible_entry_is_unsafe(sound: bytes, path: Path, entry: Header, why: str) -> None:
    def change(header: Header, manifest: Header) -> None:
        manifest["tensors"]["nn/bias"].update(entry)

    with pytest.raises(UnsafeCheckpointError, match=f"tensor 'nn/bias' {why}; do not trust this file"):
        read_bytes(path, crafted(sound, change))


@pytest.mark.parametrize(
    ("alias", "name"),
    [("nn/other", "nn/gone"), ("nn/other", ["nn/bias"]), ("nn/bias", "nn/mask"), ("../x", "nn/bias")],
)
def test_impossible_alias_is_unsafe(sound: bytes, path: Path, alias: str, name: object) -> None:
    def change(header: Header, manifest: Header) -> None:
        manifest["aliases"][alias] = name

    with pytest.raises(UnsafeCheckpointError, match=r"tensor '.*' (stands for|could be taken)"):
        read_bytes(path, crafted(sound, change))


@pytest.mark.parametrize("table", ["tensors", "aliases"])
def test_missing_table_is_unsafe(sound: bytes, path: Path, table: str) -> None:
    with pytest.raises(UnsafeCheckpointError, match=f"the manifest holds no table of {table}"):
        read_bytes(path, crafted(sound, lambda header, manifest: manifest.pop(table) and None))


def test_dtype_of_a_later_version_says_to_upgrade(sound: bytes, path: Path) -> None:
    def change(header: Header, manifest: Header) -> None:
        manifest["tensors"]["nn/bias"]["dtype"] = "float3"

    with pytest.raises(
        CheckpointError, match="tensor 'nn/bias' has the unknown dtype 'float3'; upgrade argus-torch"
    ):
        read_bytes(path, crafted(sound, change))


def test_dtype_that_this_torch_lacks_says_to_upgrade(
    sound: bytes, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(torch, "float64")
    with pytest.raises(CheckpointError, match="has no dtype 'float64'; upgrade torch"):
        read_bytes(path, sound)


@pytest.mark.parametrize(
    "offsets", [[0, 32], [8, 72], [-64, 0], [64, 0], [0, 2**70], [0], ["0", "64"], None], ids=str
)
def test_place_that_contradicts_the_manifest_is_corruption(sound: bytes, path: Path, offsets: object) -> None:
    def change(header: Header, manifest: Header) -> None:
        header["nn/bias"]["data_offsets"] = offsets

    with pytest.raises(CorruptCheckpointError, match="the header is damaged"):
        read_bytes(path, crafted(sound, change))


def test_tensor_that_is_not_in_the_manifest_is_corruption(sound: bytes, path: Path) -> None:
    def change(header: Header, manifest: Header) -> None:
        header["extra"] = {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}

    with pytest.raises(CorruptCheckpointError, match="the header is damaged .it contradicts the manifest"):
        read_bytes(path, crafted(sound, change))


def test_key_twice_is_corruption(sound: bytes, path: Path) -> None:
    start = payload_start(sound)
    header = sound[8:start].rstrip()[:-1] + b',"nn/bias":{"dtype":"F64","shape":[8],"data_offsets":[0,64]}}'
    with pytest.raises(CorruptCheckpointError, match="the header is damaged .it contradicts the manifest"):
        read_bytes(path, len(header).to_bytes(8, "little") + header + sound[start:])


def test_metadata_that_are_not_strings_are_corruption(sound: bytes, path: Path) -> None:
    def change(header: Header, manifest: Header) -> None:
        header["__metadata__"]["format"] = ["pt"]

    with pytest.raises(CorruptCheckpointError, match="the header is damaged"):
        read_bytes(path, crafted(sound, change))


def test_manifest_that_is_not_an_object_is_corruption(sound: bytes, path: Path) -> None:
    with pytest.raises(CorruptCheckpointError, match="the manifest is a list, not an object"):
        read_bytes(path, crafted(sound, lambda header, manifest: [1]))


def test_too_deep_a_manifest_is_unsafe(sound: bytes, path: Path) -> None:
    def change(header: Header, manifest: Header) -> None:
        for _ in range(70):
            manifest["params"] = [manifest["params"]]

    with pytest.raises(UnsafeCheckpointError, match="the manifest has more than 64 levels"):
        read_bytes(path, crafted(sound, change))


def test_newer_schema_is_told_apart_from_damage(sound: bytes, path: Path) -> None:
    def change(header: Header, manifest: Header) -> None:
        manifest.update(schema=2, tensors="elsewhere", versions={"argus": "9.9"})

    with pytest.raises(NewerCheckpointError, match=r"model\.safetensors: .* schema 2 .* argus-torch 9\.9"):
        read_bytes(path, crafted(sound, change))


def test_huge_header_is_refused_before_it_is_read(path: Path) -> None:
    path.write_bytes((99 * 2**20).to_bytes(8, "little") + b"{")
    os.truncate(path, 200 * 2**20)
    with pytest.raises(
        UnsafeCheckpointError, match="the header takes 103,809,024 bytes, and 41,943,040 is the most"
    ):
        read_header(path)


def test_header_that_is_no_manifest_is_not_even_parsed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = b"{" + b'"a":[],' * 2**20 + b'"b":1}'
    monkeypatch.setattr(json, "loads", None)
    with pytest.raises(CorruptCheckpointError, match="the header is damaged .it holds no manifest"):
        read_bytes(path, len(data).to_bytes(8, "little") + data)


def test_manifest_over_its_limit_is_refused_before_it_is_parsed(
    sound: bytes, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(header: Header, manifest: Header) -> None:
        manifest["params"] = '"\\' * 2**22

    data = crafted(sound, change)
    monkeypatch.setattr(json, "loads", None)
    with pytest.raises(UnsafeCheckpointError, match="the manifest takes 16,777,5.. bytes, and 16,777,2.. is"):
        read_bytes(path, data)


# Other files


def test_missing_file_is_named_with_those_near_it(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no checkpoint at .*best\.safetensors; check the path"):
        read_header(tmp_path / "best.safetensors")
    (tmp_path / "bast.safetensors").touch()
    with pytest.raises(CheckpointError, match=r"; did you mean 'bast\.safetensors'"):
        read_header(tmp_path / "best.safetensors")
    with pytest.raises(CheckpointError, match=r"no checkpoint at .*; check the path"):
        read_header(tmp_path / "no" / "folder" / "a")


def test_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint at .*: it is a folder; give the path of a file"):
        read_header(tmp_path)


@pytest.mark.parametrize("inside", ["checkpoints", ""])
def test_folder_with_checkpoints_is_refused_with_their_paths(tmp_path: Path, inside: str) -> None:
    folder = tmp_path / inside
    folder.mkdir(exist_ok=True)
    best, last = folder / "best.safetensors", folder / "last.safetensors"
    best.touch()
    last.touch()
    with pytest.raises(CheckpointError, match=f": it is a folder; give {best} or {last}$"):
        read_header(tmp_path)
    for number in range(10):
        (folder / f"a{number}.safetensors").touch()
    first, second = folder / "a0.safetensors", folder / "a1.safetensors"
    with pytest.raises(CheckpointError, match=f"; give {first} or {second} or another of the 12 in it$"):
        read_header(tmp_path)


def test_link_that_leads_nowhere_is_not_its_own_next_action(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(CheckpointError, match=r"no checkpoint at .*link; check the path$"):
        read_header(tmp_path / "link")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes in folders")
def test_pipe_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="it is not an ordinary file; give the path of a file"):
        read_header(tmp_path / "pipe")


@pytest.mark.parametrize("name", ["a\0b", "a" * 5000])
def test_impossible_path_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match="cannot read .*; check the path and its permissions"):
        read_header(tmp_path / name)


def test_unreadable_disk_is_told(sound: bytes, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError(5, "Input/output error")

    path.write_bytes(sound)
    with CheckpointFile(path) as file:
        monkeypatch.setattr("argus_core.storage.crc._read_at", fail)
        with pytest.raises(
            CheckpointError, match=r"cannot read .*model\.safetensors: Input/output error; use another"
        ):
            file.read()


def test_empty_file_is_corruption(path: Path) -> None:
    with pytest.raises(CorruptCheckpointError, match="not an argus checkpoint, or cut off in the header"):
        read_bytes(path, b"")


def test_safetensors_file_of_others_is_told(path: Path) -> None:
    for metadata in (None, {"format": "pt"}, {"größe": "é"}):
        safetensors.torch.save_file({"größe": torch.ones(3)}, path, metadata=metadata)
        with pytest.raises(
            CheckpointError, match="not an argus checkpoint: a safetensors file without a manifest; read it"
        ):
            read_header(path)


def test_torch_save_is_told(path: Path) -> None:
    torch.save({"a": torch.ones(2)}, path)
    with pytest.raises(
        CheckpointError,
        match=r"a zip archive .*; convert it if pytorch-argus saved it \(argus convert\), or read it with",
    ):
        read_header(path)
    torch.save({"a": torch.ones(2)}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match="not an argus checkpoint: a pickle such as old versions"):
        read_header(path)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickle_is_told_and_not_loaded(path: Path, protocol: int) -> None:
    with pytest.raises(CheckpointError, match="not an argus checkpoint: a pickle"):
        read_bytes(path, pickle.dumps({"a": os.system}, protocol))


def test_a_configuration_is_told_and_not_called_corrupt(path: Path) -> None:
    config = path.with_name("digits.toml")
    config.write_text('[model]\nnn_module = "cnn"\n', "utf-8")
    with pytest.raises(
        CheckpointError, match=r"digits\.toml is a configuration, not a checkpoint; train with"
    ) as told:
        read_header(config)
    assert type(told.value) is CheckpointError


def test_text_is_refused(path: Path) -> None:
    with pytest.raises(CheckpointError, match="not an argus checkpoint, or cut off in the header"):
        read_bytes(path, b"epoch,loss\n1,0.5\n")


def test_zip_archive_is_told(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", "b")
    with pytest.raises(CheckpointError, match="not an argus checkpoint: a zip archive"):
        read_header(path)


def test_large_random_damage_never_gives_a_wrong_tensor(path: Path) -> None:
    write(path, {str(index): torch.randn(50_000) for index in range(20)}, {})
    sound, rng = path.read_bytes(), random.Random(0)
    for _ in range(50):
        data = bytearray(sound)
        start = rng.randrange(len(data))
        data[start : start + 4096] = rng.randbytes(len(data[start : start + 4096]))
        with pytest.raises(CheckpointError):
            read_bytes(path, bytes(data))
