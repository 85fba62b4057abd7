"""Patterns of parameter names, with ``*`` for any characters, and the freezing of what they match."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from itertools import chain
from typing import Any

from torch import nn

from argus_core.errors import ParamsError, near
from argus_core.registry.factory import described

__all__ = ["MOST_PATTERNS", "check_matches", "freeze", "is_match", "patterns_of", "sleeping"]

MOST_PATTERNS = 100
"""More than anyone writes; each is compared with the name of each parameter, perhaps of an untrusted file."""

_LONGEST = 1000  # characters of a pattern

_SHOWN = 4


def patterns_of(value: Any) -> list[str] | None:
    """Return a pattern, or a list of them, as a list; ``None`` for any other value, and for none."""
    patterns = [value] if isinstance(value, str) else value
    if not isinstance(patterns, list | tuple) or not 0 < len(patterns) <= MOST_PATTERNS:
        return None
    fits = all(isinstance(each, str) and 0 < len(each) <= _LONGEST for each in patterns)
    return list(patterns) if fits else None


def is_match(name: str, patterns: Iterable[str]) -> bool:
    """Return whether a parameter's name matches one of the patterns."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def check_matches(where: str, patterns: Iterable[str], network: nn.Module, names: Sequence[str]) -> None:
    """Raise for a pattern that matches none of ``names``.

    Args:
        where: the beginning of messages.
        patterns: to check.
        network: its modules are suggested.
        names: of the parameters that may be matched.

    Raises:
        ParamsError: a pattern matches none.
    """
    for pattern in patterns:
        if _matches(pattern, names):
            continue
        if _matches(pattern, [name for name, _ in network.named_parameters()]):
            problem = "only parameters that do not require grad; leave it out, or unfreeze them"
        else:
            modules = [f"{name}.*" for name, _ in network.named_modules() if name]
            top = list(dict.fromkeys(name.split(".")[0] for name in names))
            some = ", ".join(top[:_SHOWN]) + ", ..." * (len(top) > _SHOWN)
            action = near(pattern, [*modules, *names]) or "; argus summary lists the modules"
            problem = f"no parameter; those of the network begin with {some}{action}"
        raise ParamsError(f"{where}: {pattern!r} matches {problem}")


def freeze(network: nn.Module, value: Any, is_spared: Callable[[str], bool]) -> None:
    """Freeze the parameters that patterns match, and put modules that hold no others in evaluation mode.

    Args:
        network: to change in place.
        value: a pattern or a list of them.
        is_spared: returns whether something else freezes a parameter or buffer of a name.

    Raises:
        ParamsError: it is neither, or a pattern matches no parameter.
    """
    patterns = patterns_of(value)
    if patterns is None:
        raise ParamsError(
            f"freeze is {described(value)}; give a pattern of parameter names or a list of them, such as "
            "['backbone.*']"
        )
    named = dict(network.named_parameters())
    check_matches("freeze", patterns, network, [*named])

    def is_frozen(name: str) -> bool:
        return is_match(name, patterns) and not is_spared(name)

    for name, parameter in named.items():
        if is_frozen(name):
            parameter.requires_grad = False  # requires_grad_() refuses lazy ones
    for module in sleeping(network, is_frozen).values():
        module.training = False


def sleeping(network: nn.Module, is_frozen: Callable[[str], bool]) -> dict[str, nn.Module]:
    """Return the modules that hold only frozen parameters and buffers, and those inside them, by name.

    Args:
        network: that has them.
        is_frozen: returns whether a parameter or buffer of a name is frozen.
    """
    found: dict[str, nn.Module] = {}
    for name, module in network.named_modules():
        held = chain(module.named_parameters(prefix=name), module.named_buffers(prefix=name))
        names = [each for each, _ in held]
        if name.rpartition(".")[0] in found or (names and all(map(is_frozen, names))):
            found[name] = module
    return found


def _matches(pattern: str, names: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for name in names)
