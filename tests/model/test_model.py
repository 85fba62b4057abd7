"""The model: registered, trained, predicting and copied, with and without a subclass; its learning rate."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from networks import PARAMS, Net, batches, make_model, same_weights
from torch import nn
from torch.utils.data import TensorDataset

import argus_core
from argus_core import (
    BuildError,
    ConflictError,
    Model,
    ParamsError,
    SpecError,
)
from argus_core.errors import ArgusWarning

pytestmark = pytest.mark.usefixtures("net_registry")


def test_a_subclass_is_registered_by_its_name_or_the_one_it_gives() -> None:
    class Segmenter(Model):
        nn_module = Net

    class Other(Model, name="other-segmenter"):
        nn_module = Net

    assert argus_core.resolve("model", "Segmenter").load() is Segmenter
    assert argus_core.resolve("model", "other-segmenter").load() is Other


def test_two_subclasses_of_one_name_warn_and_the_newest_has_it() -> None:
    def define(module: str) -> type[Model]:
        return type(
            "Segmenter", (Model,), {"nn_module": Net, "__module__": module, "__qualname__": "Segmenter"}
        )

    define("medseg")
    with pytest.warns(ArgusWarning, match=r"taken by medseg:Segmenter.*now means otherseg:Segmenter") as told:
        other = define("otherseg")
    assert [each.filename for each in told] == [__file__]
    assert argus_core.resolve("model", "Segmenter").load() is other
    define("otherseg")  # the same again, as a notebook cell that runs twice, is quiet


def test_train_step_moves_the_weights_and_returns_the_step_output() -> None:
    model = Model({**PARAMS, "prediction_transform": ("Softmax", {"dim": 1})})
    model.eval()
    before = model.nn_module.out.weight.clone()
    output = model.train_step(batches()[0], None)
    assert model.nn_module.training
    assert not torch.equal(before, model.nn_module.out.weight)
    assert set(output) == {"prediction", "target", "loss"}
    assert isinstance(output["loss"], float)
    assert not output["prediction"].requires_grad
    torch.testing.assert_close(output["prediction"].sum(1), torch.ones(8))


def test_val_step_leaves_weights_and_gradients_alone() -> None:
    model = Model(PARAMS)
    before = copy.deepcopy(model.nn_module.state_dict())
    output = model.val_step(batches()[0], None)
    assert not model.nn_module.training
    assert all(torch.equal(before[name], value) for name, value in model.nn_module.state_dict().items())
    assert model.nn_module.out.weight.grad is None
    assert isinstance(output["loss"], float)


def test_val_step_builds_no_graph() -> None:
    enabled: list[bool] = []
    model = Model(PARAMS)
    model.nn_module.register_forward_pre_hook(lambda *_: enabled.append(torch.is_grad_enabled()))
    model.val_step(batches()[0], None)
    assert enabled == [False]


def test_overriding_one_step_never_changes_the_other() -> None:
    class Own(Model):
        nn_module = Net
        loss = "CrossEntropyLoss"
        optimizer = torch.optim.SGD

        def train_step(self, batch: Any, state: Any = None) -> Any:
            return {"prediction": batch[0], "target": batch[1], "loss": 7.0}

    model = Own({"optimizer": {"lr": 0.1}, "device": "cpu"})
    assert model.train_step(batches()[0])["loss"] == 7.0
    assert model.val_step(batches()[0])["loss"] != 7.0
    assert model.fit(batches(), batches())["train_loss"] == 7.0


def test_an_overridden_train_step_refuses_named_strategies() -> None:
    class Own(Model):
        nn_module = Net

        def train_step(self, batch: Any, state: Any = None) -> Any:
            return {}

    with pytest.raises(ConflictError, match="Own overrides train_step, so step 'amp' would never be called"):
        Own({"step": "amp"})
    assert Own({"step": "default"}).step_parts[0].name == "default"


def test_a_train_step_of_ones_own_is_refused_in_several_processes_before_they_meet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Own(Model):
        def train_step(self, batch: Any, state: Any = None) -> Any:
            raise NotImplementedError

    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConflictError, match="Own overrides train_step, which would train unrelated models"):
        Own(PARAMS)


def test_forward_loss_is_all_that_another_computation_needs() -> None:
    class Auto(Model):
        nn_module = nn.Linear
        optimizer = torch.optim.SGD

        def forward_loss(self, batch: Any) -> Any:
            prediction = self.nn_module(batch)
            return prediction, batch, (prediction - batch).square().mean()

    model = Auto(
        {"nn_module": {"in_features": 4, "out_features": 4}, "optimizer": {"lr": 0.1}, "device": "cpu"}
    )
    assert model.train_ready()
    data = [torch.randn(8, 4) for _ in range(3)]
    assert model.fit(data, num_epochs=5)["train_loss"] < model.fit(data)["train_loss"] * 10


def test_predict_applies_the_transform_in_evaluation_mode() -> None:
    model = Model({**PARAMS, "prediction_transform": ("Softmax", {"dim": 1})})
    model.train()
    prediction = model.predict(batches()[0][0])
    assert not model.nn_module.training
    assert not prediction.requires_grad
    torch.testing.assert_close(prediction.sum(1), torch.ones(8))


def test_predict_says_what_to_do_with_a_loader() -> None:
    loader = torch.utils.data.DataLoader(torch.zeros(4, 4), batch_size=2)
    with pytest.raises(
        ParamsError, match=r"^predict takes the input of one batch, not a DataLoader; call it for "
    ):
        argus_core.Model(PARAMS).predict(loader)


@pytest.mark.parametrize("missing", ["loss", "optimizer"])
def test_training_without_a_part_says_which(missing: str) -> None:
    model = Model({**PARAMS, missing: None})
    assert not model.train_ready()
    assert model.predict_ready()
    with pytest.raises(BuildError, match=f"the model has no {missing}, so it cannot"):
        model.fit(batches())
    with pytest.raises(BuildError, match=f"the model has no {missing}, so it cannot"):
        model.train_step(batches()[0])


def test_a_model_loaded_without_loss_and_optimizer_says_to_load_it_with_both(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    Model(PARAMS).save(path)
    with pytest.raises(
        BuildError,
        match="the model has no loss and no optimizer, so it cannot train; name them in params, or load it "
        "without loss=None and optimizer=None$",
    ):
        argus_core.load_model(path, loss=None, optimizer=None).fit(batches())
    with pytest.raises(BuildError, match="name one in params, or load it without optimizer=None$"):
        argus_core.load_model(path, optimizer=None).fit(batches())


def test_validate_without_a_loss_says_so() -> None:
    with pytest.raises(BuildError, match="the model has no loss, so it cannot validate"):
        Model({**PARAMS, "loss": None}).validate(batches())


@pytest.mark.parametrize(
    ("loader", "shown"),
    [
        (torch.randn(3, 4), "a Tensor"),
        ((torch.randn(3, 4), torch.zeros(3).long()), "a Tensor"),
        ([{"x": 1}], "a dict"),
        (numpy.ones((3, 4)), "an ndarray"),
        ([(1, 2, 3)], "a tuple of 3"),
    ],
)
def test_what_gives_no_pairs_says_first_to_give_a_loader(loader: Any, shown: str) -> None:
    with pytest.raises(
        BuildError,
        match=rf"^a batch is {shown}, not a pair \(input, target\); give a loader of pairs: .*, or overr",
    ):
        Model(PARAMS).fit(loader)


@pytest.mark.parametrize(
    "input",
    [[[1.0, 2.0]], numpy.ones((1, 2)), TensorDataset(torch.ones(2, 2)), "text", None],
    ids=lambda each: type(each).__name__,
)
def test_an_input_without_a_tensor_that_fails_in_the_network_says_what_to_give(input: Any) -> None:
    told = (
        rf"^the input of predict is a {type(input).__name__} without a tensor, from which the network raised"
    )
    with pytest.raises(ParamsError, match=rf"{told} \w+: .*; give a batch of inputs as a tensor") as raised:
        argus_core.Model(PARAMS).predict(input)
    assert raised.value.__cause__ is not None


def test_what_a_network_raises_from_a_tensor_stays_as_it_is() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        argus_core.Model(PARAMS).predict(torch.ones(2, 77))


def test_a_loss_that_is_not_scalar_is_refused() -> None:
    model = Model({**PARAMS, "loss": ("CrossEntropyLoss", {"reduction": "none"})})
    with pytest.raises(ParamsError, match=r"the loss has shape \(8,\).*choose reduction='mean' or 'sum'"):
        model.train_step(batches()[0])
    with pytest.raises(ParamsError, match=r"the loss has shape \(8,\)"):
        model.val_step(batches()[0])


def test_the_learning_rate_is_read_and_set_for_all_groups_or_each() -> None:
    model = Model(PARAMS)
    model.set_lr(0.5)
    assert model.get_lr() == 0.5
    model.optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(1))], "lr": 0.25})
    assert model.get_lr() == [0.5, 0.25]
    model.set_lr([0.1, 0.2])
    assert model.get_lr() == [0.1, 0.2]
    with pytest.raises(SpecError, match="set_lr got 3 rates for 2 parameter groups"):
        model.set_lr([1, 2, 3])


def test_get_lr_without_an_optimizer_says_so() -> None:
    with pytest.raises(BuildError, match="the model has no optimizer"):
        Model({**PARAMS, "optimizer": None}).get_lr()


def test_a_copy_trains_with_an_optimizer_that_keeps_attributes_of_its_own() -> None:
    model = make_model(optimizer=("LBFGS", {"max_iter": 2}), step="closure")
    other = copy.deepcopy(model)
    other.train_step(batches()[0])
    assert same_weights(model, make_model())
    assert not same_weights(model, other)
    model.train_step(batches()[0])
    assert same_weights(model, other)


def test_a_deep_copy_trains_on_its_own() -> None:
    model = Model({**PARAMS, "step": ["amp", ("clip_grad_norm", {"max_norm": 1.0})]})
    model.train_step(batches()[0])
    other = copy.deepcopy(model)
    before = copy.deepcopy(model.nn_module.state_dict())
    other.train_step(batches()[1])
    assert all(torch.equal(before[name], value) for name, value in model.nn_module.state_dict().items())
    assert not torch.equal(before["out.weight"], other.nn_module.out.weight)


def test_explain_names_who_sits_where_and_from_which_package() -> None:
    drawing = Model({**PARAMS, "step": ["amp", ("accumulate", {"steps": 4})]}).explain()
    assert "4 loader batches to one update" in drawing
    assert "amp (argus-torch" in drawing
    assert "nn_module 'net'" in drawing


@pytest.mark.parametrize("lr", ["fast", None, -0.1, [float("nan")], {"lr": 0.1}])
def test_a_learning_rate_that_is_none_is_refused(lr: Any) -> None:
    with pytest.raises(SpecError, match="set_lr got .*; give a number that is not negative, or a list"):
        Model(PARAMS).set_lr(lr)


def test_a_learning_rate_may_be_a_tensor() -> None:
    model = Model(PARAMS)
    model.set_lr(torch.tensor(0.25))  # type: ignore[arg-type]
    assert model.get_lr() == 0.25


def test_its_repr_tells_its_parts() -> None:
    class Fixed(Model):
        loss = nn.MSELoss

    steps = ["amp", ("accumulate", {"steps": 2})]
    model = Model(PARAMS | {"step": steps, "prediction_transform": ("Softmax", {"dim": 1})})
    assert repr(model) == (
        "Model(nn_module=('net', {'classes': 3}), loss='CrossEntropyLoss', optimizer=('SGD', {'lr': 0.1}), "
        "prediction_transform=('Softmax', {'dim': 1}), step=['amp', ('accumulate', {'steps': 2})], "
        "device='cpu')"
    )
    fixed = Fixed({"nn_module": "net", "optimizer": None, "device": "cpu"})
    assert repr(fixed) == "Fixed(nn_module='net', loss='MSELoss', device='cpu')"
    assert repr(Model.__new__(Model)) == "Model()"
