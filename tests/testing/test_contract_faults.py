"""A part that breaks its contract is found out, and told what was expected, what was found and what to do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import Dataset, Sampler, TensorDataset, default_collate

import argus_core
from argus_core import Callback, Metric, hookimpl
from argus_core.callbacks import on_start
from argus_core.errors import ParamsError
from argus_core.registry import discovery
from argus_core.testing import check_component
from argus_core.testing.checking import contracts_of


@pytest.fixture(autouse=True)
def _registry() -> Iterator[None]:
    with argus_core.isolated_registry(builtins=True):
        yield


def refused(kind: str, part: Callable[..., Any], match: str, **checked_with: Any) -> None:
    argus_core.register(kind, "part", part)
    with pytest.raises(AssertionError, match=match) as caught:
        check_component(kind, "part", reload=False, **checked_with)
    assert str(caught.value).startswith(f"{kind} 'part' must ")
    assert "\n" not in str(caught.value)


# All kinds.


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(6, 3)

    def forward(self, input: Tensor) -> Tensor:
        output: Tensor = self.out(input)
        return output


def test_a_part_of_this_process_alone_is_told_how_to_be_found() -> None:
    argus_core.register("nn_module", "net", Net)
    with pytest.raises(AssertionError, match=r'of the group "argus_core.nn_module".*reload=False'):
        check_component("nn_module", "net")
    check_component("nn_module", "net", reload=False)


def test_a_parameter_without_documentation_is_named() -> None:
    class Undocumented(Net):
        """A network.

        Args:
            width: how wide.
        """

        def __init__(self, width: int = 1, depth: int = 1) -> None:
            super().__init__()

    refused(
        "nn_module",
        Undocumented,
        r"document its parameters: .* does not describe 'depth'; write 'depth: ...'",
    )


def test_a_constructor_that_raises_is_told_with_its_error() -> None:
    class Failing(nn.Module):
        def __init__(self) -> None:
            raise ZeroDivisionError("no width")

    refused("nn_module", Failing, r"must be built: it raised BuildError: .*ZeroDivisionError: no width")


def test_a_constructor_that_ends_the_program_is_told() -> None:
    refused("loss", lambda: exit(3), r"must be built: it raised BuildError: .*SystemExit: 3")


def test_params_that_no_file_can_keep_are_told() -> None:
    refused("nn_module", Net, r"take plain data: .*params\['width'\] is a function", params={"width": len})


def test_checks_after_an_essential_one_are_not_run() -> None:
    argus_core.register("loss", "part", lambda: 3)
    (contract,) = contracts_of("loss", "part", {"reload": False})
    states = {result.check: result.state for result in contract.results()}
    assert states["be built"] == "failed"
    assert states["take plain data"] == "passed"
    assert states["copy deeply"] == "not run"


def test_what_the_author_declares_is_used_unless_given() -> None:
    class Declared(Net):
        checked_with: Mapping[str, Any] = {"input": (2, 6), "reload": False}

    argus_core.register("nn_module", "part", Declared)
    check_component("nn_module", "part")
    with pytest.raises(AssertionError, match=r"take its input: it raised RuntimeError"):
        check_component("nn_module", "part", input=(2, 5))


def test_each_of_several_examples_is_checked() -> None:
    class Declared(Net):
        checked_with = ({"input": (2, 6), "reload": False}, {"input": (2, 7), "reload": False})

    argus_core.register("nn_module", "part", Declared)
    with pytest.raises(AssertionError, match="take its input"):
        check_component("nn_module", "part")


@pytest.mark.parametrize("declared", [3, "params", [3]])
def test_a_declaration_of_another_shape_is_told(declared: Any) -> None:
    class Declared(Net):
        checked_with = declared

    argus_core.register("nn_module", "part", Declared)
    with pytest.raises(ParamsError, match=r"checked_with of nn_module 'part' is .*; write a dict of"):
        check_component("nn_module", "part")


# Networks.


def test_a_network_that_takes_no_standard_input_is_told_to_declare_one() -> None:
    class Odd(Net):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input[:, :6].reshape(-1, 11, 6))

    refused("nn_module", Odd, r"the standard inputs \(float32\[4, 6\], .*checked_with = \{'input': ...\}")


def test_a_tensor_that_is_no_buffer_is_named() -> None:
    class Loose(Net):
        def __init__(self) -> None:
            super().__init__()
            self.out.scale = torch.ones(3)  # type: ignore[assignment]

    refused("nn_module", Loose, r"register its tensors: out.scale is a plain tensor.*self.register_buffer")


def test_a_network_that_remembers_its_last_input_is_found_out() -> None:
    class Counting(Net):
        calls = 0

        def forward(self, input: Tensor) -> Tensor:
            self.calls += 1
            return super().forward(input) * self.calls

    refused("nn_module", Counting, r"give the same output twice: .* differs by .*; keep no state")


def test_a_network_that_changes_its_input_is_found_out() -> None:
    class Greedy(Net):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input.mul_(2))

    refused(
        "nn_module",
        Greedy,
        r"leave its input unchanged: its input differs by .* do not change input tensors in place",
    )


def test_a_network_that_cannot_learn_is_found_out() -> None:
    class Cut(Net):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input).detach() * self.out.bias.sum() * 0

    refused("nn_module", Cut, r"make an update: no parameter changed in an update")


def test_a_network_with_state_outside_of_its_state_dict_is_found_out() -> None:
    class Drawn(Net):
        def __init__(self) -> None:
            super().__init__()
            self.order = torch.rand(3).tolist()

        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input) * torch.tensor(self.order)

    refused("nn_module", Drawn, r"keep its state: .* in a second one the output differs")


def test_a_network_that_cannot_be_copied_is_found_out() -> None:
    class Locked(Net):
        def __deepcopy__(self, memo: Any) -> Any:
            raise TypeError("cannot pickle 'lock'")

    refused("nn_module", Locked, r"copy deeply: it raised TypeError: cannot pickle 'lock'")


def test_a_network_without_tensors_in_its_output_is_told() -> None:
    class Listing(Net):
        def forward(self, input: Tensor) -> Any:
            return super().forward(input).tolist()

    refused("nn_module", Listing, r"make an update: its output, a list, contains no tensor of floating point")


# Losses.


def test_a_loss_of_each_sample_is_told_to_join_them() -> None:
    refused("loss", lambda: nn.MSELoss(reduction="none"), r"one number: .* shape \(7, 5\).*mean or the sum")


def test_a_sum_of_ones_own_is_found_to_be_one() -> None:
    class Sum(nn.Module):
        def forward(self, input: Tensor, target: Tensor) -> Tensor:
            return nn.functional.cross_entropy(input, target, reduction="sum")

    argus_core.register("loss", "part", Sum)
    check_component("loss", "part", reload=False)


def test_a_loss_of_the_batch_as_a_whole_may_say_so() -> None:
    class Whole(nn.Module):
        def forward(self, input: Tensor, target: Tensor) -> Tensor:
            return nn.functional.cross_entropy(input, target).square()

    refused("loss", Whole, r"separable=False")
    check_component("loss", "part", separable=False, reload=False)


def test_a_loss_with_a_wrong_gradient_is_found_out() -> None:
    class Wrong(nn.Module):
        def forward(self, input: Tensor, target: Tensor) -> Tensor:
            return nn.functional.mse_loss(input * 1.0, target) + (input.detach() ** 2).mean()

    refused("loss", Wrong, r"have the gradient of finite differences: its gradient is not that")


def test_a_loss_with_an_infinite_gradient_is_found_out() -> None:
    class Root(nn.Module):
        def forward(self, input: Tensor, target: Tensor) -> Tensor:
            return (input - target).abs().sqrt().mean()

    same = torch.ones(4, 3)
    refused("loss", Root, r"have a finite gradient: .* clamp", batch=lambda: (same, same.clone()))


def test_a_loss_off_the_graph_is_found_out() -> None:
    class Off(nn.Module):
        def forward(self, input: Tensor, target: Tensor) -> Tensor:
            return nn.functional.cross_entropy(input, target).detach()

    refused("loss", Off, r"have a finite gradient: it does not depend on the prediction")


# Optimizers.


class Plain(torch.optim.Optimizer):
    """Gradient descent.

    Args:
        lr: learning rate.
    """

    sign = -1.0

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__(params, {"lr": lr})
        self.steps = 0

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.steps += 1
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter += self.sign * group["lr"] * self.rate() * parameter.grad

    def rate(self) -> float:
        return 1.0


def test_an_optimizer_that_keeps_to_the_contract_is_found_to_do_so() -> None:
    argus_core.register("optimizer", "part", Plain)
    check_component("optimizer", "part", reload=False)


def test_an_optimizer_that_climbs_is_found_out() -> None:
    class Climbing(Plain):
        sign = 1.0

    refused("optimizer", Climbing, r"make the loss smaller: after 30 updates .*check the sign")


def test_an_optimizer_with_state_of_its_own_is_found_out() -> None:
    class Decaying(Plain):
        def rate(self) -> float:
            return 1 / self.steps

    refused(
        "optimizer", Decaying, r"resume exactly from its state: .* keep everything that an update depends on"
    )


# Schedulers.


class Falling(LRScheduler):
    """Halves the rate.

    Args:
        optimizer: the optimizer.
    """

    def get_lr(self) -> Any:
        return [rate * self.factor(self.last_epoch) for rate in self.base_lrs]

    def factor(self, epoch: int) -> float:
        return 0.5**epoch


def test_a_scheduler_with_a_negative_rate_is_found_out() -> None:
    class Negative(Falling):
        def factor(self, epoch: int) -> float:
            return 1.0 - epoch

    refused("lr_scheduler", Negative, r"give usable rates: a learning rate is -0.05")


def test_a_scheduler_that_forgets_is_found_out() -> None:
    class Forgetful(Falling):
        def factor(self, epoch: int) -> float:
            self.called = getattr(self, "called", 0) + 1
            return 1 / self.called

        def state_dict(self) -> dict[str, Any]:
            return {key: value for key, value in super().state_dict().items() if key != "called"}

    refused("lr_scheduler", Forgetful, r"resume exactly from its state: resumed after two epochs, the rates")


# Step strategies.


def test_a_strategy_with_a_misspelled_hook_is_told_the_right_one() -> None:
    class Misspelled:
        @hookimpl
        def transform_gradient(self, parameters: Any) -> None:
            pass

    refused("step", Misspelled, r"must be built: .*'transform_gradient'.* did you mean 'transform_gradients'")


def test_a_strategy_with_a_wrong_argument_is_told_the_right_ones() -> None:
    class Wrong:
        @hookimpl
        def after_update(self, network: Any) -> None:
            pass

    refused(
        "step", Wrong, r"must be built: .*the slot is after_update\(self, model: 'AbstractModel', stepped"
    )


def test_a_strategy_without_slots_is_told_which_there_are() -> None:
    refused("step", dict, r"must be built: .* implements no slot; mark a method .*transform_gradients")


def test_a_strategy_that_depends_on_how_a_window_is_cut_is_found_out() -> None:
    class ClippedParts:
        @hookimpl
        def set_up(self, model: Any) -> None:
            self.network = model.get_nn_module()

        @hookimpl
        def backward(self, loss: Tensor) -> None:
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.network.parameters(), 0.3)

    refused("step", ClippedParts, r"compose with every other strategy: .* from the loop by hand")


def test_a_strategy_that_forgets_is_found_out() -> None:
    class Warming:
        updates = 0

        @hookimpl
        def transform_gradients(self, parameters: Any) -> None:
            self.updates += 1
            for parameter in parameters:
                parameter.grad *= min(1.0, self.updates / 10)

    refused(
        "step", Warming, r"resume exactly from its state: .*return all that an update depends on from", size=0
    )


# Metrics.


class Right(Metric):
    """The number of right predictions."""

    name = "right"
    states = {"total": "sum"}
    total: Any = 0

    def update(self, step_output: Mapping[str, Any]) -> None:
        prediction, target = step_output["prediction"], step_output["target"]
        self.total = self.total + (prediction.argmax(1) == target).sum()

    def compute(self) -> float:
        return float(self.total)


def test_a_metric_that_keeps_to_the_contract_is_found_to_do_so() -> None:
    argus_core.register("metric", "part", Right)
    check_component("metric", "part", reload=False)


def test_a_mean_of_means_is_found_out() -> None:
    class MeanOfMeans(Right):
        """Means of batches.

        Args:
            name: what it is called.
        """

        states = {"total": "sum", "count": "sum"}
        count = 0

        def update(self, step_output: Mapping[str, Any]) -> None:
            prediction, target = step_output["prediction"], step_output["target"]
            self.total = self.total + (prediction.argmax(1) == target).float().mean()
            self.count += 1

        def compute(self) -> float:
            return float(self.total) / self.count

    refused("metric", MeanOfMeans, r"be equal for any batches: for batches of .*add up sums and counts")


def test_an_undeclared_state_is_found_out() -> None:
    class Undeclared(Right):
        """Shares.

        Args:
            name: what it is called.
        """

        count = 0

        def reset(self) -> None:
            super().reset()
            self.count = 0

        def update(self, step_output: Mapping[str, Any]) -> None:
            super().update(step_output)
            self.count += len(step_output["target"])

        def compute(self) -> float:
            return float(self.total) / max(self.count, 1)

    refused("metric", Undeclared, r"be joined from several processes: .* declare every attribute")


def test_a_metric_that_waits_for_the_device_is_found_out() -> None:
    class Waiting(Right):
        """Waits.

        Args:
            name: what it is called.
        """

        def update(self, step_output: Mapping[str, Any]) -> None:
            prediction, target = step_output["prediction"], step_output["target"]
            self.total += int((prediction.argmax(1) == target).sum().item())

    refused("metric", Waiting, r"update without waiting for the device: .*read them in compute\(\)")
    check_component("metric", "part", waits=True, reload=False)


def test_a_metric_that_is_not_reset_is_found_out() -> None:
    class Kept(Right):
        """Is not reset.

        Args:
            name: what it is called.
        """

        def reset(self) -> None:
            pass

    refused("metric", Kept, r"start over after a reset: .*let reset\(\) set every state")


def test_a_metric_without_states_is_found_out() -> None:
    class Stateless(Right):
        """Has none.

        Args:
            name: what it is called.
        """

        states = {}

    refused("metric", Stateless, r'declare its states: it declares no states, .*states = \{"total": "sum"')


def test_what_is_no_metric_is_told() -> None:
    refused("metric", dict, r"must be built: its factory built a dict; return an argus_core.Metric")


# Callbacks.


def test_a_misspelled_event_is_told_the_right_one() -> None:
    class Misspelled(Callback):
        def epoch_completed(self, state: Any) -> None:
            pass

    refused("callback", Misspelled, r"listen to known events: .*did you mean 'epoch_complete'")


def test_a_callback_without_events_is_told_which_there_are() -> None:
    refused(
        "callback", Callback, r"a Callback listens to no event; .* takes the state, .* or epoch_complete or"
    )


def test_a_callback_whose_state_start_wipes_is_found_out() -> None:
    class Wiped(Callback):
        count = 0

        def start(self, state: Any) -> None:
            self.count = 0

        def epoch_complete(self, state: Any) -> None:
            self.count += 1

        def state_dict(self) -> dict[str, Any]:
            return {"count": self.count}

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            self.count = state_dict["count"]

    refused("callback", Wiped, r"keep its state: .*\['count'\].*do not change it in start\(\)")


def test_a_callback_that_acts_by_what_it_forgets_is_found_out() -> None:
    class Halving(Callback):
        epochs = 0

        def epoch_complete(self, state: Any) -> None:
            self.epochs += 1
            state.model.set_lr(0.05 / 2**self.epochs)

    refused("callback", Halving, r"resume exactly from its state: resumed after two epochs, the rates")


def test_a_callback_that_is_a_function_keeps_the_contract() -> None:
    def started() -> Any:
        return on_start(lambda state: None)

    argus_core.register("callback", "part", started)
    check_component("callback", "part", reload=False)


# Datasets.


class Numbers(Dataset[Any]):
    """Numbers."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < 6:
            raise IndexError(index)
        return torch.tensor([float(index)]), index


