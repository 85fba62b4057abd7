"""``argus inspect``: print the contents of a checkpoint, without torch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from argus_core.cli.examples import examples
from argus_core.cli.options import AS_JSON
from argus_core.cli.output import echo, echo_json
from argus_core.storage import Header, read_header
from argus_core.storage.encoding import describe
from argus_core.storage.folder_manifest import OF_STORAGE
from argus_core.storage.forms import is_folder

__all__ = ["command"]


@click.command(
    "inspect",
    epilog=examples(
        "argus inspect runs/digits/checkpoints/best.safetensors",
        "argus inspect runs/digits/checkpoints/best.safetensors --json",
    ),
)
@click.argument("file", type=click.Path(path_type=Path))
@AS_JSON
def command(file: Path, as_json: bool) -> None:
    """Print the contents of FILE, a checkpoint.

    FILE may be a folder of shards. The contents are versions, components with the packages that provide
    them, params, and tensors. The command reads and checks only the header, and imports nothing that it
    names.
    """
    record = _record(file, read_header(file))
    if as_json:
        echo_json(record)
    else:
        echo(*_lines(record))


def _record(file: Path, header: Header) -> dict[str, Any]:
    manifest = {key: value for key, value in header.manifest.items() if key not in OF_STORAGE}
    shards = header.manifest["folder"]["shards"] if is_folder(file) and not file.is_file() else None
    tensors = {
        name: {"dtype": entry.dtype, "shape": list(entry.shape), "bytes": entry.size}
        for name, entry in header.entries.items()
    }
    return {
        "file": str(file),
        "bytes": header.file_size,
        **({} if shards is None else {"shards": len(shards)}),
        **describe(manifest),
        "tensors": tensors,
        "aliases": header.aliases,
    }


def _lines(record: dict[str, Any]) -> Iterator[str]:
    for key, value in record.items():
        if key == "tensors":
            yield f"tensors: {len(value)}"
            yield from (f"  {name}  {_tensor(tensor)}" for name, tensor in value.items())
        else:
            yield from _item(key, value, "")


def _item(key: str, value: Any, indent: str) -> Iterator[str]:
    """Yield the lines of a key and its value; nested keys are indented."""
    if isinstance(value, dict) and "entry_point" in value:
        yield f"{indent}{key}: {_component(value)}"
    elif isinstance(value, dict) and value:
        yield f"{indent}{key}:"
        for name, item in value.items():
            yield from _item(name, item, indent + "  ")
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        yield f"{indent}{key}:"
        for index, item in enumerate(value):
            yield from _item(str(index), item, indent + "  ")
    else:
        yield f"{indent}{key}: {value if isinstance(value, str) else json.dumps(value)}"


def _component(record: dict[str, Any]) -> str:
    origin = f"{record.get('provider') or 'no package'} {record.get('version') or ''}".rstrip()
    return f"{record.get('as')}  ({origin}, {record['entry_point']})"


def _tensor(tensor: dict[str, Any]) -> str:
    shape = ", ".join(map(str, tensor["shape"]))
    return f"{tensor['dtype']} ({shape})  {tensor['bytes']:,} bytes"
