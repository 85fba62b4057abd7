"""The contract of a transform of predictions."""

from __future__ import annotations

from typing import Any

import torch

from argus_core.testing.contracts.callables import CallableContract, check_reloads
from argus_core.testing.operations import predictable
from argus_core.testing.probe import PredictionProbe
from argus_core.testing.standard_inputs import chosen, transform_inputs

__all__ = ["TransformContract"]


class TransformContract(CallableContract):
    """What a transform does: turn predictions into others, and nothing else."""

    kind = "transform"
    checks = (
        "be_found_by_name",
        "be_imported",
        "document_its_parameters",
        "take_plain_data",
        "be_built",
        "register_its_tensors",
        "take_its_input",
        "give_the_same_output_twice",
        "leave_its_input_alone",
        "copy_deeply",
        "keep_its_state",
        "load_in_a_fresh_process",
    )
    essential = ("be_found_by_name", "be_imported", "be_built", "take_its_input")

    def call(self, part: Any, input: Any) -> Any:
        return part(input)

    def take_its_input(self) -> None:
        def try_it(input: Any) -> None:
            with predictable(), torch.no_grad():
                self.part(input)

        self.input = chosen(self.given, transform_inputs(), try_it, "input")

    def load_in_a_fresh_process(self) -> None:
        with predictable():
            model = PredictionProbe({"prediction_transform": self.spec, "device": "cpu"})
            check_reloads("predict", model, (self.input,), model.predict(self.input))
