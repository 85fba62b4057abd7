"""Run directories named by a pattern, such as ``runs/{name}-{n}``."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from argus_core.config import Config
from argus_core.errors import ConfigError, near
from argus_core.files.working_folder import absolute
from argus_core.runs.folder import OTHER, check_run_folder, remove_empty, usable

__all__ = ["PLACEHOLDERS", "named_run", "with_seed"]

PLACEHOLDERS = {
    "name": "the name of the configuration's file, without .toml",
    "n": "the number of the run: 1 more than the largest one there",
    "date": "the date on which the run begins, as in 2026-03-01",
    "seed": "the seed of the run, also if it was drawn",
}
"""The placeholders of a pattern, each with a description."""

_LARGEST_SEED = 2**32
_MOST_FAILURES = 100
_FIELD = re.compile(r"\{([^{}/]*)\}|[{}]")
_NUMBER = "{n}"
_DIGITS = "(?P<n>[1-9][0-9]{0,17})"


def with_seed(config: Config) -> Config:
    """Return a configuration with its seed, which is drawn if it has none."""
    seed = config.fit.get("seed", secrets.randbelow(_LARGEST_SEED))
    return replace(config, fit={**config.fit, "seed": seed})


@contextmanager
def named_run(config: Config, overwrite: bool, claim: bool = True) -> Iterator[Config]:
    """Yield the configuration of a new run, with its own directory in place of a pattern.

    A numbered directory is made here, so that no two runs have the same. It is removed after the block if it
    is empty then.

    Args:
        config: of the run.
        overwrite: whether the run is to replace another, which one with a new number cannot.
        claim: whether to make a numbered directory; otherwise its number may be another's soon.

    Raises:
        ConfigError: the pattern has unknown placeholders, or a number and ``overwrite``.
        ArgusError: the directory cannot be made.
    """
    pattern = config.fit["run_dir"]
    _check(pattern, overwrite)
    if "{seed}" in pattern:
        config = with_seed(config)
    path = _filled(pattern, config)
    if re.search("[\ud800-\udfff]", path):
        raise ConfigError(f"run_dir is {path!r}; it must be UTF-8, as config.toml is; {OTHER}")
    if _NUMBER not in pattern:
        yield replace(config, fit={**config.fit, "run_dir": path})
        return
    before, numbered, after = _parts(path)
    missing = [folder for folder in (absolute(before), *absolute(before).parents) if not folder.exists()]
    with usable(path):
        name = _claimed(before, numbered) if claim else _numbered(numbered, _next(before, numbered))
    try:
        yield replace(config, fit={**config.fit, "run_dir": str(before / name / after)})
    finally:
        if claim:
            remove_empty((absolute(before / name), *missing))


def _check(pattern: str, overwrite: bool) -> None:
    for field in _FIELD.finditer(pattern):
        if field[1] not in PLACEHOLDERS:
            known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
            hint = near(field[1] or "", PLACEHOLDERS) or f"; the placeholders are {known}"
            raise ConfigError(f"run_dir is {pattern!r}, where {field[0]} is not a placeholder{hint}; {OTHER}")
    if sum(_NUMBER in part for part in Path(pattern).parts) > 1:
        raise ConfigError(
            f"run_dir is {pattern!r}, which numbers several folders; write {{n}} in one of them"
        )
    if ".." in Path(pattern.rpartition(_NUMBER)[2]).parts:
        raise ConfigError(
            f"run_dir is {pattern!r}, which leads out of the folder that {{n}} numbers; leave out the .. "
            "after it"
        )
    if _NUMBER in pattern and overwrite:
        raise ConfigError(
            f"run_dir is {pattern!r}, which gives each run a directory of its own, so there is none for "
            "--overwrite to replace; leave --overwrite out, or name the run to replace with --run-dir"
        )


def _filled(pattern: str, config: Config) -> str:
    """Return the pattern with everything but the number."""
    stem = Path(config.file).stem
    name = stem if stem.strip(".") else "run"  # of a file such as ...toml, too
    if "{name}" in pattern and re.search(r"[{}]", name):
        raise ConfigError(
            f"run_dir is {pattern!r}, and the name of {config.file} has braces; rename the file, or {OTHER}"
        )
    values: Mapping[str, str] = {
        "name": name,
        "n": _NUMBER,
        "date": datetime.now().astimezone().strftime("%Y-%m-%d"),
        "seed": str(config.fit.get("seed")),
    }
    return _FIELD.sub(lambda field: values[field[1]], pattern)


def _parts(path: str) -> tuple[Path, str, Path]:
    """Return the folder of the numbered one, its name, and the path in it."""
    parts = Path(path).parts
    index = next(index for index, part in enumerate(parts) if _NUMBER in part)
    return Path(*parts[:index]), parts[index], Path(*parts[index + 1 :])


def _numbered(name: str, number: int) -> str:
    return name.replace(_NUMBER, str(number))


def _claimed(folder: Path, name: str) -> str:
    """Make the folder of the next free number, and return its name."""
    root = absolute(folder)
    check_run_folder(root, str(folder))
    number = failures = 0
    while True:
        try:
            root.mkdir(parents=True, exist_ok=True)
            number = number + 1 if number else _next(folder, name)
            (root / _numbered(name, number)).mkdir()
        except FileExistsError:  # of a run that has started since
            if not root.is_dir():
                raise
        except FileNotFoundError:  # another run, which failed to start, has just removed the empty folder
            failures += 1
            if failures > _MOST_FAILURES:
                raise
        else:
            return _numbered(name, number)


def _next(folder: Path, name: str) -> int:
    """Return 1 more than the largest number there."""
    first, *rest = map(re.escape, name.split(_NUMBER))
    pattern = re.compile(f"{first}{_DIGITS}{'(?P=n)'.join(rest)}")
    try:
        found = [pattern.fullmatch(each) for each in os.listdir(absolute(folder))]
    except FileNotFoundError:
        return 1
    return 1 + max((int(match["n"]) for match in found if match), default=0)
