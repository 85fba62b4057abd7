"""Checkpoints in both directions: what pytorch-argus wrote is read, and what is written it reads."""

from __future__ import annotations

import pathlib
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from blobs import ConvNet, Dense, weights
from torch import nn

import argus
import argus_core
from argus_core.errors import ArgusError, CheckpointError, StateMismatchError, UnsafeCheckpointError

HERE = Path(__file__).parent
GOLDEN = HERE / "golden"
PARAMS: dict[str, Any] = {
    "nn_module": ("conv", {"n_classes": 3, "p_dropout": 0.5}),
    "optimizer": ("Adam", {"lr": 0.01}),
    "loss": ("CrossEntropyLoss", {"label_smoothing": 0.1}),
    "device": "cpu",
    "mine": {"tuple": (1, 2), 3: "three"},
}


@pytest.fixture
def model_class() -> type[argus.Model]:
    class FirstModel(argus.Model):
        nn_module = {"conv": ConvNet, "dense": Dense}

    return FirstModel


def trained(model_class: type[argus.Model]) -> argus.Model:
    torch.manual_seed(0)
    model = model_class(PARAMS)
    model.train_step((torch.randn(4, 1, 8, 8), torch.arange(4) % 3))
    return model


@pytest.mark.parametrize("load", [argus.load_model, argus_core.load_model])
def test_a_file_of_pytorch_argus_is_read(load: Any, model_class: type[argus.Model]) -> None:
    model = load(GOLDEN / "model.pth")
    assert type(model) is model_class
    assert model.params == PARAMS
    assert not model.nn_module.training
    assert weights(model) != weights(model_class(PARAMS))
    assert [float(slots["step"]) for slots in model.optimizer.state.values()] == [4.0] * 4


def test_a_file_holds_what_pytorch_argus_reads(model_class: type[argus.Model], tmp_path: Path) -> None:
    """The fields and types of 1.1.0's own files; it has read such files, see the plugin's page."""
    theirs = torch.load(GOLDEN / "model.pth", weights_only=True)
    trained(model_class).save(tmp_path / "model.pth", optimizer_state=True)
    ours = torch.load(tmp_path / "model.pth", weights_only=True)
    assert form(ours) == form(theirs)
    assert (ours["model_name"], ours["params"]) == (theirs["model_name"], theirs["params"])


