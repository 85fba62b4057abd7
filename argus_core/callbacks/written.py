"""The files that a callback has written, which alone it may delete."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from logging import Logger
from pathlib import Path
from typing import Any

from argus_core.callbacks.names import FileFormat
from argus_core.errors import ArgusError, CheckpointError
from argus_core.files.confinement import is_confined
from argus_core.files.working_folder import shown
from argus_core.storage import read_header
from argus_core.storage.folder_replacement import remove_folder, strange_in
from argus_core.storage.forms import is_folder
from argus_core.storage.leftovers import sweep
from argus_core.storage.stored import COUNT

__all__ = [
    "WrittenFiles",
    "check_no_link",
    "delete_written",
    "run_in",
    "run_of",
    "run_record",
    "sweep_unfinished",
    "times_resumed",
]

_RUN = re.compile(r"[0-9a-f]{32}")
_Identity = tuple[int, int, int]
_IS_KNOWN = {False: stat.S_ISREG, True: stat.S_ISDIR}  # by whether the path names a folder


class WrittenFiles:
    """The files that a callback has written and keeps, oldest first; it deletes no others.

    Args:
        folder: of the callback.

    Attributes:
        names: the files' names in the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: list[str] = []
        self._written: dict[str, _Identity | None] = {}

    def clear(self) -> None:
        """Clear the list of files."""
        self.names, self._written = [], {}

    def add(self, name: str) -> None:
        """Record that ``name`` has been written."""
        self.names = [other for other in self.names if other != name] + [name]
        self._written[name] = _identity(self.folder / name)

    def adopt(self, names: Iterable[str], run: str) -> None:
        """Add the existing files whose manifest names the run ``run``."""
        self.clear()
        for name in names:
            path = self.folder / name
            # A link may lead to a file that is not the callback's.
            inside = os.path.realpath(path) == os.path.join(os.path.realpath(self.folder), *name.split("/"))
            if inside and run_of(path) == run:
                self.add(name)

    def look_for_others(self, names: FileFormat, run: str, logger: Logger) -> None:
        """Warn once of files that the run ``run`` did not write and whose names it may use.

        Raises:
            ArgusError: one is a link, or a file that no run has written.
        """
        warned = False
        for path in sorted(self.folder.glob("*/" * names.folders + "*")):
            name = path.relative_to(self.folder).as_posix()
            if not names.matches(name):
                continue
            check_no_link(names.callback, path)
            if name in self.names or (writer := run_of(path)) == run:
                continue
            if writer is None:
                _check_damaged(names.callback, path)
            if not warned:
                warned = True
                logger.warning(
                    "%s holds %s, which another run wrote; a save under that name overwrites it; give "
                    "each run its own folder to keep both",
                    shown(self.folder), name,
                )  # fmt: skip

    def delete_old(self, most: int, logger: Logger) -> None:
        """Delete the oldest files beyond ``most``, except files that have been replaced since."""
        while len(self.names) > most:
            name = self.names.pop(0)
            path, written = self.folder / name, self._written.pop(name, None)
            now = _identity(path)
            if now is None and not os.path.lexists(path):
                continue
            if now is None or now != written:
                logger.warning("could not delete %s: another file has replaced the run's", shown(path))
                continue
            delete_written(path, logger)


def delete_written(path: Path, logger: Logger) -> None:
    """Delete a checkpoint that a run has written; log why, if that fails."""
    try:
        if is_folder(path):
            remove_folder(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:  # not worth ending a run for
        logger.warning("could not delete %s: %s", shown(path), error.strerror or error)


def check_no_link(callback: str, path: Path) -> None:
    """Check that a callback does not write through a link, which leads to a file that is not its own.

    Raises:
        ArgusError: it would.
    """
    if path.is_symlink():
        raise ArgusError(
            f"{callback} cannot write {shown(path)}: it is a link; remove it, or make its folder the link"
        )


def _check_damaged(callback: str, path: Path) -> None:
    """Check that a file that is not a run's checkpoint is at least a damaged one.

    Raises:
        ArgusError: it is a file of another program, or a model that the user has saved.
    """
    if is_confined(path) or not (path.is_dir() if is_folder(path) else path.is_file()):
        return
    try:
        manifest = read_header(path).manifest
    except CheckpointError:
        if path.suffix == ".safetensors" or (is_folder(path) and strange_in(path) is None):
            return
    else:
        if (
            manifest.get("run") or "progress" in manifest
        ):  # of an earlier version, without the run's identifier
            return
    raise ArgusError(
        f"{callback} may give a checkpoint the name {shown(path)}, and the file there was not written by a "
        "run; move it away, or give another file_format or dir_path"
    )


def sweep_unfinished(folder: Path, depth: int, matches: Callable[[str], bool]) -> None:
    """Remove unfinished files of killed writers, whose names may not be used again.

    Args:
        folder: of the callback.
        depth: of the files' folders in it.
        matches: returns whether a path in the folder is that of a file of the callback.
    """
    for place in folder.glob("/".join("*" * depth)) if depth else [folder]:
        inner = place.relative_to(folder)
        if os.path.realpath(place) == os.path.join(os.path.realpath(folder), *inner.parts):  # not by a link
            sweep(place, partial(_matches_in, inner, matches), by_process=False)


def _matches_in(inner: Path, matches: Callable[[str], bool], name: str) -> bool:
    return matches((inner / name).as_posix())


def run_of(path: Path) -> str | None:
    """Return the identifier of the run that wrote a checkpoint; ``None`` for other files."""
    return run_in(_manifest(path))


def run_record(path: Path) -> dict[str, Any]:
    """Return the run's record that `Checkpoint.save_model` writes; an empty one for other files."""
    record = _manifest(path).get("run")
    if not isinstance(record, dict) or not isinstance(record.get("metrics"), dict):
        return {}
    return record if all(COUNT.holds(record.get(key)) for key in ("epoch", "global_step")) else {}


def _manifest(path: Path) -> Mapping[str, Any]:
    if _identity(path) is None:
        return {}
    try:
        return read_header(path).manifest
    except CheckpointError:
        return {}


def run_in(manifest: Mapping[str, Any]) -> str | None:
    """Return the identifier of the run in a checkpoint's manifest, or ``None``."""
    run = manifest.get("run")
    name = run.get("id") if isinstance(run, dict) else None
    return name if isinstance(name, str) and _RUN.fullmatch(name) else None


def times_resumed(manifest: Mapping[str, Any]) -> int:
    """Return the number of times that a checkpoint's run had been resumed, by its manifest."""
    run = manifest.get("run")
    count = run.get("times_resumed") if isinstance(run, dict) else None
    return int(count) if count is not None and COUNT.holds(count) else 0


def _identity(path: Path) -> _Identity | None:
    """Return the identity of a file or a folder of shards (device, inode, time of change), or None."""
    try:
        found = os.lstat(path)
    except (OSError, ValueError):
        return None
    if not _IS_KNOWN[is_folder(path)](found.st_mode):
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns
