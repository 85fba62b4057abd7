"""A model's parts: by name, with and without a subclass; chosen, built and moved to a device."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import PARAMS, Net, batches
from torch import nn

import argus_core
from argus_core import (
    BuildError,
    Model,
    ParamsError,
    SpecError,
    UnknownNameError,
)
from argus_core.registry.part import Part
from argus_core.runs.prediction import predict_all

pytestmark = pytest.mark.usefixtures("net_registry")


def test_a_plain_model_builds_every_part_by_name() -> None:
    model = Model({**PARAMS, "prediction_transform": ("Softmax", {"dim": 1})})
    assert isinstance(model.nn_module, Net)
    assert isinstance(model.loss, nn.CrossEntropyLoss)
    assert isinstance(model.optimizer, torch.optim.SGD)
    assert isinstance(model.prediction_transform, nn.Softmax)
    assert model.device == torch.device("cpu")


def test_params_are_copied_so_later_changes_by_the_caller_do_not_matter() -> None:
    params = copy.deepcopy(PARAMS)
    model = Model(params)
    params["nn_module"][1]["classes"] = 99
    assert model.params == PARAMS


@pytest.mark.parametrize("slot", ["loss", "optimizer"])
def test_a_part_that_is_none_or_missing_is_left_out(slot: str) -> None:
    params = {key: value for key, value in PARAMS.items() if key != slot}
    assert getattr(Model(params), slot) is None
    assert getattr(Model({**params, slot: None}), slot) is None


class OwnStep(Model):
    """Makes its update as the documentation of pytorch-argus shows it."""

    def train_step(self, batch: Any, state: Any = None) -> dict[str, Any]:
        self.train()
        self.optimizer.zero_grad()
        input, target = argus_core.deep_to(batch, self.device)
        prediction = self.nn_module(input)
        loss = self.loss(prediction, target)
        loss.backward()
        self.optimizer.step()
        prediction = self.prediction_transform(argus_core.deep_detach(prediction))
        return {"prediction": prediction, "target": target, "loss": loss.item()}


@pytest.mark.parametrize("chosen", [{}, {"prediction_transform": None}], ids=["missing", "None"])
@pytest.mark.parametrize("cls", [Model, OwnStep])
def test_a_prediction_transform_that_is_none_or_missing_changes_nothing(
    cls: type[Model], chosen: dict[str, Any], tmp_path: Path
) -> None:
    argus_core.register("model", "OwnStep", override=True)(OwnStep)
    model, (batch, *_) = cls(PARAMS | chosen), batches()
    assert model.prediction_transform(batch) is batch
    model.fit([batch])
    assert torch.equal(model.predict(batch[0]), model.nn_module(batch[0]))
    model.save(tmp_path / "a.safetensors")
    assert argus_core.load_model(tmp_path / "a.safetensors").prediction_transform(batch) is batch
    cls(PARAMS | {"prediction_transform": ("Softmax", {"dim": 1})}).save(tmp_path / "b.safetensors")
    loaded = argus_core.load_model(tmp_path / "b.safetensors", prediction_transform=None)
    loaded.fit([batch])
    assert copy.deepcopy(loaded).prediction_transform(batch) is batch


def test_a_build_order_without_a_prediction_transform_and_a_method_that_returns_none_change_nothing() -> None:
    class Ordered(Model):
        build_order = ("nn_module", "loss", "device", "optimizer")

    class Returning(Model):
        def build_prediction_transform(self, factory: Any, params: Any) -> Any:
            return None

    for model in (Ordered(PARAMS), Returning(PARAMS | {"prediction_transform": ("Softmax", {"dim": 1})})):
        assert model.prediction_transform(3) == 3
        model.predict(batches()[0][0])


def test_a_missing_network_says_how_to_find_one() -> None:
    with pytest.raises(
        SpecError, match=r"params\['nn_module'\] is missing; name a network: argus list nn_module"
    ):
        Model({"loss": "CrossEntropyLoss"})


def test_an_unknown_key_of_params_is_refused_with_near_names() -> None:
    with pytest.raises(SpecError, match="params has 'optimiser'; did you mean 'optimizer'"):
        Model({**PARAMS, "optimiser": "SGD"})


def test_params_must_be_a_dict() -> None:
    with pytest.raises(SpecError, match="a model takes a dict of params, not 3"):
        Model(3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("slot", "kind"),
    [
        ("nn_module", "nn_module"),
        ("loss", "loss"),
        ("optimizer", "optimizer"),
        ("prediction_transform", "transform"),
        ("step", "step"),
    ],
)
def test_an_unknown_name_of_each_kind_is_one_sentence(slot: str, kind: str) -> None:
    with pytest.raises(UnknownNameError, match=f"no {kind} named 'nothing-like-it'"):
        Model({**PARAMS, slot: "nothing-like-it"})


def test_several_unknown_names_are_listed_at_once() -> None:
    with pytest.raises(UnknownNameError, match="no loss named 'CrossEntropyLos'.*") as caught:
        Model({**PARAMS, "loss": "CrossEntropyLos"})
    assert "did you mean 'CrossEntropyLoss'" in str(caught.value)


def test_a_name_of_another_kind_is_pointed_out() -> None:
    with pytest.raises(UnknownNameError, match="there is a loss of that name"):
        Model({**PARAMS, "optimizer": "CrossEntropyLoss"})


def test_parameters_that_the_factory_does_not_take_show_its_signature() -> None:
    with pytest.raises(
        ParamsError, match=r"did you mean 'classes'\?; it takes Net\(features=4, .*not \(clases=3\)"
    ):
        Model({**PARAMS, "nn_module": ("net", {"clases": 3})})


def test_a_factory_that_raises_is_named_with_its_parameters() -> None:
    with pytest.raises(
        BuildError, match=r"optimizer 'SGD' cannot be built from \(lr=-1\): ValueError: Invalid"
    ):
        Model({**PARAMS, "optimizer": ("SGD", {"lr": -1})})


def test_params_that_are_not_plain_data_show_the_path() -> None:
    with pytest.raises(ParamsError, match=r"params\['loss'\]\[1\]\['weight_fn'\] is a function; register it"):
        Model({**PARAMS, "loss": ("CrossEntropyLoss", {"weight_fn": lambda: None})})


@pytest.mark.parametrize("value", [3, ("net", 3), ("net", {}, {}), ["net", "other"], (3, {})])
def test_a_spec_of_the_wrong_shape_says_what_one_looks_like(value: Any) -> None:
    with pytest.raises(SpecError, match=r"params\['nn_module'\]"):
        Model({**PARAMS, "nn_module": value})


def test_a_class_attribute_fixes_a_part_and_params_hold_its_parameters() -> None:
    class Fixed(Model):
        nn_module = Net
        optimizer = torch.optim.SGD
        loss = nn.CrossEntropyLoss

    model = Fixed({"nn_module": {"classes": 5}, "optimizer": {"lr": 0.5}, "device": "cpu"})
    assert model.nn_module.out.out_features == 5
    assert model.get_lr() == 0.5
    assert isinstance(model.loss, nn.CrossEntropyLoss)


def test_a_fixed_part_does_not_take_a_name() -> None:
    class Fixed(Model):
        nn_module = Net

    with pytest.raises(
        SpecError, match="the model class fixes nn_module to Net; give its parameters as a dict"
    ):
        Fixed({"nn_module": ("other", {})})


def test_a_dict_of_classes_offers_a_choice() -> None:
    class Choice(Model):
        nn_module = {"net": Net, "linear": nn.Linear}

    model = Choice({"nn_module": ("linear", {"in_features": 2, "out_features": 1}), "device": "cpu"})
    assert isinstance(model.nn_module, nn.Linear)
    with pytest.raises(SpecError, match="names 'liner'; did you mean 'linear'.*offers 'net', 'linear'"):
        Choice({"nn_module": "liner"})
    with pytest.raises(SpecError, match="must name one of 'net', 'linear'"):
        Choice({"nn_module": {}})


def test_a_name_as_class_attribute_takes_parameters_and_gives_way_to_another_name() -> None:
    class Named(Model):
        nn_module = Net
        loss = "CrossEntropyLoss"

    assert Named({"loss": {"label_smoothing": 0.1}}).loss.label_smoothing == 0.1
    assert isinstance(Named({}).loss, nn.CrossEntropyLoss)
    assert isinstance(Named({"loss": "NLLLoss"}).loss, nn.NLLLoss)


def test_a_subclass_may_have_keys_of_its_own_in_params() -> None:
    class Own(Model):
        nn_module = Net

    assert Own({"temperature": 2.0}).params["temperature"] == 2.0


def test_build_methods_can_be_overridden_and_get_factory_and_params() -> None:
    seen: dict[str, Any] = {}

    class Built(Model):
        nn_module = Net
        loss = "CrossEntropyLoss"
        optimizer = torch.optim.SGD
        prediction_transform = nn.Softmax

        def build_nn_module(self, factory: Any, params: Any) -> nn.Module:
            seen["nn_module"] = (factory, params)
            return nn.Sequential(factory(**params))

        def build_loss(self, factory: Any, params: Any) -> Any:
            seen["loss"] = (factory, params)
            return super().build_loss(factory, params)

        def build_optimizer(self, factory: Any, params: Any) -> Any:
            seen["optimizer"] = (factory, params)
            return factory([{"params": self.nn_module.parameters(), "lr": 0.3}], **params)

        def build_prediction_transform(self, factory: Any, params: Any) -> Any:
            seen["prediction_transform"] = (factory, params)
            return super().build_prediction_transform(factory, params)

        def build_device(self, device: Any) -> Any:
            seen["device"] = device
            return super().build_device("cpu")

    model = Built({"optimizer": {"lr": 0.1}, "prediction_transform": {"dim": 1}, "device": "cuda:77"})
    assert isinstance(model.nn_module, nn.Sequential)
    assert model.get_lr() == 0.3
    assert seen == {
        "nn_module": (Net, {}),
        "loss": (nn.CrossEntropyLoss, {}),
        "optimizer": (torch.optim.SGD, {"lr": 0.1}),
        "prediction_transform": (nn.Softmax, {"dim": 1}),
        "device": "cuda:77",
    }


def test_a_subclass_says_what_is_built_and_in_which_order() -> None:
    class Reordered(Model):
        """Builds the optimizer before the loss, and what is no part of core's besides."""

        build_order = ("nn_module", "device", "optimizer", "loss", "prediction_transform", "teacher")

        def set_part(self, part: str) -> None:
            self.built = [*getattr(self, "built", []), part]
            if part == "teacher":
                self.teacher = copy.deepcopy(self.nn_module)
            else:
                super().set_part(part)

    model = Reordered(PARAMS)
    assert tuple(model.built) == Reordered.build_order
    assert isinstance(model.teacher, Net)
    assert model.train_ready()


def test_a_subclass_says_what_params_may_hold_and_which_parts_they_choose() -> None:
    class Loose(Model):
        def check_params(self, params: Any) -> dict[str, Any]:
            return {**params, "hook": print}

        def choose_parts(self) -> dict[str, Part | None]:
            return {
                **super().choose_parts(),
                "loss": Part("loss", "mine", {"beta": 2.0}, None, nn.SmoothL1Loss),
            }

        def choose_steps(self) -> list[Part]:
            return []

    model = Loose({**PARAMS, "step": "none of these"})
    assert model.params["hook"] is print
    assert model.loss.beta == 2.0
    assert model.step_parts == []


def test_only_parameters_that_require_grad_go_to_the_optimizer() -> None:
    def frozen() -> nn.Module:
        net = Net()
        net.hidden.requires_grad_(False)
        return net

    argus_core.register("nn_module", "frozen", frozen)
    model = Model({**PARAMS, "nn_module": "frozen"})
    assert [p.shape for p in model.optimizer.param_groups[0]["params"]] == [(3, 8), (3,)]


def test_a_network_with_nothing_to_train_is_refused_with_an_optimizer() -> None:
    argus_core.register("nn_module", "frozen", lambda: Net().requires_grad_(False))
    with pytest.raises(BuildError, match="no parameter of nn_module or loss requires grad"):
        Model({**PARAMS, "nn_module": "frozen"})


def test_a_model_on_the_meta_device_is_refused_before_it_trains_validates_or_predicts() -> None:
    model = Model({**PARAMS, "device": "meta"})
    refused = r"^device is 'meta', on which tensors have no values, so the model cannot {}; choose from 'cpu'"
    with pytest.raises(BuildError, match=refused.format("train")):
        model.fit(batches())
    with pytest.raises(BuildError, match=refused.format("validate")):
        model.validate(batches())
    with pytest.raises(BuildError, match=refused.format("predict")):
        predict_all(model, batches())


def test_set_device_moves_network_and_loss() -> None:
    params = {**PARAMS, "optimizer": None, "loss": ("CrossEntropyLoss", {"weight": torch.ones(3)})}
    model = Model(params)
    model.set_device("meta")
    assert model.get_device() == torch.device("meta")
    assert model.nn_module.out.weight.is_meta
    assert model.loss.weight.is_meta


@pytest.mark.gpu
def test_set_device_moves_the_state_of_the_optimizer() -> None:
    model = Model({**PARAMS, "optimizer": "AdamW"})
    model.train_step(batches()[0])
    model.set_device("cuda")
    slots = next(iter(model.optimizer.state.values()))
    assert slots["exp_avg"].is_cuda
    model.train_step(batches()[0])


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(SpecError, match="unknown device 'cudda'; .*; did you mean 'cuda'"):
        Model({**PARAMS, "device": "cudda"})


