"""Writing a checkpoint as a folder of shards, one by each process of a group.

The processes talk three times: they compare their tensors before anything is written, the first process
collects the shards' sizes before it writes the manifest, and all learn whether the folder is in place. A
process that fails says so at the next of these, so that none waits for it.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from argus_core.errors import CheckpointError, ParamsError
from argus_core.files.working_folder import shown
from argus_core.storage.folder_manifest import MANIFEST, Shard, parse_folder, render_folder, shard_name
from argus_core.storage.folder_replacement import new_folder
from argus_core.storage.layout import Layout, Plan
from argus_core.storage.manifest import SCHEMA
from argus_core.storage.pieces import ALONE, Group, Piece
from argus_core.storage.replacement import place_of, refusal
from argus_core.storage.writer import outline, put

__all__ = ["write_folder"]


def write_folder(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Tensor | Piece],
    manifest: Mapping[str, Any],
    group: Group = ALONE,
) -> None:
    """Write a checkpoint to the folder ``path`` atomically, flushed to the disk; each process calls this.

    Args:
        path: the folder, on a file system that all processes share; an existing checkpoint there is replaced.
        tensors: by name; a plain tensor is one that all processes hold, and one of them writes it.
        manifest: JSON-compatible data, as for a file; that of the first process is written.
        group: the processes.

    Raises:
        ParamsError: a tensor, a name or the manifest cannot be stored, or the processes' tensors do not fit.
        CheckpointError: writing failed, here or in another process; an existing checkpoint is unchanged.
    """
    _Saving(path, tensors, {"schema": SCHEMA, **manifest}, group).run()


class _Saving:
    """One process's part in the writing of a folder."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        tensors: Mapping[str, Tensor | Piece],
        manifest: dict[str, Any],
        group: Group,
    ) -> None:
        self._path = path
        self._tensors = tensors
        self._manifest = manifest
        self._group = group
        self._stack = ExitStack()

    def run(self) -> None:
        with self._stack:
            described = self._together(self._begin)
            folder, save = Path(described[0]["folder"]), described[0]["save"]
            shards = self._together(partial(self._write_own, folder, save, described))
            self._together(partial(self._finish, folder, save, shards))

    def _begin(self) -> dict[str, Any]:
        self._plan = Plan(self._tensors, self._group)
        described = self._plan.description()
        if self._group.rank == 0:
            described["folder"] = str(self._stack.enter_context(new_folder(self._path)))
            described["save"] = os.urandom(16).hex()
        return described

    def _write_own(self, folder: Path, save: str, described: list[Mapping[str, Any]]) -> dict[str, Any]:
        self._layout = self._plan.layout(described)
        if self._group.rank == 0:
            _check_readable(self._manifest, self._layout, self._group.count)
        return _write_shard(folder, self._layout, save, self._group)

    def _finish(self, folder: Path, save: str, written: list[Mapping[str, Any]]) -> dict[str, Any]:
        if self._group.rank == 0:
            shards = tuple(Shard(each["size"], each["crc"]) for each in written)
            _write(folder / MANIFEST, _rendered(self._manifest, self._layout, save, shards))
            self._stack.close()  # puts the folder into its place
        return {}

    def _together(self, work: Callable[[], dict[str, Any]]) -> list[Mapping[str, Any]]:
        """Return what the work of each process returns, or raise in all processes if it failed in one."""
        failure: Exception | None = None
        result: dict[str, Any] = {}
        try:
            result = work()
        except OSError as error:
            failure = refusal(self._path, place_of(self._path), "checkpoint", error)
            failure.__cause__ = error
        except Exception as error:
            failure = error
        results = self._group.gather(result if failure is None else {"failure": f"{failure}"})
        if failure is not None:
            raise failure
        for rank, each in enumerate(results):
            if "failure" in each:
                raise CheckpointError(
                    f"cannot write {shown(self._path)}, since process {rank} failed: {each['failure']}"
                )
        return results


def _write_shard(folder: Path, layout: Layout, save: str, group: Group) -> dict[str, Any]:
    """Write the shard of this process, and return its size and its header's CRC-32."""
    shard = {"save": save, "number": group.rank, "of": group.count}
    manifest = {"schema": SCHEMA, "shard": shard, "offsets": layout.offsets}
    blank = outline(layout.own, manifest, {})
    with open(folder / shard_name(group.rank, group.count), "xb") as file:
        header = put(file, blank, layout.own, manifest, {})
        file.flush()
        os.fsync(file.fileno())
        return {"size": os.fstat(file.fileno()).st_size, "crc": zlib.crc32(header)}


def _check_readable(manifest: Mapping[str, Any], layout: Layout, count: int) -> None:
    """Raise, before the shards are written, for a manifest that could not be read back."""
    size = sum(entry.size for entry in layout.entries.values())
    share = -(-size // count)
    data = _rendered(manifest, layout, "0" * 32, (Shard(share, 0),) * count)
    try:
        parse_folder(data, share * count)
    except CheckpointError as error:
        raise ParamsError(f"this could be written but not read again: {error}") from error


def _rendered(manifest: Mapping[str, Any], layout: Layout, save: str, shards: tuple[Shard, ...]) -> bytes:
    return render_folder(manifest, layout.entries, layout.places, layout.aliases, save, shards)


def _write(path: Path, data: bytes) -> None:
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
