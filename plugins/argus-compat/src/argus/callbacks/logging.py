"""Logging a run: to the model's logger, to a log file, to a CSV file."""

from __future__ import annotations

import logging
import os
import re
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from argus import types
from argus.callbacks.callback import Callback, on_epoch_complete
from argus.errors import also
from argus_core import ArgusError, authors
from argus_core.authors import (
    EpochRecord,
    LineFormatter,
    begin_file,
    make_folder,
    opener,
    place_to_write,
    writing,
)

if TYPE_CHECKING:
    import argus_core

__all__ = ["LINE_FORMAT", "LoggingToCSV", "LoggingToFile", "default_logging"]

LINE_FORMAT = "[%(asctime)s][%(levelname)s]: %(message)s"

_FIELDS = {
    "%(asctime)s": r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}",
    "%(levelname)s": r"\w[\w ]*",
}


@on_epoch_complete
def default_logging(state: argus_core.State) -> None:
    """Log an epoch's metrics of this phase, and the learning rate in training."""
    parts = [f"{state.phase} - epoch: {state.epoch}"]
    if state.phase == "train":
        parts.append(f"lr: {_format_lr(state.model.get_lr())}")
    prefix = f"{state.phase}_" if state.phase else ""
    parts += [f"{name}: {_format(value)}" for name, value in state.metrics.items() if name.startswith(prefix)]
    state.logger.info(", ".join(parts))


class LoggingToFile(Callback):
    """Writes the messages of the model's logger to a file.

    Args:
        file_path: the log.
        create_dir: whether to create its folder.
        formatter: the format of a line, as in the `logging` module.
        append: whether to keep the contents of the file.
    """

    def __init__(
        self,
        file_path: types.Path,
        create_dir: bool = True,
        formatter: str = LINE_FORMAT,
        append: bool = False,
    ) -> None:
        self.file_path = file_path
        self.create_dir = create_dir
        self.formatter = LineFormatter(formatter)
        self._format = formatter
        self.append = append
        self.file_handler: logging.Handler | None = None

    def start(self, state: argus_core.State) -> None:
        """Open the file."""
        with also(TypeError):
            path = place_to_write("LoggingToFile", "file_path", self.file_path)
        _check_folder("LoggingToFile", path, self.create_dir)
        begin_file("LoggingToFile", path, state, self.append, _first_line(self._format))
        with writing("LoggingToFile", path):
            self.file_handler = _FileHandler(path, "a", encoding="utf-8")
        self.file_handler.setFormatter(self.formatter)
        state.logger.addHandler(self.file_handler)

    def complete(self, state: argus_core.State) -> None:
        """Close the file."""
        if self.file_handler is not None:
            state.logger.removeHandler(self.file_handler)
            self.file_handler.close()
            self.file_handler = None

    def catch_exception(self, state: argus_core.State) -> None:
        """Close the file."""
        self.complete(state)


class LoggingToCSV(authors.LoggingToCSV, Callback):
    """Writes a CSV file with a row for each epoch: time, epoch, lr and all metrics.

    Args:
        file_path: the file.
        create_dir: whether to create its folder.
        separator: the text between columns.
        write_header: whether the first line names the columns.
        append: whether to keep the contents of the file.

    Attributes:
        csv_file: the file, open for appending in a run; ``None`` before the first run.
    """

    def __init__(
        self,
        file_path: types.Path,
        create_dir: bool = True,
        separator: str = ",",
        write_header: bool = True,
        append: bool = False,
    ) -> None:
        super().__init__(file_path, separator, append, write_header)
        self.create_dir = create_dir
        self.csv_file: TextIO | None = None

    def start(self, state: argus_core.State) -> None:
        """Start the file, or read its columns."""
        _check_folder("LoggingToCSV", self.file_path, self.create_dir)
        super().start(state)
        self._open()

    def epoch_complete(self, state: argus_core.State) -> None:
        """Write the epoch's row, also if a script has not called `start`."""
        if not self.file_path.exists():
            self.start(state)
        if self.csv_file is None or self.csv_file.closed:
            self._open()
        assert self.csv_file is not None
        self.csv_file.flush()  # rows that a script wrote
        super().epoch_complete(state)
        if not os.path.samestat(os.fstat(self.csv_file.fileno()), self.file_path.stat()):  # new columns
            self._open()

    def _open(self) -> None:
        self._close()
        with writing("LoggingToCSV", self.file_path):
            self.csv_file = open(self.file_path, "a", encoding="utf-8", newline="", opener=opener)  # noqa: SIM115

    def _close(self) -> None:
        if self.csv_file is not None:
            self.csv_file.close()

    def row(self, record: EpochRecord) -> dict[str, Any]:
        """Return the values of an epoch by column, with the rates as in the log."""
        return {**super().row(record), "lr": "" if record.lr is None else _format_lr(record.lr)}

    def complete(self, state: argus_core.State) -> None:
        """Close the file; it has all rows already."""
        super().complete(state)
        self._close()

    def catch_exception(self, state: argus_core.State) -> None:
        """Close the file; it has all rows already."""
        self._close()


class _FileHandler(logging.FileHandler):
    """Opens its file as a file of the run."""

    def _open(self) -> TextIOWrapper:
        file = open(  # noqa: SIM115
            self.baseFilename, self.mode, encoding=self.encoding, errors=self.errors, opener=opener
        )
        assert isinstance(file, TextIOWrapper)
        return file


def _first_line(formatter: str) -> str:
    """Return a regular expression of how a log begins: up to the first field that may be any text."""
    pattern = ""
    for text, field in re.findall(r"([^%]*)(%\(\w+\)s|%|$)", formatter):
        pattern += re.escape(text)
        if field not in _FIELDS:
            break
        pattern += _FIELDS[field]
    return pattern + r"[^\0\ufffd]*$"  # text in UTF-8


def _check_folder(callback: str, path: Path, create: bool) -> None:
    if create:
        make_folder(callback, path.parent)
    elif not path.parent.is_dir():
        raise ArgusError(
            f"{callback} has create_dir=False, and the folder {str(path.parent)!r} does not exist; create "
            "it, or leave create_dir out"
        )


def _format(value: Any) -> str:
    return f"{value:.7g}" if isinstance(value, float) else str(value)


def _format_lr(lr: float | list[float]) -> str:
    if isinstance(lr, list):
        return f"[{', '.join(map(_format_lr, lr))}]"
    return f"{lr:.5g}"
