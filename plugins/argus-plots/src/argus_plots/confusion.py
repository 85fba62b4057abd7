"""The callback that draws the confusion matrix of a classification."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from argus_core import ParamsError, State
from argus_core.authors import gather, read_classes
from argus_plots.drawing import draw_matrices, write_picture
from argus_plots.picture import Picture

__all__ = ["ConfusionMatrix"]

_MOST = 1000  # classes
_MOST_SETS = 12  # that are drawn


class ConfusionMatrix(Picture):
    """Draws the confusion matrix of the newest validation, one for each of the first 12 validation sets.

    In a run of several processes the counts are those of all.

    A row is a true class, a column a predicted one; colours are shares of the row. Predictions ``(batch,
    classes, ...)`` are logits or probabilities, with integer targets ``(batch, ...)``; predictions
    ``(batch,)`` or ``(batch, 1, ...)`` are probabilities of class 1. Negative targets, such as an
    ``ignore_index`` of -100, are not counted.

    Args:
        file_path: the picture, a PNG file; parent folders are made.
        interval: seconds between drawings.
        classes: the names of the classes; by default those of the training dataset, or their numbers.
        threshold: a binary prediction above it is class 1; 0 for logits.
        ignore_index: another target that is not counted.

    Raises:
        ParamsError: predictions and targets are not those of a classification, or there are other classes.
    """

    name = "confusion_matrix"
    reads_predictions = True
    run_paths: ClassVar = {"file_path": "confusion_matrix.png"}

    def __init__(
        self,
        file_path: str | Path,
        interval: float = 30.0,
        classes: Sequence[str] | None = None,
        threshold: float = 0.5,
        ignore_index: int | None = None,
    ) -> None:
        super().__init__(file_path, interval)
        if classes is not None and (isinstance(classes, str) or not all(isinstance(c, str) for c in classes)):
            raise ParamsError(f"classes of {self.name} is {classes!r}; give a list of names")
        self.classes = classes
        self.threshold = threshold
        self.ignore_index = ignore_index
        self._counts: dict[str, Tensor] = {}
        self._left_out: set[str] = set()
        self._epoch = 0

    def validation_start(self, state: State) -> None:
        """Begin to count."""
        self._counts, self._left_out = {}, set()
        self._epoch = state.epoch

    def validation_iteration_complete(self, state: State) -> None:
        """Count the predictions of a validation batch."""
        silent = state.model.parallel.silent
        if state.validating is None or (silent and all(silent)):  # a copied sample, which counts nothing
            return
        counts, phase = self._count(state.validating.step_output), state.validating.phase
        if phase in self._counts:
            self._counts[phase] += counts
        elif len(self._counts) < _MOST_SETS:
            self._counts[phase] = counts
        else:
            self._left_out.add(phase)

    def validation_complete(self, state: State) -> None:
        """Add up the counts of all processes."""
        own, *others = gather(self._counts, state.model.device)
        for phase, counts in own.items():
            for other in others:
                if phase in other:  # else it has had no samples of its own
                    counts += other[phase]
        self._counts = own

    def draw(self, state: State) -> None:
        """Draw the newest validation."""
        if self._counts:
            matrices = {phase: counts.tolist() for phase, counts in self._counts.items()}
            names = self._names(max(map(len, matrices.values())), state.model.data.classes)
            title = f"epoch {self._epoch + 1}"
            if self._left_out:
                title += f"; {len(self._left_out)} more validation sets are not drawn"
            write_picture(self.file_path, lambda: draw_matrices(matrices, names, title))

    def _names(self, number: int, described: Sequence[str] | None) -> list[str]:
        if self.classes is None:
            return [*described] if described and len(described) == number else [*map(str, range(number))]
        if len(self.classes) != number:
            raise ParamsError(
                f"classes of {self.name} has {len(self.classes)} names, and the network predicts {number} "
                "classes; name each of them"
            )
        return [*self.classes]

    def _count(self, output: Any) -> Tensor:
        """Return the counts of a step output, a row for each true class and a column for each predicted."""
        read = read_classes(output, self.threshold, self.ignore_index)
        if read is None or read.number > _MOST:
            raise self._misfit(output)
        pairs = read.target * read.number + read.predicted
        counts = torch.zeros(read.number**2, dtype=torch.int64, device=pairs.device)
        return counts.index_add_(0, pairs, read.counted).view(read.number, read.number)

    def _misfit(self, output: Any) -> ParamsError:
        known = output if isinstance(output, Mapping) else {}
        values = known.get("prediction"), known.get("target")
        given = [tuple(each.shape) if isinstance(each, Tensor) else type(each).__name__ for each in values]
        return ParamsError(
            f"{self.name} got predictions {given[0]} and targets {given[1]}; it takes (batch, classes, ...) "
            f"with integer targets (batch, ...) and at most {_MOST} classes, or probabilities with as many "
            "targets 0 or 1; leave it out for another task"
        )
