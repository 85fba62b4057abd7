"""Readers of arrays: .npy, .npz and .safetensors. Each entry of the first dimension is a sample.

The samples are inputs as the network takes them. They are read one after the other, so the memory does not
depend on the size of a file.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from io import FileIO

from torch import Tensor

from argus_core.data.arrays.claim import (
    FAULTS,
    Claim,
    Source,
    Unsuitable,
    check_sizes,
    fill,
    read_claim,
    shortened,
)
from argus_core.data.arrays.npy import opened_npy, opened_npz
from argus_core.data.arrays.tensors import opened_safetensors
from argus_core.data.readers.abstract_reader import AbstractReader, Load
from argus_core.errors import ArgusError
from argus_core.files.ordinary_files import open_ordinary

__all__ = ["NpyReader", "NpzReader", "SafetensorsReader"]


class _ArrayReader(AbstractReader):
    """Abstract: reads an array of samples."""

    def samples(self, path: str) -> Iterator[tuple[str | int, Load]]:
        """Yield each entry of the first dimension."""
        with open_ordinary(path) as file, _in_a_sentence(), self.opened(file) as (claim, source):
            sample = claim._replace(shape=claim.shape[1:])
            if not claim.shape or not sample.size:
                raise Unsuitable(f"holds an array of shape {claim.shape}; give one or more samples")
            check_sizes([claim if claim.columns_first else sample], file)
            if claim.columns_first:
                yield from _entries(read_claim(source, claim))
                return
            for number in range(1, claim.shape[0] + 1):
                data = bytearray(sample.size)
                fill(source, memoryview(data))
                yield number, partial(_tensor, data, sample)

    def count(self, path: str) -> int | None:
        """Return the number of samples that the file states."""
        with open_ordinary(path) as file, self.opened(file) as (claim, _):
            return claim.shape[0] if claim.shape else None

    @abstractmethod
    def opened(self, file: FileIO) -> AbstractContextManager[tuple[Claim, Source]]:
        """Return a context with the claim of the array of inputs and a source at its beginning."""


class NpyReader(_ArrayReader):
    """Reads the array in .npy files."""

    suffixes = (".npy",)

    def opened(self, file: FileIO) -> AbstractContextManager[tuple[Claim, Source]]:
        """Return a context with the claim of the array."""
        return opened_npy(file)


class NpzReader(_ArrayReader):
    """Reads the array ``input`` of .npz files, or the only array."""

    suffixes = (".npz",)

    def opened(self, file: FileIO) -> AbstractContextManager[tuple[Claim, Source]]:
        """Return a context with the claim of the array ``input``."""
        return opened_npz(file)


class SafetensorsReader(_ArrayReader):
    """Reads the tensor ``input`` of .safetensors files, or the only tensor."""

    suffixes = (".safetensors",)

    def opened(self, file: FileIO) -> AbstractContextManager[tuple[Claim, Source]]:
        """Return a context with the claim of the tensor ``input``."""
        return opened_safetensors(file)


@contextmanager
def _in_a_sentence() -> Iterator[None]:
    try:
        yield
    except Unsuitable:
        raise
    except FAULTS as error:
        raise ArgusError(
            f"it does not hold plain arrays of numbers ({shortened(error)}); write it again"
        ) from error


def _entries(array: Tensor) -> Iterator[tuple[int, Load]]:
    for number, entry in enumerate(array, 1):
        yield number, entry.clone


def _tensor(data: bytearray, sample: Claim) -> Tensor:
    return sample.convert(memoryview(data)).to(sample.dtype).reshape(sample.shape)
