"""Any composition of the built-in strategies makes the updates of a loop by hand over whole windows."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import hand_written
import pytest
import torch
from networks import Batch, batches
from strategies import Spec, register_all, weights
from torch import Tensor

import argus_core
from argus_core import Model, State, on_iteration_complete

SIZES = (7, 3, 8, 1, 5)  # unequal, and an odd tail in windows of 2 and of 3
EPOCHS = 2
MAX_NORM = 0.3  # most windows' gradients are longer
STRATEGIES: dict[str, Spec] = {
    "amp": ("amp", {"dtype": "bfloat16"}),
    "accumulate": ("accumulate", {"steps": 2}),
    "microbatch": ("microbatch", {"chunks": 3}),
    "clip_grad_norm": ("clip_grad_norm", {"max_norm": MAX_NORM}),
    "clip_grad_value": ("clip_grad_value", {"clip_value": 0.1}),
}
WITHOUT_AMP = [
    subset
    for length in range(4)
    for subset in itertools.combinations(("accumulate", "microbatch", "clip_grad_norm"), length)
]
CASES = [
    pytest.param(subset, size, id="+".join((*subset, f"window of {size}")))
    for subset in WITHOUT_AMP
    for size in ((2, 3) if "accumulate" in subset else (1,))
]
SGD: Spec = ("SGD", {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01})
ADAMW: Spec = ("AdamW", {"lr": 0.02})
# AdamW divides a gradient by its own size, which makes an update of its full size out of the rounding of a
# gradient that is zero. A larger eps keeps its updates in proportion to the gradients' errors.
SMOOTH_ADAMW: Spec = ("AdamW", {"lr": 0.1, "eps": 0.1})


class Run(NamedTuple):
    weights: Tensor
    losses: list[float]


@pytest.fixture(autouse=True, scope="module")
def _registry() -> Iterator[None]:
    with argus_core.isolated_registry(builtins=True):
        register_all()
        yield


def build(
    names: Sequence[str],
    window: int = 2,
    reduction: str = "mean",
    optimizer: Spec = SGD,
    dtype: torch.dtype = torch.float32,
) -> Model:
    torch.manual_seed(0)
    return Model(
        {
            "nn_module": ("smooth", {"dtype": dtype}),
            "loss": ("CrossEntropyLoss", {"reduction": reduction}),
            "optimizer": optimizer,
            "step": [
                ("accumulate", {"steps": window}) if name == "accumulate" else STRATEGIES[name]
                for name in names
            ],
            "device": "cpu",
        }
    )


def fit(model: Model, data: Sequence[Batch]) -> Run:
    """Train by the framework."""
    losses: list[float] = []

    @on_iteration_complete
    def keep_loss(state: State) -> None:
        losses.append(state.step_output["loss"])

    model.fit(data, num_epochs=EPOCHS, callbacks=[keep_loss])
    return Run(weights(model), losses)


def fit_by_hand(
    model: Model,
    data: Sequence[Batch],
    window: int,
    max_norm: float | None,
    forward: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Run:
    """Train a copy of the model by hand: one forward and one backward for each whole window."""
    twin = copy.deepcopy(model)
    whole = hand_written.windows(data, window) * EPOCHS
    losses = hand_written.train(twin.nn_module, twin.loss, twin.optimizer, whole, max_norm, forward)
    return Run(weights(twin), losses)


def bfloat16() -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16)


@pytest.mark.parametrize("optimizer", [SGD, ADAMW], ids=lambda spec: spec[0])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize(("names", "window"), CASES)
def test_every_subset_equals_the_loop_by_hand_to_1e_6(
    names: tuple[str, ...], window: int, reduction: str, optimizer: Spec
) -> None:
    model, data = build(names, window, reduction, optimizer), batches(SIZES)
    expected = fit_by_hand(model, data, window, MAX_NORM if "clip_grad_norm" in names else None)
    run = fit(model, data)
    torch.testing.assert_close(run.weights, expected.weights, rtol=0, atol=1e-6)
    assert run.losses == pytest.approx(expected.losses, rel=1e-6)


@pytest.mark.parametrize("optimizer", [SGD, SMOOTH_ADAMW], ids=lambda spec: spec[0])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize(("names", "window"), CASES)
def test_every_subset_with_amp_equals_the_loop_by_hand_within_bfloat16_rounding(
    names: tuple[str, ...], window: int, reduction: str, optimizer: Spec
) -> None:
    model, data = build(("amp", *names), window, reduction, optimizer), batches(SIZES)
    start = weights(model)
    expected = fit_by_hand(model, data, window, MAX_NORM if "clip_grad_norm" in names else None, bfloat16)
    run = fit(model, data)
    # A bfloat16 has 8 significant bits, so each rounding moves a number by up to 2^-8 of itself, and the
    # weight gradient of each micro-batch is rounded where that of the whole window is rounded once.
    # Four such roundings are allowed, of the way that the weights have gone.
    way = (expected.weights - start).abs().max().item()
    torch.testing.assert_close(run.weights, expected.weights, rtol=0, atol=4 * 2**-8 * way)
    assert run.losses == pytest.approx(expected.losses, rel=4 * 2**-8)


def test_amp_alone_is_the_autocast_loop_to_the_last_bit() -> None:
    model, data = build(["amp"]), batches(SIZES)
    expected = fit_by_hand(model, data, 1, None, bfloat16)
    run = fit(model, data)
    assert torch.equal(run.weights, expected.weights)
    assert run.losses == expected.losses


def test_in_float64_nothing_but_float64_rounding_is_left() -> None:
    names = ("accumulate", "microbatch", "clip_grad_norm")
    data = [(input.double(), target) for input, target in batches(SIZES)]
    model = build(names, window=3, dtype=torch.float64)
    expected = fit_by_hand(model, data, 3, MAX_NORM)
    torch.testing.assert_close(fit(model, data).weights, expected.weights, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    "names",
    [subset for length in (2, 3, 4) for subset in itertools.combinations(STRATEGIES, length)],
    ids="+".join,
)
def test_the_listed_order_changes_no_bit(names: tuple[str, ...]) -> None:
    data = batches(SIZES)
    first, *others = (fit(build(order), data) for order in itertools.permutations(names))
    for run in others:
        assert torch.equal(run.weights, first.weights)
        assert run.losses == first.losses


@pytest.mark.parametrize("parts", [{"chunks": 1}, {"chunks": 2}, {"chunks": 99}, {"size": 1}, {"size": 4}])
def test_any_cut_of_a_batch_gives_the_same_update(parts: dict[str, int]) -> None:
    data = batches(SIZES)
    torch.manual_seed(0)
    model = Model(
        {
            "nn_module": "smooth",
            "loss": "CrossEntropyLoss",
            "optimizer": SGD,
            "step": ("microbatch", parts),
            "device": "cpu",
        }
    )
    expected = fit_by_hand(model, data, 1, None)
    torch.testing.assert_close(fit(model, data).weights, expected.weights, rtol=0, atol=1e-6)


def test_a_window_longer_than_the_epoch_is_the_epoch() -> None:
    model, data = build(["accumulate"], window=100), batches(SIZES)
    expected = fit_by_hand(model, data, 100, None)
    run = fit(model, data)
    assert len(run.losses) == EPOCHS
    torch.testing.assert_close(run.weights, expected.weights, rtol=0, atol=1e-6)


def test_a_batch_left_alone_counts_whole_where_strategies_shape_the_update() -> None:
    data = batches(SIZES[:4])
    torch.manual_seed(0)
    model = Model(
        {
            "nn_module": "smooth",
            "loss": "CrossEntropyLoss",
            "optimizer": SGD,
            "step": [("accumulate", {"steps": 3}), "finite_guard"],
            "device": "cpu",
        }
    )
    expected = fit_by_hand(model, data, 3, None)
    torch.testing.assert_close(fit(model, data).weights, expected.weights, rtol=0, atol=1e-6)


def test_these_batches_tell_samples_from_counts() -> None:
    model, (first, second) = build(()), batches((7, 3))
    joined = hand_written.joined([first, second])
    gradient = torch.cat([each.flatten() for each in _gradients(model, joined)])
    halves = [torch.cat([each.flatten() for each in _gradients(model, batch)]) for batch in (first, second)]
    error = (sum(halves) / 2 - gradient).norm() / gradient.norm()
    assert error > 0.1  # what the tests above would see of a strategy that divides by the number of batches


def _gradients(model: Model, batch: Batch) -> tuple[Tensor, ...]:
    input, target = batch
    return torch.autograd.grad(model.loss(model.nn_module(input), target), list(model.nn_module.parameters()))
