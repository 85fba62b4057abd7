"""The computation of an epoch's metric values, by their names in a run's metrics."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from argus_core.abstract_model import AbstractModel
from argus_core.callbacks.state import State
from argus_core.errors import BuildError, ConflictError
from argus_core.metrics.metric import Metric
from argus_core.tensors.processes import gather, process_count

__all__ = ["compute_all", "epoch_values", "merged_states"]


def epoch_values(metrics: Sequence[Metric], state: State) -> dict[str, float]:
    """Return the values of metrics over the updates of an epoch; nan if all updates were skipped."""
    position = state.engine.position
    if position.skipped < position.updates_done:
        return compute_all(metrics, state.phase, state.model.device)
    state.logger.warning(
        "epoch %d: all %d updates were skipped, so the metrics of %s measure nothing and are nan",
        state.epoch + 1,
        position.updates_done,
        state.phase,
    )
    return {f"{state.phase}_{metric.name}": math.nan for metric in metrics}


def compute_all(metrics: Sequence[Metric], phase: str, device: torch.device) -> dict[str, float]:
    """Return the values of metrics by name: ``val_accuracy``, or ``val_curve_recall`` of several values.

    In a run of several processes, the values cover the data of all processes: all states are gathered on
    ``device`` in one exchange. Each metric keeps its own state.

    Raises:
        BuildError: a metric's value is not a number.
        ConflictError: two metrics have values of the same name.
    """
    values: dict[str, float] = {}
    with _merged(metrics, device):
        for metric in metrics:
            for name, value in _named(metric):
                if f"{phase}_{name}" in values:
                    raise ConflictError(
                        f"metric {metric.name!r} computed a value {name!r}, which is another metric's name; "
                        "give one of them another name"
                    )
                values[f"{phase}_{name}"] = _number(metric, value)
    return values


def merged_states(metrics: Sequence[Metric], model: AbstractModel) -> dict[str, dict[str, Any]]:
    """Return the state of each metric by its name, over all processes of the run; each must call this."""
    own = {metric.name: metric.state_dict() for metric in metrics}
    if not metrics or not model.parallel.several:
        return own
    everyones = gather(own, model.device)
    return {metric.name: metric.merge([states[metric.name] for states in everyones]) for metric in metrics}


@contextmanager
def _merged(metrics: Sequence[Metric], device: torch.device) -> Iterator[None]:
    """Set each metric to the merged state of all processes while the block runs."""
    if not metrics or process_count() == 1:  # an engine without metrics may run in one process only
        yield
        return
    own = {metric.name: metric.state_dict() for metric in metrics}
    everyones = gather(own, device)
    for rank, states in enumerate(everyones):
        if states.keys() != own.keys():
            raise ConflictError(
                f"process {rank} computes the metrics {', '.join(states)}, and this one {', '.join(own)}; "
                "give all processes the same metrics"
            )
    try:
        for metric in metrics:
            metric.load_state_dict(metric.merge([states[metric.name] for states in everyones]))
        yield
    finally:
        for metric in metrics:
            metric.load_state_dict(own[metric.name])


def _named(metric: Metric) -> Iterator[tuple[str, Any]]:
    value: Any = metric.compute()
    if metric.several and isinstance(value, Mapping):
        for key, each in value.items():
            yield f"{metric.name}_{key}", each
    else:
        yield metric.name, value


def _number(metric: Metric, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        action = "return a float from compute()"
        if isinstance(value, Mapping):
            action = "set several = True for values by name"
        raise BuildError(
            f"metric {metric.name!r} computed {reprlib.repr(value)}, which is not a number; {action}"
        ) from error
