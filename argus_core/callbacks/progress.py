"""The progress of a run: a bar on a terminal, a line for each epoch elsewhere."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from argus_core.callbacks.epoch_report import (
    EpochRecord,
    EpochReport,
    format_midway,
    format_number,
    format_record,
    of_epochs,
    plain_metrics,
    update_loss,
)
from argus_core.callbacks.midway import MidwayRecord
from argus_core.callbacks.monitor import Monitor
from argus_core.callbacks.pace import Pace
from argus_core.callbacks.progress_table import epoch_table
from argus_core.callbacks.state import State, validation_phases
from argus_core.errors import ParamsError
from argus_core.files.standard_streams import ending_alone
from argus_core.hooks import hookimpl
from argus_core.storage.stored import BEST, Rule
from argus_core.text import one_line, wrapped

__all__ = ["Progress"]

_BAR_WIDTH = 20
_PLAIN_WIDTH = 160  # characters of a line that does not go to a terminal


class Progress(EpochReport):
    """Shows on standard output a line for each epoch and, on a terminal, a bar below.

    The bar tells the epoch, the updates a second, the time left and the newest loss and metrics. The loss is
    read, which waits for the device, only when the bar is drawn again. Lines are as wide as the terminal at
    most; metrics that do not fit are counted.

    Args:
        table: whether to print a table at the end: of all epochs, or on a terminal, which shows their lines
            already, of the best and the last one.
        interval: seconds between drawings of the bar.
        monitor: the metric by which the table marks the best epoch; by default the loss of the validation (of
            its first set), or of training where there is none.
        better: ``"min"``, ``"max"``, or ``"auto"`` to ask the metric.
    """

    name = "progress"
    state_rules: ClassVar[Mapping[str, Rule]] = {
        **EpochReport.state_rules,
        **Monitor.state_rules,
        "best": replace(BEST, optional=True),  # a run of an earlier version has none
    }
    reads_predictions = False
    computes = ()
    exact_types = True

    def __init__(
        self, table: bool = False, interval: float = 0.25, monitor: str | None = None, better: str = "auto"
    ) -> None:
        if not isinstance(interval, int | float) or interval <= 0:
            raise ParamsError(f"interval of {self.name} is {interval!r}; give a number above 0 (seconds)")
        self.table = table
        self.interval = interval
        self.monitor = monitor
        self.better = better
        self._records: list[EpochRecord] = []
        self._best = Monitor(self.name, "val_loss" if monitor is None else monitor, better)
        self._resumed = False
        self._bar: _Bar | None = None
        self._next_time = 0.0
        self._pace = Pace()

    def state_dict(self) -> dict[str, Any]:
        """Return the values at the start of the current epoch, and the best epoch that the table marks."""
        return {**super().state_dict(), **self._best.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned, for the next run."""
        super().load_state_dict(state_dict)
        self._best.metric, self._resumed = state_dict.get("monitor", self._best.metric), True
        self._best.load_state_dict(state_dict)

    @hookimpl(tryfirst=True)
    def start(self, state: State) -> None:
        """Start the bar on a terminal."""
        self._records = []
        loss = f"{next(iter(validation_phases(state)), state.phase)}_loss"
        metric = self.monitor or loss
        if not self._resumed or metric != self._best.metric:
            self._best.forget()
        self._best.metric, self._resumed = metric, False
        if self.table and self.monitor is not None:
            self._best.start(state)
        self._pace = Pace()
        self._pace.begin_run(state)
        # A run that validates may have a bar itself.
        within_fit = state.phase != "train" and "train" in (state.phase_states or {})
        if _is_terminal() and not within_fit:
            with ending_alone(state.logger):
                self._bar = _Bar()

    def epoch_start(self, state: State) -> None:
        """Show the epoch's number."""
        super().epoch_start(state)
        self._pace.begin_epoch(state)
        self._draw(state)

    def iteration_complete(self, state: State) -> None:
        """Redraw the bar if its interval has passed."""
        if self._bar is not None and time.monotonic() >= self._next_time:
            self._draw(state)

    def validation_start(self, state: State) -> None:
        """Show that validation begins."""
        self._pace.validated = 0
        self._draw(state, " validation")

    def validation_iteration_complete(self, state: State) -> None:
        """Redraw the bar if its interval has passed."""
        self._pace.validated += state.validated_at is None
        if self._bar is not None and time.monotonic() >= self._next_time:
            self._draw(state, " validation")

    def report(self, record: EpochRecord, state: State) -> None:
        """Print the epoch's line."""
        if self.table:
            self._records.append(record)
        if self._best.metric in record.metrics:
            self._best.improved(state)
        with ending_alone(state.logger):
            # With a bar, rich puts it above.
            print(one_line(format_record(record, _width())), flush=True)

    def report_midway(self, record: MidwayRecord, state: State) -> None:
        """Print a line about the middle of an epoch."""
        if record.phase == "val" and self._best.metric in record.metrics:
            self._best.improved(state)
        last = self._records[-1] if self._records else None
        if last is not None and record.phase == "val" and record.global_step == last.global_step:
            self._records[-1] = replace(last, metrics={**last.metrics, **record.metrics})
        with ending_alone(state.logger):
            print(one_line(format_midway(record, state.engine.num_epochs, _width())), flush=True)

    @hookimpl(trylast=True)
    def complete(self, state: State) -> None:
        """End the bar; print the reason for a stop, and the table if chosen."""
        self._end_bar(state)
        records, best = self._records, self._best.epoch
        if _is_terminal():
            records = [each for each in records if each.epoch == best or each is records[-1]]
        with ending_alone(state.logger):
            if state.stop_reason is not None:
                reason = state.stop_reason
                print(wrapped(reason, _width()) if _is_terminal() else one_line(reason), flush=True)
            if records:
                print(epoch_table(records, _width(), best, self._best.metric), flush=True)

    @hookimpl(tryfirst=True)
    def catch_exception(self, state: State) -> None:
        """End the bar."""
        self._end_bar(state)

    def _draw(self, state: State, activity: str = "") -> None:
        if self._bar is None:
            return
        now = time.monotonic()
        self._next_time = now + self.interval
        done, total = self._pace.progress(state, now)
        title = f"epoch {of_epochs(state.epoch, state.engine.num_epochs)}{activity}"
        with ending_alone(state.logger):
            self._bar.draw(title, done, total, self._pace.status(state, now) + _newest(state))

    def _end_bar(self, state: State) -> None:
        if self._bar is not None:
            with ending_alone(state.logger):
                self._bar.end()
            self._bar = None


class _Bar:
    """A live line at the bottom of the terminal; the first one imports rich."""

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

    def draw(self, title: str, done: float, total: float | None, status: str) -> None:
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


def _width() -> int:
    return shutil.get_terminal_size().columns if _is_terminal() else _PLAIN_WIDTH


def _newest(state: State) -> str:
    """Return the newest loss and metrics; reading the loss waits for the device."""
    loss = update_loss(state)
    shown = plain_metrics({**({} if loss is None else {"loss": loss}), **state.metrics})
    skipped = [f"{state.updates_skipped} skipped"] if state.updates_skipped else []
    return "  ".join([*skipped, *(f"{name} {format_number(value)}" for name, value in shown.items())])
