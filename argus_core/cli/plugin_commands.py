"""Sub-commands of plugins: components of kind ``command``; the factory of each is a click command."""

from __future__ import annotations

from collections.abc import Sequence

import click

from argus_core.errors import ArgusError, BrokenPluginError, UnknownNameError, near
from argus_core.registry.registry import active, names, resolve
from argus_core.registry.requirements import PUBLISHED, pip_install
from argus_core.text import one_line

__all__ = ["described", "load", "unknown"]


def described(built_in: Sequence[str]) -> list[tuple[str, str]]:
    """Return each command of a plugin with its package, read from metadata.

    A command with the name of a built-in command has its qualified name here.
    """
    try:
        found = {name: resolve("command", name) for name in names("command")}
    except ArgusError as error:  # such as unreadable pins: the rest of the help is printed
        return [("(unreadable)", one_line(str(error)))]
    return [
        (one_line(each.qualified_name if name in built_in else name), f"from {each.origin}")
        for name, each in found.items()
    ]


def load(name: str) -> click.Command:
    """Return the command of that name.

    Raises:
        BrokenPluginError: it cannot be imported, or is not a click command.
        ArgusError: the name is ambiguous, blocked or unknown.
    """
    component = resolve("command", name)
    command = component.load()
    if not isinstance(command, click.Command):
        raise BrokenPluginError(
            f"command {name!r} of {component.origin} is {component.target!r}, a "
            f"{type(command).__name__}; it must be a click.Command; ask its author to decorate it with "
            "@click.command"
        )
    return command


def unknown(name: str, built_in: Sequence[str]) -> str:
    """Return the message for an unknown command, with near names; "" if a plugin provides it.

    Raises:
        ArgusError: the name is ambiguous, blocked or removed, or its package does not have it.
    """
    try:
        resolve("command", name)
    except UnknownNameError:
        removed = any(("command", name) == (each.kind, each.name) for each in active().index.removals)
        if removed or "/" in name:
            raise
    else:
        return ""
    if ("command", name) in PUBLISHED:
        return f"no command {name!r}; {pip_install([PUBLISHED['command', name]])}"
    known = [*built_in, *names("command")]
    hint = near(name, known) or f"; the commands are {', '.join(known)}"
    return f"no command {name!r}{hint}"
