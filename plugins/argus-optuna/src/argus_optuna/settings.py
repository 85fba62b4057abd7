"""The section ``[sweep]``: the search space, the search algorithm, and the folder of the study."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from argus_core import ConfigError, ParamsError
from argus_core.authors import Config, Spec, checked_path, near, parse_spec
from argus_optuna.space import Space, read_space

__all__ = ["COMMAND", "Settings", "read_settings"]

COMMAND = "sweep"

_KEYS = ("trials", "timeout", "sampler", "pruner", "seed", "study_dir", "space")
_LARGEST_SEED = 2**32


@dataclass(frozen=True)
class Settings:
    """The settings of a search.

    Attributes:
        space: the search space.
        trials: the total number of trials, by all processes.
        timeout: the seconds after which no trial starts; None for no limit.
        sampler: the algorithm that chooses the next trial.
        pruner: the algorithm that stops unpromising trials.
        seed: the seed of the sampler; None for a random one.
        study_dir: the folder of the study.
        monitor: the metric that trials are compared by.
    """

    space: Space
    trials: int
    timeout: float | None
    sampler: Spec
    pruner: Spec
    seed: int | None
    study_dir: Path
    monitor: str


def read_settings(config: Config, source: str) -> Settings:
    """Parse the section, with defaults for omitted keys.

    Args:
        config: the configuration.
        source: its file, for messages.

    Raises:
        ConfigError: the section is missing, or has an unknown key or an invalid value.
    """
    table = config.commands.get(COMMAND)
    if table is None:
        raise ConfigError(
            f"{source} has no section [{COMMAND}]; add [{COMMAND}.space] with the keys to search, such as "
            '"optimizer.lr" = { low = 1e-4, high = 0.1, log = true }'
        )
    where = f"{source}: [{COMMAND}]"
    for key in table:
        if key not in _KEYS:
            raise ConfigError(f"{where} has {key!r}{near(key, _KEYS) or '; it takes ' + ', '.join(_KEYS)}")
    if "study_dir" not in table and "{" in config.fit["run_dir"]:
        raise ConfigError(
            f"{where} has no study_dir, and run_dir is the pattern {config.fit['run_dir']!r}, which a "
            "study that resumes cannot follow; give study_dir"
        )
    return Settings(
        space=read_space(table.get("space"), f"{source}: [{COMMAND}.space]"),
        trials=_whole(table, "trials", 20, 1, where),
        timeout=_seconds(table.get("timeout"), where),
        sampler=_spec(table.get("sampler", "tpe"), "sampler", where),
        pruner=_spec(table.get("pruner", "median"), "pruner", where),
        seed=_whole(table, "seed", config.fit.get("seed"), 0, where),
        study_dir=_folder(table.get("study_dir", f"{config.fit['run_dir']}-{COMMAND}"), where),
        monitor=config.fit["monitor"],
    )


def _whole(table: Mapping[str, Any], key: str, default: Any, least: int, where: str) -> Any:
    value = table.get(key, default)
    if value is not None and (type(value) is not int or not least <= value < _LARGEST_SEED):
        raise ConfigError(f"{where} {key} is {value!r}; give an integer of at least {least}, below 2**32")
    return value


def _seconds(value: Any, where: str) -> float | None:
    if value is None:
        return None
    if type(value) not in (int, float) or not (value > 0 and math.isfinite(value)):
        raise ConfigError(f"{where} timeout is {value!r}; give seconds, a number above 0")
    return float(value)


def _spec(value: Any, key: str, where: str) -> Spec:
    if isinstance(value, dict) and isinstance(value.get("name"), str):
        params = {name: item for name, item in value.items() if name != "name"}
        value = (value["name"], params)
    return parse_spec(key, value, f"{where} {key}")


def _folder(value: Any, where: str) -> Path:
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{where} study_dir is {value!r}; give a folder, such as 'runs/digits-sweep'")
    try:
        return checked_path(where, "study_dir", value)
    except ParamsError as error:
        raise ConfigError(str(error)) from error
