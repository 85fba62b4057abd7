"""Checking parts: the contract of a part's kind, with what its author says that it takes."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from argus_core.errors import ArgusError, ParamsError, near
from argus_core.registry.component import BUILTIN, check_kind
from argus_core.registry.registry import resolve
from argus_core.testing.contract import Contract, Result
from argus_core.testing.probe import register_probes

__all__ = ["check_component", "contracts_of", "part_results"]

_CONTRACTS = {
    "nn_module": "NetworkContract",
    "loss": "LossContract",
    "optimizer": "OptimizerContract",
    "transform": "TransformContract",
    "step": "StepContract",
    "metric": "MetricContract",
    "callback": "CallbackContract",
    "lr_scheduler": "SchedulerContract",
    "dataset": "DatasetContract",
    "model": "ModelContract",
    "config": "ConfigContract",
}
_ATTRIBUTE = "checked_with"


def check_component(
    kind: str, name: str, params: Mapping[str, Any] | None = None, **checked_with: Any
) -> None:
    """Check that an installed part keeps the contract of its kind.

    Args:
        kind: the part's kind; ``parallel`` and ``command`` have no contract.
        name: as it is registered.
        params: what its factory gets; left out, what its attribute ``checked_with`` has, or none.
        **checked_with: what the checks of its kind take besides, such as ``input`` or ``batch``; left out,
            what ``checked_with`` has, or the first of some standard inputs that it takes.

    Raises:
        AssertionError: a check does not hold; says which, what was expected and found, and what to do.
        ParamsError: the checks of its kind do not take an argument.
    """
    if params is not None:
        checked_with["params"] = params
    for contract in contracts_of(kind, name, checked_with):
        contract.check()


def contracts_of(kind: str, name: str, checked_with: Mapping[str, Any] | None = None) -> list[Contract]:
    """Return the contract of a part, once for each of its examples.

    Args:
        kind: its kind.
        name: as it is registered.
        checked_with: arguments that take the place of those in the part's own ``checked_with``.
    """
    check_kind(kind)
    if kind not in _CONTRACTS:
        raise ParamsError(
            f"parts of kind {kind!r} have no contract to check; {', '.join(_CONTRACTS)} have one"
        )
    register_probes()
    contract = getattr(importlib.import_module(f"argus_core.testing.contracts.{kind}"), _CONTRACTS[kind])
    given = dict(checked_with or {})
    return [_made(contract, name, {**example, **given}) for example in _examples(kind, name)]


def part_results(kind: str, name: str) -> Iterator[Result]:
    """Yield what comes of each check of a part with its own examples."""
    if kind not in _CONTRACTS:
        yield Result("keep a contract", "not run", f"there are no checks for parts of kind {kind!r}")
        return
    contracts = contracts_of(kind, name)
    for number, contract in enumerate(contracts, 1):
        for result in contract.results():
            title = f"{result.check} (example {number})" if len(contracts) > 1 else result.check
            yield Result(title, result.state, result.why)


def _examples(kind: str, name: str) -> Sequence[Mapping[str, Any]]:
    """Return what the part's author says that it is to be checked with, at least one empty example."""
    try:
        component = resolve(kind, name)
        declared = getattr(component.load(), _ATTRIBUTE, None)
    except ArgusError:
        return [{}]  # what is wrong with it is the first thing that its contract checks
    if declared is None and component.provider == BUILTIN:
        from argus_core.testing.builtin import EXAMPLES

        declared = EXAMPLES.get((kind, component.name))
    examples = declared if isinstance(declared, list | tuple) else [declared or {}]
    for example in examples:
        if not isinstance(example, Mapping):
            raise ParamsError(
                f"{_ATTRIBUTE} of {kind} {name!r} is {declared!r}; write a dict of arguments of "
                "check_component, or a list of such dicts"
            )
    return examples


def _made(contract: Any, name: str, arguments: Mapping[str, Any]) -> Contract:
    known = ["params", *contract.options, "reload"]
    for argument in arguments:
        if argument not in known:
            raise ParamsError(
                f"a {contract.kind} is not checked with {argument!r}{near(str(argument), known)}; "
                f"give {', '.join(known)}"
            )
    made: Contract = contract(name, **arguments)
    return made
