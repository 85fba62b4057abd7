"""Adapts a metric of torchmetrics to argus_core."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torchmetrics

from argus_core import ArgusError, BuildError, Metric, ParamsError
from argus_torchmetrics.inputs import Inputs, described, device_of
from argus_torchmetrics.params import suited
from argus_torchmetrics.state import get_state, merge, set_state
from argus_torchmetrics.values import numbers

__all__ = ["TorchMetric"]

_MISSING = re.compile("not installed|^Missing `")
# Exceptions of torchmetrics for a wrong batch.
_REFUSALS = (AttributeError, IndexError, TypeError, ValueError, RuntimeError)


class TorchMetric(Metric):
    """Abstract adapter; a subclass has one class of torchmetrics, and takes its parameters.

    Args:
        *args: arguments of the class.
        name: the name of the metric; by default the name of the class in snake case.
        inputs: the paths in the step output for arguments of ``update``: ``{"preds": "prediction.logits"}``;
            by default the prediction is the first argument, and the target the second.
        compute_on_cpu: whether to keep states that grow with the data in the memory of the CPU; then each
            update waits for the device.
        **params: parameters of the class. By default, or with ``validate_args=None``, only the first batch is
            checked, because each check waits for the device.

    Attributes:
        metric: the metric of torchmetrics.
        value: its last value, unchanged: a curve, a matrix, a dict.
    """

    several = True
    metric_class: ClassVar[type[torchmetrics.Metric]]

    def __init__(
        self,
        *args: Any,
        name: str | None = None,
        inputs: Mapping[str, str] | None = None,
        compute_on_cpu: bool = False,
        **params: Any,
    ) -> None:
        _check_name(type(self).__name__, name)
        super().__init__(name)
        params = {key: value for key, value in params.items() if (key, value) != ("validate_args", None)}
        self.metric = _built(self.metric_class, args, params)
        for part in self.metric.modules():
            if isinstance(part, torchmetrics.Metric):  # argus_core joins the states of processes
                part.sync_on_compute = part._to_sync = False
                part.compute_on_cpu = compute_on_cpu
        higher: bool | None = self.metric.higher_is_better
        self.better = None if higher is None else "max" if higher else "min"
        self.value: Any = None
        self._inputs = Inputs.of(self.name, self.metric, inputs)
        self._checks_once = "validate_args" not in params and hasattr(self.metric, "validate_args")

    def reset(self) -> None:
        """Forget all updates."""
        self.metric.reset()

    def update(self, step_output: Mapping[str, Any]) -> None:
        """Update with a step output; waits for the device only if torchmetrics does.

        Raises:
            ParamsError: torchmetrics does not accept it.
            BuildError: a package that the metric needs is not installed.
        """
        calls = self._inputs.read(step_output)
        device = device_of(list(calls[0].values()))
        if device is not None and device != self.metric.device:
            self.metric.to(device)
        for arguments in calls:
            try:
                self.metric.update(**arguments)
            except torch.OutOfMemoryError:
                raise
            except ImportError as error:
                raise _missing(f"metric {self._class_name!r}", error) from error
            except _REFUSALS as error:
                raise self._refused(arguments, error) from error
        if self._checks_once:
            self.metric.validate_args, self._checks_once = False, False

    def compute(self) -> float | dict[str, float]:
        """Return a number, or numbers by name; for a curve an empty dict, since it is in ``value``.

        Raises:
            ArgusError: the metric has no updates.
            BuildError: torchmetrics cannot compute it.
        """
        if not self.metric.update_called:
            raise ArgusError(f"metric {self.name!r} has no samples; update it with a step output first")
        try:
            self.value = self.metric.compute()
        except torch.OutOfMemoryError:
            raise
        except _REFUSALS as error:
            raise BuildError(
                f"metric {self.name!r} ({self._class_name}) cannot be computed: {_one_line(error)}; check "
                "its parameters and the data"
            ) from error
        return numbers(self._class_name, self.name, self.value)

    def state_dict(self) -> dict[str, Any]:
        return get_state(self.metric)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        set_state(self.metric, state_dict)

    def merge(self, state_dicts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return merge(self.metric, state_dicts)

    @property
    def _class_name(self) -> str:
        return type(self.metric).__name__

    def _refused(self, arguments: Mapping[str, Any], error: Exception) -> ParamsError:
        given = ", ".join(f"{name} {described(value)}" for name, value in arguments.items())
        return ParamsError(
            f"metric {self.name!r} ({self._class_name}) cannot take {given}: {_one_line(error)}; check its "
            "parameters and prediction_transform, or set inputs"
        )


def _built(cls: type[torchmetrics.Metric], args: Sequence[Any], params: Mapping[str, Any]) -> Any:
    """Build a metric of torchmetrics.

    Raises:
        BuildError: a package that it needs is not installed.
        ParamsError: the class does not take these parameters.
    """
    label = f"metric {cls.__name__!r}"
    with warnings.catch_warnings():
        # Suppressed, since the documentation lists the metrics that keep all samples.
        warnings.filterwarnings("ignore", ".*will save all ", UserWarning)
        try:
            return cls(*args, **suited(cls, params))
        except (TypeError, ValueError) as error:
            raise ParamsError(f"{label}: {_one_line(error)}; see argus show metric {cls.__name__}") from error
        except (ImportError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not _MISSING.search(str(error)):
                raise
            raise _missing(label, error) from error


def _missing(label: str, error: Exception) -> BuildError:
    return BuildError(f"{label} needs a package that is not installed: {_one_line(error)}")


def _check_name(label: str, name: object) -> None:
    if name is not None and (not isinstance(name, str) or not name):
        raise ParamsError(f"name of metric {label!r} is {name!r}; give a string, such as 'f1'")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
