"""Sharpness-aware minimisation against its formula by hand, alone and with other strategies."""

from __future__ import annotations

import copy
from typing import Any

import hand_written
import pytest
import torch
from networks import Batch, batches
from strategies import CLIP, CUT, build, same_weights, weights
from torch import Tensor, nn

import argus_core
from argus_core import Model, ParamsError
from argus_core.steps.sam import SAM

pytestmark = pytest.mark.usefixtures("strategies_registry")

SIZES = (7, 3, 8, 1, 5)
RHO = 0.5
COMPOSITIONS: list[Any] = [[], CUT[:1], CUT[1:], [CLIP], [*CUT, CLIP]]


def fit_by_hand(
    model: Model, data: list[Batch], adaptive: bool = False, max_norm: float | None = None
) -> None:
    """Train as the papers' formulas say: g(w + rho * T^2 g / ||T g||), where T is 1, or |w|."""
    for input, target in data:
        before = [parameter.detach().clone() for parameter in model.nn_module.parameters()]
        sizes = [value.abs() if adaptive else torch.ones_like(value) for value in before]
        first = gradients(model, input, target)
        slopes = [size * gradient for size, gradient in zip(sizes, first, strict=True)]
        norm = torch.cat([slope.flatten() for slope in slopes]).norm()
        with torch.no_grad():
            for parameter, slope, size in zip(model.nn_module.parameters(), slopes, sizes, strict=True):
                parameter += RHO * size * slope / norm
        gradients(model, input, target)
        with torch.no_grad():
            for parameter, value in zip(model.nn_module.parameters(), before, strict=True):
                parameter.copy_(value)
        if max_norm is not None:
            nn.utils.clip_grad_norm_(model.nn_module.parameters(), max_norm)
        model.optimizer.step()


def gradients(model: Model, input: Tensor, target: Tensor) -> list[Tensor]:
    model.optimizer.zero_grad()
    model.loss(model.nn_module(input), target).backward()
    return [parameter.grad.clone() for parameter in model.nn_module.parameters()]


@pytest.mark.parametrize("rho", [0, -0.1, float("nan"), float("inf")])
def test_rho_is_positive(rho: float) -> None:
    with pytest.raises(ParamsError, match="step 'sam': rho is .*; give a number above 0"):
        SAM(rho)


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("steps", COMPOSITIONS)
def test_it_equals_its_formula_by_hand(steps: list[Any], adaptive: bool) -> None:
    model, data = build(("sam", {"rho": RHO, "adaptive": adaptive}), *steps), batches(SIZES)
    twin = copy.deepcopy(model)
    model.fit(data, num_epochs=2)
    whole = hand_written.windows(data, 2 if CUT[0] in steps else 1) * 2
    fit_by_hand(twin, whole, adaptive, 0.3 if CLIP in steps else None)
    assert same_weights(model, twin, 1e-6)


def test_it_moves_the_weights_elsewhere_than_plain_gradients_do() -> None:
    model, plain = build(("sam", {"rho": RHO})), build()
    for each in (model, plain):
        each.fit(batches(SIZES))
    assert not same_weights(model, plain, 1e-3)


def test_the_output_is_that_of_the_first_gradients() -> None:
    model, batch = build("sam"), batches()[0]
    before = model.val_step(batch)
    output = model.train_step(batch)
    assert output["loss"] == before["loss"]
    assert torch.equal(output["prediction"], before["prediction"])


def test_a_vetoed_update_leaves_every_bit_of_the_weights() -> None:
    # From so far away no way back by adding and taking away ends at the same bits.
    model = build(("sam", {"rho": 100.0}), ("veto", {"updates": [0]}))
    start = weights(model)
    model.train_step(batches()[0])
    assert torch.equal(weights(model), start)


def test_a_gradient_of_zeros_moves_nothing_and_is_no_nan() -> None:
    model = build("sam", loss="MSELoss")
    nn.init.zeros_(model.nn_module.out.weight)
    nn.init.zeros_(model.nn_module.out.bias)
    start = weights(model)
    model.train_step((torch.ones(3, 4), torch.zeros(3, 3)))
    assert torch.equal(weights(model), start)


def test_running_statistics_see_the_first_pass_only() -> None:
    argus_core.register("nn_module", "normed", lambda: nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)))
    model, plain = build(("sam", {"rho": RHO}), nn_module="normed"), build(nn_module="normed")
    for each in (model, plain):
        each.train_step(batches()[0])
    ours, theirs = model.nn_module[1], plain.nn_module[1]
    assert ours.num_batches_tracked == 1
    assert torch.equal(ours.running_mean, theirs.running_mean)
    assert torch.equal(ours.running_var, theirs.running_var)


def test_an_error_in_the_second_pass_puts_the_weights_back() -> None:
    class Fragile(nn.Linear):
        calls = 0

        def forward(self, input: Tensor) -> Tensor:
            self.calls += 1
            if self.calls == 2:
                raise RuntimeError("the second pass failed")
            return super().forward(input)

    argus_core.register("nn_module", "fragile", lambda: Fragile(4, 3))
    model = build("sam", nn_module="fragile")
    start = weights(model)
    with pytest.raises(RuntimeError, match="the second pass failed"):
        model.train_step(batches()[0])
    assert torch.equal(weights(model), start)


def test_adaptive_is_yes_or_no() -> None:
    with pytest.raises(ParamsError, match="step 'sam': adaptive is 'no'; give True or False"):
        SAM(adaptive="no")  # type: ignore[arg-type]
