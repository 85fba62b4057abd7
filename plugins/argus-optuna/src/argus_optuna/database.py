"""optuna's own part of a study's folder: ``study.db``, a database of SQLite."""

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
"""What optuna raises where a study holds what optuna does not write."""

_OF_DATABASES = (sqlite3.Error, sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError)

# What has SQLite compute something: generated columns and virtual tables; a check or a default that calls
# functions, which take any memory and time, or hides that in a comment.
_COMPUTES = re.compile(
    r"\b(?:as|using)\b|/\*|--|\bdefault\s*\(|\bcheck\s*\((?!\s*\w+\s*=\s*\d+\s*\))", re.IGNORECASE
)

_TABLES = "SELECT name FROM sqlite_master WHERE type = 'table'"
_MOST_ROWS = 1_000_000  # optuna reads all trials at once: that takes minutes, and gigabytes

_BUSY = 60.0  # seconds to wait for another process to write


def connect(
    path: Path, direction: Any = None, pruner: optuna.pruners.BasePruner | None = None
) -> optuna.Study:
    """Return optuna's study in a folder; with a direction it is made if it is not there.

    Raises:
        ConfigError: what is there is no study.
    """
    file = path / "study.db"
    if direction is None and not file.is_file():
        raise ConfigError(f"{path} holds no study; give the folder of one, which has a study.db")
    with sentences(path):
        storage = _open(file)
        names = optuna.get_all_study_names(storage)
        if names:
            return optuna.load_study(study_name=names[0], storage=storage, pruner=pruner)
        return optuna.create_study(
            study_name=path.resolve().name, storage=storage, direction=direction, pruner=pruner
        )


def disconnect(study: optuna.Study) -> None:
    """Let go of the database of a study."""
    storage = study._storage
    backend: Any = getattr(storage, "_backend", storage)  # optuna puts a cache around its storage
    backend.remove_session()
    backend.engine.dispose()


@contextmanager
def sentences(path: Path) -> Iterator[None]:
    """Turn what the database in a folder says into a sentence."""
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
            f"{path / 'study.db'} cannot be used as a study: {reason}; mend that, or give another --study-dir"
        ) from error


def _check_plain(file: Path, opened: sqlite3.Connection) -> None:
    """Check that a database has plain tables alone: reading a view, or writing to a table, may run its SQL.

    Raises:
        ConfigError: it has something else, or too many rows.
    """
    for kind, name, sql in opened.execute("SELECT type, name, sql FROM sqlite_master"):
        text = sql or ""  # an index that a table implies has none
        is_plain = kind in ("table", "index") and not _COMPUTES.search(text)
        if not is_plain or (kind == "index" and text.count("(") > 1):
            raise ConfigError(
                f"{file} has the {kind} {str(name)[:100]!r}, whose SQL optuna does not write and would run; "
                "do not trust that file, and give another --study-dir"
            )
    rows = sum(_count(opened, name) for (name,) in [*opened.execute(_TABLES)])
    if rows > _MOST_ROWS:
        raise ConfigError(
            f"{file} has {rows:,} rows, and {_MOST_ROWS:,} is the most that a study may have; "
            "begin another with --study-dir"
        )


def _count(opened: sqlite3.Connection, table: str) -> int:
    quoted = table.replace('"', '""')
    ((count,),) = opened.execute(f'SELECT count(*) FROM "{quoted}"')
    return int(count)


def _open(file: Path) -> optuna.storages.RDBStorage:
    absolute = file.absolute()

    def connection() -> sqlite3.Connection:
        # By path: in a URL, a question mark or a percent sign in it would mean something else.
        return sqlite3.connect(absolute, timeout=_BUSY, check_same_thread=False)

    if file.is_file():
        with closing(connection()) as opened:
            _check_plain(file, opened)
    try:
        return optuna.storages.RDBStorage("sqlite:///study.db", engine_kwargs={"creator": connection})
    except RuntimeError as error:  # another version of optuna has made it
        raise ConfigError(f"{file} cannot be used as a study: {' '.join(str(error).split())}") from error
