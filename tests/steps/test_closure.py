"""Closures: optimizers that ask for gradients several times get those of the whole window each time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hand_written
import pytest
import torch
from networks import batches
from strategies import CLIP, CUT, Parameters, Veto, build, given, same_weights, weights
from torch import Tensor, nn

from argus_core import ConflictError, StepOutput, hookimpl

pytestmark = pytest.mark.usefixtures("strategies_registry")

SIZES = (7, 3, 8, 1, 5)
COMPOSITIONS: list[Any] = [[], CUT[:1], CUT[1:], [CLIP], [*CUT, CLIP]]
LBFGS: dict[str, Any] = {
    "optimizer": ("LBFGS", {"lr": 0.1, "max_iter": 2}),
    # It divides by differences of gradients: float32 would not do to compare.
    "nn_module": ("smooth", {"dtype": torch.float64}),
}


def double(sizes: tuple[int, ...] = SIZES) -> list[tuple[Tensor, Tensor]]:
    return [(input.double(), target) for input, target in batches(sizes)]


class Count:
    """Counts how often gradients are taken, and lets everything pass."""

    def __init__(self) -> None:
        self.taken = 0

    @hookimpl
    def transform_gradients(self, parameters: Parameters) -> None:
        self.taken += 1


@pytest.mark.parametrize("steps", COMPOSITIONS)
@pytest.mark.parametrize("line_search", [None, "strong_wolfe"])
def test_it_equals_the_loop_by_hand(steps: list[Any], line_search: str | None) -> None:
    params = {**LBFGS, "optimizer": ("LBFGS", {"lr": 0.1, "max_iter": 2, "line_search_fn": line_search})}
    model, twin = (build("closure", *steps, **params) for _ in range(2))  # torch cannot copy an LBFGS
    model.fit(double())

    def closure_over(input: Tensor, target: Tensor) -> Callable[[], Tensor]:
        def closure() -> Tensor:
            twin.optimizer.zero_grad()
            loss: Tensor = twin.loss(twin.nn_module(input), target)
            loss.backward()  # type: ignore[no-untyped-call]
            if CLIP in steps:
                nn.utils.clip_grad_norm_(twin.nn_module.parameters(), 0.3)
            return loss

        return closure

    for input, target in hand_written.windows(double(), 2 if CUT[0] in steps else 1):
        twin.optimizer.step(closure_over(input, target))
    assert same_weights(model, twin, 1e-12)


def test_with_an_optimizer_that_asks_once_it_changes_nothing() -> None:
    model, plain = build("closure", CLIP), build(CLIP)
    for each in (model, plain):
        each.fit(batches(SIZES))
    assert same_weights(model, plain)


def test_no_gradients_are_taken_in_vain() -> None:
    count = Count()
    model = build("closure", given(count), **LBFGS)
    model.fit(double((4,)))
    assert count.taken == model.optimizer.state[next(model.nn_module.parameters())]["func_evals"]


def test_the_output_is_that_of_the_first_gradients() -> None:
    model, batch = build("closure", **LBFGS), double()[0]
    before = model.val_step(batch)
    output = model.train_step(batch)
    assert output["loss"] == before["loss"]
    assert torch.equal(output["prediction"], before["prediction"])


def test_a_vetoed_update_never_reaches_the_optimizer() -> None:
    model = build("closure", given(Veto([0])), **LBFGS)
    start = weights(model)
    output = model.train_step(double()[0])
    assert isinstance(output, StepOutput)
    assert not output.stepped
    assert torch.equal(weights(model), start)
    assert model.optimizer.state == {}


def test_bfloat16_goes_with_it_and_float16_is_refused_with_the_reason() -> None:
    model = build("closure", ("amp", {"dtype": "bfloat16"}))
    start = weights(model)
    model.fit(batches())
    assert not torch.equal(weights(model), start)
    with pytest.raises(
        ConflictError,
        match=r"'closure' does not go with 'amp' \(grad_scaler\): .*GradScaler steps without a closure; "
        "give amp dtype='bfloat16'",
    ):
        build("closure", ("amp", {"dtype": "float16"}))


def test_another_procedure_is_refused() -> None:
    with pytest.raises(
        ConflictError, match="'closure' .* and step strategy 'sam' .* both own the slot 'run_pro"
    ):
        build("closure", "sam")
