"""Background writing of checkpoints."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from argus_core.storage.pieces import Group, Piece

__all__ = ["BackgroundWriter"]


class BackgroundWriter:
    """Writes one checkpoint at a time in a thread, from copies of the tensors.

    Where no thread can be started, it writes before it returns.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def __call__(self, path: Path, tensors: Mapping[str, Tensor | Piece], manifest: dict[str, Any]) -> None:
        """Copy the tensors, and start to write them.

        Raises:
            ArgusError: the previous checkpoint could not be written.
        """
        self.wait()
        from argus_core.storage.writer import copied  # imports torch
        from argus_core.tensors.processes import group_for

        # Here, not in the thread: all processes make the group at the same place of training.
        task = (path, copied(tensors), manifest, group_for(path))
        thread = threading.Thread(target=self._write, args=task)
        try:
            thread.start()
        except RuntimeError:  # a limit is reached, or the interpreter ends
            self._write(*task)
        else:
            self._thread = thread

    def wait(self) -> None:
        """Wait until the file is complete.

        Raises:
            ArgusError: it could not be written.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _write(
        self, path: Path, tensors: Mapping[str, Tensor | Piece], manifest: dict[str, Any], group: Group
    ) -> None:
        from argus_core.storage import write

        try:
            write(path, tensors, manifest, group)
        except BaseException as error:  # shown in the thread that trains
            self._error = error
