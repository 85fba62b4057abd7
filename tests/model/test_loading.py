"""load_model: by names, whole or not at all, with every argument; errors name what to do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from networks import Net, batches, make_model, same_weights
from rewritten import rewrite
from torch import nn

import argus_core
from argus_core import (
    BuildError,
    CheckpointError,
    CorruptCheckpointError,
    MissingPluginError,
    Model,
    ParamsError,
    SpecError,
    StateMismatchError,
    UnsafeCheckpointError,
    load_model,
)
from argus_core.errors import ProviderDriftWarning
from argus_core.storage import CheckpointFile

PARAMS: dict[str, Any] = {
    "nn_module": ("net", {"classes": 3}),
    "loss": ("CrossEntropyLoss", {"label_smoothing": 0.1}),
    "optimizer": ("AdamW", {"lr": 0.01}),
    "prediction_transform": ("Softmax", {"dim": 1}),
    "step": [("accumulate", {"steps": 2}), ("clip_grad_norm", {"max_norm": 1.0})],
    "device": "cpu",
}


FIELDS = ("as", "name", "provider", "version", "entry_point")


class Tied(nn.Module):
    """Two layers share one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)
        self.second.weight = self.first.weight

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.second(self.first(input))
        return output


pytestmark = pytest.mark.usefixtures("net_registry")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


def trained(**params: Any) -> Model:
    torch.manual_seed(0)
    model = Model(PARAMS | params)
    model.fit(batches(), num_epochs=2)
    return model


def test_a_model_comes_back_as_it_was_saved(path: Path) -> None:
    model = trained()
    model.save(path)
    loaded = load_model(path)
    assert loaded.params == model.params
    assert same_weights(model, loaded)
    assert not loaded.nn_module.training
    assert loaded.window_size() == 2
    assert torch.equal(model.predict(batches()[0][0]), loaded.predict(batches()[0][0]))


def test_the_optimizer_state_comes_back_by_parameter_name_and_training_goes_on_equally(path: Path) -> None:
    model = trained()
    model.save(path, optimizer_state=True)
    loaded = load_model(path)
    for each in (model, loaded):
        each.fit(batches(seed=5), num_epochs=2)
    assert same_weights(model, loaded)
    with CheckpointFile(path) as file:
        assert {"optimizer/out.weight/exp_avg", "optimizer/out.weight/step", "nn/out.weight"} <= set(
            file.header.entries
        )


def test_without_optimizer_state_the_optimizer_is_fresh(path: Path) -> None:
    trained().save(path)
    assert not load_model(path).optimizer.state


@pytest.mark.parametrize("slot", ["loss", "optimizer", "prediction_transform"])
def test_a_part_that_is_none_is_not_built(path: Path, slot: str) -> None:
    trained().save(path, optimizer_state=True)
    loaded = load_model(path, **{slot: None})
    assert loaded.parts[slot] is None
    assert slot == "prediction_transform" or getattr(loaded, slot) is None
    assert loaded.params[slot] is None


def test_step_none_leaves_the_strategies_out(path: Path) -> None:
    trained().save(path)
    assert load_model(path, step=None).window_size() == 1


class Versioned(nn.Linear):
    """Has another form of state since its second release, as networks of some packages have."""

    _version = 2

    def _load_from_state_dict(self, state: Any, prefix: str, metadata: Any, *rest: Any) -> None:
        assert metadata.get("version") == 2
        super()._load_from_state_dict(state, prefix, metadata, *rest)


@pytest.mark.parametrize("options", [{}, {"change_state_dict_func": lambda *states: states}])
def test_a_module_is_told_the_version_of_its_state(path: Path, options: dict[str, Any]) -> None:
    argus_core.register("nn_module", "versioned", lambda: Versioned(4, 3))
    model = Model({"nn_module": "versioned", "device": "cpu"})
    model.save(path)
    assert same_weights(load_model(path, **options), model)


def test_a_version_that_comes_with_a_state_holds(path: Path) -> None:
    argus_core.register("nn_module", "versioned", lambda: Versioned(4, 3))
    Model({"nn_module": "versioned", "device": "cpu"}).save(path)
    old = Versioned(4, 3).state_dict()
    old._metadata[""]["version"] = 1
    with pytest.raises(StateMismatchError, match="does not fit"):
        load_model(path, change_state_dict_func=lambda network, optimizer: (old, optimizer))


