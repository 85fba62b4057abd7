"""The built-in strategies' parameters, and what each does alone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import batches
from strategies import build, register_all, weights
from torch import nn

import argus_core
from argus_core import ParamsError, State, on_iteration_complete
from argus_core.steps.accumulate import Accumulate
from argus_core.steps.clip_grad_norm import ClipGradNorm
from argus_core.steps.clip_grad_value import ClipGradValue
from argus_core.steps.default import Default
from argus_core.steps.microbatch import Microbatch
from argus_core.steps.output import Window


@pytest.fixture(autouse=True)
def _registry() -> Iterator[None]:
    with argus_core.isolated_registry(builtins=True):
        register_all()
        argus_core.register("nn_module", "linear", lambda: nn.Linear(4, 3))
        yield


@pytest.mark.parametrize("steps", [0, -1, 1.5, True, "2", None])
def test_accumulate_takes_a_whole_number_of_batches(steps: Any) -> None:
    with pytest.raises(ParamsError, match="steps is .*; give an integer of at least 1"):
        Accumulate(steps)


@pytest.mark.parametrize(
    "options",
    [{}, {"chunks": 2, "size": 2}, {"chunks": 0}, {"size": -1}, {"chunks": 1.5}, {"size": True}],
    ids=str,
)
def test_microbatch_takes_either_chunks_or_size(options: dict[str, Any]) -> None:
    with pytest.raises(ParamsError, match="chunks is .* and size is .*; give one of them"):
        Microbatch(**options)


@pytest.mark.parametrize("max_norm", [0, -1.0, math.nan])
def test_clip_grad_norm_takes_a_positive_norm(max_norm: float) -> None:
    with pytest.raises(ParamsError, match="max_norm is .*; give a number above 0"):
        ClipGradNorm(max_norm)


@pytest.mark.parametrize("max_norm", ["1", None])
def test_a_norm_that_is_no_number_is_refused(max_norm: Any) -> None:
    with pytest.raises(argus_core.ArgusError, match="clip_grad_norm"):
        build(("clip_grad_norm", {"max_norm": max_norm}))


def test_a_window_has_as_many_batches_as_accumulate_says_and_the_tail_what_is_left() -> None:
    sizes: list[int] = []

    @on_iteration_complete
    def note(state: State) -> None:
        assert type(state.batch) is Window
        sizes.append(len(state.batch))

    model = build(("accumulate", {"steps": 2}))
    model.fit(batches((1, 2, 3, 4, 5)), num_epochs=2, callbacks=[note])
    assert sizes == [2, 2, 1, 2, 2, 1]


@pytest.mark.parametrize(
    ("options", "sizes"), [({"chunks": 3}, [3, 3, 1, 2]), ({"size": 4}, [4, 3, 2])], ids=str
)
def test_microbatch_splits_each_batch_of_a_window(options: dict[str, int], sizes: list[int]) -> None:
    parts = Microbatch(**options).split_window(batches((7, 2)))
    whole = sizes if "size" in options else [3, 3, 1, 1, 1]
    assert [len(target) for _, target in parts] == whole


def test_a_norm_below_the_limit_changes_nothing() -> None:
    models = [build(*steps) for steps in ([], [("clip_grad_norm", {"max_norm": 1e6})])]
    for model in models:
        model.fit(batches())
    assert torch.equal(weights(models[0]), weights(models[1]))


@pytest.mark.parametrize("norm_type", [1.0, 2.0, math.inf])
def test_the_whole_norm_is_clipped_in_any_order(norm_type: float) -> None:
    model = build(("clip_grad_norm", {"max_norm": 0.01, "norm_type": norm_type}))
    model.train_step(batches()[0])
    gradients = [parameter.grad for parameter in model.nn_module.parameters()]
    norm = nn.utils.get_total_norm([gradient for gradient in gradients if gradient is not None], norm_type)
    assert norm.item() == pytest.approx(0.01, rel=1e-3)


def test_frozen_parameters_are_neither_clipped_nor_moved() -> None:
    class Frozen(argus_core.Model):
        def build_nn_module(self, factory: Any, params: Any) -> nn.Module:
            network = super().build_nn_module(factory, params)
            next(network.parameters()).requires_grad_(False)
            return network

    model = Frozen(build(("clip_grad_norm", {"max_norm": 0.01})).params)
    frozen = next(model.nn_module.parameters())
    before = frozen.clone()
    model.fit(batches())
    assert torch.equal(frozen, before)
    assert frozen.grad is None


def test_the_default_moves_a_batch_without_waiting_unless_it_goes_to_a_cpu() -> None:
    seen: list[bool] = []

    class Batch:
        def to(self, device: torch.device, non_blocking: bool = False) -> Batch:
            seen.append(non_blocking)
            return self

    for device in ("cpu", "meta"):
        Default().prepare_batch(Batch(), torch.device(device))
    assert seen == [False, True]


@pytest.mark.parametrize("clip_value", [0, -1.0, math.nan])
def test_clip_grad_value_takes_a_positive_value(clip_value: float) -> None:
    with pytest.raises(ParamsError, match="clip_value is .*; give a number above 0"):
        ClipGradValue(clip_value)


def test_every_entry_of_the_whole_windows_gradient_is_limited() -> None:
    steps = [("accumulate", {"steps": 2}), ("microbatch", {"chunks": 2})]
    whole = build(*steps)
    model = build(*steps, ("clip_grad_value", {"clip_value": 0.01}))
    for each in (whole, model):
        each.train_step(Window(batches((5, 4))))
    for ours, theirs in zip(model.nn_module.parameters(), whole.nn_module.parameters(), strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        assert torch.equal(ours.grad, theirs.grad.clamp(-0.01, 0.01))


def test_values_are_clipped_before_the_norm_so_both_limits_hold() -> None:
    model = build(("clip_grad_norm", {"max_norm": 0.02}), ("clip_grad_value", {"clip_value": 0.01}))
    plain = build()
    for each in (model, plain):
        each.train_step(batches()[0])
    expected = [parameter.grad.clamp(-0.01, 0.01) for parameter in plain.nn_module.parameters()]
    norm = nn.utils.get_total_norm(expected)
    assert norm > 0.02
    for parameter, gradient in zip(model.nn_module.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient * (0.02 / norm), rtol=1e-4, atol=1e-8)


class Hungry(nn.Linear):
    """Needs more memory than any machine has for more than two samples at once; fails as torch does."""

    def __init__(self) -> None:
        super().__init__(4, 3)
        self.seen: list[int] = []

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        self.seen.append(len(input))
        if len(input) > 2:
            torch.empty(2**62, dtype=torch.uint8)
        return super().forward(input)


def hungry(*steps: Any) -> argus_core.Model:
    argus_core.register("nn_module", "hungry", Hungry, override=True)
    return build(*steps, nn_module="hungry")


def test_micro_batches_are_halved_until_the_memory_does_and_stay_so(caplog: pytest.LogCaptureFixture) -> None:
    model, plain = hungry(("microbatch", {"chunks": 1, "halve_on_oom": True})), build(nn_module="linear")
    plain.nn_module.load_state_dict(model.nn_module.state_dict())
    for each in (model, plain):
        each.fit(batches((7, 3)))
    torch.testing.assert_close(weights(model), weights(plain), rtol=0, atol=1e-6)
    assert model.nn_module.seen == [7, 4, 2, 2, 2, 1, 2, 1]
    assert [record.getMessage() for record in caplog.records] == [
        "the device ran out of memory with micro-batches of 7 samples; they have 4 from now on",
        "the device ran out of memory with micro-batches of 4 samples; they have 2 from now on",
    ]


@pytest.mark.parametrize(
    "steps", [["sam"], ["closure"], [("amp", {"dtype": "float16", "init_scale": 2.0**5})]]
)
def test_halving_goes_with_other_strategies(steps: list[Any]) -> None:
    model = hungry(("microbatch", {"size": 4, "halve_on_oom": True}), *steps)
    plain = build(*steps, nn_module="linear")
    plain.nn_module.load_state_dict(model.nn_module.state_dict())
    for each in (model, plain):
        each.fit(batches((7, 3)))
    torch.testing.assert_close(
        weights(model), weights(plain), rtol=0, atol=1e-3 if "amp" in str(steps) else 1e-6
    )


def test_without_halving_the_error_of_the_device_stays() -> None:
    with pytest.raises(RuntimeError, match="memory"):
        hungry(("microbatch", {"size": 4})).fit(batches((7,)))


def test_what_does_not_fit_one_sample_at_a_time_stays_an_error() -> None:
    model = hungry(("microbatch", {"size": 4, "halve_on_oom": True}))
    model.nn_module.forward = lambda input: torch.empty(2**62, dtype=torch.uint8)
    with pytest.raises(RuntimeError, match="memory"):
        model.fit(batches((7,)))


def test_an_error_that_is_not_about_memory_is_not_tried_again() -> None:
    model = hungry(("microbatch", {"size": 1, "halve_on_oom": True}))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        model.train_step((torch.ones(2, 99), torch.zeros(2, dtype=torch.long)))
    assert model.nn_module.seen == [1]


def test_the_size_that_fitted_is_kept_with_a_checkpoint(tmp_path: Path) -> None:
    model = hungry(("microbatch", {"chunks": 1, "halve_on_oom": True}))
    model.fit(batches((7,)))
    model.save(tmp_path / "model.safetensors", optimizer_state=True)
    loaded = argus_core.load_model(tmp_path / "model.safetensors")
    loaded.fit(batches((7,)))
    assert loaded.nn_module.seen == [2, 2, 2, 1]


@pytest.mark.parametrize("step", ["sam", "closure"])
def test_all_samples_count_though_the_memory_is_full_in_a_later_pass(step: str) -> None:
    model, passes = build(("microbatch", {"chunks": 1, "halve_on_oom": True}), step), []

    def forward_loss(batch: Any) -> Any:
        passes.append(len(batch[0]))
        if len(passes) == 2:
            raise torch.OutOfMemoryError
        return type(model).forward_loss(model, batch)

    model.forward_loss = forward_loss  # type: ignore[method-assign]
    if step == "closure":
        model.optimizer.step = lambda closure: (closure(), closure())
    output = model.train_step(batches((7,))[0])
    assert passes == [7, 7, 4, 3]
    assert output.samples == len(output["target"]) == 7


@pytest.mark.parametrize("given", [{"size": 3}, {"size": 3, "halve_on_oom": True}])
def test_parts_that_are_chosen_anew_win_over_those_that_fitted(tmp_path: Path, given: dict[str, Any]) -> None:
    model = hungry(("microbatch", {"chunks": 1, "halve_on_oom": True}))
    model.fit(batches((7,)))
    model.save(tmp_path / "model.safetensors", optimizer_state=True)
    loaded = argus_core.load_model(
        tmp_path / "model.safetensors", nn_module="linear", step=("microbatch", given)
    )
    sizes: list[int] = []
    loaded.nn_module.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    loaded.fit(batches((7,)))
    assert sizes == [3, 3, 1]


def test_halving_is_yes_or_no() -> None:
    with pytest.raises(ParamsError, match="halve_on_oom is 'no'; give True or False"):
        Microbatch(chunks=1, halve_on_oom="no")  # type: ignore[arg-type]


@pytest.mark.parametrize("norm_type", [0, -1.0, math.nan])
def test_a_norm_has_a_positive_order(norm_type: float) -> None:
    with pytest.raises(ParamsError, match="norm_type is .*; give a number above 0, or inf"):
        ClipGradNorm(1.0, norm_type)
