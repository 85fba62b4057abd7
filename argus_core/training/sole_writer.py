"""The locks of the folders that a run writes its checkpoints to: two processes never train one run there.

A run of ``argus train`` or ``argus resume`` has the lock of its run directory instead. A `fit` that writes to
the ``checkpoints`` of a run directory takes that lock, too. The system releases a lock when its process ends,
however that ends.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from argus_core.callbacks.callback import Callback
from argus_core.callbacks.checkpoints import Checkpoint
from argus_core.callbacks.state import State
from argus_core.errors import ConflictError
from argus_core.files.confinement import is_confined
from argus_core.files.working_folder import shown
from argus_core.hooks import hookimpl

if TYPE_CHECKING:
    from filelock import FileLock

__all__ = ["SoleWriter"]

_PATIENCE = 0.2  # seconds, for a lock that is just being released


class SoleWriter(Callback):
    """Locks the run in each folder that its checkpoints go to; other runs may write there as well."""

    name = "sole_writer"
    reads_predictions = False
    computes = ()

    def __init__(self) -> None:
        self._held = ExitStack()
        self._process = os.getpid()

    @contextmanager
    def releasing(self) -> Iterator[None]:
        """Release the locks when the block ends."""
        with self._held:
            yield

    @hookimpl(trylast=True)
    def start(self, state: State) -> None:
        """Lock the run, once its folders are there.

        Raises:
            ConflictError: another process trains it.
        """
        locks: dict[str, Checkpoint] = {}
        for callback in state.engine.callbacks:
            if not isinstance(callback, Checkpoint) or not callback.optimizer_state:
                continue
            folder, run_directory = callback.dir_path, callback.dir_path.parent
            if is_confined(folder):
                continue
            if (run_directory / "versions.json").is_file():
                locks[os.path.join(os.path.realpath(run_directory), ".lock")] = callback
            locks[os.path.join(os.path.realpath(folder), f".{state.engine.run_id}.lock")] = callback
        for path, callback in locks.items():
            self._lock(Path(path), callback, state)

    def _lock(self, path: Path, callback: Checkpoint, state: State) -> None:
        from filelock import FileLock, Timeout  # it takes a while to import

        lock = FileLock(path, thread_local=False, fallback_to_soft=False)
        try:
            lock.acquire(timeout=_PATIENCE, poll_interval=_PATIENCE / 4)
        except Timeout:
            raise ConflictError(
                f"the run whose checkpoints are in {shown(callback.dir_path)} is being trained already, by "
                f"another process or another fit; wait until that ends, or give {callback.name} another "
                "dir_path"
            ) from None
        except (OSError, NotImplementedError) as error:
            reason = getattr(error, "strerror", None) or error
            state.logger.warning(
                "%s cannot be locked: %s; make sure that no other process trains the run there",
                shown(callback.dir_path), reason,
            )  # fmt: skip
            return
        self._held.callback(self._release, lock, path, os.stat(path))

    def _release(self, lock: FileLock, path: Path, status: os.stat_result) -> None:
        if os.getpid() != self._process:  # a fork, which is not the run
            return
        # While it is held: another process that has just opened the file sees that it is gone.
        with suppress(OSError):  # of Windows, which removes no open file, or of a folder that is gone
            if os.path.samestat(os.lstat(path), status):  # else it is another process's by now
                path.unlink()
        lock.release()