def test_nn_module_cannot_be_left_out(path: Path) -> None:
    trained().save(path)
    with pytest.raises(SpecError, match="nn_module is None, and a model needs a network; omit the argument"):
        load_model(path, nn_module=None)


def test_a_dict_updates_the_saved_parameters_and_keeps_the_name(path: Path) -> None:
    trained().save(path, optimizer_state=True)
    loaded = load_model(path, loss={"label_smoothing": 0.5}, optimizer={"lr": 0.5})
    assert loaded.loss.label_smoothing == 0.5
    assert loaded.get_lr() == 0.5
    assert loaded.optimizer.state
    assert loaded.params["optimizer"] == ("AdamW", {"lr": 0.5})


def test_a_spec_replaces_a_component_and_its_state_is_not_read(path: Path) -> None:
    trained().save(path, optimizer_state=True)
    loaded = load_model(path, optimizer=("SGD", {"lr": 0.2}), loss="NLLLoss", step="amp")
    assert isinstance(loaded.optimizer, torch.optim.SGD)
    assert isinstance(loaded.loss, nn.NLLLoss)
    assert not loaded.optimizer.state
    assert [part.name for part in loaded.step_parts] == ["amp"]


def test_a_dict_for_several_steps_is_refused(path: Path) -> None:
    trained().save(path)
    with pytest.raises(SpecError, match="a dict updates the parameters of one component, and step has 2"):
        load_model(path, step={"steps": 4})


def test_a_dict_for_a_part_that_was_saved_without_is_refused(path: Path) -> None:
    trained(prediction_transform=None).save(path)
    with pytest.raises(SpecError, match="saved without prediction_transform; give a name"):
        load_model(path, prediction_transform={"dim": 1})


def test_the_device_is_remapped(path: Path) -> None:
    trained(loss=("CrossEntropyLoss", {"weight": torch.ones(3)})).save(path)
    rewrite(path, lambda manifest: manifest["params"].update(device="cuda:7"))
    with pytest.raises(BuildError, match="device 'cuda:7' is not on this machine"):
        load_model(path)
    loaded = load_model(path, device="cpu")
    assert loaded.device == torch.device("cpu")
    assert loaded.loss.weight.device == torch.device("cpu")


@pytest.mark.parametrize(
    ("device", "reason"),
    [
        (
            "meta",
            r"device is 'meta', on which tensors have no values; choose one with load_model\(\.\.\., device=",
        ),
        (["meta"], "device is 'meta', on which tensors have no values"),
        ({"$device": "meta"}, "device is 'meta', on which tensors have no values"),
        (
            "cpu:256",
            r"device 'cpu:256' is not on this machine; .* choose one with load_model\(\.\.\., device=",
        ),
        ("cuda:256", "device 'cuda:256' is not on this machine"),
        ("spaceship", r"unknown device 'spaceship'.* choose one with load_model\(\.\.\., device="),
    ],
)
def test_device_of_a_file_that_cannot_be_used_says_how_to_choose_one(
    path: Path, device: Any, reason: str
) -> None:
    trained().save(path)
    rewrite(path, lambda manifest: manifest["params"].update(device=device))
    with pytest.raises((BuildError, SpecError), match=f"^{re.escape(str(path))}: {reason}"):
        load_model(path)
    assert load_model(path, device="cpu").device == torch.device("cpu")


def test_a_list_of_devices_needs_cuda(path: Path) -> None:
    trained().save(path)
    with pytest.raises(
        BuildError, match=r"DataParallel, which needs different CUDA devices.*give one device"
    ):
        load_model(path, device=["cpu", "cpu"])


def test_params_and_keyword_params_can_be_changed(path: Path) -> None:
    class Own(Model):
        nn_module = "net"

    Own({"temperature": 1.0, "device": "cpu"}).save(path)
    loaded = load_model(path, change_params_func=lambda params: params | {"temperature": 2.0}, note="new")
    assert loaded.params["temperature"] == 2.0
    assert loaded.params["note"] == "new"


def test_state_dicts_can_be_changed(path: Path) -> None:
    trained().save(path, optimizer_state=True)
    seen: list[Any] = []

    def change(nn_state: Any, optimizer_state: Any) -> Any:
        seen.append(optimizer_state)
        return {name: torch.zeros_like(value) for name, value in nn_state.items()}, None

    loaded = load_model(path, change_state_dict_func=change)
    assert not loaded.nn_module.out.weight.any()
    assert seen[0]["param_groups"][0]["params"] == [0, 1, 2, 3]
    assert not loaded.optimizer.state


