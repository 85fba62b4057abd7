"""Mixed precision: autocast everywhere, and with float16 the loss scaling that skips overflowing updates."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import hand_written
import pytest
import torch
from networks import Batch, batches
from strategies import (
    CLIP,
    CUT,
    PARAMS,
    Parameters,
    Veto,
    build,
    given,
    same_weights,
    weights,
)
from torch import Tensor, nn

import argus_core
from argus_core import Model, ParamsError, State, StepOutput, hookimpl
from argus_core.steps.amp import AMP
from argus_core.steps.update import Update

pytestmark = pytest.mark.usefixtures("strategies_registry")

SIZES = (7, 3, 8, 1, 5)
SCALE = 2.0**10  # nothing overflows
HALF = ("amp", {"dtype": "float16", "init_scale": SCALE})
HUGE = 2.0**60  # overflows in float16 at once


def scale_of(amp: AMP) -> float:
    scale: float = amp.state_dict()["scale"]
    return scale


def float16() -> torch.autocast:
    return torch.autocast("cpu", torch.float16)


def overflowing(backoff_factor: float = 2.0**-50) -> AMP:
    """Return a strategy whose first scale overflows and whose second does not."""
    return AMP("float16", init_scale=HUGE, backoff_factor=backoff_factor)


def train_by_hand(model: Model, data: list[Batch], scaler: torch.amp.GradScaler, max_norm: float) -> None:
    """Train with a scaler as torch's documentation says: unscale, clip, step, update."""
    for input, target in data:
        model.optimizer.zero_grad()
        with float16():
            loss = model.loss(model.nn_module(input), target)
        scaler.scale(loss).backward()
        scaler.unscale_(model.optimizer)
        nn.utils.clip_grad_norm_(model.nn_module.parameters(), max_norm)
        scaler.step(model.optimizer)
        scaler.update()


@pytest.mark.parametrize(
    "options",
    [
        {"dtype": "float32"},
        {"init_scale": 0.0},
        {"growth_factor": 1.0},
        {"backoff_factor": 1.0},
        {"backoff_factor": 0.0},
        {"growth_interval": 0},
        {"growth_interval": 1.5},
        {"growth_interval": True},
    ],
    ids=str,
)
def test_parameters_that_cannot_work_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ParamsError, match=r"^step 'amp': .* (is|are) .*; give "):
        AMP(**options)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_training_validation_and_prediction_run_in_the_same_precision(dtype: str) -> None:
    step = ("amp", {"dtype": dtype, "float32_predictions": False})
    model, batch = build(step), batches()[0]
    expected = getattr(torch, dtype)
    assert model.val_step(batch)["prediction"].dtype is expected
    assert model.predict(batch[0]).dtype is expected
    assert model.train_step(batch)["prediction"].dtype is expected
    model.eval()
    with torch.no_grad(), torch.autocast("cpu", expected):
        assert torch.equal(model.predict(batch[0]), model.nn_module(batch[0]))


def test_auto_on_a_cpu_is_bfloat16_without_a_scaler() -> None:
    amp = AMP(float32_predictions=False)
    model = build(given(amp))
    assert model.predict(torch.ones(1, 4)).dtype is torch.bfloat16
    assert amp.traits(model) == set()
    assert amp.state_dict() == {}


def test_backward_and_the_weights_stay_out_of_autocast() -> None:
    seen: list[bool] = []

    class Watch:
        @hookimpl
        def backward(self, loss: Tensor) -> None:
            seen.append(torch.is_autocast_enabled("cpu"))
            loss.backward()  # type: ignore[no-untyped-call]

    model = build("amp", given(Watch()))
    output = model.train_step(batches()[0])
    assert seen == [False]
    assert isinstance(output, StepOutput)
    assert output.loss_tensor.dtype is torch.float32
    for parameter in model.nn_module.parameters():
        assert parameter.dtype is torch.float32
        assert parameter.grad is not None
        assert parameter.grad.dtype is torch.float32


