"""The choice of a model's parts from its class and its params, before they are built."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from argus_core.errors import SpecError, near
from argus_core.registry.arguments import signature_of
from argus_core.registry.factory import call_factory, described, name_of
from argus_core.registry.part import KIND_OF_PART, Part
from argus_core.registry.registry import Component, component_of
from argus_core.registry.spec import Spec, parse_spec, parse_specs
from argus_core.steps.strategy import Strategy
from argus_core.storage.plain_data import check_plain

__all__ = [
    "build_strategies",
    "check_params",
    "choose",
    "choose_steps",
    "given_by_class",
    "split_options",
]

_GROUPING = ("groups", "no_decay", "layer_decay")

Resolve = Callable[[str, str], Component]


def choose(kind: str, part: str, offered: Any, has_value: bool, value: Any, resolve: Resolve) -> Part | None:
    """Return the part that ``params[part]`` chooses, given what the model class offers for it.

    Args:
        kind: the registry's kind.
        part: its name, the key in ``params``, such as ``nn_module`` or ``prediction_transform``.
        offered: the class attribute: ``None`` (any name), a callable (fixed), a dict of callables or
            names (a choice), a name or ``(name, {params})`` (fixed unless ``params`` names another).
        has_value: whether ``params`` has that key.
        value: ``params[part]``; ``None`` omits the part.

    Raises:
        SpecError: ``value`` has the wrong shape for ``offered``.
    """
    if has_value and value is None:
        return None
    where = f"params[{part!r}]"
    if offered is None:
        return _named(kind, parse_spec(kind, value, where), resolve) if has_value else None
    if isinstance(offered, Mapping):
        return _from_choices(kind, where, offered, value, resolve)
    if isinstance(offered, str | tuple | list):
        default = parse_spec(kind, offered, f"class attribute {part}")
        if value is None or isinstance(value, Mapping):
            return _component_part(kind, default.name, {**default.params, **(value or {})}, resolve)
        return _named(kind, parse_spec(kind, value, where), resolve)
    _check_offered(f"class attribute {part}", offered, "a class, a dict of classes or a name")
    if value is not None and not isinstance(value, Mapping):
        raise SpecError(
            f"{where} is {value!r}, but the model class fixes {part} to {name_of(offered)}; "
            "give its parameters as a dict"
        )
    return _fixed_part(kind, name_of(offered), offered, value or {})


def given_by_class(cls: Any, params: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    """Yield the parameters that a model class sets itself where ``params`` do not; see `Source.given`."""
    if "step" not in params:
        yield "step", None
    for part, kind in KIND_OF_PART.items():
        offered, value = getattr(cls, part), params.get(part)
        if isinstance(offered, str | tuple | list) and (value is None or isinstance(value, Mapping)):
            own = parse_spec(kind, offered, f"class attribute {part}").params
            yield from ((kind, name) for name in own if name not in (value or {}))
            if not value:
                yield kind, None


def check_params(params: Any, *, open_ended: bool) -> dict[str, Any]:
    """Return a copy of a model's ``params`` after a check that they are plain data.

    Args:
        params: from the user.
        open_ended: whether other keys are allowed, as in a subclass that reads them.
    """
    if not isinstance(params, Mapping):
        raise SpecError(f"a model takes a dict of params, not {params!r}")
    known = (*KIND_OF_PART, "step", "device", "parallel", "batch_dim", "freeze", "init_from")
    unknown = [key for key in params if key not in known]
    if unknown and not open_ended:
        raise SpecError(
            f"params has {unknown[0]!r}{near(str(unknown[0]), known)}; Model takes {', '.join(known)} "
            "(a subclass may have keys of its own)"
        )
    plain = dict(params)
    check_plain(plain)
    return copy.deepcopy(plain)


def choose_steps(offered: Any, params: Mapping[str, Any], resolve: Resolve) -> list[Part]:
    """Return the step strategies that ``params["step"]`` chooses, or else the class's."""
    value = params.get("step", offered)
    if value is None:
        return []
    where = "params['step']" if "step" in params else "class attribute step"
    return [_named("step", spec, resolve) for spec in parse_specs("step", value, where)]


def build_strategies(parts: Iterable[Part]) -> list[Strategy]:
    """Build the step strategies of ``parts``."""
    strategies = []
    for part in parts:
        assert part.component is not None
        component = part.component
        provider = (
            f"{component.provider} {component.version}" if component.provider else "registered in process"
        )
        instance = call_factory(part.label, part.factory, (), part.params)
        strategies.append(Strategy(component.name, instance, provider))
    return strategies


def _check_offered(what: str, offered: Any, accepted: str) -> None:
    # A module is callable too, but with a batch.
    if not callable(offered) or (not isinstance(offered, type) and hasattr(offered, "state_dict")):
        is_built = hasattr(offered, "state_dict")  # the repr of a network has a line for each layer
        shown = f"an object of class {type(offered).__qualname__}" if is_built else described(offered)
        raise SpecError(f"{what} is {shown}; give {accepted}")


def _from_choices(kind: str, where: str, offered: Mapping[str, Any], value: Any, resolve: Resolve) -> Part:
    choices = {str(name): choice for name, choice in offered.items()}
    known = ", ".join(map(repr, choices)) or "none"
    if value is None or isinstance(value, Mapping):
        raise SpecError(f"{where} must name one of {known}: a name or (name, {{params}}), not {value!r}")
    spec = parse_spec(kind, value, where)
    if spec.name not in choices:
        raise SpecError(
            f"{where} names {spec.name!r}{near(spec.name, choices)}; the model class offers {known}"
        )
    choice = choices[spec.name]
    if isinstance(choice, str):
        return _component_part(kind, choice, spec.params, resolve)
    _check_offered(f"{where}: the model class offers {spec.name!r}, which", choice, "a class or a name")
    return _fixed_part(kind, spec.name, choice, spec.params)


def _named(kind: str, spec: Spec, resolve: Resolve) -> Part:
    return _component_part(kind, spec.name, spec.params, resolve)


def _component_part(kind: str, name: str, params: Mapping[str, Any], resolve: Resolve) -> Part:
    return Part(kind, name, params, resolve(kind, name))


def _fixed_part(kind: str, name: str, factory: Callable[..., Any], params: Mapping[str, Any]) -> Part:
    return Part(kind, name, params, component_of(kind, factory), factory)


def split_options(
    factory: Callable[..., Any], params: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the params that choose parameter groups, and those that the optimizer's factory takes.

    Of the first, ``lr`` is the rate that ``layer_decay`` multiplies.
    """
    signature = signature_of(factory)
    takes = {} if signature is None else signature.parameters
    grouping = {key: params[key] for key in _GROUPING if params.get(key) is not None and key not in takes}
    rest = {key: value for key, value in params.items() if key not in _GROUPING or key in takes}
    if grouping:
        grouping["lr"] = rest.get("lr", takes["lr"].default if "lr" in takes else None)
    return grouping, rest
