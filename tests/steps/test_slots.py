"""What a plugin's strategy can do in each slot, alone and together with the built-in ones."""

from __future__ import annotations

import copy
from typing import Any

import hand_written
import pytest
import torch
from networks import batches
from strategies import (
    CLIP,
    CUT,
    PARAMS,
    Parameters,
    Record,
    Veto,
    build,
    given,
    same_weights,
    weights,
)
from torch import Tensor, nn

import argus_core
from argus_core import BuildError, Model, State, StepOutput, hookimpl, on_iteration_complete
from argus_core.steps.output import Window
from argus_core.steps.update import Update

pytestmark = pytest.mark.usefixtures("strategies_registry")

SIZES = (7, 3, 8, 1, 5)
COMPOSITIONS: list[Any] = [[], CUT[:1], CUT[1:], [CLIP], [*CUT, CLIP]]


# Another computation under every strategy.


def test_forward_loss_of_ones_own_works_with_every_strategy() -> None:
    class AutoEncoder(Model):
        def forward_loss(self, batch: Any) -> tuple[Any, Any, Tensor]:
            prediction = self.nn_module(batch["image"])
            loss: Tensor = self.loss(prediction, batch["image"])
            return prediction, None, loss

    params = {**PARAMS, "nn_module": ("net", {"classes": 4}), "loss": "MSELoss"}
    torch.manual_seed(0)
    model = AutoEncoder({**params, "step": [*CUT, CLIP]})
    twin = copy.deepcopy(model)
    images = [input for input, _ in batches(SIZES)]
    outputs = []

    @on_iteration_complete
    def keep_output(state: State) -> None:
        outputs.append(state.step_output)

    model.fit([{"image": image, "phase": "train"} for image in images], callbacks=[keep_output])
    pairs = [(image, image) for image in images]
    hand_written.train(
        twin.nn_module, twin.loss, twin.optimizer, hand_written.windows(pairs, 2), max_norm=0.3
    )
    assert same_weights(model, twin, 1e-6)
    assert [len(output["prediction"]) for output in outputs] == [10, 9, 5]
    assert outputs[0]["target"] is None


class TokenLoss(nn.Module):
    """A mean over what is not padding, of which the package cannot know."""

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        return nn.functional.cross_entropy(prediction, target, ignore_index=-100)


def tokens(target: Tensor) -> Tensor:
    return (target >= 0).sum()


def padded() -> list[tuple[Tensor, Tensor]]:
    return [
        (input, target.where(torch.arange(len(target)) % 3 > 0, -100)) for input, target in batches((6, 4, 5))
    ]


def test_another_weight_makes_a_mean_over_tokens_exact() -> None:
    class Tokens:
        @hookimpl
        def micro_batch_weight(self, micro_batch: tuple[Tensor, Tensor]) -> Tensor:
            return tokens(micro_batch[1])

    argus_core.register("loss", "token_mean", TokenLoss)
    model, data = build(*CUT, given(Tokens()), loss="token_mean"), padded()
    twin = copy.deepcopy(model)
    model.fit(data)
    hand_written.train(twin.nn_module, twin.loss, twin.optimizer, hand_written.windows(data, 2))
    assert same_weights(model, twin, 1e-6)


def test_a_model_may_say_what_its_own_mean_divides_by() -> None:
    class Tagger(Model):
        def loss_weight(self, batch: Any) -> Tensor:
            return tokens(batch[1])

    argus_core.register("loss", "token_mean", TokenLoss)
    torch.manual_seed(0)
    model, data = Tagger({**PARAMS, "loss": "token_mean", "step": CUT}), padded()
    twin = copy.deepcopy(model)
    model.fit(data)
    hand_written.train(twin.nn_module, twin.loss, twin.optimizer, hand_written.windows(data, 2))
    assert same_weights(model, twin, 1e-6)


