"""The components of one installed package, tested one by one; needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from argus_core.doctor.declarations import misspelled_groups
from argus_core.errors import ConfigError, UnknownNameError
from argus_core.files.toml import parse
from argus_core.registry.component import Component, Factory
from argus_core.registry.distributions import version_of
from argus_core.registry.factory import call_factory
from argus_core.registry.metadata import normalised
from argus_core.registry.registry import active

__all__ = ["ComponentUnderTest", "distribution_of", "parts_of", "wrong_declarations"]


@dataclass(frozen=True)
class ComponentUnderTest:
    """One component of the package under test.

    Attributes:
        component: the component in the registry; it is imported on first use.
    """

    component: Component

    @property
    def kind(self) -> str:
        """Its kind."""
        return self.component.kind

    @property
    def name(self) -> str:
        """Its short name."""
        return self.component.name

    def load(self) -> Factory:
        """Return its factory."""
        return self.component.load()

    def build(self, *args: Any, **params: Any) -> Any:
        """Build and return it, from the arguments that a model passes to its kind, and parameters."""
        return call_factory(f"{self.kind} {self.name!r}", self.load(), args, params)

    def check(self, **checked_with: Any) -> None:
        """Check the contract of its kind; see `argus_core.testing.check_component`."""
        from argus_core.testing.checking import check_component  # imports torch

        check_component(self.kind, self.component.qualified_name, **checked_with)


def parts_of(distribution: str) -> list[ComponentUnderTest]:
    """Return the components that an installed package declares.

    Raises:
        UnknownNameError: the package is not installed, or declares no components.
    """
    name = normalised(distribution)
    version = version_of(name)
    if version is None:
        advice = "install it in this environment"
        if name == "argus-core":  # its import name, which is another distribution's name on the index
            advice = "its distribution is named 'argus-torch'"
        raise UnknownNameError(f"the package {distribution!r} is not installed; {advice}")
    found = [each for each in active().components() if each.provider == name]
    if not found:
        wrong = wrong_declarations(name, version)
        if wrong:
            raise UnknownNameError(
                f"{name} {version} declares no valid components: {', '.join(wrong)}; correct its "
                "pyproject.toml and install it again"
            )
        raise UnknownNameError(
            f"{name} {version} declares no components; declare them as entry points, "
            '[project.entry-points."argus_core.nn_module"], and install it again after each change to them'
        )
    return [ComponentUnderTest(each) for each in found]


def wrong_declarations(provider: str, version: str) -> list[str]:
    """Return the faults in the entry points of a package, given by its normalised name."""
    left_out = [each.reason for each in active().index.problems if each.origin == f"{provider} {version}"]
    return [*left_out, *(f"{each.subject}: {each.problem}" for each in misspelled_groups(provider))]


def distribution_of(file: Path) -> str:
    """Return the name of the package that a file belongs to, from the nearest ``pyproject.toml``.

    Raises:
        ConfigError: no ``pyproject.toml`` above the file has a name.
    """
    for folder in file.resolve().parents:
        pyproject = folder / "pyproject.toml"
        if pyproject.is_file():
            try:
                name = parse(pyproject.read_text("utf-8")).get("project", {}).get("name")
            except ValueError as error:
                raise ConfigError(f"{pyproject} cannot be read: {error}; fix it") from error
            if name:
                return str(name)
    raise ConfigError(
        f"no pyproject.toml above {file} has a [project] with a name; set argus_distribution in the "
        "configuration of pytest"
    )
