"""The predictions of a model on files: iterated row by row, or written to a table."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from argus_core.abstract_model import AbstractModel
from argus_core.data.slices import Share
from argus_core.data.workers import begun, with_workers_that_leave_signals
from argus_core.errors import ArgusError
from argus_core.files.working_folder import shown
from argus_core.prediction.formats import check_format, encoded
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
from argus_core.prediction.turns import Turns, taking_turns
from argus_core.prediction.written import Written, finish, nothing_read, skipped_path
from argus_core.tensors.listing import first_tensor, named_tensors
from argus_core.training.shapes import shape_of

_OF_LOGITS = (nn.BCEWithLogitsLoss, nn.SoftMarginLoss, nn.MultiLabelSoftMarginLoss, nn.HingeEmbeddingLoss)

__all__ = ["Predictions"]

Watch = Callable[[int, int], None]
"""Called after each batch with the numbers of samples and of skipped ones so far."""


class Predictions:
    """The predictions of a model for the samples of files, which are read while it is iterated.

    An item is a dict of plain values with the keys ``file``, ``row`` (for files of several samples) and the
    columns of the table: ``class`` and ``probability``, or the values by their names. In a run of several
    processes they take turns to predict; each process must iterate, and gets all items.

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
        with (
            taking_turns(self.model, self._facts) as turns,
            closing(self._predicted(0, turns, everywhere=True)) as predicted,
        ):
            for batch, prediction in predicted:
                self.skipped += batch.skipped
                if not batch.files:
                    continue
                layout = layout or self._layout(prediction)
                columns = self._columns(layout, batch, prediction)
                yield from (dict(zip(columns, row, strict=True)) for row in rows_in(columns))

    def loader(self, start: int = 0, share: Share | None = None) -> DataLoader[FileBatch]:
        """Return the loader of the batches that are predicted.

        Args:
            start: the number of the first batch.
            share: of this process, in a run of several.
        """
        self._batches.start, self._batches.share = start, share or Share(0, 1)
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
        not grow with their number. In a run of several processes each must call it; the first writes.

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
        with taking_turns(self.model, self._facts) as turns:
            key = self._key(output.suffix.lower())
            if turns is None:
                return self._write(output, key, overwrite, resume, watch)
            if turns.is_first:
                done = self._write(output, key, overwrite, resume, watch, turns)
                turns.of_first([done.rows, done.skipped])
                return done
            self._take_part(turns)
            rows, skipped = turns.of_first(None)
        return Written(output, rows, skipped, skipped_path(output) if skipped else None)

    def _write(
        self,
        output: Path,
        key: dict[str, Any],
        overwrite: bool,
        resume: bool,
        watch: Watch | None,
        turns: Turns | None = None,
    ) -> Written:
        partial, listed = PartialFile(output), skipped_path(output)
        has_ended = resume and partial.has_ended()
        if has_ended and not partial.path.exists() and output.exists():  # only the journal is left
            done = partial.latest(key)
            partial.remove()
            if turns is not None:
                turns.of_first(None)
            return Written(output, done.rows, done.skipped, listed if done.skipped else None)
        for path in (output, listed):
            if os.path.lexists(path) and not overwrite and not has_ended:
                raise ArgusError(f"{shown(path)} exists already; choose another output file, or overwrite it")
        suffix = output.suffix.lower()
        with partial.opened(key, resume, overwrite):
            if turns is not None:
                turns.of_first(partial.progress.batches)
            self._fill(partial, suffix, watch, turns)
            done = partial.progress
            if done.rows:
                finish(partial, suffix, listed)
            first = next(partial.skipped(), None)
        partial.remove()
        if not done.rows:
            raise nothing_read(done.skipped, first)
        return Written(output, done.rows, done.skipped, listed if done.skipped else None)

    def _fill(self, partial: PartialFile, suffix: str, watch: Watch | None, turns: Turns | None) -> None:
        layout = None if partial.progress.layout is None else Layout(**partial.progress.layout)
        with closing(self._predicted(partial.progress.batches, turns)) as predicted:
            for batch, prediction in predicted:
                data, record = b"", None
                if batch.files:
                    if layout is None:
                        layout = self._layout(prediction)
                        record = layout.record()
                    columns = self._columns(layout, batch, prediction, is_packed=suffix == ".npz")
                    data = encoded(suffix, columns, partial.progress.rows == 0)
                partial.add(len(batch.files), data, batch.skipped, record)
                if watch is not None:
                    done = partial.progress
                    watch(done.rows + done.skipped, done.skipped)

    def _take_part(self, turns: Turns) -> None:
        """Predict for the first process, which writes."""
        start = turns.of_first(None)
        if start is not None:
            for _ in self._predicted(start, turns):
                pass

    def _predicted(
        self, start: int, turns: Turns | None, everywhere: bool = False
    ) -> Generator[tuple[FileBatch, Any], None, None]:
        """Yield each batch and its prediction, ``None`` if no sample of it could be read.

        Args:
            start: the number of the first batch.
            turns: of the processes, in a run of several.
            everywhere: whether all of them get the batches, or the first alone.
        """
        loader = self.loader(start, None if turns is None else turns.share)
        with self.model.evaluation(), with_workers_that_leave_signals(loader):
            if turns is not None:
                yield from turns.rounds(begun(loader), self._prediction, everywhere)
                return
            for batch in begun(loader):
                yield batch, self._prediction(batch) if batch.files else None

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
        return {"format": suffix, **self._facts(), "weights": _fingerprint(self.model)}

    def _facts(self) -> dict[str, Any]:
        """Return what must be the same in all processes of a run, too."""
        files = self.files.fingerprint()
        return {"files": files, "readers": self._readers, "data": self._spec, **self._sizes}


def _gives_probabilities(model: AbstractModel) -> bool | None:
    """Return whether a transform, or the network itself, makes probabilities; ``None`` if nothing says so."""
    if model.parts.get("prediction_transform") is not None or isinstance(model.loss, nn.BCELoss):
        return True
    return False if isinstance(model.loss, _OF_LOGITS) else None


def _fingerprint(model: AbstractModel) -> int:
    """Return a checksum of the weights with which the model predicts; each process of a run must call it."""
    checksum = 0
    with model.evaluation():
        for name, part in model.get_nn_module().state_dict().items():
            value = model.parallel.whole(part) if isinstance(part, Tensor) else part
            checksum = zlib.crc32(name.encode(), checksum)
            is_plain = isinstance(value, Tensor) and value.layout is torch.strided and not value.is_quantized
            if is_plain and value.numel():
                plain = value.detach().cpu().contiguous().flatten()
                checksum = zlib.crc32(plain.view(torch.uint8).numpy().data, checksum)
    return checksum
