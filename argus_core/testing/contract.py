"""What a contract is: named checks of one part, in order, each with a sentence that says why it fails."""

from __future__ import annotations

import inspect
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from argus_core.doctor.place import failure
from argus_core.errors import BrokenPluginError
from argus_core.registry.component import HANDED_OVER, Component, Factory
from argus_core.registry.factory import call_factory
from argus_core.registry.registry import resolve
from argus_core.storage.plain_data import check_plain

__all__ = ["FIRST_CHECKS", "Contract", "Result", "expect", "told"]


@dataclass(frozen=True)
class Result:
    """What came of one check.

    Attributes:
        check: what a part must do: ``"copy deeply"``.
        state: ``"passed"``, ``"failed"``, or ``"not run"`` after a failure that leaves nothing to look at.
        why: what was expected and found, and what to do; empty unless it failed.
    """

    check: str
    state: str
    why: str = ""


FIRST_CHECKS = (
    "be_found_by_name",
    "be_imported",
    "document_its_parameters",
    "take_plain_data",
    "be_built",
)
"""What parts of nearly every kind must do before anything else."""


class Contract(ABC):
    """Abstract contract of a kind: a subclass lists its checks, methods that raise if they do not hold.

    A check's name reads after "must": ``copy_deeply``. What a check finds out it leaves for those after it.

    Args:
        name: as the part is registered.
        params: what its factory gets.
        reload: whether other processes must find the part by its name, too.
        **options: what the checks of its kind take besides, in place of the values in `options`.
    """

    kind: ClassVar[str]
    checks: ClassVar[tuple[str, ...]]
    essential: ClassVar[tuple[str, ...]] = ("be_found_by_name", "be_imported", "be_built")
    options: Mapping[str, Any] = MappingProxyType({})

    def __init__(
        self, name: str, params: Mapping[str, Any] | None = None, *, reload: bool = True, **options: Any
    ) -> None:
        self.name = name
        self.params = dict(params or {})
        self.reload = reload
        self.options = {**self.options, **options}
        self.component: Component
        self.factory: Factory

    @property
    def label(self) -> str:
        """How messages call the part."""
        return f"{self.kind} {self.name!r}"

    @property
    def spec(self) -> tuple[str, dict[str, Any]]:
        """What chooses the part."""
        return self.name, dict(self.params)

    def results(self) -> Iterator[Result]:
        """Make every check that can be made, and yield what came of each."""
        is_lost = False
        for check in self._chosen():
            title = check.replace("_", " ")
            if is_lost:
                yield Result(title, "not run")
                continue
            try:
                getattr(self, check)()
            except (Exception, SystemExit) as error:  # a part may raise anything, and never ends the program
                yield Result(title, "failed", told(error))
                is_lost = check in self.essential
            else:
                yield Result(title, "passed")

    def check(self) -> None:
        """Make every check.

        Raises:
            AssertionError: one does not hold; the message says which and why.
        """
        for check in self._chosen():
            try:
                getattr(self, check)()
            except (Exception, SystemExit) as error:
                title = check.replace("_", " ")
                raise AssertionError(f"{self.label} must {title}: {told(error)}") from error

    # Checks that all kinds have.

    def be_found_by_name(self) -> None:
        self.component = resolve(self.kind, self.name)
        expect(
            not self.reload or self.component.provider is not None,
            f"it is registered in this process alone, where no other finds it; declare it as an entry point "
            f'of the group "argus_core.{self.kind}" and install the package, or give reload=False to check '
            "what needs no other process",
        )

    def be_imported(self) -> None:
        try:
            self.factory = self.component.load()
        except BrokenPluginError as error:
            problem, action = failure(error)
            raise AssertionError(f"{problem}; correct that, or {action}") from error

    def document_its_parameters(self) -> None:
        missing = [
            name for name in self._parameters() if not re.search(rf"\b{name}\b", self._documentation())
        ]
        expect(
            not missing,
            f"its documentation does not say what {', '.join(map(repr, missing))} means; write "
            f"'{missing[0]}: ...' below 'Args:' in its docstring"
            if missing
            else "",
        )

    def take_plain_data(self) -> None:
        check_plain(self.params)

    @abstractmethod
    def be_built(self) -> None:
        """Build the part."""

    # What checks use.

    def make(self, *args: Any) -> Any:
        """Return the part, built once more."""
        return call_factory(self.label, self.factory, args, self.params)

    def _chosen(self) -> tuple[str, ...]:
        """Return the checks to make: without another process, those that need none."""
        return tuple(check for check in self.checks if self.reload or not check.endswith("fresh_process"))

    def _parameters(self) -> list[str]:
        try:
            parameters = list(inspect.signature(self.factory).parameters.values())
        except (TypeError, ValueError):  # compiled code may have no signature
            return []
        named = [each for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
        return [each.name for each in named[HANDED_OVER.get(self.kind, 0) :]]

    def _documentation(self) -> str:
        described: list[object] = [self.factory, *getattr(self.factory, "__mro__", ())[:-1]]
        described += [vars(each).get("__init__") for each in getattr(self.factory, "__mro__", ())[:-1]]
        return "\n".join(text for each in described if each and (text := getattr(each, "__doc__", None)))


def expect(holds: bool, message: str | Callable[[], str]) -> None:
    """Raise AssertionError with ``message`` unless ``holds``.

    Not a plain ``assert``: pytest would write the expression below the sentence.
    """
    if not holds:
        raise AssertionError(message if isinstance(message, str) else message())


def told(error: BaseException) -> str:
    """Return what went wrong on one line."""
    text = " ".join(str(error).split())
    return text if isinstance(error, AssertionError) and text else f"it raised {type(error).__name__}: {text}"
