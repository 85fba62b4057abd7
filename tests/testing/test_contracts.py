"""Every built-in part keeps the contract of its kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import argus_core
from argus_core.errors import ParamsError
from argus_core.registry.component import BUILTIN, KINDS
from argus_core.registry.registry import components
from argus_core.testing import check_component
from argus_core.testing.builtin import EXAMPLES
from argus_core.testing.checking import contracts_of, part_results

# Each plugin checks its own, by the fixture argus_component.
PARTS = [each for each in components() if each.provider == BUILTIN and each.kind != "model"]
CHECKED = (
    "nn_module",
    "loss",
    "optimizer",
    "transform",
    "step",
    "metric",
    "callback",
    "lr_scheduler",
    "dataset",
    "sampler",
    "collate",
    "reader",
    "config",
    "parallel",
)


def _id(component: argus_core.Component) -> str:
    return f"{component.kind}-{component.name}"


@pytest.mark.parametrize("component", PARTS, ids=_id)
def test_built_in_part_keeps_the_contract_of_its_kind(component: argus_core.Component) -> None:
    # tests/steps/test_composition_matrix.py has all combinations of step strategies.
    options: dict[str, Any] = {"size": 0} if component.kind == "step" else {}
    check_component(component.kind, component.qualified_name, **options)


def test_every_kind_with_parts_has_a_contract() -> None:
    assert {component.kind for component in PARTS} <= set(CHECKED) < set(KINDS)


@pytest.mark.parametrize("kind", CHECKED)
def test_every_contract_looks_a_part_up_and_uses_it_in_a_fresh_process(kind: str) -> None:
    (contract, *_) = contracts_of(kind, "whatever")
    assert contract.checks[:3] == ("be_found_by_name", "be_imported", "document_its_parameters")
    assert contract.checks[-1].endswith("fresh_process")
    assert {"copy_deeply", "be_built"} & set(contract.checks)
    assert all(callable(getattr(contract, check)) for check in contract.checks)


def test_examples_are_of_parts_that_there_are() -> None:
    known = {(each.kind, each.name) for each in PARTS}
    assert set(EXAMPLES) <= known


def test_command_has_no_contract() -> None:
    with pytest.raises(
        ParamsError, match="'command' have no checks; the kinds with checks are nn_module, loss, .*"
    ):
        check_component("command", "sweep")


def test_unknown_kind_is_told_with_near_names() -> None:
    with pytest.raises(argus_core.UnknownNameError, match="no kind 'nn_modul'; did you mean 'nn_module'"):
        check_component("nn_modul", "net")


def test_unknown_argument_is_told_with_near_names() -> None:
    with pytest.raises(
        ParamsError, match="checks of a loss do not take 'bach'; did you mean 'batch'.* separable"
    ):
        check_component("loss", "MSELoss", bach=None)


def test_unknown_part_is_told_with_near_names() -> None:
    with pytest.raises(
        AssertionError, match=r"loss 'MSELos' must be found by name: .* did you mean 'MSELoss'"
    ):
        check_component("loss", "MSELos")


def test_checks_leave_threads_random_numbers_and_the_folder_alone() -> None:
    import random

    import torch

    before = torch.get_num_threads(), torch.get_rng_state(), random.getstate(), Path.cwd()
    check_component("callback", "checkpoint")
    check_component("transform", "Identity")
    assert torch.equal(torch.get_rng_state(), before[1])
    assert (torch.get_num_threads(), random.getstate(), Path.cwd()) == (before[0], before[2], before[3])


def test_parts_of_a_kind_without_contract_are_not_failures() -> None:
    (result,) = part_results("command", "sweep")
    assert (result.state, result.why) == ("not run", "there are no checks for components of kind 'command'")
