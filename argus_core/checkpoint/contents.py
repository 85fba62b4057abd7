"""The contents of a checkpoint in our file format."""

from __future__ import annotations

import functools
import reprlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from argus_core.callbacks.written import run_in
from argus_core.checkpoint.abstract_saved import AbstractSaved, Numbered, ShardReading
from argus_core.checkpoint.data_section import data_of
from argus_core.checkpoint.module_state import form_of
from argus_core.checkpoint.optimizer_state import members, number_optimizer_state
from argus_core.checkpoint.records import records_of
from argus_core.checkpoint.sections import PREFIXES, check_sections, has_names, is_named_state, malformed
from argus_core.data.description import DataDescription
from argus_core.errors import UnsafeCheckpointError
from argus_core.files.ordinary_files import MOST_COMPRESSED
from argus_core.registry.part import KIND_OF_PART
from argus_core.storage import Entry, open_stored, write
from argus_core.storage.encoding import decode, references, tensor_names
from argus_core.storage.folder_manifest import OF_STORAGE
from argus_core.storage.payload import outline

__all__ = ["SavedFile"]

# A loaded optimizer copies each tensor, also one that is stored once under two names. No other part does.
_MOST_COPIED = 2
# Bytes that tensors of unknown expected size may take, in addition to the limit by the size of the file.
_MOST_UNCOMPARED = 8 * 2**20
# The keys of the strategies' tensors for evaluation, for older files that do not record them.
_EVALUATED = {"ema": "averages"}
_CHOICES = (str, tuple, list, dict, type(None))


