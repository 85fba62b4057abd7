"""Files of entry points that Python itself cannot read, and those of which it passes over the beginning.

torch asks for the entry points of all packages when it is imported, plugins or not. At one file that Python's
own reader fails, or waits for, nothing that is built on torch can be imported.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator, Sequence
from importlib.metadata import PathDistribution
from pathlib import Path

from argus_core.doctor.fault import Fault
from argus_core.registry.discovery import GROUP
from argus_core.registry.metadata import Metadata, MetadataError, all_metadata, read_metadata_file
from argus_core.text import shown

__all__ = ["UNREADABLE", "forbidden", "passed_over", "unreadable"]

UNREADABLE = "unreadable"
"""The sort of fault that keeps components of whatever package from being imported."""

_FILE = "entry_points.txt"
_MARK = b"\xef\xbb\xbf"


def unreadable(path: Sequence[str] | None = None) -> Iterator[Fault]:
    """Yield the files of entry points, of whatever distribution on ``path``, that Python cannot read."""
    for metadata, file in _files(path):
        where = _where_python_fails(file)
        if where:
            problem = f"{where}: Python cannot read any package's entry points for it, nor torch be imported"
            fix = f"reinstall {metadata.key}, or correct {file}, and run the doctor again"
            yield Fault(UNREADABLE, (_origin(metadata),), _FILE, problem, fix)


def passed_over(path: Sequence[str] | None = None) -> Iterator[Fault]:
    """Yield the files that declare components and begin with a mark which hides their first group."""
    for metadata, file in _files(path):
        try:
            data = read_metadata_file(str(file)) or b""
        except MetadataError:
            continue  # told with what is declared
        if data.startswith(_MARK) and GROUP.encode() in data:
            problem = "begins with a byte order mark, so that nothing in its first group is found"
            fix = f"reinstall {metadata.key}, or save {file} as UTF-8 without the mark"
            yield Fault("metadata", (_origin(metadata),), _FILE, problem, fix)


def forbidden(path: Sequence[str] | None = None) -> Iterator[Fault]:
    """Yield the metadata that this user may not read: nothing that they declare is found."""
    for metadata in {each.origin: each for each in all_metadata(path)}.values():
        file = os.path.join(metadata.origin, _FILE)
        if os.path.isdir(metadata.origin) and not os.access(metadata.origin, os.X_OK):
            what, right = metadata.origin, "rX"
        elif os.path.isfile(file) and not os.access(file, os.R_OK):
            what, right = file, "r"
        else:
            continue
        problem = "this user may not read it, so that nothing in it is found"
        fix = f"install it as this user, or let all read it: chmod -R a+{right} {shlex.quote(what)}"
        yield Fault("metadata", (metadata.key,), os.path.basename(what), problem, fix)


def _files(path: Sequence[str] | None) -> Iterator[tuple[Metadata, Path]]:
    seen: set[str] = set()
    for metadata in all_metadata(path):
        file = Path(metadata.origin, _FILE)
        if metadata.key not in seen and _is_there(file):
            yield metadata, file
        seen.add(metadata.key)  # the first hides the others


def _is_there(file: Path) -> bool:
    try:
        file.stat()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return False
    except OSError:  # such as of a link that leads to itself: Python fails at it
        return True
    return os.access(file, os.R_OK)


def _where_python_fails(file: Path) -> str:
    """Return where in a file Python's reader fails, or why it does; ``""`` where it does not."""
    try:
        mode = file.stat().st_mode
        if stat.S_ISDIR(mode):
            return ""  # which Python passes over
        data = read_metadata_file(str(file)) or b""
        _ = PathDistribution(file.parent).entry_points
    except MetadataError as error:  # Python would read a file that is too large, but wait for a FIFO
        return "" if stat.S_ISREG(mode) else str(error).removeprefix(f"{_FILE} ")
    except OSError as error:
        return f"cannot be opened, {error.strerror}"
    except Exception as error:
        return _place(data, error)
    return ""


def _place(data: bytes, error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"line {data[: error.start].count(bytes([10])) + 1} is not UTF-8"
    is_in_group = False
    for number, raw in enumerate(data.decode().splitlines(), 1):
        line = raw.strip()
        is_in_group = is_in_group or (line.startswith("[") and line.endswith("]"))
        if is_in_group and line and line[0] not in "[#" and "=" not in line:
            return f"line {number}, {shown(line)}, is no 'name = value'"
    return f"{type(error).__name__}: {error}"


def _origin(metadata: Metadata) -> str:
    try:
        return " ".join(metadata.header)
    except MetadataError:
        return metadata.key
