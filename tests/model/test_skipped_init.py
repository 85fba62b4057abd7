"""Building without initial values: what is left out, and what makes building start again."""

from __future__ import annotations

import random
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from argus_core.model.skipped_init import LeftOut, build_without
from argus_core.tensors.rng import random_state


def left_out_by(build: Any) -> tuple[Any, LeftOut]:
    found = build_without(build)
    assert found is not None
    return found


def test_values_are_left_out_of_what_is_drawn_into_and_nothing_else() -> None:
    module, left_out = left_out_by(lambda: nn.ModuleList([nn.Linear(4, 3), nn.BatchNorm1d(3)]))
    found = {name for name, tensor in module.state_dict().items() if tensor in left_out}
    assert found == {"0.weight", "0.bias"}


def test_what_is_computed_from_a_tensor_without_values_lacks_them_too() -> None:
    (result, table), left_out = left_out_by(lambda: (torch.randn(3).exp() * 2, torch.ones(3)))
    assert (result in left_out, table in left_out) == (True, False)


def test_a_tensor_without_values_is_computed_with_as_zeros() -> None:
    result, _ = left_out_by(lambda: torch.randn(3) + 1)
    assert result.tolist() == [1.0, 1.0, 1.0]


def test_what_an_operator_writes_to_beside_its_result_lacks_values_too() -> None:
    def build() -> torch.Tensor:
        table = torch.zeros(3)
        torch.mul(torch.rand(3), 2, out=table)
        return table

    table, left_out = left_out_by(build)
    assert table in left_out


def test_memory_that_nobody_holds_any_more_counts_for_nothing() -> None:
    _, left_out = left_out_by(lambda: len(torch.randn(3)))
    assert left_out
    assert left_out.lies_within([])


def test_a_tensor_that_is_part_of_its_memory_does_not_overwrite_all_of_it() -> None:
    whole, left_out = left_out_by(lambda: torch.randn(6))
    assert left_out.lies_within([whole])
    assert not left_out.lies_within([whole[:3]])


def test_a_tensor_in_another_order_overwrites_all_of_its_memory() -> None:
    whole, left_out = left_out_by(lambda: torch.randn(2, 3, 4))
    assert left_out.lies_within([whole.permute(2, 0, 1)])


def test_a_tensor_that_repeats_its_memory_does_not_count_as_all_of_it() -> None:
    whole, left_out = left_out_by(lambda: torch.randn(4, 1))
    assert not left_out.lies_within([whole.as_strided((2, 2), (1, 1))])


def test_generators_stay_where_they_were() -> None:
    before = torch.get_rng_state()
    left_out_by(lambda: nn.Linear(4, 3))
    assert torch.equal(before, torch.get_rng_state())


def _uses_all_generators() -> None:
    random.random()
    np.random.rand()
    torch.manual_seed(random.randrange(100))


def test_generators_of_all_kinds_are_put_back_when_building_starts_again() -> None:
    before = random_state()
    assert build_without(_uses_all_generators) is None
    after = random_state()
    assert before["python"]["words"].tolist() == after["python"]["words"].tolist()
    assert before["numpy"]["keys"].tolist() == after["numpy"]["keys"].tolist()
    assert before["numpy"]["rest"] == after["numpy"]["rest"]
    assert torch.equal(before["torch"], after["torch"])


def test_a_constructor_that_fails_is_left_to_fail_as_usual() -> None:
    assert build_without(lambda: nn.Linear(4, -1)) is None


def test_bounds_that_torch_refuses_are_left_to_it() -> None:
    assert build_without(lambda: nn.init.normal_(torch.empty(3), std=-1)) is None


def test_an_interrupt_is_no_reason_to_start_again() -> None:
    def build() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_without(build)


def test_tensors_on_the_meta_device_stay_there() -> None:
    module, _ = left_out_by(lambda: nn.init.trunc_normal_(torch.empty(3, device="meta")))
    assert module.is_meta


@pytest.mark.parametrize("name", ["bernoulli", "dropout", "multinomial", "poisson", "randint", "randperm"])
def test_other_random_numbers_make_building_start_again(name: str) -> None:
    draws = {
        "bernoulli": lambda: torch.bernoulli(torch.ones(3) / 2),
        "dropout": lambda: nn.functional.dropout(torch.ones(3)),
        "multinomial": lambda: torch.multinomial(torch.ones(3), 1),
        "poisson": lambda: torch.poisson(torch.ones(3)),
        "randint": lambda: torch.randint(5, (3,)),
        "randperm": lambda: torch.randperm(3),
    }
    assert build_without(draws[name]) is None


def test_nothing_is_left_out_once_it_is_built() -> None:
    build_without(lambda: nn.Linear(4, 3))
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    assert torch.equal(torch.empty(3).uniform_(), expected)


def test_torchs_compiler_is_not_imported_for_it() -> None:
    code = (
        "import sys, torch; from argus_core.model.skipped_init import build_without\n"
        "assert build_without(lambda: torch.nn.Linear(4, 3)) is not None\n"
        "assert 'torch._dynamo' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
