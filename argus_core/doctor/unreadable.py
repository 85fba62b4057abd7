"""Files of entry points that Python cannot read.

Importing torch reads the entry points of all packages. If Python's reader fails or hangs at one file, torch
cannot be imported.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.metadata import PathDistribution
from pathlib import Path

from argus_core.doctor.fault import Fault
from argus_core.registry.metadata import MetadataError, all_metadata, read_metadata_file
from argus_core.text import shown

__all__ = ["unreadable"]

_FILE = "entry_points.txt"


def unreadable(path: Sequence[str] | None = None) -> Iterator[Fault]:
    """Yield the files of entry points on ``path`` that Python cannot read."""
    first = {metadata.key: metadata for metadata in reversed([*all_metadata(path)])}  # it hides later copies
    for metadata in reversed(first.values()):
        file = Path(metadata.origin, _FILE)
        where = _where_python_fails(file)
        if where:
            problem = f"{where}; because of it Python cannot read entry points, and torch cannot be imported"
            fix = f"reinstall {metadata.key}, or correct {file}"
            yield Fault("unreadable", (metadata.key,), _FILE, problem, fix)


def _where_python_fails(file: Path) -> str:
    """Return the line at which Python's reader fails, or the reason; ``""`` if it does not fail."""
    try:
        data = read_metadata_file(str(file))
    except MetadataError as error:  # Python skips folders, reads large files and waits for FIFOs
        return "" if file.is_dir() or file.is_file() else str(error).removeprefix(f"{_FILE} ")
    if data is None:
        return ""
    try:
        _ = PathDistribution(file.parent).entry_points
    except Exception as error:
        return _place(data, error)
    return ""


def _place(data: bytes, error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"line {data[: error.start].count(bytes([10])) + 1} is not UTF-8"
    for number, line in enumerate(map(str.strip, data.decode().splitlines()), 1):
        if line and line[0] not in "[#" and "=" not in line:
            return f"line {number}, {shown(line)}, is not 'name = value'"
    return f"{type(error).__name__}: {error}"
