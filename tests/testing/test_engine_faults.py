"""An engine of several processes that breaks its contract is found out, and told what to do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from torch import Tensor, nn

import argus_core
from argus_core.parallel.ddp import DDP
from argus_core.parallel.engine import parameters_of
from argus_core.testing import check_component


@pytest.fixture(autouse=True)
def _registry() -> Iterator[None]:
    with argus_core.isolated_registry(builtins=True):
        yield


class Averaging(DDP):
    """Divides the sum of gradients by two."""

    def reduce_gradients(self, model: Any) -> None:
        super().reduce_gradients(model)
        for parameter in parameters_of(model):
            if parameter.grad is not None:
                parameter.grad /= 2


class Unshared(DDP):
    """Leaves each process its own values."""

    def wrap(self, model: Any) -> None:
        pass


class Wrapping(DDP):
    """Puts the network into another one."""

    def wrap(self, model: Any) -> None:
        super().wrap(model)
        model.nn_module = nn.Sequential(model.nn_module)


class Scaling(DDP):
    """Gives other values to checkpoints."""

    def whole(self, tensor: Tensor) -> Tensor:
        return tensor if tensor.ndim != 4 else tensor + 1


class Raising(DDP):
    """Fails in an update."""

    def reduce_gradients(self, model: Any) -> None:
        raise ValueError("no connection\nto the others")


class WithoutReason(DDP):
    """Refuses something, and does not say why."""

    conflicts: ClassVar[dict[str, str]] = {"optimizer:LBFGS": ""}


@pytest.mark.parametrize(
    ("engine", "match"),
    [
        (lambda: None, "be built: its factory built None; return an object of a class derived from"),
        (WithoutReason, "give reasons for what it refuses: 'optimizer:LBFGS' has no reason; let conflicts"),
        (Wrapping, "keep the network and its names: model.nn_module is an object of another class after"),
        (Unshared, "begin with the values of the first process: after wrap process 1 differs by .*; give"),
        (Averaging, "train as one process does: after training process 0 differs by .*; add the gradients"),
        (Raising, "train as one process does: process 0 of 2 raised ValueError: no connection to the others"),
        (Scaling, "begin with the values of the first process: after wrap process 0 differs by 1 from one"),
    ],
)
def test_an_engine_that_breaks_the_contract_is_found_out(engine: Any, match: str) -> None:
    argus_core.register("parallel", "part", engine)
    with pytest.raises(AssertionError, match=match) as caught:
        check_component("parallel", "part", reload=False)
    assert str(caught.value).startswith("parallel 'part' must ")
    assert "\n" not in str(caught.value)


def test_an_engine_of_this_process_alone_keeps_the_contract() -> None:
    argus_core.register("parallel", "part", type("Own", (DDP,), {"__doc__": DDP.__doc__}))
    check_component("parallel", "part", reload=False)
