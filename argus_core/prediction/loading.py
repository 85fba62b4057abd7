"""Batches of samples from files, read in worker processes in a fixed order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, default_collate, get_worker_info

from argus_core.data.readers import AbstractReader, Load
from argus_core.data.reading import as_it_is
from argus_core.data.slices import Share
from argus_core.errors import ArgusError
from argus_core.text import one_line

__all__ = ["FileBatch", "FileBatches", "Skipped", "batch_loader"]


class Skipped(NamedTuple):
    """A sample, or the rest of a file, that was not read.

    Attributes:
        file: its path.
        row: the name of the sample, ``""`` for a file.
        reason: in words.
    """

    file: str
    row: str | int
    reason: str


class FileBatch(NamedTuple):
    """A batch of samples.

    Attributes:
        number: of the batch, counting from 0.
        files: the file of each sample.
        rows: the name of each sample in its file, ``""`` where a file is one sample.
        input: of the network; ``None`` if no sample could be read.
        skipped: the samples that could not be read.
    """

    number: int
    files: list[str]
    rows: list[str | int]
    input: Any
    skipped: list[Skipped]


class FileBatches(IterableDataset[FileBatch]):
    """The batches of the samples of files, in order.

    Every process goes through all samples, and reads those of its own batches: each process of a run every
    N-th, each of its workers every M-th of these. A batch is made of the next ``batch_size`` samples, less
    those that cannot be read. So batches do not depend on the number of processes or workers, nor on where
    the first one begins.

    Args:
        paths: the files.
        readers: the reader of each, or ``None``, which skips the file.
        prepares: the function that makes an input of a sample, by sort.
        collate: makes a batch of inputs; ``None`` for torch's.
        batch_size: samples of a batch.
        missing: the reason for skipping a file without a reader.
        columns: the names of features, for messages.
        start: the number of the first batch.

    Attributes:
        share: of this process in the batches, by default all.
    """

    def __init__(
        self,
        paths: Sequence[str],
        readers: Sequence[AbstractReader | None],
        prepares: Mapping[str, Callable[[Any], Any]],
        collate: Callable[[list[Any]], Any] | None,
        batch_size: int,
        missing: Callable[[str], str],
        columns: Sequence[str] | None = None,
        start: int = 0,
    ) -> None:
        self.paths = paths
        self.kinds = [*dict.fromkeys(readers)]
        places = {reader: place for place, reader in enumerate(self.kinds)}
        self.places = bytes(places[reader] for reader in readers)
        self.prepares = prepares
        self.collate = collate or default_collate
        self.batch_size = batch_size
        self.reasons = {
            path: missing(path) for path, reader in zip(paths, readers, strict=True) if reader is None
        }
        self.columns = columns
        self.start = start
        self.share = Share(0, 1)

    def __iter__(self) -> Iterator[FileBatch]:
        worker = get_worker_info()
        own, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        samples, number = self._samples(), 0
        while batch := [*islice(samples, self.batch_size)]:
            turn, process = divmod(number - self.start, self.share.processes)
            if turn >= 0 and process == self.share.rank and turn % workers == own:
                yield self._read(number, batch)
            number += 1

    def _samples(self) -> Iterator[tuple[str, str | int, str, Load]]:
        """Yield file, name, sort and function of each sample; a file that fails ends with one that fails."""
        for path, place in zip(self.paths, self.places, strict=True):
            reader = self.kinds[place]
            if reader is None:
                yield path, "", "input", partial(_fail, ArgusError(self.reasons[path]))
                continue
            try:
                for name, load in reader.samples(path):
                    yield path, name, reader.sort, load
            except Exception as error:
                yield path, "", reader.sort, partial(_fail, error)

    def _read(self, number: int, samples: list[tuple[str, str | int, str, Load]]) -> FileBatch:
        files, rows, inputs, skipped = [], [], [], []
        for file, row, sort, load in samples:
            try:
                inputs.append(self.prepares[sort](load()))
            except Exception as error:
                skipped.append(Skipped(file, row, _reason(error)))
            else:
                files.append(file)
                rows.append(row)
        batch = FileBatch(number, files, rows, None, skipped)
        return self._collated(batch, inputs) if inputs else batch

    def _collated(self, batch: FileBatch, inputs: list[Any]) -> FileBatch:
        bad = {}
        try:
            input = self.collate(inputs)
        except Exception as error:
            bad = _other_shapes(inputs)
            if not bad:
                reason = _reason(error)
                bad = dict.fromkeys(range(len(inputs)), f"no batch can be made of it ({reason})")
            input = None
        if isinstance(input, Tensor) and input.is_floating_point() and len(input) == len(inputs):
            bad = self._not_numbers(input)
        if not bad:
            return batch._replace(input=input)
        good = [index for index in range(len(inputs)) if index not in bad]
        skipped = [Skipped(batch.files[each], batch.rows[each], reason) for each, reason in bad.items()]
        left = batch._replace(
            files=[batch.files[each] for each in good],
            rows=[batch.rows[each] for each in good],
            skipped=[*batch.skipped, *skipped],
        )
        return self._collated(left, [inputs[each] for each in good]) if good else left

    def _not_numbers(self, input: Tensor) -> dict[int, str]:
        """Return, by index, the reason for leaving out each input that holds nan."""
        wrong = input.isnan()
        if not bool(wrong.any()):
            return {}
        found = {}
        for index in wrong.flatten(1).any(1).nonzero().flatten().tolist() if input.ndim > 1 else []:
            places = wrong[index].nonzero()
            names = self.columns if input.ndim == 2 and len(self.columns or ()) == input.shape[1] else None
            where = f"{names[int(places[0])]!r}" if names else "its input"
            found[index] = f"{where} is nan; give a number"
        return found or dict.fromkeys(wrong.nonzero().flatten().tolist(), "it is nan; give a number")


def batch_loader(batches: FileBatches, num_workers: int, pin_memory: bool) -> DataLoader[FileBatch]:
    """Return an ordinary loader of batches."""
    return DataLoader(
        batches,
        batch_size=None,
        collate_fn=as_it_is,
        num_workers=num_workers,
        pin_memory=pin_memory,
        generator=torch.Generator().manual_seed(0),  # else it would draw from torch's
    )


def _fail(error: Exception) -> NoReturn:
    raise error


def _reason(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    if isinstance(error, ArgusError | OSError | ValueError) and text:
        return one_line(text)
    return one_line(f"{type(error).__name__}: {text}")


def _other_shapes(inputs: list[Any]) -> dict[int, str]:
    """Return, by index, the reason for leaving out each input of another shape than most have."""
    shapes = [tuple(each.shape) if isinstance(each, Tensor) else None for each in inputs]
    usual = max(shapes, key=shapes.count)
    if usual is None or all(shape == usual for shape in shapes):
        return {}
    return {
        index: f"its input has the shape {shape}, and others of its batch {usual}; give samples of one size, "
        "or a transform that makes one"
        for index, shape in enumerate(shapes)
        if shape != usual
    }