def test_a_dataset_that_keeps_to_the_contract_is_found_to_do_so() -> None:
    argus_core.register("dataset", "part", Numbers)
    check_component("dataset", "part", reload=False)


def test_a_dataset_without_end_is_found_out() -> None:
    class Endless(Numbers):
        """Endless."""

        def __getitem__(self, index: int) -> Any:
            return super().__getitem__(index % 6)

    refused("dataset", Endless, r"end at its length: it has 6 samples, but returns another one at index 6")


def test_a_dataset_from_the_clock_is_found_out() -> None:
    class Clocked(Numbers):
        """Clocked."""

        def __getitem__(self, index: int) -> Any:
            import time

            sample, target = super().__getitem__(index)
            return sample + time.perf_counter_ns() % 997, target

    refused("dataset", Clocked, r"give the same samples twice: .*draw random numbers from torch")


def test_a_dataset_that_workers_cannot_get_is_found_out() -> None:
    class Unsent(Numbers):
        """Unsent."""

        def __init__(self) -> None:
            self.change = lambda value: value

        def __deepcopy__(self, memo: Any) -> Any:
            return self

    refused("dataset", Unsent, r"be sent to worker processes: it cannot be sent .* store no lambdas")


def test_a_sample_that_is_no_pair_is_told() -> None:
    refused(
        "dataset",
        lambda: TensorDataset(torch.zeros(6, 2)),
        r"make batches: a batch of it is a list of 1; return samples \(input, target\)",
    )


