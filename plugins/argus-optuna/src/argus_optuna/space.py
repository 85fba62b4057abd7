"""The search space: the keys of a configuration that a sweep changes, with their values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from argus_core import ConfigError
from argus_core.authors import near
from argus_optuna.dimension import SHAPES, Choices, Dimension, Range, read_dimension
from argus_optuna.toml_text import toml_text

if TYPE_CHECKING:
    from optuna.trial import Trial

__all__ = ["Space", "read_space"]

_FIXED = {
    "run_dir": "each trial has its own run directory, in study_dir",
    "monitor": "trials are compared by it",
}

Params = dict[str, Any]
"""The stored value of each active key."""


class Space:
    """Dimensions, each after those that it depends on.

    Args:
        dimensions: the dimensions in that order.
    """

    def __init__(self, dimensions: Iterable[Dimension]) -> None:
        self.dimensions = tuple(dimensions)

    def suggest(self, trial: Trial) -> Params:
        """Let a trial choose a value for each active dimension."""
        return self._assign(lambda dimension, _: dimension.values.suggest(trial, dimension.key))

    def changes(self, params: Mapping[str, Any]) -> list[str]:
        """Return ``params`` as ``key=value``: a component is chosen before a parameter of it is set."""
        chosen = [dimension for dimension in self.dimensions if dimension.key in params]
        return [
            f"{each.key}={toml_text(each.values.value(params[each.key]))}"
            for each in sorted(chosen, key=lambda each: len(each.path))
        ]

    def probes(self) -> Iterator[tuple[Dimension, Params]]:
        """Yield, for each dimension, an assignment for every choice, or for both ends of a range."""
        for dimension in self.dimensions:
            for value in dimension.values.probes:
                wanted = {dimension.key: value, **self._needed(dimension)}
                yield (
                    dimension,
                    self._assign(
                        lambda each, _, wanted=wanted: wanted.get(each.key, each.values.probes[0])  # type: ignore[misc]
                    ),
                )

    def grid(self) -> Iterator[Params]:
        """Yield every point of the space, the last dimension varying fastest.

        Raises:
            ConfigError: their number is infinite.
        """
        for dimension in self.dimensions:
            if dimension.values.grid() is None:
                raise ConfigError(
                    f"[sweep] sampler 'grid' cannot go through {dimension.key!r} = {dimension.described()}; "
                    "give it choices, whole numbers or a step, and no log"
                )
        yield from self._grid({}, 0)

    def described(self) -> dict[str, str]:
        """Return the form of each dimension in messages, by key."""
        return {dimension.key: dimension.described() for dimension in self.dimensions}

    def _grid(self, params: Params, index: int) -> Iterator[Params]:
        if index == len(self.dimensions):
            yield params
            return
        dimension = self.dimensions[index]
        if not self._is_there(dimension, params):
            yield from self._grid(params, index + 1)
            return
        for value in dimension.values.grid() or ():
            yield from self._grid({**params, dimension.key: value}, index + 1)

    def _assign(self, choose: Callable[[Dimension, Params], Any]) -> Params:
        params: Params = {}
        for dimension in self.dimensions:
            if self._is_there(dimension, params):
                params[dimension.key] = choose(dimension, params)
        return params

    def _is_there(self, dimension: Dimension, params: Params) -> bool:
        return all(
            key in params and any(_is_meant(self._of(key).values.value(params[key]), each) for each in wanted)
            for key, wanted in dimension.when.items()
        )

    def _needed(self, dimension: Dimension) -> Params:
        """Return values with which ``dimension`` is active."""
        needed: Params = {}
        for key, wanted in dimension.when.items():
            other = self._of(key)
            needed |= self._needed(other)
            needed[key] = next(
                stored
                for stored in other.values.probes
                if any(_is_meant(other.values.value(stored), each) for each in wanted)
            )
        return needed

    def _of(self, key: str) -> Dimension:
        return next(dimension for dimension in self.dimensions if dimension.key == key)


def read_space(table: Any, where: str) -> Space:
    """Parse ``[sweep.space]``.

    Args:
        table: dotted keys, quoted or not, with their values.
        where: the beginning of messages.

    Raises:
        ConfigError: the table has another form.
    """
    if not isinstance(table, dict) or not table:
        raise ConfigError(f'{where} is empty; give keys and values, "optimizer.lr" = {SHAPES}')
    dimensions = [read_dimension(key, value, f"{where} {key!r}") for key, value in _leaves(table)]
    seen: dict[tuple[str, ...], str] = {}
    for dimension in dimensions:
        if dimension.path[0] in _FIXED and len(dimension.path) == 1:
            raise ConfigError(f"{where} has {dimension.key!r}, but {_FIXED[dimension.path[0]]}; leave it out")
        if dimension.path in seen:
            raise ConfigError(
                f"{where} has {seen[dimension.path]!r} and {dimension.key!r}, the same key; leave one out"
            )
        seen[dimension.path] = dimension.key
    _check_conditions(dimensions, where)
    return Space(_in_order(dimensions, where))


def _leaves(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted keys and their tables; in TOML, optimizer.lr without quotes is a table in a table."""
    for key, value in table.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict) and _holds_keys(value):
            yield from _leaves(value, f"{path}.")
        else:
            yield path, value


def _holds_keys(table: Mapping[str, Any]) -> bool:
    if any(name in table and not isinstance(table[name], dict) for name in ("low", "high", "choices")):
        return False
    return any(isinstance(value, dict) for value in table.values())


def _check_conditions(dimensions: list[Dimension], where: str) -> None:
    values = {dimension.key: dimension.values for dimension in dimensions}
    for dimension in dimensions:
        for key, wanted in dimension.when.items():
            place = f"{where} {dimension.key!r}.when"
            other = values.get(key)
            if other is None:
                hint = near(key, values) or f"; it has {', '.join(values)}"
                raise ConfigError(f"{place} names {key!r}, which is not in the space{hint}")
            if isinstance(other, Range):
                raise ConfigError(f"{place} names {key!r}, which has a range; give {key!r} choices")
            for each in wanted:
                _check_wanted(each, other, f"{place} requires {key!r} to be {each!r}")


def _check_wanted(wanted: Any, other: Choices, sentence: str) -> None:
    if not any(_is_meant(choice, wanted) for choice in other.values):
        shown = [choice if isinstance(choice, str) else toml_text(choice) for choice in other.values]
        hint = near(str(wanted), shown) or f"; its choices are {', '.join(shown)}"
        raise ConfigError(f"{sentence}, which is not one of its choices{hint}")


def _is_meant(choice: Any, wanted: Any) -> bool:
    """Return whether a choice equals the required value; the name of a spec is enough."""
    if isinstance(choice, list) and choice and isinstance(wanted, str):
        return bool(choice[0] == wanted)
    if isinstance(choice, dict):
        return choice == wanted or (isinstance(wanted, str) and choice.get("name") == wanted)
    return type(choice) is type(wanted) and bool(choice == wanted)


def _in_order(dimensions: list[Dimension], where: str) -> Iterator[Dimension]:
    placed: set[str] = set()
    waiting = list(dimensions)
    while waiting:
        ready = next((each for each in waiting if placed.issuperset(each.when)), None)
        if ready is None:
            keys = " and ".join(repr(each.key) for each in waiting)
            raise ConfigError(
                f"{where}: the conditions (when) of {keys} depend on each other; remove one of them"
            )
        waiting.remove(ready)
        placed.add(ready.key)
        yield ready
