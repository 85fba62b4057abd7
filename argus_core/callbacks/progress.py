"""Showing how far a run is: a bar on a terminal, a line for each epoch elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from argus_core.callbacks.record import (
    EpochRecord,
    EpochReport,
    format_lr,
    format_number,
    format_record,
    plain_metrics,
    update_loss,
)
from argus_core.errors import ParamsError
from argus_core.hooks import hookimpl
from argus_core.standard_streams import ending_alone
from argus_core.text import one_line

if TYPE_CHECKING:
    from argus_core.engine import State

__all__ = ["Progress"]

_BAR_WIDTH = 20


class Progress(EpochReport):
    """Shows on standard output a line for each epoch and, on a terminal, a bar below.

    The bar tells the epoch, the updates a second, the time left and the newest loss and metrics. The loss is
    read, which waits for the device, only when the bar is drawn again.

    Args:
        table: whether to print a table of all epochs at the end.
        interval: seconds between drawings of the bar.
    """

    name = "progress"
    reads_predictions = False

    def __init__(self, table: bool = False, interval: float = 0.25) -> None:
        if not isinstance(interval, int | float) or interval <= 0:
            raise ParamsError(f"{self.name} takes interval > 0 (seconds), not {interval!r}")
        self.table = table
        self.interval = interval
        self._records: list[EpochRecord] = []
        self._bar: _Bar | None = None
        self._next_time = 0.0
        self._pace = _Pace()

    @hookimpl(tryfirst=True)
    def start(self, state: State) -> None:
        """Begin the bar on a terminal."""
        self._records = []
        self._pace = _Pace()
        within_fit = state.phase != "train" and "train" in (
            state.phase_states or {}
        )  # which may have a bar itself
        if _is_terminal() and not within_fit:
            with ending_alone(state.logger):
                self._bar = _Bar()

    def epoch_start(self, state: State) -> None:
        """Show the epoch's number."""
        super().epoch_start(state)
        self._pace.begin_epoch(state)
        self._draw(state, f"epoch {state.epoch + 1}/{state.engine.num_epochs}")

    def iteration_complete(self, state: State) -> None:
        """Draw the bar again if it is time to."""
        if self._bar is not None and time.monotonic() >= self._next_time:
            self._draw(state, f"epoch {state.epoch + 1}/{state.engine.num_epochs}")

    def validation_start(self, state: State) -> None:
        """Show that the epoch's updates are done and validation goes on."""
        self._draw(state, "validation")

    def report(self, record: EpochRecord, state: State) -> None:
        """Print the epoch's line."""
        if self.table:
            self._records.append(record)
        with ending_alone(state.logger):
            print(one_line(format_record(record)), flush=True)  # with a bar, rich puts it above

    @hookimpl(trylast=True)
    def complete(self, state: State) -> None:
        """End the bar and print the table, if wanted."""
        self._end_bar(state)
        if self.table and self._records:
            with ending_alone(state.logger):
                _print_table(*_rows(self._records))

    @hookimpl(tryfirst=True)
    def catch_exception(self, state: State) -> None:
        """End the bar."""
        self._end_bar(state)

    def _draw(self, state: State, title: str) -> None:
        if self._bar is None:
            return
        now = time.monotonic()
        self._next_time = now + self.interval
        done, total = self._pace.progress(state)
        with ending_alone(state.logger):
            self._bar.draw(title, done, total, self._pace.status(state, now) + _newest(state))

    def _end_bar(self, state: State) -> None:
        if self._bar is not None:
            with ending_alone(state.logger):
                self._bar.end()
            self._bar = None


class _Pace:
    """How far a run is, how fast it goes and how long it will take."""

    def __init__(self) -> None:
        self._run_began = self._epoch_began = time.monotonic()
        self._first_epoch: int | None = None
        self._updates: int | None = None  # in an epoch

    def begin_epoch(self, state: State) -> None:
        self._epoch_began = time.monotonic()
        if self._first_epoch is None:
            self._first_epoch = state.epoch
            batches = state.engine.num_batches
            self._updates = None if batches is None else -(-batches // state.engine.window_size)

    def progress(self, state: State) -> tuple[int, int | None]:
        """Return the updates done and those of the whole run, as far as it is known."""
        epochs = state.epoch - (self._first_epoch or 0)
        if self._updates is None:
            return state.iteration + 1, None
        total = (state.engine.num_epochs - (self._first_epoch or 0)) * self._updates
        return epochs * self._updates + state.iteration + 1, total

    def status(self, state: State, now: float) -> str:
        """Return the rate and the time left, or nothing before the first update."""
        done, total = self.progress(state)
        if state.iteration < 0:
            return ""
        rate = (state.iteration + 1) / max(now - self._epoch_began, 1e-9)
        if total is None:
            return f"{rate:.1f} updates/s  "
        left = (now - self._run_began) / done * (total - done)  # includes the validations to come
        return f"{rate:.1f} updates/s  {_clock(left)} left  "


class _Bar:
    """A live line at the bottom of the terminal; rich is imported when the first one is made."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn
        from rich.table import Column

        title = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True))
        status = TextColumn("{task.fields[status]}", markup=False, table_column=Column(no_wrap=True))
        # No thread of rich's own: the interval says when to draw.
        self._progress = Progress(
            title,
            BarColumn(_BAR_WIDTH),
            status,
            console=Console(),
            auto_refresh=False,
            transient=True,
        )
        self._task = self._progress.add_task("", total=1, status="")
        self._progress.start()

    def draw(self, title: str, done: int, total: int | None, status: str) -> None:
        # A line that is too wide would squeeze the title, which matters more.
        room = max(self._progress.console.width - len(title) - _BAR_WIDTH - 3, 1)
        status = one_line(status)
        shown = status if len(status) <= room else status[: room - 1] + "…"
        self._progress.update(
            self._task, description=title, completed=done, total=total, status=shown, refresh=True
        )

    def end(self) -> None:
        self._progress.stop()


def _is_terminal() -> bool:
    return sys.stdout is not None and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def _newest(state: State) -> str:
    """Return the newest loss and metrics; reading the loss waits for the device."""
    loss = update_loss(state)
    shown = plain_metrics({**({} if loss is None else {"loss": loss}), **state.metrics})
    skipped = [f"{state.updates_skipped} skipped"] if state.updates_skipped else []
    return "  ".join([*skipped, *(f"{name} {format_number(value)}" for name, value in shown.items())])


def _clock(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}"


def _rows(records: Sequence[EpochRecord]) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of a table of epochs."""
    metrics = list(dict.fromkeys(name for record in records for name in record.metrics))
    rows = []
    for record in records:
        found = [record.metrics.get(name) for name in metrics]
        values = ["" if value is None else format_number(value) for value in found]
        epoch = f"{record.epoch + 1}/{record.num_epochs}"
        rows.append([epoch, *values, format_lr(record.lr), f"{record.seconds:.1f}"])
    return ["epoch", *map(one_line, metrics), "lr", "seconds"], rows


def _print_table(header: list[str], rows: list[list[str]]) -> None:
    if _is_terminal():
        _print_rich_table(header, rows)
        return
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)), flush=True)


def _print_rich_table(header: list[str], rows: list[list[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table: Any = Table()
    for name in header:
        table.add_column(Text(name), justify="right")  # as text: nothing in a name is markup
    for row in rows:
        table.add_row(*row)
    Console().print(table)