# Samplers and collate functions.


class Listed(Sampler[Any]):
    """Indices.

    Args:
        dataset: is not read.
    """

    length = 3

    def __init__(self, dataset: Any) -> None:
        self.seed = torch.initial_seed()

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Any]:
        return iter([0, 1, 2])


class Short(Listed):
    length = 2


class Outside(Listed):
    def __iter__(self) -> Iterator[Any]:
        return iter([0, 24, 2])


class InLists(Listed):
    def __iter__(self) -> Iterator[Any]:
        return iter([[0], [1], [2]])


class Once(Listed):
    def __init__(self, dataset: Any) -> None:
        self.left = iter([0, 1, 2])

    def __iter__(self) -> Iterator[Any]:
        return self.left


class Timed(Listed):
    length = 24

    def __iter__(self) -> Iterator[Any]:
        generator = torch.Generator()
        generator.seed()
        return iter(torch.randperm(24, generator=generator).tolist())


@pytest.mark.parametrize(
    ("sampler", "reason"),
    [
        (Short, "give as many indices as its length: it gives 3 indices, and its length is 2; return"),
        (Outside, "give indices of the dataset: it gives 24 for a dataset of 24 samples; give integers"),
        (InLists, r"give indices of the dataset: it gives \[0\] for a dataset of 24 samples; give int"),
        (Once, "give every epoch from the beginning: iterated again, it gives 0 indices instead of 3; let"),
        (Timed, "give the same order from the same seed: two runs with the same seed give different"),
        (lambda: 3, "be built: .* builds a int, which is not a sampler"),
    ],
)
def test_a_sampler_that_breaks_the_contract_is_found_out(sampler: Any, reason: str) -> None:
    refused("sampler", sampler, reason)


