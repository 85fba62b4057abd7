"""The part of ``argus predict`` that reads files by readers and writes a table."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

import click

from argus_core.cli.output import counted, echo, echo_status, is_terminal
from argus_core.errors import ArgusError, MissingPluginError
from argus_core.model.loading import load_model
from argus_core.prediction.formats import check_format
from argus_core.prediction.on_files import predict_on
from argus_core.prediction.partial_file import PartialFile
from argus_core.prediction.predictions import Predictions
from argus_core.prediction.written import skipped_path
from argus_core.runs.outputs import check_output
from argus_core.runs.prediction import for_evaluation
from argus_core.tensors.single_process import is_restarted

__all__ = ["predict_files"]

_SHOWN = 5
_ON_TERMINAL = 0.25  # seconds between drawings
_ELSEWHERE = 30.0  # seconds between lines


def predict_files(
    checkpoint: Path,
    data: tuple[str, ...],
    output: Path,
    overwrite: bool,
    params: dict[str, Any],
    *,
    is_first: bool,
    resume: bool,
    reader: str | None,
    changes: tuple[str, ...],
    device: str,
    **options: Any,
) -> None:
    """Predict for the samples of files, write the table, and print the skipped samples.

    Args:
        checkpoint: of the model.
        data: files, folders and patterns.
        output: the table.
        overwrite: whether files that are there may be replaced.
        params: of the reader.
        is_first: whether this process prints and writes; in a run of several the others predict for it.
        resume: whether to continue with an interrupted prediction.
        reader: the name of the reader of all files, or ``None``.
        changes: of the section ``[data]`` of the checkpoint.
        device: to predict on.
        **options: of `predict_on`.
    """
    if params and reader is None:
        raise click.UsageError(
            f"--param is for a dataset that is chosen by name, and {data[0]!r} is a file; leave it out, or "
            "choose the reader that takes it with --reader"
        )
    check_format(output)
    resume = resume or is_restarted()
    table = PartialFile(output)
    if is_first and resume and not overwrite and output.is_file() and not table.exists():
        raise ArgusError(
            f"{output} exists, and no prediction of it was interrupted; add --overwrite to predict again, or "
            "choose another output file"
        )
    if is_first:
        _check(checkpoint, data, output, overwrite or (resume and table.has_ended()))
    load = partial(load_model, checkpoint, device=device, change_params_func=for_evaluation, optimizer=None)
    try:
        model = load()
    except MissingPluginError:
        model = load(loss=None)  # it says only whether the network gives probabilities
    spec = None if reader is None else (reader, params)
    predictions = predict_on(model, data, reader=spec, changes=changes, source=checkpoint, **options)
    if not is_first:
        predictions.write(output, overwrite=overwrite, resume=resume)
        return
    _check_inputs(predictions, output)
    if predictions.files.left_out:
        others = counted(predictions.files.left_out, "file")
        echo(f"left out: {others} with nothing for this model", err=True)
    watch = _Watch(predictions.files.count())
    try:
        written = predictions.write(output, overwrite=overwrite, resume=resume, watch=watch)
    except KeyboardInterrupt:
        echo_status()
        echo(f"{table.path} has the rows so far; continue with --resume", err=True)
        raise
    finally:
        watch.end()
    _tell_skipped(written.skipped, written.skipped_path)
    echo(f"predictions: {output} ({counted(written.rows, 'sample')})")


def _check(checkpoint: Path, data: tuple[str, ...], output: Path, overwrite: bool) -> None:
    """Check all files that will be written; those of an interrupted prediction may be there."""
    inputs = [checkpoint, *map(Path, data)]
    for path, may_exist in (
        (output, overwrite),
        (skipped_path(output), overwrite),
        (PartialFile(output).path, True),
        (PartialFile(output).journal, True),
    ):
        check_output(path, *inputs, overwrite=may_exist)


def _check_inputs(predictions: Predictions, output: Path) -> None:
    if output.exists():
        check_output(output, *map(Path, predictions.files.paths), overwrite=True)


def _tell_skipped(count: int, path: Path | None) -> None:
    if path is None:
        return
    with open(path, encoding="utf-8") as lines:
        next(lines)
        for _, line in zip(range(_SHOWN), lines, strict=False):
            echo(f"skipped: {line.strip()}", err=True)
    if count > _SHOWN:
        echo(f"skipped: {count - _SHOWN:,} more", err=True)
    echo(f"skipped: {counted(count, 'sample')}, listed in {path}", err=True)


class _Watch:
    """Shows the progress on standard error: on a terminal in one line, elsewhere now and then in a line.

    Args:
        total: the number of samples, ``None`` if it is unknown.
    """

    def __init__(self, total: int | None) -> None:
        self.total = total
        self._first: tuple[float, int] | None = None
        self._every = _ON_TERMINAL if is_terminal(err=True) else _ELSEWHERE
        self._next = time.monotonic() + self._every

    def __call__(self, done: int, skipped: int) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = (now, done)
        if now < self._next:
            return
        self._next = now + self._every
        text = self._text(now, done, skipped)
        if is_terminal(err=True):
            echo_status(text)
        else:
            echo(text, err=True)

    def end(self) -> None:
        """Clear the line on a terminal."""
        echo_status()

    def _text(self, now: float, done: int, skipped: int) -> str:
        assert self._first is not None
        began, first = self._first
        rate = (done - first) / max(now - began, 1e-9)
        total = "" if self.total is None else f" of {max(self.total, done):,}"
        text = f"{done:,}{total} samples"
        if rate > 0:
            text += f", {rate:,.0f}/s"
            if self.total is not None:
                text += f", {_clock(max(self.total - done, 0) / rate)} left"
        return text + (f", {skipped:,} skipped" if skipped else "")


def _clock(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}"