def test_changed_state_dicts_are_loaded_into_an_optimizer_that_the_caller_chose(path: Path) -> None:
    trained().save(path, optimizer_state=True)
    other = Model(PARAMS | {"optimizer": ("SGD", {"lr": 0.5, "momentum": 0.9})})
    other.fit(batches(), num_epochs=1)
    state = other.optimizer.state_dict()
    loaded = load_model(
        path,
        optimizer=("SGD", {"lr": 0.5, "momentum": 0.9}),
        change_state_dict_func=lambda network, optimizer: (network, state),
    )
    assert loaded.get_lr() == 0.5
    assert torch.equal(
        loaded.optimizer.state[loaded.nn_module.out.bias]["momentum_buffer"],
        other.optimizer.state[other.nn_module.out.bias]["momentum_buffer"],
    )


def test_an_optimizer_state_for_no_optimizer_has_no_effect(path: Path) -> None:
    model = trained()
    model.save(path, optimizer_state=True)
    state = model.optimizer.state_dict()
    loaded = load_model(path, optimizer=None, change_state_dict_func=lambda network, _: (network, state))
    assert loaded.optimizer is None
    assert same_weights(loaded, model)


def test_a_state_load_func_replaces_our_reading(tmp_path: Path) -> None:
    model = trained()
    torch.save({"any": model.nn_module.state_dict()}, tmp_path / "own.bin")

    def read(file: Path) -> Any:
        return {"model_name": "Model", "params": PARAMS, "nn_state_dict": torch.load(file)["any"]}

    assert same_weights(load_model(tmp_path / "own.bin", state_load_func=read), model)


def test_a_subclass_comes_back_as_itself(path: Path) -> None:
    class Own(Model):
        nn_module = Net
        loss = nn.CrossEntropyLoss

    model = Own({"nn_module": {"classes": 5}, "device": "cpu"})
    model.save(path)
    loaded = load_model(path)
    assert type(loaded) is Own
    assert same_weights(model, loaded)


def test_a_missing_subclass_is_named_and_model_name_loads_it_as_another(path: Path) -> None:
    class Own(Model):
        nn_module = Net
        loss = nn.CrossEntropyLoss

    model = Own({"nn_module": {"classes": 5}, "device": "cpu"})
    model.save(path)
    with argus_core.isolated_registry(builtins=True):
        argus_core.register("nn_module", "net", Net)
        with pytest.raises(
            MissingPluginError, match=r"model 'Own' \(saved from test_loading:.*import the code"
        ):
            load_model(path)
        loaded = load_model(path, model_name="Model")
    assert type(loaded) is Model
    assert isinstance(loaded.loss, nn.CrossEntropyLoss)
    assert same_weights(model, loaded)


def test_all_missing_components_are_listed_at_once_with_what_to_install(path: Path) -> None:
    trained().save(path)

    def foreign(manifest: Any) -> None:
        for slot, name in (("nn_module", "unet"), ("loss", "dice")):
            manifest["params"][slot] = name
            manifest["components"][slot] = {
                "as": name, "name": f"medseg/{name}", "provider": "medseg", "version": "1.4",
                "entry_point": f"medseg:{name}",
            }  # fmt: skip

    rewrite(path, foreign)
    with pytest.raises(MissingPluginError, match=r"medseg/unet.*medseg/dice.*pip install 'medseg==1.4'"):
        load_model(path)
    with pytest.raises(MissingPluginError) as caught:
        load_model(path, loss=None)
    assert "dice" not in str(caught.value)


def test_a_loss_whose_plugin_is_gone_does_not_matter_when_it_is_left_out(path: Path) -> None:
    argus_core.register("loss", "own", nn.MSELoss)
    model = trained(loss="CrossEntropyLoss")
    model.save(path)

    def gone(manifest: Any) -> None:
        manifest["params"]["loss"] = "dice"
        manifest["components"]["loss"].update({"as": "dice", "name": "medseg/dice", "provider": "medseg"})

    rewrite(path, gone)
    assert same_weights(load_model(path, loss=None), model)


def test_another_version_or_provider_warns(path: Path) -> None:
    trained().save(path)

    def moved(manifest: Any) -> None:
        manifest["components"]["nn_module"].update(name="medseg/net", provider="medseg", version="1.4")

    rewrite(path, moved)
    with pytest.warns(
        ProviderDriftWarning, match="nn_module 'net' was provided by medseg 1.4 .* by code in the process"
    ):
        load_model(path)


