"""The folder of a run, and what it may and may not hold.

::

    config.toml       the resolved configuration; trains as it is
    versions.json     of everything that took part
    metrics.jsonl     the metrics of each epoch
    log.txt
    test.json         the best checkpoint's metrics on the test data, if there are any
    checkpoints/      best.safetensors and last.safetensors
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from argus_core.callbacks.files import writing
from argus_core.diagnosis import requirement
from argus_core.distributions import BUILTIN, version_of
from argus_core.errors import ConfigError, UnknownNameError
from argus_core.ordinary_files import read_ordinary

__all__ = ["RunDirectory"]

_LARGEST_VERSIONS = 2**20  # bytes


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
        self._made: list[Path] = []

    @classmethod
    def of(cls, path: Path) -> RunDirectory:
        """Return the run directory at ``path``, or the one that holds the checkpoint ``path``.

        Raises:
            ConfigError: there is no run.
        """
        directory = cls(path if path.is_dir() else path.parent.parent)
        if not directory._holds_run() or not directory.config.exists():
            raise ConfigError(
                f"{path} is of no run; give a run directory, which has a config.toml and a versions.json, "
                "or a checkpoint in one"
            )
        return directory

    def check(self, overwrite: bool) -> None:
        """Check that a run may be put here.

        Raises:
            ConfigError: there is something that must not be lost.
        """
        other = "choose another with --run-dir"
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"run directory {str(self.path)!r} is a file; {other}")
        found = [file.name for file in self._files() if file.exists()]
        if found and not self._holds_run():
            raise ConfigError(f"{self.path} holds {found[0]!r}, which is of no run; {other}")
        if found and not overwrite:
            raise ConfigError(f"{self.path} already holds a run; {other}, or replace it with --overwrite")

    def create(self, config: str, versions: Mapping[str, Any], overwrite: bool) -> None:
        """Make the folder with the configuration and the versions in it; a run that it holds is removed.

        Raises:
            ConfigError: it holds a run, and ``overwrite`` is not set.
            ArgusError: it cannot be written.
        """
        self.check(overwrite)
        with writing("train", self.path):
            self._remove_files()
            self._made = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
            self.path.mkdir(parents=True, exist_ok=True)
            try:
                # First, and never in place of another: of two runs that start at once one must give way.
                with self.versions.open("x", encoding="utf-8") as file:
                    json.dump(versions, file, indent=2)
            except FileExistsError:
                raise ConfigError(
                    f"another run has just begun in {self.path}; choose another with --run-dir"
                ) from None
            self.config.write_text(config, encoding="utf-8")

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
        providers = (self._read_versions() or {}).get("providers")
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
        temporary = self.config.with_name(f".{self.config.name}.{os.getpid()}.tmp")
        with writing("resume", self.config):
            try:
                temporary.write_text(config, encoding="utf-8")
                temporary.replace(self.config)
            finally:
                temporary.unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove the run, and the folders that `create` made for it, unless something else is in them."""
        with writing("train", self.path):
            self._remove_files()
            for folder in self._made:
                if folder.is_dir() and not any(folder.iterdir()):
                    folder.rmdir()

    def _files(self) -> list[Path]:
        """Return what a run writes here, that which marks the folder as a run's last."""
        return [self.best, self.last, self.test, self.log, self.metrics, self.config, self.versions]

    def _remove_files(self) -> None:
        for file in self._files():
            file.unlink(missing_ok=True)
        if self.checkpoints.is_dir() and not any(self.checkpoints.iterdir()):
            self.checkpoints.rmdir()

    def _holds_run(self) -> bool:
        return BUILTIN in (self._read_versions() or {})

    def _read_versions(self) -> dict[str, Any] | None:
        """Return what versions.json holds, None where that is not what a run writes."""
        try:
            versions = json.loads(read_ordinary(self.versions, _LARGEST_VERSIONS))
        except (OSError, ValueError, RecursionError):
            return None
        return versions if isinstance(versions, dict) else None
