"""Whether what a plugin requires is installed, and in a version that will do."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Sequence
from email.parser import HeaderParser

from argus_core.doctor.fault import Fault
from argus_core.registry.diagnosis import quoted
from argus_core.registry.metadata import Metadata, MetadataError, all_metadata, normalised
from argus_core.text import shown

__all__ = ["requirements"]

# On the public index, and nothing to do with this project.
_STRANGER = "argus-core"
_LONGEST = 1000  # characters


def requirements(providers: Iterable[str], path: Sequence[str] | None = None) -> Iterator[Fault]:
    """Yield what the providers of those names require, by their own metadata, and do not find on ``path``."""
    found: dict[str, Metadata] = {}
    for metadata in all_metadata(path):
        found.setdefault(metadata.key, metadata)
    for provider in providers:
        if provider in found:
            yield from _of(found[provider], found)


def _of(metadata: Metadata, found: dict[str, Metadata]) -> Iterator[Fault]:
    try:
        name, version = metadata.header
        headers = HeaderParser().parsestr(metadata.core)
    except MetadataError:
        return  # unreadable, which is told elsewhere
    origin = (f"{name} {version}",)
    for line in [each for each in headers.get_all("Requires-Python") or [] if len(each) <= _LONGEST]:
        yield from _check_python(origin, name, line)
    for line in headers.get_all("Requires-Dist") or []:
        yield from _check(origin, line, found)


def _check_python(origin: tuple[str, ...], name: str, line: str) -> Iterator[Fault]:
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        fits = SpecifierSet(line).contains(platform.python_version(), prereleases=True)
    except (InvalidSpecifier, ValueError):  # ValueError: of a number with thousands of digits
        return
    if not fits:
        problem = f"is not met: this is Python {platform.python_version()}"
        fix = f"install {name} in a version for this Python, or use another Python"
        yield Fault("requirement", origin, f"requirement 'Python {line}'", problem, fix)


def _check(origin: tuple[str, ...], line: str, found: dict[str, Metadata]) -> Iterator[Fault]:
    from packaging.requirements import InvalidRequirement, Requirement

    subject = f"requirement {shown(line)}"
    if len(line) > _LONGEST:
        problem = f"is written wrongly: it has {len(line):,} characters"
        yield Fault("requirement", origin, subject, problem, f"upgrade {origin[0].split()[0]}, or correct it")
        return
    try:
        requirement = Requirement(line)
        needed = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
    except (
        InvalidRequirement,
        LookupError,
        ValueError,
        RecursionError,
    ) as error:  # of a marker
        problem = f"is written wrongly: {str(error).partition(chr(10))[0]}"
        yield Fault("requirement", origin, subject, problem, f"upgrade {origin[0].split()[0]}, or mend it")
        return
    if not needed:
        return
    name = normalised(requirement.name)
    wanted = f"{requirement.name}{requirement.specifier}"
    if name == _STRANGER:
        problem = "asks for a package of somebody else's; argus_core is in 'argus-torch'"
        yield Fault("requirement", origin, subject, problem, "require 'argus-torch' in its pyproject.toml")
        return
    version = _version(found.get(name))
    if version is None:
        yield Fault("requirement", origin, subject, "is not installed", f"pip install {quoted(wanted)}")
    elif not _fits(requirement.specifier, version):
        problem = f"is not met: {name} {version} is installed"
        yield Fault("requirement", origin, subject, problem, f"pip install {quoted(wanted)}")


def _version(metadata: Metadata | None) -> str | None:
    try:
        return None if metadata is None else metadata.header[1]
    except MetadataError:
        return None


def _fits(specifier: object, version: str) -> bool:
    from packaging.specifiers import SpecifierSet
    from packaging.version import InvalidVersion

    assert isinstance(specifier, SpecifierSet)
    try:
        return specifier.contains(version, prereleases=True)
    except (InvalidVersion, ValueError):  # not one that can be compared: nothing can be said
        return True
