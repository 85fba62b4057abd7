"""A CSV file with a row for each epoch of a run."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from argus_core.callbacks.appending import lines_of
from argus_core.callbacks.epoch_report import EpochRecord, EpochReport, LearningRate, rates
from argus_core.callbacks.going_back import TABLE, TableAhead
from argus_core.callbacks.log_beginning import begin_file
from argus_core.callbacks.midway import MidwayRecord
from argus_core.callbacks.state import State
from argus_core.errors import ArgusError, ParamsError
from argus_core.files.confinement import opener, replacing
from argus_core.files.output_files import place_to_write, writing
from argus_core.files.working_folder import shown
from argus_core.registry.file_params import WRITES
from argus_core.storage.stored import COUNT, Rule
from argus_core.text import one_line

__all__ = ["LoggingToCSV"]


class LoggingToCSV(EpochReport):
    """Writes a CSV file with a row for each epoch: time, epoch (counting from 0), lr and all metrics.

    Args:
        file_path: the file; parent folders are made.
        separator: between columns.
        append: whether to keep what the file holds. A resumed run always does.
        write_header: whether the first line names the columns. Without it a metric that is new comes last.

    Attributes:
        first_line: a regular expression of how such a file begins; a new run replaces no other file.

    Raises:
        ArgusError: at the start of a new run: the file is there, and is not such a log.
    """

    name = "logging_to_csv"
    state_rules: ClassVar[Mapping[str, Rule]] = {**EpochReport.state_rules, "rows": COUNT, "table": TABLE}
    reads_predictions = False
    computes = ()
    exact_types = True
    file_params: ClassVar = {"file_path": WRITES}
    run_paths: ClassVar = {"file_path": "metrics.csv"}
    first_line: ClassVar = r'"?(time"?."?epoch"?."?lr\b|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00)'

    def __init__(
        self, file_path: str | Path, separator: str = ",", append: bool = False, write_header: bool = True
    ) -> None:
        if not isinstance(separator, str) or len(separator) != 1 or separator in '"\r\n':
            raise ParamsError(
                f"separator of {self.name} is {separator!r}; give one character, such as ',' or ';'"
            )
        self.file_path = place_to_write(self.name, "file_path", file_path)
        self.separator = separator
        self.append = append
        self.write_header = write_header
        self._columns: list[str] = []
        self._rows = 0
        self._kept: int | None = None
        self._table: str | None = None  # that the run wrote before it was resumed
        self._is_ahead = False  # the file, of the checkpoint that the run resumes from
        self._ahead = TableAhead(self.file_path)

    def start(self, state: State) -> None:
        """Start the file, or read its columns."""
        begin_file(self.name, self.file_path, state, self.append, self.first_line)
        if self._table is not None and not self._ahead.is_of(self._table):
            self._kept = None  # the run wrote another file
        self._count_rows()
        if self._kept is not None and self._kept > self._rows and self._ahead.put_back():
            self._count_rows()
        self._is_ahead = self._kept is not None and self._kept < self._rows
        if self._kept is not None:
            self._rows = min(self._kept, self._rows)
        self._kept = self._table = None

    def _count_rows(self) -> None:
        with self._reading() as rows:
            self._columns = next(rows, []) if self.write_header else []
            self._rows = sum(1 for _ in rows)

    def checkpoint_saved(self, state: State) -> None:
        """Forget the later rows that the run has replaced, which no checkpoint is of any more."""
        self._ahead.drop()

    def complete(self, state: State) -> None:
        """Do the same at the end of the run."""
        self._ahead.drop()

    def state_dict(self) -> dict[str, Any]:
        """Return the number of rows; a run that resumes from here removes later ones."""
        return {**super().state_dict(), "rows": self._rows, "table": self._ahead.identity()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; later rows are removed once there is a new one."""
        super().load_state_dict(state_dict)
        self._kept, self._table = state_dict["rows"], state_dict.get("table")

    def report(self, record: EpochRecord, state: State) -> None:
        """Write the epoch's row; a new metric gets a column, which is empty in earlier rows."""
        self._write(self.row(record))

    def report_midway(self, record: MidwayRecord, state: State) -> None:
        """Write a row about the middle of an epoch, which has a phase and a global_step besides."""
        row = {"time": record.time, "epoch": record.epoch, "lr": _csv_lr(record.lr), "phase": record.phase}
        metrics = {one_line(name): value for name, value in record.metrics.items()}
        self._write({**row, "global_step": record.global_step, **record.rates, **metrics})

    def _write(self, row: Mapping[str, Any]) -> None:
        if self._is_ahead:
            self._is_ahead = False
            self._ahead.keep()
            with self._replacing() as (rows, writer):
                writer.writerows(islice(rows, self._rows + bool(self.write_header)))
        with writing(self.name, self.file_path):
            if not set(row) <= set(self._columns):
                self._add_columns([column for column in row if column not in self._columns])
            with open(self.file_path, "a", encoding="utf-8", newline="", opener=opener) as file:
                self._writer(file).writerow([row.get(column, "") for column in self._columns])
        self._rows += 1

    def row(self, record: EpochRecord) -> dict[str, Any]:
        """Return the values of an epoch by column; override it to write others.

        If the first three are others, override `first_line` too.
        """
        metrics = {one_line(name): value for name, value in record.metrics.items()}
        return {"time": record.time, "epoch": record.epoch, "lr": _csv_lr(record.lr), **metrics}

    @contextmanager
    def _reading(self) -> Iterator[Iterator[list[str]]]:
        """Yield the rows of the file."""
        try:
            with (
                writing(self.name, self.file_path),
                open(self.file_path, encoding="utf-8", newline="", opener=opener) as file,
            ):
                yield csv.reader(lines_of(self.name, self.file_path, file), delimiter=self.separator)
        except (UnicodeDecodeError, csv.Error) as error:
            raise ArgusError(
                f"{self.name} cannot append to {shown(self.file_path)!r}, which is not a CSV file ({error}); "
                "choose another path"
            ) from error

    def _add_columns(self, columns: list[str]) -> None:
        has_header = bool(self._columns)
        self._columns = self._columns + columns
        if not self.write_header:
            return
        with self._replacing() as (rows, writer):
            if has_header:
                next(rows, None)
            writer.writerow(self._columns)
            writer.writerows(row + [""] * (len(self._columns) - len(row)) for row in rows)

    @contextmanager
    def _replacing(self) -> Iterator[tuple[Iterator[list[str]], Any]]:
        """Replace the file by the rows written in the block, atomically."""
        with replacing(self.file_path, newline="") as file, self._reading() as rows:
            yield rows, self._writer(file)

    def _writer(self, file: Any) -> Any:
        return csv.writer(file, delimiter=self.separator, lineterminator="\n")


def _csv_lr(lr: LearningRate) -> str:
    return " ".join(map(str, rates(lr)))