def test_tied_weights_are_stored_once_and_stay_tied(path: Path) -> None:
    argus_core.register("nn_module", "tied", Tied)
    model = Model({"nn_module": "tied", "device": "cpu"})
    model.save(path)
    loaded = load_model(path)
    assert loaded.nn_module.first.weight is loaded.nn_module.second.weight
    assert same_weights(model, loaded)
    with CheckpointFile(path) as file:
        assert len(file.header.entries) == 3


def test_state_of_the_loss_is_kept(path: Path) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("scale", torch.ones(()))

        def forward(self, prediction: Any, target: Any) -> Any:
            return nn.functional.cross_entropy(prediction, target) * self.scale

    argus_core.register("loss", "scaled", Scaled)
    model = Model(PARAMS | {"loss": "scaled"})
    model.loss.scale.fill_(3.0)
    model.save(path)
    assert load_model(path).loss.scale.item() == 3.0


def test_state_that_does_not_fit_is_named(path: Path) -> None:
    trained().save(path)
    with pytest.raises(
        StateMismatchError, match=r"'out.weight' is float32\[3, 8\] in the file and float32\[7, 8\]"
    ):
        load_model(path, nn_module={"classes": 7})
    argus_core.register("nn_module", "linear", nn.Linear)
    with pytest.raises(StateMismatchError, match=r"'hidden.weight' is not in what was built"):
        load_model(path, nn_module=("linear", {"in_features": 4, "out_features": 3}))


def test_a_dtype_that_differs_is_loud(path: Path) -> None:
    trained().save(path)

    def half(nn_state: Any, optimizer_state: Any) -> Any:
        return {name: value.half() for name, value in nn_state.items()}, optimizer_state

    with pytest.raises(StateMismatchError, match=r"is float16\[8, 4\] in the file and float32\[8, 4\]"):
        load_model(path, change_state_dict_func=half)


def test_optimizer_state_of_other_parameters_is_refused(path: Path) -> None:
    trained().save(path, optimizer_state=True)
    argus_core.register("nn_module", "frozen", _frozen)
    with pytest.raises(StateMismatchError, match=r"optimizer state belongs to other parameters \(hidden"):
        load_model(path, nn_module=("frozen", {"classes": 3}))


def _frozen(classes: int) -> nn.Module:
    net = Net(classes=classes)
    net.hidden.requires_grad_(False)
    return net


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        load_model(tmp_path / "nothing.safetensors")


def test_a_truncated_file_is_corrupt(path: Path) -> None:
    trained().save(path)
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(CorruptCheckpointError, match="model.safetensors"):
        load_model(path)


def test_a_flipped_bit_names_the_tensor(path: Path) -> None:
    trained().save(path)
    data = bytearray(path.read_bytes())
    data[-3] ^= 4
    path.write_bytes(data)
    with pytest.raises(CorruptCheckpointError, match="nn/"):
        load_model(path)
    assert load_model(path, verify=False).nn_module


@pytest.mark.parametrize(
    ("section", "value"),
    [
        ("model", None),
        ("model", {"as": 1}),
        ("model", {"as": "Model"}),
        ("params", 3),
        ("params", []),
        ("components", "x"),
        ("components", {"nn_module": 3}),
        ("components", {"step": 3}),
        ("components", {"step": [{"as": "amp"}]}),
        ("components", {"loss": {**dict.fromkeys(FIELDS), "as": "a" * 1001}}),
        ("extra", None),
        ("optimizer", {"state": {}}),
        ("params", {"$tuple": []}),
        ("params", {"step": {"$tensor": "nn/out.bias"}}),
        ("params", {"loss": 5}),
        ("extra", {"nn": 5}),
        ("components", {"step": [None]}),
        ("optimizer", {"state": [], "param_groups": []}),
        ("optimizer", {"state": {}, "param_groups": 5}),
        ("optimizer", {"state": {}, "param_groups": [5]}),
        ("optimizer", {"state": {}, "param_groups": [{"params": [["a"]]}]}),
        ("optimizer", {"state": {"a": {}}, "param_groups": [{"params": ["b"]}]}),
        ("optimizer", {"state": {"a": 5}, "param_groups": [{"params": ["a"]}]}),
    ],
)
def test_a_malformed_manifest_is_refused(path: Path, section: str, value: Any) -> None:
    trained().save(path)
    rewrite(path, lambda manifest: manifest.update({section: value}))
    with pytest.raises(UnsafeCheckpointError, match="do not trust this file"):
        load_model(path)


