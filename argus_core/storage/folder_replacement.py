"""Atomic replacement of folders: a reader finds the old folder or the complete new one.

A new folder is filled under a temporary name beside its place, and locked meanwhile, as temporary files are.
Where nothing has its name, it is renamed; else both folders exchange their names at once, and the old one is
removed. A system that cannot exchange names has a moment without the folder: the old one waits beside it as
``.NAME.moved`` and is restored by the next save if the process is killed just then.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from argus_core.errors import CheckpointError
from argus_core.files.confinement import check_folder, note_made
from argus_core.files.working_folder import shown
from argus_core.storage import linux
from argus_core.storage.folder_manifest import MANIFEST, SHARD_NAME
from argus_core.storage.leftovers import lock, sweep, temporary_name
from argus_core.storage.replacement import (
    make_folder_of,
    place_of,
    refusal,
    sync_folder,
    sync_folders,
)

__all__ = [
    "is_part",
    "new_folder",
    "place_aside",
    "remove_at_once",
    "remove_folder",
    "restore_moved",
    "strange_in",
]


def is_part(name: str) -> bool:
    """Return whether a folder of shards may hold a file of this name."""
    return name == MANIFEST or SHARD_NAME.fullmatch(name) is not None


def strange_in(folder: Path) -> str | None:
    """Return the name of something in a folder that no checkpoint holds, or None.

    Names that begin with a dot are the system's or the run's, and are never read.
    """
    with os.scandir(folder) as files:
        for file in files:
            if file.name.startswith("."):
                continue
            if not is_part(file.name) or not stat.S_ISREG(file.stat(follow_symlinks=False).st_mode):
                return file.name
    return None


@contextmanager
def new_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield an empty folder that takes the place of ``path`` at the end, and is removed if the block raises.

    The caller flushes the files in it to the disk; the folders are flushed here. A symbolic link keeps its
    target.

    Raises:
        CheckpointError: a system call failed, or something else is at ``path``; it is unchanged.
    """
    check_folder(path)
    target = place_of(path)
    try:
        new_parents = make_folder_of(target, is_folder=True)
        restore_moved(target)
        sweep(target.parent, target.name.__eq__)
        _check_replaceable(path, target)
        with _temporary(target) as temporary:
            yield temporary
            sync_folder(temporary)
            _note(target, temporary)
            _put(temporary, target)
    except OSError as error:
        raise refusal(path, target, "checkpoint", error) from error
    sync_folders([target.parent, *new_parents])


def remove_folder(path: Path) -> None:
    """Remove a folder of shards: at once for its readers, and then file by file.

    Raises:
        OSError: a system call failed, or the folder holds something else, which is kept.
    """
    _check_removable(path)
    temporary = temporary_name(path)
    os.rename(path, temporary)
    _empty(temporary)


def remove_at_once(path: Path) -> None:
    """Remove a folder of shards that has no readers, in its place; see `remove_folder`."""
    _check_removable(path)
    _empty(path)


def _check_removable(path: Path) -> None:
    strange = strange_in(path)
    if strange is not None:
        raise OSError(errno.ENOTEMPTY, f"it holds {shown(path / strange)}, which is not part of a checkpoint")


def _check_replaceable(path: str | os.PathLike[str], target: Path) -> None:
    if not os.path.lexists(target):
        return
    if not os.path.isdir(target):
        raise CheckpointError(
            f"cannot write {shown(path)}: a file is there, and checkpoints in .sharded are folders; move it "
            "away, "
            "or save elsewhere"
        )
    strange = strange_in(target)
    if strange is not None:
        raise CheckpointError(
            f"cannot write {shown(path)}: it holds {strange!r}, which is not part of a checkpoint; move it "
            "away, "
            "or save elsewhere"
        )


@contextmanager
def _temporary(target: Path) -> Iterator[Path]:
    """Yield a new, locked folder beside the target; remove what has its name at the end."""
    temporary, descriptor = _locked_folder(target)
    try:
        if os.path.isdir(target):
            _keep_permissions(target, temporary)
        yield temporary
    finally:
        with suppress(OSError):  # else the next save sweeps it
            _empty(temporary)  # the new folder if it failed, and the old one otherwise
        if descriptor is not None:
            os.close(descriptor)


def _locked_folder(target: Path) -> tuple[Path, int | None]:
    while True:
        temporary = temporary_name(target)
        temporary.mkdir()
        if os.name == "nt":  # pragma: no cover - Windows cannot open folders
            return temporary, None
        try:
            descriptor = os.open(temporary, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
        except FileNotFoundError:  # another writer has swept it before it was locked
            continue
        if lock(descriptor) is not False and os.path.exists(temporary):
            return temporary, descriptor
        os.close(descriptor)
        with suppress(FileNotFoundError):
            temporary.rmdir()


def _keep_permissions(target: Path, temporary: Path) -> None:
    permissions = stat.S_IMODE(os.stat(target).st_mode) & 0o777
    if permissions != stat.S_IMODE(os.stat(temporary).st_mode):
        os.chmod(temporary, permissions)


def _note(target: Path, temporary: Path) -> None:
    """Record that the run makes the folder and its files."""
    note_made(target, is_folder=True)
    for name in _parts_in(temporary):
        note_made(target / name)


def _put(temporary: Path, target: Path) -> None:
    if not os.path.lexists(target):
        try:
            os.rename(temporary, target)
            return
        except OSError as error:  # another writer was first
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
    if not linux.exchange(temporary, target):
        _put_after_old(temporary, target)
    with suppress(OSError):
        _move_hidden(temporary, target)


def _put_after_old(temporary: Path, target: Path) -> None:
    aside = place_aside(target)
    os.rename(target, aside)
    try:
        os.rename(temporary, target)
    except BaseException:
        os.rename(aside, target)
        raise
    os.rename(aside, temporary)  # to be removed


def restore_moved(target: Path) -> None:
    """Restore the folder that a process was replacing when it was killed, where names cannot be exchanged."""
    aside = place_aside(target)
    if os.path.isdir(aside) and not aside.is_symlink():
        if os.path.lexists(target):
            with suppress(OSError):
                remove_folder(aside)
        else:
            os.rename(aside, target)


def place_aside(target: Path) -> Path:
    """Return where a folder waits while another takes its place, if names cannot be exchanged."""
    return target.with_name(f".{target.name}.moved")


def _move_hidden(old: Path, new: Path) -> None:
    """Move what is not of a checkpoint to the new folder, such as files that a run set aside."""
    for name in os.listdir(old):
        if not is_part(name):
            os.rename(old / name, new / name)


def _parts_in(folder: Path) -> Iterable[str]:
    return sorted(filter(is_part, os.listdir(folder)))


def _empty(folder: Path) -> None:
    """Remove a folder under a temporary name: the manifest first, without which it is not a checkpoint."""
    for name in sorted(_parts_in(folder), key=lambda name: name != MANIFEST):
        with suppress(FileNotFoundError):
            os.unlink(folder / name)
    folder.rmdir()
