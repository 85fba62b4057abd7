"""Archives of torch are checked before torch reads them: sound ones are taken, no others reach it."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hostile_archives import number, pickled, state, text
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from argus_core.checkpoint.legacy import read_legacy
from argus_core.errors import CheckpointError, CorruptCheckpointError, UnsafeCheckpointError
from argus_core.files.archive import check_archive

DTYPES = (
    "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool complex64 complex128 uint16 uint64"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.pth"


@pytest.mark.parametrize(
    "value",
    [
        *(torch.ones(2, 3).to(getattr(torch, name)) for name in DTYPES.split()),
        torch.ones(3).to(torch.float8_e5m2),
        torch.ones(3, 4).t(),
        torch.tensor(1.0),
        torch.empty(0),
        nn.Parameter(torch.ones(3)),
        torch.Size([1, 2]),
        torch.float32,
        torch.device("cpu"),
        {1, 2},
        (1, 2.0, None, True, "a", 10**30),
    ],
    ids=lambda value: (
        f"{type(value).__name__} {value if not isinstance(value, torch.Tensor) else value.dtype}"
    ),
)
def test_what_a_state_is_made_of_is_taken(path: Path, value: Any) -> None:
    torch.save(state(params={"value": value}), path)
    back = read_legacy(path)["params"]["value"]
    assert type(back) is type(value)
    assert torch.equal(back, value) if isinstance(value, torch.Tensor) else back == value


def test_one_network_of_many_names_is_taken(path: Path) -> None:
    layer = nn.Linear(100, 100)
    network = nn.ModuleList([layer] * 12)
    torch.save(state(nn_state_dict=network.state_dict()), path)
    assert len(read_legacy(path)["nn_state_dict"]) == 24


def test_archive_that_another_tool_packed_again_is_taken(path: Path) -> None:
    pickled(b"}(X\x01\0\0\0aK\x01u")(path, path)
    check_archive(path)


def test_archive_with_a_comment_is_refused(path: Path) -> None:
    torch.save(state(), path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"PK\5\6" + bytes(18)
    with pytest.raises(
        CorruptCheckpointError, match="it does not end as an archive does|not where it should"
    ):
        check_archive(path)


def test_archive_with_something_before_it_is_refused(path: Path) -> None:
    torch.save(state(), path)
    path.write_bytes(b"PK" + bytes(100) + path.read_bytes())
    with pytest.raises(CorruptCheckpointError, match="does not end as an archive does"):
        check_archive(path)


def test_archive_whose_table_is_found_at_two_places_is_refused(path: Path) -> None:
    torch.save(state(), path)
    data = bytearray(path.read_bytes())
    place = data.rindex(b"PK\6\7") + 8  # where torch looks for the table, and zipfile does not
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptCheckpointError, match="does not end as an archive does"):
        check_archive(path)


def test_two_entries_of_one_name_are_refused(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"1")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a/data.pkl", b"2")
    with pytest.raises(UnsafeCheckpointError, match="has two entries of one name; do not load it"):
        check_archive(path)


@pytest.mark.parametrize("name", ["bytearray", "eval", "getattr"])
def test_object_that_no_state_is_made_of_is_refused_by_name(path: Path, name: str) -> None:
    pickled(f"c__builtin__\n{name}\n".encode())(path, path)
    with pytest.raises(UnsafeCheckpointError, match=rf"not tensors or plain data \('__builtin__.{name}'\)"):
        check_archive(path)


@pytest.mark.parametrize("value", [b"abc", b""], ids=["some", "none"])
def test_bytes_are_refused_and_told_to_be_saved_as_numbers(path: Path, value: bytes) -> None:
    torch.save(state(params={"key": value}), path)
    with pytest.raises(
        UnsafeCheckpointError,
        match=r"\(bytes, which a codec makes\); save it again with lists of numbers in their place",
    ):
        check_archive(path)


def test_pickle_of_more_than_a_state_is_refused_by_its_size(path: Path) -> None:
    pickled(b"]" + b"N0" * 2**21)(path, path)
    with pytest.raises(UnsafeCheckpointError, match=r"data\.pkl' .* takes 4,194,308 bytes, and 4,194,304 is"):
        check_archive(path)


def test_pickle_of_more_objects_than_data_is_refused(path: Path) -> None:
    pickled(b"](" + b"]" * 70_000 + b"e")(path, path)
    with pytest.raises(UnsafeCheckpointError, match="asks for more objects than it has data"):
        check_archive(path)


STORED = b"](" + b"".join(b"M" + index.to_bytes(2, "little") for index in range(2_000)) + b"eq\0"
LETTERS = text("".join(map(chr, range(2_000)))) + b"q\0"


@pytest.mark.parametrize(
    ("argument", "call"),
    [
        (STORED, b"c__builtin__\nset\nh\0\x85R"),
        (LETTERS, b"c__builtin__\nset\nh\0\x85R"),
        (STORED, b"ctorch\nSize\nh\0\x85R"),
        (STORED, b"ctorch\nSize\nh\0\x85\x81"),
        (b"}(" + STORED[2:-3] + b"uq\0", b"ccollections\nOrderedDict\nh\0\x85R"),
        (b"}(" + STORED[2:-3] + b"uq\0", b"ccollections\nOrderedDict\n)Rh\0b"),
        (STORED, b"ccollections\nOrderedDict\n)R(h\0h\0tb"),
    ],
    ids=["set", "letters", "size", "new object", "dict", "attributes", "attributes and slots"],
)
def test_one_value_that_many_calls_copy_is_refused(path: Path, argument: bytes, call: bytes) -> None:
    pickled(b"](" + argument + call * 200 + b"e")(path, path)
    with pytest.raises(UnsafeCheckpointError, match="asks for more objects than it has data"):
        check_archive(path)


def test_calls_after_a_string_of_arguments_are_counted(path: Path) -> None:
    pickled(
        b"](c__builtin__\nset\n" + text("a") + b"R" + STORED + b"c__builtin__\nset\nh\0\x85R" * 200 + b"e"
    )(path, path)
    with pytest.raises(UnsafeCheckpointError, match="asks for more objects than it has data"):
        check_archive(path)


@pytest.mark.parametrize(
    "key",
    [lambda index: number(index * (2**61 - 1)), lambda index: number(index) + b"\x85"],
    ids=["integers of one hash", "tuples"],
)
@pytest.mark.parametrize("form", ["dict", "item by item", "set"])
def test_keys_whose_hashes_a_pickle_can_choose_are_few(path: Path, key: Any, form: str) -> None:
    def program(count: int) -> bytes:
        keys = [key(index % 3 + 1) for index in range(count)]
        if form == "set":
            return b"c__builtin__\nset\n](" + b"".join(keys) + b"e\x85R"
        items = [each + b"N" for each in keys]
        return b"}(" + b"".join(items) + b"u" if form == "dict" else b"}" + b"".join(f + b"s" for f in items)

    pickled(program(1024))(path, path)
    check_archive(path)
    pickled(program(1025))(path, path)
    with pytest.raises(UnsafeCheckpointError, match="has more than 1,024 keys that are tuples or integers"):
        check_archive(path)


def test_any_truncation_is_corruption(path: Path) -> None:
    torch.save(state(), path)
    data = path.read_bytes()
    for size in range(len(data)):
        path.write_bytes(data[:size])
        with pytest.raises(CorruptCheckpointError, match="is damaged"):
            check_archive(path)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("sound") / "model.pth"
    torch.save(state(nn_state_dict={"a": torch.arange(4.0)}), path)
    return path.read_bytes()


@settings(deadline=None)
@given(data=st.data())
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_any_change_is_refused_or_harmless(sound: bytes, tmp_path_factory: Any, data: Any) -> None:
    changed = bytearray(sound)
    for place in data.draw(st.lists(st.integers(0, len(sound) - 1), min_size=1, max_size=4)):
        changed[place] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "changed.pth"
    path.write_bytes(changed)
    try:
        found = read_legacy(path)
    except CheckpointError:
        return
    assert torch.equal(found["nn_state_dict"]["a"], torch.arange(4.0))
