"""The manifest: the plain-data part of a checkpoint, as canonical JSON with a schema number.

Canonical means that each value has exactly one text: no spaces, ASCII, no NaN, numbers as Python prints
them, and keys in the order of the writer, since the order of a dict is part of its value.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from argus_core.errors import (
    CorruptCheckpointError,
    NewerCheckpointError,
    ParamsError,
    UnsafeCheckpointError,
)
from argus_core.storage.encoding import describe

__all__ = [
    "MIGRATIONS",
    "SCHEMA",
    "canonical",
    "dumps",
    "excess_length",
    "loads",
    "migrate",
    "most_bytes",
]

# The schema that this version writes. A new schema needs a migration from its predecessor, and a checkpoint
# of the old schema in the tests.
SCHEMA = 1

Migration = Callable[[dict[str, Any]], dict[str, Any]]

# Pure functions from each older schema to the next one.
MIGRATIONS: dict[int, Migration] = {}

MAX_LEVELS = 64
_MIB = 2**20
# A list takes 2 bytes of JSON and 64 of memory, so without a limit a small file could fill the memory. The
# count adds commas and brackets, colons twice and braces six times, so that each count takes up to 80 bytes,
# and text by the same measure; a tensor counts about 32. The limit grows with the payload.
MAX_VALUES = 2**19 + 2**15
_TEXT_PER_VALUE = 32
_BESIDE_PER_VALUE = 8 / 3  # a tensor takes about 75 bytes in the header's table
_PAYLOAD_PER_VALUE = 64
# From this number on, tensors dominate the size of the manifest.
_MANY_TENSORS = 2**13
# Items of a long list or dict that are serialized at a time.
_AT_ONCE = 1024
# Characters from which a text is compared in parts instead of as a second long text.
_LONG = 2**20

_ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"))
_CONTAINERS = (dict, list)
_JSON_ATOMS = (str, int, float, bool, type(None))
_LONGEST_INT = len(str(-(2**64)))


def dumps(manifest: dict[str, Any], payload: int = 0, beside: int = 0) -> bytes:
    """Return a manifest as canonical JSON.

    Args:
        manifest: JSON-compatible data.
        payload: the bytes of tensors that it describes.
        beside: the bytes of the header without the manifest.

    Raises:
        ParamsError: it holds a value that JSON does not have (`encode` it first), or it is too big.
    """
    _check_json(manifest, "manifest", MAX_LEVELS)
    text = _canonical(manifest)
    if why := _excess(text, payload, beside):
        raise ParamsError(f"the manifest {why}; {_remedy(manifest)}")
    return text.encode("ascii")


def _remedy(manifest: dict[str, Any]) -> str:
    tensors = manifest.get("tensors")
    if not isinstance(tensors, dict) or len(tensors) < _MANY_TENSORS:
        return "keep large data in tensors or arrays"
    return (
        f"it describes {len(tensors):,} tensors; save without the optimizer's state, or make one tensor "
        "of many small ones"
    )


def loads(data: str | bytes, payload: int = 0, beside: int = 0) -> dict[str, Any]:
    """Parse a manifest of any schema from canonical JSON; see `migrate`.

    Args:
        data: the JSON.
        payload: the bytes of tensors that it describes.
        beside: the bytes of the header without the manifest.

    Raises:
        UnsafeCheckpointError: it is too big or too deep.
        CorruptCheckpointError: it is not the canonical JSON of an object.
    """
    text = data if isinstance(data, str) else data.decode("latin-1")  # non-ASCII text is not canonical
    if why := _excess(text, payload, beside):
        raise UnsafeCheckpointError(f"the manifest {why}; argus_core does not write such files")
    manifest = _strict_json(text)
    if not isinstance(manifest, dict):
        raise CorruptCheckpointError(
            f"the manifest is a {type(manifest).__name__}, not an object; use another copy"
        )
    return manifest


def migrate(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest migrated to the current schema.

    Raises:
        NewerCheckpointError: its schema is newer than `SCHEMA`.
        CorruptCheckpointError: its schema number was never in use.
        UnsafeCheckpointError: it lacks a key of its schema.
    """
    schema = manifest.get("schema")
    if type(schema) is not int or schema < 1:
        raise CorruptCheckpointError(
            f"the manifest has the schema {schema!r}, not one from 1 to {SCHEMA}; use another copy"
        )
    if schema > SCHEMA:
        raise NewerCheckpointError(
            f"the checkpoint has schema {schema} and was written by argus-torch {_writer(manifest)}, "
            f"and this argus-torch reads schemas up to {SCHEMA}; pip install --upgrade argus-torch"
        )
    for older in range(schema, SCHEMA):
        try:
            manifest = {**MIGRATIONS[older](manifest), "schema": older + 1}
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise UnsafeCheckpointError(
                f"the manifest of schema {older} is not as argus_core wrote it "
                f"({type(error).__name__}: {error}); do not trust this file"
            ) from error
    return manifest


