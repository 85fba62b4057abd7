"""The manifest: the plain-data part of a checkpoint, as canonical JSON with a schema number.

Canonical means that one value has one text: no spaces, ASCII, no NaN, numbers as Python prints them,
and keys in the order of the writer, since the order of a dict is part of its value.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

from argus_core.encoding import decode, describe, encode, tensor_names
from argus_core.errors import (
    CorruptCheckpointError,
    NewerCheckpointError,
    ParamsError,
    UnsafeCheckpointError,
)

__all__ = [
    "MIGRATIONS",
    "SCHEMA",
    "canonical",
    "decode",
    "describe",
    "dumps",
    "encode",
    "excess",
    "loads",
    "migrate",
    "strict_json",
    "tensor_names",
]

# The schema that this argus_core writes. A new one needs a migration from the one before it, and a
# checkpoint of the old schema in the tests.
SCHEMA = 1

Migration = Callable[[dict[str, Any]], dict[str, Any]]

# From each older schema to the one after it; pure functions.
MIGRATIONS: dict[int, Migration] = {}

MAX_BYTES = 16 * 2**20
MAX_LEVELS = 64
# A list takes 2 bytes of JSON and 64 of memory: without a limit a small file could fill the memory.
MAX_CONTAINERS = 2**20

_JSON_ATOMS = (str, int, float, bool, type(None))
_LONGEST_INT = len(str(-(2**64)))


def dumps(manifest: dict[str, Any]) -> bytes:
    """Return a manifest as canonical JSON.

    Raises:
        ParamsError: it holds something that is not JSON-able (`encode` it first), or it is too big.
    """
    _check_json(manifest, "manifest", MAX_LEVELS)
    data = canonical(manifest)
    if why := excess(data):
        raise ParamsError(f"the manifest {why}; keep large data in tensors or arrays")
    return data


def loads(data: bytes) -> dict[str, Any]:
    """Return the manifest in canonical JSON, of whatever schema (see `migrate`).

    Raises:
        UnsafeCheckpointError: it is too big or too deep.
        CorruptCheckpointError: it is not the canonical JSON of an object.
    """
    if len(data) > MAX_BYTES:
        raise UnsafeCheckpointError(f"the manifest {excess(data)}; argus_core does not write such files")
    manifest = strict_json(data, "the manifest")
    if not isinstance(manifest, dict):
        raise CorruptCheckpointError(
            f"the manifest is a {type(manifest).__name__}, not an object; use another copy"
        )
    return manifest


def migrate(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest in the present schema.

    Raises:
        NewerCheckpointError: its schema is newer than `SCHEMA`.
        CorruptCheckpointError: it has no schema number that was ever in use.
    """
    schema = manifest.get("schema")
    if type(schema) is not int or schema < 1:
        raise CorruptCheckpointError(
            f"the manifest has the schema {schema!r}, not one from 1 to {SCHEMA}; use another copy"
        )
    if schema > SCHEMA:
        raise NewerCheckpointError(
            f"the checkpoint has schema {schema} and was written by argus-torch {_writer(manifest)}, "
            f"this argus-torch reads schemas up to {SCHEMA}: pip install --upgrade argus-torch"
        )
    for older in range(schema, SCHEMA):
        manifest = {**MIGRATIONS[older](manifest), "schema": older + 1}
    return manifest


def strict_json(data: bytes, what: str) -> Any:
    """Return what canonical JSON says; ``what`` begins the messages.

    Raises:
        UnsafeCheckpointError: it would take far more memory than a checkpoint's does, or is too deep.
        CorruptCheckpointError: it is not JSON, not canonical, or names a key twice.
    """
    if why := excess(data, limit=len(data)):
        raise UnsafeCheckpointError(f"{what} {why}; argus_core does not write such files")
    try:
        value = json.loads(
            data.decode("ascii"), object_pairs_hook=_unique, parse_int=_short_int, parse_constant=_no_constant
        )
        _check_levels(value, what)
        same = canonical(value) == data
    except RecursionError:
        raise _too_deep(what) from None
    except ValueError as error:
        raise CorruptCheckpointError(f"{what} is damaged ({error}); use another copy") from error
    if not same:
        raise CorruptCheckpointError(f"{what} is damaged (not as it was written); use another copy")
    return value


def canonical(value: Any) -> bytes:
    """Return the one text of JSON-able data."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode("ascii")


def _writer(manifest: dict[str, Any]) -> str:
    versions = manifest.get("versions")
    version = versions.get("argus") if isinstance(versions, dict) else None
    return str(describe(version))[:40] if isinstance(version, str) else "of an unknown version"


def excess(data: bytes, limit: int = MAX_BYTES) -> str | None:
    """Return what about JSON is more than will be parsed, as the end of a sentence, or None."""
    if len(data) > limit:
        return f"takes {len(data):,} bytes, and {limit:,} is the most"
    containers = data.count(b"[") + data.count(b"{")
    if containers > MAX_CONTAINERS:
        return f"holds {containers:,} lists and objects, and {MAX_CONTAINERS:,} is the most"
    return None


def _check_json(value: Any, where: str, levels: int) -> None:
    if type(value) is list or type(value) is dict:
        if levels == 0:
            raise ParamsError(f"the manifest has more than {MAX_LEVELS} levels; make it flatter")
        for key, item in value.items() if type(value) is dict else enumerate(value):
            if type(value) is dict and type(key) is not str:
                raise ParamsError(f"{where} has the key {key!r}, not a string; encode() it first")
            _check_json(item, f"{where}[{key!r}]", levels - 1)
    elif type(value) not in _JSON_ATOMS:
        raise ParamsError(
            f"{where} is of type {type(value).__name__}, which JSON does not have; encode() it first"
        )


def _check_levels(value: Any, what: str) -> None:
    level = [value]
    for _ in range(MAX_LEVELS + 1):
        level = [
            item for container in level if isinstance(container, dict | list) for item in _contents(container)
        ]
    if level:
        raise _too_deep(what)


def _contents(container: dict[str, Any] | list[Any]) -> Any:
    return container.values() if isinstance(container, dict) else container


def _too_deep(what: str) -> UnsafeCheckpointError:
    return UnsafeCheckpointError(
        f"{what} has more than {MAX_LEVELS} levels; argus_core does not write such files"
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
