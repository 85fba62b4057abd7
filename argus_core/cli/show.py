"""``argus show``: show the parameters and the documentation of one component."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any

import click
import tomli_w

from argus_core.cli.examples import examples
from argus_core.cli.list import outline
from argus_core.cli.options import AS_JSON
from argus_core.cli.output import echo, echo_json, echo_text
from argus_core.cli.torch_command import TorchCommand
from argus_core.doctor.place import written_at
from argus_core.doctor.precedence import kinds_of
from argus_core.errors import BrokenPluginError
from argus_core.registry.arguments import handed_over
from argus_core.registry.component import Component
from argus_core.registry.factory import in_a_sentence
from argus_core.registry.registry import resolve
from argus_core.text import one_line

__all__ = ["command"]

# Characters that are shown: of a documentation, and of a default or a type.
_MOST_TEXT = 2**16
_MOST_VALUE = 1000


@click.command(
    "show",
    cls=TorchCommand,
    epilog=examples("argus show AdamW", "argus show step accumulate --json"),
)
@click.argument("names", nargs=-1, required=True, metavar="[KIND] NAME")
@AS_JSON
def command(names: tuple[str, ...], as_json: bool) -> None:
    """Show the parameters and the documentation of a component.

    The command also shows where the component is defined, and the values of a configuration template. KIND is
    needed only if several kinds have the NAME. This component is imported, and no other.
    """
    kind, name = _kind_and_name(names)
    component = resolve(kind, name)
    label = f"{kind} {component.name!r} of {component.origin} cannot be shown"
    action = f"upgrade or reinstall {component.provider}"
    # Output that the package's own code prints is not part of this command's output.
    with redirect_stdout(sys.stderr), in_a_sentence(BrokenPluginError, lambda: label, action):
        factory = component.load()
        parameters = _parameters(factory, handed_over(kind, factory))
        record = _record(component, factory, parameters)
    if kind == "config" and not any(parameter["required"] for parameter in record["parameters"]):
        from argus_core.config import build_template

        record["configuration"] = build_template(component, {})
    if as_json:
        echo_json(record)
        return
    echo(f"{kind} {component.name}  ({component.origin})")
    echo(f"defined in {record['defined'] or 'compiled code'} as {component.target}", "")
    echo_text(f"{component.name}{_signature(parameters)}")
    if record["documentation"]:
        echo_text(f"\n{record['documentation']}")
    if "configuration" in record:
        echo_text(f"\n{tomli_w.dumps(record['configuration'])}")


def _record(
    component: Component, factory: Callable[..., Any], parameters: list[inspect.Parameter]
) -> dict[str, Any]:
    documentation = inspect.getdoc(factory) or ""
    if len(documentation) > _MOST_TEXT:
        documentation = f"{documentation[:_MOST_TEXT]}\n... ({len(documentation):,} characters)"
    return {
        **outline(component),
        "defined": written_at(factory),
        "parameters": [_parameter(parameter) for parameter in parameters],
        "documentation": documentation,
    }


def _kind_and_name(names: tuple[str, ...]) -> tuple[str, str]:
    if len(names) == 2:
        return names[0], names[1]
    if len(names) > 2:
        raise click.UsageError(f"give a NAME, or a KIND and a NAME, not {len(names)} arguments")
    (name,) = names
    kinds = kinds_of(name)
    if len(kinds) > 1:
        choices = " or ".join(f"argus show {kind} {name}" for kind in kinds)
        raise click.UsageError(f"{name!r} is a name of several kinds; choose one: {choices}")
    return kinds[0], name


def _parameters(factory: Callable[..., Any], handed_over: int) -> list[inspect.Parameter]:
    """Return the parameters of a spec, with types and defaults as text; not those that the model passes."""
    try:
        found = list(inspect.signature(factory).parameters.values())[handed_over:]
    except (TypeError, ValueError):  # compiled code may have no signature
        return []
    return [
        each.replace(annotation=_text(each.annotation, _type), default=_text(each.default, repr))
        for each in found
    ]


def _signature(parameters: list[inspect.Parameter]) -> str:
    text = str(inspect.Signature(parameters))
    if len(text) <= 80:
        return text
    return "(\n" + "".join(f"    {parameter},\n" for parameter in parameters) + ")"


def _parameter(parameter: inspect.Parameter) -> dict[str, Any]:
    empty = inspect.Parameter.empty
    return {
        "name": parameter.name,
        "type": None if parameter.annotation is empty else repr(parameter.annotation),
        "required": parameter.default is empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD),
        "default": None if parameter.default is empty else repr(parameter.default),
    }


class _Text(str):
    """A string whose repr has no quotes."""

    __slots__ = ()
    __repr__ = str.__str__


def _text(value: Any, form: Callable[[Any], str]) -> Any:
    """Return ``form(value)`` on one line, cut short; the package's own repr may raise."""
    if value is inspect.Parameter.empty:
        return value
    try:
        text = one_line(form(value))
    except (Exception, SystemExit) as error:
        return _Text(f"<{type(value).__name__}, which cannot be shown: {type(error).__name__}>")
    return _Text(text if len(text) <= _MOST_VALUE else f"{text[:_MOST_VALUE]}... ({len(text):,} characters)")


def _type(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
