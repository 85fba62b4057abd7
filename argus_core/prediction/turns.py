"""Prediction on files in several processes, which take turns: of N, each reads and predicts every N-th batch.

Batches are those of one process, so the table is, too. In each round every process predicts one batch, and
the first, or all, get the predictions of the round in order; memory does not grow with the number of rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

import torch
from torch import Tensor

from argus_core.abstract_model import AbstractModel
from argus_core.data.slices import Share
from argus_core.errors import ConflictError
from argus_core.parallel.group import control_group
from argus_core.prediction.loading import FileBatch, Skipped
from argus_core.tensors.batch import deep_slice
from argus_core.tensors.listing import named_tensors
from argus_core.tensors.processes import gather, gather_to_first
from argus_core.training.together import evaluating_together, share_of

__all__ = ["PATIENCE", "Turns", "taking_turns"]

PATIENCE = 3600.0
"""Seconds: one process may read slowly, and the first write long. One that ends is noticed at once."""

_CPU = torch.device("cpu")


@contextmanager
def taking_turns(model: AbstractModel, facts: Callable[[], dict[str, Any]]) -> Iterator[Turns | None]:
    """Predict in all processes of a run; ``None`` in a run of one.

    If the block fails in one process, all end, and one traceback says why.

    Args:
        model: to predict with.
        facts: returns what must be equal in all processes, plain data.

    Raises:
        ConflictError: it is not.
    """
    share = share_of(model)
    if share is None:
        yield None
        return
    with evaluating_together(model), closing(Turns(model, share)) as turns:
        turns.check(facts())
        yield turns


class Turns:
    """The turns of one prediction; every process calls the same methods in the same order.

    Args:
        model: to predict with.
        share: of this process.
    """

    def __init__(self, model: AbstractModel, share: Share) -> None:
        self.share = share
        self._model = model
        self._group: Any = control_group(PATIENCE)
        model.parallel.begin_evaluation(model)

    @property
    def is_first(self) -> bool:
        """True in the process that writes."""
        return self.share.rank == 0

    def close(self) -> None:
        """Drop the group, whose connections close once nothing refers to it."""
        self._group = None

    def of_first(self, value: Any) -> Any:
        """Return the value of the first process, plain data."""
        return gather(value if self.is_first else None, _CPU, self._group)[0]

    def check(self, facts: dict[str, Any]) -> None:
        """Raise `ConflictError` unless the facts are those of the first process."""
        first = self.of_first(facts)
        changed = [name for name in facts if first.get(name) != facts[name]]
        if changed:
            raise ConflictError(
                f"the {' and '.join(changed)} of the prediction differ between process 0 and process "
                f"{self.share.rank}; give all processes the same, and leave the files as they are meanwhile"
            )

    def rounds(
        self, batches: Iterator[FileBatch], predict: Callable[[FileBatch], Any], everywhere: bool
    ) -> Generator[tuple[FileBatch, Any], None, None]:
        """Yield the batches of all processes in order, each with its prediction, on the CPU and named.

        Args:
            batches: of this process.
            predict: predicts for a batch; not called for one of which no sample could be read.
            everywhere: whether all processes get them, or the first alone.
        """
        collect = gather if everywhere else gather_to_first
        is_over = False
        while not is_over:
            batch = next(batches, None)
            given, has_input = self._state_of_round(batch)
            is_over = not all(given)
            if not any(given):
                return
            sample, prediction = self._sample(batch, has_input), None
            if batch is not None and batch.files:
                prediction = predict(batch)
            elif sample is not None:
                self._model.predict(sample)
            for packed in collect(_packed(batch, prediction), _CPU, self._group):
                if packed is not None:
                    yield _unpacked(packed)

    def _state_of_round(self, batch: FileBatch | None) -> tuple[list[bool], list[bool]]:
        """Return for each process whether it has a batch, and whether that has an input."""
        states = gather([batch is not None, batch is not None and bool(batch.files)], _CPU, self._group)
        return [given for given, _ in states], [has_input for _, has_input in states]

    def _sample(self, batch: FileBatch | None, has_input: list[bool]) -> Any:
        """Return a sample for those without input, if a forward pass is an operation of all processes."""
        if not self._model.parallel.equal_forwards or all(has_input) or not any(has_input):
            return None
        giver, sample = has_input.index(True), None
        if self.share.rank == giver and batch is not None:
            sample = deep_slice(batch.input, 0, 1, len(batch.files), self._model.batch_dim)
        return gather(sample, _CPU, self._group)[giver]


def _packed(batch: FileBatch | None, prediction: Any) -> dict[str, Any] | None:
    if batch is None:
        return None
    return {
        "number": batch.number,
        "files": batch.files,
        "rows": batch.rows,
        "skipped": [list(each) for each in batch.skipped],
        "prediction": _plain(prediction),
    }


def _unpacked(packed: Mapping[str, Any]) -> tuple[FileBatch, Any]:
    skipped = [Skipped(*each) for each in packed["skipped"]]
    batch = FileBatch(packed["number"], packed["files"], packed["rows"], None, skipped)
    return batch, packed["prediction"]


def _plain(prediction: Any) -> Any:
    """Return a prediction as a tensor, or as a dict in which a table finds the same names."""
    if isinstance(prediction, Tensor):
        return _on_cpu(prediction)
    tensors = named_tensors("prediction", prediction)
    return {name.partition(".")[2]: _on_cpu(tensor) for name, tensor in tensors}


def _on_cpu(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().resolve_conj().resolve_neg()
