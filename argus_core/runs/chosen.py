"""The callbacks that a configuration chooses for a run, and the places to which they write."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from argus_core.callbacks import Checkpoint
from argus_core.callbacks.names import in_one_case, may_coincide, path_pattern
from argus_core.errors import ConfigError
from argus_core.files.working_folder import absolute, shown
from argus_core.registry.factory import build_component
from argus_core.registry.file_params import file_params_of
from argus_core.registry.registry import resolve
from argus_core.registry.spec import parse_spec
from argus_core.runs.directory import RunDirectory

__all__ = ["Chosen", "check_places", "chosen_callbacks"]


@dataclass(frozen=True)
class Chosen:
    """A callback and how its paths were chosen.

    Attributes:
        callback: built.
        name: for messages.
        factory: declares which parameters are paths.
        params: of its spec; an instance has its paths in attributes of the parameters' names.
    """

    callback: Any
    name: str
    factory: Any
    params: Mapping[str, Any]


def chosen_callbacks(callbacks: Any, folder: Path) -> Iterator[Chosen]:
    """Yield callbacks; paths that a spec omits lie in ``folder``, by the callback's ``run_paths``."""
    if callbacks is None:
        return
    for each in callbacks if isinstance(callbacks, list) else [callbacks]:
        if not isinstance(each, str | tuple | list):
            yield Chosen(each, getattr(each, "name", type(each).__name__), type(each), {})
            continue
        spec = parse_spec("callback", each, "callbacks")
        factory = resolve("callback", spec.name).load()
        paths = getattr(factory, "run_paths", {})
        params = {**{name: str(folder / path) for name, path in paths.items()}, **spec.params}
        callback = build_component("callback", (spec.name, params), "callbacks")
        yield Chosen(callback, spec.name, factory, params)


def check_places(chosen: Chosen, directory: RunDirectory) -> None:
    """Check that a callback writes to none of the files that the run itself writes."""
    callback = chosen.callback
    for parameter, rule in file_params_of(chosen.factory).items():
        value = chosen.params.get(parameter, getattr(callback, parameter, None))
        is_written = rule.writes and isinstance(value, str | os.PathLike)
        if is_written and (own := _own_file(value, directory)):
            raise _refusal(chosen, parameter, value, f"is {directory.shown(own)}")
    if isinstance(callback, Checkpoint):
        pattern = in_one_case(callback.path_pattern())
        for own in directory.own_files():
            if may_coincide(pattern, in_one_case(path_pattern(own))):
                may = f"may give a checkpoint the name of {directory.shown(own)}"
                raise _refusal(chosen, "file_format", callback.file_format, may)


def _own_file(value: str | os.PathLike[str], directory: RunDirectory) -> Path | None:
    """Return the file of the run that a path names, or would use as a folder; ``None`` for other paths."""
    path = absolute(os.path.expanduser(value))
    # Case-insensitive: some file systems are.
    places = {os.path.realpath(place).casefold() for place in (path, *path.parents)}
    for own in directory.own_files():
        if os.path.realpath(own).casefold() in places or (
            path.is_file() and own.exists() and own.samefile(path)
        ):
            return own
    return None


def _refusal(chosen: Chosen, parameter: str, value: str | os.PathLike[str], reason: str) -> ConfigError:
    return ConfigError(
        f"{parameter} of callback {chosen.name!r} is {shown(value)!r}, which {reason}, a file that the "
        "run writes; choose another path for the callback"
    )
