"""One configuration in many variants: what a search space makes of it, checked before anything runs."""

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
    read_document,
)
from argus_optuna.space import Space
from argus_optuna.toml_text import toml_text

__all__ = ["Variants"]

_HANDED_OVER = {"optimizer": 1}  # what the model hands to a factory before the parameters of a spec
_UNCHECKED = ("lr_scheduler",)  # argus_core takes some of their parameters for itself
_CIRCUMSTANCES = {
    "model.device", "data.num_workers", "data.pin_memory", "fit.run_dir", "fit.num_threads",
    "fit.checkpoint_every",
}  # fmt: skip


class Variants:
    """A configuration, read once, and what a sweep changes in it.

    Args:
        path: its file, which may be edited later.
        changes: ``key=value``, made to every variant.

    Raises:
        ConfigError: there is no such file, or it says something that is not known.
    """

    def __init__(self, path: Path, changes: Sequence[str] = ()) -> None:
        self.path = path
        self._document = read_document(path)
        self._changes = tuple(changes)

    def config(self, changes: Sequence[str] = ()) -> Config:
        """Return the configuration with ``changes`` made to it."""
        return complete_config(self._document, self.path, self._changes, changes)

    def check(self, space: Space) -> None:
        """Check that every choice, and both ends of every range, make a configuration whose names are known.

        The model of the first is built, too.

        Raises:
            ConfigError: a key of the space is none of the configuration, or does not take a value.
            ArgusError: a name or a parameter is not known.
        """
        for dimension in space.dimensions:
            section = dimension.key.partition(".")[0]
            if section in self._document.keys() - SECTIONS.keys():
                raise ConfigError(
                    f"{self.path}: [sweep.space] has {dimension.key!r}, and [{section}] is no part of a run; "
                    "leave it out"
                )
        for index, (_, params) in enumerate(space.probes()):
            build = index == 0  # what is wrong with the configuration itself shows in one model
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
        """Return the error with the key in it without which all is well, if there is one."""
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
        """Return what makes trials comparable: the configuration by key, without what the space changes.

        Where a trial runs, and how fast, does not count.
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
    """Yield keys and values; of a spec, its name and each of its parameters."""
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
    handed_over = (None,) * _HANDED_OVER.get(kind, 0)
    try:
        factory = component.load()
        params = {**getattr(factory, "run_paths", {}), **spec.params}  # paths that the run will give
        check_params(f"{kind} {spec.name!r}", factory, handed_over, params)
    except ArgusError as error:
        raise type(error)(f"{where}: {error}") from error