@pytest.mark.parametrize("name", ["os:system", "os.system", "builtins.eval", "subprocess/Popen"])
def test_names_in_a_file_are_looked_up_and_never_imported(path: Path, name: str) -> None:
    trained().save(path)

    def hostile(manifest: Any) -> None:
        manifest["params"]["loss"] = {"$tuple": [name, {"command": "true"}]}
        manifest["components"]["loss"].update({"as": name, "name": name, "entry_point": "os:system"})

    rewrite(path, hostile)
    with pytest.raises(MissingPluginError, match="not available here"):
        load_model(path)


@pytest.mark.parametrize("slot", ["nn_module", "loss", "optimizer", "prediction_transform", "step"])
def test_parameters_in_a_file_are_checked_before_any_factory_is_called(path: Path, slot: str) -> None:
    called: list[str] = []

    def own_part(lr: float = 0.1) -> Any:
        called.append(slot)

    def own_optimizer(params: Any, lr: float = 0.1) -> Any:
        called.append(slot)

    trained(step="amp").save(path)
    kind = "transform" if slot == "prediction_transform" else slot
    argus_core.register(kind, "own", own_optimizer if slot == "optimizer" else own_part)

    def hostile(manifest: Any) -> None:
        choice = {"$tuple": ["own", {"lr": 1.0, "path": "/etc/passwd"}]}
        manifest["params"][slot] = [choice] if slot == "step" else choice
        record = {**manifest["components"]["loss"], "as": "own", "name": None}
        manifest["components"][slot] = [record] if slot == "step" else record

    rewrite(path, hostile)
    with pytest.raises(ParamsError, match=r"'own' has no parameter 'path'.*not \(lr=1.0"):
        load_model(path)
    assert called == []


def test_optimizer_state_that_copies_one_tensor_often_is_refused(path: Path) -> None:
    trained().save(path, optimizer_state=True)

    def hostile(manifest: Any) -> None:
        slots = manifest["optimizer"]["state"]["out.bias"]
        slots.update({f"copy{index}": {"$tensor": "optimizer/out.bias/exp_avg"} for index in range(1000)})

    rewrite(path, hostile)
    with pytest.raises(UnsafeCheckpointError, match="the manifest's 'optimizer' is not as argus_core writes"):
        load_model(path)
    assert load_model(path, optimizer=None).optimizer is None


def test_optimizer_option_that_is_a_tensor_is_named(path: Path) -> None:
    trained().save(path, optimizer_state=True)

    def hostile(manifest: Any) -> None:
        groups = manifest["optimizer"]["param_groups"]
        groups[0]["capturable"] = {"$tensor": "optimizer/out.weight/exp_avg"}

    rewrite(path, hostile)
    with pytest.raises(
        StateMismatchError, match="capturable is float32.3, 8. in the file and False in what was"
    ):
        load_model(path)


def test_a_lazy_network_takes_its_shapes_from_the_file(path: Path) -> None:
    argus_core.register("nn_module", "lazy", lambda: nn.LazyLinear(3))
    model = trained(nn_module="lazy", optimizer=("Adam", {"lr": 0.1}))
    model.save(path, optimizer_state=True)
    loaded = load_model(path)
    assert same_weights(loaded, model)
    assert loaded.fit(batches()) == model.fit(batches())
    assert same_weights(loaded, model)


class Counts(nn.Linear):
    """Keeps what it has counted as extra state, of a size that changes."""

    def __init__(self) -> None:
        super().__init__(4, 3)
        self.seen: list[float] = []

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        self.seen.append(float(len(input)))
        return super().forward(input)

    def get_extra_state(self) -> torch.Tensor:
        return torch.tensor(self.seen)

    def set_extra_state(self, state: Any) -> None:
        if len(state) > 100:
            raise RuntimeError("too much to count")
        self.seen = state.tolist()


def test_extra_state_may_have_any_size(path: Path) -> None:
    argus_core.register("nn_module", "counts", Counts)
    model = trained(nn_module="counts")
    model.save(path)
    assert load_model(path).nn_module.seen == model.nn_module.seen


