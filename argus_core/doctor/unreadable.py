"""Files of entry points that Python itself cannot read.

torch asks for the entry points of all packages when it is imported, plugins or not. At one file that Python's
own reader fails, or waits for, nothing that is built on torch can be imported.
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
    """Yield the files of entry points, of whatever distribution on ``path``, that Python cannot read."""
    first = {metadata.key: metadata for metadata in reversed([*all_metadata(path)])}  # it hides the others
    for metadata in reversed(first.values()):
        file = Path(metadata.origin, _FILE)
        where = _where_python_fails(file)
        if where:
            problem = f"{where}: Python cannot read any package's entry points for it, nor torch be imported"
            fix = f"reinstall {metadata.key}, or correct {file}"
            yield Fault("unreadable", (metadata.key,), _FILE, problem, fix)


def _where_python_fails(file: Path) -> str:
    """Return where in a file Python's reader fails, or why it does; ``""`` where it does not."""
    try:
        data = read_metadata_file(str(file))
    except MetadataError as error:  # Python passes over folders, reads large files and waits for FIFOs
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
            return f"line {number}, {shown(line)}, is no 'name = value'"
    return f"{type(error).__name__}: {error}"
