"""A factory for each class of torchmetrics, with the name of the class; created on first access."""

from __future__ import annotations

import re
from inspect import Parameter, Signature, signature

from argus_torchmetrics.catalogue import find
from argus_torchmetrics.files import FILE_PARAMS
from argus_torchmetrics.metric import TorchMetric

__all__: list[str] = []  # the names are in the entry points

_OWN = [
    Parameter("name", Parameter.KEYWORD_ONLY, default=None, annotation="str | None"),
    Parameter("inputs", Parameter.KEYWORD_ONLY, default=None, annotation="Mapping[str, str] | None"),
    Parameter("compute_on_cpu", Parameter.KEYWORD_ONLY, default=False, annotation="bool"),
]


def __getattr__(name: str) -> type[TorchMetric]:
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    factory = globals()[name] = _make(name)
    return factory


def _make(name: str) -> type[TorchMetric]:
    metric_class = find(name)
    own = [
        parameter.replace(default=None) if parameter.name == "validate_args" else parameter
        for parameter in signature(metric_class).parameters.values()
        if parameter.kind is not Parameter.VAR_KEYWORD
    ]
    members = {
        "__module__": __name__,
        "__qualname__": name,
        "__doc__": metric_class.__doc__,
        "__wrapped__": metric_class,  # argus show reads the place of the definition here
        # torchmetrics takes **kwargs, which would hide a misspelled parameter.
        "__signature__": Signature([*own, *_OWN], return_annotation="TorchMetric"),
        "file_params": {
            key: FILE_PARAMS[key] for key in signature(metric_class).parameters if key in FILE_PARAMS
        },
        "metric_class": metric_class,
        "name": snake_case(name),
    }
    return type(name, (TorchMetric,), members)


def snake_case(name: str) -> str:
    """Return the name of a class's values.

    >>> [snake_case(name) for name in ("MulticlassF1Score", "BinaryAUROC", "R2Score", "MeanIoU", "BLEUScore")]
    ['multiclass_f1_score', 'binary_auroc', 'r2_score', 'mean_iou', 'bleu_score']
    """
    plain = re.sub("IoU$", "Iou", name).replace("SQuAD", "Squad")
    return re.sub("(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", plain).lower()
