"""Validating an installed package: the contract of each of its parts, in processes of their own."""

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
    """What came of a part's checks.

    Attributes:
        kind: its kind.
        name: its short name.
        results: of each check, in order.
    """

    kind: str
    name: str
    results: tuple[Result, ...]

    @property
    def holds(self) -> bool:
        """Whether no check failed."""
        return all(result.state != "failed" for result in self.results)

    @property
    def is_checked(self) -> bool:
        """Whether there are checks for its kind."""
        return any(result.state != "not run" for result in self.results)

    def record(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "kind": self.kind,
            "name": self.name,
            "holds": self.holds,
            "checks": [asdict(result) for result in self.results],
        }


def validate(
    distribution: str, kinds: Sequence[str] = (), time_limit: float = 300.0
) -> tuple[str, str, list[str], Iterator[PartReport]]:
    """Return provider, version, what is wrong with its declarations, and the reports on its parts.

    The reports come one by one, as their checks are made.

    Args:
        distribution: the name of an installed package.
        kinds: which parts to check; all if empty.
        time_limit: of each part, in seconds.

    Raises:
        UnknownNameError: it is not installed, or has no such parts.
    """
    for kind in kinds:
        check_kind(kind)
    parts = [part.component for part in parts_of(distribution)]
    provider, version = str(parts[0].provider), str(parts[0].version)
    chosen = [part for part in parts if not kinds or part.kind in kinds]
    if not chosen:
        raise UnknownNameError(
            f"{provider} {version} has no part of kind {' or '.join(kinds)}; leave --kind out, or give one "
            f"of {', '.join(dict.fromkeys(part.kind for part in parts))}"
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
        after = f" after it was found to {results[-1].check}" if results else ""
        results.append(Result(f"come to an end{after}", "failed", str(error)))
    return PartReport(component.kind, component.name, tuple(results))
