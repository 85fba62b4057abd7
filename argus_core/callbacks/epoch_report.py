"""Reports of an epoch, for callbacks that write or show them."""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from argus_core.callbacks.callback import Callback
from argus_core.callbacks.midway import MidwayRecord, now
from argus_core.callbacks.state import State
from argus_core.errors import ArgusError
from argus_core.hooks import hookimpl
from argus_core.storage.stored import COUNT, Rule, check_callback_state, is_number
from argus_core.text import one_line

__all__ = [
    "FIELDS",
    "EpochRecord",
    "EpochReport",
    "format_lr",
    "format_midway",
    "format_number",
    "format_record",
    "is_metric_name",
    "measured",
    "midway_record",
    "of_epochs",
    "plain_metrics",
    "rates",
    "update_loss",
]

_RATE_NAMES = {
    "updates_per_second": "updates/s",
    "samples_per_second": "samples/s",
    "peak_memory": "peak memory",
}

FIELDS = _RATE_NAMES.keys() | {"phase", "epoch", "global_step", "updates_skipped", "time", "lr"}
"""The fields of a line about an epoch or its middle, besides the metrics under their own names."""

LearningRate = float | list[float] | None

_MOST_RATES = 2  # that a person reads one by one


def _is_lr(value: Any) -> bool:
    return value is None or all(map(is_number, value if isinstance(value, list) else [value]))


@dataclass(frozen=True)
class EpochRecord:
    """The values of one finished epoch.

    Attributes:
        epoch: counts from 0.
        num_epochs: the most that the run will have, or ``None``.
        global_step: updates since the run began.
        updates_skipped: updates of this epoch that did not move the weights.
        time: when the epoch was done, ISO 8601, UTC.
        seconds: how long it took, validation included.
        lr: the learning rate that it began with, a list for several parameter groups, ``None`` without an
            optimizer.
        metrics: plain numbers.
        groups: the names of the parameter groups, if they have names.
    """

    epoch: int
    num_epochs: int | None
    global_step: int
    updates_skipped: int
    time: str
    seconds: float
    lr: LearningRate
    metrics: Mapping[str, float]
    groups: tuple[str, ...] = ()


class EpochReport(Callback):
    """Abstract callback that reports each epoch, after all other callbacks were called."""

    first_process_only = True
    state_rules: ClassVar[Mapping[str, Rule]] = {
        "lr": Rule(_is_lr, "a number, a list of them or None"),
        "skipped_before": COUNT,
    }

    _began = 0.0
    _skipped_before = 0
    _lr: LearningRate = None

    def state_dict(self) -> dict[str, Any]:
        """Return the values at the start of the current epoch."""
        return {"lr": self._lr, "skipped_before": self._skipped_before}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned; seconds are counted from this call.

        Raises:
            UnsafeCheckpointError: argus_core does not write such a state.
        """
        check_callback_state(self, state_dict, self.state_rules)
        self._lr, self._skipped_before = state_dict["lr"], state_dict["skipped_before"]
        self._began = time.monotonic()

    @abstractmethod
    def report(self, record: EpochRecord, state: State) -> None:
        """Write or show an epoch."""

    def report_midway(self, record: MidwayRecord, state: State) -> None:
        """Write or show values of the middle of an epoch; override it for a callback that can."""

    def epoch_start(self, state: State) -> None:
        """Record the values at the start of the epoch."""
        self._began = time.monotonic()
        self._skipped_before = state.updates_skipped
        self._lr = state.model.get_lr() if state.model.optimizer is not None else None

    @hookimpl(trylast=True)
    def epoch_complete(self, state: State) -> None:
        """Report the epoch."""
        record = EpochRecord(
            epoch=state.epoch,
            num_epochs=state.engine.num_epochs,
            global_step=state.global_step,
            updates_skipped=state.updates_skipped - self._skipped_before,
            time=now(),
            seconds=time.monotonic() - self._began,
            lr=self._lr,
            metrics=plain_metrics(measured(state)),
            groups=_group_names(state.model.optimizer),
        )
        self.report(record, state)

    @hookimpl(trylast=True)
    def measured_midway(self, state: State) -> None:
        """Report the values of the middle of an epoch."""
        if state.midway is not None:
            self.report_midway(state.midway, state)


def _group_names(optimizer: Any) -> tuple[str, ...]:
    names = [group.get("name") for group in getattr(optimizer, "param_groups", ())]
    return tuple(map(one_line, names)) if all(isinstance(name, str) for name in names) else ()


def is_metric_name(name: object) -> bool:
    """Return whether a line about an epoch can contain a value of that name."""
    return isinstance(name, str) and name not in FIELDS


def measured(state: State) -> dict[str, Any]:
    """Return the metrics without values of an earlier validation."""
    return {name: value for name, value in state.metrics.items() if state.is_measured(name)}


def midway_record(
    phase: str, state: State, metrics: Mapping[str, float], rates: Mapping[str, float] | None = None
) -> MidwayRecord:
    """Return the record of values at a run's present position."""
    lr = state.model.get_lr() if state.model.optimizer is not None else None
    return MidwayRecord(phase, state.epoch, state.global_step, now(), lr, metrics, rates or {})


