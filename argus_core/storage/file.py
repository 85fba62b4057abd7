"""Reading a checkpoint: the header, without torch, and then requested tensors, verified by checksums."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

from argus_core.errors import CheckpointError, CorruptCheckpointError, near
from argus_core.files.ordinary_files import MOST_COMPRESSED, allocated, open_ordinary
from argus_core.storage.header import Header, check_length, verify_header
from argus_core.storage.pieces import Box, whole
from argus_core.storage.text import cut_off

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = [
    "FOLDER",
    "SUFFIXES",
    "CheckpointFile",
    "near_files",
    "open_file",
    "owner_of",
    "read_file_header",
    "size_problem",
    "verify_sha256",
]

FOLDER = ".sharded"
"""The suffix of a checkpoint that is a folder."""

SUFFIXES = (".safetensors", FOLDER)
"""The suffixes of checkpoints."""

_SHOWN = 3  # checkpoints listed where the path is a folder


class CheckpointFile:
    """An open checkpoint; a context manager.

    The header and the tensors come from one file even if another replaces it meanwhile.

    Args:
        path: the file.
        sha256: the expected SHA-256 of the whole file, in hexadecimal, if it must be checked.

    Attributes:
        header: the parsed and checked header.

    Raises:
        CheckpointError: the file is missing, not a checkpoint, or unreadable; see the subclasses.
    """

    header: Header

    def __init__(self, path: str | os.PathLike[str], sha256: str | None = None) -> None:
        self.path = Path(path)
        self._file = open_file(self.path)
        try:
            with self._blamed():
                if sha256 is not None:
                    _verify_sha256(self._file, sha256)
                self.header = _read_header(self._file)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> CheckpointFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def allocated(self) -> int:
        """The bytes that the disk allocates for the file: fewer than its size if sparse or compressed."""
        return allocated(self._file)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def read(
        self,
        names: Iterable[str] | None = None,
        device: torch.device | str = "cpu",
        verify: bool = True,
        into: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Return tensors by name, reading only their bytes.

        Args:
            names: the tensors to read; by default all. Names of one stored tensor share one tensor.
            device: of the returned tensors.
            verify: whether to check the bytes against their checksums.
            into: tensors to read into, which are then returned; those of another form than the stored
                tensor are not used.

        Raises:
            CheckpointError: the file has no tensor of a name.
            CorruptCheckpointError: a tensor's bytes differ from its checksums.
        """
        from argus_core.storage.reader import read_payload  # imports torch

        known = {**self.header.aliases, **{name: name for name in self.header.entries}}
        with self._blamed():
            owners = {name: owner_of(name, known) for name in (known if names is None else names)}
            tensors = read_payload(self._file, self.header, set(owners.values()), device, verify, into or {})
        return {name: tensors[owner] for name, owner in owners.items()}

    def read_parts(
        self,
        parts: Mapping[str, Box | None],
        device: torch.device | str = "cpu",
        verify: bool = True,
        into: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Return parts of tensors by name; see `folder.CheckpointFolder`. Each is read whole first."""
        found = self.read(parts, verify=verify)
        taken = {}
        for name, box in parts.items():
            tensor = found.pop(name)
            taken[name] = tensor if box is None else tensor[box.inside(whole(tensor.shape))].clone()
        return taken

    @contextmanager
    def _blamed(self) -> Iterator[None]:
        """Prefix the messages of errors with the path."""
        try:
            yield
        except CheckpointError as error:
            if self.path.suffix == ".toml":
                raise CheckpointError(
                    f"{self.path} is a configuration, not a checkpoint; train with it (argus train CONFIG), "
                    "and give a checkpoint in the run directory"
                ) from error
            raise type(error)(f"{self.path}: {error}") from error
        except OSError as error:
            raise CheckpointError(f"cannot read {self.path}: {error.strerror}; use another copy") from error


def read_file_header(path: str | os.PathLike[str], sha256: str | None = None) -> Header:
    """Return the header of a checkpoint, without torch; see `CheckpointFile`."""
    with CheckpointFile(path, sha256) as file:
        return file.header


def verify_sha256(path: str | os.PathLike[str], expected: str, file: FileIO | None = None) -> None:
    """Compare a whole file of any format with its SHA-256.

    Args:
        path: its path.
        expected: the digest in hexadecimal.
        file: the open file at its beginning, if any; the path may lead to another one by now.

    Raises:
        CorruptCheckpointError: the digest differs.
        CheckpointError: the file is missing, or ``expected`` is not a digest.
    """
    with open_file(Path(path)) if file is None else nullcontext(file) as opened:
        try:
            _verify_sha256(opened, expected)
        except CheckpointError as error:
            raise type(error)(f"{path}: {error}") from error


def open_file(path: Path) -> FileIO:
    """Open a regular file for reading.

    Raises:
        CheckpointError: the file is missing, or cannot be read.
    """
    try:
        # Before it is opened: opening a pipe waits for its other end.
        mode = os.stat(path).st_mode
        if stat.S_ISREG(mode):
            return open_ordinary(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"no checkpoint at {path}{near_files(path) or '; check the path'}") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(
            f"cannot read {str(path)!r}: {reason}; check the path and its permissions"
        ) from error
    what = "a folder" if stat.S_ISDIR(mode) else "not an ordinary file"
    inside = " or ".join(_checkpoints_in(path)) if stat.S_ISDIR(mode) else ""
    raise CheckpointError(f"no checkpoint at {path}: it is {what}; give {inside or 'the path of a file'}")


def _checkpoints_in(folder: Path) -> list[str]:
    """Return a few of the checkpoints in a folder or run directory."""
    try:
        found = sorted(
            path
            for inside in ("*", "checkpoints/*")
            for suffix in SUFFIXES
            for path in folder.glob(inside + suffix)
        )
    except OSError:
        return []
    more = [f"another of the {len(found)} in it"] if len(found) > _SHOWN else []
    return [*map(str, found[: _SHOWN - len(more)]), *more]


def near_files(path: Path) -> str:
    """Return a suggestion of files with similar names in the path's folder, or ``""``."""
    try:
        # A broken link is in the list itself.
        return near(path.name, [name for name in os.listdir(path.parent) if name != path.name])
    except OSError:
        return ""


def _verify_sha256(file: FileIO, expected: str) -> None:
    if not isinstance(expected, str) or not re.fullmatch(r"[0-9a-fA-F]{64}", expected):
        raise CheckpointError(f"sha256={expected!r} is not 64 hexadecimal digits; give what sha256sum prints")
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(2**20))
    while count := file.readinto(buffer):
        digest.update(buffer[:count])
    if digest.hexdigest() != expected.lower():
        raise CorruptCheckpointError(
            f"the file is not the one asked for: its SHA-256 is {digest.hexdigest()}, not {expected}; "
            "get it again from where the number comes from"
        )


