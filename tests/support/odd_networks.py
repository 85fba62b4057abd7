"""Networks whose constructors do what makes it hard to leave initial values out."""

from __future__ import annotations

import copy
import io
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.nn.utils import spectral_norm as old_spectral_norm

Build = Callable[[], nn.Module]


def network(change: Callable[[nn.Module], Any]) -> Build:
    """Return what builds a network of two layers, changed as in a constructor."""

    def build() -> nn.Module:
        module = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 3))
        return change(module) or module

    return build


def layers(module: nn.Module) -> tuple[nn.Linear, nn.Linear]:
    first, second = module.children()
    assert isinstance(first, nn.Linear)
    assert isinstance(second, nn.Linear)
    return first, second


def weight(module: nn.Module) -> nn.Parameter:
    return layers(module)[0].weight


# State that is overwritten, whatever was done to it.


def tied(module: nn.Module) -> None:
    first, second = layers(module)
    first.weight, second.weight = nn.Parameter(torch.randn(6, 4)), nn.Parameter(torch.randn(3, 6))
    module.add_module("head", nn.Linear(4, 6))
    module.get_submodule("head").weight = first.weight


def initialised_in_every_way(module: nn.Module) -> None:
    for function in (
        "uniform_ normal_ trunc_normal_ xavier_uniform_ xavier_normal_ kaiming_uniform_ kaiming_normal_ "
        "orthogonal_ ones_ zeros_ eye_"
    ).split():
        module.register_parameter(function, nn.Parameter(torch.empty(4, 4)))
        getattr(nn.init, function)(getattr(module, function))
    weight(module).data.normal_(0, 0.02).mul_(0.5).clamp_(-1, 1).div_(2)
    weight(module).data[:, 0] = 0
    weight(module).data.exponential_()


def a_truncated_normal_by_its_inverse(module: nn.Module) -> None:
    with torch.no_grad():
        weight(module).uniform_(-0.9, 0.9).erfinv_().mul_(1.4).add_(0.1).clamp_(-2, 2)


def parameters_of_random_numbers(module: nn.Module) -> None:
    scaled = nn.Parameter(torch.randn(1, 3, 4) * 0.02)
    module.register_parameter("positions", scaled)
    module.register_parameter("like", nn.Parameter(torch.rand_like(scaled) + torch.rand(1)))
    module.register_parameter("complex", nn.Parameter(torch.randn(2, dtype=torch.complex64)))
    module.register_buffer("random", torch.randn(3))


class CopiedLayers(nn.Module):
    """Copies of one layer, one of them frozen."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.Linear(4, 4)
        self.copies = nn.ModuleList(copy.deepcopy(layer) for _ in range(3))
        self.copies[0].requires_grad_(False)


class WithShapeFromForward(nn.Module):
    """Sizes its head by what the body makes of zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten())
        self.head = nn.Linear(self.body(torch.zeros(2, 1, 6, 6)).shape[1], 2)


class Reset(nn.Linear):
    """Has initial values of its own."""

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=0.1)
        with torch.no_grad():
            self.bias.copy_(self.weight.sum(1))


