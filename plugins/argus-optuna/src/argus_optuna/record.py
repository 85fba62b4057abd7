"""The record of a sweep in its study: the monitor, the search space and the configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import optuna

from argus_core import ConfigError

__all__ = ["check_record"]

_RECORD = "argus_sweep"


def check_record(study: optuna.Study, path: Path, direction: str, record: Mapping[str, Any]) -> None:
    """Check that a study is one of the sweep that ``record`` describes; a new study gets the record.

    Args:
        study: in the folder.
        path: the folder.
        direction: ``"minimize"`` or ``"maximize"``.
        record: the monitor, the space and the configuration.

    Raises:
        ConfigError: the study belongs to another program or another sweep.
    """
    before = study.user_attrs.get(_RECORD)
    if before is None and study.get_trials(deepcopy=False):
        raise ConfigError(
            f"{path / 'study.db'} contains a study of another program; give another --study-dir"
        )
    directions = [each.name.lower() for each in study.directions]
    if directions != [direction]:
        raise ConfigError(
            f"the study in {path} is one to {' and '.join(directions)}, and this sweep is to {direction} "
            f"{record['monitor']}; give another --study-dir"
        )
    if before is None:
        runs = sorted(path.glob("trial-*"))
        if runs:
            raise ConfigError(
                f"{runs[0]} belongs to a study that is missing; move it away, or give another --study-dir"
            )
        best = path / "best.safetensors"
        if best.exists():
            raise ConfigError(
                f"{best} is not of a study, and a sweep writes its best checkpoint there; move it away, or "
                "give another --study-dir"
            )
        study.set_user_attr(_RECORD, record)
        return
    changes = [*_changes(before, record)]
    if changes:
        raise ConfigError(
            f"the study in {path} has another configuration: {'; '.join(changes)}; "
            "undo the change, or start another study with --study-dir"
        )


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    if before["monitor"] != now["monitor"]:
        yield f"monitor was {before['monitor']} and is {now['monitor']}"
    for part, label in (("space", "[sweep.space] "), ("config", "")):
        for key in dict.fromkeys([*before[part], *now[part]]):
            was, is_now = before[part].get(key), now[part].get(key)
            if was != is_now:
                yield f"{label}{key} was {was or 'not set'} and is {is_now or 'not set'}"