def form(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: form(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return list(map(form, value))  # 1.1.0 makes lists of the optimizer's tuples
    return (value.dtype, value.shape, value.device) if isinstance(value, torch.Tensor) else type(value)


@pytest.mark.parametrize("optimizer_state", [False, True])
def test_the_optimizers_state_is_kept_if_wanted(
    optimizer_state: bool, model_class: type[argus.Model], tmp_path: Path
) -> None:
    model = trained(model_class)
    model.save(str(tmp_path / "model.pth"), optimizer_state=optimizer_state)
    assert (
        "optimizer_state_dict" in torch.load(tmp_path / "model.pth", weights_only=True)
    ) == optimizer_state
    loaded = argus.load_model(tmp_path / "model.pth")
    assert len(loaded.optimizer.state) == (4 if optimizer_state else 0)
    assert weights(loaded) == weights(model)


def test_a_file_that_cannot_be_written_leaves_the_old_one(
    model_class: type[argus.Model], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = trained(model_class)
    model.save(tmp_path / "model.pth")

    def fail(state: Any, file: Any) -> None:
        file.write(b"half a file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(CheckpointError, match="No space left"):
        model.save(tmp_path / "model.pth")
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["model.pth"]
    assert weights(argus.load_model(tmp_path / "model.pth")) == weights(model)


def test_a_name_in_safetensors_gives_a_checkpoint_of_argus_core(tmp_path: Path) -> None:
    argus_core.register("nn_module", "conv-net", ConvNet)

    class NamedModel(argus.Model):
        nn_module = "conv-net"
        optimizer = "SGD"
        loss = "CrossEntropyLoss"

    model = NamedModel({"nn_module": {"n_classes": 3}})
    model.save(tmp_path / "model.safetensors", optimizer_state=True)
    loaded = argus.load_model(tmp_path / "model.safetensors", optimizer={"lr": 0.3}, loss=None, device="cpu")
    assert type(loaded) is NamedModel
    assert weights(loaded) == weights(model)
    assert (loaded.optimizer.param_groups[0]["lr"], loaded.loss) == (0.3, None)
    plain = argus_core.load_model(tmp_path / "model.safetensors", model_name="Model")
    assert type(plain) is argus_core.Model
    assert isinstance(plain.prediction_transform, nn.Identity)
    assert weights(plain) == weights(model)


def test_a_file_is_moved_to_a_plain_model_by_the_name_of_its_network(tmp_path: Path) -> None:
    from argus_core.model.conversion import convert

    argus_core.register("nn_module", "conv", ConvNet)
    model, left_out = convert(GOLDEN / "model.pth", tmp_path / "model.safetensors", "Model")
    assert left_out == ["mine"]
    assert type(model) is argus_core.Model
    assert weights(argus_core.load_model(tmp_path / "model.safetensors")) == weights(model)


def test_params_may_hold_what_only_pickle_writes_and_are_not_unpickled(tmp_path: Path) -> None:
    class PickleModel(argus.Model):
        nn_module = Dense
        optimizer = torch.optim.SGD
        loss = nn.CrossEntropyLoss

    model = PickleModel({"where": pathlib.PurePosixPath("data"), "activation": nn.ReLU})
    model.save(tmp_path / "model.pth")
    with pytest.raises(UnsafeCheckpointError, match="asks for objects that are not tensors or plain data"):
        argus.load_model(tmp_path / "model.pth")
    trusted = argus.load_model(
        tmp_path / "model.pth", state_load_func=lambda path: torch.load(path, weights_only=False)
    )
    assert trusted.params["activation"] is nn.ReLU
    assert weights(trusted) == weights(model)


def test_a_missing_class_is_an_import_error_that_says_what_to_do() -> None:
    with pytest.raises(
        ImportError, match=r"model.pth needs the model class 'FirstModel', which is not defined; define"
    ):
        argus.load_model(GOLDEN / "model.pth")


def test_a_missing_file_is_a_file_not_found_error(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"there is no file '.*nothing.pth'; give the path of a saved model"
    ):
        argus.load_model(str(tmp_path / "nothing.pth"))


def test_a_function_that_returns_no_states_is_told(model_class: type[argus.Model]) -> None:
    with pytest.raises(
        ArgusError, match="change_state_dict_func returned None; return the network's state dict"
    ):
        argus.load_model(GOLDEN / "model.pth", change_state_dict_func=lambda nn_state, optimizer_state: None)


def test_a_network_is_never_left_out(model_class: type[argus.Model]) -> None:
    with pytest.raises(ArgusError, match="load_model cannot leave nn_module out; give its parameters"):
        argus.load_model(GOLDEN / "model.pth", nn_module=None)


def test_a_state_that_does_not_fit_is_loud(model_class: type[argus.Model]) -> None:
    with pytest.raises(StateMismatchError, match="does not fit nn_module 'dense'"):
        argus.load_model(GOLDEN / "model.pth", nn_module="dense")


def test_functions_see_params_and_states_in_the_order_of_pytorch_argus(
    model_class: type[argus.Model],
) -> None:
    calls: list[Any] = []

    def read(path: Any) -> Any:
        calls.append(("read", path))
        return torch.load(path, weights_only=True)

    def change_params(params: dict[str, Any]) -> dict[str, Any]:
        calls.append(("params", params["optimizer"], params["mine"], params["device"]))
        return params

    def change_states(nn_state_dict: Any, optimizer_state_dict: Any) -> Any:
        calls.append(("states", sorted(nn_state_dict)[0], sorted(optimizer_state_dict)))
        return nn_state_dict, optimizer_state_dict

    path = str(GOLDEN / "model.pth")
    argus.load_model(
        path,
        optimizer=None,
        device=torch.device("cpu"),
        state_load_func=read,
        change_params_func=change_params,
        change_state_dict_func=change_states,
        mine=5,
    )
    assert calls == [
        ("read", path),
        ("params", None, 5, "cpu"),
        ("states", "classifier.bias", ["param_groups", "state"]),
    ]


def test_the_fixed_model_of_pytorch_argus_trains_on() -> None:
    namespace = runpy.run_path(str(HERE / "scripts" / "loading.py"))
    model = argus.load_model(GOLDEN / "fixed.pth")
    assert type(model) is namespace["FixedModel"]
    before = weights(model)
    model.train_step((torch.randn(4, 1, 8, 8), torch.arange(4) % 3))
    assert weights(model) != before
    assert {float(slots["step"]) for slots in model.optimizer.state.values()} == {5.0}


def test_the_default_loading_function_refuses_a_checkpoint_of_argus_core(
    model_class: type[argus.Model], tmp_path: Path
) -> None:
    model = trained(model_class)
    with pytest.warns(argus_core.ArgusWarning, match="will not load by name"):
        model.save(tmp_path / "model.safetensors")
    load = argus.model.load.default_state_load_func
    with pytest.raises(CheckpointError, match="is a checkpoint of argus_core; load it with load_model"):
        load(tmp_path / "model.safetensors")
    assert load(GOLDEN / "model.pth")["model_name"] == "FirstModel"
