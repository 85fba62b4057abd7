"""Which strategy sits in which slot, in which order, and what does not go together."""

from __future__ import annotations

import itertools
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from strategies import PARAMS
from torch import nn

import argus_core
from argus_core import ConflictError, Model, hookimpl
from argus_core.steps.accumulate import Accumulate
from argus_core.steps.composition import Composed
from argus_core.steps.default import Default
from argus_core.steps.strategy import Strategy

pytestmark = pytest.mark.usefixtures("strategies_registry")

ANY_MODEL: Any = None  # none of the strategies here looks at it


class Transforms:
    """Sits in the slot where gradients are transformed; what it declares is given."""

    def __init__(self, **declared: Any) -> None:
        for name, value in declared.items():
            setattr(self, name, value)

    @hookimpl
    def transform_gradients(self, parameters: tuple[nn.Parameter, ...]) -> None:
        pass


class First(Transforms):
    @hookimpl(tryfirst=True)
    def transform_gradients(self, parameters: tuple[nn.Parameter, ...]) -> None:
        pass


class Last(Transforms):
    @hookimpl(trylast=True)
    def transform_gradients(self, parameters: tuple[nn.Parameter, ...]) -> None:
        pass


class WindowOfThree:
    @hookimpl
    def window_size(self) -> int:
        return 3


def compose(**instances: Any) -> Composed:
    return Composed([Strategy(name, instance, "tests 1.0") for name, instance in instances.items()])


def order(**instances: Any) -> list[str]:
    """Return the names in the slot of gradient transformations; the same for every listed order."""
    found = [
        [strategy.name for strategy in compose(**dict(listed)).members("transform_gradients", ANY_MODEL)]
        for listed in itertools.permutations(instances.items())
    ]
    assert all(names == found[0] for names in found)
    return found[0]


def test_without_strategies_the_default_owns_every_slot_that_needs_an_owner() -> None:
    composed = Composed([])
    for slot in ("window_size", "split_window", "backward", "unscale", "run_procedure", "apply_update"):
        (member,) = composed.members(slot, ANY_MODEL)
        assert isinstance(member.instance, Default)


def test_a_strategy_takes_the_slot_it_owns_and_leaves_the_others() -> None:
    composed = compose(three=WindowOfThree())
    assert [strategy.name for strategy in composed.members("window_size", ANY_MODEL)] == ["three"]
    assert composed.implementations("window_size", ANY_MODEL)[0]() == 3
    assert [strategy.name for strategy in composed.members("split_window", ANY_MODEL)] == ["default"]


def test_naming_the_default_changes_nothing() -> None:
    composed = compose(default=Default(), three=WindowOfThree())
    assert [strategy.name for strategy in composed.strategies] == ["default", "three"]


def test_a_subclass_of_the_default_is_a_strategy_of_its_own() -> None:
    class Own(Default):
        @hookimpl
        def window_size(self) -> int:
            return 5

    assert compose(own=Own()).implementations("window_size", ANY_MODEL)[0]() == 5


def test_inside_a_slot_names_decide_when_nothing_is_declared() -> None:
    assert order(b=Transforms(), c=Transforms(), a=Transforms()) == ["a", "b", "c"]


def test_runs_before_and_runs_after_decide_before_names() -> None:
    assert order(a=Transforms(runs_after=("c",)), b=Transforms(), c=Transforms(runs_before=("b",))) == [
        "c",
        "a",
        "b",
    ]


def test_one_name_needs_no_tuple() -> None:
    assert order(a=Transforms(runs_after="b"), b=Transforms()) == ["b", "a"]


def test_strategies_that_are_not_there_are_not_waited_for() -> None:
    assert order(a=Transforms(runs_after=("sam",)), b=Transforms(runs_before=("ema",))) == ["a", "b"]


def test_tryfirst_and_trylast_decide_before_all_else() -> None:
    instances = {"a": Last(runs_before=("b",)), "b": Transforms(), "c": First(runs_after=("b",))}
    assert order(**instances) == ["c", "b", "a"]


