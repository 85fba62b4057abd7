"""Exceptions of networks, losses, optimizers and datasets say where in the run they were raised."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from crafted import crafted
from networks import batches, make_model
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

import argus_core
from argus_core import Callback, State, on_epoch_complete

pytestmark = pytest.mark.usefixtures("net_registry")

LABELS = torch.tensor([0, 1, 2, 0])


def note(error: BaseException) -> str:
    (only,) = error.__notes__  # type: ignore[attr-defined]
    return str(only)


def test_wrong_shape_names_the_layer_and_the_batch() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied") as caught:
        make_model().fit([*batches(), (torch.zeros(4, 5), LABELS)])
    assert note(caught.value) == (
        "raised by the network's layer 'hidden' (Linear(in_features=4, out_features=8, bias=True)), "
        "in update 4 of train epoch 1, from the batch "
        "[(4, 5) float32, (4,) int64]"
    )


def test_wrong_target_in_validation_names_the_loss() -> None:
    with pytest.raises(IndexError, match="out of bounds") as caught:
        make_model().fit(batches(), [(torch.zeros(4, 4), LABELS + 7)])
    assert note(caught.value) == (
        "raised by the loss CrossEntropyLoss, in batch 1 of val epoch 1, from the batch "
        "[(4, 4) float32, (4,) int64]; prediction is (4, 3) float32, target is (4,) int64; "
        "the prediction has 3 classes, so targets are from 0 to 2; number the classes from 0, or give the "
        "network as many outputs as there are classes"
    )


def test_classes_of_the_data_that_the_network_lacks_are_named() -> None:
    samples = [(torch.zeros(4), number) for number in range(4)]
    data = Subset(samples, range(4))  # type: ignore[var-annotated, arg-type]
    data.classes = ["ant", "bee", "cat", "dog"]  # type: ignore[attr-defined]
    with pytest.raises(IndexError, match="out of bounds") as caught:
        make_model().fit(DataLoader(data, 4))
    assert note(caught.value).endswith(
        "the prediction has 3 classes, and the data have 4 ('ant', 'bee', 'cat', 'dog'); give the network as "
        "many outputs as there are classes, or leave the others out of the data"
    )


def test_integers_for_class_weights_are_found_in_the_loss() -> None:
    class Weighted(nn.Module):
        def forward(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            return nn.functional.cross_entropy(prediction, target, torch.tensor([1, 2, 3]))

    argus_core.register("loss", "integers", Weighted)
    with pytest.raises(RuntimeError) as caught:
        make_model(loss="integers").fit([(torch.ones(4, 4), LABELS)])
    assert "its class weights, is int64: make it .float()" in note(caught.value)


@pytest.mark.parametrize(
    ("loss", "target", "action"),
    [
        ("CrossEntropyLoss", LABELS[:, None], "(4, 1) int64; class numbers .*: give target.squeeze(1)"),
        ("CrossEntropyLoss", LABELS.float(), "(4,) float32; class numbers are int64: give target.long()"),
        ("CrossEntropyLoss", LABELS.int(), "(4,) int32; class numbers are int64: give target.long()"),
        ("BCEWithLogitsLoss", torch.ones(4, 3).long(), "(4, 3) int64; give target.float()"),
        (
            "CrossEntropyLoss",
            LABELS[:3],
            "(3,) int64; check the parameters of the loss, and that it takes such .*",
        ),
    ],
)
def test_loss_that_does_not_take_a_target_shows_it_beside_the_prediction(
    loss: str, target: torch.Tensor, action: str
) -> None:
    with pytest.raises((RuntimeError, ValueError)) as caught:
        make_model(loss=loss).fit([(torch.zeros(4, 4), target)])
    pattern = re.escape(f"; prediction is (4, 3) float32, target is {action}").replace(r"\.\*", ".*")
    assert re.search(f"{pattern}$", note(caught.value))


class Looking(Callback):
    def epoch_complete(self, state: State) -> None:
        self.look(state)

    def look(self, state: State) -> None:
        state.metrics["val_loss"]


class Aliased(Callback):
    def report(self, state: State) -> None:
        state.metrics["f1"]

    iteration_complete = report


class Calling(Callback):
    def epoch_complete(self, state: State) -> None:
        state.model.nn_module(torch.zeros(2, 7))


class InValidation(Callback):
    def validation_iteration_complete(self, state: State) -> None:
        raise ValueError("no room")


@on_epoch_complete
def look(state: State) -> None:
    state.metrics["val_loss"]


AT_THE_END = "in epoch_complete of train epoch 1"
NO_VAL_LOSS = "state.metrics has train_loss; give fit a val_loader"
IN_UPDATE = "in update 1 of train epoch 1, from the batch [(8, 4) float32, (8,) int64]"


@pytest.mark.parametrize(
    ("callback", "told"),
    [
        (Looking(), f"by callback Looking, {AT_THE_END}; {NO_VAL_LOSS}"),
        (look, f"by callback look, {AT_THE_END}; {NO_VAL_LOSS}"),
        (Aliased(), f"by callback Aliased, in iteration_complete, {IN_UPDATE}"),
        (
            Calling(),
            (
                f"by the network's layer 'hidden' (Linear(in_features=4, out_features=8, bias=True)), "
                f"called by callback Calling, {AT_THE_END}"
            ),
        ),
    ],
)
def test_exception_of_a_callback_names_it_and_the_event(callback: Any, told: str) -> None:
    with pytest.raises((KeyError, RuntimeError)) as caught:
        make_model().fit(batches(), callbacks=[callback])
    assert note(caught.value) == f"raised {told}"


def test_exception_of_a_callback_in_a_validation_names_it_and_the_event() -> None:
    with pytest.raises(ValueError, match="no room") as caught:
        make_model().fit(batches(), batches(), callbacks=[InValidation()])
    told = "raised by callback InValidation, in validation_iteration_complete of val epoch 1"
    assert note(caught.value) == told


class Forgetful(torch.optim.SGD):
    """An optimizer of somebody else's, whose update needs something of its state."""

    def step(self, closure: Any = None) -> Any:
        for parameter in self.param_groups[0]["params"]:
            self.state.setdefault(parameter, {"count": 0})["count"] += 1


