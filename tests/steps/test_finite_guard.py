"""A guard against updates that are not finite: raise, or skip and go on, one decision for all."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import Batch, batches
from strategies import CLIP, CUT, Veto, build, given, same_weights, weights
from torch import multiprocessing, nn

import argus_core
from argus_core import ArgusError, ParamsError, State
from argus_core.steps.finite_guard import FiniteGuard

pytestmark = pytest.mark.usefixtures("strategies_registry")

SKIP = ("finite_guard", {"policy": "skip"})


class Steep(nn.Linear):
    """Has a finite loss and an infinite gradient: a root's slope at 0."""

    def __init__(self) -> None:
        super().__init__(4, 3)
        self.root = nn.Parameter(torch.zeros(3))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input) + self.root.sqrt()


def spoiled(batch: Batch, value: float = math.nan) -> Batch:
    return torch.full_like(batch[0], value), batch[1]


@pytest.mark.parametrize("options", [{"policy": "warn"}, {"max_consecutive": 0}, {"max_consecutive": 1.5}])
def test_parameters_that_cannot_work_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ParamsError, match="^step 'finite_guard': .* is .*; give "):
        FiniteGuard(**options)


@pytest.mark.parametrize("steps", [[], [*CUT, CLIP], ["sam"], ["closure"]], ids=str)
def test_finite_updates_pass_unchanged(steps: list[Any]) -> None:
    model, plain = build("finite_guard", *steps), build(*steps)
    for each in (model, plain):
        each.fit(batches())
    assert same_weights(model, plain)


@pytest.mark.parametrize("steps", [[], [*CUT, CLIP], ["sam"], ["closure"]], ids=str)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_the_run_before_the_weights_move(
    value: float, steps: list[Any]
) -> None:
    model, batch = build("finite_guard", *steps), spoiled(batches()[0], value)
    start = weights(model)
    with pytest.raises(
        ArgusError,
        match=r"the update is not finite: the loss is nan; the weights are as they were before it; "
        "lower the learning rate, .* or choose finite_guard with policy='skip'",
    ):
        model.train_step(batch)
    assert torch.equal(weights(model), start)
    assert model.optimizer.state == {}


@pytest.mark.parametrize(
    "steps", [[], [CLIP], [("clip_grad_value", {"clip_value": 1.0})], ["closure"]], ids=str
)
def test_a_gradient_that_is_not_finite_is_seen_though_the_loss_is(steps: list[Any]) -> None:
    argus_core.register("nn_module", "steep", Steep)
    model = build("finite_guard", *steps, nn_module="steep")
    start = weights(model)
    with pytest.raises(ArgusError, match="the update is not finite: a gradient holds nan or inf"):
        model.train_step(batches()[0])
    assert torch.equal(weights(model), start)


def test_a_loss_that_is_not_finite_is_seen_though_the_gradients_are() -> None:
    class Offset(nn.CrossEntropyLoss):
        def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            return super().forward(input, target) + math.inf

    argus_core.register("loss", "offset", Offset)
    model = build("finite_guard", loss="offset")
    with pytest.raises(ArgusError, match="the update is not finite: the loss is inf"):
        model.train_step(batches()[0])
    assert all(parameter.grad.isfinite().all() for parameter in model.nn_module.parameters())


def test_a_sum_of_squares_that_would_overflow_is_finite() -> None:
    parameters = tuple(build().nn_module.parameters())
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, 1e30)
    guard = FiniteGuard()
    guard.transform_gradients(parameters)
    assert guard.allow_update(torch.tensor(1.0), ())


def test_sparse_and_empty_gradients_are_looked_at() -> None:
    argus_core.register("nn_module", "words", lambda: nn.EmbeddingBag(5, 3, sparse=True, mode="sum"))
    model = build("finite_guard", nn_module="words", optimizer=("SGD", {"lr": 0.1}))
    model.train_step((torch.tensor([[1, 2]]), torch.tensor([0])))
    weight = nn.Parameter(torch.zeros(0))
    weight.grad = torch.zeros(0)
    guard = FiniteGuard()
    guard.transform_gradients((weight,))
    assert guard.allow_update(torch.tensor(1.0), ())


def test_skipping_leaves_out_the_update_and_reports_it() -> None:
    skipped: list[int] = []

    @argus_core.on_event("update_skipped")
    def note(state: State) -> None:
        skipped.append(state.iteration)

    data = batches((7, 3, 8, 1, 5))
    model, plain = build(SKIP), build()
    model.fit([data[0], spoiled(data[1]), *data[2:]], callbacks=[note])
    plain.fit([data[0], *data[2:]])
    assert skipped == [1]
    assert same_weights(model, plain)