def test_a_circle_is_refused() -> None:
    with pytest.raises(ConflictError, match="run before each other in a circle: .* -> .*; leave one out"):
        compose(a=Transforms(runs_before=("b",)), b=Transforms(runs_before=("a",)))


def test_two_owners_of_one_slot_are_named_with_their_packages() -> None:
    with pytest.raises(
        ConflictError,
        match=r"step strategy 'accumulate' \(tests 1.0\) and step strategy 'three' \(tests 1.0\) both own "
        r"the slot 'window_size', which takes one; leave one of them out",
    ):
        compose(three=WindowOfThree(), accumulate=Accumulate(2))


def test_two_owners_are_refused_when_the_model_is_built() -> None:
    argus_core.register("step", "three", WindowOfThree)
    with pytest.raises(
        ConflictError, match=r"'accumulate' \(argus-torch .*\) and .* 'three' \(registered in process\)"
    ):
        Model({**PARAMS, "step": ["three", ("accumulate", {"steps": 2})]})


@pytest.mark.parametrize(
    "step", [["default", "default"], [("accumulate", {"steps": 2}), ("accumulate", {"steps": 3})]]
)
def test_a_strategy_is_listed_once(step: list[Any]) -> None:
    with pytest.raises(ConflictError, match=r"step strategy '\w+' is listed twice; list it once"):
        Model({**PARAMS, "step": step})


def test_arguments_that_are_not_used_may_be_left_out_and_come_in_any_order() -> None:
    calls: list[Any] = []

    class Few:
        @hookimpl
        def after_update(self, stepped: bool) -> None:
            calls.append(stepped)

        @hookimpl
        def allow_update(self, parameters: Any, loss: Any) -> bool:
            calls.append((parameters, loss))
            return True

        @hookimpl(specname="prepare_batch")
        def double(self, batch: Any) -> Any:
            return batch * 2

    composed = compose(few=Few())
    composed.implementations("after_update", ANY_MODEL)[0]("model", True)
    composed.implementations("allow_update", ANY_MODEL)[0]("loss", "parameters")
    assert calls == [True, ("parameters", "loss")]
    assert composed.implementations("prepare_batch", ANY_MODEL)[-1](3, torch.device("cpu")) == 6


def test_a_full_signature_is_called_without_anything_between() -> None:
    accumulate = Accumulate(2)
    assert compose(accumulate=accumulate).implementations("window_size", ANY_MODEL) == (
        accumulate.window_size,
    )


def test_a_strategy_is_left_out_of_the_slots_in_which_it_is_idle_for_a_model() -> None:
    class Idle(Transforms):
        def idle_slots(self, model: Any) -> tuple[str, ...]:
            return ("transform_gradients", "apply_update") if model == "small" else ()

        @hookimpl
        def apply_update(self) -> bool:
            return True

    composed = compose(idle=Idle(), other=Transforms())
    slots = ("transform_gradients", "apply_update")
    busy = [[strategy.name for strategy in composed.members(slot, "large")] for slot in slots]  # type: ignore[arg-type]
    idle = [[strategy.name for strategy in composed.members(slot, "small")] for slot in slots]  # type: ignore[arg-type]
    assert busy == [["idle", "other"], ["idle"]]
    assert idle == [["other"], ["default"]]
    assert composed.implementations("apply_update", "small") == ()  # type: ignore[arg-type]


def test_contexts_nest_in_the_declared_order() -> None:
    entered: list[str] = []

    class Context:
        def __init__(self, name: str, **declared: Any) -> None:
            self.name = name
            self.__dict__.update(declared)

        @hookimpl
        def forward_context(self) -> AbstractContextManager[Any]:
            entered.append(self.name)
            return nullcontext()

    argus_core.register("step", "inner", Context)
    argus_core.register("step", "outer", Context)
    model = Model(
        {
            **PARAMS,
            "step": [("inner", {"name": "inner", "runs_after": "outer"}), ("outer", {"name": "outer"})],
        }
    )
    model.predict(torch.ones(1, 4))
    assert entered == ["outer", "inner"]
