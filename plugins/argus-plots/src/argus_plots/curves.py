"""The callback that draws the curves of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from argus_core import State, hookimpl
from argus_core.authors import EpochRecord, EpochReport, MidwayRecord, Monitor
from argus_plots.drawing import Best, draw_curves, write_picture
from argus_plots.picture import Picture
from argus_plots.series import read_lines, series_of

__all__ = ["Curves"]


class Curves(Picture, EpochReport):
    """Draws all metrics and the learning rates of a run, training and validation of a metric together.

    Where the run writes ``metrics.jsonl`` beside the picture, as in every run directory, that file is drawn,
    and the picture of a resumed run has all of its epochs. Elsewhere it has those since the run resumed. The
    best epoch of the callback that keeps the best checkpoint is marked.

    Args:
        file_path: the picture, a PNG file; parent folders are made.
        interval: seconds between drawings; there is one more at the end.
    """

    name = "curves"
    reads_predictions = False
    run_paths: ClassVar = {"file_path": "curves.png"}

    def __init__(self, file_path: str | Path, interval: float = 30.0) -> None:
        super().__init__(file_path, interval)
        self._log = self.file_path.with_name("metrics.jsonl")
        self._lines: list[dict[str, Any]] = []  # of a run that writes no log
        self._is_logged = False

    @hookimpl(tryfirst=True)
    def start(self, state: State) -> None:
        """Look for the run's log."""
        super().start(state)
        self._lines = []
        self._is_logged = any(
            getattr(each, "file_path", None) == self._log for each in state.engine.callbacks
        )

    @hookimpl(tryfirst=True)
    def epoch_start(self, state: State) -> None:
        """Draw the epochs before, if the interval has passed."""
        Picture.epoch_start(self, state)
        EpochReport.epoch_start(self, state)

    def report(self, record: EpochRecord, state: State) -> None:
        """Remember the epoch's values where no log does."""
        self._remember(record)

    def report_midway(self, record: MidwayRecord, state: State) -> None:
        """Remember values of the middle of an epoch where no log does."""
        self._remember(record, phase=record.phase)

    def _remember(self, record: EpochRecord | MidwayRecord, **others: Any) -> None:
        if not self._is_logged:
            self._lines.append(
                {"global_step": record.global_step, "lr": record.lr, **others, **record.metrics}
            )

    def draw(self, state: State) -> None:
        """Draw the run so far."""
        phases = sorted({"train", "val", *(state.phase_states or ())}, key=len, reverse=True)
        series = series_of(read_lines(self._log) if self._is_logged else self._lines, phases)
        if series.metrics:
            write_picture(self.file_path, lambda: draw_curves(series, _best(state, series.epochs)))


def _best(state: State, epochs: list[int]) -> Best | None:
    """Return the best epoch of the first callback that monitors a metric."""
    monitors = (getattr(each, "monitor", None) for each in state.engine.callbacks)
    monitor = next((each for each in monitors if isinstance(each, Monitor)), None)
    if monitor is None or monitor.epoch is None or not 0 <= monitor.epoch < len(epochs):
        return None
    return monitor.metric, epochs[monitor.epoch]
