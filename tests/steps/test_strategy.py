"""What a step strategy's class may look like: which methods are slots, and what is said of the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from strategies import PARAMS
from torch import nn

import argus_core
from argus_core import BuildError, Model, hookimpl
from argus_core.steps.accumulate import Accumulate
from argus_core.steps.strategy import Strategy, check_hooks

pytestmark = pytest.mark.usefixtures("net_registry")


def check(strategy: Any) -> None:
    check_hooks(Strategy("odd", strategy, "tests 1.0"))


def test_a_misspelled_slot_is_refused_with_the_near_one() -> None:
    class Misspelled:
        @hookimpl
        def transform_gradient(self, parameters: tuple[nn.Parameter, ...]) -> None:
            pass

    with pytest.raises(
        BuildError,
        match=r"step strategy 'odd' \(tests 1.0\) implements 'transform_gradient', which is not a slot; did "
        r"you mean 'transform_gradients'\?; the slots are set_up, window_size",
    ):
        check(Misspelled())


def test_an_event_of_a_run_is_no_slot() -> None:
    class Listener:
        @hookimpl
        def epoch_complete(self, state: Any) -> None:
            pass

    with pytest.raises(BuildError, match="implements 'epoch_complete', which is not a slot"):
        check(Listener())


def test_arguments_that_the_slot_does_not_have_are_refused_with_its_signature() -> None:
    class Wrong:
        @hookimpl
        def transform_gradients(self, params: tuple[nn.Parameter, ...]) -> None:
            pass

    with pytest.raises(
        BuildError,
        match=r"'odd' \(tests 1.0\) implements 'transform_gradients' with arguments that the slot does not "
        r"have; the slot is transform_gradients\(self, parameters: 'tuple",
    ):
        check(Wrong())


@pytest.mark.parametrize("marker", [hookimpl(hookwrapper=True), hookimpl(wrapper=True)])
def test_a_pluggy_wrapper_is_refused(marker: Callable[[Any], Any]) -> None:
    def around(self: Any) -> Iterator[None]:
        yield

    wrapper = type("Wrapper", (), {"forward_context": marker(around)})
    with pytest.raises(
        BuildError, match=r"'odd' \(tests 1.0\) wraps slot 'forward_context'; slots take plain"
    ):
        check(wrapper())


def test_a_slot_without_the_mark_is_refused_since_it_would_never_be_called() -> None:
    class Unmarked(Accumulate):
        def transform_gradients(self, parameters: tuple[nn.Parameter, ...]) -> None:
            pass

    with pytest.raises(
        BuildError,
        match="'odd' .* has a method 'transform_gradients' without hookimpl, so it would never be called",
    ):
        check(Unmarked(2))


def test_a_strategy_without_a_slot_is_refused() -> None:
    argus_core.register("step", "relu", nn.ReLU)
    with pytest.raises(BuildError, match=r"step strategy 'relu' .* implements no slot|without hookimpl"):
        Model({**PARAMS, "step": "relu"})
    with pytest.raises(
        BuildError, match=r"step strategy 'odd' \(tests 1.0\) implements no slot; mark a method"
    ):
        check(object())
