"""The contract of a metric."""

from __future__ import annotations

import copy
import functools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from argus_core.metrics import Metric
from argus_core.testing.comparison import difference
from argus_core.testing.contract import FIRST_CHECKS, Contract, expect
from argus_core.testing.contracts.callables import check_reloads
from argus_core.testing.operations import predictable
from argus_core.testing.probe import PredictionProbe
from argus_core.testing.standard_inputs import chosen, pairs

__all__ = ["MetricContract"]

_SAMPLES = 37
_TRIALS = 5
_RANKS = 3
_TOLERANCE = 1e-5
_JOINED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "sum": torch.add,
    "max": torch.maximum,
    "min": torch.minimum,
}

StepOutput = dict[str, Any]


class MetricContract(Contract):
    """The contract of a metric: its value depends neither on the batches nor on the number of processes."""

    kind = "metric"
    options = MappingProxyType({"batch": None, "waits": False})
    checks = (
        *FIRST_CHECKS,
        "declare_its_states",
        "take_its_batch",
        "give_a_number",
        "be_equal_for_any_batches",
        "start_over_after_a_reset",
        "be_joined_from_several_processes",
        "update_without_waiting_for_the_device",
        "copy_deeply",
        "be_computed_in_a_validation",
        "be_computed_in_a_fresh_process",
    )
    essential = (*Contract.essential, "declare_its_states", "take_its_batch")

    def be_built(self) -> None:
        metric = self.make()
        expect(
            isinstance(metric, Metric),
            lambda: f"its factory built a {type(metric).__name__}; return an argus_core.Metric",
        )
        expect(
            isinstance(getattr(metric, "name", None), str) and bool(metric.name),
            'it has no name for its values; write name = "..." in the class',
        )
        expect(metric.better in ("max", "min"), f"its better is {metric.better!r}; write 'max' or 'min'")

    def declare_its_states(self) -> None:
        states = self.make().states
        expect(
            bool(states),
            "it declares no states, so several processes cannot be joined, and a run cannot resume in the "
            'middle of an epoch; write states = {"total": "sum", ...} in the class',
        )
        wrong = {name: how for name, how in states.items() if how not in _JOINED}
        expect(not wrong, f"its states are joined by {wrong}; choose 'sum', 'max' or 'min' for each")

    def take_its_batch(self) -> None:
        def try_it(batch: Any) -> None:
            self._value([_output(*batch)])

        self.batch = chosen(self.options["batch"], pairs(_SAMPLES), try_it, "batch")
        self.value = self._value([self._whole()])

    def give_a_number(self) -> None:
        values = self.value.values() if isinstance(self.value, Mapping) else [self.value]
        expect(
            all(type(value) is float for value in values),
            lambda: f"compute() returned {self.value!r}; return a float, or a dict of floats by name",
        )

    def be_equal_for_any_batches(self) -> None:
        for cuts in _cuts(len(self.batch[1])):
            found = self._value(self._parts(cuts))
            problem = difference(found, self.value, _TOLERANCE, "the value")
            expect(
                problem is None,
                f"for batches of {', '.join(map(str, cuts))} samples it is {found}, and for one batch of all "
                f"it is {self.value}; add up sums and counts in update(), and divide in compute()",
            )

    def start_over_after_a_reset(self) -> None:
        metric = self.make()
        for output in [*self._parts([3, len(self.batch[1]) - 3]), None, self._whole()]:
            metric.reset() if output is None else metric.update(output)
        self._expect_value(
            metric.compute(), "after a reset", "let reset() set every state to its first value"
        )

    def be_joined_from_several_processes(self) -> None:
        ranks = [self.make() for _ in range(_RANKS)]
        for metric in ranks:
            metric.reset()
        for index, output in enumerate(self._parts([1, 9, 4, 2, len(self.batch[1]) - 16])):
            ranks[index % _RANKS].update(output)
        joined = self.make()
        joined.reset()
        for state, how in joined.states.items():
            values = [getattr(metric, state) for metric in ranks]
            setattr(joined, state, _joined(how, values))
        self._expect_value(
            joined.compute(),
            f"with the states of {_RANKS} processes joined as declared",
            "declare every attribute that update() changes in states, with the operation that joins it",
        )

    def update_without_waiting_for_the_device(self) -> None:
        if self.options["waits"]:
            return
        metric = self.make()
        metric.reset()
        # Tensors of the meta device have no values, so code that reads a value raises.
        output = {key: _on_meta(value) for key, value in self._whole().items()}
        try:
            metric.update(output)
        except (RuntimeError, NotImplementedError) as error:
            raise AssertionError(
                f"its update() reads values of the batch, which waits for the device "
                f"({' '.join(str(error).split())[:160]}); add tensors up, and read them in compute(), or "
                "pass waits=True"
            ) from error
        away = [
            name
            for name in metric.states
            if getattr(getattr(metric, name), "device", None) == torch.device("cpu")
        ]
        expect(not away, f"its state {', '.join(away)} is not on the device of the batch; keep it there")

    def copy_deeply(self) -> None:
        first, second = self._parts([5, len(self.batch[1]) - 5])
        metric = self.make()
        metric.reset()
        metric.update(first)
        copied = copy.deepcopy(metric)
        metric.update(second)
        copied.update(second)
        self._expect_value(copied.compute(), "in a deep copy", "let copy.deepcopy copy its states")
        self._expect_value(
            metric.compute(), "after a deep copy was updated", "do not change tensors of a state in place"
        )

    def be_computed_in_a_validation(self) -> None:
        with predictable():
            model, batches = self._probe()
            found = model.validate(batches, metrics=[self.spec])
        metric = self.make()
        named = [*self.value] if isinstance(self.value, Mapping) else [metric.name]
        missing = [name for name in named if not any(key.endswith(name) for key in found)]
        expect(
            not missing,
            f"a validation returned {sorted(found)}, without {missing}; return the same names each time",
        )

    def be_computed_in_a_fresh_process(self) -> None:
        with predictable():
            model, batches = self._probe()
            expected = model.validate(batches, metrics=[self.spec])
            check_reloads("validate", model, (batches, [self.spec]), expected)

    def _probe(self) -> tuple[PredictionProbe, list[Any]]:
        batches = [(each["prediction"], each["target"]) for each in self._parts([5, len(self.batch[1]) - 5])]
        return PredictionProbe({"device": "cpu"}), batches

    def _value(self, outputs: Sequence[StepOutput]) -> Any:
        metric = self.make()
        metric.reset()
        for output in outputs:
            metric.update(output)
        return metric.compute()

    def _whole(self) -> StepOutput:
        return _output(*self.batch)

    def _parts(self, sizes: Sequence[int]) -> list[StepOutput]:
        predictions, targets = (part.split(list(sizes)) for part in self.batch)
        starts = [sum(sizes[:index]) for index in range(len(sizes))]
        return [_output(*each) for each in zip(predictions, targets, starts, strict=True)]

    def _expect_value(self, found: Any, when: str, action: str) -> None:
        problem = difference(found, self.value, _TOLERANCE, "the value")
        expect(
            problem is None, f"{when} it is {found}, and for one batch of all it is {self.value}; {action}"
        )