def test_an_integer_weight_divides_without_loss() -> None:
    class Counted:
        @hookimpl
        def micro_batch_weight(self, micro_batch: tuple[Tensor, Tensor]) -> Tensor:
            return (micro_batch[1] >= 0).sum()

    double = {"nn_module": ("smooth", {"dtype": torch.float64})}
    data = [(input.double(), target) for input, target in batches((7, 3, 5))]
    model, plain = build(*CUT, given(Counted()), **double), build(*CUT, **double)
    for each in (model, plain):
        each.fit(data)
    assert same_weights(model, plain, 1e-15)


def test_a_batch_may_be_changed_in_training_alone() -> None:
    class Noise:
        @hookimpl
        def set_up(self, model: Model) -> None:
            self.model = model

        @hookimpl
        def prepare_batch(self, batch: Any) -> Any:
            if not self.model.nn_module.training:
                return batch
            input, target = batch
            assert input.device == self.model.device  # the default has moved it before
            return torch.zeros_like(input), target

    model = build(given(Noise()))
    batch = batches()[0]
    assert model.train_step(batch)["prediction"].unique(dim=0).shape[0] == 1
    assert model.val_step(batch)["prediction"].unique(dim=0).shape[0] == len(batch[1])
    assert model.predict(batch[0]).unique(dim=0).shape[0] == len(batch[1])


# Procedures that take gradients several times.


def test_a_procedure_without_gradients_is_refused() -> None:
    class Idle:
        @hookimpl
        def run_procedure(self, update: Update) -> bool:
            return True

    with pytest.raises(BuildError, match=r"took no gradients; call update.gradients\(\) in run_procedure"):
        build(given(Idle())).train_step(batches()[0])


def test_a_procedure_says_whether_the_weights_moved() -> None:
    class Silent:
        @hookimpl
        def apply_update(self, optimizer: torch.optim.Optimizer) -> None:
            optimizer.step()

    with pytest.raises(
        BuildError, match="apply_update returned None; return from it whether the weights moved"
    ):
        build(given(Silent())).train_step(batches()[0])


# Votes.


@pytest.mark.parametrize("as_tensor", [False, True])
def test_a_vetoed_update_leaves_weights_and_optimizer_alone_and_is_reported(as_tensor: bool) -> None:
    skipped: list[int] = []

    @argus_core.on_event("update_skipped")
    def note(state: State) -> None:
        skipped.append(state.iteration)

    record = Record()
    model = build(("veto", {"updates": [1], "as_tensor": as_tensor}), given(record))
    twin, data = build(), batches(SIZES)
    model.fit(data, callbacks=[note], lr_scheduler=("ExponentialLR", {"gamma": 0.5, "interval": "update"}))
    twin.fit(
        [batch for index, batch in enumerate(data) if index != 1],
        lr_scheduler=("ExponentialLR", {"gamma": 0.5, "interval": "update"}),
    )
    assert skipped == [1]
    assert same_weights(model, twin)
    assert model.get_lr() == twin.get_lr() == pytest.approx(0.1 * 0.5**4)
    assert [event[1] for event in record.events if event[0] == "after"] == [True, False, True, True, True]


def test_every_vote_is_asked_since_other_processes_may_wait_for_it() -> None:
    class AnotherVeto(Veto):
        pass

    first, second = Veto([0]), AnotherVeto([0, 1])
    model = build(given(first), given(second))
    start = weights(model)
    output = model.train_step(batches()[0])
    assert (first.asked, second.asked) == (1, 1)
    assert isinstance(output, StepOutput)
    assert not output.stepped
    assert torch.equal(weights(model), start)


def test_a_vote_sees_the_loss_and_the_clipped_gradients_of_the_window() -> None:
    seen: list[tuple[float, float]] = []

    class Look:
        @hookimpl
        def allow_update(self, loss: Tensor, parameters: Parameters) -> bool:
            norms = [parameter.grad.norm() for parameter in parameters if parameter.grad is not None]
            seen.append((loss.item(), torch.stack(norms).norm().item()))
            return True

    model = build(*CUT, ("clip_grad_norm", {"max_norm": 0.01}), given(Look()))
    output = model.train_step(Window(batches((4, 3))))
    assert [loss for loss, _ in seen] == [output["loss"]]
    assert [norm for _, norm in seen] == pytest.approx([0.01], rel=1e-4)
