"""The folder of a run, and what it may and may not hold.

::

    config.toml       the resolved configuration; trains as it is
    versions.json     of everything that took part
    metrics.jsonl     the metrics of each epoch
    log.txt
    test.json         the best checkpoint's metrics on the test data, if there are any
    checkpoints/      best.safetensors and last.safetensors

While a run is on there is ``.lock`` as well. `argus_core.replaced_run` says what an overwritten run is called
until the new one has a checkpoint.
"""

from __future__ import annotations

import json
import os
import reprlib
import stat
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from argus_core.callbacks.files import writing
from argus_core.checkpoints_link import OWNER, check_link, mark, read_owner
from argus_core.confinement import check_file, confined, opener, replacing
from argus_core.diagnosis import requirement
from argus_core.distributions import version_of
from argus_core.errors import ArgusWarning, ConfigError, UnknownNameError
from argus_core.replaced_run import ReplacedRun
from argus_core.run_lock import RunLock, locked

__all__ = ["RunDirectory"]

_LONGEST = 2**20  # bytes of versions.json
_OTHER = "choose another with --run-dir"


class RunDirectory:
    """A folder that holds one run.

    Args:
        path: it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.toml"
        self.versions = path / "versions.json"
        self.metrics = path / "metrics.jsonl"
        self.log = path / "log.txt"
        self.test = path / "test.json"
        self.checkpoints = path / "checkpoints"
        self.best = self.checkpoints / "best.safetensors"
        self.last = self.checkpoints / "last.safetensors"
        self._replaced = ReplacedRun(path, self._files())
        self._is_begun = self._replaces = False
        self._lock: RunLock | None = None

    @classmethod
    def of(cls, path: Path) -> RunDirectory:
        """Return the run directory at ``path``, or the one that holds the checkpoint ``path``.

        Raises:
            ConfigError: there is no run.
        """
        directory = cls(path if os.path.isdir(path) else path.parent.parent)
        has_run = directory._holds_run() and os.path.exists(directory.config)
        if not directory._replaced.is_there and not has_run:
            raise ConfigError(
                f"{path} is of no run; give a run directory, which has a config.toml and a versions.json, "
                "or a checkpoint in one"
            )
        return directory

    @classmethod
    def marked_in(cls, checkpoints: Path) -> RunDirectory | None:
        """Return the run directory whose linked ``checkpoints`` a folder is, if it is one's."""
        owner = read_owner(checkpoints)
        return cls(Path(owner)) if owner else None

    def owns(self, file: Path) -> bool:
        """Return whether a file is of the run that is here, or a checkpoint beside its own."""
        if not self._holds_run():
            return False
        path = os.path.abspath(file)
        folders = os.path.realpath(os.path.dirname(path)), os.path.dirname(os.path.realpath(path))
        is_checkpoint = os.path.realpath(self.checkpoints) in folders and path.endswith(".safetensors")
        if is_checkpoint and os.path.lexists(file):
            return True
        return any(
            path == os.path.abspath(own) or (own.exists() and file.exists() and own.samefile(file))
            for own in self._files()
        )

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let this process alone write here while the block runs, and only to what lies here.

        The folder is made, and removed if nothing is left in it. A run that a killed process was replacing is
        put back.

        Raises:
            ConfigError: another process writes here, or something in the folder leads out of it.
            ArgusError: it cannot be written.
        """
        self._check_path()
        made = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        try:
            with confined(self.path, self.checkpoints):
                with writing("train", self.path):
                    self.path.mkdir(parents=True, exist_ok=True)
                with locked(self.path) as self._lock:
                    if self.checkpoints.is_symlink():
                        check_link(self.checkpoints, self._holds_run())
                    self._recover()
                    for file in self._files():
                        check_file(file)
                    yield
        finally:
            for folder in made:
                if folder.is_dir() and not any(folder.iterdir()):
                    folder.rmdir()

    def check_held(self) -> None:
        """Check that the run still has the folder that it began in.

        Raises:
            ArgusError: the folder was moved, removed or replaced, or the process works in another now.
        """
        if self._lock is not None:
            self._lock.check()

    def recover(self) -> None:
        """Put the run back that a killed process was replacing here, if there is one."""
        if self._replaced.is_there:
            with self.held():
                pass

    def check(self, overwrite: bool) -> None:
        """Check that a run may be put here.

        Raises:
            ConfigError: there is something that must not be lost.
        """
        self._check_path()
        if self._replaced.is_there:
            return  # what is here is known when it has been put back
        found = [file.name for file in self._files() if os.path.lexists(file)]
        if found and not self._holds_run():
            raise ConfigError(f"{self.path} holds {found[0]!r}, which is of no run; {_OTHER}")
        if found and not overwrite:
            raise ConfigError(f"{self.path} already holds a run; {_OTHER}, or replace it with --overwrite")

    def create(self, config: str, versions: Mapping[str, Any]) -> None:
        """Begin a run; one that is here already is kept until `settle` or `give_up`.

        Raises:
            ArgusError: it cannot be written.
        """
        self._is_begun, self._replaces = True, self._holds_run()
        with writing("train", self.path):
            if self._replaces:
                self._replaced.set_aside()
            if self.checkpoints.is_symlink():
                mark(self.checkpoints)
            with replacing(self.versions) as file:  # first and whole: by it the folder is known as a run's
                json.dump(versions, file, indent=2)
            with replacing(self.config) as file:
                file.write(config)

    def settle(self) -> None:
        """Remove the run that the new one replaces, if there is one."""
        if self._replaces and self._is_held:
            with writing("train", self.path):
                self._replaced.remove()

    def give_up(self, discard: bool) -> None:
        """Put the run back that the new one was to replace.

        Args:
            discard: remove the new one also if it was to replace none.
        """
        if not self._is_held:
            return  # what is here now is of another run
        with writing("train", self.path):
            if self._replaces:
                self._replaced.put_back()
            elif self._is_begun and discard:
                for file in self._files():
                    file.unlink(missing_ok=True)
                self._remove_empty_checkpoints()

    @contextmanager
    def naming_what_is_missing(self) -> Iterator[None]:
        """Say of a name that is not known which packages the run had and are not installed.

        Raises:
            UnknownNameError: with the command that installs them.
        """
        try:
            yield
        except UnknownNameError as error:
            missing = self._missing()
            if not missing:
                raise
            raise UnknownNameError(
                f"{error}; what took part in the run and is not installed: pip install {' '.join(missing)}"
            ) from error

    def _missing(self) -> list[str]:
        """Return what took part in the run and is not installed, as ``pip install`` takes it."""
        providers = self._read_versions().get("providers")
        return [
            requirement(name, version)
            for name, version in (providers.items() if isinstance(providers, dict) else ())
            if isinstance(version, str | None) and version_of(name) is None
        ]

    def change_config(self, config: str) -> None:
        """Put another configuration in the place of the run's, in one step.

        Raises:
            ArgusError: it cannot be written.
        """
        with writing("resume", self.config), replacing(self.config) as file:
            file.write(config)

    def write_test(self, values: Mapping[str, float]) -> None:
        """Write the metrics on the test data.

        Raises:
            ArgusError: they cannot be written.
        """
        with writing("train", self.test), replacing(self.test) as file:
            file.write(json.dumps(values, indent=2) + "\n")

    @property
    def keeps_run(self) -> bool:
        """Whether the run that is on here stays if it fails now."""
        return self._is_held and not self._replaced.is_there

    @property
    def _is_held(self) -> bool:
        return self._lock is not None and self._lock.is_held

    def _check_path(self) -> None:
        """Check that a folder is here, or may be made."""
        try:
            is_folder = stat.S_ISDIR(os.stat(self.path).st_mode)
        except FileNotFoundError:
            if self.path.is_symlink():
                raise ConfigError(
                    f"run directory {str(self.path)!r} is a symbolic link to {os.path.realpath(self.path)}, "
                    "which does not exist; make that folder first, or remove the link"
                ) from None
            return
        except OSError as error:
            reason = error.strerror or error
            raise ConfigError(
                f"run directory {reprlib.repr(str(self.path))} cannot be used: {reason}; {_OTHER}"
            ) from error
        if not is_folder:
            raise ConfigError(f"run directory {str(self.path)!r} is a file; {_OTHER}")

    def _files(self) -> list[Path]:
        """Return what a run writes here, that which marks the folder as a run's last."""
        return [self.best, self.last, self.test, self.log, self.metrics, self.config, self.versions]

    def _holds_run(self) -> bool:
        return "argus-torch" in self._read_versions()

    def _read_versions(self) -> dict[str, Any]:
        try:
            with (
                confined(self.path),  # which waits for no pipe
                open(self.versions, encoding="utf-8", opener=opener) as file,
            ):
                versions = json.loads(file.read(_LONGEST))
        except (OSError, ValueError, RecursionError):
            return {}
        return versions if isinstance(versions, dict) else {}

    def _recover(self) -> None:
        with writing("train", self.path):
            is_back = self._replaced.put_back()
            self._replaced.remove()
        if is_back:
            warnings.warn(
                f"the run that was to replace the one in {self.path} ended before its first checkpoint; the "
                "earlier run is back",
                ArgusWarning,
                stacklevel=4,
            )

    def _remove_empty_checkpoints(self) -> None:
        """Remove the folder of the checkpoints, but not one that was there, linked, before the run."""
        if self.checkpoints.is_symlink():
            if all(file.name == OWNER for file in self.checkpoints.iterdir()):
                (self.checkpoints / OWNER).unlink(missing_ok=True)
        elif self.checkpoints.is_dir() and not any(self.checkpoints.iterdir()):
            self.checkpoints.rmdir()
