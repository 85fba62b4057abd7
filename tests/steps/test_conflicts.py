"""What step strategies declare about each other and about the model, checked when a model is built."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from strategies import PARAMS, Parameters

import argus_core
from argus_core import BuildError, ConflictError, Model, hookimpl
from argus_core.steps.accumulate import Accumulate
from argus_core.steps.composition import Composed
from argus_core.steps.strategy import Strategy

pytestmark = pytest.mark.usefixtures("strategies_registry")


class Transforms:
    """Sits in a slot that takes any number of strategies; what it declares is given."""

    def __init__(self, **declared: Any) -> None:
        self.__dict__.update(declared)

    @hookimpl
    def transform_gradients(self, parameters: Parameters) -> None:
        pass


class OnDevice(Transforms):
    """Has a trait that depends on the model."""

    def traits(self, model: Model) -> set[str]:
        return {"on_" + model.device.type}


def compose(**instances: Any) -> Composed:
    return Composed([Strategy(name, instance, "tests 1.0") for name, instance in instances.items()])


def check(**instances: Any) -> None:
    """Check strategies against a model."""
    compose(**instances).check(Model(PARAMS))


def test_a_declared_conflict_with_another_strategy_gives_the_reason() -> None:
    with pytest.raises(
        ConflictError, match="step strategy 'a' does not go with 'b': both scale; leave one of them out"
    ):
        check(a=Transforms(conflicts={"b": "both scale"}), b=Transforms())


def test_a_conflict_may_be_with_a_trait_that_depends_on_the_model() -> None:
    with pytest.raises(ConflictError, match=r"'a' does not go with 'b' \(on_cpu\): a reason"):
        check(a=Transforms(conflicts={"on_cpu": "a reason"}), b=OnDevice())


def test_a_conflict_is_found_also_where_the_strategy_has_the_trait_itself() -> None:
    for first, second in (("a", "b"), ("b", "a")):
        with pytest.raises(ConflictError, match=f"'{first}' does not go with '{second}'"):
            check(**{first: OnDevice(conflicts={"on_cpu": "one is enough"}), second: OnDevice()})


def test_a_strategy_does_not_conflict_with_itself() -> None:
    compose(a=OnDevice(conflicts={"on_cpu": "one is enough"})).check(Model(PARAMS))


def test_a_conflict_with_the_optimizer_gives_the_reason() -> None:
    with pytest.raises(ConflictError, match="'a' does not go with 'optimizer:SGD': no momentum"):
        check(a=Transforms(conflicts={"optimizer:SGD": "no momentum"}))


def test_a_conflict_with_a_fused_optimizer_is_found() -> None:
    fused = {**PARAMS, "optimizer": ("SGD", {"lr": 0.1, "fused": True})}
    with pytest.raises(ConflictError, match="'a' does not go with 'fused_optimizer': a reason"):
        compose(a=Transforms(conflicts={"fused_optimizer": "a reason"})).check(Model(fused))


def test_float16_amp_shows_that_it_scales_gradients_and_bfloat16_amp_does_not() -> None:
    class NoScaler(Transforms):
        conflicts = {"grad_scaler": "a closure cannot be scaled"}

    argus_core.register("step", "no_scaler", NoScaler)
    Model({**PARAMS, "step": ["no_scaler", ("amp", {"dtype": "bfloat16"})]})
    with pytest.raises(
        ConflictError, match=r"'no_scaler' does not go with 'amp' \(grad_scaler\): a closure cannot be scaled"
    ):
        Model({**PARAMS, "step": ["no_scaler", ("amp", {"dtype": "float16"})]})


def test_a_required_trait_comes_from_a_strategy_or_the_model() -> None:
    needy = Transforms(requires={"accumulate": "it averages windows"})
    with pytest.raises(BuildError, match="step strategy 'a' needs 'accumulate': it averages windows; add it"):
        check(a=needy)
    compose(a=needy, accumulate=Accumulate(2)).check(Model(PARAMS))
    compose(a=Transforms(requires={"optimizer:SGD": "of momentum"})).check(Model(PARAMS))


def test_an_optimizer_that_needs_a_closure_is_refused_where_nobody_hands_it_one() -> None:
    lbfgs = {**PARAMS, "optimizer": ("LBFGS", {"lr": 0.1})}
    with pytest.raises(
        ConflictError,
        match="optimizer 'LBFGS' asks for gradients several times in one step, and no step strategy hands it "
        "a closure; add 'closure' to step, or choose another optimizer",
    ):
        Model(lbfgs)

    Model({**lbfgs, "step": "closure"})


def test_a_procedure_without_a_closure_does_not_do_for_an_optimizer_that_needs_one() -> None:
    with pytest.raises(ConflictError, match="'LBFGS' asks for gradients several times .* add 'closure'"):
        Model({**PARAMS, "optimizer": ("LBFGS", {"lr": 0.1}), "step": "sam"})


def test_every_conflict_is_told_at_once() -> None:
    declared = {"b": "both scale", "optimizer:SGD": "no momentum"}
    with pytest.raises(ConflictError, match="'b': both scale; .*; step strategy 'a' .* 'optimizer:SGD'"):
        check(a=Transforms(conflicts=declared), b=Transforms())


def test_a_device_that_brings_a_conflict_is_found_when_the_model_is_used_there() -> None:
    argus_core.register("step", "refuses", lambda: Transforms(conflicts={"on_meta": "no weights there"}))
    argus_core.register("step", "device", OnDevice)
    model = Model({**PARAMS, "step": ["refuses", "device"]})
    model.set_device("meta")
    with pytest.raises(ConflictError, match=r"'refuses' does not go with 'device' \(on_meta\): no weights"):
        model.window_size()


def test_an_owner_that_moves_the_weights_without_a_closure_does_not_go_with_one() -> None:
    class Half(Transforms):
        @hookimpl
        def apply_update(self, optimizer: torch.optim.Optimizer) -> bool:
            return False

    argus_core.register("step", "half", Half)
    with pytest.raises(
        ConflictError, match=r"'closure' does not go with 'half' \(ignores_closure\): it moves the weights"
    ):
        Model({**PARAMS, "step": ["closure", "half"]})
