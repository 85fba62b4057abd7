"""The contract of a network."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from argus_core.testing.contract import FIRST_CHECKS, expect
from argus_core.testing.contracts.callables import InputContract, check_reloads
from argus_core.testing.operations import predictable
from argus_core.testing.probe import NetworkProbe
from argus_core.testing.standard_inputs import network_inputs

__all__ = ["NetworkContract"]


class NetworkContract(InputContract):
    """The contract of a network: it trains and predicts, and can be copied, saved and loaded."""

    kind = "nn_module"
    checks = (
        *FIRST_CHECKS,
        "register_its_tensors",
        "take_its_input",
        "give_the_same_output_twice",
        "leave_its_input_unchanged",
        "make_an_update",
        "copy_deeply",
        "keep_its_state",
        "load_in_a_fresh_process",
    )

    def inputs(self) -> Iterable[Any]:
        return network_inputs(self.part)

    def be_built(self) -> None:
        super().be_built()
        expect(
            isinstance(self.part, nn.Module),
            lambda: f"its factory built a {type(self.part).__name__}; return a torch.nn.Module",
        )

    def make_an_update(self) -> None:
        if any(parameter.requires_grad for parameter in self.part.parameters()):
            with predictable():
                _check_update(self._model(), self.input)

    def load_in_a_fresh_process(self) -> None:
        with predictable():
            model = self._model()
            if model.optimizer is not None:
                model.train_step(self.input)
            expected = model.predict(self.input)
            check_reloads("predict", model, (self.input,), expected)

    def _model(self) -> NetworkProbe:
        learns = any(parameter.requires_grad for parameter in self.part.parameters())
        optimizer = ("SGD", {"lr": 1e-3}) if learns else None
        return NetworkProbe({"nn_module": self.spec, "optimizer": optimizer, "device": "cpu"})


def _check_update(model: NetworkProbe, input: Any) -> None:
    network = model.get_nn_module()
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    loss = model.train_step(input)["loss"]
    expect(
        loss == loss and abs(loss) != float("inf"),
        f"the mean square of its output is {loss}; initialise its weights",
    )
    learning = {name: value for name, value in network.named_parameters() if value.requires_grad}
    wrong = [
        name for name, value in learning.items() if value.grad is not None and not value.grad.isfinite().all()
    ]
    expect(not wrong, f"the gradient of {', '.join(wrong[:3])} is not finite; look for a root or log of 0")
    without = [name for name, value in learning.items() if value.grad is None]
    expect(
        len(without) < len(learning),
        "no parameter received a gradient; return an output that depends on them, without detach()",
    )
    moved = [name for name, value in learning.items() if not torch.equal(value, before[name])]
    expect(bool(moved), "no parameter changed in an update; return an output that depends on them")