def test_a_network_that_refuses_its_state_is_named(path: Path) -> None:
    argus_core.register("nn_module", "counts", Counts)
    model = trained(nn_module="counts")
    model.nn_module.seen = [1.0] * 101
    model.save(path)
    with pytest.raises(StateMismatchError, match="does not fit nn_module 'counts': RuntimeError: too much"):
        load_model(path)


@pytest.mark.parametrize("returned", [None, (), ({},), (None, None)])
def test_a_change_state_dict_func_that_returns_something_else_is_named(path: Path, returned: Any) -> None:
    trained().save(path)
    with pytest.raises(
        SpecError, match="change_state_dict_func returned .*; return the network's state dict"
    ):
        load_model(path, change_state_dict_func=lambda nn_state, optimizer_state: returned)


def test_a_change_params_func_that_returns_nothing_is_named(path: Path) -> None:
    trained().save(path)
    with pytest.raises(SpecError, match="change_params_func returned None; return the params to use"):
        load_model(path, change_params_func=lambda params: None)  # type: ignore[arg-type,return-value]


def test_a_state_load_func_that_returns_something_else_is_named(path: Path) -> None:
    with pytest.raises(
        CheckpointError, match="the saved state has no valid model_name, params, nn_state_dict"
    ):
        load_model(path, state_load_func=lambda path: None)  # type: ignore[arg-type,return-value]


def test_a_registered_model_that_is_no_class_of_models_is_refused(path: Path) -> None:
    argus_core.register("model", "function", lambda params: None)
    trained().save(path)
    with pytest.raises(
        SpecError, match="model 'function' is .*, which is not a subclass of argus_core.Model"
    ):
        load_model(path, model_name="function")


@pytest.mark.parametrize("name", ["state_load_func", "change_params_func", "change_state_dict_func"])
@pytest.mark.parametrize("value", [0, [], "name", torch.ones(2)], ids=repr)
def test_what_is_no_function_is_refused(path: Path, name: str, value: Any) -> None:
    with pytest.raises(SpecError, match=f"{name} is .*; give a function, or leave it out"):
        load_model(path, **{name: value})


@pytest.mark.parametrize("slot", ["nn_module", "loss", "optimizer", "prediction_transform", "step", "device"])
@pytest.mark.parametrize("value", [torch.ones(2), numpy.ones(2)], ids=["tensor", "array"])
def test_params_that_were_changed_to_numbers_are_refused(path: Path, slot: str, value: Any) -> None:
    Model(PARAMS).save(path)
    with pytest.raises(SpecError, match=slot):
        load_model(path, change_params_func=lambda params: {**params, slot: value})


@pytest.mark.parametrize("digest", [0, b"x", [], torch.ones(2)], ids=repr)
def test_what_is_no_digest_is_refused(path: Path, digest: Any) -> None:
    Model(PARAMS).save(path)
    with pytest.raises(CheckpointError, match="is not 64 hexadecimal digits"):
        load_model(path, sha256=digest)


def test_slots_of_other_shapes_are_refused_by_the_optimizer_that_takes_any(path: Path) -> None:
    """torch takes them, and fails at the next update, or reads beyond what it has."""

    def change(network: Any, optimizer: Any) -> tuple[Any, Any]:
        for slots in optimizer["state"].values():
            slots["exp_avg"] = slots["exp_avg"].flatten()[:2].clone()
        return network, optimizer

    model = make_model(optimizer=("Adam", {"lr": 0.1}))
    model.fit(batches())
    model.save(path, optimizer_state=True)
    with pytest.raises(
        StateMismatchError, match=r"'exp_avg' of '.*' is float32\[2\] and the parameter float32\["
    ):
        load_model(path, change_state_dict_func=change)


def test_nothing_is_read_of_a_state_that_does_not_fit(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Model(PARAMS).save(path)

    def fail(*_: object) -> None:
        raise AssertionError("bytes were read")

    monkeypatch.setattr("argus_core.storage.reader._start", fail)
    with pytest.raises(StateMismatchError, match="does not fit nn_module"):
        load_model(path, nn_module={"classes": 7})


class TwoRates(Model):
    """Gives biases a multiple of the rate, by a parameter that no group has, and keeps what it built."""

    def build_optimizer(self, factory: Any, params: Any) -> Any:
        params = dict(params)
        factor = params.pop("factor", 10)
        weights = [each for each in self.nn_module.parameters() if each.ndim > 1]
        biases = [each for each in self.nn_module.parameters() if each.ndim == 1]
        others = {"params": biases, "lr": factor * params["lr"], "weight_decay": 0.0}
        optimizer = factory([{"params": weights}, others], **params)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1.0)
        return optimizer


