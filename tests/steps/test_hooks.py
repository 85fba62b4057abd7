"""The hooks: each slot has one way of composing and is documented."""

from __future__ import annotations

import inspect

import pytest

from argus_core.callbacks.hooks import RunHooks
from argus_core.steps.hooks import Composition, StepHooks, composition_of

SLOTS = {
    "set_up": Composition.EACH,
    "window_size": Composition.OWNER,
    "prepare_batch": Composition.PIPE,
    "split_window": Composition.OWNER,
    "micro_batch_weight": Composition.OWNER,
    "sync_context": Composition.WRAP,
    "forward_context": Composition.WRAP,
    "evaluation_context": Composition.WRAP,
    "finish_prediction": Composition.PIPE,
    "scale_loss": Composition.PIPE,
    "backward": Composition.OWNER,
    "out_of_memory": Composition.OWNER,
    "unscale": Composition.OWNER,
    "transform_gradients": Composition.EACH,
    "allow_update": Composition.VOTE,
    "run_procedure": Composition.OWNER,
    "apply_update": Composition.OWNER,
    "after_update": Composition.EACH,
    "state_dict": Composition.EACH,
    "load_state_dict": Composition.EACH,
}
EVENTS = (
    "start complete epoch_start epoch_complete iteration_start iteration_complete catch_exception "
    "interrupted update_skipped validation_start validation_iteration_complete validation_complete "
    "measured_midway checkpoint_saved resumed"
).split()


def names_of(hooks: type) -> list[str]:
    return [name for name in vars(hooks) if not name.startswith("_")]


def test_the_slots_are_those_of_the_update_in_the_order_they_are_reached() -> None:
    assert names_of(StepHooks) == list(SLOTS)


@pytest.mark.parametrize(("slot", "composition"), SLOTS.items())
def test_each_slot_composes_in_one_way(slot: str, composition: Composition) -> None:
    assert composition_of(slot) is composition


def test_the_events_of_a_run_are_named_in_one_place() -> None:
    assert names_of(RunHooks) == EVENTS


@pytest.mark.parametrize("event", EVENTS)
def test_each_event_takes_the_state_alone(event: str) -> None:
    assert list(inspect.signature(getattr(RunHooks, event)).parameters) == ["self", "state"]


@pytest.mark.parametrize("hooks", [RunHooks, StepHooks])
def test_every_hook_says_when_it_is_called_and_what_it_returns(hooks: type) -> None:
    for name in names_of(hooks):
        hook = getattr(hooks, name)
        assert hook.__doc__, f"{name} is not documented"
        signature = inspect.signature(hook)
        assert signature.return_annotation is not inspect.Signature.empty
        if signature.return_annotation != "None":
            assert "return" in hook.__doc__.lower()
