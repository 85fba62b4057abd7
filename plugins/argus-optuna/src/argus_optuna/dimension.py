"""A dimension of a search space: a key of the configuration, and its possible values."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from argus_core import ConfigError
from argus_core.authors import SECTIONS, near
from argus_optuna.toml_text import toml_text

if TYPE_CHECKING:
    from optuna.trial import Trial

__all__ = ["SHAPES", "Choices", "Dimension", "Range", "read_dimension"]

SHAPES = "{ low = 1e-4, high = 0.1, log = true }, { low = 1, high = 8 } or { choices = [32, 64] }"

_RANGE = ("low", "high", "step", "log", "when")
_CHOICES = ("choices", "when")

Scalar = str | int | float | bool


@dataclass(frozen=True)
class Choices:
    """A list of values to choose from; values that optuna cannot store, such as lists, are stored as TOML."""

    values: tuple[Any, ...]

    @property
    def stored(self) -> tuple[Scalar, ...]:
        """The stored form of each value."""
        types = {type(value) for value in self.values}
        if types in ({str}, {bool}) or types <= {int, float}:
            return self.values
        return tuple(map(toml_text, self.values))

    @property
    def probes(self) -> tuple[Any, ...]:
        """The values to check before anything runs."""
        return self.stored

    def grid(self) -> Iterable[Any]:
        """Return the stored form of every value."""
        return self.stored

    def suggest(self, trial: Trial, key: str) -> Any:
        """Let a trial choose."""
        return trial.suggest_categorical(key, self.stored)

    def value(self, stored: Any) -> Any:
        """Return the value of a stored form."""
        return self.values[self.stored.index(stored)]

    def described(self) -> str:
        """Return its form in messages."""
        return f"{{ choices = {toml_text(self.values)} }}"


@dataclass(frozen=True)
class Range:
    """The numbers from ``low`` to ``high``, both included; integers if both ends are integers."""

    low: int | float
    high: int | float
    step: int | float | None = None
    log: bool = False

    @property
    def is_whole(self) -> bool:
        """True if all its numbers are integers."""
        return type(self.low) is int and type(self.high) is int

    @property
    def probes(self) -> tuple[Any, ...]:
        """The values to check before anything runs."""
        return (self.low, self.high)

    def grid(self) -> Iterable[Any] | None:
        """Return an iterator of all values, or None if their number is infinite."""
        step = self.step if self.step is not None or not self.is_whole else 1
        if step is None or self.log:
            return None
        count = int((_exact(self.high) - _exact(self.low)) / _exact(step)) + 1
        points = (_exact(self.low) + index * _exact(step) for index in range(count))
        return (int(point) if self.is_whole else float(point) for point in points)

    def suggest(self, trial: Trial, key: str) -> Any:
        """Let a trial choose."""
        if self.is_whole:
            return trial.suggest_int(
                key, int(self.low), int(self.high), step=int(self.step or 1), log=self.log
            )
        return trial.suggest_float(key, float(self.low), float(self.high), step=self.step, log=self.log)

    def value(self, stored: Any) -> Any:
        """Return the value of a stored form, which is the same number."""
        return stored

    def described(self) -> str:
        """Return its form in messages."""
        step = "" if self.step is None else f", step = {toml_text(self.step)}"
        log = ", log = true" if self.log else ""
        return f"{{ low = {toml_text(self.low)}, high = {toml_text(self.high)}{step}{log} }}"


@dataclass(frozen=True)
class Dimension:
    """A key of the configuration with its values.

    Attributes:
        key: the key, as in ``--set``.
        values: its possible values.
        when: the condition: each of these keys must have one of these values, or the dimension is not used.
    """

    key: str
    values: Choices | Range
    when: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    @property
    def path(self) -> tuple[str, ...]:
        """The components of the dotted key, without the section, which is optional."""
        parts = tuple(self.key.split("."))
        return parts[1:] if parts[0] in SECTIONS and len(parts) > 1 else parts

    def described(self) -> str:
        """Return its form in messages."""
        if not self.when:
            return self.values.described()
        when = ", ".join(f"{toml_text(key)} = {toml_text(wanted)}" for key, wanted in self.when.items())
        return f"{self.values.described()[:-2]}, when = {{ {when} }} }}"


def read_dimension(key: str, table: Any, where: str) -> Dimension:
    """Parse a dimension.

    Args:
        key: the key, as in ``--set``.
        table: its table in the space.
        where: the beginning of messages.

    Raises:
        ConfigError: the table has another form, or no values.
    """
    if not isinstance(table, dict) or not table:
        raise ConfigError(f"{where} is {table!r}; give {SHAPES}")
    known = _CHOICES if "choices" in table else _RANGE
    for name in table:
        if name not in known:
            if name in _RANGE:
                raise ConfigError(f"{where} has 'choices' and {name!r}; give either choices, or low and high")
            hint = near(name, {*_RANGE, *_CHOICES}) or f"; give {SHAPES}"
            raise ConfigError(f"{where} has {name!r}{hint}")
    read: Callable[[dict[str, Any], str], Choices | Range] = _choices if "choices" in table else _range
    return Dimension(key, read(table, where), _when(table.get("when", {}), f"{where}.when"))


def _choices(table: dict[str, Any], where: str) -> Choices:
    values = table["choices"]
    if not isinstance(values, list) or not values:
        raise ConfigError(f"{where}.choices is {values!r}; give a list of values, such as [32, 64]")
    seen: set[str] = set()
    for value in values:
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{where}.choices has {value!r}; give finite numbers")
        text = toml_text(float(value) if type(value) is int else value)  # 1 and 1.0 are one choice
        if text in seen:
            raise ConfigError(f"{where}.choices has {toml_text(value)} twice; give each value once")
        seen.add(text)
    return Choices(tuple(values))


def _range(table: dict[str, Any], where: str) -> Range:
    for name in ("low", "high", "step"):
        value = table.get(name)
        if value is None and name != "step":
            raise ConfigError(f"{where} has no {name!r}; give {SHAPES}")
        if value is not None and (type(value) not in (int, float) or not math.isfinite(value)):
            raise ConfigError(f"{where}.{name} is {value!r}; give a finite number")
    low, high, step, log = table["low"], table["high"], table.get("step"), table.get("log", False)
    if type(log) is not bool:
        raise ConfigError(f"{where}.log is {log!r}; give true or false")
    if not low < high:
        raise ConfigError(f"{where} goes from {low!r} to {high!r}; give a low that is below high")
    if log and low <= 0:
        raise ConfigError(f"{where}.low is {low!r}; with log = true it must be above 0")
    if log and step is not None:
        raise ConfigError(f"{where} has log and step; leave one of them out")
    found = Range(low, high, step, log)
    _check_step(found, where)
    return found


def _check_step(found: Range, where: str) -> None:
    step = found.step
    if step is None:
        return
    if step <= 0 or (found.is_whole and type(step) is not int):
        kind = "an integer above 0, since low and high are integers" if found.is_whole else "a number above 0"
        raise ConfigError(f"{where}.step is {step!r}; give {kind}")
    width = _exact(found.high) - _exact(found.low)
    if width % _exact(step):
        last = _exact(found.low) + width // _exact(step) * _exact(step)
        shown = int(last) if found.is_whole else float(last)
        raise ConfigError(
            f"{where} does not reach high = {found.high!r} in steps of {step!r}; give high = {shown!r}"
        )


def _when(table: Any, where: str) -> dict[str, tuple[Any, ...]]:
    if not isinstance(table, dict):
        raise ConfigError(
            f'{where} is {table!r}; give a key of the space and its value, {{ optimizer = "SGD" }}'
        )
    found: dict[str, tuple[Any, ...]] = {}
    for key, value in _flat(table):
        found[key] = tuple(value) if isinstance(value, list) else (value,)
        if not found[key]:
            raise ConfigError(f"{where} has no value for {key!r}; give one, or a list of several")
    return found


def _flat(table: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    # Without quotes, model.optimizer = "SGD" is a table in a table with the same meaning.
    found: list[tuple[str, Any]] = []
    for key, value in table.items():
        found.extend(
            _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", value)]
        )
    return found


def _exact(number: int | float) -> Fraction:
    return Fraction(str(number))