def test_too_many_skipped_in_a_row_are_an_error() -> None:
    model = build(("finite_guard", {"policy": "skip", "max_consecutive": 2}))
    good, bad = batches()[0], spoiled(batches()[0])
    for batch in (bad, bad, good, bad, bad):
        model.train_step(batch)
    with pytest.raises(
        ArgusError, match=r"3 updates in a row were skipped, and finite_guard allows 2; .* raise max"
    ):
        model.train_step(bad)


def test_a_run_that_goes_on_has_skipped_as_many_in_a_row(tmp_path: Path) -> None:
    good, bad = batches((4,))[0], spoiled(batches((4,))[0])
    data = [good, bad, bad, bad, good]
    guard = ("finite_guard", {"policy": "skip", "max_consecutive": 2})
    keep = ("checkpoint", {"dir_path": str(tmp_path), "optimizer_state": True, "save_after_exception": True})

    @argus_core.on_iteration_complete
    def fail(state: State) -> None:
        if state.iteration == 2:
            raise KeyError("after two that were skipped")

    with pytest.raises(KeyError):
        build(guard).fit(data, callbacks=[keep, fail])
    resumed = build(guard)
    with pytest.raises(ArgusError, match="3 updates in a row were skipped, and finite_guard allows 2"):
        resumed.fit(data, resume=tmp_path)
    (path,) = tmp_path.iterdir()
    fresh = argus_core.load_model(path)
    assert fresh.step_state()["finite_guard"] == {"skipped": 2}


def test_updates_that_others_skip_count_too() -> None:
    model = build(("finite_guard", {"max_consecutive": 1}), given(Veto([0, 1])))
    model.train_step(batches()[0])
    with pytest.raises(ArgusError, match="2 updates in a row were skipped"):
        model.train_step(batches()[0])


def test_under_float16_infinite_gradients_are_the_scalers() -> None:
    overflowing = ("amp", {"dtype": "float16", "init_scale": 2.0**60, "backoff_factor": 2.0**-50})
    model = build("finite_guard", overflowing)
    start = weights(model)
    stepped = [model.train_step(batch).stepped for batch in batches()]  # type: ignore[attr-defined]
    assert stepped == [False, True, True]
    assert not torch.equal(weights(model), start)
    with pytest.raises(ArgusError, match="the update is not finite: the loss is nan"):
        model.train_step(spoiled(batches()[0]))


class OffsetInSecond(nn.CrossEntropyLoss):
    """Infinite in the second process, with finite gradients."""

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        loss = super().forward(input, target)
        return loss + math.inf if torch.distributed.get_rank() else loss


def guard_in_one_of_two(rank: int, folder: Path, policy: str) -> None:
    """Train one batch in two processes; the loss of the second is not finite, and the gradients are."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
    )
    argus_core.register("loss", "offset", OffsetInSecond)
    model = build(("finite_guard", {"policy": policy}), loss="offset")
    try:
        stepped = str(model.train_step(batches()[0]).stepped)  # type: ignore[attr-defined]
    except ArgusError:
        stepped = "raised"
    (folder / str(rank)).write_text(stepped)
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize(("policy", "outcome"), [("skip", "False"), ("raise", "raised")])
def test_processes_decide_as_one(tmp_path: Path, policy: str, outcome: str) -> None:
    multiprocessing.start_processes(  # type: ignore[no-untyped-call]
        guard_in_one_of_two, (tmp_path, policy), nprocs=2, start_method="fork"
    )
    assert [(tmp_path / rank).read_text() for rank in "01"] == [outcome, outcome]


def veto_in_one_of_two(rank: int, folder: Path) -> None:
    """Train one batch in each of two processes; a strategy of the second refuses it."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
    )
    model = build(given(Veto([0] if rank else [])))
    (folder / str(rank)).write_text(str(model.train_step(batches()[0]).stepped))  # type: ignore[attr-defined]
    torch.distributed.destroy_process_group()


def test_a_vote_of_one_process_counts_in_all(tmp_path: Path) -> None:
    multiprocessing.start_processes(  # type: ignore[no-untyped-call]
        veto_in_one_of_two, (tmp_path,), nprocs=2, start_method="fork"
    )
    assert [(tmp_path / rank).read_text() for rank in "01"] == ["False", "False"]