def test_exception_of_an_optimizer_names_it_and_what_to_do_about_its_state(tmp_path: Path) -> None:
    argus_core.register("optimizer", "forgetful", Forgetful)
    model = make_model(optimizer="forgetful")
    model.fit(batches())
    path = tmp_path / "a.safetensors"
    model.save(path, optimizer_state=True)

    def forget(_: Any, manifest: Any) -> None:
        del manifest["optimizer"]["state"]["out.bias"]["count"]

    path.write_bytes(crafted(path.read_bytes(), forget))
    with pytest.raises(KeyError, match="count") as caught:
        argus_core.load_model(path).fit(batches())
    assert note(caught.value).startswith("raised by the optimizer Forgetful, in update 1 of train epoch 1")
    assert note(caught.value).endswith(
        "; if its state is from a checkpoint, that may not fit it: load with optimizer=None"
    )


@pytest.mark.parametrize(
    ("loss", "raised"),
    [
        (("CrossEntropyLoss", {"ignore_index": 10**30}), ValueError),
        (("CrossEntropyLoss", {"label_smoothing": 7.0}), RuntimeError),
        ("GaussianNLLLoss", TypeError),  # its forward takes a variance, so it is not even entered
    ],
)
def test_loss_that_does_not_fit_is_named(loss: Any, raised: type[Exception]) -> None:
    with pytest.raises(raised) as caught:
        make_model(loss=loss).validate(batches())
    name = loss if isinstance(loss, str) else loss[0]
    assert note(caught.value).startswith(f"raised by the loss {name}, in batch 1 of val epoch 1, ")


def test_metric_that_fails_is_named() -> None:
    with pytest.raises(TypeError) as caught:
        make_model().fit(batches(), batches(), metrics=[("top_k_accuracy", {"k": 3}), Weighing()])
    assert note(caught.value).startswith("raised by the metric 'weighing', in batch 1 of val epoch 1, ")
    assert note(caught.value).endswith("; check its parameters, or leave it out")


class Weighing(argus_core.Metric):
    name = "weighing"

    def reset(self) -> None:
        self.sum = 0.0

    def update(self, step_output: Any) -> None:
        self.sum += step_output["prediction"].mean() * None

    def compute(self) -> float:
        return self.sum


class Broken(Dataset[Any]):
    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> Any:
        if index == 5:
            raise KeyError("image 5")
        return torch.zeros(4), 0


class Plain:
    """A dataset by what it does alone, not of torch's class."""

    __len__, __getitem__ = Broken.__len__, Broken.__getitem__


@pytest.mark.parametrize("dataset", [Broken, Plain])
@pytest.mark.parametrize("workers", [0, 1])
def test_exception_of_a_dataset_names_it(workers: int, dataset: Any) -> None:
    loader = DataLoader(dataset(), batch_size=2, num_workers=workers)
    with pytest.raises(KeyError, match="image 5") as caught:
        make_model().fit(loader)
    where = f"by the loader, in dataset {dataset.__name__}, at index 5"
    assert note(caught.value) == f"raised {where}, after 2 updates of train epoch 1"


def test_last_batch_of_one_sample_says_what_to_do_about_batch_normalisation() -> None:
    argus_core.register("nn_module", "normed", lambda: nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)))
    model = argus_core.Model(
        {
            "nn_module": "normed",
            "loss": "CrossEntropyLoss",
            "optimizer": ("SGD", {"lr": 0.1}),
            "device": "cpu",
        }
    )
    loader = DataLoader(TensorDataset(torch.randn(5, 4), torch.zeros(5, dtype=torch.int64)), batch_size=2)
    with pytest.raises(ValueError, match="more than 1 value per channel") as caught:
        model.fit(loader)
    assert note(caught.value).endswith(
        "; batch normalisation takes no batch of one sample in training: set "
        "drop_last=True in the loader, or choose a batch size that leaves no last batch of one"
    )


def test_errors_of_argus_core_have_no_note() -> None:
    with pytest.raises(argus_core.ArgusError) as caught:
        make_model().fit([])
    assert not hasattr(caught.value, "__notes__")