def _read_header(file: FileIO) -> Header:
    size = os.fstat(file.fileno()).st_size
    file.seek(0)
    start = file.read(min(size, 16))
    if len(start) < min(size, 16):
        raise cut_off()
    _refuse_others(start)
    length = int.from_bytes(start[:8], "little")
    if len(start) < 8 or length > size - 8:
        raise CorruptCheckpointError(
            f"not an argus checkpoint, or cut off in the header ({size:,} bytes are left); use another copy"
        )
    payload = min(size - 8 - length, MOST_COMPRESSED * max(0, allocated(file) - length))
    check_length(length, payload)
    file.seek(0)
    header = verify_header(file, 8 + length, payload)
    if header.file_size != size:
        raise CorruptCheckpointError(size_problem(header, size))
    return header


def _refuse_others(start: bytes) -> None:
    """Raise for a file of another known format; an argus checkpoint has a brace after 8 bytes."""
    what = None
    if start[8:9] != b"{":
        if start.startswith(b"PK\x03\x04"):
            what = "a zip archive such as torch.save writes"
        elif re.match(rb"\x80[\x02-\x05][^\0]", start):
            what = "a pickle such as old versions of torch.save write"
    if what is not None:
        raise CheckpointError(
            f"not an argus checkpoint: {what}; convert it if pytorch-argus saved it (argus convert), or read "
            "it with torch.load(weights_only=True) if its origin is trusted"
        )


def size_problem(header: Header, size: int) -> str:
    """Return the message about a file that is longer or shorter than its header says."""
    if size > header.file_size:
        return f"{size - header.file_size:,} bytes follow the last tensor; use another copy"
    there = size - header.payload_start
    name = next(name for name, entry in header.entries.items() if entry.end > there)
    return (
        f"the file is cut off in tensor {name!r} ({header.file_size - size:,} of {header.file_size:,} bytes "
        "are missing); use another copy"
    )


def owner_of(name: str, known: Mapping[str, str]) -> str:
    """Return the name under which a tensor is stored.

    Raises:
        CheckpointError: there is none of that name.
    """
    if name not in known:
        hint = near(name, known) or "; see `argus inspect`"
        raise CheckpointError(f"the checkpoint holds no tensor {name!r}{hint}")
    return known[name]
