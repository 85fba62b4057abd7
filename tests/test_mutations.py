"""The table of mutations, which `tox run -e mutations` tries, fits the package, the tests and its page."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from mutations.table import MUTATIONS, Mutation

import argus_core

pytestmark = pytest.mark.torchfree

TESTS = Path(__file__).parent
PACKAGE = Path(argus_core.__file__).parent
PAGE = TESTS.parent / "docs/explanation/how-updates-stay-correct.md"
ALL = [mutation for mutations in MUTATIONS.values() for mutation in mutations]


def names_in(file: str) -> set[str]:
    """Return the names of a test file's functions."""
    body = ast.parse((TESTS / file).read_text("utf-8")).body
    return {node.name for node in body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("mutation", ALL, ids=lambda mutation: mutation.rule)
def test_the_old_text_stands_once_in_its_file_and_the_new_text_is_python(mutation: Mutation) -> None:
    source = (PACKAGE / mutation.file).read_text("utf-8")
    assert source.count(mutation.old) == 1, "the code has changed: update tests/mutations/table.py"
    ast.parse(source.replace(mutation.old, mutation.new))


def test_the_guarding_tests_exist() -> None:
    names = {file: names_in(file) for file in {mutation.test.partition("::")[0] for mutation in ALL}}
    guards = [mutation.test.split("::") for mutation in ALL]
    assert [name for file, name in guards if name not in names[file]] == []


def test_no_change_is_tried_twice() -> None:
    assert len({(mutation.file, mutation.old, mutation.new) for mutation in ALL}) == len(ALL)


def test_the_page_shows_every_rule_with_its_test() -> None:
    shown: dict[str, list[tuple[str, str]]] = {}
    for section in PAGE.read_text("utf-8").split("\n## ")[1:]:
        rows = re.findall(r"^\| (.+) \| `([\w/]+\.py::\w+)` \|$", section, re.MULTILINE)
        if rows:
            shown[section.partition("\n")[0]] = rows
    assert shown == {
        heading: [(mutation.rule, mutation.test) for mutation in mutations]
        for heading, mutations in MUTATIONS.items()
    }