class Positions(nn.Module):
    """Keeps tables that it computes from nothing random, some of them outside its state."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        angles = torch.outer(torch.arange(6.0), torch.arange(1.0, 5.0).reciprocal())
        self.register_buffer("table", angles.sin(), persistent=False)
        self.register_buffer("kept", angles.cos())
        self.plain = torch.linspace(0, 1, 5)
        self.mask = torch.ones(4, 4).triu()


def channels_last(module: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), module).to(memory_format=torch.channels_last)


def a_transposed_parameter(module: nn.Module) -> None:
    module.register_parameter("transposed", nn.Parameter(torch.randn(4, 6).t()))


def a_view_of_a_weight(module: nn.Module) -> None:
    module.first_row = weight(module).data[0]


def pretrained(module: nn.Module) -> None:
    module.load_state_dict({name: torch.ones_like(value) for name, value in module.state_dict().items()})


def loaded_without_values(module: nn.Module) -> None:
    other = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 3))
    module.load_state_dict(other.state_dict())


def python_and_numpy_randomness(module: nn.Module) -> None:
    random.seed(1)
    np.random.seed(1)
    module.register_buffer("order", torch.tensor([random.random(), np.random.rand()]), persistent=False)


DRAW_NOTHING: dict[str, Build] = {
    change.__name__: network(change)
    for change in (
        tied, initialised_in_every_way, a_truncated_normal_by_its_inverse, parameters_of_random_numbers,
        channels_last, a_transposed_parameter, a_view_of_a_weight, pretrained, loaded_without_values,
         python_and_numpy_randomness,
    )
} | {
    "CopiedLayers": CopiedLayers,
    "WithShapeFromForward": WithShapeFromForward,
    "Reset": lambda: Reset(4, 3),
    "Positions": Positions,
    "half precision": network(lambda module: module.to(torch.bfloat16)),
    "frozen": network(lambda module: module.requires_grad_(False)),
    "weight_norm": lambda: parametrizations.weight_norm(nn.Linear(4, 3)),
    "spectral_norm": lambda: parametrizations.spectral_norm(nn.Linear(4, 3)),
    "old spectral_norm": lambda: old_spectral_norm(nn.Linear(4, 3)),
}  # fmt: skip


# Values of random weights, or other random values, that stay when the state is put in.


def a_buffer_outside_the_state(module: nn.Module) -> None:
    module.register_buffer("norm", weight(module).detach().norm(), persistent=False)


def a_random_buffer_outside_the_state(module: nn.Module) -> None:
    module.register_buffer("noise", torch.randn(4), persistent=False)


def a_plain_attribute(module: nn.Module) -> None:
    module.first = weight(module).detach().clone()


def a_tensor_in_a_list(module: nn.Module) -> None:
    module.seen = [weight(module).detach().sum()]


def a_tensor_in_a_closure(module: nn.Module) -> None:
    total = weight(module).detach().sum()
    module.total = lambda: total


def a_float(module: nn.Module) -> None:
    module.scale = weight(module).abs().max().item()


def another_float(module: nn.Module) -> None:
    module.scale = float(weight(module)[0, 0].detach())


def a_list_of_numbers(module: nn.Module) -> None:
    module.values = weight(module).tolist()


def a_numpy_array(module: nn.Module) -> None:
    module.total = float(weight(module).detach().numpy().sum())


def an_array_of_numpys_making(module: nn.Module) -> None:
    module.total = float(np.asarray(weight(module).detach()).sum())


def a_text(module: nn.Module) -> None:
    module.text = str(weight(module))


def a_text_in_a_text(module: nn.Module) -> None:
    module.text = f"{weight(module)}"


def memory_of_numpys(module: nn.Module) -> None:
    memory = np.zeros(4, dtype=np.float32)
    nn.init.normal_(torch.from_numpy(memory))
    module.parts = torch.from_numpy(memory)


def memory_of_numpys_that_is_copied_to(module: nn.Module) -> None:
    memory = np.zeros((6, 4), dtype=np.float32)
    torch.from_numpy(memory).copy_(weight(module).detach())
    module.parts = torch.from_numpy(memory)


def a_tensor_of_tensors(module: nn.Module) -> None:
    module.parts = torch.tensor([weight(module)[0, 0].detach(), 1.0])


def a_tensor_of_the_old_constructor(module: nn.Module) -> None:
    module.parts = torch.Tensor([weight(module)[0, 0].detach(), 1.0])


def a_condition(module: nn.Module) -> None:
    module.branch = "positive" if weight(module)[0, 0] > 0 else "negative"


def a_shape(module: nn.Module) -> None:
    module.positive = len(weight(module)[weight(module) > 0])


def a_comparison(module: nn.Module) -> None:
    module.same = torch.equal(weight(module), torch.zeros(6, 4))


def a_pickle(module: nn.Module) -> None:
    file = io.BytesIO()
    torch.save(weight(module), file)
    file.seek(0)
    module.first = torch.load(file)


def a_deep_copy_of_a_tensor(module: nn.Module) -> None:
    module.first = copy.deepcopy(weight(module).detach())


def a_storage(module: nn.Module) -> None:
    module.first = torch.tensor([]).set_(weight(module).detach().untyped_storage().clone())  # type: ignore[call-overload]


def a_permutation(module: nn.Module) -> None:
    module.register_buffer("order", torch.randperm(6), persistent=False)


def a_sparse_initialiser(module: nn.Module) -> None:
    nn.init.sparse_(weight(module), 0.5)


def a_handler_of_every_error(module: nn.Module) -> None:
    try:
        module.scale = weight(module)[0, 0].item()
    except BaseException:
        module.scale = 0.0


def a_part_of_a_larger_memory(module: nn.Module) -> None:
    flat = torch.randn(12)
    module.register_parameter("part", nn.Parameter(flat[:6]))
    module.flat = flat


def a_seed(module: nn.Module) -> None:
    torch.manual_seed(3)
    module.register_buffer("noise", torch.randn(4), persistent=False)


def a_seed_of_its_own(module: nn.Module) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        module.register_buffer("noise", torch.randn(4), persistent=False)


def a_generator_of_its_own(module: nn.Module) -> None:
    generator = torch.Generator().manual_seed(3)
    nn.init.normal_(weight(module), generator=generator)
    module.register_buffer("noise", generator.get_state(), persistent=False)


def a_forward_with_dropout(module: nn.Module) -> None:
    module.total = nn.functional.dropout(torch.ones(8)).sum()


def running_statistics_outside_the_state(module: nn.Module) -> None:
    mean, variance = torch.zeros(6), torch.ones(6)
    nn.functional.batch_norm(layers(module)[0](torch.ones(2, 4)), mean, variance, training=True)
    module.register_buffer("mean", mean, persistent=False)


class KeepsSomeState(nn.Linear):
    """Does not let its bias be loaded."""

    def _load_from_state_dict(self, state: Any, prefix: str, *args: Any) -> None:
        kept = {**state, prefix + "bias": self.bias.detach().clone()}
        super()._load_from_state_dict(kept, prefix, *args)


def a_hook_that_changes_the_state(module: nn.Module) -> None:
    def keep(module: Any, state: Any, prefix: str, *_: Any) -> None:
        state[prefix + "weight"] = module.weight.detach().clone()

    layers(module)[0].register_load_state_dict_pre_hook(keep)


class ExtraState(nn.Linear):
    """Keeps a number of its weights as extra state."""

    def get_extra_state(self) -> Tensor:
        return self.weight.detach().sum()

    def set_extra_state(self, state: Tensor) -> None:
        self.seen = float(state)


class Wrapped(Tensor):
    """Holds a tensor, on which it calls operators itself."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> Wrapped:
        wrapped: Wrapped = Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)
        wrapped.inner = inner
        return wrapped

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*(arg.inner if isinstance(arg, Wrapped) else arg for arg in args), **(kwargs or {}))


