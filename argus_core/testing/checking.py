"""Checking a component against the contract of its kind, with the inputs that its author declares."""

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
    "sampler": "SamplerContract",
    "collate": "CollateContract",
    "reader": "ReaderContract",
    "model": "ModelContract",
    "config": "ConfigContract",
    "parallel": "ParallelContract",
}
_ATTRIBUTE = "checked_with"


def check_component(
    kind: str, name: str, params: Mapping[str, Any] | None = None, **checked_with: Any
) -> None:
    """Check that an installed component passes all checks of its kind.

    Args:
        kind: its kind; ``command`` has no checks.
        name: its registered name.
        params: the parameters for its factory; by default those in its attribute ``checked_with``, or none.
        **checked_with: further arguments of the checks of its kind, such as ``input`` or ``batch``; by
            default those in ``checked_with``, or the first standard input that the component accepts.

    Raises:
        AssertionError: a check failed; the message names it, the expected and the actual result, and the fix.
        ParamsError: the checks of its kind do not take one of the arguments.
    """
    if params is not None:
        checked_with["params"] = params
    for contract in contracts_of(kind, name, checked_with):
        contract.check()


def contracts_of(kind: str, name: str, checked_with: Mapping[str, Any] | None = None) -> list[Contract]:
    """Return the contract of a component, once for each of its examples.

    Args:
        kind: its kind.
        name: its registered name.
        checked_with: arguments that override those in the component's attribute ``checked_with``.
    """
    check_kind(kind)
    if kind not in _CONTRACTS:
        raise ParamsError(
            f"components of kind {kind!r} have no checks; the kinds with checks are {', '.join(_CONTRACTS)}"
        )
    register_probes()
    contract = getattr(importlib.import_module(f"argus_core.testing.contracts.{kind}"), _CONTRACTS[kind])
    given = dict(checked_with or {})
    return [_made(contract, name, {**example, **given}) for example in _examples(kind, name)]


def part_results(kind: str, name: str) -> Iterator[Result]:
    """Yield the result of each check of a component with its own examples."""
    if kind not in _CONTRACTS:
        yield Result("keep a contract", "not run", f"there are no checks for components of kind {kind!r}")
        return
    contracts = contracts_of(kind, name)
    for number, contract in enumerate(contracts, 1):
        for result in contract.results():
            title = f"{result.check} (example {number})" if len(contracts) > 1 else result.check
            yield Result(title, result.state, result.why)


def _examples(kind: str, name: str) -> Sequence[Mapping[str, Any]]:
    """Return the examples in the component's ``checked_with``; one empty example if it has none."""
    try:
        component = resolve(kind, name)
        declared = getattr(component.load(), _ATTRIBUTE, None)
    except ArgusError:
        return [{}]  # the first checks of its contract report the error
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
                f"checks of a {contract.kind} do not take {argument!r}{near(str(argument), known)}; "
                f"give {', '.join(known)}"
            )
    made: Contract = contract(name, **arguments)
    return made
