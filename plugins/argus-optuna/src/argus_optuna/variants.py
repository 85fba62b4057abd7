"""The variants of a configuration in a search space, checked before anything runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from argus_core import ArgusError, ConfigError, resolve
from argus_core.authors import (
    SECTIONS,
    Config,
    Spec,
    build_model,
    check_params,
    complete_config,
    handed_over,
    read_document,
)
from argus_optuna.space import Space
from argus_optuna.toml_text import toml_text

__all__ = ["Variants"]

_UNCHECKED = ("lr_scheduler",)  # argus_core uses some of their parameters itself
_CIRCUMSTANCES = {
    "model.device", "data.num_workers", "data.persistent_workers", "data.prefetch_factor", "data.pin_memory",
    "fit.run_dir", "fit.num_threads", "fit.checkpoint_every",
}  # fmt: skip


class Variants:
    """The variants of a configuration that is read once.

    Args:
        path: its file, which may be edited later.
        changes: ``key=value`` changes of every variant.

    Raises:
        ConfigError: the file does not exist, or is not a valid configuration.
    """

    def __init__(self, path: Path, changes: Sequence[str] = ()) -> None:
        self.path = path
        self._document = read_document(path)
        self._changes = tuple(changes)

    def config(self, changes: Sequence[str] = ()) -> Config:
        """Return the configuration with ``changes`` applied."""
        return complete_config(self._document, self.path, self._changes, changes)

    def check(self, space: Space) -> None:
        """Check that every choice, and both ends of every range, give a valid configuration.

        The model of the first is also built.

        Raises:
            ConfigError: a key of the space is unknown, or does not take a value.
            ArgusError: a name or a parameter is unknown.
        """
        for dimension in space.dimensions:
            section = dimension.key.partition(".")[0]
            if section in self._document.keys() - SECTIONS.keys():
                raise ConfigError(
                    f"{self.path}: [sweep.space] has {dimension.key!r}, but a run does not use [{section}]; "
                    "leave it out"
                )
        for index, (_, params) in enumerate(space.probes()):
            build = index == 0  # one model shows faults of the configuration itself
            try:
                self._try(space.changes(params), build)
            except ArgusError as error:
                raise self._blaming(space, params, build, error) from error

    def _try(self, changes: Sequence[str], build: bool) -> None:
        config = self.config(changes)
        own = ("model",) if config.is_plain else ()  # a class may fix its parts
        for kind, place, spec in config.specs(*own, "data", "fit"):
            _check_spec(kind, spec, place)
        if build:
            build_model(config)

    def _blaming(self, space: Space, params: Mapping[str, Any], build: bool, error: ArgusError) -> ArgusError:
        """Return the error with the key that causes it, if one key does."""
        for key in params:
            try:
                self._try(space.changes({name: params[name] for name in params if name != key}), build)
            except ArgusError:
                continue
            [change] = space.changes({key: params[key]})
            text = str(error).removeprefix(f"--set {change}: ")
            return type(error)(f"{self.path}: [sweep.space] {key!r}: with {change}, {text}")
        return error

    def identity(self, space: Space) -> dict[str, str]:
        """Return the values that trials must share to be comparable, by key, without keys of the space.

        Values that only affect place and speed of a trial are left out.
        """
        config = self.config()
        sections = {"model": config.model, "data": config.data, "fit": config.fit}
        found: dict[str, str] = {}
        for section, values in sections.items():
            for key, value in _flat(values):
                parts = tuple(key.split("."))
                if f"{section}.{key}" not in _CIRCUMSTANCES and not _is_searched(parts, space):
                    found[f"{section}.{key}"] = toml_text(value)
        return found


def _is_searched(parts: tuple[str, ...], space: Space) -> bool:
    return any(parts[: len(dimension.path)] == dimension.path for dimension in space.dimensions)


def _flat(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield keys and values; for a spec, its name and each of its parameters."""
    for key, value in values.items():
        if isinstance(value, tuple):
            yield key, value[0]
            yield from ((f"{key}.{name}", item) for name, item in value[1].items())
        else:
            yield key, value


def _check_spec(kind: str, spec: Spec, where: str) -> None:
    component = resolve(kind, spec.name)
    if kind in _UNCHECKED:
        return
    try:
        factory = component.load()
        params = {**getattr(factory, "run_paths", {}), **spec.params}  # paths that the run will give
        given = (None,) * handed_over(kind, factory)  # before the parameters of the spec
        check_params(f"{kind} {spec.name!r}", factory, given, params)
    except ArgusError as error:
        raise type(error)(f"{where}: {error}") from error
