"""Confined folders: writing inside an untrusted folder without following links out of it.

In a confined folder a file is opened relative to the folder, without following symbolic links. An object that
is not a regular file is an error, and a file with other hard links is replaced by a copy first.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from argus_core.errors import ArgusError, ConfigError
from argus_core.files.working_folder import shown

__all__ = [
    "check_file",
    "check_folder",
    "confined",
    "fork_refusal",
    "is_confined",
    "note_made",
    "opener",
    "replacing",
    "unlisted_opener",
]

Note = Callable[..., None]

# Confined folders of active runs, with process and note function; global, since threads write there too.
_folders: list[tuple[str, int, Note | None]] = []

_FOLLOWS_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
_WAITS_FOR_NOBODY = getattr(os, "O_NONBLOCK", 0)  # such as the other end of a pipe
_OPENS_FROM_A_FOLDER = bool(_FOLLOWS_NO_LINK) and os.open in os.supports_dir_fd  # not on Windows


@contextmanager
def confined(*folders: Path, note: Note | None = None) -> Iterator[None]:
    """Confine all writing to paths below these folders to the folders themselves while the block runs.

    Args:
        folders: may themselves be symbolic links, which are followed.
        note: called with the arguments of `note_made` for each file that is made there.
    """
    names = [
        (name, os.getpid(), note)
        for folder in folders
        for name in {os.path.abspath(folder), os.path.realpath(folder)}
    ]
    _folders.extend(names)
    try:
        yield
    finally:
        for name in names:
            _folders.remove(name)


def note_made(path: str | os.PathLike[str], *, is_folder: bool = False, is_there: bool = False) -> None:
    """Record that a run makes a file, so that the file belongs to the run of its folder.

    Args:
        path: the file or folder to be made; an existing one does not belong to the run.
        is_folder: whether it is a folder.
        is_there: whether the run has just made it.

    Raises:
        ArgusError: the process is a fork of the run's.
    """
    absolute, own = Path(os.path.abspath(path)), os.getpid()
    holding = [held for held in _folders if held[2] and absolute.is_relative_to(held[0])]
    if holding:
        folder, process, note = max(holding, key=lambda held: (len(held[0]), held[1] == own))
        if process != own:
            raise fork_refusal(process, folder)
        if note is not None:
            note(path, is_folder=is_folder, is_there=is_there)


def fork_refusal(process: int, folder: str | os.PathLike[str]) -> ArgusError:
    """Return the error to raise in a fork of the process whose run owns a folder."""
    return ArgusError(
        f"process {os.getpid()} is a fork of process {process}, whose run is in {shown(folder)!r}; end a "
        "fork with os._exit, or start a program in its place"
    )


def opener(path: str | os.PathLike[str], flags: int) -> int:
    """Return a descriptor, as ``opener`` of `open`; a new file belongs to the run of its folder.

    Raises:
        ConfigError: ``path`` is in a confined folder, and is not a regular file there.
    """
    if flags & os.O_CREAT:
        check_folder(path)
        note_made(path)
    return unlisted_opener(path, flags)


def unlisted_opener(path: str | os.PathLike[str], flags: int) -> int:
    """Return a descriptor as `opener` does, for a file that does not belong to a run."""
    folder, parts = _split(path) or ("", ())
    if not parts:
        return os.open(path, flags, 0o666)
    with _parent(path, folder, parts) as parent:
        return _open(path, parts[-1], flags, parent)


def check_folder(path: str | os.PathLike[str]) -> None:
    """Check that, in a confined folder, the way to ``path`` has no symbolic link; it may be missing.

    Raises:
        ConfigError: there is a symbolic link.
    """
    folder, parts = _split(path) or ("", ())
    for count in range(1, len(parts) + 1):
        part = Path(folder, *parts[:count])
        if part.is_symlink():
            raise _link(path, part)


def check_file(path: str | os.PathLike[str]) -> None:
    """Check that, in a confined folder, ``path`` is a regular file there; it may be missing.

    Raises:
        ConfigError: it is not a regular file, or a symbolic link leads to it.
    """
    check_folder(path)
    if _split(path) is not None and os.path.exists(path) and not os.path.isfile(path):
        raise _not_a_file(path)


def is_confined(path: str | os.PathLike[str]) -> bool:
    """Return whether ``path`` lies in a confined folder, which one run alone writes to."""
    return _split(path) is not None


@contextmanager
def replacing(path: Path, newline: str | None = None, errors: str | None = None) -> Iterator[TextIO]:
    """Yield a text file that replaces ``path`` when the block ends, and is removed if it raises."""
    note_made(path)
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}.tmp")
    try:
        with open(
            temporary, "x", encoding="utf-8", errors=errors, newline=newline, opener=unlisted_opener
        ) as file:
            yield file
            file.flush()
            os.fsync(
                file.fileno()
            )  # at a power failure, some file systems have renamed files without their contents
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _split(path: str | os.PathLike[str]) -> tuple[str, tuple[str, ...]] | None:
    """Return the innermost confined folder of ``path``, and the path relative to it.

    Raises:
        ConfigError: a ".." in ``path`` follows a symbolic link, and so leads to an unexpected folder.
    """
    absolute = Path(os.path.abspath(path))
    holding = [folder for folder, *_ in _folders if absolute.is_relative_to(folder)]
    if not holding:
        return None
    if os.pardir in Path(path).parts and os.path.realpath(path) != os.path.realpath(absolute):
        raise ConfigError(
            f"{shown(path)} has '..' after a symbolic link, which leads out of its run directory; "
            "write the path without '..'"
        )
    folder = max(holding, key=len)
    return folder, absolute.relative_to(folder).parts


@contextmanager
def _parent(path: str | os.PathLike[str], folder: str, parts: tuple[str, ...]) -> Iterator[int | None]:
    """Return a descriptor of the folder of a file, as ``dir_fd`` of `os.open`."""
    if not _OPENS_FROM_A_FOLDER:
        check_file(path)
        yield None
        return
    descriptor = os.open(folder, _FOLDER)
    try:
        for part in parts[:-1]:
            try:
                inner = os.open(part, _FOLDER | _FOLLOWS_NO_LINK, dir_fd=descriptor)
            except OSError as error:
                raise _refusal(path, error) from error
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


def _open(path: str | os.PathLike[str], name: str, flags: int, parent: int | None) -> int:
    wanted = flags & ~os.O_TRUNC | _FOLLOWS_NO_LINK | _WAITS_FOR_NOBODY
    where = name if parent is not None else path
    while True:
        try:
            descriptor = os.open(where, wanted, 0o666, dir_fd=parent)
        except OSError as error:
            raise _refusal(path, error) from error
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise _not_a_file(path)
            is_read = flags & (os.O_WRONLY | os.O_RDWR) == 0
            if is_read or found.st_nlink <= 1:
                if flags & os.O_TRUNC:
                    os.ftruncate(descriptor, 0)
                if _WAITS_FOR_NOBODY:
                    os.set_blocking(descriptor, True)
                return descriptor
            _separate(os.fspath(where), parent)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _separate(where: str, parent: int | None) -> None:
    """Replace a file that has other hard links by a copy."""
    folder, name = os.path.split(where)
    temporary = os.path.join(folder, f".{name}.{os.urandom(4).hex()}.tmp")
    try:
        with (
            open(os.open(where, os.O_RDONLY | _FOLLOWS_NO_LINK, dir_fd=parent), "rb") as source,
            open(
                os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666, dir_fd=parent), "wb"
            ) as copy,
        ):
            os.chmod(copy.fileno(), stat.S_IMODE(os.fstat(source.fileno()).st_mode))
            while block := source.read(2**20):
                copy.write(block)
        os.replace(temporary, where, src_dir_fd=parent, dst_dir_fd=parent)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=parent)
        raise


def _refusal(path: str | os.PathLike[str], error: OSError) -> Exception:
    """Return the error to raise for a system error about a confined path."""
    if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EMLINK):
        for part in [*reversed(Path(os.path.abspath(path)).parents), Path(os.path.abspath(path))]:
            if part.is_symlink() and (_split(part) or ("", ()))[1]:
                return _link(path, part)
    if error.errno in (errno.ENXIO, errno.EISDIR, errno.ENODEV, errno.EOPNOTSUPP):
        return _not_a_file(path)
    return error


def _link(path: str | os.PathLike[str], part: Path) -> ConfigError:
    where = "" if os.path.abspath(path) == str(part) else f" on the way to {shown(path)}"
    return ConfigError(
        f"{shown(part)}{where} is a symbolic link; a run writes only to files that lie in its run directory; "
        "remove the link, or put what it leads to in its place"
    )


def _not_a_file(path: str | os.PathLike[str]) -> ConfigError:
    return ConfigError(
        f"{shown(path)} is not an ordinary file; a run writes only to ordinary files in its run "
        "directory; remove it"
    )
