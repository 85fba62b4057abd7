"""Every combination of step strategies equals the loop by hand, or is refused with its reason."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from refusals import check_refusal, labels
from torch import Tensor, nn

import argus_core
from argus_core import ConflictError, Model, hookimpl
from argus_core.registry.registry import components
from argus_core.steps.update import Update
from argus_core.testing import Example, check_composition, check_strategy, compositions, examples
from argus_core.testing.by_hand import BY_HAND

EXAMPLES = examples()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Combine up to three strategies, or four with ``--long-matrix``."""
    if "subset" in metafunc.fixturenames:
        size = 4 if metafunc.config.getoption("long_matrix") else 3
        metafunc.parametrize("subset", compositions(EXAMPLES, size), ids=labels)


def test_combination_equals_the_loop_by_hand_or_is_refused(subset: tuple[Example, ...]) -> None:
    check_refusal(subset, check_composition(subset))


def test_the_matrix_has_every_built_in_strategy_and_the_installed_plugins() -> None:
    present = {each.name for each in EXAMPLES}
    installed = {component.name for component in components("step")} - {"default"}
    assert present == installed
    assert set(BY_HAND) | {"gradient_centralization"} == installed


# The check itself: it sees what is wrong with a strategy.


@pytest.fixture
def _registry() -> Iterator[None]:
    with argus_core.isolated_registry(builtins=True):
        yield


class Plain:
    """Takes part in an update and changes nothing."""

    @hookimpl
    def transform_gradients(self, parameters: tuple[nn.Parameter, ...]) -> None:
        pass


class Halving:
    """Halves gradients."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    @hookimpl
    def transform_gradients(self, parameters: tuple[nn.Parameter, ...]) -> None:
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad *= self.factor


class ClippedParts:
    """Clips after each micro-batch, so that cut windows get other gradients than whole ones."""

    @hookimpl
    def set_up(self, model: Model) -> None:
        self.network = model.get_nn_module()

    @hookimpl
    def backward(self, loss: Tensor) -> None:
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), 0.3)


class Counted:
    """Multiplies gradients by the number of micro-batches."""

    @hookimpl
    def run_procedure(self, update: Update) -> bool:
        update.gradients()
        for parameter in update.parameters():
            if parameter.grad is not None:
                parameter.grad *= len(update.micro_batches)
        return update.apply()


@pytest.mark.usefixtures("_registry")
def test_a_strategy_that_composes_is_found_to_do_so() -> None:
    argus_core.register("step", "halving", Halving)
    refused = check_strategy("halving", {"factor": 0.5}, size=2)
    assert refused == {}


@pytest.mark.usefixtures("_registry")
def test_a_strategy_that_skips_updates_composes_with_an_average() -> None:
    class SecondOnly:
        asked = 0

        @hookimpl
        def allow_update(self) -> bool:
            self.asked += 1
            return self.asked % 2 == 0

    argus_core.register("step", "second_only", SecondOnly)
    subset = (Example("second_only"), Example("ema", {"decay": 0.9}))
    assert check_composition(subset) is None


@pytest.mark.usefixtures("_registry")
def test_a_conflict_of_the_strategy_is_told_and_is_no_failure() -> None:
    class Picky(Plain):
        conflicts = {"sam": "one climb is enough"}

    argus_core.register("step", "picky", Picky)
    refused = check_strategy("picky", size=2)
    assert list(refused) == ["picky+sam"]
    assert "one climb is enough" in refused["picky+sam"]


@pytest.mark.usefixtures("_registry")
@pytest.mark.parametrize("strategy", [ClippedParts, Counted])
def test_a_strategy_that_depends_on_how_windows_are_cut_is_found_out(strategy: type) -> None:
    argus_core.register("step", "wrong", strategy)
    with pytest.raises(AssertionError, match=r"wrong.*, float64 \w+: .* differs by .* from the loop by hand"):
        check_strategy("wrong", size=2)


@pytest.mark.usefixtures("_registry")
def test_strategies_of_others_that_need_parameters_or_are_broken_stay_out(monkeypatch: Any) -> None:
    argus_core.register("step", "halving", Halving)
    argus_core.register("step", "plain", Plain)
    found = {each.name for each in examples()}
    assert "plain" in found
    assert "halving" not in found
    with_params = examples({"halving": [{"factor": 0.5}, {"factor": 0.25}]})
    assert [each.params for each in with_params if each.name == "halving"] == [
        {"factor": 0.5},
        {"factor": 0.25},
    ]


def test_combinations_are_all_up_to_a_size_and_can_be_those_of_one_strategy() -> None:
    few = [Example(name) for name in "abc"]
    assert [labels(each) for each in compositions(few, 2)] == ["default", "a", "b", "c", "a+b", "a+c", "b+c"]
    assert [labels(each) for each in compositions(few, 2, containing=few[1])] == ["b", "a+b", "b+c"]


def test_lbfgs_is_refused_where_the_optimizer_alone_is_the_reason() -> None:
    for steps, reason in (
        (["sam"], "add 'closure' to step"),
        (["closure", "channels_last"], "contiguous in memory"),
    ):
        with pytest.raises(ConflictError, match=re.escape(reason)):
            Model(
                {
                    "nn_module": "cnn",
                    "loss": "CrossEntropyLoss",
                    "optimizer": ("LBFGS", {"lr": 0.1}),
                    "step": steps,
                    "device": "cpu",
                }
            )
