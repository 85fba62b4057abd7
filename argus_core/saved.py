"""What a checkpoint holds, whatever its format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from argus_core.checkpoint import PREFIXES
from argus_core.encoding import decode, references, tensor_names
from argus_core.errors import CheckpointError, UnsafeCheckpointError
from argus_core.records import KIND_OF_PART, records_of
from argus_core.state import number_optimizer_state
from argus_core.storage import CheckpointFile

__all__ = ["AbstractSaved", "SavedFile", "SavedState"]

# A loaded optimizer has copies of its own, even of what is stored once. Nothing else in a file is copied so.
_MOST_COPIED = 2
_CHOICES = (str, tuple, list, dict, type(None))


class AbstractSaved(ABC):
    """What a checkpoint holds, whatever its format; tensors are read when they are asked for."""

    model: Mapping[str, Any]
    components: Mapping[str, Any]

    @abstractmethod
    def params(self) -> dict[str, Any]:
        """Return the model's params."""

    @abstractmethod
    def module_state(self, slot: str, into: Mapping[str, Tensor] | None = None) -> dict[str, Any]:
        """Return the state dict of a part, empty where it has none.

        Tensors in ``into`` may take the values of those of the same name and form, and stand for them then.
        """

    @abstractmethod
    def step_state(self, names: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Return the state of those step strategies among ``names`` that had some."""

    @abstractmethod
    def optimizer_state(self) -> tuple[dict[str, Any] | None, list[str] | None]:
        """Return the optimizer's numbered state dict, if any, and the parameters' names by number."""

    @abstractmethod
    def extra_state(self) -> dict[str, Any]:
        """Return the state that the model's class keeps beside its parts, empty where there is none."""


class SavedFile(AbstractSaved):
    """Our own file; tensors are read when they are asked for."""

    def __init__(self, file: CheckpointFile, verify: bool) -> None:
        self._file = file
        self._verify = verify
        self._manifest = file.header.manifest
        _check_manifest(self._manifest, file.path)
        self.model = self._manifest["model"]
        self.components = self._manifest["components"]

    def params(self) -> dict[str, Any]:
        params = self._decode_dict("params", self._manifest["params"])
        # What chooses a part is looked at before it is parsed, and an array has no truth value.
        if not all(isinstance(params.get(slot), _CHOICES) for slot in (*KIND_OF_PART, "step")):
            raise _malformed(self._file.path, "params")
        return params

    def module_state(self, slot: str, into: Mapping[str, Tensor] | None = None) -> dict[str, Any]:
        prefix = PREFIXES[slot] + "/"
        header = self._file.header
        names = [name for name in (*header.entries, *header.aliases) if name.startswith(prefix)]
        places = {prefix + name: tensor for name, tensor in (into or {}).items()}
        stored = self._file.read(names, verify=self._verify, into=places)
        state = {name.removeprefix(prefix): tensor for name, tensor in stored.items()}
        state.update(self._decode_dict("extra", self._manifest["extra"].get(PREFIXES[slot], {})))
        return state

    def step_state(self, names: Iterable[str]) -> dict[str, dict[str, Any]]:
        stored = self._manifest.get("step_state", {})
        return {name: self._decode_dict("step_state", stored[name]) for name in names if name in stored}

    def optimizer_state(self) -> tuple[dict[str, Any] | None, list[str] | None]:
        encoded = self._manifest.get("optimizer")
        if encoded is None:
            return None, None
        header = self._file.header
        if self._copied(encoded) > _MOST_COPIED * (header.file_size - header.payload_start):
            raise _malformed(self._file.path, "optimizer")
        named = self._decode(encoded)
        if not _is_named_state(named):
            raise _malformed(self._file.path, "optimizer")
        return number_optimizer_state(named), [
            name for group in named["param_groups"] for name in group["params"]
        ]

    @property
    def versions(self) -> Mapping[str, Any]:
        """The versions of argus, torch and Python that wrote the file."""
        versions = self._manifest.get("versions")
        return versions if isinstance(versions, Mapping) else {}

    def progress(self) -> dict[str, Any] | None:
        """Return how far the run was, if the file says it (see `argus_core.progress.snapshot`)."""
        encoded = self._manifest.get("progress")
        return None if encoded is None else self._decode_dict("progress", encoded)

    def extra_state(self) -> dict[str, Any]:
        return self._decode_dict("extra_state", self._manifest.get("extra_state", {}))

    def _copied(self, encoded: Any) -> int:
        """Return the bytes of the tensors in encoded data, of each as often as it is met."""
        header = self._file.header
        owners = (header.aliases.get(name, name) for name in references(encoded))
        return sum(header.entries[name].size for name in owners if name in header.entries)

    def _decode_dict(self, section: str, encoded: Any) -> dict[str, Any]:
        decoded = self._decode(encoded)
        if not isinstance(decoded, dict):
            raise _malformed(self._file.path, section)
        return decoded

    def _decode(self, encoded: Any) -> Any:
        return decode(encoded, self._read(tensor_names(encoded)))

    def _read(self, names: list[str]) -> dict[str, Any]:
        return self._file.read(names, verify=self._verify)


def _check_manifest(manifest: Mapping[str, Any], path: Path) -> None:
    """Refuse a manifest whose checksums are right and whose contents no argus_core wrote."""
    sections = {"model": dict, "params": dict, "components": dict, "extra": dict}
    for section, sort in sections.items():
        if not isinstance(manifest.get(section), sort):
            raise _malformed(path, section)
    if records_of(manifest) is None:
        raise _malformed(path, "components")
    if not isinstance(manifest.get("step_state", {}), dict):
        raise _malformed(path, "step_state")
    if manifest.get("optimizer") is not None and not _is_optimizer(manifest["optimizer"]):
        raise _malformed(path, "optimizer")


def _malformed(path: Path, section: str) -> UnsafeCheckpointError:
    return UnsafeCheckpointError(
        f"{path}: the manifest's {section!r} is not as argus_core writes it; do not trust this file"
    )


def _is_optimizer(optimizer: Any) -> bool:
    return isinstance(optimizer, dict) and set(optimizer) == {"state", "param_groups"}


def _is_named_state(optimizer: Mapping[str, Any]) -> bool:
    """Return whether an optimizer's state has the form that `state.name_optimizer_state` gives it."""
    state, groups = optimizer["state"], optimizer["param_groups"]
    if not isinstance(groups, list) or not all(isinstance(group, dict) for group in groups):
        return False
    lists = [group.get("params") for group in groups]
    if not all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in lists):
        return False
    known = {name for names in lists for name in names}
    return isinstance(state, dict) and all(
        name in known and isinstance(slots, dict) for name, slots in state.items()
    )


