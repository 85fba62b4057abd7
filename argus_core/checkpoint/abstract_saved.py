"""The interface of a checkpoint's contents, independent of the file format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from argus_core.checkpoint.records import Record
from argus_core.storage.pieces import Box

if TYPE_CHECKING:
    from argus_core.data.description import DataDescription

__all__ = ["AbstractSaved", "Numbered", "ShardReading"]

Numbered = tuple[Mapping[str, Any] | None, list[str] | None]
"""An optimizer's state dict with numbered parameters, and their names by number; None where unknown."""


class ShardReading(ABC):
    """Abstract: the shards that tensors of a checkpoint are read into."""

    @abstractmethod
    def box_of(self, stored: str, shape: Sequence[int]) -> Box | None:
        """Return the part that this process reads of a stored tensor; ``None`` for the whole."""

    @abstractmethod
    def shard_of(self, stored: str, part: Tensor) -> Tensor:
        """Return the shard whose part in this process has been read."""


class AbstractSaved(ABC):
    """Abstract contents of a checkpoint in any format; a context manager. Tensors are read on request.

    Attributes:
        model: the record of the model's class.
        components: the record of each part, or None if it was omitted; under ``step`` a list of records.
        legacy_state: the contents in the form of pytorch-argus, if that is the file's format.
    """

    model: Record
    components: Mapping[str, Any]
    legacy_state: Mapping[str, Any] | None = None

    @classmethod
    @abstractmethod
    def is_format_of(cls, path: Path) -> bool:
        """Return whether the file, which may be missing, has this format."""

    @classmethod
    @abstractmethod
    def open(cls, path: Path, verify: bool, sha256: str | None) -> AbstractSaved:
        """Open a file of this format; see `argus_core.checkpoint.formats.open_checkpoint`."""

    def __enter__(self) -> AbstractSaved:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:  # noqa: B027 - a format that reads everything at once has nothing to close
        """Close the file."""

    def read_in_shards(self, shards: ShardReading) -> None:  # noqa: B027 - a format may read all in full
        """Read, from now on, only parts of tensors of which each process holds a shard."""

    @abstractmethod
    def params(self) -> dict[str, Any]:
        """Return the model's params."""

    @abstractmethod
    def size(self) -> int:
        """Return the real size of the file, or of the network's state, in bytes; a file may claim more."""

    @abstractmethod
    def forms(self, part: str) -> dict[str, str]:
        """Return the form (see `module_state.form_of`) of each value in a part's state dict, by name."""

    @abstractmethod
    def read(self, part: str, into: Mapping[str, Tensor] | None = None) -> dict[str, Any]:
        """Return the state dict of a part whose forms fit a built module; empty if the part has no state.

        Args:
            part: the name of the part.
            into: tensors to read values of the same name and form into; they are returned then.
        """

    @abstractmethod
    def module_state(self, part: str) -> dict[str, Any]:
        """Return the state dict of a part as `read`, where no module has been built to compare it with."""

    @abstractmethod
    def step_state(self, names: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Return the state of each step strategy among ``names`` that has state, by name."""

    @abstractmethod
    def optimizer_outline(self) -> Numbered:
        """Return the optimizer's state with tensors of the same shapes that take no memory in their place."""

    @abstractmethod
    def optimizer_state(self) -> Numbered:
        """Return the optimizer's state, if any."""

    def evaluated(self) -> dict[str, dict[str, Tensor]]:
        """Return the tensors that replace the network's in evaluation: by strategy, then by name."""
        return {}

    def data(self) -> DataDescription:
        """Return the description of the model's data; empty if the file has none."""
        from argus_core.data.description import DataDescription  # lazy: saving does not need it

        return DataDescription()

    def extra_state(self) -> dict[str, Any]:
        """Return the model class's own state beside its parts; empty if it has none."""
        return {}

    def modes(self) -> Mapping[str, list[str]]:
        """Return, by part, the submodules that stay in evaluation mode; see `Model.module_modes`."""
        return {}