def test_a_sampler_is_checked_with_a_dataset_of_its_author() -> None:
    argus_core.register("sampler", "part", Listed)
    check_component("sampler", "part", reload=False, dataset=lambda: range(3))
    with pytest.raises(AssertionError, match="gives 2 for a dataset of 2 samples"):
        check_component("sampler", "part", reload=False, dataset=lambda: range(2))


class Counting:
    """Batches that know how many came before."""

    calls = 0

    def __call__(self, samples: Any) -> Any:
        self.calls += 1
        return [*default_collate(samples), torch.tensor(self.calls)]


class InPlace:
    """Batches of changed samples."""

    def __call__(self, samples: Any) -> Any:
        for input, _ in samples:
            input.zero_()
        return default_collate(samples)


class Empty:
    """Batches without tensors."""

    def __call__(self, samples: Any) -> Any:
        return len(samples)


@pytest.mark.parametrize(
    ("collate", "reason"),
    [
        (Counting, "give the same batch twice: .*; keep no state between calls"),
        (InPlace, "leave its samples unchanged: .* after the call; do not change samples in place"),
        (Empty, "make a batch: a batch contains no tensor; return"),
        (
            lambda: lambda samples: default_collate(samples),
            "be sent to worker processes: .*; return a function",
        ),
        (lambda: 3, "be built: .* builds a int, which cannot be called"),
    ],
)
def test_a_collate_function_that_breaks_the_contract_is_found_out(collate: Any, reason: str) -> None:
    refused("collate", collate, reason)


