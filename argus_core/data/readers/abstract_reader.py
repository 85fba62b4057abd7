"""The contract of a reader: the samples of a file of one format, with names, one after the other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

__all__ = ["SORTS", "AbstractReader", "Load"]

Load = Callable[[], Any]
"""Reads one sample; it raises an exception if that cannot be read."""

SORTS = ("input", "row", "image", "text")
"""The sorts of samples: an input as the network takes it, a list of numbers, a Pillow image in RGB, text."""


class AbstractReader(ABC):
    """Abstract: reads files of one format, sample by sample.

    It is sent to the worker processes of a loader, so it opens files in `samples` only.

    Attributes:
        suffixes: of the files that it reads, in lower case: ``(".jpg", ".jpeg")``.
        sort: of its samples, one of `SORTS`. A dataset's factory declares by its attribute ``prepares`` how
            it makes an input of each sort; an ``"input"`` stays as it is.
        is_single: whether a file is one sample. Otherwise each sample has a name within its file.
        columns: the names of the features in the order of the network's inputs, or ``None`` if the model does
            not know them; set before the first file is read. A reader of rows gives them in this order.
    """

    suffixes: ClassVar[tuple[str, ...]] = ()
    sort: ClassVar[str] = "input"
    is_single: ClassVar[bool] = False
    columns: Sequence[str] | None = None

    @abstractmethod
    def samples(self, path: str) -> Iterator[tuple[str | int, Load]]:
        """Yield the name of each sample of a file, and a function that reads it.

        The name is its row, counted from 1, or its id; ``""`` where a file is one sample. A worker process
        iterates over all samples, and reads only its own ones: leave work to the function. An exception of
        the function skips the sample, and one of the iterator the rest of the file; its message is shown.
        """

    def count(self, path: str) -> int | None:
        """Return the number of samples of a file for the display of progress; ``None`` if it is unknown."""
        return 1 if self.is_single else None
