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
    ("accumulate", "steps", r"accumulate takes steps >= 1 \(loader batches for one update\), not "),
    ("finite_guard", "max_consecutive", r"finite_guard takes max_consecutive >= 1 \(updates\), not "),
    ("amp", "growth_interval", r"amp takes a growth_interval >= 1 \(updates\), not "),
    ("microbatch", "size", "microbatch takes either chunks >= 1 or size >= 1, not {"),
    ("microbatch", "chunks", "microbatch takes either chunks >= 1 or size >= 1, not {"),
]


@pytest.mark.parametrize("value", NO_COUNTS)
@pytest.mark.parametrize(("step", "name", "message"), COUNTS)
def test_what_is_counted_takes_whole_numbers(step: str, name: str, message: str, value: Any) -> None:
    with pytest.raises(ParamsError, match=f"^({message}|step {step!r}: {name} is )"):
        build((step, {name: value}))


NUMBERS = [
    ("clip_grad_norm", {}, "max_norm", "clip_grad_norm takes max_norm > 0, not "),
    ("clip_grad_norm", {"max_norm": 1}, "norm_type", "clip_grad_norm takes norm_type > 0 or inf, not "),
    ("clip_grad_value", {}, "clip_value", "clip_grad_value takes clip_value > 0, not "),
    ("ema", {}, "decay", "ema takes 0 <= decay < 1, not "),
    ("sam", {}, "rho", "sam takes rho > 0, not "),
    ("amp", {}, "init_scale", "amp takes finite numbers with init_scale > 0 and growth_factor > 1 > "),
    ("amp", {}, "growth_factor", "amp takes finite numbers with init_scale > 0 and growth_factor > 1 > "),
    ("amp", {}, "backoff_factor", "amp takes finite numbers with init_scale > 0 and growth_factor > 1 > "),
]


@pytest.mark.parametrize("value", [*NO_NUMBERS, -1.0, -math.inf])
@pytest.mark.parametrize(("step", "others", "name", "message"), NUMBERS)
def test_what_is_measured_takes_numbers(step: str, others: Any, name: str, message: str, value: Any) -> None:
    with pytest.raises(ParamsError, match=f"^({message}|step {step!r}: {name} is )"):
        build((step, {**others, name: value}))


@pytest.mark.parametrize("name", ["init_scale", "growth_factor"])
def test_a_scale_is_finite(name: str) -> None:
    with pytest.raises(ParamsError, match="amp takes finite numbers"):
        build(("amp", {name: math.inf}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fullgraph": "yes"}, "compile takes True or False for fullgraph, not 'yes'"),
        ({"disable": 2}, "compile takes True or False for disable, not 2"),
        ({"dynamic": 3}, "compile takes True, False or None for dynamic, not 3"),
        ({"mode": 3}, "compile takes a string or None for mode, not 3"),
        ({"options": 3}, "compile takes a dict or None for options, not 3"),
        ({"backend": 7}, "compile takes the name of a backend, such as 'inductor', not 7"),
        (
            {"mode": "default", "options": {"a": 1}},
            "compile takes either mode or options, since",
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
            r"compile has backend 'indctor', which there is not; did you mean 'inductor'\? \(\d+ known: ",
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
