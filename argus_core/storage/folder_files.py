"""The files of a folder of shards: opened as those of one save, and checked before their contents are used.

Another process may replace the folder meanwhile. So files are opened relative to the opened folder, never by
its path. Where one is missing because the folder was replaced and is being removed, the new folder is opened
instead. This module does not import torch.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from argus_core.errors import CheckpointError, CorruptCheckpointError, UnsafeCheckpointError
from argus_core.files.ordinary_files import MOST_COMPRESSED
from argus_core.storage.file import near_files
from argus_core.storage.folder_manifest import (
    MANIFEST,
    MOST_SHARDS,
    SHARD_NAME,
    FolderManifest,
    parse_folder,
    shard_name,
)
from argus_core.storage.manifest import most_bytes
from argus_core.storage.shard import OpenShard, read_shard

__all__ = ["FolderFiles", "opened"]

_MOST_ATTEMPTS = 1000  # a writer takes longer to write a folder than a reader to open it
_AT_ONCE = 64  # shards that are opened before they are read; each takes a descriptor
_AROUND = 64  # bytes of the manifest's file beside its text, at most
_READS_SAFELY = sum(
    getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY")
)
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
_OPENS_FROM_A_FOLDER = os.open in os.supports_dir_fd  # not on Windows


def opened(path: Path, with_shards: bool) -> FolderFiles:
    """Return the files of the folder that is at ``path`` now; a context manager.

    Args:
        path: of the folder.
        with_shards: whether shards will be read, and not the manifest alone.

    Raises:
        CheckpointError: it is missing, damaged, unsafe or newer.
    """
    for _ in range(_MOST_ATTEMPTS):
        files = FolderFiles(path)
        try:
            files.load(with_shards)
        except BaseException as error:
            is_replaced = isinstance(error, CheckpointError) and files.is_replaced()
            files.close()
            if not is_replaced:
                raise
        else:
            return files
    raise CheckpointError(f"{path} is replaced more often than it can be read; read it later")


class FolderFiles:
    """An open folder of shards.

    Attributes:
        manifest: parsed and checked.
        allocated: the bytes that the disk allocates for the shards.
    """

    manifest: FolderManifest
    allocated: int

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open: dict[int, FileIO] = {}
        self._shards: dict[int, OpenShard] = {}
        self._folder: int | None = None
        try:
            self._identity = _identity(os.stat(path))
            if _OPENS_FROM_A_FOLDER:
                self._folder = os.open(path, _FOLDER)
                self._identity = _identity(os.fstat(self._folder))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise CheckpointError(
                f"no checkpoint at {path}{near_files(path) or '; check the path'}"
            ) from error
        except OSError as error:
            raise CheckpointError(
                f"cannot read {str(path)!r}: {error.strerror}; check the path and its permissions"
            ) from error

    def __enter__(self) -> FolderFiles:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all files."""
        for file in self._open.values():
            file.close()
        if self._folder is not None:
            os.close(self._folder)
            self._folder = None

    def is_replaced(self) -> bool:
        """Return whether another folder has taken this one's place, or none is there."""
        try:
            return _identity(os.stat(self.path)) != self._identity
        except OSError:
            return True

    def load(self, with_shards: bool) -> None:
        """Read the manifest, and compare the files with it; see `opened`."""
        with self.blamed():
            found = self._found()
            if MANIFEST not in found:
                raise CorruptCheckpointError(
                    "it holds no manifest.json, and so is not a checkpoint, or damaged; use another copy"
                )
            on_disk = [_on_disk(status) for name, status in found.items() if name != MANIFEST]
            self.allocated = sum(held for _, held in on_disk)
            payload = sum(min(size, MOST_COMPRESSED * held) for size, held in on_disk)
            self.manifest = parse_folder(self._manifest_bytes(payload), payload)
            self._check_names(found)
            for number, shard in enumerate(self.manifest.shards):
                if found[self._name(number)].st_size != shard.size:
                    self._refuse_size(number)
            if with_shards:
                for number in range(len(self.manifest.shards))[:_AT_ONCE]:
                    self._opened(number)

    def shard(self, number: int) -> OpenShard:
        """Return a shard, opened and checked.

        Raises:
            CheckpointError: it is missing, damaged or unsafe, or the folder was replaced meanwhile.
        """
        if number not in self._shards:
            self._shards[number] = self._read_shard(number)
        return self._shards[number]

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """Prefix the messages of errors with the path."""
        try:
            yield
        except CheckpointError as error:
            raise type(error)(f"{self.path}: {error}") from error
        except OSError as error:
            few = error.errno == errno.EMFILE
            action = "allow more by ulimit -n, one for each shard" if few else "use another copy"
            raise CheckpointError(f"cannot read {self.path}: {error.strerror}; {action}") from error

    def _found(self) -> dict[str, os.stat_result]:
        """Return the files of the folder, of which none is a link or belongs to something else."""
        found: dict[str, os.stat_result] = {}
        with os.scandir(self.path if self._folder is None else self._folder) as files:
            for file in files:
                if file.name.startswith("."):
                    continue
                status = file.stat(follow_symlinks=False)
                if file.name != MANIFEST and not SHARD_NAME.fullmatch(file.name):
                    raise _strange(file.name, "is not part of a checkpoint")
                if not stat.S_ISREG(status.st_mode):
                    raise _strange(file.name, "is not an ordinary file")
                found[file.name] = status
                if len(found) > MOST_SHARDS + 1:
                    raise UnsafeCheckpointError(f"it holds more than {MOST_SHARDS:,} shards; do not trust it")
        return found

    def _check_names(self, found: dict[str, os.stat_result]) -> None:
        expected = {self._name(number) for number in range(len(self.manifest.shards))}
        missing = sorted(expected - found.keys())
        if missing:
            raise CorruptCheckpointError(
                f"{len(missing)} of its {len(expected)} shards are missing, {missing[0]} among them; "
                "use another copy"
            )
        for name in sorted(found.keys() - expected - {MANIFEST}):
            raise _strange(name, "is not one of its shards")

    def _manifest_bytes(self, payload: int) -> bytes:
        with self._file(MANIFEST) as file:
            most = most_bytes(payload) + _AROUND
            data = file.read(most + 1) or b""
        if len(data) > most:
            raise UnsafeCheckpointError(
                f"its manifest takes more than {most:,} bytes, the most beside {payload:,} bytes of shards; "
                "do not trust it"
            )
        return data

    def _name(self, number: int) -> str:
        return shard_name(number, len(self.manifest.shards))

    def _opened(self, number: int) -> FileIO:
        if number not in self._open:
            self._open[number] = self._file(self._name(number))
        return self._open[number]

    def _file(self, name: str) -> FileIO:
        where = name if self._folder is not None else os.path.join(self.path, name)
        try:
            descriptor = os.open(where, os.O_RDONLY | _READS_SAFELY, dir_fd=self._folder)
        except FileNotFoundError as error:
            if self.is_replaced():
                raise CheckpointError("it was replaced while it was read; read it again") from error
            raise CorruptCheckpointError(f"{name} is missing; use another copy") from error
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO):
                raise _strange(name, "is not an ordinary file") from error
            raise
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise _strange(name, "is not an ordinary file")
        return FileIO(descriptor)

    def _read_shard(self, number: int) -> OpenShard:
        return read_shard(self._opened(number), self.manifest, number)

    def _refuse_size(self, number: int) -> None:
        """Raise for a shard of another size than the manifest says; name a tensor if there is one."""
        self._read_shard(number)
        raise CorruptCheckpointError(
            f"{self._name(number)} changes while it is read; read it when it is complete"
        )


def _on_disk(status: os.stat_result) -> tuple[int, int]:
    """Return a file's size, and the bytes that the disk allocates for it; see `ordinary_files.allocated`."""
    return status.st_size, getattr(status, "st_blocks", 0) * 512 or status.st_size


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _strange(name: str, problem: str) -> UnsafeCheckpointError:
    return UnsafeCheckpointError(
        f"{name[:200]!r} in it {problem}; remove it if it is yours, or use another copy"
    )