def options(model: Model, name: str) -> list[float]:
    return [group[name] for group in model.optimizer.param_groups]


def two_rates(path: Path, **params: Any) -> None:
    """Write a checkpoint with both rates away from where they began, as a schedule leaves them."""
    argus_core.register("model", "TwoRates", override=True)(TwoRates)
    spec = ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01})
    model = TwoRates({**PARAMS, "nn_module": "net", "loss": "CrossEntropyLoss", "optimizer": spec} | params)
    model.fit(batches())
    model.set_lr([0.05, 0.5])
    model.save(path, optimizer_state=True)


@pytest.mark.parametrize(
    ("change", "rates", "decays"),
    [
        ({}, [0.05, 0.5], [0.01, 0.0]),
        ({"lr": 0.2}, [0.2, 2.0], [0.01, 0.0]),
        ({"weight_decay": 0.01}, [0.05, 0.5], [0.01, 0.0]),
        ({"factor": 3}, [0.05, pytest.approx(0.3)], [0.01, 0.0]),
        ({"lr": 0.2, "factor": 5}, [0.2, 1.0], [0.01, 0.0]),
        ({"weight_decay": 0.3}, [0.05, 0.5], [0.3, 0.0]),
    ],
    ids=str,
)
@pytest.mark.parametrize("by", ["argument", "function"])
def test_changed_options_reach_each_group_as_the_class_builds_it(
    path: Path, change: dict[str, Any], rates: list[float], decays: list[float], by: str
) -> None:
    def changed(params: dict[str, Any]) -> dict[str, Any]:
        name, saved = params["optimizer"]
        return {**params, "optimizer": (name, {**saved, **change})}

    two_rates(path)
    given: dict[str, Any] = {"optimizer": change} if by == "argument" else {"change_params_func": changed}
    loaded = load_model(path, **given)
    assert options(loaded, "lr") == rates
    assert options(loaded, "weight_decay") == decays
    assert options(loaded, "momentum") == [0.9, 0.9]
    assert loaded.schedule.optimizer is loaded.optimizer
    assert all("momentum_buffer" in slots for slots in loaded.optimizer.state.values())


def test_an_option_that_is_given_holds_though_it_is_what_it_was_at_first(path: Path) -> None:
    two_rates(path)
    assert options(load_model(path, optimizer={"lr": 0.1}), "lr") == [0.1, 1.0]


def test_a_new_schedule_begins_from_the_rates_that_loading_gave(path: Path) -> None:
    two_rates(path)
    loaded = load_model(path, optimizer={"lr": 0.2})
    loaded.fit(batches(), lr_scheduler=("ConstantLR", {"factor": 1.0}))
    assert options(loaded, "lr") == [0.2, 2.0]


def test_an_option_that_the_saved_state_cannot_go_on_with_is_refused(path: Path) -> None:
    model = make_model(optimizer=("Adam", {"lr": 0.1}))
    model.fit(batches())
    model.save(path, optimizer_state=True)
    with pytest.raises(
        StateMismatchError, match=r"'max_exp_avg_sq' that amsgrad needs; .* a spec, \('AdamW?', "
    ):
        load_model(path, optimizer={"amsgrad": True})


def test_home_folder_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    model = trained()
    model.save("~/model.safetensors")
    assert (tmp_path / "home" / "model.safetensors").exists()
    assert same_weights(load_model("~/model.safetensors"), model)
    assert not (tmp_path / "~").exists()


class _Nothing:
    """A step strategy that changes nothing."""

    @argus_core.hookimpl
    def after_update(self, model: Model, stepped: bool) -> None: ...


def test_drift_of_many_components_is_some_warnings_alone(path: Path) -> None:
    names = [f"nothing{number}" for number in range(30)]
    for name in names:
        argus_core.register("step", name)(type(name, (_Nothing,), {}))
    trained(step=names).save(path)

    def moved(manifest: Any) -> None:
        for record in manifest["components"]["step"]:
            record.update(name=f"medseg/{record['as']}", provider="medseg", version="1.4")

    rewrite(path, moved)
    with pytest.warns(ProviderDriftWarning) as told:
        load_model(path)
    assert [str(each.message) for each in told][10:] == [
        "20 more components are of other providers or versions than in the checkpoint"
    ]
