"""The predictions of a model on files: iterated row by row, or written to a table."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from argus_core.abstract_model import AbstractModel
from argus_core.data.workers import begun, with_workers_that_leave_signals
from argus_core.errors import ArgusError
from argus_core.files.working_folder import shown
from argus_core.prediction.formats import APPENDED, check_format, encoded, write_packed
from argus_core.prediction.loading import FileBatch, FileBatches, Skipped, batch_loader
from argus_core.prediction.partial_file import PartialFile
from argus_core.prediction.preparation import Preparation
from argus_core.prediction.readers import Readers
from argus_core.prediction.sources import Files
from argus_core.prediction.table import (
    Columns,
    Layout,
    as_array,
    columns_of,
    layout_of,
    rows_in,
)
from argus_core.storage.replacement import replacement
from argus_core.tensors.listing import first_tensor, named_tensors
from argus_core.training.shapes import shape_of

__all__ = ["Predictions", "Written", "skipped_path"]

Watch = Callable[[int, int], None]
"""Called after each batch with the numbers of samples and of skipped ones so far."""


@dataclass(frozen=True)
class Written:
    """A table that was written.

    Attributes:
        path: of the table.
        rows: in it.
        skipped: the samples that could not be read.
        skipped_path: the list of them, ``None`` if there are none.
    """

    path: Path
    rows: int
    skipped: int
    skipped_path: Path | None


class Predictions:
    """The predictions of a model for the samples of files, which are read while it is iterated.

    An item is a dict of plain values with the keys ``file``, ``row`` (for files of several samples) and the
    columns of the table: ``class`` and ``probability``, or the values by their names.

    Args:
        model: in any mode.
        files: to read.
        preparation: of their samples.
        readers: the reader of each file.
        batch_size: samples that are predicted at a time.
        num_workers: processes that read files.
        top: classes of each sample in the table.
        all_classes: whether each class has a column.

    Attributes:
        files: as above.
        skipped: the samples that could not be read, of the last iteration.
    """

    def __init__(
        self,
        model: AbstractModel,
        files: Files,
        preparation: Preparation,
        readers: Readers,
        batch_size: int = 32,
        num_workers: int = 0,
        top: int = 1,
        all_classes: bool = False,
    ) -> None:
        self.model = model
        self.files = files
        self.skipped: list[Skipped] = []
        self._sizes = {"batch_size": batch_size, "top": top, "all_classes": all_classes}
        self._num_workers = num_workers
        self._spec = repr((preparation.config.data, sorted(preparation.given)))
        used = [*dict.fromkeys(each for each in files.readers if each is not None)]
        self._readers = repr([(type(each).__name__, vars(each)) for each in used])
        self._has_rows = any(not each.is_single for each in used)
        self._batches = FileBatches(
            files.paths,
            files.readers,
            {sort: preparation.of(sort) for sort in {"input", *(each.sort for each in used)}},
            preparation.collate(),
            batch_size,
            readers.missing,
            model.data.feature_names,
        )

    def __iter__(self) -> Iterator[dict[str, Any]]:
        self.skipped = []
        layout = None
        with closing(self._predicted(0)) as predicted:
            for batch, prediction in predicted:
                self.skipped += batch.skipped
                if batch.input is None:
                    continue
                layout = layout or self._layout(prediction)
                columns = self._columns(layout, batch, prediction)
                yield from (dict(zip(columns, row, strict=True)) for row in rows_in(columns))

    def loader(self, start: int = 0) -> DataLoader[FileBatch]:
        """Return the loader of the batches that are predicted, from the batch with number ``start``."""
        self._batches.start = start
        return batch_loader(self._batches, self._num_workers, self.model.device.type == "cuda")

    def write(
        self,
        output: str | Path,
        *,
        overwrite: bool = False,
        resume: bool = False,
        watch: Watch | None = None,
    ) -> Written:
        """Write a table to a file, and the samples that were skipped to a second one.

        The rows are kept in ``OUTPUT.partial`` until all are there; then that becomes the table. Memory does
        not grow with their number.

        Args:
            output: ends in ``.csv``, ``.jsonl``, ``.npz`` or ``.parquet``.
            overwrite: whether a file that is there may be replaced.
            resume: whether to continue where an interrupted call ended, if there is one; the table is that of
                one call, byte for byte.
            watch: receives the progress.

        Raises:
            ArgusError: no sample could be read, the file cannot be written, or is there.
        """
        output = Path(output)
        check_format(output)
        partial, listed = PartialFile(output), skipped_path(output)
        has_ended = resume and partial.has_ended()
        if has_ended and not partial.path.exists() and output.exists():  # only the journal is left
            done = partial.latest(self._key(output.suffix.lower()))
            partial.remove()
            return Written(output, done.rows, done.skipped, listed if done.skipped else None)
        for path in (output, listed):
            if os.path.lexists(path) and not overwrite and not has_ended:
                raise ArgusError(f"{shown(path)} exists already; choose another output file, or overwrite it")
        suffix = output.suffix.lower()
        with partial.opened(self._key(suffix), resume, overwrite):
            self._fill(partial, suffix, watch)
            done = partial.progress
            if done.rows:
                self._finish(partial, suffix, listed)
            first = next(partial.skipped(), None)
        partial.remove()
        if not done.rows:
            raise _nothing(done.skipped, first)
        return Written(output, done.rows, done.skipped, listed if done.skipped else None)

    def _fill(self, partial: PartialFile, suffix: str, watch: Watch | None) -> None:
        layout = None if partial.progress.layout is None else Layout(**partial.progress.layout)
        with closing(self._predicted(partial.progress.batches)) as predicted:
            for batch, prediction in predicted:
                data, record = b"", None
                if batch.input is not None:
                    if layout is None:
                        layout = self._layout(prediction)
                        record = layout.record()
                    columns = self._columns(layout, batch, prediction, is_packed=suffix == ".npz")
                    data = encoded(suffix, columns, partial.progress.rows == 0)
                partial.add(len(batch.files), data, batch.skipped, record)
                if watch is not None:
                    done = partial.progress
                    watch(done.rows + done.skipped, done.skipped)

    def _finish(self, partial: PartialFile, suffix: str, listed: Path) -> None:
        partial.end()
        if partial.progress.skipped:
            skipped = {"file": [], "row": [], "reason": []}  # type: dict[str, list[Any]]
            with replacement(listed, "file") as file:
                file.write(b"file,row,reason\n")
                for each in partial.skipped():
                    for name, value in zip(skipped, each, strict=True):
                        skipped[name] = [value]
                    file.write(encoded(".csv", skipped, is_first=False))
        elif os.path.lexists(listed):
            os.unlink(listed)  # of the table that is replaced
        if suffix in APPENDED:
            partial.move()
        else:
            with replacement(partial.output, "file") as file:
                write_packed(partial.path, suffix, partial.progress.rows, file)

    def _predicted(self, start: int) -> Generator[tuple[FileBatch, Any], None, None]:
        """Yield each batch and its prediction, ``None`` if no sample of it could be read."""
        loader = self.loader(start)
        with self.model.evaluation(), with_workers_that_leave_signals(loader):
            for batch in begun(loader):
                yield batch, None if batch.input is None else self._prediction(batch)

    def _prediction(self, batch: FileBatch) -> Any:
        try:
            return self.model.predict(batch.input)
        except ArgusError:
            raise
        except Exception as error:
            first, trained = first_tensor(batch.input), self.model.data.sample_shape
            if not isinstance(first, Tensor) or trained is None or tuple(first.shape[1:]) == trained:
                raise
            raise ArgusError(
                f"the network takes no input {shape_of(batch.input)}, as of {shown(batch.files[0])}, since "
                f"it was trained on samples of shape {trained} ({type(error).__name__}: {error}); give files "
                "of such samples"
            ) from error

    def _layout(self, prediction: Any) -> Layout:
        return layout_of(
            self.model.data,
            prediction,
            self._has_rows,
            self._sizes["top"],
            bool(self._sizes["all_classes"]),
            _gives_probabilities(self.model),
        )

    def _columns(self, layout: Layout, batch: FileBatch, prediction: Any, is_packed: bool = False) -> Columns:
        if is_packed and not layout.classes:
            names: Columns = {"file": batch.files} | ({"row": batch.rows} if layout.has_rows else {})
        else:
            names = columns_of(layout, batch, prediction)
        arrays = named_tensors("prediction", prediction) if is_packed else ()
        return names | {name: as_array(tensor) for name, tensor in arrays}

    def _key(self, suffix: str) -> dict[str, Any]:
        """Return what must be the same in a prediction that continues."""
        return {
            "format": suffix,
            "files": self.files.fingerprint(),
            "readers": self._readers,
            "data": self._spec,
            **self._sizes,
            "weights": _fingerprint(self.model),
        }


def skipped_path(output: Path) -> Path:
    """Return the path of the list of samples that were skipped, beside a table."""
    return output.with_name(f"{output.stem}.skipped.csv")


def _nothing(skipped: int, first: Sequence[Any] | None) -> ArgusError:
    if first is None:
        return ArgusError("the files hold no samples to predict on; give others")
    file, row, reason = first
    where = f"{file}, row {row}" if row != "" else file
    if skipped == 1:
        return ArgusError(f"{where} cannot be read: {reason}")
    return ArgusError(f"none of {skipped:,} samples can be read; the first is {where}: {reason}")


def _gives_probabilities(model: AbstractModel) -> bool:
    """Return whether a transform, or the network itself, makes probabilities."""
    return model.parts.get("prediction_transform") is not None or isinstance(model.loss, nn.BCELoss)


def _fingerprint(model: AbstractModel) -> int:
    """Return a checksum of the weights with which the model predicts."""
    checksum = 0
    with model.evaluation():
        for name, value in model.get_nn_module().state_dict().items():
            checksum = zlib.crc32(name.encode(), checksum)
            is_plain = isinstance(value, Tensor) and value.layout is torch.strided and not value.is_quantized
            if is_plain and value.numel():
                plain = value.detach().cpu().contiguous().flatten()
                checksum = zlib.crc32(plain.view(torch.uint8).numpy().data, checksum)
    return checksum
