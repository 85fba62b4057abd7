"""Where an entry point leads to is found in the source, and nothing is imported for it."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from argus_core.doctor.definition import find_definition, find_source

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
    ("source", "target"),
    [
        ("from medseg.nets import UNet", "medseg.api:UNet"),
        ("from ..nets import UNet as Net", "medseg.api:Net"),
        ("from ...medseg.nets import UNet", "medseg.api:UNet"),
        ("from .. import nets", "medseg.api:nets.UNet"),
        ("import medseg.nets", "medseg.api:medseg.nets.UNet"),
        ("import medseg.nets as n", "medseg.api:n.UNet"),
        ("from os import *\nfrom ..nets import *", "medseg.api:UNet"),
        ("try:\n    from absent import UNet\nfinally: ...\nfrom ..nets import UNet", "medseg.api:UNet"),
    ],
)
def test_a_re_export_is_followed(defined: Any, source: str, target: str) -> None:
    assert defined(target, medseg__api=source) == "medseg/nets/__init__.py:6"


def test_what_cannot_be_followed_is_where_it_is_imported(defined: Any) -> None:
    assert defined("medseg.api:UNet", medseg__api="\nfrom compiled import UNet") == "medseg/api/__init__.py:2"


def test_the_last_of_several_definitions_counts(defined: Any) -> None:
    source = "if 1:\n    class A: ...\nelse:\n    class A: ..."
    assert defined("medseg.api:A", medseg__api=source) == "medseg/api/__init__.py:4"


def test_a_fallback_counts_if_there_is_nothing_else(defined: Any) -> None:
    source = "try:\n    import torch\nexcept ImportError:\n    class A: ..."
    assert defined("medseg.api:A", medseg__api=source) == "medseg/api/__init__.py:4"


@pytest.mark.parametrize(
    "target",
    [
        "medseg.nets:Absent",
        "medseg.nets:Outer.Absent",
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


def test_modules_that_import_all_of_each_other_end(defined: Any) -> None:
    star = "from medseg.one import *\nfrom medseg.two import *\nfrom medseg.three import *"
    assert defined("medseg.one:A", medseg__one=star, medseg__two=star, medseg__three=star) is None


def test_a_source_is_found_by_its_module(fake_distribution: Any) -> None:
    folder = fake_distribution("medseg", modules={"medseg.nets": "1 / 0"})
    assert find_source("medseg.nets") == folder / "medseg/nets/__init__.py"
    assert find_source("sys") is None


def test_source_that_is_too_large_is_not_parsed(fake_distribution: Any) -> None:
    folder = fake_distribution("medseg", modules={"medseg": "class Focal: ...\n"})
    assert str(find_definition("medseg:Focal")) == f"{folder / 'medseg/__init__.py'}:1"
    (folder / "medseg/__init__.py").write_text("class Focal: ...\n" + "#" * 2**21)
    assert find_definition("medseg:Focal") is None
