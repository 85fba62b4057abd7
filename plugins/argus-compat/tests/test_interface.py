"""Every public name of pytorch-argus 1.1.0 is here, with its arguments and their defaults."""

from __future__ import annotations

import importlib
import inspect
import json
from pathlib import Path
from typing import Any

import pytest

INTERFACE = json.loads((Path(__file__).parent / "golden" / "interface.json").read_text())

# How classes are made and told apart inside of that library; here the registry does both.
INTERNAL = {("argus.model.build", "ModelMeta"), ("argus.model.build", "get_device_indices")}
MEMBERS = [
    (module, name)
    for module, members in INTERFACE.items()
    for name in members
    if (module, name) not in INTERNAL
]
# Left out here, or called something else, to the same effect.
SAME_DEFAULT = {"Identity()": "identity"}


@pytest.mark.parametrize(("module", "name"), MEMBERS)
def test_a_name_takes_the_arguments_that_it_took(module: str, name: str) -> None:
    value = getattr(importlib.import_module(module), name)
    expected = INTERFACE[module][name]
    if isinstance(expected, dict):
        for method, arguments in expected.items():
            check(value if method == "()" else getattr(value, method), arguments, f"{name}.{method}")
    else:
        check(value, expected, name)


def check(value: Any, expected: list[list[str]] | None, what: str) -> None:
    if expected is None:
        return
    ours = [each for each in inspect.signature(value).parameters.values() if each.name != "self"]
    for parameter, (name, kind, _) in zip(ours, expected, strict=False):
        assert parameter.name == name or kind.startswith("VAR"), what
    assert len(ours) >= len(expected), what
    for parameter, (name, kind, default) in zip(ours, expected, strict=False):
        assert parameter.kind.name == kind, f"{what}: {name}"
        if default:
            shown = getattr(parameter.default, "__name__", None) or repr(parameter.default)
            assert shown == SAME_DEFAULT.get(default, default), f"{what}: {name}"
    more = ours[len(expected) :]
    assert all(each.default is not each.empty or each.kind.name.startswith("VAR") for each in more), what


def test_the_version_is_that_of_the_interface() -> None:
    import argus

    assert argus.__version__ == "1.1.0"