@pytest.mark.parametrize("steps", [["amp"], ["amp", *CUT]], ids=str)
def test_the_default_backward_runs_out_of_autocast(steps: list[Any]) -> None:
    seen: list[bool] = []

    class Watched(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            prediction = super().forward(input)
            prediction.register_hook(lambda gradient: seen.append(torch.is_autocast_enabled("cpu")))
            return prediction

    argus_core.register("nn_module", "watched", lambda: Watched(4, 3))
    build(*steps, nn_module="watched").train_step(batches((3,))[0])
    assert set(seen) == {False}


def test_a_prediction_in_the_midst_of_a_forward_leaves_autocast_as_it_was() -> None:
    seen: list[bool] = []

    class Asks(argus_core.Model):
        def forward_loss(self, batch: Any) -> tuple[Any, Any, Tensor]:
            self.predict(batch[0])
            seen.append(torch.is_autocast_enabled("cpu"))
            self.train()
            return super().forward_loss(batch)

    model = Asks({**PARAMS, "step": ("amp", {"dtype": "bfloat16"})})
    model.train_step(batches()[0])
    assert seen == [True]
    assert not torch.is_autocast_enabled("cpu")


def state_of_autocast() -> tuple[bool, torch.dtype, bool]:
    """Return whether autocast is on, its dtype, and whether it keeps casts."""
    return (
        torch.is_autocast_enabled("cpu"),
        torch.get_autocast_dtype("cpu"),
        torch.is_autocast_cache_enabled(),
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("options", [{}, {"cache_enabled": False}, {"dtype": torch.float16}], ids=str)
def test_a_prediction_where_a_forward_leaves_autocast_out_leaves_it_as_it_was(
    dtype: str, options: dict[str, Any]
) -> None:
    seen = []

    class Asks(argus_core.Model):
        def forward_loss(self, batch: Any) -> tuple[Any, Any, Tensor]:
            inside = state_of_autocast()
            with torch.autocast("cpu", enabled=False, **options):
                left_out = state_of_autocast()
                seen.append(self.predict(batch[0]).dtype is getattr(torch, dtype))
                seen.append(state_of_autocast() == left_out)
            seen.append(state_of_autocast() == inside)
            self.train()
            return super().forward_loss(batch)

    step = ("amp", {"dtype": dtype, "float32_predictions": False})
    model, before = Asks({**PARAMS, "step": step}), state_of_autocast()
    model.train_step(batches()[0])
    after = state_of_autocast()
    torch.set_autocast_dtype("cpu", before[1])
    torch.set_autocast_cache_enabled(before[2])
    assert after == before
    assert seen == [True] * 3


def test_autocast_keeps_no_casts_where_the_user_wants_none() -> None:
    model, seen = build(("amp", {"dtype": "bfloat16"})), []
    model.nn_module.register_forward_hook(lambda *_: seen.append(torch.is_autocast_cache_enabled()))
    model.predict(torch.ones(1, 4))
    torch.set_autocast_cache_enabled(False)
    try:
        model.predict(torch.ones(1, 4))
    finally:
        torch.set_autocast_cache_enabled(True)
    assert seen == [True, False]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_model_on_a_device_without_autocast_can_be_looked_at(dtype: str) -> None:
    model = build(("amp", {"dtype": dtype}), device="meta")
    assert model.window_size() == 1
    with pytest.raises(RuntimeError, match="autocast device_type 'meta'"):
        model.predict(torch.ones(1, 4))


@pytest.mark.parametrize("steps", [[], [CLIP], CUT, ["sam"]], ids=str)
def test_the_reported_loss_is_not_scaled(steps: list[Any]) -> None:
    model, batch = build(HALF, *steps), batches()[0]
    expected = model.val_step(batch)["loss"]
    assert model.train_step(batch)["loss"] == pytest.approx(expected, rel=2**-9)


@pytest.mark.parametrize("init_scale", [2.0**10, HUGE])
def test_float16_is_the_documented_scaler_loop_to_the_last_bit(init_scale: float) -> None:
    scaling: dict[str, Any] = {"init_scale": init_scale, "growth_interval": 2, "backoff_factor": 2.0**-25}
    amp = AMP("float16", **scaling)
    model, data = build(given(amp), CLIP), batches(SIZES)
    twin, scaler = copy.deepcopy(model), torch.amp.GradScaler("cpu", **scaling)
    model.fit(data, num_epochs=2)
    train_by_hand(twin, data * 2, scaler, max_norm=0.3)
    assert same_weights(model, twin)
    assert amp.state_dict() == scaler.state_dict()
    assert scale_of(amp) != init_scale  # it has grown, or backed off


def test_a_cut_window_is_scaled_as_a_whole() -> None:
    model, data = build(HALF, *CUT, CLIP), batches(SIZES)
    twin = copy.deepcopy(model)
    start = weights(model)
    model.fit(data)
    train_by_hand(twin, hand_written.windows(data, 2), torch.amp.GradScaler("cpu", SCALE), max_norm=0.3)
    way = (weights(twin) - start).abs().max().item()
    assert same_weights(model, twin, 4 * 2**-11 * way)  # float16 has 11 significant bits


def test_strategies_see_gradients_after_unscaling() -> None:
    norms: list[Tensor] = []

    class Look:
        @hookimpl
        def transform_gradients(self, parameters: Parameters) -> None:
            norms.append(nn.utils.get_total_norm([each.grad for each in parameters if each.grad is not None]))

    window = batches((8,))[0]
    for steps in ([], [HALF]):
        build(*steps, given(Look())).train_step(window)
    torch.testing.assert_close(norms[0], norms[1], rtol=0.01, atol=0)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_an_overflow_skips_the_update_and_the_next_ones_recover(device: str) -> None:
    skipped: list[int] = []

    @argus_core.on_event("update_skipped")
    def note(state: State) -> None:
        skipped.append(state.iteration)
        assert state.step_output.stepped is False
        assert torch.equal(weights(state.model), start)
        assert state.model.optimizer.state == {}
        assert state.model.get_lr() == 0.1
        assert "ema" not in state.model.step_state()  # nothing has been averaged
        with state.model.evaluation():
            assert torch.equal(weights(state.model), start)
        assert scale_of(amp) == 2.0**10

    states: list[State] = []
    amp = overflowing()
    model = build(given(amp), CLIP, "ema", device=device)
    start = weights(model)
    schedule = ("ExponentialLR", {"gamma": 0.5, "interval": "update"})
    keep = argus_core.on_complete(states.append)
    model.fit(batches(SIZES), callbacks=[note, keep], lr_scheduler=schedule)
    assert skipped == [0]
    assert not torch.equal(weights(model), start)
    assert weights(model).isfinite().all()
    assert model.get_lr() == pytest.approx(0.1 * 0.5**4)  # as often as the weights moved
    assert model.step_state()["ema"]["updates"] == 4
    assert (states[0].global_step, states[0].updates_skipped) == (4, 1)


def test_a_fused_optimizer_skips_overflowing_updates_too() -> None:
    optimizer = ("AdamW", {"lr": 0.01, "fused": True})
    model, data = build(given(overflowing()), CLIP, optimizer=optimizer), batches(SIZES)
    start = weights(model)
    output = model.train_step(data[0])
    assert isinstance(output, StepOutput)
    assert not output.stepped
    assert torch.equal(weights(model), start)
    model.fit(data)
    plain = build(HALF, CLIP, optimizer=("AdamW", {"lr": 0.01}))
    plain.fit(data)
    assert same_weights(model, plain, 1e-5)


@pytest.mark.parametrize("init_scale", [SCALE, HUGE])
@pytest.mark.parametrize(
    "optimizer",
    # With Adam's own eps it would hardly matter how long a gradient is.
    [("SGD", {"lr": 0.1}), ("Adam", {"lr": 0.1, "eps": 0.1}), ("AdamW", {"lr": 0.1, "eps": 0.1})],
    ids=lambda spec: spec[0],
)
def test_a_fused_optimizer_clips_unscaled_gradients_as_the_unfused_loop_does(
    optimizer: Any, init_scale: float
) -> None:
    # A fused step can divide by the scale itself, which would be too late for clipping.
    name, params = optimizer
    scaling: dict[str, Any] = {"init_scale": init_scale, "backoff_factor": 2.0**-50}
    amp, data = AMP("float16", **scaling), batches(SIZES)
    model = build(given(amp), CLIP, optimizer=(name, {**params, "fused": True}))
    twin, scaler = build(optimizer=optimizer), torch.amp.GradScaler("cpu", **scaling)
    model.fit(data, num_epochs=2)
    train_by_hand(twin, data * 2, scaler, max_norm=0.3)
    assert same_weights(model, twin, 1e-6)
    assert amp.state_dict() == scaler.state_dict()


def test_after_a_veto_the_scaler_goes_on() -> None:
    amp = AMP("float16", SCALE, growth_interval=2)
    model = build(given(amp), given(Veto([0, 2])), CLIP)
    stepped = [model.train_step(batch).stepped for batch in batches(SIZES)]  # type: ignore[attr-defined]
    assert stepped == [False, True, False, True, True]
    assert scale_of(amp) == SCALE * 2**2  # no gradient overflowed, whether it was used or not


def test_an_overflow_that_is_vetoed_backs_off() -> None:
    amp = overflowing()
    build(given(amp), given(Veto([0]))).train_step(batches()[0])
    assert scale_of(amp) == 2.0**10


def test_gradients_may_be_taken_several_times_in_one_update() -> None:
    amp, data = AMP("float16", 2.0**5, growth_interval=1), batches(SIZES)
    model = build(given(amp), "sam", CLIP)
    steady, plain = build(HALF, "sam", CLIP), build("sam", CLIP)
    start = weights(model)
    for each in (model, steady, plain):
        each.fit(data)
    assert scale_of(amp) == 2.0**15  # each of ten gradients has been counted
    way = (weights(plain) - start).abs().max().item()
    assert same_weights(model, steady, 1e-5 * way)  # though the scale has grown within each update
    assert same_weights(model, plain, 0.02 * way)


def test_an_overflow_in_any_of_several_gradients_skips_the_update() -> None:
    class Careless:
        """Takes gradients twice in one update and loses the first, where the scale overflowed."""

        @hookimpl
        def run_procedure(self, update: Update) -> bool:
            update.gradients()
            update.gradients()
            return update.apply()

    amp = overflowing()
    model = build(given(amp), given(Careless()))
    start = weights(model)
    overflowed = model.train_step(batches((4,))[0])
    assert isinstance(overflowed, StepOutput)
    assert not overflowed.stepped
    assert torch.equal(weights(model), start)
    assert scale_of(amp) == 2.0**10
    recovered = model.train_step(batches((4,))[0])
    assert isinstance(recovered, StepOutput)
    assert recovered.stepped


def test_the_scale_survives_a_new_device_and_a_state_that_comes_before_set_up() -> None:
    amp = AMP("float16", SCALE, growth_interval=1)
    model = build(given(amp))
    model.fit(batches())
    assert scale_of(amp) == SCALE * 2**3
    model.set_device("cpu")
    model.train_step(batches()[0])
    assert scale_of(amp) == SCALE * 2**4
    resumed = AMP("float16", SCALE, growth_interval=1)
    resumed.load_state_dict(amp.state_dict())
    build(given(resumed)).train_step(batches()[0])
    assert scale_of(resumed) == SCALE * 2**5


def test_a_state_is_kept_where_nothing_is_scaled() -> None:
    amp = AMP("float16")
    build(given(amp)).train_step(batches()[0])
    elsewhere = AMP("bfloat16")
    elsewhere.load_state_dict(amp.state_dict())
    build(given(elsewhere)).train_step(batches()[0])
    assert elsewhere.state_dict() == amp.state_dict()


def test_options_that_are_given_anew_win_over_the_stored_ones(tmp_path: Path) -> None:
    model = build(("amp", {"dtype": "float16", "init_scale": 2.0**5, "growth_interval": 2000}))
    model.fit(batches())
    model.save(tmp_path / "model.safetensors", optimizer_state=True)
    changed = ("amp", {"dtype": "float16", "growth_interval": 5})
    state = argus_core.load_model(tmp_path / "model.safetensors", step=changed).step_state()["amp"]
    assert (state["growth_interval"], state["scale"], state["_growth_tracker"]) == (5, 2.0**5, 3)


class Nested(nn.Module):
    """Returns its logits in a structure, beside integers and what it computes in another precision itself."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, input: Tensor) -> dict[str, Any]:
        logits = self.layer(input)
        return {"logits": [logits, (logits,)], "half": logits.half(), "classes": logits.argmax(1), "n": 3}


class OfNested(nn.Module):
    def forward(self, prediction: dict[str, Any], target: Tensor) -> Tensor:
        assert prediction["logits"][0].dtype is torch.bfloat16  # the loss sees what it always saw
        loss: Tensor = nn.functional.cross_entropy(prediction["logits"][0], target)
        return loss


def predictions(model: Model) -> list[Any]:
    """Return what training, validation and prediction give for one batch."""
    batch = batches()[0]
    return [
        model.train_step(batch)["prediction"],
        model.val_step(batch)["prediction"],
        model.predict(batch[0]),
    ]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("more", [[], CUT], ids=str)
def test_predictions_are_in_float32(dtype: str, more: list[Any]) -> None:
    model = build(("amp", {"dtype": dtype, "init_scale": 8.0}), *more)
    for prediction in predictions(model):
        assert prediction.dtype is torch.float32
        assert prediction.numpy().shape == (8, 3)


def test_a_transform_gets_float32_and_keeps_its_digits() -> None:
    model = build("amp", prediction_transform=("Softmax", {"dim": 1}))
    for prediction in predictions(model):
        torch.testing.assert_close(prediction.sum(1), torch.ones(8), rtol=0, atol=1e-6)


def test_predictions_of_any_nesting_are_in_float32_and_the_loss_sees_the_low_precision() -> None:
    argus_core.register("nn_module", "nested")(Nested)
    argus_core.register("loss", "of_nested")(OfNested)
    for prediction in predictions(build("amp", nn_module="nested", loss="of_nested")):
        assert prediction["logits"][0].dtype is prediction["logits"][1][0].dtype is torch.float32
        assert prediction["half"].dtype is torch.float16
        assert prediction["classes"].dtype is torch.int64


def test_an_option_keeps_the_low_precision() -> None:
    model = build(("amp", {"dtype": "bfloat16", "float32_predictions": False}))
    assert [each.dtype for each in predictions(model)] == [torch.bfloat16] * 3
    assert "finish a prediction" in model.explain()
    assert model.step_members("finish_prediction") == []


def test_the_option_is_yes_or_no() -> None:
    with pytest.raises(ParamsError, match="float32_predictions is 'no'; give True or False"):
        AMP(float32_predictions="no")  # type: ignore[arg-type]


def test_a_network_of_low_precision_by_choice_predicts_in_it() -> None:
    argus_core.register("nn_module", "half")(lambda: nn.Linear(4, 3, dtype=torch.bfloat16))
    model = build(nn_module="half")
    assert model.predict(torch.ones(2, 4, dtype=torch.bfloat16)).dtype is torch.bfloat16
