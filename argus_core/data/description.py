"""The description of a model's data: the choices of the run's configuration, and the dataset's own words.

It is plain data, names and shapes, which a checkpoint keeps. Nothing here needs torch.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from typing import Any

from argus_core.errors import ArgusWarning, StateMismatchError

__all__ = [
    "NAMES",
    "DataDescription",
    "are_names",
    "are_samples",
    "are_units",
    "check_names",
    "describe_data",
]

NAMES = ("classes", "feature_names", "target_names")
"""The attributes of a dataset that hold names, in order."""

_MOST_NAMES = 2**15
_LONGEST_NAME = 200
_MOST_TEXT = 2**19  # characters: the manifest has to hold them beside everything else
_MOST_WRAPPERS = 100
_MOST_SETS = 1000
_MOST_SAMPLES = 2**63


@dataclass(frozen=True)
class DataDescription:
    """The data that a model was trained on.

    Attributes:
        specs: the section ``[data]`` of the run's configuration; empty for a model trained in Python.
        metrics: the specs of the run's metrics besides the loss.
        seed: of the run, or ``None``.
        components: for messages, the records of the components in ``specs`` and ``metrics``, by kind.
        samples: the number of samples of ``train`` and of ``val`` (or of ``val_clean`` and so on).
        classes: the names of the classes, in the order of their numbers.
        feature_names: the names of the inputs' features, in order.
        target_names: the names of the targets, in order.
        units: by the name of a feature or target.
        sample: a sample as the first batch had it, nested like a batch: for each tensor its ``shape`` and
            ``dtype``.
    """

    specs: Mapping[str, Any] = field(default_factory=dict)
    metrics: tuple[Any, ...] = ()
    seed: int | None = None
    components: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    samples: Mapping[str, int] = field(default_factory=dict)
    classes: tuple[str, ...] | None = None
    feature_names: tuple[str, ...] | None = None
    target_names: tuple[str, ...] | None = None
    units: Mapping[str, str] = field(default_factory=dict)
    sample: Any = None

    @property
    def sample_shape(self) -> tuple[int, ...] | None:
        """The shape of the first tensor of a sample, which is its input, or ``None`` if it is unknown."""
        return next(_shapes(self.sample), None)

    def __bool__(self) -> bool:
        return any(getattr(self, each.name) not in (None, (), {}) for each in fields(self))


def describe_data(loaders: Mapping[str, Any]) -> DataDescription:
    """Return the description that the datasets of a run's loaders give of themselves.

    Args:
        loaders: by set; ``train`` names classes, features, targets and units.
    """
    datasets = {name: getattr(loader, "dataset", None) for name, loader in loaders.items()}
    sizes = {name: _length(dataset) for name, dataset in datasets.items()}
    samples = {name: size for name, size in sizes.items() if size is not None}
    train = datasets.get("train")
    units = _attribute(train, "units")
    named: dict[str, Any] = {name: _names(train, name) for name in NAMES}
    return DataDescription(
        samples=samples if are_samples(samples) else {},
        units=dict(units) if are_units(units) else {},
        **named,
    )


def check_names(name: str, loader: Any, trained_on: DataDescription) -> None:
    """Check that data have the classes and features that a model is trained on, where both name theirs.

    Args:
        name: of the set, for the message.
        loader: of the data.
        trained_on: the description of the training data.

    Raises:
        StateMismatchError: a class or feature is another one, or has another number.
    """
    described = describe_data({"train": loader})
    for one, words, attribute in (("class", "classes", "classes"), ("feature", "features", "feature_names")):
        found, known = getattr(described, attribute), getattr(trained_on, attribute)
        if found == known or not _are_words(found) or not _are_words(known):
            continue
        advice = f"give data with the same {words} in the same order"
        pairs = enumerate(zip([*found, None], [*known, None], strict=False))
        number, (its, other) = next((number, pair) for number, pair in pairs if pair[0] != pair[1])
        if its is None or other is None:
            raise StateMismatchError(
                f"{name} has {len(found)} {words}, and the data that the model was trained on had "
                f"{len(known)}; {advice}"
            )
        raise StateMismatchError(
            f"{one} {number} of {name} is {its!r}, and of the data that the model was trained on {other!r}; "
            f"{advice}"
        )


def _are_words(names: tuple[str, ...] | None) -> bool:
    """Return whether names belong to numbers: labels say themselves which they are, and may stand twice."""
    return names is not None and len({*names}) == len(names) and not all(map(str.isdecimal, names))


def are_names(value: Any) -> bool:
    """Return whether a value is a list or tuple of names that a checkpoint may hold."""
    return (
        isinstance(value, list | tuple)
        and 0 < len(value) <= _MOST_NAMES
        and all(isinstance(name, str) and len(name) <= _LONGEST_NAME for name in value)
        and sum(map(len, value)) <= _MOST_TEXT
    )


def are_units(value: Any) -> bool:
    """Return whether a value has the form of ``units`` that a checkpoint may hold."""
    return isinstance(value, dict) and are_names([*value]) and are_names([*value.values()])


def are_samples(value: Any) -> bool:
    """Return whether a value has the form of ``samples`` that a checkpoint may hold."""
    return (
        isinstance(value, dict)
        and len(value) <= _MOST_SETS
        and all(isinstance(name, str) and len(name) <= _LONGEST_NAME for name in value)
        and all(type(size) is int and 0 <= size < _MOST_SAMPLES for size in value.values())
    )


def _names(dataset: Any, attribute: str) -> tuple[str, ...] | None:
    value = _attribute(dataset, attribute)
    if not isinstance(value, list | tuple) or not value or {*map(type, value)} - {str, int}:
        return None  # the number of classes, for example
    names = tuple(map(str, value))
    if not are_names(names):
        warnings.warn(
            f"{type(dataset).__name__} has {len(names):,} {attribute}, which checkpoints leave out; they "
            f"keep at most {_MOST_NAMES:,} names of {_LONGEST_NAME} characters, and {_MOST_TEXT:,} in all",
            ArgusWarning,
            stacklevel=5,
        )
        return None
    return names


def _attribute(dataset: Any, name: str) -> Any:
    """Return an attribute of a dataset, or of the one that it is a part of; ``None`` if there is none."""
    for _ in range(_MOST_WRAPPERS):
        if dataset is None:
            break
        with suppress(Exception):  # a property of any class; the run does not need it
            value = getattr(dataset, name, None)
            if value is not None:
                return value.tolist() if hasattr(value, "tolist") else value
        if isinstance(parts := getattr(dataset, "datasets", None), list | tuple):
            values = [_attribute(part, name) for part in parts]
            return values[0] if values and all(each == values[0] for each in values) else None
        dataset = getattr(dataset, "dataset", None)
    return None


def _length(dataset: Any) -> int | None:
    with suppress(Exception):  # of a stream, whose class may raise what it likes
        return len(dataset)
    return None


def _shapes(sample: Any) -> Iterator[tuple[int, ...]]:
    if isinstance(sample, Mapping) and isinstance(shape := sample.get("shape"), list):
        yield tuple(shape)
    elif isinstance(sample, Mapping | list):
        for each in sample.values() if isinstance(sample, Mapping) else sample:
            yield from _shapes(each)
