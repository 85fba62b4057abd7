"""The manifest's JSON has one form, limits and a schema."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_data import exactly_equal, plain_values

from argus_core.errors import (
    CheckpointError,
    CorruptCheckpointError,
    NewerCheckpointError,
    ParamsError,
    UnsafeCheckpointError,
)
from argus_core.storage import manifest
from argus_core.storage.encoding import decode, encode
from argus_core.storage.manifest import dumps, loads, migrate

pytestmark = pytest.mark.torchfree


def nested(levels: int) -> dict[str, Any]:
    value: Any = 1
    for _ in range(levels - 1):
        value = [value]
    return {"a": value}


@given(plain_values())
def test_encoded_data_come_back_exactly(value: object) -> None:
    assert exactly_equal(decode(loads(dumps({"params": encode(value, "params", {})})), {}), {"params": value})


def test_json_is_canonical() -> None:
    assert dumps({"b": [1, 2.0, None], "a": "é\n"}) == b'{"b":[1,2.0,null],"a":"\\u00e9\\n"}'


@pytest.mark.parametrize("value", [(1,), {1: 2}, b"a", 1j, {"b": {None: 1}}, [[{1, 2}]]])
def test_what_json_does_not_have_is_refused_with_the_path_to_it(value: object) -> None:
    with pytest.raises(ParamsError, match=r"^manifest\['a'\].*; encode\(\) it first"):
        dumps({"a": value})


def test_depth_is_limited_when_written_and_when_read() -> None:
    assert loads(dumps(nested(64))) == nested(64)
    with pytest.raises(ParamsError, match="the manifest has more than 64 levels; make it flatter"):
        dumps(nested(65))
    with pytest.raises(UnsafeCheckpointError, match="the manifest has more than 64 levels"):
        loads(json.dumps(nested(65), separators=(",", ":")).encode())


@pytest.mark.parametrize("depth", [1_000, 100_000])
def test_any_depth_is_refused(depth: int) -> None:
    with pytest.raises(UnsafeCheckpointError, match="the manifest has more than 64 levels"):
        loads(b"[" * depth + b"]" * depth)


def test_size_is_limited_when_written_and_when_read() -> None:
    with pytest.raises(
        ParamsError,
        match="takes .* bytes, and 16,777,216 is the most beside 0 bytes of tensors; keep large data",
    ):
        dumps({"a": "a" * 2**24})
    with pytest.raises(
        UnsafeCheckpointError, match="the manifest takes .* bytes, and 16,777,216 is the most"
    ):
        loads(b'"' + b"a" * 2**24 + b'"')


def test_tensors_that_are_too_many_are_told_as_such() -> None:
    tensors = {f"nn/{number}": ["float32", [2], [0]] for number in range(100_000)}
    why = "the manifest .*; it describes 100,000 tensors; save without the optimizer's state"
    with pytest.raises(ParamsError, match=why):
        dumps({"tensors": tensors}, payload=100_000 * 8)


def test_a_manifest_may_be_longer_the_more_tensors_follow_it() -> None:
    value = {"a": "a" * 2**24}
    assert loads(dumps(value, 2**28), 2**28) == value
    with pytest.raises(ParamsError, match="and 268,435,456 is the most beside"):
        dumps({"a": "a" * 2**28}, payload=2**40)


@pytest.mark.parametrize("values", [[], {}], ids=["list", "dict"])
@pytest.mark.parametrize("count", [1023, 1024, 1025, 2049])
def test_long_lists_and_objects_are_compared_with_their_text(values: Any, count: int) -> None:
    items = [{"x": [index]} for index in range(count)]
    value = {
        "text": "a" * 2**20,
        "a": items if values == [] else {str(index): each for index, each in enumerate(items)},
    }
    data = dumps(value)
    assert loads(data) == value
    with pytest.raises(CorruptCheckpointError, match="not as it was written"):
        loads(data.replace(b'{"x":[7]}', b'{"x": [7]}'))


def test_the_number_of_values_is_limited_when_written_and_when_read() -> None:
    why = r"the manifest holds too many values, names, lists and objects \(.* beside 0 bytes of tensors"
    with pytest.raises(ParamsError, match=why):
        dumps({"a": [[]] * 2**19})
    with pytest.raises(UnsafeCheckpointError, match=why):
        loads(b"[" + b"[]," * 2**19 + b"1]")


def test_more_values_may_stand_beside_large_tensors() -> None:
    value = {"a": [[]] * 2**19}
    assert loads(dumps(value, 2**31), 2**31) == value


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b'{"a":1,"b":2,"a":3}', "the key 'a' twice"),
        (b'{"a":NaN}', "the number NaN"),
        (b'{"a":-Infinity}', "the number -Infinity"),
        (b'{"a":' + b"9" * 30 + b"}", "a number of 30 digits"),
        (b'{"a":1', "Expecting"),
        (b"{}{}", "Extra data"),
        (b"", "Expecting value"),
        ('{"a":"é"}'.encode(), "not as it was written"),
        (b'{"a": 1}', "not as it was written"),
        (b'{"a":1e3}', "not as it was written"),
        (b'{"a":"\\u0061"}', "not as it was written"),
        (b'{"a":1e999}', "not JSON compliant"),
    ],
)
def test_json_that_is_not_canonical_is_corrupt(data: bytes, why: str) -> None:
    with pytest.raises(CorruptCheckpointError, match=f"the manifest is damaged .*{why}.*; use another copy"):
        loads(data)


@pytest.mark.parametrize("data", [b"[]", b"1", b"null", b'"a"'])
def test_manifest_is_an_object(data: bytes) -> None:
    with pytest.raises(CorruptCheckpointError, match="the manifest is a .*, not an object"):
        loads(data)


@given(st.binary() | st.text(alphabet='{}[]":,1ea\\u0 ').map(str.encode))
def test_loads_takes_any_bytes(data: bytes) -> None:
    try:
        value = loads(data)
    except CheckpointError:
        return
    assert dumps(value) == data


def test_present_schema_is_left_as_it_is() -> None:
    value = {"schema": manifest.SCHEMA, "a": 1}
    assert migrate(value) == value


def test_older_schemas_migrate_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "SCHEMA", 3)
    monkeypatch.setitem(manifest.MIGRATIONS, 1, lambda old: {**old, "b": old["a"] + 1})
    monkeypatch.setitem(manifest.MIGRATIONS, 2, lambda old: {**old, "c": old["b"] + 1})
    old = {"schema": 1, "a": 1}
    assert migrate(old) == {"schema": 3, "a": 1, "b": 2, "c": 3}
    assert old == {"schema": 1, "a": 1}


def test_manifest_that_a_migration_does_not_take_is_unsafe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "SCHEMA", 2)
    monkeypatch.setitem(manifest.MIGRATIONS, 1, lambda old: {**old, "b": old["a"]["b"]})
    for old in ({"schema": 1}, {"schema": 1, "a": 1}, {"schema": 1, "a": []}):
        with pytest.raises(UnsafeCheckpointError, match="of schema 1 is not as argus_core wrote it .*do not"):
            migrate(old)


def test_every_older_schema_has_a_migration() -> None:
    assert set(manifest.MIGRATIONS) == set(range(1, manifest.SCHEMA))


@pytest.mark.parametrize(
    ("manifest_of_newer", "writer"),
    [
        ({"versions": {"argus": "7.1"}}, r"7\.1"),
        ({"versions": {"argus": "7\x1b"}}, r"7\\x1b"),
        ({"versions": 7}, "of an unknown version"),
        ({}, "of an unknown version"),
    ],
)
def test_newer_schema_is_refused_with_who_wrote_it(manifest_of_newer: dict[str, Any], writer: str) -> None:
    with pytest.raises(
        NewerCheckpointError, match=f"has schema 99 and was written by argus-torch {writer}, .* up to 1; pip"
    ):
        migrate({"schema": 99, **manifest_of_newer})


@pytest.mark.parametrize("schema", [None, 0, -1, True, "1", 1.0])
def test_schema_is_a_number_from_1(schema: object) -> None:
    with pytest.raises(CorruptCheckpointError, match="the manifest has the schema .*, not one from 1 to 1"):
        migrate({"schema": schema})
