"""Contracts: the ordered, named checks of a component; each failure is a sentence with its reason."""

from __future__ import annotations

import inspect
import pickle
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from argus_core.doctor.place import failure
from argus_core.errors import BrokenPluginError
from argus_core.registry.arguments import handed_over
from argus_core.registry.component import Component, Factory
from argus_core.registry.factory import call_factory
from argus_core.registry.registry import resolve
from argus_core.storage.plain_data import check_plain

__all__ = ["FIRST_CHECKS", "Contract", "Result", "expect", "sent_to_workers", "told"]


@dataclass(frozen=True)
class Result:
    """The result of one check.

    Attributes:
        check: the requirement, after "must": ``"copy deeply"``.
        state: ``"passed"``, ``"failed"``, or ``"not run"`` because an earlier, essential check failed.
        why: the expected and the actual result, and the fix; empty unless it failed.
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
"""The first checks of nearly every kind."""


class Contract(ABC):
    """Abstract contract of a kind: a subclass lists its checks, methods that raise if they fail.

    The name of a check continues the sentence "the component must": ``copy_deeply``. A check stores results
    in attributes for the checks after it.

    Args:
        name: the registered name of the component.
        params: the parameters for its factory.
        reload: whether other processes must find the component by its name too.
        **options: further arguments of the checks, which override `options`.
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
        """The name of the component in messages."""
        return f"{self.kind} {self.name!r}"

    @property
    def spec(self) -> tuple[str, dict[str, Any]]:
        """The spec that chooses the component."""
        return self.name, dict(self.params)

    def results(self) -> Iterator[Result]:
        """Run the checks, and yield the result of each."""
        is_lost = False
        for check in self._chosen():
            title = check.replace("_", " ")
            if is_lost:
                yield Result(title, "not run")
                continue
            try:
                getattr(self, check)()
            except (Exception, SystemExit) as error:  # it may raise anything
                yield Result(title, "failed", told(error))
                is_lost = check in self.essential
            else:
                yield Result(title, "passed")

    def check(self) -> None:
        """Run every check.

        Raises:
            AssertionError: a check failed; the message names it and the reason.
        """
        for check in self._chosen():
            try:
                getattr(self, check)()
            except (Exception, SystemExit) as error:
                title = check.replace("_", " ")
                raise AssertionError(f"{self.label} must {title}: {told(error)}") from error

    # Checks of all kinds.

    def be_found_by_name(self) -> None:
        self.component = resolve(self.kind, self.name)
        expect(
            not self.reload or self.component.provider is not None,
            f"it is registered only in this process, so no other process finds it; declare it as an entry "
            f'point of the group "argus_core.{self.kind}" and install the package, or pass reload=False to '
            "skip the checks in other processes",
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
            f"its docstring does not describe {', '.join(map(repr, missing))}; write "
            f"'{missing[0]}: ...' below 'Args:' in it"
            if missing
            else "",
        )

    def take_plain_data(self) -> None:
        check_plain(self.params)

    @abstractmethod
    def be_built(self) -> None:
        """Build the component."""

    # Methods that checks use.

    def make(self, *args: Any) -> Any:
        """Build and return the component."""
        return call_factory(self.label, self.factory, args, self.params)

    def _chosen(self) -> tuple[str, ...]:
        """Return the checks to run; without ``reload``, those that need no other process."""
        return tuple(check for check in self.checks if self.reload or not check.endswith("fresh_process"))

    def _parameters(self) -> list[str]:
        try:
            parameters = list(inspect.signature(self.factory).parameters.values())
        except (TypeError, ValueError):  # compiled code may have no signature
            return []
        named = [each for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
        return [each.name for each in named[handed_over(self.kind, self.factory) :]]

    def _documentation(self) -> str:
        described: list[object] = [self.factory, *getattr(self.factory, "__mro__", ())[:-1]]
        described += [vars(each).get("__init__") for each in getattr(self.factory, "__mro__", ())[:-1]]
        return "\n".join(text for each in described if each and (text := getattr(each, "__doc__", None)))


def expect(holds: bool, message: str | Callable[[], str]) -> None:
    """Raise AssertionError with ``message`` unless ``holds``.

    Not a plain ``assert``, because pytest would print the expression below the message.
    """
    if not holds:
        raise AssertionError(message if isinstance(message, str) else message())


def sent_to_workers(part: Any, action: str) -> Any:
    """Return a part as the worker processes of a loader receive it; ``action`` makes that possible."""
    try:
        return pickle.loads(pickle.dumps(part))
    except Exception as error:
        raise AssertionError(
            f"it cannot be sent to the worker processes of a loader ({error}); {action}"
        ) from error


def told(error: BaseException) -> str:
    """Return the description of an exception on one line."""
    text = " ".join(str(error).split())
    return text if isinstance(error, AssertionError) and text else f"it raised {type(error).__name__}: {text}"