class SavedFile(AbstractSaved):
    """The contents of a checkpoint in our file format; tensors are read on request.

    Args:
        path: the file, or the folder of shards.
        verify: whether to compare every byte that is read with its checksum.
        sha256: the expected SHA-256 of the whole file, in hexadecimal, if it must be checked.

    Attributes:
        header: of the file, with its manifest.

    Raises:
        CheckpointError: the file is missing, damaged, unsafe, newer, or not a checkpoint of argus_core.
    """

    def __init__(self, path: Path, verify: bool = True, sha256: str | None = None) -> None:
        self._path = path
        self._verify = verify
        self._shards: ShardReading | None = None
        self._file = open_stored(path, sha256)
        self.header = self._file.header
        self._manifest = self.header.manifest
        try:
            check_sections(self._manifest, path)
            records_of(self._manifest, path)
        except BaseException:
            self.close()
            raise
        self.model = self._manifest["model"]
        self.components = self._manifest["components"]

    @classmethod
    def is_format_of(cls, path: Path) -> bool:
        return True  # the storage's errors name the formats that it knows

    @classmethod
    def open(cls, path: Path, verify: bool, sha256: str | None) -> SavedFile:
        return cls(path, verify, sha256)

    def __enter__(self) -> SavedFile:
        return self

    def close(self) -> None:
        self._file.close()

    def copy_to(self, target: Path) -> None:
        """Write the whole checkpoint to another path, in the form that its suffix names.

        Raises:
            CheckpointError: a tensor is damaged, or writing failed.
        """
        names = [*self.header.entries, *self.header.aliases]
        manifest = {key: value for key, value in self._manifest.items() if key not in OF_STORAGE}
        write(target, self._read(names), manifest)

    def read_in_shards(self, shards: ShardReading) -> None:
        self._shards = shards

    def size(self) -> int:
        return min(self.header.file_size, MOST_COMPRESSED * self._file.allocated)

    def params(self) -> dict[str, Any]:
        params = self._decode_dict("params", self._manifest["params"])
        # Parts' choices are compared before they are parsed, and an array has no truth value.
        if not all(isinstance(params.get(part), _CHOICES) for part in (*KIND_OF_PART, "step")):
            raise malformed(self._path, "params")
        return params

    def forms(self, part: str) -> dict[str, str]:
        forms = {name: self._entry(stored).form for name, stored in self._names[part].items()}
        return forms | {name: form_of(value) for name, value in self._others(part).items()}

    def read(self, part: str, into: Mapping[str, Tensor] | None = None) -> dict[str, Any]:
        names = self._names[part]
        places = {names[name]: tensor for name, tensor in (into or {}).items() if name in names}
        stored = self._take(names.values(), places)
        return {name: stored[full] for name, full in names.items()} | self._others(part)

    def module_state(self, part: str) -> dict[str, Any]:
        self._check_size(self._names[part].values())
        return self.read(part)

    def step_state(self, names: Iterable[str]) -> dict[str, dict[str, Any]]:
        stored = self._manifest.get("step_state", {})
        return {name: self._decode_dict("step_state", stored[name]) for name in names if name in stored}

    def evaluated(self) -> dict[str, dict[str, Tensor]]:
        """Return the tensors that replace the network's in evaluation: by strategy, then by name."""
        keys = self._manifest.get("evaluated", _EVALUATED)
        states = self.step_state(keys)
        found = {name: state[keys[name]] for name, state in states.items() if keys[name] in state}
        for named in found.values():
            if not isinstance(named, dict) or not all(isinstance(each, Tensor) for each in named.values()):
                raise malformed(self._path, "step_state")
        return found

    def optimizer_outline(self) -> Numbered:
        return self._optimizer(self._outlines)

    def optimizer_state(self) -> Numbered:
        return self._optimizer(self._read)

    def _optimizer(self, read: Callable[[list[str]], Mapping[str, Tensor]]) -> Numbered:
        encoded = self._manifest.get("optimizer")
        if encoded is None:
            return None, None
        named = decode(encoded, read(self._optimizer_names))
        if not is_named_state(named):
            raise malformed(self._path, "optimizer")
        return number_optimizer_state(named), members(named["param_groups"])

    def trained(self) -> list[str]:
        """Return the names of the saved optimizer's parameters without reading its tensors."""
        return self.optimizer_outline()[1] or []

    @property
    def versions(self) -> Mapping[str, Any]:
        """The versions of argus, torch and Python that wrote the file."""
        versions = self._manifest.get("versions")
        return versions if isinstance(versions, Mapping) else {}

    def run_id(self) -> str | None:
        """Return the identifier of the run that wrote the file, or ``None``."""
        return run_in(self._manifest)

    def progress(self) -> dict[str, Any] | None:
        """Return the run's progress, or ``None``; see `argus_core.training.position.snapshot`."""
        encoded = self._manifest.get("progress")
        return None if encoded is None else self._decode_dict("progress", encoded)

    def data(self) -> DataDescription:
        return data_of(self._manifest, self._path)

    def extra_state(self) -> dict[str, Any]:
        return self._decode_dict("extra_state", self._manifest.get("extra_state", {}))

    def modes(self) -> Mapping[str, list[str]]:
        modes: Mapping[str, list[str]] = self._manifest.get("modes", {})
        return modes

    @functools.cached_property
    def _names(self) -> dict[str, dict[str, str]]:
        """The names of the parts' tensors in the file: by part, then by their names in its state dict."""
        of_prefix: dict[str, dict[str, str]] = {prefix: {} for prefix in PREFIXES.values()}
        for stored in (*self.header.entries, *self.header.aliases):
            prefix, _, name = stored.partition("/")
            if prefix in of_prefix:
                of_prefix[prefix][name] = stored
        return {part: of_prefix[prefix] for part, prefix in PREFIXES.items()}

    @functools.cached_property
    def _optimizer_names(self) -> list[str]:
        """The names of the tensors in the optimizer's state."""
        referred = [*references(self._manifest["optimizer"])]
        if self._copied(referred) > _MOST_COPIED * (self.header.file_size - self.header.payload_start):
            raise malformed(self._path, "optimizer")
        return [*dict.fromkeys(referred)]

    def _others(self, part: str) -> dict[str, Any]:
        """Return the values of a part's state dict that are not tensors."""
        others = self._decode_dict("extra", self._manifest["extra"].get(PREFIXES[part], {}))
        if not has_names(others):
            raise malformed(self._path, "extra")
        return others

    def _copied(self, names: Iterable[str]) -> int:
        """Return the total bytes of these tensors, each counted as often as it is named."""
        entries = self.header.entries
        owners = (self.header.aliases.get(name, name) for name in names)
        return sum(entries[name].size for name in owners if name in entries)

    def _decode_dict(self, section: str, encoded: Any) -> dict[str, Any]:
        decoded = decode(encoded, self._read(tensor_names(encoded)))
        if not isinstance(decoded, dict):
            raise malformed(self._path, section)
        return decoded

    def _read(self, names: list[str]) -> dict[str, Any]:
        self._check_size(names)
        return self._take(names)

    def _take(self, names: Iterable[str], into: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Return tensors by their names in the file, each whole or as the shard of this process."""
        shards = self._shards
        if shards is None:
            return self._file.read(names, verify=self._verify, into=into)
        boxes = {name: shards.box_of(name, self._entry(name).shape) for name in names}
        whole = [name for name, box in boxes.items() if box is None]
        found: dict[str, Tensor] = self._file.read(whole, verify=self._verify, into=into)
        for name, box in boxes.items():
            if box is not None:  # one after the other: a file reads each whole first
                part = self._file.read_parts({name: box}, verify=self._verify)[name]
                found[name] = shards.shard_of(name, part)
        return found

    def _check_size(self, names: Iterable[str]) -> None:
        """Raise where tensors claim far more bytes than the disk holds: a sparse file can claim any size."""
        owners = {self.header.aliases.get(name, name) for name in names}
        size = sum(entry.size for name, entry in self.header.entries.items() if name in owners)
        if size > _MOST_UNCOMPARED + MOST_COMPRESSED * self._file.allocated:
            raise UnsafeCheckpointError(
                f"{self._path}: {len(owners)} tensors, {reprlib.repr(min(owners))} among them, claim "
                f"{size:,} bytes, and the disk holds {self._file.allocated:,} of the file; do not trust it, "
                "or copy it without holes if you do (cp --sparse=never)"
            )

    def _entry(self, name: str) -> Entry:
        return self.header.entries[self.header.aliases.get(name, name)]

    def _outlines(self, names: Iterable[str]) -> dict[str, Tensor]:
        """Return tensors of the stored shapes, each with one number in memory."""
        known = {*self.header.entries, *self.header.aliases}
        return {name: outline(self._entry(name)) for name in names if name in known}
