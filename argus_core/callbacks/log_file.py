"""A log's file, which may become impossible to write: a full disk ends the log, and not what is logged."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

from argus_core.files.working_folder import shown

__all__ = ["LogFile"]


if TYPE_CHECKING:
    _Handler = logging.StreamHandler[IO[str]]
else:
    _Handler = logging.StreamHandler  # which takes no type before Python 3.11


class LogFile(_Handler):
    """Writes records to a file, and warns once if that fails.

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
        """Warn of a file that cannot be written; show other errors as the library does."""
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
                "%s cannot be written: %s; the run goes on without it", shown(self._path), reason
            )
