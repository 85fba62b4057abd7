"""optuna's database in the folder of a study: ``study.db``, in SQLite."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy.exc

from argus_core import ArgusError, ConfigError

__all__ = ["UNREADABLE", "connect", "disconnect", "sentences"]

UNREADABLE = (
    ArithmeticError, AssertionError, AttributeError, LookupError, RecursionError, TypeError, ValueError,
)  # fmt: skip
"""Exceptions that optuna raises for data in a study that optuna did not write."""

_OF_DATABASES = (sqlite3.Error, sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError)

# SQL that makes SQLite compute something: generated columns, virtual tables, and functions in a check or a
# default, which may take any memory and time; a comment might hide them.
_COMPUTES = re.compile(
    r"\b(?:as|using)\b|/\*|--|\bdefault\s*\(|\bcheck\s*\((?!\s*\w+\s*=\s*\d+\s*\))", re.IGNORECASE
)

_TABLES = "SELECT name FROM sqlite_master WHERE type = 'table'"
_MOST_ROWS = 1_000_000  # optuna reads all trials at once: that takes minutes, and gigabytes

_BUSY = 60.0  # seconds to wait for another process to write


def connect(
    path: Path, direction: Any = None, pruner: optuna.pruners.BasePruner | None = None
) -> optuna.Study:
    """Return optuna's study in a folder; with a direction it is created if it does not exist.

    Raises:
        ConfigError: the database is not a study.
    """
    file = path / "study.db"
    if direction is None and not file.is_file():
        raise ConfigError(f"{path} contains no study; give the folder of a study, which has a study.db")
    with sentences(path):
        storage = _open(file)
        names = optuna.get_all_study_names(storage)
        if names:
            return optuna.load_study(study_name=names[0], storage=storage, pruner=pruner)
        return optuna.create_study(
            study_name=path.resolve().name, storage=storage, direction=direction, pruner=pruner
        )


def disconnect(study: optuna.Study) -> None:
    """Close the database of a study."""
    storage = study._storage
    backend: Any = getattr(storage, "_backend", storage)  # optuna puts a cache around its storage
    backend.remove_session()
    backend.engine.dispose()


@contextmanager
def sentences(path: Path) -> Iterator[None]:
    """Raise errors of the database in a folder as one sentence."""
    try:
        yield
    except ArgusError:
        raise
    except (
        sqlite3.Error,
        sqlalchemy.exc.SQLAlchemyError,
        optuna.exceptions.StorageInternalError,
        *UNREADABLE,
    ) as error:
        reason = str(error.__cause__ or error).partition("\n")[0]
        raise ConfigError(
            f"{path / 'study.db'} cannot be used as a study: {reason}; fix it, or give another --study-dir"
        ) from error


def _check_plain(file: Path, opened: sqlite3.Connection) -> None:
    """Check that a database has only plain tables: reading a view, or writing to a table, may run its SQL.

    Raises:
        ConfigError: it has views, triggers or other SQL, or too many rows.
    """
    for kind, name, sql in opened.execute("SELECT type, name, sql FROM sqlite_master"):
        text = sql or ""  # an implicit index of a table has no SQL
        is_plain = kind in ("table", "index") and not _COMPUTES.search(text)
        if not is_plain or (kind == "index" and text.count("(") > 1):
            raise ConfigError(
                f"{file} has the {kind} {str(name)[:100]!r}, whose SQL optuna did not write, but would run; "
                "do not trust that file, and give another --study-dir"
            )
    rows = sum(_count(opened, name) for (name,) in [*opened.execute(_TABLES)])
    if rows > _MOST_ROWS:
        raise ConfigError(
            f"{file} has {rows:,} rows, and {_MOST_ROWS:,} is the most that a study may have; "
            "start another study with --study-dir"
        )


def _count(opened: sqlite3.Connection, table: str) -> int:
    quoted = table.replace('"', '""')
    ((count,),) = opened.execute(f'SELECT count(*) FROM "{quoted}"')
    return int(count)


def _open(file: Path) -> optuna.storages.RDBStorage:
    absolute = file.absolute()

    def connection() -> sqlite3.Connection:
        # By path, since a question mark or a percent sign has another meaning in a URL.
        return sqlite3.connect(absolute, timeout=_BUSY, check_same_thread=False)

    if file.is_file():
        with closing(connection()) as opened:
            _check_plain(file, opened)
    try:
        return optuna.storages.RDBStorage("sqlite:///study.db", engine_kwargs={"creator": connection})
    except RuntimeError as error:  # another version of optuna created it
        raise ConfigError(f"{file} cannot be used as a study: {' '.join(str(error).split())}") from error
