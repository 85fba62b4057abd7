"""Patterns of names: what each star stands for, as a regular expression would say, in little time."""

from __future__ import annotations

import re

import pytest

from argus_core.model.prefixes import starred


@pytest.mark.parametrize("name", ["", "a", "ab", "a.b.c", "aab.aab.c", "b.a.b.a", "aaaa"])
@pytest.mark.parametrize(
    "pattern", ["*", "a*", "*a", "*a*", "**", "*.*", "*.a*b*", "a*a", "*aa*a*", "a.b.c", "*b.*b.*"]
)
def test_stars_stand_for_what_a_greedy_expression_takes(pattern: str, name: str) -> None:
    found = re.fullmatch("(.*)".join(map(re.escape, pattern.split("*"))), name)
    assert starred(pattern, name) == (None if found is None else [*found.groups()])


def test_a_pattern_of_many_stars_takes_no_time() -> None:
    assert starred("*a" * 400 + "*b", "a" * 1000) is None