def _output(prediction: Tensor, target: Tensor, start: int = 0) -> StepOutput:
    """Return a step output; its loss is a mean of numbers that depend on the positions of the samples."""
    losses = [(7 * index % 11) / 11 for index in range(start, start + len(target))]
    return {"prediction": prediction, "target": target, "loss": sum(losses) / max(len(losses), 1)}


def _cuts(samples: int) -> Iterator[list[int]]:
    """Yield sizes of batches: single samples, equal batches with a smaller last one, and random batches."""
    yield [1] * samples
    yield [5] * (samples // 5) + ([samples % 5] if samples % 5 else [])
    chance = random.Random(0)
    for _ in range(_TRIALS):
        places = sorted(chance.sample(range(1, samples), 4))
        yield [stop - start for start, stop in zip([0, *places], [*places, samples], strict=True)]


def _joined(how: str, values: list[Any]) -> Any:
    """Join the values of a state of all processes; without updates, the value of a process is a number."""
    return functools.reduce(_JOINED[how], (torch.as_tensor(value, dtype=_dtype(value)) for value in values))


def _dtype(value: Any) -> torch.dtype:
    return value.dtype if isinstance(value, Tensor) else torch.float64


def _on_meta(value: Any) -> Any:
    return value.to("meta") if isinstance(value, Tensor) else value
