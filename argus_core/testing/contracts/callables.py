"""The common checks of networks, losses and transforms: calling, copying and storing them."""

from __future__ import annotations

import copy
import tempfile
from abc import abstractmethod
from collections.abc import Iterable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from argus_core.checkpoint.module_state import load_module_state
from argus_core.errors import ArgusError
from argus_core.model.model import Model
from argus_core.testing.comparison import difference
from argus_core.testing.contract import Contract, expect, told
from argus_core.testing.fresh_process import in_fresh_process
from argus_core.testing.operations import OPERATIONS, predictable
from argus_core.testing.standard_inputs import chosen

__all__ = ["CallableContract", "InputContract", "check_reloads"]


class CallableContract(Contract):
    """Abstract contract of a component that is called with an input, and may be a `torch.nn.Module`."""

    input: Any = None
    part: Any = None

    @abstractmethod
    def call(self, part: Any, input: Any) -> Any:
        """Return the output of a part for an input."""

    def output(self, part: Any) -> Any:
        """Return the output of a part for its input, in evaluation mode, from a fixed seed."""
        if isinstance(part, nn.Module):
            part.eval()
        with predictable(), torch.no_grad():
            return self.call(part, copy.deepcopy(self.input))

    def be_built(self) -> None:
        with predictable():
            self.part = self.make()
        expect(
            callable(self.part),
            lambda: (
                f"its factory built {self.part!r}, which cannot be called; return a torch.nn.Module or "
                "another object with __call__"
            ),
        )

    def register_its_tensors(self) -> None:
        if isinstance(self.part, nn.Module):
            for path, module in self.part.named_modules():
                loose = [key for key, value in vars(module).items() if isinstance(value, Tensor)]
                expect(
                    not loose,
                    f"{'.'.join(filter(None, (path, *loose[:1])))} is a plain tensor, which is neither "
                    "moved to a device nor saved; use self.register_buffer (with persistent=False if it "
                    "follows from the parameters)",
                )

    def give_the_same_output_twice(self) -> None:
        first, again = self.output(self.part), self.output(self.part)
        problem = difference(again, first, where="the second output")
        expect(
            problem is None,
            f"in evaluation mode and from the same seed {problem}; keep no state between calls",
        )

    def leave_its_input_unchanged(self) -> None:
        given = copy.deepcopy(self.input)
        with predictable(), torch.no_grad():
            self.call(self.part, given)
        problem = difference(given, self.input, where="its input")
        expect(problem is None, f"{problem} after the call; do not change input tensors in place")

    def copy_deeply(self) -> None:
        copied = copy.deepcopy(self.part)
        problem = difference(self.output(copied), self.output(self.part), where="the copy's output")
        expect(problem is None, f"{problem}; let copy.deepcopy copy everything that it computes with")
        if isinstance(self.part, nn.Module):
            ours = {each.data_ptr() for each in self.part.state_dict().values() if _has_data(each)}
            shared = [
                name
                for name, each in copied.state_dict().items()
                if _has_data(each) and each.data_ptr() in ours
            ]
            expect(
                not shared, f"a deep copy shares {', '.join(shared[:3])} with the original; copy the tensors"
            )

    def keep_its_state(self) -> None:
        if not isinstance(self.part, nn.Module):
            return
        other = self.make()
        try:
            load_module_state(other, copy.deepcopy(self.part.state_dict()), "a second one")
        except ArgusError as error:
            raise AssertionError(
                f"{told(error)}; its state_dict must fit what its factory builds from the same parameters"
            ) from error
        problem = difference(self.output(other), self.output(self.part), where="the output")
        expect(
            problem is None,
            f"with the same state_dict in a second one {problem}; keep everything that it computes with in "
            "parameters and buffers, or compute it from its parameters",
        )


class InputContract(CallableContract):
    """Abstract contract of a component that is called with one input and returns an output."""

    options = MappingProxyType({"input": None})
    essential = (*Contract.essential, "take_its_input")

    @abstractmethod
    def inputs(self) -> Iterable[Any]:
        """Return the inputs to try if the author declares none."""

    def call(self, part: Any, input: Any) -> Any:
        return part(input)

    def take_its_input(self) -> None:
        def try_it(input: Any) -> None:
            if isinstance(self.part, nn.Module):
                self.part.eval()
            with predictable(), torch.no_grad():
                self.part(input)

        self.input = chosen(self.options["input"], self.inputs(), try_it, "input")


def check_reloads(operation: str, model: Model, args: tuple[Any, ...], expected: Any = None) -> None:
    """Check that a saved model gives the same result after it is loaded in a fresh process.

    Args:
        operation: a name in `argus_core.testing.operations`.
        model: the model, which is saved with the optimizer's state.
        args: the arguments of the operation after the file.
        expected: the expected result; by default that of the file loaded in this process.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "model.safetensors")
        model.save(file, optimizer_state=True)
        if expected is None:
            with predictable():
                expected = OPERATIONS[operation](file, *args)
        found = in_fresh_process(operation, file, *args)
    problem = difference(found, expected, where="the result")
    expect(
        problem is None,
        f"saved, and loaded by name in a fresh process, {problem}; keep everything that it computes with "
        "in its parameters and its state_dict",
    )


def _has_data(value: Any) -> bool:
    return isinstance(value, Tensor) and value.numel() > 0
