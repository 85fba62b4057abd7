"""Parameters of strategies that cannot work fail when the model is built, with one sentence."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy
import pytest
import torch
from networks import batches
from strategies import build

from argus_core import BuildError, ParamsError
from argus_core.steps.numbers import is_count, is_number

pytestmark = pytest.mark.usefixtures("strategies_registry")


HUGE = 10**400
NO_COUNTS = [True, 0, -1, 1.0, 2**70, HUGE, math.nan, "2", None, [1]]
NO_NUMBERS = [True, False, math.nan, "1", None, [1.0], HUGE]


@pytest.mark.parametrize("value", [1, 5, sys.maxsize])
def test_counts_are_whole_and_positive(value: int) -> None:
    assert is_count(value)


@pytest.mark.parametrize("value", NO_COUNTS)
def test_what_is_no_count(value: Any) -> None:
    assert not is_count(value)


@pytest.mark.parametrize("value", [0, -1.5, math.inf, numpy.float32(0.5), numpy.float64(1), numpy.int64(2)])
def test_numbers_are_those_of_python_and_numpy(value: Any) -> None:
    assert is_number(value)


@pytest.mark.parametrize("value", [*NO_NUMBERS, numpy.bool_(True), numpy.float32("nan"), torch.ones(()), 1j])
def test_what_is_no_number(value: Any) -> None:
    assert not is_number(value)


COUNTS = [
    ("accumulate", "steps"),
    ("finite_guard", "max_consecutive"),
    ("amp", "growth_interval"),
    ("microbatch", "size"),
    ("microbatch", "chunks"),
]


@pytest.mark.parametrize("value", NO_COUNTS)
@pytest.mark.parametrize(("step", "name"), COUNTS)
def test_what_is_counted_takes_whole_numbers(step: str, name: str, value: Any) -> None:
    with pytest.raises(ParamsError, match=f"^step {step!r}: .*{name} is .*; give "):
        build((step, {name: value}))


NUMBERS = [
    ("clip_grad_norm", {}, "max_norm"),
    ("clip_grad_norm", {"max_norm": 1}, "norm_type"),
    ("clip_grad_value", {}, "clip_value"),
    ("ema", {}, "decay"),
    ("sam", {}, "rho"),
    ("amp", {}, "init_scale"),
    ("amp", {}, "growth_factor"),
    ("amp", {}, "backoff_factor"),
]


@pytest.mark.parametrize("value", [*NO_NUMBERS, -1.0, -math.inf])
@pytest.mark.parametrize(("step", "others", "name"), NUMBERS)
def test_what_is_measured_takes_numbers(step: str, others: Any, name: str, value: Any) -> None:
    with pytest.raises(ParamsError, match=f"^step {step!r}: .*{name}.* (is|are) .*; give "):
        build((step, {**others, name: value}))


@pytest.mark.parametrize("name", ["init_scale", "growth_factor"])
def test_a_scale_is_finite(name: str) -> None:
    with pytest.raises(ParamsError, match="; give finite numbers with"):
        build(("amp", {name: math.inf}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fullgraph": "yes"}, "step 'compile': fullgraph is 'yes'; give True or False"),
        ({"disable": 2}, "disable is 2; give True or False"),
        ({"dynamic": 3}, "dynamic is 3; give True, False or None"),
        ({"mode": 3}, "mode is 3; give a string or None"),
        ({"options": 3}, "options is 3; give a dict or None"),
        ({"backend": 7}, "backend is 7; give a backend's name, such as 'inductor'"),
        (
            {"mode": "default", "options": {"a": 1}},
            "has both mode and options, and a mode is a set of options; give one",
        ),
    ],
)
def test_values_of_options_that_torch_compile_does_not_take(options: Any, message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        build(("compile", options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"backend": "indctor"},
            r"compile has backend 'indctor', which torch does not have; did you mean 'inductor'\? \(\d+ ",
        ),
        ({"mode": "fast"}, r"torch.compile does not take {'mode': 'fast'}: .*; change them$"),
        ({"options": {"nonsense": 1}}, r"torch.compile does not take {'options': .*nonsense.*; change them$"),
    ],
)
def test_names_that_torch_compile_does_not_know_are_refused_before_the_first_update(
    options: Any, message: str
) -> None:
    model = build(("compile", options))
    with pytest.raises(BuildError, match=message):
        model.fit(batches())