# Transforms and models.


def test_a_transform_in_place_is_found_out() -> None:
    refused("transform", lambda: nn.ReLU(inplace=True), r"leave its input unchanged: its input differs")


def test_a_transform_that_cannot_be_called_is_told() -> None:
    refused("transform", dict, r"must be built: its factory built \{\}, which cannot be called")


def test_a_model_is_checked_with_its_params_and_a_batch() -> None:
    class Own(argus_core.Model, name="own"):
        nn_module = Net
        loss = nn.MSELoss

    params = {"optimizer": ("SGD", {"lr": 0.1})}
    with pytest.raises(AssertionError, match=r"make an update: its checks need a batch; pass batch="):
        check_component("model", "own", params, reload=False)
    check_component("model", "own", params, batch=lambda: (torch.ones(2, 6), torch.ones(2, 3)), reload=False)


def test_what_is_no_model_is_told() -> None:
    refused("model", Net, r"must be built: it is .*Net.*; declare a subclass of argus_core.Model")


# Configuration templates.


def _config(**sections: Any) -> dict[str, Any]:
    fit = {"num_epochs": 2, **sections.pop("fit", {})}
    model = {"nn_module": "Net", "loss": "MSELoss", "optimizer": "SGD", **sections.pop("model", {})}
    return {"model": model, "data": {"train": "numbers"}, "fit": fit, **sections}