def plain_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return metrics as Python numbers; 0-d tensors and arrays among them are converted.

    Raises:
        ArgusError: one is not a number, or has the name of something else in a line about an epoch.
    """
    plain: dict[str, float] = {}
    for name, value in metrics.items():
        if not is_metric_name(name):
            is_taken = name in FIELDS
            why = "which is a field of every epoch's line" if is_taken else "which is not a string"
            raise ArgusError(f"state.metrics holds {name!r}, {why}; put the value there under another name")
        try:
            plain[name] = value if type(value) is int else float(value)
        except (TypeError, ValueError) as error:
            raise ArgusError(
                f"metric {name!r} is {value!r}, which is not a number; put numbers into state.metrics"
            ) from error
    return plain


def update_loss(state: State) -> Any:
    """Return the mean loss of the newest update; it waits for the device.

    It is ``None`` where the step output has none.
    """
    output = state.step_output
    if hasattr(output, "mean_loss"):
        return output.mean_loss
    return output["loss"] if isinstance(output, Mapping) and "loss" in output else None


def format_record(record: EpochRecord, width: int | None = None) -> str:
    """Return one line about an epoch.

    Args:
        record: the epoch.
        width: in characters. Where that is not enough, the learning rate is left out; metrics that do not fit
            then, the last ones first, are counted instead.

    >>> metrics = {"train_loss": 0.12341, "val_accuracy": 0.96944}
    >>> record = EpochRecord(2, 15, 90, 0, "2026-01-05T10:00:00+00:00", 1.234, 0.002, metrics)
    >>> format_record(record)
    'epoch 3/15  train_loss 0.1234  val_accuracy 0.9694  lr 0.002  1.2 s'
    >>> format_record(record, width=60)
    'epoch 3/15  train_loss 0.1234  val_accuracy 0.9694  1.2 s'
    >>> format_record(record, width=50)
    'epoch 3/15  train_loss 0.1234  +1 metric  1.2 s'
    """
    head = f"epoch {of_epochs(record.epoch, record.num_epochs)}"
    metrics = [f"{name} {format_number(value)}" for name, value in record.metrics.items()]
    tail = [f"{record.updates_skipped} updates skipped"] if record.updates_skipped else []
    tail.append(f"{record.seconds:.1f} s")
    lr = [] if record.lr is None else [f"lr {format_lr(record.lr, record.groups)}"]
    return _line(head, metrics, [[*lr, *tail], tail], width)


def format_midway(record: MidwayRecord, num_epochs: int | None, width: int | None = None) -> str:
    """Return one line about the middle of an epoch.

    Args:
        record: the values.
        num_epochs: the most that the run will have, or ``None``.
        width: in characters. Where that is not enough, rates are left out, then metrics.

    >>> record = MidwayRecord("val", 2, 500, "2026-01-05T10:00:00+00:00", 0.002, {"val_loss": 0.1234})
    >>> format_midway(record, 15)
    'epoch 3/15  update 500  val_loss 0.1234'
    """
    metrics = [f"{name} {format_number(value)}" for name, value in record.metrics.items()]
    tail: list[str] = []
    if record.phase == "train":
        tail += [] if record.lr is None else [f"lr {format_lr(record.lr)}"]
        tail += [f"{_RATE_NAMES[name]} {value:.4g}" for name, value in record.rates.items()]
    head = f"epoch {of_epochs(record.epoch, num_epochs)}  update {record.global_step}"
    return _line(head, metrics, [tail[:size] for size in range(len(tail), -1, -1)], width)


def _line(head: str, metrics: Sequence[str], tails: Sequence[Sequence[str]], width: int | None) -> str:
    """Return a line that fits: with the first of ``tails`` with which it does, then with fewer metrics."""
    line = head
    for tail in tails:
        line = "  ".join([head, *metrics, *tail])
        if width is None or len(line) <= width:
            return line
    for left_out in range(1, len(metrics) + 1):
        more = f"+{left_out} metric{'s' * (left_out > 1)}"
        line = "  ".join([head, *metrics[: len(metrics) - left_out], more, *tails[-1]])
        if width is not None and len(line) <= width:
            break
    return line


def of_epochs(epoch: int, num_epochs: int | None) -> str:
    """Return the number of an epoch for people, with that of the run's epochs where it is known.

    >>> of_epochs(2, 15), of_epochs(2, None)
    ('3/15', '3')
    """
    return f"{epoch + 1}" if num_epochs is None else f"{epoch + 1}/{num_epochs}"


def rates(lr: LearningRate) -> list[float]:
    """Return a learning rate as a list: none, one, or one for each parameter group."""
    return lr if isinstance(lr, list) else [] if lr is None else [lr]


def format_lr(lr: LearningRate, groups: Sequence[str] = ()) -> str:
    """Return a learning rate, or those of the parameter groups, in few digits.

    >>> format_lr([0.1, 0.01]), format_lr([0.1, 0.01, 0.01, 0.001])
    ('0.1 0.01', '0.001 to 0.1')
    >>> format_lr([0.1, 0.01, 0.01], ["head", "backbone", "no decay"])
    '0.1 (head) 0.01 (backbone)'
    """
    each = rates(lr)
    distinct = list(dict.fromkeys(each))
    if len(distinct) > _MOST_RATES:
        return f"{min(distinct):.4g} to {max(distinct):.4g}"
    if len(groups) != len(each) or len(distinct) < 2:
        return " ".join(f"{rate:.4g}" for rate in distinct)
    return " ".join(f"{rate:.4g} ({groups[each.index(rate)]})" for rate in distinct)


def format_number(value: float) -> str:
    """Return a number with four decimals, or four significant digits where it is small or large.

    >>> [format_number(value) for value in (0.5, 12.3456789, 0.0000123, float("nan"))]
    ['0.5000', '12.3457', '1.23e-05', 'nan']
    """
    ordinary = value == 0 or 0.001 <= abs(value) < 100_000 or not math.isfinite(value)
    return f"{value:.4f}" if ordinary else f"{value:.3g}"