def _check_state(state: Any) -> None:
    """Refuse what has not the form of a pytorch-argus checkpoint, read from a file or made by the user."""
    forms = {"model_name": str, "params": Mapping, "nn_state_dict": Mapping}
    wrong = [key for key, form in forms.items() if not isinstance(_get(state, key), form)]
    if not isinstance(_get(state, "optimizer_state_dict"), Mapping | None):
        wrong.append("optimizer_state_dict")
    if wrong:
        raise CheckpointError(
            f"the saved state has no valid {', '.join(wrong)}; it takes model_name (a string), params, "
            "nn_state_dict and perhaps optimizer_state_dict (dicts)"
        )


def _get(state: Any, key: str) -> Any:
    return state.get(key) if isinstance(state, Mapping) else None


class SavedState(AbstractSaved):
    """State in memory, in the form of pytorch-argus.

    Raises:
        CheckpointError: it has another form.
    """

    def __init__(self, state: Mapping[str, Any]) -> None:
        _check_state(state)
        self._state = state
        self.model = {
            "as": state["model_name"],
            "name": None,
            "provider": None,
            "version": None,
            "entry_point": None,
        }
        self.components = {}

    def params(self) -> dict[str, Any]:
        return dict(self._state["params"])

    def module_state(self, slot: str, into: Mapping[str, Tensor] | None = None) -> dict[str, Any]:
        return dict(self._state["nn_state_dict"]) if slot == "nn_module" else {}

    def step_state(self, names: Iterable[str]) -> dict[str, dict[str, Any]]:
        return {}

    def optimizer_state(self) -> tuple[dict[str, Any] | None, list[str] | None]:
        return self._state.get("optimizer_state_dict"), None

    def extra_state(self) -> dict[str, Any]:
        return {}