def a_tensor_class(module: nn.Module) -> None:
    module.total = float(Wrapped(weight(module).detach()).sum())


DRAW_NUMBERS: dict[str, Build] = {
    change.__name__: network(change)
    for change in (
        a_buffer_outside_the_state, a_random_buffer_outside_the_state, a_plain_attribute, a_tensor_in_a_list,
        a_tensor_in_a_closure, a_float, another_float, a_list_of_numbers, a_numpy_array,
        an_array_of_numpys_making, a_tensor_of_tensors, a_tensor_of_the_old_constructor, a_condition, a_shape,
        a_comparison, a_pickle, a_deep_copy_of_a_tensor, a_storage, a_permutation, a_sparse_initialiser,
        a_handler_of_every_error, a_part_of_a_larger_memory, a_seed, a_seed_of_its_own,
        a_forward_with_dropout, running_statistics_outside_the_state, a_hook_that_changes_the_state,
        a_tensor_class, a_generator_of_its_own, a_text, a_text_in_a_text, memory_of_numpys,
        memory_of_numpys_that_is_copied_to,
    )
} | {
    "orthogonal": lambda: parametrizations.orthogonal(nn.Linear(4, 4)),
    "KeepsSomeState": lambda: KeepsSomeState(4, 3),
    "ExtraState": lambda: ExtraState(4, 3),
}  # fmt: skip
