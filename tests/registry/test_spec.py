"""A spec is a name, or a name with its parameters, and nothing else."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argus_core.errors import SpecError
from argus_core.registry.component import KINDS
from argus_core.registry.spec import Spec, parse_spec, parse_specs

pytestmark = pytest.mark.torchfree

NAMES = st.text(min_size=1)
PARAMS = st.dictionaries(st.text(), st.none() | st.integers() | st.tuples(st.text()))
KIND = st.sampled_from(KINDS)


@st.composite
def written_specs(draw: st.DrawFn) -> tuple[Any, Spec]:
    """A spec in one of the ways to write it, and what it means."""
    name, params = draw(NAMES), draw(PARAMS)
    ways = [name, (name,), [name], (name, {}), [name, {}]]
    meanings = [(way, Spec(name)) for way in ways]
    meanings += [((name, params), Spec(name, params)), ([name, params], Spec(name, params))]
    return draw(st.sampled_from(meanings))


@given(KIND, written_specs())
def test_every_way_to_write_a_spec_means_its_name_and_params(kind: str, written: tuple[Any, Spec]) -> None:
    value, spec = written
    assert parse_spec(kind, value) == spec


@given(KIND, written_specs())
def test_one_spec_is_a_list_of_one(kind: str, written: tuple[Any, Spec]) -> None:
    value, spec = written
    assert parse_specs(kind, value) == [spec]


@given(KIND, st.lists(written_specs()), st.sampled_from([list, tuple]))
def test_several_specs_are_parsed_in_order(
    kind: str, written: list[tuple[Any, Spec]], sequence: type
) -> None:
    assert parse_specs(kind, sequence(value for value, _ in written)) == [spec for _, spec in written]


@given(
    KIND,
    st.none() | st.integers() | st.floats() | st.binary() | PARAMS | st.lists(st.integers()) | st.just(""),
)
def test_anything_else_is_refused_where_it_stands(kind: str, value: Any) -> None:
    with pytest.raises(SpecError, match=rf"^params\['{kind}'\] is .*; give a name or "):
        parse_spec(kind, value)


WRONG = [
    (3, "params['loss'] is 3; "),
    ("", "params['loss'] is ''; "),
    ((), "params['loss'] is (); "),
    (("", {}), "params['loss'] is ('', {}); "),
    (("focal", 3), "params['loss'] is ('focal', 3); "),
    (("focal", {}, {}), "params['loss'] is ('focal', {}, {}); "),
    (("focal", None), "params['loss'] is ('focal', None); "),
    ({"gamma": 2}, "params['loss'] is {'gamma': 2}; "),
    (len, "params['loss'] is <built-in function len>; "),
]


@pytest.mark.parametrize(("value", "start"), WRONG)
def test_a_wrong_shape_is_shown_with_what_is_accepted(value: Any, start: str) -> None:
    rest = "give a name or (name, {params}); the names: argus list loss"
    with pytest.raises(SpecError, match=f"^{re.escape(start + rest)}$"):
        parse_spec("loss", value)


def test_a_table_of_a_configuration_is_shown_as_the_spec_it_stands_for() -> None:
    with pytest.raises(SpecError, match=r"or \(name, \{params\}\), such as \('SGD', \{'lr': 0\.1\}\); "):
        parse_spec("optimizer", {"name": "SGD", "lr": 0.1})


def test_a_long_value_is_shown_short() -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec("loss", list(range(10_000)))
    assert len(str(caught.value)) < 200


def test_the_message_says_where_the_value_stands() -> None:
    with pytest.raises(SpecError, match=r"^loss of \[model\] is 3; "):
        parse_spec("loss", 3, where="loss of [model]")


def test_a_wrong_item_of_a_list_is_named_by_its_position() -> None:
    with pytest.raises(SpecError, match=r"^params\['step'\]\[1\] is \{'steps': 4\}; "):
        parse_specs("step", ["accumulate", {"steps": 4}, "amp"])


def test_a_name_and_a_dict_are_always_one_spec() -> None:
    assert parse_specs("step", ["accumulate", {"steps": 4}]) == [Spec("accumulate", {"steps": 4})]


def test_two_names_are_two_specs() -> None:
    assert parse_specs("step", ("amp", "accumulate")) == [Spec("amp"), Spec("accumulate")]


def test_no_specs_is_an_empty_list() -> None:
    assert parse_specs("step", []) == []


def test_parameters_are_named_by_strings() -> None:
    message = (
        r"params\['loss'\] gives 'focal' a parameter named 3, of type int; parameters are named by strings"
    )
    with pytest.raises(SpecError, match=message):
        parse_spec("loss", ("focal", {3: 4}))


def test_params_are_the_specs_own() -> None:
    params = {"gamma": 2.0}
    spec = parse_spec("loss", ("focal", params))
    params["gamma"] = 3.0
    assert spec.params == {"gamma": 2.0}


def test_tuples_in_params_stay_tuples() -> None:
    assert parse_spec("optimizer", ["Adam", {"betas": (0.9, 0.99)}]).params["betas"] == (0.9, 0.99)
