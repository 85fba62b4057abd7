"""Reading the TOML of a configuration file, with the files that it extends."""

from __future__ import annotations

import os
import shlex
from contextlib import suppress
from pathlib import Path
from typing import Any

from argus_core.config.schema import EXTENDS
from argus_core.config.values import check_values
from argus_core.errors import ConfigError, near
from argus_core.files.ordinary_files import as_path, kind_of, read_ordinary
from argus_core.files.toml import MOST_BYTES, not_toml, parse
from argus_core.storage.forms import is_folder

__all__ = ["read_alone", "read_document"]

_MOST_FILES = 100


def read_document(path: Path) -> dict[str, Any]:
    """Return the parsed document of a TOML file; its ``extends`` holds those of the files that it names.

    Raises:
        ConfigError: a file is missing or not TOML, holds a value of a type that no key takes, or extends
            itself.
    """
    return _read_all(path, [], [])


def read_alone(path: Path) -> dict[str, Any]:
    """Return the parsed document of a TOML file, without those of the files that it extends.

    Raises:
        ConfigError: the file is missing or not TOML, or holds a value of a type that no key takes.
    """
    return _parsed(_read(path), path)


def _read(path: Path) -> bytes:
    _check_not_of_run(path)
    try:
        return read_ordinary(path, MOST_BYTES)
    except FileNotFoundError:
        raise ConfigError(f"no configuration {str(path)!r}{_near_files(path)}") from None
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(f"{path} cannot be read: {reason}; give a TOML file in UTF-8") from error
    except ValueError as error:
        raise ConfigError(f"configuration {str(path)!r} {error}; give a TOML file") from error


def _parsed(content: bytes, path: Path) -> dict[str, Any]:
    try:
        document = parse(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} cannot be read: {error}; give a TOML file in UTF-8") from error
    except ValueError as error:
        raise ConfigError(not_toml(path, error)) from error
    check_values(document, str(path))
    return document


def _read_all(path: Path, below: list[Path], read: list[int]) -> dict[str, Any]:
    """Return a document with those that it extends.

    Args:
        path: its file.
        below: the files that extend it, directly and indirectly.
        read: the sizes of the files that have been read so far, in bytes.
    """
    content = _read(path)
    document = _parsed(content, path)
    names = document.get(EXTENDS, [])
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise ConfigError(f"{path}: {EXTENDS} is {names!r}; give the path of a TOML file, or a list of them")
    read.append(len(content))
    if len(read) > _MOST_FILES:
        raise ConfigError(f"{path} is one of over {_MOST_FILES} files that extend each other; give fewer")
    if sum(read) > MOST_BYTES:
        raise ConfigError(
            f"{path} and the files before it are larger than {MOST_BYTES >> 10:,} KiB together; shorten them"
        )
    bases = []
    for base in [_base(path, name) for name in names]:
        if any(_is_same(base, each) for each in [*below, path]):
            circle = " -> ".join(map(str, [*below, path, base]))
            raise ConfigError(f"{path} extends itself: {circle}; remove one of these from {EXTENDS}")
        bases.append((str(base), _read_all(base, [*below, path], read)))
    return {**document, EXTENDS: bases} if bases else document


def _base(path: Path, name: str) -> Path:
    """Return the file of a name in ``extends`` of the file at ``path``."""
    try:
        base = path.parent / as_path(name)
    except ValueError as error:
        raise ConfigError(f"{path}: {EXTENDS} is {name!r}, which {error}") from error
    if os.path.isfile(base):
        return base
    try:
        what = f"{str(base)!r} is {kind_of(base)}; name a TOML file"
    except FileNotFoundError:
        what = f"there is no file {str(base)!r}; correct the path"
    except OSError as error:  # a path that is too long, a link to itself
        what = f"{str(base)!r} cannot be read: {error.strerror or error}; correct the path"
    raise ConfigError(f"{path} extends {name!r}, and {what}")


def _is_same(one: Path, other: Path) -> bool:
    with suppress(OSError):  # a file that has been removed since is not read again
        return os.path.samefile(one, other)
    return False


def _check_not_of_run(path: Path) -> None:
    """Raise for a run directory or a checkpoint, which ``argus resume`` takes."""
    resume = f"to resume the run: {shlex.join(['argus', 'resume', str(path)])}"
    if os.path.isfile(path / "config.toml"):
        raise ConfigError(
            f"{path} is a run directory, not a configuration; {resume}; to start a new one, give "
            f"{path / 'config.toml'}"
        )
    if (path.suffix == ".safetensors" and os.path.isfile(path)) or (is_folder(path) and os.path.isdir(path)):
        raise ConfigError(f"{path} is a checkpoint, not a configuration; {resume}")


def _near_files(path: Path) -> str:
    """Return advice for a missing file: the other TOML files in its folder."""
    if not path.parent.is_dir():
        return f"; the folder {str(path.parent)!r} does not exist; check the path"
    files = sorted(str(file) for file in path.parent.glob("*.toml") if file.name != "pyproject.toml")
    if not files:
        return f"; {str(path.parent.absolute())!r} has no .toml file; check the path"
    return near(str(path), files) or f"; choose {' or '.join(files[:5])}"
