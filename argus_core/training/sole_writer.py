"""Locks of the folders of checkpoints and of the logs of a run: two processes never write the same ones.

A run of ``argus train`` or ``argus resume`` has the lock of its run directory instead. A `fit` that writes to
the ``checkpoints`` of a run directory takes that lock, too. The system releases a lock when its process ends,
however that ends.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from logging import Logger
from pathlib import Path
from typing import TYPE_CHECKING, Any

from argus_core.callbacks.callback import Callback
from argus_core.callbacks.checkpoints import Checkpoint
from argus_core.callbacks.csv_log import LoggingToCSV
from argus_core.callbacks.logs import LoggingToFile, MetricsJSONL
from argus_core.callbacks.state import State
from argus_core.errors import ConflictError
from argus_core.files.confinement import is_confined
from argus_core.files.output_files import make_folder
from argus_core.files.working_folder import shown
from argus_core.hooks import hookimpl

if TYPE_CHECKING:
    from filelock import FileLock

__all__ = ["SoleWriter"]

_PATIENCE = 0.2  # seconds, for a lock that is just being released


class SoleWriter(Callback):
    """Locks a run's logs, and the run in the folders of its checkpoints; other runs may write there, too."""

    name = "sole_writer"
    first_process_only = True
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

    def lock_logs(self, callbacks: Iterable[Any], logger: Logger) -> None:
        """Lock the logs before one is emptied; several runs may append to one text.

        Raises:
            ConflictError: another run writes one of them.
        """
        for callback in callbacks:
            if not isinstance(callback, LoggingToFile | LoggingToCSV | MetricsJSONL):
                continue
            path = Path(os.path.realpath(callback.file_path))
            if is_confined(path) or (path.exists() and not path.is_file()):
                continue
            make_folder(callback.name, path.parent)
            refusal = None
            if not (isinstance(callback, LoggingToFile) and callback.append):
                refusal = ConflictError(
                    f"{shown(path)} is being written by another run; wait until that ends, or give "
                    f"{callback.name} another file_path"
                )
            self._lock(path.with_name(f".{path.name}.lock"), path, logger, refusal)

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
            refusal = ConflictError(
                f"the run whose checkpoints are in {shown(callback.dir_path)} is being trained already, by "
                f"another process or another fit; wait until that ends, or give {callback.name} another "
                "dir_path"
            )
            self._lock(Path(path), callback.dir_path, state.logger, refusal)

    def _lock(self, path: Path, place: Path, logger: Logger, refusal: ConflictError | None) -> None:
        """Lock by the file ``path``.

        Args:
            path: of the lock.
            place: that it locks, for messages.
            logger: gets a warning where the system has no locks.
            refusal: raised if another has the lock, unless it may be shared.
        """
        from filelock import FileLock, Timeout  # it takes a while to import

        lock = FileLock(path, thread_local=False, fallback_to_soft=False)
        try:
            lock.acquire(timeout=_PATIENCE, poll_interval=_PATIENCE / 4)
        except Timeout:
            if refusal is not None:
                raise refusal from None
            return
        except (OSError, NotImplementedError) as error:
            reason = getattr(error, "strerror", None) or error
            logger.warning(
                "%s cannot be locked: %s; make sure that no other process writes there",
                shown(place), reason,
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
