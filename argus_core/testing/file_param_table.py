"""The table of the parameters that files may set: every parameter of every component of a package.

A parameter is a plain value, or its factory declares it in ``file_params``. A type of numbers, flags and
tensors shows that a parameter is plain. A person reviews every other parameter and records what it is. So a
new parameter that takes, for example, a string fails the check until it is reviewed.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from argus_core.registry.arguments import handed_over
from argus_core.registry.component import KINDS, Component
from argus_core.registry.file_params import file_params_of
from argus_core.registry.registry import components

__all__ = ["WRITE", "check_file_param_table", "file_param_table"]

WRITE = "ARGUS_WRITE_TABLES"
"""The environment variable that makes `check_file_param_table` write the table instead of comparing it."""

_LEFT_OUT = ("command", "model")  # they have no parameters in files
_IN_CHECKPOINTS = ("nn_module", "loss", "optimizer", "transform", "step")
_PLAIN_WORDS = frozenset(
    "Collection Iterable List None NoneType Number Optional Sequence Size Tensor Tuple Union abc bool "
    "builtins class collections dtype float int list modules nn numbers torch tuple typing".split()
)
_PLAIN_TYPES = (bool, int, float)
_LISTED = re.compile(r"Literal\[[^\]]*\]")
# Names that are reviewed whatever their type is.
_SUSPICIOUS = re.compile(
    "path|url|dir$|dir_|root|cache|download|file|program|command|backend|model|pretrained"
)
_COLUMNS = ("kind", "component", "parameter", "from a checkpoint", "from a configuration", "what it is")
_HEADER = f"| {' | '.join(_COLUMNS)} |\n{'|---' * len(_COLUMNS)}|"


class _Row(NamedTuple):
    """A row of the table: one declared parameter, or several equal plain ones."""

    kind: str
    components: tuple[str, ...]
    parameters: tuple[str, ...]
    checkpoint: str
    configuration: str
    what: str


def check_file_param_table(page: Path, provider: str, reviewed: Mapping[str, str]) -> None:
    """Check that a page has the table of a package between ``<!-- PACKAGE -->`` and ``<!-- end -->``.

    Args:
        page: the Markdown file.
        provider: the installed package with the components.
        reviewed: descriptions, by name, of the parameters that are plain although their type does not show
            it; the name of the component may come first: ``"KLDivLoss.reduction"``.

    Raises:
        AssertionError: a parameter is neither declared nor in ``reviewed``, or the page has another table.
    """
    table = file_param_table(provider, reviewed)
    text = page.read_text("utf-8")
    start, end = f"<!-- {provider} -->\n", "<!-- end -->"
    before, found, rest = text.partition(start)
    assert found, (
        f"{page} has no line {start.strip()!r}; add it where the table belongs, and {end!r} below it"
    )
    old, _, after = rest.partition(end)
    if os.environ.get(WRITE):
        page.write_text(f"{before}{start}{table}\n{end}{after}", "utf-8")
        return
    assert old.strip() == table, (
        f"{page}: the table of {provider} is out of date; run this test with {WRITE}=1"
    )


def file_param_table(provider: str, reviewed: Mapping[str, str]) -> str:
    """Return the table of a package's components as Markdown; see `check_file_param_table`."""
    lines = [_HEADER]
    unknown: list[str] = []
    used: set[str] = set()
    for kind in KINDS:
        found = [each for each in components(kind) if each.provider == provider and kind not in _LEFT_OUT]
        rows = [row for each in found for row in _rows(each, reviewed, unknown, used)]
        lines += [_line(row, len(found)) for row in _merged(rows)]
    assert not unknown, (
        f"these parameters have not been reviewed: {'; '.join(unknown)}; declare each in file_params of its "
        "factory, or describe its plain value in reviewed"
    )
    stale = sorted(reviewed.keys() - used)
    assert not stale, f"no component of {provider} has {', '.join(stale)}; remove it from reviewed"
    return "\n".join(lines)


def _rows(
    component: Component, reviewed: Mapping[str, str], unknown: list[str], used: set[str]
) -> Iterator[_Row]:
    factory = component.load()
    declared = file_params_of(factory)
    parameters = _parameters(component.kind, factory)
    plain: dict[str, list[str]] = {}
    for name in dict.fromkeys([*parameters, *declared]):
        if name in declared:
            rule = declared[name]
            configuration = "anything" if rule.in_configuration else rule.allowed()
            yield _row(component, (name,), rule.allowed(), configuration, rule.does)
            continue
        entry = next((key for key in (f"{component.name}.{name}", name) if key in reviewed), None)
        if entry is not None:
            used.add(entry)
            plain.setdefault(reviewed[entry], []).append(name)
        elif _is_plain(parameters[name]) and not _SUSPICIOUS.search(name):
            plain.setdefault("numbers, flags, tensors, listed words", []).append(name)
        else:
            unknown.append(f"{component.kind} {component.name}: {name} ({parameters[name]})")
    for what, names in plain.items():
        yield _row(component, tuple(names), "anything", "anything", what)


def _row(
    component: Component, names: tuple[str, ...], checkpoint: str, configuration: str, what: str
) -> _Row:
    checkpoint = checkpoint if component.kind in _IN_CHECKPOINTS else "not there"
    return _Row(component.kind, (component.name,), names, checkpoint, configuration, what)


def _parameters(kind: str, factory: Any) -> dict[str, inspect.Parameter]:
    parameters = list(inspect.signature(factory).parameters.values())[handed_over(kind, factory) :]
    return {
        ("**" if each.kind is each.VAR_KEYWORD else "") + each.name: each
        for each in parameters
        if each.kind is not each.VAR_POSITIONAL
    }


def _is_plain(parameter: inspect.Parameter) -> bool:
    if parameter.kind is parameter.VAR_KEYWORD:
        return False
    if parameter.annotation is not parameter.empty:
        return set(re.findall(r"[A-Za-z_]\w*", _LISTED.sub("", str(parameter.annotation)))) <= _PLAIN_WORDS
    default = parameter.default
    values = default if isinstance(default, tuple | list) else [default]
    return len(values) > 0 and all(type(value) in _PLAIN_TYPES for value in values)


def _merged(rows: list[_Row]) -> Iterator[_Row]:
    """Yield rows in which components with equal parameters are merged."""
    by_component: dict[_Row, list[str]] = {}
    for row in rows:
        by_component.setdefault(row._replace(components=()), []).extend(row.components)
    for row, names in by_component.items():
        yield row._replace(components=tuple(names))


def _line(row: _Row, components: int) -> str:
    names = f"all {components}" if 1 < components == len(row.components) else _code(row.components)
    cells = (row.kind, names, _code(row.parameters), row.checkpoint, row.configuration, row.what)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _code(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)
