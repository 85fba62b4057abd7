"""Where an entry point leads to is found in the source, and nothing is imported for it."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from argus_core.doctor.definition import find_definition

pytestmark = pytest.mark.torchfree

NETS = """import os

class Outer:
    class Inner: ...

class UNet: ...

net = UNet
late: int = 3
x, y = 1, 2
"""


@pytest.fixture
def defined(fake_distribution: Any) -> Any:
    """Return the file and line of a target in modules that raise when they are imported."""

    def find(target: str, **modules: str) -> str | None:
        sources = {name.replace("__", "."): f"{source}\n1 / 0\n" for name, source in modules.items()}
        folder = fake_distribution(
            "medseg", modules={"medseg": "1 / 0", "medseg.nets": NETS + "1 / 0", **sources}
        )
        place = find_definition(target)
        assert "medseg" not in sys.modules
        return None if place is None else f"{place.path.relative_to(folder).as_posix()}:{place.line}"

    return find


@pytest.mark.parametrize(
    ("attribute", "line"),
    [("UNet", 6), ("Outer", 3), ("Outer.Inner", 4), ("net", 8), ("late", 9), ("y", 10)],
)
def test_a_definition_is_found_in_its_module(defined: Any, attribute: str, line: int) -> None:
    assert defined(f"medseg.nets:{attribute}") == f"medseg/nets/__init__.py:{line}"


@pytest.mark.parametrize(
    ("source", "attribute"),
    [
        ("from medseg.nets import UNet", "UNet"),
        ("from ..nets import UNet as Net", "Net"),
        ("import medseg.nets as n", "n.UNet"),
        ("try:\n    from absent import UNet\nfinally: ...", "UNet"),
        ("if 1:\n    class UNet: ...", "UNet"),
    ],
)
def test_what_a_module_imports_is_found_where_it_imports_it(
    defined: Any, source: str, attribute: str
) -> None:
    line = 1 + source.count("\n    ")
    assert defined(f"medseg.api:{attribute}", medseg__api=source) == f"medseg/api/__init__.py:{line}"


@pytest.mark.parametrize(
    "target",
    [
        "medseg.nets:Absent",
        "medseg.absent:UNet",
        "medseg.absent.more:UNet",
        "absent_of_this_test:UNet",
        "medseg.nets",
        ":UNet",
        "",
        ".medseg:UNet",
        "medseg..nets:UNet",
        "medseg.nets:",
        "builtins:dict",
        "__main__:absent",
    ],
)
def test_what_is_not_in_source_is_not_found(defined: Any, target: str) -> None:
    assert defined(target) is None


@pytest.mark.parametrize("source", ["def", "\0", "(" * 9999, "from .api import *", "from . import A"])
def test_source_that_leads_nowhere_is_no_error(defined: Any, source: str) -> None:
    assert defined("medseg.api:A", medseg__api=source) in (None, "medseg/api/__init__.py:1")


def test_source_that_is_too_large_is_not_parsed(fake_distribution: Any) -> None:
    folder = fake_distribution("medseg", modules={"medseg": "class Focal: ...\n"})
    assert str(find_definition("medseg:Focal")) == f"{folder / 'medseg/__init__.py'}:1"
    (folder / "medseg/__init__.py").write_text("class Focal: ...\n" + "#" * 2**21)
    assert find_definition("medseg:Focal") is None
