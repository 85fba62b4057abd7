"""The lengths of a run that a caller chooses: its bounds, its epochs, and the cadence of what it does."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from argus_core.callbacks.asking import called
from argus_core.callbacks.cadence import DURATIONS, Cadence, is_cadence, parse_cadence
from argus_core.callbacks.run_length import RunLength
from argus_core.data.order import loader_length
from argus_core.errors import ParamsError
from argus_core.registry.factory import described
from argus_core.training.bounds import read_bounds
from argus_core.training.engine import Engine
from argus_core.training.limits import check_limit, steps_within
from argus_core.training.validation import Validation

__all__ = ["Lengths"]


class Lengths:
    """The lengths of a run, as `Model.fit` documents them.

    Raises:
        ParamsError: one is invalid.
    """

    def __init__(
        self,
        *,
        num_epochs: Any,
        num_updates: Any,
        max_time: Any,
        validate_every: Any,
        log_every: Any,
        limit_train: Any,
        limit_val: Any,
    ) -> None:
        self.bounds = read_bounds(num_epochs, num_updates, max_time)
        self.validate_every = _cadence("validate_every", validate_every)
        self.log_every = None if log_every is None else _cadence("log_every", log_every)
        self.limit_train, self.limit_val = limit_train, limit_val
        check_limit("limit_train", limit_train)
        check_limit("limit_val", limit_val)

    def of_run(self, train_loader: Iterable[Any], window_size: int) -> RunLength:
        """Return the length of the run, of which limits and bounds are a part."""
        most = steps_within("limit_train", self.limit_train, train_loader, window_size)
        length = loader_length(train_loader)
        whole = None if length is None else -(-length // window_size)
        per_epoch = min((each for each in (most, whole) if each is not None), default=None)
        return RunLength.of(self.bounds.num_epochs, self.bounds.num_updates, per_epoch or None)

    def apply(self, engine: Engine, train_loader: Iterable[Any], validations: Iterable[Validation]) -> None:
        """Limit the epochs and validations of a run, and let its callbacks see its bounds."""
        engine.num_epochs, engine.num_updates = self.bounds.num_epochs, self.bounds.num_updates
        engine.max_seconds = self.bounds.seconds
        updates = steps_within("limit_train", self.limit_train, train_loader, engine.window_size)
        engine.limit_to(updates, train_loader)
        for each in validations:
            for phase, loader in each.loaders.items():
                each.engines[phase].limit_to(steps_within("limit_val", self.limit_val, loader), loader)


def _cadence(argument: str, value: Any) -> Cadence:
    if not is_cadence(value):
        raise ParamsError(f"{called(argument)} is {described(value)}; give {DURATIONS}")
    return parse_cadence("fit", value, argument)