@pytest.mark.parametrize(
    ("slot", "offered", "message"),
    [
        ("loss", nn.MSELoss(), r"class attribute loss is MSELoss\(\); give a class, a dict of classes"),
        ("loss", {"mse": 5}, "the model class offers 'mse', which is 5; give a class or a name"),
        ("loss", {1: nn.MSELoss}, "names 'mse'; the model class offers '1'"),
        ("loss", {}, "names 'mse'; the model class offers none"),
    ],
)
def test_a_class_attribute_that_is_no_class_is_refused(slot: str, offered: Any, message: str) -> None:
    model_class = type("Offers", (Model,), {slot: offered})
    choice = {slot: "mse"} if isinstance(offered, dict) else {}
    with pytest.raises(SpecError, match=message):
        model_class({"nn_module": "net", "device": "cpu"} | choice)


@pytest.mark.parametrize("slot", ["nn_module", "loss", "optimizer", "prediction_transform"])
def test_a_factory_that_returns_something_else_is_named(slot: str) -> None:
    kind = {"prediction_transform": "transform"}.get(slot, slot)
    argus_core.register(kind, "five", lambda *args: 5)
    with pytest.raises(BuildError, match=f"{kind} 'five' was built as 5; its factory, or build_{slot}, must"):
        Model(PARAMS | {slot: "five"})


def test_a_factory_cannot_end_the_program() -> None:
    def leave() -> None:
        raise SystemExit(3)

    argus_core.register("loss", "leave", leave)
    with pytest.raises(BuildError, match="loss 'leave' cannot be built from .*SystemExit: 3"):
        Model(PARAMS | {"loss": "leave"})


def test_parameters_are_shown_on_one_line() -> None:
    weight = torch.ones(3, 3)
    with pytest.raises(ParamsError, match=r"not \(weights=tensor\(\[\[1., 1., 1.\], \[1.") as caught:
        Model(PARAMS | {"loss": ("CrossEntropyLoss", {"weights": weight})})
    assert "\n" not in str(caught.value)


def test_build_device_may_return_a_single_device() -> None:
    class Placed(Model):
        def build_device(self, device: Any) -> Any:
            return torch.device("cpu")

    assert Placed(PARAMS).get_device() == torch.device("cpu")


def test_a_tensor_in_params_that_requires_grad_is_refused() -> None:
    weight = torch.ones(3, requires_grad=True) * 2
    with pytest.raises(ParamsError, match=r"\['weight'\] requires grad, and would come back without"):
        Model(PARAMS | {"loss": ("CrossEntropyLoss", {"weight": weight})})


@pytest.mark.parametrize(
    ("part", "value", "advice"),
    [
        ("loss", nn.CrossEntropyLoss, r"\{'loss': 'CrossEntropyLoss'\}"),
        ("optimizer", (torch.optim.SGD, {"lr": 0.1}), r"\{'optimizer': \('SGD', \{...\}\)\}"),
    ],
)
def test_class_that_has_a_name_is_refused_with_that_name(part: str, value: object, advice: str) -> None:
    with (
        argus_core.isolated_registry(builtins=True),
        pytest.raises(ParamsError, match=rf"is the class \w+; choose it by name: {advice}$"),
    ):
        Model({"nn_module": "net", part: value, "device": "cpu"})


def test_object_in_place_of_its_class_is_not_registered() -> None:
    with (
        argus_core.isolated_registry(),
        pytest.raises(SpecError, match="an object of class Linear; register the"),
    ):
        argus_core.register("nn_module", "linear", nn.Linear(2, 2))
