"""On a CUDA device: the updates of the loop by hand, and no wait for the device while they run."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import hand_written
import pytest
import torch
from networks import Batch, batches
from strategies import CLIP, CUT, build, register_all, same_weights, weights

import argus_core
from argus_core import Model, State, on_iteration_start
from argus_core.steps.output import Window
from argus_core.testing import Example, check_composition, compositions, examples

pytestmark = pytest.mark.gpu

SIZES = (7, 3, 8, 1, 5)
SUBSETS = [list(subset) for length in range(4) for subset in itertools.combinations([*CUT, CLIP], length)]
BFLOAT16 = ("amp", {"dtype": "bfloat16"})
VALUE = ("clip_grad_value", {"clip_value": 0.1})
REST = ["sam", "ema", "channels_last"]


@pytest.fixture(autouse=True)
def _registry() -> Iterator[None]:
    with argus_core.isolated_registry(builtins=True):
        register_all()
        yield


@contextmanager
def no_wait() -> Iterator[None]:
    """Raise where the CPU would wait for the device."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def bfloat16() -> torch.autocast:
    return torch.autocast("cuda", torch.bfloat16)


def on_device(data: Sequence[Batch]) -> list[Batch]:
    return [(input.cuda(), target.cuda()) for input, target in data]


def fit_both(model: Model, steps: Sequence[Any], amp: bool = False) -> tuple[Model, float]:
    """Train the model, and a copy by hand; return the copy and how far its weights went."""
    twin, start, data = copy.deepcopy(model), weights(model), batches(SIZES)
    model.fit(data, num_epochs=2)
    whole = on_device(hand_written.windows(data, 2 if CUT[0] in steps else 1)) * 2
    max_norm = 0.3 if CLIP in steps else None
    hand_written.train(
        twin.nn_module, twin.loss, twin.optimizer, whole, max_norm, bfloat16 if amp else nullcontext
    )
    return twin, (weights(twin) - start).abs().max().item()


@pytest.mark.parametrize("optimizer", [("SGD", {"lr": 0.1, "momentum": 0.9}), ("AdamW", {"lr": 0.02})])
@pytest.mark.parametrize("steps", SUBSETS, ids=lambda steps: "+".join(name for name, _ in steps) or "default")
def test_every_subset_equals_the_loop_by_hand_to_1e_6(steps: list[Any], optimizer: Any) -> None:
    model = build(*steps, nn_module="smooth", device="cuda", optimizer=optimizer)
    twin, _ = fit_both(model, steps)
    assert same_weights(model, twin, 1e-6)


@pytest.mark.parametrize("steps", SUBSETS, ids=lambda steps: "+".join(name for name, _ in steps) or "default")
def test_every_subset_with_amp_equals_the_loop_by_hand_within_bfloat16_rounding(steps: list[Any]) -> None:
    model = build(BFLOAT16, *steps, nn_module="smooth", device="cuda")
    twin, way = fit_both(model, steps, amp=True)
    assert same_weights(model, twin, 4 * 2**-8 * way)  # see test_full_batch


@pytest.mark.parametrize(
    "steps",
    [
        [],
        [CUT[0]],
        [BFLOAT16],
        ["sam"],
        ["ema"],
        ["channels_last"],
        [VALUE],
        [BFLOAT16, *CUT, CLIP, VALUE, *REST],
    ],
    ids=["default", "accumulate", "amp", "sam", "ema", "channels_last", "clip_grad_value", "all"],
)
@pytest.mark.parametrize("optimizer", [("SGD", {"lr": 0.1, "momentum": 0.9}), ("AdamW", {"lr": 0.02})])
def test_no_update_waits_for_the_device(steps: list[Any], optimizer: Any) -> None:
    model = build(*steps, device="cuda", optimizer=optimizer)
    window = Window(batches((8, 8))) if CUT[0] in steps else batches((8,))[0]
    model.train_step(window)  # the first makes streams, handles and the optimizer's state
    with no_wait():
        outputs = [model.train_step(window) for _ in range(3)]
    assert all(output["loss"] > 0 for output in outputs)


@pytest.mark.parametrize("steps", [[], [CUT[0]], [BFLOAT16]], ids=["default", "accumulate", "amp"])
def test_a_run_waits_for_the_device_only_when_its_metrics_are_computed(steps: list[Any]) -> None:
    @on_iteration_start
    def forbid(state: State) -> None:
        torch.cuda.set_sync_debug_mode("error" if state.iteration else "default")

    @argus_core.on_iteration_complete
    def allow_after_the_last(state: State) -> None:
        assert state.engine.num_batches is not None
        updates = -(-state.engine.num_batches // state.engine.window_size)
        if state.iteration == updates - 1:
            torch.cuda.set_sync_debug_mode("default")

    model = build(*steps, device="cuda")
    try:
        metrics = model.fit(
            batches((8,) * 6),
            metrics=["accuracy"],
            metrics_on_train=True,
            callbacks=[forbid, allow_after_the_last],
        )
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert metrics["train_loss"] > 0


@pytest.mark.parametrize("subset", compositions(examples(), 2), ids=str)
def test_every_pair_of_strategies_equals_the_loop_by_hand_or_is_refused(
    subset: tuple[Example, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    assert (check_composition(subset, "cuda") is None) == (check_composition(subset) is None)


def test_prediction_and_target_are_on_the_device() -> None:
    model = build(*CUT, device="cuda", prediction_transform=("Softmax", {"dim": 1}))
    output = model.train_step(Window(batches((4, 3))))
    assert output["prediction"].device == output["target"].device == torch.device("cuda:0")
    assert model.predict(torch.ones(2, 4)).device == torch.device("cuda:0")
