"""The contract of a loss."""

from __future__ import annotations

import copy
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from argus_core.steps.observed_mean import observe
from argus_core.steps.reduction import mean_divisor, reduction_of
from argus_core.tensors.batch import batch_size, deep_map, deep_split
from argus_core.tensors.joining import deep_cat
from argus_core.tensors.listing import tensors_in
from argus_core.testing.contract import FIRST_CHECKS, expect
from argus_core.testing.contracts.callables import CallableContract, check_reloads
from argus_core.testing.operations import predictable
from argus_core.testing.probe import LossProbe
from argus_core.testing.standard_inputs import chosen, pairs

__all__ = ["LossContract"]

_TOLERANCE = 1e-5


class LossContract(CallableContract):
    """The contract of a loss: it returns one number with the right gradient, which adds up over a batch."""

    kind = "loss"
    options = MappingProxyType({"batch": None, "separable": True, "exact_gradient": True})
    checks = (
        *FIRST_CHECKS,
        "register_its_tensors",
        "take_its_batch",
        "return_one_number",
        "leave_its_input_unchanged",
        "have_a_finite_gradient",
        "have_the_gradient_of_finite_differences",
        "add_up_over_parts_of_a_batch",
        "copy_deeply",
        "keep_its_state",
        "make_an_update",
        "load_in_a_fresh_process",
    )
    essential = (*CallableContract.essential, "take_its_batch", "return_one_number")

    def call(self, part: Any, input: Any) -> Any:
        return part(*input)

    def take_its_batch(self) -> None:
        def try_it(batch: Any) -> None:
            found = self.part(*batch)
            if isinstance(found, Tensor) and found.is_floating_point() and not found.isfinite().all():
                raise ValueError(f"it returns {found}")

        self.input = chosen(self.options["batch"], pairs(), try_it, "batch")

    def return_one_number(self) -> None:
        found = self.output(self.part)
        expect(
            isinstance(found, Tensor),
            lambda: f"it returned a {type(found).__name__}; return a 0-d tensor",
        )
        expect(
            found.ndim == 0,
            lambda: (
                f"it returned a tensor of shape {tuple(found.shape)}, but training needs one number; "
                "return the mean or the sum over the samples"
            ),
        )
        expect(
            found.is_floating_point() and bool(found.isfinite()),
            lambda: f"it returned {found.item()} ({found.dtype}); return a finite floating point number",
        )

    def have_a_finite_gradient(self) -> None:
        prediction, *others = copy.deepcopy(self.input)
        leaves = deep_map(prediction, _as_leaf)
        loss = self.part(leaves, *others)
        expect(
            loss.requires_grad, "it does not depend on the prediction; return it without detach() or item()"
        )
        loss.backward()
        gradients = [leaf.grad for leaf in tensors_in(leaves) if leaf.grad is not None]
        expect(
            bool(gradients) and all(bool(each.isfinite().all()) for each in gradients),
            "its gradient is not finite; clamp before a root, a log or a division",
        )

    def have_the_gradient_of_finite_differences(self) -> None:
        if not self.options["exact_gradient"]:
            return
        prediction, *others = deep_map(copy.deepcopy(tuple(self.input)), _doubled)
        loss = copy.deepcopy(self.part)
        loss = loss.double() if isinstance(loss, nn.Module) else loss
        leaves = [_as_leaf(each) for each in tensors_in(prediction)]

        def value(*inputs: Tensor) -> Any:
            given = iter(inputs)
            return loss(deep_map(prediction, lambda _: next(given)), *others)

        is_right = torch.autograd.gradcheck(value, leaves, raise_exception=False, eps=1e-6, atol=1e-4)
        expect(
            is_right,
            "its gradient is not that of finite differences, in float64; compute it with torch's functions "
            "of the prediction, fix its backward(), or pass exact_gradient=False",
        )

    def add_up_over_parts_of_a_batch(self) -> None:
        reduction = getattr(self.part, "reduction", "mean")
        expect(
            isinstance(reduction, str),
            lambda: f"its reduction is {reduction!r}; set the attribute to 'mean' or 'sum'",
        )
        if not self.options["separable"]:
            return
        prediction, target, *others = self.input
        if not others:
            observe(self.part, prediction, target)
            reduction = reduction_of(self.part)
        parts = _cut(self.input)
        with torch.no_grad():
            whole = float(self.part(*self.input))
            values = [float(self.part(*part)) for part in parts]
        if reduction != "sum":
            divisors = [float(mean_divisor(self.part, (None, part[1]))) for part in parts]
            values = [
                value * divisor / sum(divisors)
                for value, divisor in zip(values, divisors, strict=True)
                if divisor
            ]
        found = sum(values)
        expect(
            abs(found - whole) <= _TOLERANCE * max(abs(whole), 1.0),
            f"its reduction is a {reduction} over the samples, but its values for parts of a batch add up "
            f"to {found:.7g}, and its value for the whole batch is {whole:.7g}; fix its attribute reduction, "
            "add a method divisor(target) that returns the divisor of its mean, or pass separable=False if "
            "it needs the whole batch",
        )

    def make_an_update(self) -> None:
        with predictable():
            model = self._model()
            output = model.train_step(self.input)
            factor = model.get_nn_module().factor
        expect(factor.grad is not None, "training with it gave no gradient")
        whole = self.output(self.part).item()
        expect(
            abs(output["loss"] - whole) <= _TOLERANCE * max(abs(whole), 1.0),
            f"it is {output['loss']:.7g} in training, and {whole:.7g} in evaluation; return the same in both",
        )

    def load_in_a_fresh_process(self) -> None:
        with predictable():
            model = self._model()
            model.train_step(self.input)
            check_reloads("evaluate", model, (self.input,))

    def _model(self) -> LossProbe:
        return LossProbe({"loss": self.spec, "optimizer": ("SGD", {"lr": 1e-4}), "device": "cpu"})


def _cut(batch: Any) -> list[Any]:
    """Return two unequal parts of a batch."""
    first, *rest = deep_split(tuple(batch), max(1, batch_size(batch) // 3))
    return [first, deep_cat(rest)] if rest else [first]


def _doubled(value: Tensor) -> Tensor:
    return value.double() if value.is_floating_point() else value


def _as_leaf(value: Tensor) -> Tensor:
    return value.detach().requires_grad_() if value.is_floating_point() else value
