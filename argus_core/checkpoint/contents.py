"""What a checkpoint holds, whatever its format."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor

from argus_core.callbacks.written import run_in
from argus_core.checkpoint.abstract_saved import AbstractSaved
from argus_core.checkpoint.forms import form_of
from argus_core.checkpoint.optimizer_state import number_optimizer_state
from argus_core.checkpoint.saving import PREFIXES
from argus_core.checkpoint.sections import (
    check_legacy_state,
    check_sections,
    has_names,
    is_named_state,
    malformed,
)
from argus_core.errors import UnsafeCheckpointError
from argus_core.files.ordinary_files import MOST_COMPRESSED
from argus_core.registry.part import KIND_OF_PART
from argus_core.storage import CheckpointFile, Entry
from argus_core.storage.encoding import decode, references, tensor_names
from argus_core.storage.payload import outline

__all__ = ["SavedFile", "SavedState"]

# A loaded optimizer has copies of its own, even of what is stored once. Nothing else in a file is copied so.
_MOST_COPIED = 2
# Tensors that are compared with nothing before they are read may take so many bytes beside what the file may.
_MOST_UNCOMPARED = 8 * 2**20
# The keys of those strategies' tensors in files that do not say them.
_EVALUATED = {"ema": "averages"}
_CHOICES = (str, tuple, list, dict, type(None))


class SavedFile(AbstractSaved):
    """Our own file; tensors are read when they are asked for."""

    def __init__(self, file: CheckpointFile, verify: bool) -> None:
        self._file = file
        self._verify = verify
        self._manifest = file.header.manifest
        check_sections(self._manifest, file.path)
        self.model = self._manifest["model"]
        self.components = self._manifest["components"]

    def size(self) -> int:
        return min(self._file.header.file_size, MOST_COMPRESSED * self._file.allocated)

    def params(self) -> dict[str, Any]:
        params = self._decode_dict("params", self._manifest["params"])
        # What chooses a part is looked at before it is parsed, and an array has no truth value.
        if not all(isinstance(params.get(slot), _CHOICES) for slot in (*KIND_OF_PART, "step")):
            raise malformed(self._file.path, "params")
        return params

    def module_state(
        self,
        slot: str,
        into: Mapping[str, Tensor] | None = None,
        check: Callable[[Mapping[str, str]], None] | None = None,
    ) -> dict[str, Any]:
        prefix = PREFIXES[slot] + "/"
        header = self._file.header
        names = {
            name.removeprefix(prefix): name
            for name in (*header.entries, *header.aliases)
            if name.startswith(prefix)
        }
        others = self._decode_dict("extra", self._manifest["extra"].get(PREFIXES[slot], {}))
        if not has_names(others):
            raise malformed(self._file.path, "extra")
        if check is None:
            self._check_size(names.values())
        else:
            forms = {name: self._entry(full).form for name, full in names.items()}
            check(forms | {name: form_of(value) for name, value in others.items()})
        places = {prefix + name: tensor for name, tensor in (into or {}).items()}
        stored = self._file.read(names.values(), verify=self._verify, into=places)
        return {name: stored[full] for name, full in names.items()} | others

    def step_state(self, names: Iterable[str]) -> dict[str, dict[str, Any]]:
        stored = self._manifest.get("step_state", {})
        return {name: self._decode_dict("step_state", stored[name]) for name in names if name in stored}

    def evaluated(self) -> dict[str, dict[str, Tensor]]:
        """Return the tensors that evaluation uses in place of the network's: by strategy, then by name."""
        keys = self._manifest.get("evaluated", _EVALUATED)
        states = self.step_state(keys)
        found = {name: state[keys[name]] for name, state in states.items() if keys[name] in state}
        for named in found.values():
            if not isinstance(named, dict) or not all(isinstance(each, Tensor) for each in named.values()):
                raise malformed(self._file.path, "step_state")
        return found

    def optimizer_state(
        self, check: Callable[[dict[str, Any], list[str] | None], object] | None = None
    ) -> tuple[dict[str, Any] | None, list[str] | None]:
        encoded = self._manifest.get("optimizer")
        if encoded is None:
            return None, None
        header = self._file.header
        referred = [*references(encoded)]
        if self._copied(referred) > _MOST_COPIED * (header.file_size - header.payload_start):
            raise malformed(self._file.path, "optimizer")
        names = [*dict.fromkeys(referred)]
        if check is not None:
            check(*self._numbered(decode(encoded, self._outlines(names))))
        return self._numbered(decode(encoded, self._read(names)))

    def trained(self) -> list[str]:
        """Return the names of the parameters that the saved optimizer has, without reading its tensors."""
        encoded = self._manifest.get("optimizer")
        if encoded is None:
            return []
        return self._numbered(decode(encoded, self._outlines(tensor_names(encoded))))[1]

    def _numbered(self, named: Any) -> tuple[dict[str, Any], list[str]]:
        if not is_named_state(named):
            raise malformed(self._file.path, "optimizer")
        names = [name for group in named["param_groups"] for name in group["params"]]
        return number_optimizer_state(named), names

    @property
    def versions(self) -> Mapping[str, Any]:
        """The versions of argus, torch and Python that wrote the file."""
        versions = self._manifest.get("versions")
        return versions if isinstance(versions, Mapping) else {}

    def run_id(self) -> str | None:
        """Return the identifier of the run that wrote the file, where it has one."""
        return run_in(self._manifest)

    def progress(self) -> dict[str, Any] | None:
        """Return how far the run was, if the file says it (see `argus_core.training.position.snapshot`)."""
        encoded = self._manifest.get("progress")
        return None if encoded is None else self._decode_dict("progress", encoded)

    def extra_state(self) -> dict[str, Any]:
        return self._decode_dict("extra_state", self._manifest.get("extra_state", {}))

    def modes(self) -> Mapping[str, list[str]]:
        modes: Mapping[str, list[str]] = self._manifest.get("modes", {})
        return modes

    def _copied(self, names: Iterable[str]) -> int:
        """Return the bytes of these tensors, of each as often as it is named."""
        header = self._file.header
        owners = (header.aliases.get(name, name) for name in names)
        return sum(header.entries[name].size for name in owners if name in header.entries)

    def _decode_dict(self, section: str, encoded: Any) -> dict[str, Any]:
        decoded = self._decode(encoded)
        if not isinstance(decoded, dict):
            raise malformed(self._file.path, section)
        return decoded

    def _decode(self, encoded: Any) -> Any:
        return decode(encoded, self._read(tensor_names(encoded)))

    def _read(self, names: list[str]) -> dict[str, Any]:
        self._check_size(names)
        return self._file.read(names, verify=self._verify)

    def _check_size(self, names: Iterable[str]) -> None:
        """Refuse tensors that fill the memory and are not there: a file with a hole can claim any size."""
        owners = {self._file.header.aliases.get(name, name) for name in names}
        size = sum(entry.size for name, entry in self._file.header.entries.items() if name in owners)
        if size > _MOST_UNCOMPARED + MOST_COMPRESSED * self._file.allocated:
            raise UnsafeCheckpointError(
                f"{self._file.path}: {len(owners)} tensors, {reprlib.repr(min(owners))} among them, claim "
                f"{size:,} bytes, and the disk holds {self._file.allocated:,} of the file; do not trust it, "
                "or copy it without holes if you do (cp --sparse=never)"
            )

    def _entry(self, name: str) -> Entry:
        header = self._file.header
        return header.entries[header.aliases.get(name, name)]

    def _outlines(self, names: Iterable[str]) -> dict[str, Tensor]:
        """Return tensors of the shapes of those that the file has, of one number in memory each."""
        known = {*self._file.header.entries, *self._file.header.aliases}
        return {name: outline(self._entry(name)) for name in names if name in known}


