"""Diagnosis: the errors for a name that cannot be resolved, each with the next action.

They are made from the index of installed packages; no plugin is imported.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from argus_core.errors import AmbiguousNameError, ConfigError, ConflictError, UnknownNameError, near
from argus_core.registry.component import KINDS, Component
from argus_core.registry.discovery import Index, Removal
from argus_core.registry.distributions import version_of, versions_of
from argus_core.registry.metadata import is_name, normalised
from argus_core.registry.pins import TABLE, Pins
from argus_core.registry.requirements import LIBRARIES, PUBLISHED, is_own, pip_install, requirement
from argus_core.text import shown

__all__ = [
    "Missing",
    "ambiguous",
    "missing_action",
    "missing_message",
    "naming_missing",
    "some",
    "taken",
    "unknown",
    "unknown_anywhere",
    "wrong_pin",
]

_MOST_TOLD = 20  # items that a message lists
_SUFFIX = r"(?i)\.[a-z]{2,11}[0-9]?$"  # of files; 'resnet50.a1_in1k' has none
_DATA_FILE = r"(?i)\.(csv|tsv|jsonl?|txt|parquet|npy|npz|h5|zip|safetensors|pth?|png|jpe?g)$"

Missing = tuple[str, str, str | None, str]
"""A component that a checkpoint needs and that is missing: kind, qualified name, version or None, reason."""


def unknown(
    kind: str, name: str, index: Index, suggested: Collection[Component], count: int
) -> UnknownNameError:
    """Return the error for a name, short or qualified, that no component of that kind has.

    Args:
        kind: the kind that was asked for.
        name: the name.
        index: what installed packages declare.
        suggested: the components of all kinds that may be meant.
        count: the number of names of that kind.
    """
    before, slash, after = name.partition("/")
    if slash and not (before and after):
        return UnknownNameError(f"no {kind} named {name!r}; write provider/name (argus list {kind})")
    asked, short = (normalised(before), after) if slash else (None, name)
    for removal in index.removals:
        if (removal.kind, removal.name) == (kind, short) and asked in (None, removal.provider):
            return _removed(removal)
    if not slash:
        return _unknown_name(kind, name, suggested, count)
    theirs = [each for each in index.components if each.provider == asked]
    if not theirs:
        return _unknown_provider(kind, name, index.components)
    return _unknown_name(kind, short, theirs, sum(each.kind == kind for each in theirs), theirs[0].origin)


def _unknown_name(
    kind: str, name: str, components: Iterable[Component], count: int, origin: str = ""
) -> UnknownNameError:
    """Return the error for a name that no package declares, or not the one that a qualified name asks for.

    Args:
        kind: the kind that was asked for.
        name: the short name.
        components: the components of all kinds that may be meant.
        count: the number of names of that kind.
        origin: the package of the qualified name; "" for a short name.
    """
    known: dict[str, set[str]] = {}
    providers = set()
    for component in components:
        known.setdefault(component.kind, set()).add(component.name)
        providers.add(component.provider)
    suggested = known.get(kind, ())
    elsewhere = sorted(other for other, of_kind in known.items() if name in of_kind)
    published = None if origin else PUBLISHED.get((kind, name))
    if published and published not in providers:
        hint = f"; {pip_install([published])}"
    elif elsewhere:
        hint = f"; there is {' and '.join(map(_with_article, elsewhere))} of that name"
    else:
        hint = near(name, suggested, 2) or near(_last_part(name), suggested, 2)
    if not hint and not origin and re.search(_DATA_FILE, name):
        return _path(kind, name)
    where = f" in {origin}" if origin else ""
    some = f"{count} known" if count else f"it has no {kind}" if origin else "no installed package has one"
    own = "" if hint or origin else _own(kind)
    return UnknownNameError(f"no {kind} named {name!r}{where}{hint} ({some}: argus list {kind}){own}")


def _own(kind: str) -> str:
    """Return the next action for a name that nothing is close to."""
    more = [plugin for plugin in LIBRARIES.get(kind, ()) if version_of(plugin) is None]
    install = f"install its package{f', perhaps one of these ({pip_install(more)})' * bool(more)}"
    return f"; {install}, or register your own: argus_core.register, in a script or a file for --parts"


def unknown_anywhere(name: str, components: Collection[Component]) -> UnknownNameError:
    """Return the error for a name that no component of any kind has.

    Args:
        name: a short or a qualified name.
        components: all known components.
    """
    if name in KINDS:
        return UnknownNameError(f"{name!r} is a kind; give the name of a component of it (argus list {name})")
    spelled = {each.qualified_name if "/" in name else each.name for each in components}
    hint = near(name, spelled, 2) or near(_last_part(name), spelled, 2)
    provider, slash, _ = name.partition("/")
    if slash and not hint and version_of(provider) is None:
        hint = f"; the package {provider!r} is not installed"
    return UnknownNameError(f"no component named {name!r}{hint} ({len(components)} known: argus list)")


def _unknown_provider(kind: str, name: str, components: Collection[Component]) -> UnknownNameError:
    """Return the error for a qualified name whose package declares no components."""
    provider, _, short = name.partition("/")
    version = version_of(provider)
    if _is_path(name):
        return _path(kind, name)
    if version is not None:
        reason = f"{provider} {version} is installed but declares no components (see: argus list {kind})"
    elif not is_name(provider):
        reason = f"{shown(provider)} cannot be the name of a package; write provider/name (argus list {kind})"
    else:
        # A near name comes first: a stranger may have published a package under the misspelled name.
        meant = [each.qualified_name for each in components if (each.kind, each.name) == (kind, short)]
        others = {each.provider for each in components if each.provider}
        hint = "" if is_own(provider) else near(name, meant, 2) or near(provider, others, 2)
        reason = f"the package {provider!r} is not installed{hint or f'; {pip_install([provider])}'}"
    return UnknownNameError(f"no {kind} named {name!r}: {reason}")


def _path(kind: str, name: str) -> UnknownNameError:
    """Return the error for a path in the place of a name."""
    return UnknownNameError(
        f"no {kind} named {name!r}: it is a path; give the name of {_with_article(kind)} "
        f"(argus list {kind}), and the path as one of its parameters"
    )


def _removed(removal: Removal) -> UnknownNameError:
    """Return the error for a name that its package has removed."""
    return UnknownNameError(
        f"{removal.kind} {removal.name!r} was removed from {removal.provider} {removal.version}; "
        f"use {removal.replacement!r}"
    )


def ambiguous(components: Sequence[Component]) -> AmbiguousNameError:
    """Return the error for a short name that several packages declare."""
    first = components[0]
    origins = " and ".join(some([component.origin for component in components]))
    qualified = " or ".join(repr(component.qualified_name) for component in components[:_MOST_TOLD])
    return AmbiguousNameError(
        f"{first.kind} {first.name!r} is provided by {origins}; write {qualified}, or pin one, "
        f'as in "{first.kind}.{first.name}" = "{first.provider}" under {TABLE} in pyproject.toml'
    )


def wrong_pin(kind: str, name: str, pins: Pins, components: Sequence[Component]) -> ConfigError:
    """Return the error for a pin to a package that does not provide the name."""
    provider = pins.providers[kind, name]
    version = version_of(provider)
    reason = "is not installed" if version is None else f"does not provide it in version {version}"
    others = " or ".join(repr(component.provider) for component in components[:_MOST_TOLD])
    install = f"install {provider} or " if is_name(provider) else ""
    action = f"pin it to {others}" if others else f"{install}remove the pin"
    return ConfigError(
        f"{TABLE} in {pins.path} pins {kind} {name!r} to {provider!r}, which {reason}; {action}"
    )


def taken(kind: str, name: str, holders: Sequence[Component]) -> ConflictError:
    """Return the error for registering a second object under the same name."""
    holder = " and ".join(some([f"{component.target} of {component.origin}" for component in holders]))
    return ConflictError(
        f"{kind} {name!r} is taken by {holder}; choose another name, or replace it here with override=True"
    )


@contextmanager
def naming_missing(providers: Mapping[str, Any]) -> Iterator[None]:
    """Add to an unknown name which packages of a run are not installed.

    Args:
        providers: the packages that the run used, with their versions.

    Raises:
        UnknownNameError: with the command that installs them.
    """
    try:
        yield
    except UnknownNameError as error:
        here = versions_of(providers)
        wanted = [
            requirement(name, version)
            for name, version in providers.items()
            if isinstance(version, str | None) and here[name] is None
        ]
        missing = [each for each in wanted if each]
        if not missing:
            raise
        raise UnknownNameError(
            f"{error}; the run used packages that are not installed: {pip_install(missing)}"
        ) from error


def missing_message(parts: Collection[Missing]) -> str:
    """Return one sentence that lists the missing components, with one command that installs them."""
    listed = some([f"{kind} {name!r} ({why})" for kind, name, _, why in parts])
    return f"not available here: {', '.join(listed)}; {missing_action(parts)}"


def missing_action(parts: Iterable[Missing]) -> str:
    """Return the actions that make the missing components available."""
    requirements: dict[str, str] = {}
    in_process: list[str] = []
    nameless: list[str] = []
    for kind, name, version, _ in parts:
        provider, slash, _ = name.partition("/")
        wanted = requirement(provider, version) if slash else None
        if wanted:
            requirements.setdefault(normalised(provider), wanted)
        else:
            (nameless if slash else in_process).append(f"{kind} {name!r}")
    actions = [pip_install([*requirements.values()])] if requirements else []
    if in_process:
        they = "it" if len(in_process) == 1 else "them"
        what = " and ".join(some(in_process))
        actions.append(f"for {what} import the code that registers {they}, or publish {they} in a plugin")
    if nameless:
        what = " and ".join(some(nameless))
        actions.append(
            f"for {what} ask the author of the file which package to install; the file does not say"
        )
    return "; ".join(actions)


def some(items: Sequence[str]) -> list[str]:
    """Return the first items, and the number of the others."""
    rest = len(items) - _MOST_TOLD
    return [*items] if rest <= 0 else [*items[:_MOST_TOLD], f"{rest:,} more"]


def _is_path(name: str) -> bool:
    """Return whether a name can only be a path, so that no package of its first word is to be installed."""
    return name[0] in "./~" or name.count("/") > 1 or re.search(_SUFFIX, name) is not None


def _with_article(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeio" or kind == "nn_module" else f"a {kind}"


def _last_part(name: str) -> str:
    # 'torch.optim.Adam' is never imported, but 'Adam' is suggested for it.
    return name.replace(":", ".").rpartition(".")[2]
