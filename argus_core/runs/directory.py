"""The run directory: creation, locking, and replacement of an earlier run.

`argus_core.runs.run_files` names the files. During a run there is also ``.lock``.
`argus_core.runs.replaced` describes where an overwritten run is kept until the new one has a checkpoint.
"""

from __future__ import annotations

import json
import os
import re
import stat
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from argus_core.errors import ArgusWarning, ConfigError
from argus_core.files.confinement import check_file, confined, replacing
from argus_core.files.made_files import MadeFiles
from argus_core.files.working_folder import absolute, beginning_in, shown, working_folder
from argus_core.runs.checkpoints_link import OWNER, check_checkpoints, mark, read_owner
from argus_core.runs.folder import OTHER, check_place, check_run_folder, make_run_folder, remove_empty, usable
from argus_core.runs.lock import RunLock, check_free, locked
from argus_core.runs.replaced import ReplacedRun
from argus_core.runs.run_files import RunFiles, runs_near
from argus_core.storage.folder_replacement import restore_moved
from argus_core.storage.forms import SUFFIXES, is_folder

__all__ = ["RunDirectory"]

_SHOWN = 3  # runs in a folder


class RunDirectory(RunFiles):
    """A folder that holds one run.

    Args:
        path: it need not exist.

    Its attributes are those of `RunFiles`.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        root = self.root
        self._made = MadeFiles(root, self.checkpoints, (*self.files(), self.checkpoints / OWNER))
        self._overwritten = MadeFiles(root, self.checkpoints, (), ".overwritten")
        self._replaced = ReplacedRun(root, self.files(), self._made, self._overwritten, firsts=self.lasts)
        self._is_begun = self._replaces = self._has_warned = False
        self._overwrites = True
        self._lock: RunLock | None = None

    @classmethod
    def of(cls, path: Path) -> RunDirectory:
        """Return the run directory at ``path``, or the one that holds the checkpoint ``path``.

        Raises:
            ConfigError: there is no run.
        """
        directory = cls(
            path if os.path.isdir(path) and not is_folder(path) else Path(shown(absolute(path).parent.parent))
        )
        has_run = directory.holds_run() and os.path.exists(directory.config)
        if not directory._replaced.is_there and not has_run:
            if runs := runs_near(path):
                some = ", ".join(map(str, runs[:_SHOWN])) + (", ..." if runs[_SHOWN:] else "")
                raise ConfigError(f"{path} is not a run directory; give one that is: {some}")
            if path.suffix in (".pth", ".pt"):
                raise ConfigError(
                    f"{path} is not in a run directory; a checkpoint of pytorch-argus cannot be resumed; "
                    "convert it (argus convert), and give the result to load_model"
                )
            what = "is not a run directory" if os.path.lexists(path) else "does not exist"
            raise ConfigError(
                f"{path} {what}; give a folder with config.toml and versions.json, or a checkpoint in one"
            )
        return directory

    @classmethod
    def marked_in(cls, checkpoints: Path) -> RunDirectory | None:
        """Return the run directory whose ``checkpoints`` link leads to a folder, or ``None``."""
        owner = read_owner(checkpoints)
        return cls(Path(owner)) if owner else None

    def owns(self, file: Path) -> bool:
        """Return whether a file belongs to this run, or is a checkpoint beside its own."""
        if not self.holds_run():
            return False
        path = os.path.abspath(file)
        folders = os.path.realpath(os.path.dirname(path)), os.path.dirname(os.path.realpath(path))
        is_checkpoint = os.path.realpath(self.checkpoints) in folders and path.endswith(SUFFIXES)
        if is_checkpoint and os.path.lexists(file):
            return True
        with confined(self.root):
            made = self._made.files()
        return any(
            path == os.path.abspath(own) or (own.exists() and file.exists() and own.samefile(file))
            for own in (*self.files(), *made)
        )

    def check_inside(self, file: Path) -> None:
        """Check that no link in a run directory leads to ``file``.

        Raises:
            ConfigError: one does.
        """
        if self.holds_run():
            with confined(self.path, self.checkpoints):
                check_file(file)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Lock the folder for the block, and confine its writes to the folder.

        The folder is made, and removed if nothing is left in it. A run that a killed process was replacing is
        restored.

        Raises:
            ConfigError: another process writes here, or something in the folder leads out of it.
            ArgusError: it cannot be written.
        """
        check_run_folder(self.root, str(self.path))
        made = [folder for folder in (self.root, *self.root.parents) if not folder.exists()]
        try:
            with (
                beginning_in(working_folder()),
                confined(self.root, self.checkpoints, note=self._note),
            ):
                make_run_folder(self.root, str(self.path))
                with locked(self.root) as self._lock:
                    with self._usable():
                        check_checkpoints(self.checkpoints, self.holds_run())
                        for file in self._replaced.places:
                            check_place(file)
                        self._sweep()
                        self._recover()
                        for file in self.files():
                            check_place(file)
                    yield
        finally:
            remove_empty(made)

    def _note(self, path: str | os.PathLike[str], is_folder: bool = False, is_there: bool = False) -> None:
        if self._replaces and not (is_folder or is_there or self._made.has_noted(path)):
            self._replaced.keep(Path(os.path.abspath(path)))
        self._made.note(path, is_folder, is_there)

    def check_held(self) -> None:
        """Check that the run still has its folder and lock.

        Raises:
            ArgusError: the folder was moved, removed or replaced, or the process works in another now.
        """
        if self._lock is not None:
            self._lock.check()

    def recover(self) -> None:
        """Restore the run that a killed process was replacing."""
        if self._replaced.is_there:
            with self.held():
                pass

    def check(self, overwrite: bool) -> None:
        """Check that a new run may use this folder.

        Raises:
            ConfigError: there is something that must not be lost, or another process has a run there.
        """
        self._overwrites = overwrite
        check_run_folder(self.root, str(self.path))
        if self._replaced.is_there:
            return  # what is here is known when it has been restored
        found = [file.name for file in self.files() if os.path.lexists(file)]
        if self._lock is None and found and not (overwrite and self.holds_run()):
            check_free(self.root)  # first: any other advice would be wrong during a run
        if found and not self.holds_run():
            raise ConfigError(f"{self.path} holds {found[0]!r}, which does not belong to a run; {OTHER}")
        if found and not overwrite:
            raise ConfigError(
                f"{self.path} already holds a run; resume it (argus resume), {OTHER}, or replace it with "
                "--overwrite"
            )

    def create(self, config: str, versions: Mapping[str, Any]) -> None:
        """Create the run's files; an earlier run is kept until `settle` or `give_up`.

        Raises:
            ConfigError: another program has put a file there since `check`.
            ArgusError: it cannot be written.
        """
        self.check(self._overwrites)
        self._is_begun, self._replaces = True, self.holds_run()
        with self._usable():
            if self._replaces:
                self._replaced.set_aside()
            self._made.begin()
            if self.checkpoints.is_symlink():
                mark(self.checkpoints)
            with replacing(self.versions) as file:  # first and whole: by it the folder is known as a run's
                json.dump(versions, file, indent=2)
            with replacing(self.config) as file:
                file.write(config)

    def settle(self) -> None:
        """Remove the run that the new one replaces."""
        if self._replaces and self._is_held:
            self._remove_replaced()

    def give_up(self, discard: bool) -> str:
        """Restore the run that the new one would have replaced; return a sentence about it.

        Args:
            discard: remove the new one also if it was to replace none.
        """
        if not self._is_held:
            return ""  # what is here now is of another run
        try:
            if self._replaces:
                return f"the earlier run in {self.path} is restored" if self._replaced.put_back() else ""
            if self._is_begun and discard:
                self._replaced.remove_new()
                self._remove_empty_checkpoints()
        except OSError as error:
            reason = error.strerror or error
            if not self._replaces:
                return f"its files in {self.path} could not be removed ({reason})"
            return (
                f"the earlier run could not be restored ({reason}): its files are in {self.path} as "
                ".NAME.old, and the next argus train or argus resume there restores them"
            )
        return ""

    def _usable(self) -> AbstractContextManager[None]:
        return usable(str(self.path))

    @property
    def keeps_run(self) -> bool:
        """True if the current run is kept when it fails now."""
        return self._is_held and not self._replaced.is_returnable

    @property
    def _is_held(self) -> bool:
        return self._lock is not None and self._lock.is_held

    def own_files(self) -> list[Path]:
        """Return the files that only the run itself may write."""
        return [*self.files(), *self._replaced.places, self.root / ".lock"]

    def _sweep(self) -> None:
        """Remove text files that killed processes left unfinished; the lock excludes living writers.

        ``replacing`` of ``files/confinement.py`` names them; ``storage.replacement`` sweeps checkpoints.
        """
        own = {*self.files(), *self._made.files(), *self._overwritten.files()}
        for file in self.root.glob(".*.tmp"):
            name = re.fullmatch(r"\.(.+)\.[0-9a-f]{8}\.tmp", file.name)
            if name and self.root / name[1] in own and stat.S_ISREG(file.lstat().st_mode):
                file.unlink(missing_ok=True)

    def _recover(self) -> None:
        restore_moved(self.lasts[1])
        is_back = self._replaced.put_back()
        self._remove_replaced()
        if is_back:
            left = [file.name for folder in (self.root, self.checkpoints) for file in folder.glob(".?*.old")]
            rest = "and other files of that kind, whose list came with a copy; rename them"
            but = f", except {left[0]} {rest}" if left else ""
            warnings.warn(
                f"the run that would have replaced the one in {self.path} ended before its first "
                f"checkpoint; the earlier run is restored{but}",
                ArgusWarning,
                stacklevel=4,
            )

    def _remove_replaced(self) -> None:
        try:
            self._replaced.remove_old()
        except OSError as error:  # not worth ending a run for
            if self._has_warned:
                return
            self._has_warned = True
            warnings.warn(
                f"the run that was replaced in {self.path} could not be removed "
                f"({error.strerror or error}): its files are there as .NAME.old, and the next argus train or "
                "argus resume there removes them",
                ArgusWarning,
                stacklevel=3,
            )

    def _remove_empty_checkpoints(self) -> None:
        """Remove the folder of the checkpoints, unless it is a link that existed before the run."""
        if self.checkpoints.is_symlink():
            if all(file.name == OWNER for file in self.checkpoints.iterdir()):
                (self.checkpoints / OWNER).unlink(missing_ok=True)
        else:
            remove_empty([self.checkpoints])