class SavedState(AbstractSaved):
    """State in memory, in the form of pytorch-argus.

    Raises:
        CheckpointError: it has another form.
    """

    def __init__(self, state: Mapping[str, Any]) -> None:
        check_legacy_state(state)
        self._state = state
        self.model = {
            "as": state["model_name"],
            "name": None,
            "provider": None,
            "version": None,
            "entry_point": None,
        }
        self.components = {}

    def size(self) -> int:
        tensors = [value for value in self._state["nn_state_dict"].values() if isinstance(value, Tensor)]
        storages = {tensor.untyped_storage()._cdata: tensor.untyped_storage() for tensor in tensors}
        return sum(storage.nbytes() for storage in storages.values())

    def params(self) -> dict[str, Any]:
        return dict(self._state["params"])

    def module_state(
        self,
        slot: str,
        into: Mapping[str, Tensor] | None = None,
        check: Callable[[Mapping[str, str]], None] | None = None,
    ) -> dict[str, Any]:
        state = dict(self._state["nn_state_dict"]) if slot == "nn_module" else {}
        if check is not None:
            check({name: form_of(value) for name, value in state.items()})
        return state

    def step_state(self, names: Iterable[str]) -> dict[str, dict[str, Any]]:
        return {}

    def optimizer_state(
        self, check: Callable[[dict[str, Any], list[str] | None], object] | None = None
    ) -> tuple[dict[str, Any] | None, list[str] | None]:
        return self._state.get("optimizer_state_dict"), None

    def extra_state(self) -> dict[str, Any]:
        return {}

    def modes(self) -> Mapping[str, list[str]]:
        return {}
