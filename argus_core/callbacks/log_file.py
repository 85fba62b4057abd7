"""A log's file: a full disk ends the log, not the run."""

from __future__ import annotations

import logging
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING

from argus_core.files.working_folder import shown

__all__ = ["LogFile", "attach"]


if TYPE_CHECKING:
    _Handler = logging.StreamHandler[IO[str]]
else:
    _Handler = logging.StreamHandler  # which takes no type before Python 3.11


class LogFile(_Handler):
    """Writes records to a file, and warns once if writing fails.

    Args:
        file: open for writing; closed with the handler.
        path: of the file.
        logger: gets the warning.
    """

    def __init__(self, file: IO[str], path: Path, logger: logging.Logger) -> None:
        super().__init__(file)
        self._path = path
        self._logger = logger
        self._has_failed = False

    def handleError(self, record: logging.LogRecord) -> None:
        """Warn once if the file cannot be written; show other errors as the logging library does."""
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            self._warn(error)
        else:
            super().handleError(record)

    def close(self) -> None:
        """Close the file."""
        super().close()
        try:
            self.stream.close()
        except OSError as error:  # of what it had still to write
            self._warn(error)

    def _warn(self, error: OSError) -> None:
        if not self._has_failed:
            self._has_failed = True  # before the warning, which comes here as well
            reason = error.strerror or error
            self._logger.warning(
                "%s cannot be written: %s; the run continues without it", shown(self._path), reason
            )


class _Forward(logging.Handler):
    """Passes records on to the handlers of a logger's parent."""

    def __init__(self, level: int, parent: logging.Logger) -> None:
        super().__init__(level)
        self.parent = parent

    def emit(self, record: logging.LogRecord) -> None:
        self.parent.callHandlers(record)


def attach(handler: logging.Handler, logger: logging.Logger, undo: ExitStack) -> None:
    """Attach ``handler`` to a logger from INFO up; other handlers get the same records as before.

    Args:
        handler: of the file.
        logger: of the run.
        undo: detaches the handler when it is closed.
    """
    if logger.propagate and logger.parent is not None:
        # The logger's level would open the parent's handlers, such as a terminal, to INFO records as well.
        forward = _Forward(logger.getEffectiveLevel(), logger.parent)
        logger.addHandler(forward)
        undo.callback(logger.removeHandler, forward)
        undo.callback(setattr, logger, "propagate", True)
        logger.propagate = False
    if not logger.isEnabledFor(logging.INFO):
        undo.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    undo.callback(logger.removeHandler, handler)
