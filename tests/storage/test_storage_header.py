"""The header follows from the manifest, and is read where torch is not installed."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argus_core.errors import CheckpointError, CorruptCheckpointError
from argus_core.storage import Entry, read_header
from argus_core.storage.entry import MAX_DIMENSIONS, STORED_AS, is_shape
from argus_core.storage.header import parse, place, render

pytestmark = pytest.mark.torchfree

PAYLOAD = bytes(range(24))
ENTRIES = place(
    {
        "nn/weight": Entry("float32", (2, 2), crcs=(zlib.crc32(PAYLOAD[:16]),)),
        "nn/image": Entry("bool", (1, 2, 2, 2), "channels_last", (zlib.crc32(PAYLOAD[16:]),)),
    }
)
ALIASES = {"nn/tied": "nn/weight"}


def test_header_comes_back() -> None:
    data = render({"schema": 1, "a": [1]}, ENTRIES, ALIASES)
    header = parse(data)
    assert header.entries == ENTRIES
    assert header.aliases == ALIASES
    assert header.manifest["a"] == [1]
    assert header.payload_start == len(data)
    assert header.file_size == len(data) + 24


def test_header_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    data = render({"schema": 1}, ENTRIES, ALIASES)
    path.write_bytes(data + PAYLOAD)
    assert read_header(path) == parse(data)
    path.write_bytes(data + PAYLOAD[1:])
    with pytest.raises(CorruptCheckpointError, match="the file is cut off in tensor 'nn/image'"):
        read_header(path)


def test_any_flipped_bit_of_a_header_is_seen() -> None:
    data = render({"schema": 1, "params": {"lr": 0.5}}, ENTRIES, ALIASES)
    for bit in range(8 * 8, 8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CheckpointError):
            parse(bytes(flipped))


def test_backslashes_without_end_are_gone_over_once(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    text = b'{"__metadata__":{"argus":"' + b"\\" * (2**20 - 1000) + b"x" * 2**20
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(CorruptCheckpointError, match="the header is damaged"):
        read_header(path)  # by a search for those at the end of a block it took an hour


@pytest.mark.parametrize("shift", range(12))
def test_no_escape_is_cut_where_a_block_of_the_header_ends(shift: int) -> None:
    manifest = {"schema": 1, "a": "x" * (2**20 - 200 + shift) + '"\\' * 100}
    assert parse(render(manifest, ENTRIES, ALIASES)).manifest["a"] == manifest["a"]


@pytest.mark.parametrize("dtype", sorted(STORED_AS))
def test_size_is_that_of_the_stored_numbers(dtype: str) -> None:
    entry = Entry(dtype, (3, 5), start=8)
    assert entry.size % 15 == 0
    assert entry.end == 8 + entry.size
    assert entry.size // 15 % entry.alignment == 0


@given(st.lists(st.integers(-1, 2**64), max_size=4))
def test_shape_is_one_whose_bytes_can_be_counted(shape: list[int]) -> None:
    count = 8
    for length in shape:
        count *= length or 1
    assert is_shape(shape, "float64") == (min([0, *shape]) >= 0 and count < 2**63)


def test_shape_has_a_limited_number_of_dimensions() -> None:
    assert is_shape([1] * MAX_DIMENSIONS, "bool")
    assert not is_shape([1] * (MAX_DIMENSIONS + 1), "bool")
