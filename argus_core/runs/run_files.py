"""The files of a run and their content.

::

    config.toml       the resolved configuration; trains as it is
    versions.json     the versions of all packages that took part
    metrics.jsonl     the metrics of each epoch
    log.txt
    test.json         the best checkpoint's metrics on the test data, if there are any
    checkpoints/      best.safetensors, and last.safetensors or, where processes hold shards, last.sharded
    .made             the list of other files that this run made
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from argus_core.errors import near
from argus_core.files.confinement import confined, opener, replacing
from argus_core.files.output_files import writing
from argus_core.files.working_folder import absolute
from argus_core.storage.folder_replacement import place_aside
from argus_core.text import strict_json

__all__ = ["RunFiles", "runs_near"]

_LONGEST = 2**20  # bytes of versions.json
_MOST_EARLIER = 20  # versions


class RunFiles:
    """The paths of a run's files, existing or not.

    Args:
        path: of the folder.

    Attributes:
        path: as it is given, for messages.
        root: the same from the root; where the process works may change.
        lasts: the paths that the last checkpoint may have: of a file, and of a folder of shards.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.root = root = absolute(path)
        self.config = root / "config.toml"
        self.versions = root / "versions.json"
        self.metrics = root / "metrics.jsonl"
        self.log = root / "log.txt"
        self.test = root / "test.json"
        self.checkpoints = root / "checkpoints"
        self.best = self.checkpoints / "best.safetensors"
        self.lasts = (self.checkpoints / "last.safetensors", self.checkpoints / "last.sharded")

    @property
    def last(self) -> Path:
        """The last checkpoint; the newer one if a process was killed between two forms of it."""
        there = [each for each in self.lasts if os.path.lexists(each)]
        return max(there, key=_changed, default=self.lasts[0])

    @property
    def has_last(self) -> bool:
        """True if there is a last checkpoint, or one that `restore_moved` brings back."""
        return any(map(os.path.lexists, (*self.lasts, place_aside(self.lasts[1]))))

    def shown(self, file: Path) -> Path:
        """Return the path of a file of the run, relative or absolute as the run's own path."""
        return self.path / file.relative_to(self.root)

    def files(self) -> list[Path]:
        """Return the files that a run writes, ``versions.json``, which marks the folder as a run's, last."""
        checkpoints = [
            file
            for best in (self.best, *self.lasts)
            for file in (best, best.with_stem(f"{best.stem}-not-finite"))
        ]
        return [*checkpoints, self.test, self.log, self.metrics, self.config, self.versions]

    def holds_run(self) -> bool:
        """Return whether the folder holds a run, as its ``versions.json`` says."""
        return "argus-torch" in self._read_versions()

    @property
    def providers(self) -> Mapping[str, Any]:
        """The versions of the packages that took part in the run, as its files list them."""
        providers = self._read_versions().get("providers")
        return providers if isinstance(providers, dict) else {}

    def change_config(self, config: str) -> None:
        """Replace the run's configuration, atomically.

        Raises:
            ArgusError: it cannot be written.
        """
        with writing("resume", self.config), replacing(self.config) as file:
            file.write(config)

    def change_versions(self, versions: Mapping[str, Any]) -> None:
        """Note the versions that the run resumes with; those that it had before follow, the newest first.

        Raises:
            ArgusError: they cannot be written.
        """
        was = self._read_versions()
        before = was.pop("before", None)
        if was == versions:
            return
        known = [was, *(before if isinstance(before, list) else [])]
        earlier = [each for each in known if _are_versions(each)][:_MOST_EARLIER]
        while earlier and len(_as_text({**versions, "before": earlier})) > _LONGEST // 2:
            earlier.pop()
        with writing("resume", self.versions), replacing(self.versions) as file:
            file.write(_as_text({**versions, "before": earlier}))

    def write_test(self, values: Mapping[str, float]) -> None:
        """Write the metrics on the test data.

        Raises:
            ArgusError: they cannot be written.
        """
        with writing("train", self.test), replacing(self.test) as file:
            file.write(_as_text(strict_json(values)))

    def _read_versions(self) -> dict[str, Any]:
        try:
            with (
                confined(self.root),  # which waits for no pipe
                open(self.versions, encoding="utf-8", opener=opener) as file,
            ):
                versions = json.loads(file.read(_LONGEST))
        except (OSError, ValueError, RecursionError):
            return {}
        return versions if isinstance(versions, dict) else {}


def runs_near(path: Path) -> list[Path]:
    """Return the run directory that a path lies in, or those right in the folder ``path``, by name.

    Where nothing has that path, they are the run directories beside it with a similar name.
    """
    folders, is_there = [path.parent], os.path.lexists(path)
    folder = path if is_there else path.parent
    if os.path.isdir(folder) and os.access(folder, os.R_OK | os.X_OK):
        inside = sorted(each for each in folder.iterdir() if os.path.isdir(each))
        folders += [each for each in inside if is_there or near(path.name, [each.name])]
    return [each for each in folders if RunFiles(each).config.exists() and RunFiles(each).holds_run()]


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _as_text(value: Any) -> str:
    return json.dumps(value, indent=2, allow_nan=False) + "\n"


def _are_versions(value: Any) -> bool:
    """Return whether a value of a file, which may be a stranger's, is a dict of texts, or of such dicts."""
    return isinstance(value, dict) and all(
        isinstance(each, str | None)
        or (isinstance(each, dict) and all(isinstance(one, str | None) for one in each.values()))
        for each in value.values()
    )
