"""Reading a configuration file: templates, changes, checks and defaults applied."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import tomli_w

from argus_core.config.changes import apply_changes, with_params
from argus_core.config.document import read_alone, read_document
from argus_core.config.schema import EXTENDS, SECTIONS, Key, Sections, plain_model
from argus_core.config.split import check_data
from argus_core.config.template import read_layers
from argus_core.errors import ConfigError
from argus_core.registry.file_params import Source
from argus_core.registry.spec import Spec, parse_specs

__all__ = [
    "Config",
    "complete_config",
    "config_differences",
    "read_config",
    "read_resolved",
    "resolved_toml",
    "specs_of",
    "validation_phases",
    "with_defaults",
]


@dataclass(frozen=True)
class Config:
    """A complete configuration of a training run; omitted keys have their defaults.

    Attributes:
        model: ``name``, a registered model class, and its ``params``.
        data: datasets and the options of their loaders.
        fit: the options of training, and the run directory.
        commands: the unparsed sections of plugins' commands by name; a run does not use them.
        file: the path of the file; ``""`` for a configuration made in Python.
        given: section and path of each value that the caller has set in place of the file's.
        folder: the run directory with the file, if the run is resumed.
        is_checkpoint: the file is a checkpoint, whose parameters are taken as those of a stranger.
    """

    model: Mapping[str, Any]
    data: Mapping[str, Any]
    fit: Mapping[str, Any]
    commands: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    file: str = field(default="", compare=False)
    given: frozenset[tuple[str, ...]] = field(default=frozenset(), compare=False)
    folder: str = field(default="", compare=False)
    is_checkpoint: bool = field(default=False, compare=False)

    @property
    def params(self) -> dict[str, Any]:
        """The params of the model."""
        return {key: value for key, value in self.model.items() if key != "name"}

    @property
    def is_plain(self) -> bool:
        """True for a plain `Model`, whose parts the configuration alone chooses."""
        return plain_model({"model": dict(self.model)})

    def specs(self, *sections: str) -> Iterator[tuple[str, str, Spec]]:
        """Yield kind, place (``[fit] metrics``) and spec of each component that these sections choose."""
        for section in sections:
            values = getattr(self, section)
            for key, known in SECTIONS[section].items():
                if known.kind and key in values:
                    for place, spec in specs_of(known.kind, values[key], f"[{section}] {key}"):
                        yield known.kind, place, spec

    def source(self, section: str, *keys: str) -> Source | None:
        """Return the source of the parameters in keys of a section: a file, or ``None`` for the caller."""
        if not self.file:
            return None
        values = getattr(self, section)
        given = {
            callers
            for key in keys
            for path in self.given
            if path[:2] == (section, key)
            for callers in _callers(SECTIONS[section].get(key), values.get(key), path[2:])
        }
        return Source(self.file, self.is_checkpoint, frozenset(given), folder=self.folder)


def read_config(path: Path, changes: Iterable[str] = ()) -> Config:
    """Read the configuration in a TOML file, and apply ``changes`` (``key=value``) to it.

    Raises:
        ConfigError: the file is missing or not TOML, or contains unknown keys or invalid values.
    """
    return complete_config(read_document(path), path, changes)


def read_resolved(path: Path, changes: Iterable[str] = ()) -> Config:
    """Read the configuration that a run has stored, which names no other file.

    Raises:
        ConfigError: as of `read_config`, or it extends another file, which no run writes.
    """
    document = read_alone(path)
    if EXTENDS in document:
        raise ConfigError(
            f"{path} has {EXTENDS}, but the configuration of a run reads no other file; remove {EXTENDS}, or "
            f"start a new run: argus train {path}"
        )
    return complete_config(document, path, changes)


def complete_config(
    document: Mapping[str, Any], path: Path, changes: Iterable[str] = (), searched: Iterable[str] = ()
) -> Config:
    """Return the complete configuration of a parsed document, with ``changes`` applied to it.

    A caller that needs several variants of one file reads it once, so that later edits have no effect.

    Args:
        document: the return value of `read_document`; it is not modified.
        path: its file, for messages; it also gives the name of the run directory by default.
        changes: ``key=value`` of the caller, applied in this order.
        searched: ``key=value`` of the file itself, such as a point of its search space, applied after those.

    Raises:
        ConfigError: the document contains unknown keys or invalid values.
    """
    sections = read_layers(deepcopy(dict(document)), str(path))
    given = apply_changes(sections, changes, {})
    own = apply_changes(sections, searched, given)
    callers = {each for each in given if not any(path[: len(each)] == each for path in own)}
    _check_required(sections, str(path))
    return replace(_complete(sections, path.stem), file=str(path), given=frozenset(callers))


def specs_of(kind: str, value: Any, place: str) -> Iterator[tuple[str, Spec]]:
    """Yield place and spec of each component that the parsed value of a key chooses, that of each set too."""
    sets = (
        {f"{place}.{name}": each for name, each in value.items()}
        if isinstance(value, dict)
        else {place: value}
    )
    for where, each in sets.items():
        yield from ((where, spec) for spec in parse_specs(kind, each, where))


def resolved_toml(config: Config) -> str:
    """Return the configuration as complete TOML, with all defaults and without a template."""
    tables = {"model": config.model, "data": config.data, "fit": config.fit}
    return tomli_w.dumps({name: dict(table) for name, table in tables.items()})


def config_differences(before: Config, now: Config) -> Iterator[tuple[str, Any, Any]]:
    """Yield the key (with section), old value and new value of each difference of two configurations."""
    for section in SECTIONS:
        was, is_now = getattr(before, section), getattr(now, section)
        for key in {**was, **is_now}:
            if repr(was.get(key)) != repr(is_now.get(key)):  # repr also compares NaN
                yield f"{section}.{key}", was.get(key), is_now.get(key)


def _callers(key: Key | None, value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, str | None]]:
    """Yield the parameters that the caller sets by a change to ``path`` within a key; see `Source.given`."""
    kind = key.kind if key else ""
    if not kind:
        return
    if isinstance(value, list):
        for name in (with_params(spec)[0] for spec in value):
            if not path or (len(path) == 2 and path[0] in (name, name.rpartition("/")[2])):
                yield f"{kind} {name!r}", path[1] if path else None
    elif isinstance(value, dict):
        for name, spec in value.items():
            if path[:1] in ((), (name,)):
                yield f"{kind} {with_params(spec)[0]!r}", path[1] if len(path) > 1 else None
    elif len(path) < 2:
        yield kind, path[0] if path else None


def _check_required(sections: Sections, source: str) -> None:
    for section, keys in SECTIONS.items():
        if section == "model" and not plain_model(sections):
            continue  # the model class may fix every part
        for key, known in keys.items():
            if known.required and key not in sections[section]:
                hint = "" if sections[section] else f" (there is no section [{section}])"
                raise ConfigError(f"{source}: [{section}] has no {key!r}{hint}; name {known.about}")
    check_data(sections["data"], source)


def _complete(sections: Sections, stem: str) -> Config:
    sections["data"].setdefault("shuffle", "sampler" not in sections["data"])
    model, data, fit = (with_defaults(section, sections[section]) for section in SECTIONS)
    data.setdefault("val_batch_size", data["batch_size"])
    if not {"num_updates", "max_time"} & fit.keys():
        fit.setdefault("num_epochs", 1)
    fit.setdefault("monitor", f"{[*validation_phases(data), 'train'][0]}_loss")
    fit.setdefault("run_dir", f"runs/{stem if stem.strip('.') else 'run'}")
    return Config(model, data, fit, {name: sections[name] for name in sections if name not in SECTIONS})


def validation_phases(data: Mapping[str, Any]) -> list[str]:
    """Return the phases of a run that validate, ``val`` or one for each set, from its section ``[data]``."""
    if "val" not in data:
        return ["val"] if "val" in data.get("split", ()) else []
    return [f"val_{name}" for name in data["val"]] if isinstance(data["val"], dict) else ["val"]


def with_defaults(section: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a section with its defaults, in the order of the schema; user-defined keys come last."""
    filled = {key: values.get(key, known.default) for key, known in SECTIONS[section].items()}
    return {key: value for key, value in {**filled, **values}.items() if value is not None}
