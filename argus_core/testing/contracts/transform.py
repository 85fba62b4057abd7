"""The contract of a transform of predictions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from argus_core.testing.contract import FIRST_CHECKS
from argus_core.testing.contracts.callables import InputContract, check_reloads
from argus_core.testing.operations import predictable
from argus_core.testing.probe import PredictionProbe
from argus_core.testing.standard_inputs import transform_inputs

__all__ = ["TransformContract"]


class TransformContract(InputContract):
    """The contract of a transform: it maps predictions to predictions, without side effects."""

    kind = "transform"
    checks = (
        *FIRST_CHECKS,
        "register_its_tensors",
        "take_its_input",
        "give_the_same_output_twice",
        "leave_its_input_unchanged",
        "copy_deeply",
        "keep_its_state",
        "load_in_a_fresh_process",
    )

    def inputs(self) -> Iterable[Any]:
        return transform_inputs()

    def load_in_a_fresh_process(self) -> None:
        with predictable():
            model = PredictionProbe({"prediction_transform": self.spec, "device": "cpu"})
            check_reloads("predict", model, (self.input,), model.predict(self.input))