@pytest.fixture
def _parts() -> None:
    argus_core.register("nn_module", "Net", Net)
    argus_core.register("dataset", "numbers", Numbers)


@pytest.mark.usefixtures("_parts")
def test_a_template_that_keeps_to_the_contract_is_found_to_do_so() -> None:
    argus_core.register("config", "part", _config)
    check_component("config", "part", reload=False)


def test_a_partial_template_says_so() -> None:
    refused("config", lambda: {"fit": {"seed": 0}}, r"set known keys: .* \[model\] has no 'nn_module'")
    argus_core.register("config", "partial", lambda: {"fit": {"seed": 0}})
    check_component("config", "partial", complete=False, reload=False)


@pytest.mark.usefixtures("_parts")
@pytest.mark.parametrize(
    ("factory", "reason"),
    [
        (
            lambda: 3,
            r"be built: it raised ConfigError: config 'part' of this process returned 3; its factory",
        ),
        (lambda: _config(fit={"epochs": 3}), r"set known keys: .* \[fit\] has 'epochs'; did you mean"),
        (lambda: _config(model={"loss": "MSELos"}), r"choose installed components: .*mean 'MSELoss'"),
        (lambda: _config(model={"step": ["amp", "sm"]}), r"choose installed components: .*mean 'sam'"),
        (lambda: _config(model={"name": "Modl"}), r"choose installed components: .*did you mean 'Model'"),
        (
            lambda: _config(fit={"run_dir": "runs/a"}),
            r"leave the run directory to the file: .*; leave it out",
        ),
        (lambda: _config(template="part"), r"set known keys: .* starts from itself: part -> part"),
    ],
)
def test_a_template_that_breaks_the_contract_is_found_out(factory: Callable[[], Any], reason: str) -> None:
    refused("config", factory, reason)


@pytest.mark.usefixtures("_parts")
def test_a_template_that_changes_is_found_out() -> None:
    seeds = iter(range(100))
    refused(
        "config",
        lambda: _config(fit={"seed": next(seeds)}),
        r"return the same again: .*depend only on its parameters",
    )


def test_a_template_whose_module_imports_torch_is_found_out(
    fake_distribution: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "{}\n\ndef settings():\n    'Settings.'\n    return {{'fit': {{'seed': 0}}}}\n"
    entry_points = {"config": {"slow": "slow_templates:settings", "fast": "fast_templates:settings"}}
    modules = {
        "slow_templates": source.format("import torch"),
        "fast_templates": source.format("print('imported')"),
    }
    folder = fake_distribution("templates", "1.0", entry_points, modules)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    with argus_core.isolated_registry() as registry:
        registry.update(discovery.scan())
        check_component("config", "fast", complete=False)
        with pytest.raises(
            AssertionError, match=r"read without torch in a fresh process: its module imports"
        ):
            check_component("config", "slow", complete=False)


@pytest.mark.usefixtures("_parts")
def test_a_template_of_parts_of_this_process_alone_is_found_out() -> None:
    argus_core.register("config", "part", _config)
    (contract,) = contracts_of("config", "part")
    contract.component = argus_core.resolve("config", "part")
    for check in ("be_built", "set_known_keys"):
        getattr(contract, check)()
    with pytest.raises(AssertionError, match=r"nn_module 'Net', which is registered only in this process"):
        contract.choose_installed_components()  # type: ignore[attr-defined]


def test_messages_are_one_sentence_with_an_action() -> None:
    argus_core.register("loss", "part", lambda: nn.MSELoss(reduction="none"))
    (contract,) = contracts_of("loss", "part", {"reload": False})
    whys = [result.why for result in contract.results() if result.state == "failed"]
    assert whys
    assert all(re.search(r"; \w+", why) for why in whys)
