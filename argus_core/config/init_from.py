"""The key ``init_from`` of the configuration."""

from __future__ import annotations

from typing import Any

from argus_core.errors import ConfigError, ParamsError
from argus_core.storage.init_from import parse_init_from

__all__ = ["read_init_from"]


def read_init_from(value: Any, where: str) -> dict[str, Any]:
    """Return the table of a value of the configuration, after a check.

    Raises:
        ConfigError: it is not as `parse_init_from` takes it.
    """
    try:
        parse_init_from(value)
    except ParamsError as error:
        raise ConfigError(f"{where}: {error}") from error
    return {"path": value} if isinstance(value, str) else dict(value)


read_init_from.takes = (  # type: ignore[attr-defined]
    "a path, or a table of `path`, `skip`, `rename`, `weights`, `mismatched`"
)
