"""Validating an installed package: the checks of each of its components, in separate processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from argus_core.errors import UnknownNameError
from argus_core.registry.component import Component, check_kind
from argus_core.testing.contract import Result
from argus_core.testing.fresh_process import stream_from_fresh_process
from argus_core.testing.parts import parts_of, wrong_declarations

__all__ = ["PartReport", "validate"]


@dataclass(frozen=True)
class PartReport:
    """The results of a component's checks.

    Attributes:
        kind: its kind.
        name: its short name.
        results: the result of each check, in order.
    """

    kind: str
    name: str
    results: tuple[Result, ...]

    @property
    def holds(self) -> bool:
        """True if no check failed."""
        return all(result.state != "failed" for result in self.results)

    @property
    def is_checked(self) -> bool:
        """True if its kind has checks."""
        return any(result.state != "not run" for result in self.results)

    def record(self) -> dict[str, Any]:
        """Return the report as plain data."""
        return {
            "kind": self.kind,
            "name": self.name,
            "holds": self.holds,
            "checks": [asdict(result) for result in self.results],
        }


def validate(
    distribution: str, kinds: Sequence[str] = (), time_limit: float = 300.0
) -> tuple[str, str, list[str], Iterator[PartReport]]:
    """Return a package's name and version, the faults in its declarations, and reports on its components.

    The reports are an iterator; each component is checked when its report is requested.

    Args:
        distribution: the name of an installed package.
        kinds: the kinds to check; all if empty.
        time_limit: the limit for each component, in seconds.

    Raises:
        UnknownNameError: the package is not installed, or has no components of these kinds.
    """
    for kind in kinds:
        check_kind(kind)
    parts = [part.component for part in parts_of(distribution)]
    provider, version = str(parts[0].provider), str(parts[0].version)
    chosen = [part for part in parts if not kinds or part.kind in kinds]
    if not chosen:
        raise UnknownNameError(
            f"{provider} {version} has no component of kind {' or '.join(kinds)}; leave --kind out, or give "
            f"one of {', '.join(dict.fromkeys(part.kind for part in parts))}"
        )
    problems = wrong_declarations(provider, version)
    return provider, version, problems, (_report(part, time_limit) for part in chosen)


def _report(component: Component, time_limit: float) -> PartReport:
    results: list[Result] = []
    try:
        for result in stream_from_fresh_process(
            "part_results", component.kind, component.qualified_name, time_limit=time_limit
        ):
            results.append(result)
    except AssertionError as error:
        after = f", after the check {results[-1].check!r}" if results else ""
        results.append(Result(f"finish{after}", "failed", str(error)))
    return PartReport(component.kind, component.name, tuple(results))