def canonical(value: Any) -> bytes:
    """Return the canonical JSON text of data."""
    return _canonical(value).encode("ascii")


def _canonical(value: Any) -> str:
    return _ENCODER.encode(value)


def _writer(manifest: dict[str, Any]) -> str:
    versions = manifest.get("versions")
    version = versions.get("argus") if isinstance(versions, dict) else None
    return str(describe(version))[:40] if isinstance(version, str) else "of an unknown version"


def most_bytes(payload: int) -> int:
    """Return the most bytes that a manifest may take beside ``payload`` bytes of tensors."""
    return min(16 * _MIB + payload // 16, 256 * _MIB)


def excess_length(length: int, payload: int) -> str | None:
    """Return the problem with a manifest of ``length`` bytes, as the end of a sentence, or None."""
    most = most_bytes(payload)
    if length > most:
        return f"takes {length:,} bytes, and {most:,} is the most beside {payload:,} bytes of tensors"
    return None


def _excess(text: str, payload: int, beside: int) -> str | None:
    values = text.count(",") + 2 * text.count(":") + text.count("[") + 6 * text.count("{")
    more = beside / _BESIDE_PER_VALUE + payload / _PAYLOAD_PER_VALUE
    if values + len(text) // _TEXT_PER_VALUE > MAX_VALUES + more:
        return (
            f"holds too many values, names, lists and objects ({values:,} in {len(text):,} bytes) beside "
            f"{payload:,} bytes of tensors"
        )
    return excess_length(len(text), payload)


def _strict_json(text: str) -> Any:
    """Parse canonical JSON, and raise for any other text."""
    try:
        value = json.loads(text, parse_int=_short_int, parse_constant=_no_constant)
        _check_levels(value)
        if not _is_text_of(value, text):
            raise ValueError(_difference(text))
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise CorruptCheckpointError(f"the manifest is damaged ({error}); use another copy") from error
    return value


def _is_text_of(value: Any, text: str) -> bool:
    """Return whether ``text`` is the canonical JSON of ``value``, without building a second long text."""
    if len(text) < _LONG:
        return text == _canonical(value)
    place = 0
    for part in _parts(value):
        if not text.startswith(part, place):
            return False
        place += len(part)
    return place == len(text)


def _parts(value: Any) -> Iterator[str]:
    """Yield canonical JSON in parts: some items of long lists and dicts at a time."""
    if isinstance(value, dict) and len(value) <= _AT_ONCE:
        yield "{"
        for number, (key, item) in enumerate(value.items()):
            yield "," * (number > 0) + _canonical(key) + ":"
            yield from _parts(item)
        yield "}"
    elif isinstance(value, dict | list) and len(value) > _AT_ONCE:
        items = iter(value.items() if isinstance(value, dict) else value)
        start, end = ("{", "}") if isinstance(value, dict) else ("[", "]")
        yield start
        for number, some in enumerate(iter(lambda: type(value)(islice(items, _AT_ONCE)), type(value)())):
            yield "," * (number > 0) + _canonical(some)[1:-1]
        yield end
    else:
        yield _canonical(value)


def _difference(text: str) -> str:
    """Return the problem with a text that is not canonical; a long text is not searched for it."""
    if len(text) < _LONG:
        json.loads(text, object_pairs_hook=_unique, parse_int=_short_int)
    return "not as it was written"


def _check_json(value: Any, where: str, levels: int) -> None:
    if type(value) is list or type(value) is dict:
        if levels == 0:
            raise ParamsError(f"the manifest has more than {MAX_LEVELS} levels; make it flatter")
        for key, item in value.items() if type(value) is dict else enumerate(value):
            if type(value) is dict and type(key) is not str:
                raise ParamsError(f"{where} has the key {key!r}, not a string; encode() it first")
            if type(item) not in _JSON_ATOMS:  # which are numerous
                _check_json(item, f"{where}[{key!r}]", levels - 1)
    elif type(value) not in _JSON_ATOMS:
        raise ParamsError(
            f"{where} is of type {type(value).__name__}, which JSON does not have; encode() it first"
        )


def _check_levels(value: Any) -> None:
    level = [value] if type(value) in _CONTAINERS else []
    for _ in range(MAX_LEVELS):
        # Only containers: numbers and strings may be far more numerous.
        level = [
            item
            for container in level
            for item in (container.values() if type(container) is dict else container)
            if type(item) in _CONTAINERS
        ]
        if not level:
            return
    raise _too_deep()


def _too_deep() -> UnsafeCheckpointError:
    return UnsafeCheckpointError(
        f"the manifest has more than {MAX_LEVELS} levels; argus_core does not write such files"
    )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        [(key, _)] = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {key!r} twice")
    return result


def _short_int(text: str) -> int:
    # Reading n digits takes time in n squared.
    if len(text) > _LONGEST_INT:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _no_constant(text: str) -> float:
    raise ValueError(f"the number {text}")
