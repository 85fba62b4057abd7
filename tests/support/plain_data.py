"""A strategy for plain data that need neither torch nor numpy, and an exact comparison."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

__all__ = ["exactly_equal", "plain_values"]

_ATOMS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=2**63).map(lambda number: -number),
    st.floats(),
    st.text(),
    st.text(alphabet=st.characters(codec=None), max_size=4),
    st.binary(max_size=20),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8).map(Path),
)
_KEY_ATOMS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=4),
    st.sampled_from(["$tuple", "$", ".."]),
)
_KEYS = _KEY_ATOMS | st.tuples(_KEY_ATOMS) | st.tuples(_KEY_ATOMS, st.tuples(_KEY_ATOMS, _KEY_ATOMS))


def plain_values() -> st.SearchStrategy[Any]:
    """Return a strategy for nested plain data."""
    return st.recursive(
        _ATOMS,
        lambda inner: st.one_of(
            st.lists(inner, max_size=4),
            st.lists(inner, max_size=4).map(tuple),
            st.dictionaries(st.text(max_size=4), inner, max_size=4),
            st.dictionaries(_KEYS, inner, max_size=4),
        ),
        max_leaves=20,
    )


def exactly_equal(one: Any, other: Any) -> bool:
    """Return whether two values agree in types, order and the signs of zeros; NaN equals NaN."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return (math.isnan(one) and math.isnan(other)) or (
            one == other and math.copysign(1, one) == math.copysign(1, other)
        )
    if isinstance(one, dict):
        return exactly_equal(list(one.items()), list(other.items()))
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(exactly_equal, one, other))
    return bool(one == other)
