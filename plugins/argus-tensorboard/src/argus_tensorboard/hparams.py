"""The params of a model, flattened for TensorBoard's table of hyperparameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["flat_params"]

Plain = bool | int | float | str

_LONGEST = 100


def flat_params(params: Mapping[str, Any]) -> dict[str, Plain]:
    """Return params without nesting: the name of each component, and its parameters after a dot.

    >>> flat_params({"optimizer": ("SGD", {"lr": 0.1}), "step": ["amp", ("accumulate", {"steps": 4})]})
    {'optimizer': 'SGD', 'optimizer.lr': 0.1, 'step': 'amp, accumulate', 'step.accumulate.steps': 4}
    """
    return dict(item for key, value in params.items() for item in _flat(str(key), value))


def _flat(key: str, value: Any) -> Iterator[tuple[str, Plain]]:
    if _is_spec(value):
        name, params = value
        yield key, name
        yield from _flat(key, params)
    elif isinstance(value, Mapping):
        for name, each in value.items():
            yield from _flat(f"{key}.{name}", each)
    elif isinstance(value, list) and value and all(isinstance(each, str) or _is_spec(each) for each in value):
        specs = [(each, {}) if isinstance(each, str) else each for each in value]
        yield key, ", ".join(name for name, _ in specs)
        for name, params in specs:
            yield from _flat(f"{key}.{name}", params)
    else:
        yield key, value if isinstance(value, bool | int | float | str) else _text(value)


def _is_spec(value: Any) -> bool:
    return (
        isinstance(value, tuple | list)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], Mapping)
    )


def _text(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
