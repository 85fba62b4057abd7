"""argus convert and argus export: other formats made ours, and ours made plain."""

from __future__ import annotations

import copy
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from crafted import crafted
from networks import Net, batches, same_weights
from processes import sent_by
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

import argus_core
from argus_core import Model, hookimpl, load_model
from argus_core.checkpoint.formats import open_checkpoint
from argus_core.cli import main
from argus_core.errors import UnsafeCheckpointError
from argus_core.model import conversion
from argus_core.model.conversion import export
from argus_core.storage import CheckpointFile

INPUT = torch.linspace(-1, 1, 8).reshape(2, 4)


class OldModel(Model):
    """As a class of pytorch-argus has it: its parts are fixed, their parameters are in params."""

    nn_module = {"net": Net}
    optimizer = torch.optim.AdamW
    loss = nn.CrossEntropyLoss
    prediction_transform = nn.Softmax


PARAMS: dict[str, Any] = {
    "nn_module": ("net", {"classes": 3}),
    "loss": {"label_smoothing": 0.1},
    "optimizer": {"lr": 0.01},
    "prediction_transform": {"dim": 1},
    "device": "cpu",
}
NAMES = ("--loss", "CrossEntropyLoss", "--optimizer", "AdamW", "--prediction-transform", "Softmax")


def argus(*args: str | Path) -> Result:
    """Call the command; what it does not handle is raised here."""
    return CliRunner().invoke(main, list(map(str, args)), catch_exceptions=False)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, net_registry: None) -> Iterator[Path]:
    """Work in a folder of its own, where no model class is registered but the plain one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def old() -> Model:
    """Return the model that was saved as ``old.pth``, in the form that pytorch-argus has."""
    model = OldModel(PARAMS)
    model.fit(batches())
    save_old(model)
    return model


def save_old(model: Model, path: str = "old.pth", **changes: Any) -> None:
    state = {
        "model_name": "OldModel",
        "params": copy.deepcopy(model.params),
        "nn_state_dict": model.nn_module.state_dict(),
        "optimizer_state_dict": model.optimizer.state_dict(),
    }
    torch.save({**state, **changes}, path)


def refusal(*args: str | Path) -> str:
    result = argus(*args)
    assert (result.exit_code, result.stdout) == (1, "")
    return result.stderr


# convert.


def test_convert_writes_what_the_registered_class_loads(old: Model) -> None:
    argus_core.register("model", "OldModel", OldModel)
    assert argus("convert", "old.pth", "new.safetensors").stdout == (
        "checkpoint: new.safetensors (model OldModel: nn_module net, loss CrossEntropyLoss, optimizer AdamW, "
        "prediction_transform Softmax)\n"
    )
    loaded = load_model("new.safetensors")
    assert type(loaded) is OldModel
    assert loaded.params == PARAMS
    assert same_weights(loaded, old)


def test_convert_names_the_parts_that_only_the_old_class_knows(old: Model) -> None:
    assert argus("convert", "old.pth", "new.safetensors", "--model", "Model", *NAMES).exit_code == 0
    loaded = load_model("new.safetensors")
    assert type(loaded) is Model
    assert loaded.params["loss"] == ("CrossEntropyLoss", {"label_smoothing": 0.1})
    assert torch.equal(loaded.predict(INPUT), old.predict(INPUT))


def test_convert_takes_another_network_with_the_saved_parameters(old: Model) -> None:
    argus_core.register("nn_module", "renamed", Net)
    argus("convert", "old.pth", "new.safetensors", "--model", "Model", "--nn-module", "renamed", *NAMES)
    assert load_model("new.safetensors").params["nn_module"] == ("renamed", {"classes": 3})


def test_convert_keeps_the_optimizers_state(old: Model) -> None:
    argus("convert", "old.pth", "new.safetensors", "--model", "Model", *NAMES)
    loaded = load_model("new.safetensors")
    for model in (old, loaded):
        model.fit(batches(seed=5))
    assert same_weights(loaded, old)


def test_convert_of_a_file_without_optimizer_state_makes_one_without(old: Model) -> None:
    save_old(old, optimizer_state_dict=None)
    argus("convert", "old.pth", "new.safetensors", "--model", "Model", *NAMES)
    assert not load_model("new.safetensors").optimizer.state


def test_convert_leaves_parts_out_and_says_so(old: Model) -> None:
    options = ("--loss", "none", "--optimizer", "none", "--prediction-transform", "none")
    result = argus("convert", "old.pth", "new.safetensors", "--model", "Model", *options)
    assert "no loss, no optimizer, no prediction_transform" in result.stdout
    assert load_model("new.safetensors").optimizer is None


def test_convert_keeps_the_device_that_the_file_asks_for(old: Model) -> None:
    save_old(old, params={**PARAMS, "device": "cuda:7"})
    argus("convert", "old.pth", "new.safetensors", "--model", "Model", *NAMES)
    assert load_model("new.safetensors", device="cpu").params["device"] == "cpu"
    with CheckpointFile("new.safetensors") as file:
        assert file.header.manifest["params"]["device"] == "cuda:7"


def test_convert_tells_which_params_the_plain_model_does_not_take(old: Model) -> None:
    save_old(old, params={**PARAMS, "fold": 3})
    result = argus("convert", "old.pth", "new.safetensors", "--model", "Model", *NAMES)
    assert result.stdout.startswith("omitted from params, since the plain Model does not take them: fold\n")


def test_convert_of_an_unknown_class_says_what_to_do(old: Model) -> None:
    assert refusal("convert", "old.pth", "new.safetensors") == (
        "error: old.pth needs the model class 'OldModel', which nothing here provides; install the package "
        "that registers it, or give another by --model NAME: with --model Model --nn-module NAME the plain "
        "one takes a registered network\n"
    )


def test_convert_of_a_part_without_a_name_says_what_to_do(old: Model) -> None:
    assert refusal("convert", "old.pth", "new.safetensors", "--model", "Model") == (
        "error: params['loss'] is {'label_smoothing': 0.1}, parameters of what the file's model class fixed; "
        "name a registered component by --loss NAME, or leave the part out by --loss none\n"
    )


def test_convert_of_a_network_that_does_not_fit_leaves_nothing(old: Model, folder: Path) -> None:
    save_old(old, params={**PARAMS, "nn_module": ("net", {"classes": 7})})
    assert "does not fit nn_module 'net'" in refusal(
        "convert", "old.pth", "new.safetensors", "--model", "Model", *NAMES
    )
    assert [path.name for path in folder.iterdir()] == ["old.pth"]


@pytest.mark.parametrize("command", ["convert", "export"])
def test_a_file_that_is_there_is_kept(old: Model, folder: Path, command: str) -> None:
    (folder / "new.safetensors").write_text("mine", "utf-8")
    assert refusal(command, "old.pth", "new.safetensors") == (
        "error: new.safetensors exists already; choose another output file, or add --overwrite\n"
    )
    assert (folder / "new.safetensors").read_text("utf-8") == "mine"


@pytest.mark.parametrize("args", [("convert", "--model", "Model", *NAMES), ("export",)])
def test_a_file_that_another_program_puts_there_meanwhile_is_kept(
    old: Model, folder: Path, args: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def open_meanwhile(source: Path) -> Any:
        saved = open_checkpoint(source)
        (folder / "new.safetensors").write_text("mine", "utf-8")
        return saved

    monkeypatch.setattr(conversion, "open_checkpoint", open_meanwhile)
    assert refusal(*args, "old.pth", "new.safetensors") == (
        "error: new.safetensors exists already; choose another output file, or add --overwrite\n"
    )
    assert (folder / "new.safetensors").read_text("utf-8") == "mine"


@pytest.mark.parametrize("args", [("convert", "--model", "Model", *NAMES), ("export",)])
def test_a_file_that_is_there_is_replaced_if_asked(old: Model, folder: Path, args: tuple[str, ...]) -> None:
    (folder / "new.safetensors").write_text("mine", "utf-8")
    assert argus(*args, "old.pth", "new.safetensors", "--overwrite").exit_code == 0
    assert (folder / "new.safetensors").stat().st_size > 100


def test_what_is_read_is_never_overwritten(old: Model, folder: Path) -> None:
    message = "error: old.pth is also the input; choose another output file\n"
    assert refusal("export", "old.pth", "old.pth", "--overwrite") == message


def test_convert_writes_checkpoints_alone(old: Model) -> None:
    result = argus("convert", "old.pth", "new.pth")
    assert (result.exit_code, "give a name that ends in .safetensors" in result.stderr) == (2, True)


def test_convert_of_our_own_checkpoint_says_so(old: Model) -> None:
    Model({"nn_module": "net", "device": "cpu"}).save("own.safetensors")
    assert refusal("convert", "own.safetensors", "new.safetensors") == (
        "error: own.safetensors is a checkpoint of argus_core already; load it with load_model, or convert "
        "it "
        "to a name that ends in .sharded, without options\n"
    )


def test_convert_of_nothing_says_so() -> None:
    assert refusal("convert", "gone.pth", "new.safetensors").startswith("error: no checkpoint at gone.pth")


class _Evil:
    def __reduce__(self) -> Any:
        return (print, ("this must never run",))


@pytest.mark.parametrize("command", ["convert", "export"])
def test_code_in_a_pth_is_never_run(old: Model, command: str) -> None:
    save_old(old, params=_Evil())
    assert "asks for objects that are not tensors or plain data" in refusal(
        command, "old.pth", "new.safetensors"
    )


def test_convert_refuses_a_pth_of_another_form(old: Model) -> None:
    save_old(old, params=5)
    assert "has no valid params" in refusal("convert", "old.pth", "new.safetensors")


# export.


def plain(path: str) -> Any:
    return load_file(path) if path.endswith(".safetensors") else torch.load(path, weights_only=True)


@pytest.fixture
def ours() -> Model:
    model = Model({"nn_module": "net", "optimizer": ("AdamW", {"lr": 0.1}), "device": "cpu"})
    model.save("ours.safetensors", optimizer_state=True)
    return model


def evaluated(path: str) -> dict[str, torch.Tensor]:
    """Return the state with which a checkpoint predicts."""
    model = load_model(path, device="cpu")
    with model.evaluation():
        return {name: value.clone() for name, value in model.nn_module.state_dict().items()}


def trained_with(*steps: Any, network: Any = "net") -> Model:
    torch.manual_seed(0)
    params = {"nn_module": network, "loss": "CrossEntropyLoss", "optimizer": ("SGD", {"lr": 0.1})}
    model = Model({**params, "device": "cpu", "step": list(steps)})
    model.fit(batches())
    model.save("averaged.safetensors")
    return model


class Lookahead:
    """Evaluates with slow weights that its state holds beside something else; a plugin's strategy."""

    evaluates_with = "slow"

    @hookimpl
    def set_up(self, model: Model) -> None:
        self.weights = dict(model.get_nn_module().named_parameters())
        self.slow = {name: weight.detach() / 2 for name, weight in self.weights.items()}

    @hookimpl
    @contextmanager
    def evaluation_context(self) -> Iterator[None]:
        fast = {name: weight.data for name, weight in self.weights.items()}
        for name, weight in self.weights.items():
            weight.data = self.slow[name]
        yield
        for name, weight in self.weights.items():
            weight.data = fast[name]

    @hookimpl
    def state_dict(self) -> dict[str, Any]:
        return {"slow": dict(self.slow), "rounds": 3}


EMA = ("ema", {"decay": 0.5, "warmup": False})


@pytest.mark.parametrize("name", ["net.safetensors", "net.pt"])
@pytest.mark.parametrize(
    "steps",
    [
        (EMA,),
        (("clip_grad_norm", {"max_norm": 1.0}), EMA, ("accumulate", {"steps": 2})),
        (("ema", {"decay": 0.5, "buffers": "average"}),),
        (("amp", {"dtype": "bfloat16"}), EMA),
    ],
    ids=["ema alone", "among others", "buffers averaged", "amp"],
)
def test_export_writes_the_averages_with_which_the_checkpoint_predicts(
    steps: tuple[Any, ...], name: str
) -> None:
    argus_core.register("nn_module", "normed", _normed, override=True)
    model = trained_with(*steps, network="normed")
    done = argus("export", "averaged.safetensors", name)
    assert done.stdout == (
        f"network: {name} ({len(model.nn_module.state_dict())} tensors, averages of step strategy 'ema'; "
        "--weights trained exports the others)\n"
    )
    state, expected = plain(name), evaluated("averaged.safetensors")
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[key], expected[key]) for key in expected)
    assert not torch.equal(state["0.weight"], model.nn_module[0].weight)


def test_export_writes_the_trained_weights_where_they_are_asked_for() -> None:
    model = trained_with(EMA)
    done = argus("export", "averaged.safetensors", "net.pt", "--weights", "trained")
    assert done.stdout == "network: net.pt (4 tensors)\n"
    state = plain("net.pt")
    assert all(torch.equal(value, state[key]) for key, value in model.nn_module.state_dict().items())


def test_export_takes_the_averages_of_a_plugins_strategy_that_says_where_they_are() -> None:
    argus_core.register("step", "lookahead", Lookahead)
    model = trained_with("lookahead")
    assert "'lookahead'" in argus("export", "averaged.safetensors", "net.pt").stdout
    state = plain("net.pt")
    with model.evaluation():
        assert all(torch.equal(value, state[key]) for key, value in model.nn_module.state_dict().items())


def test_export_of_averages_keeps_tied_and_half_precision_weights() -> None:
    argus_core.register("nn_module", "tied", lambda: _tied().bfloat16())
    model = Model({"nn_module": "tied", "loss": "MSELoss", "optimizer": ("SGD", {"lr": 0.1}), "step": EMA})
    data = torch.ones(2, 4, dtype=torch.bfloat16)
    model.fit([(data, data)])
    model.save("averaged.safetensors")
    argus("export", "averaged.safetensors", "net.safetensors")
    state, expected = load_file("net.safetensors"), evaluated("averaged.safetensors")
    assert {value.dtype for value in state.values()} == {torch.bfloat16}
    assert all(torch.equal(state[key], expected[key]) for key in expected)
    assert torch.equal(state["0.weight"], state["1.weight"])


def test_export_of_a_checkpoint_from_before_strategies_said_where_their_averages_are(folder: Path) -> None:
    trained_with(EMA)
    path = folder / "averaged.safetensors"
    path.write_bytes(crafted(path.read_bytes(), lambda _, manifest: manifest.pop("evaluated") and None))
    argus("export", "averaged.safetensors", "net.pt")
    state, expected = plain("net.pt"), evaluated("averaged.safetensors")
    assert all(torch.equal(state[key], expected[key]) for key in expected)


def test_export_of_an_average_that_stands_for_no_tensor_is_refused(folder: Path) -> None:
    trained_with(EMA)
    path = folder / "averaged.safetensors"

    def extra(header: Any, manifest: Any) -> None:
        averages = manifest["step_state"]["ema"]["averages"]
        averages["array"] = averages["out.bias"]
        manifest["extra"]["nn"] = {"array": {"$ndarray": "nn/out.bias"}}

    path.write_bytes(crafted(path.read_bytes(), extra))
    assert "not that of the weight; do not trust this file" in refusal(
        "export", "averaged.safetensors", "net.pt"
    )


@pytest.mark.parametrize("key", [1, None, {"$tuple": ["a"]}])
def test_export_of_state_beside_the_tensors_without_names_is_refused(folder: Path, key: Any) -> None:
    trained_with()
    path = folder / "averaged.safetensors"
    changed = crafted(
        path.read_bytes(), lambda _, manifest: manifest["extra"].update(nn={"$dict": [[key, 2]]})
    )
    path.write_bytes(changed)
    for target in ("net.pt", "net.safetensors"):
        assert "the manifest's 'extra' is not as argus_core writes it" in refusal(
            "export", "averaged.safetensors", target
        )
    with pytest.raises(UnsafeCheckpointError, match="'extra' is not as"):
        load_model(path)


def test_export_of_averages_before_the_first_update_writes_the_weights() -> None:
    model = Model({"nn_module": "net", "step": EMA, "device": "cpu"})
    model.predict(torch.zeros(1, 4))
    with torch.no_grad():
        model.nn_module.out.weight.zero_()
    model.save("averaged.safetensors")
    assert argus("export", "averaged.safetensors", "net.pt").stdout == "network: net.pt (4 tensors)\n"
    assert not plain("net.pt")["out.weight"].any()
    assert "holds no average of its weights" in refusal(
        "export", "averaged.safetensors", "net2.pt", "--weights", "average"
    )


@pytest.mark.usefixtures("ours", "old")
@pytest.mark.parametrize("file", ["ours.safetensors", "old.pth"])
def test_export_of_averages_that_are_not_there_is_refused(file: str) -> None:
    assert refusal("export", file, "net.pt", "--weights", "average") == (
        f"error: {file} holds no average of its weights; leave weights out, or train with step 'ema'\n"
    )


def test_export_of_the_averages_of_two_strategies_is_refused() -> None:
    argus_core.register("step", "lookahead", Lookahead)
    trained_with("lookahead", EMA)
    assert "the averages of several step strategies (ema, lookahead)" in refusal(
        "export", "averaged.safetensors", "net.pt"
    )
    assert argus("export", "averaged.safetensors", "net.pt", "--weights", "trained").exit_code == 0


def test_export_of_an_average_of_another_shape_is_refused(folder: Path) -> None:
    trained_with(EMA)
    path = folder / "averaged.safetensors"

    def swap(header: Any, manifest: Any) -> None:
        stored = manifest["step_state"]["ema"]["averages"]
        stored["out.weight"], stored["out.bias"] = stored["out.bias"], stored["out.weight"]

    path.write_bytes(crafted(path.read_bytes(), swap))
    assert "not that of the weight; do not trust this file" in refusal(
        "export", "averaged.safetensors", "net.pt"
    )


@pytest.mark.parametrize("name", ["net.safetensors", "net.pt", "net.PTH"])
def test_export_writes_the_state_dict_of_the_network(ours: Model, name: str) -> None:
    assert argus("export", "ours.safetensors", name).stdout == f"network: {name} (4 tensors)\n"
    state, expected = plain(name), ours.nn_module.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[key], expected[key]) for key in expected)


def test_export_of_a_pth_works_too(old: Model) -> None:
    argus("export", "old.pth", "net.safetensors")
    Net(classes=3).load_state_dict(load_file("net.safetensors"))


def test_export_needs_no_component(ours: Model) -> None:
    with argus_core.isolated_registry():
        assert argus("export", "ours.safetensors", "net.pt").exit_code == 0


def _normed() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))


def _tied() -> nn.Module:
    module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    module[1].weight = module[0].weight
    return module


@pytest.mark.parametrize("name", ["net.safetensors", "net.pt"])
def test_export_writes_tied_weights_under_each_name(name: str) -> None:
    argus_core.register("nn_module", "tied", _tied)
    model = Model({"nn_module": "tied", "device": "cpu"})
    model.save("tied.safetensors")
    argus("export", "tied.safetensors", name)
    loaded = _tied()
    loaded.load_state_dict(plain(name))
    assert torch.equal(loaded[1].weight, model.nn_module[0].weight)


class ManyNames(nn.Module):
    """One weight of so many numbers under so many names."""

    def __init__(self, names: int, numbers: int = 2**20) -> None:
        super().__init__()
        weight = nn.Parameter(torch.arange(float(numbers)))
        for index in range(names):
            self.register_parameter(f"w{index}", weight)


def save_many_names(names: int, path: Path) -> None:
    """Save a network of one weight, as a checkpoint or as pytorch-argus does."""
    argus_core.register("nn_module", "many", ManyNames)
    model = Model({"nn_module": ("many", {"names": names}), "device": "cpu"})
    if path.suffix == ".safetensors":
        model.save(path)
    else:
        state = model.nn_module.state_dict()
        torch.save({"model_name": "Model", "params": model.params, "nn_state_dict": state}, path)


def growth(source: Path, target: Path, connection: Connection) -> None:
    """Export a checkpoint in a process of its own, and send how much more memory it had meanwhile."""
    import resource

    export(source, target.with_name("before.safetensors"))  # torch and Python come to rest
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    export(source, target)
    connection.send((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)


@pytest.mark.parametrize("source", ["many.safetensors", "many.pth"])
def test_export_of_one_weight_under_many_names_takes_no_memory_for_each(folder: Path, source: str) -> None:
    save_many_names(25, folder / source)
    [taken] = sent_by(growth, folder / source, folder / "net.safetensors")
    assert taken < 16 * 2**20
    state = load_file(folder / "net.safetensors")
    assert list(map(len, state.values())) == [2**20] * 25
    assert torch.equal(state["w24"], torch.arange(float(2**20)))


@pytest.mark.parametrize("source", ["many.safetensors", "many.pth"])
def test_export_of_one_weight_under_too_many_names_is_refused_and_done_to_a_pt(
    folder: Path, source: str
) -> None:
    save_many_names(250, folder / source)
    assert re.fullmatch(
        f"error: {source} has tensors of many names, which would take 1,048,576,000 bytes in a plain "
        r"safetensors file, and 14\d,\d{3},\d{3} is the most for this one; export to a .pt file, which holds "
        "each once\n",
        refusal("export", source, "net.safetensors"),
    )
    assert argus("export", source, "net.pt").stdout == "network: net.pt (250 tensors)\n"
    assert (folder / "net.pt").stat().st_size < 5 * 2**20
    assert torch.equal(plain("net.pt")["w249"], torch.arange(float(2**20)))


def test_export_writes_what_any_reader_of_safetensors_reads(folder: Path) -> None:
    state = {
        str(dtype): torch.arange(6).to(dtype).reshape(2, 3)
        for dtype in (
            torch.float64,
            torch.bfloat16,
            torch.int8,
            torch.bool,
            torch.float8_e5m2,
            torch.complex64,
        )
    }
    state |= {
        "turned": torch.arange(6.0).reshape(2, 3).t(),
        "number": torch.tensor(5),
        "none": torch.empty(0, 3),
    }
    state |= {
        "wide": torch.ones(1).expand(2, 3),
        "view": state["torch.float64"][1:],
        'a "name"': torch.ones(2),
    }
    torch.save({"model_name": "Model", "params": {}, "nn_state_dict": state}, "old.pth")
    argus("export", "old.pth", "net.safetensors")
    found = load_file(folder / "net.safetensors")
    assert found.keys() == state.keys()
    for name, value in state.items():
        assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape)
        assert found[name].flatten().tolist() == value.flatten().tolist()
    with safe_open(folder / "net.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}


@pytest.mark.parametrize("name", ["../up", "/root", "a\nb", "__metadata__"])
def test_export_of_a_name_that_a_safetensors_file_should_not_have_is_refused(folder: Path, name: str) -> None:
    torch.save({"model_name": "Model", "params": {}, "nn_state_dict": {name: torch.ones(1)}}, "old.pth")
    assert "cannot name a tensor in a checkpoint" in refusal("export", "old.pth", "net.safetensors")
    assert argus("export", "old.pth", "net.pt").exit_code == 0


def test_export_writes_channels_last_weights_as_any_tensor() -> None:
    def build() -> nn.Module:
        return nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)

    argus_core.register("nn_module", "conv", build)
    model = Model({"nn_module": "conv", "device": "cpu"})
    model.save("conv.safetensors")
    argus("export", "conv.safetensors", "net.safetensors")
    assert torch.equal(load_file("net.safetensors")["weight"], model.nn_module.weight)


class Counting(nn.Linear):
    """Keeps a list as extra state."""

    def get_extra_state(self) -> Any:
        return [1, 2]

    def set_extra_state(self, state: Any) -> None:
        pass


def test_export_of_extra_state_to_safetensors_is_refused() -> None:
    argus_core.register("nn_module", "counting", lambda: Counting(2, 2))
    Model({"nn_module": "counting", "device": "cpu"}).save("counting.safetensors")
    assert refusal("export", "counting.safetensors", "net.safetensors") == (
        "error: counting.safetensors holds state that is not a tensor (['_extra_state']), which a plain "
        "safetensors file cannot hold; export to a .pt file\n"
    )
    argus("export", "counting.safetensors", "net.pt")
    assert plain("net.pt")["_extra_state"] == [1, 2]


def test_export_of_a_dtype_that_safetensors_lacks_is_refused(folder: Path) -> None:
    def build() -> nn.Module:
        module = nn.Linear(2, 2)
        module.register_buffer("wide", torch.zeros(2, dtype=torch.complex128))
        return module

    argus_core.register("nn_module", "wide", build)
    Model({"nn_module": "wide", "device": "cpu"}).save("wide.safetensors")
    assert "holds a tensor that a plain safetensors file cannot" in refusal(
        "export", "wide.safetensors", "net.safetensors"
    )
    assert not (folder / "net.safetensors").exists()


def test_export_of_a_damaged_checkpoint_is_refused(ours: Model, folder: Path) -> None:
    path = folder / "ours.safetensors"
    data = bytearray(path.read_bytes())
    with CheckpointFile(path) as file:
        place = file.header.payload_start + file.header.entries["nn/out.weight"].start
    data[place] ^= 1
    path.write_bytes(data)
    assert "tensor 'nn/out.weight' is damaged" in refusal("export", "ours.safetensors", "net.safetensors")
    assert not (folder / "net.safetensors").exists()


def test_export_to_another_suffix_is_refused(ours: Model) -> None:
    assert refusal("export", "ours.safetensors", "net.onnx") == (
        "error: cannot export to 'net.onnx'; give a name that ends in .safetensors, .pt, .pth\n"
    )


def contents(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return the tensors of a checkpoint, and its manifest without what the storage adds."""
    with CheckpointFile(path) as file:
        kept = {
            key: value for key, value in file.header.manifest.items() if key not in ("tensors", "aliases")
        }
        return file.read(), kept


@pytest.mark.parametrize("command", ["convert", "export"])
def test_examples_of_the_help_work(command: str, old: Model, ours: Model, folder: Path) -> None:
    argus_core.register("model", "OldModel", OldModel)
    argus_core.register("nn_module", "cnn", Net)
    save_old(old, params={**PARAMS, "prediction_transform": None})
    (folder / "runs/digits/checkpoints").mkdir(parents=True)
    (folder / "ours.safetensors").rename(folder / "runs/digits/checkpoints/best.safetensors")
    argus_core.storage.write(
        folder / "last.sharded", *contents(folder / "runs/digits/checkpoints/best.safetensors")
    )
    help_text = argus(command, "--help").output
    lines = re.findall(r"^ +argus (.+)$", help_text.partition("Examples:")[2], re.MULTILINE)
    assert len(lines) == {"convert": 3, "export": 2}[command]
    for line in lines:
        assert argus(*shlex.split(line)).exit_code == 0, line


def test_convert_changes_a_file_into_a_folder_and_back(ours: Model, folder: Path) -> None:
    assert argus("convert", "ours.safetensors", "ours.sharded").exit_code == 0
    assert argus("convert", "ours.sharded", "again.safetensors").exit_code == 0
    (before, manifest), (after, again) = (
        contents(folder / "ours.safetensors"),
        contents(folder / "again.safetensors"),
    )
    assert manifest == again
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert "exists already" in refusal("convert", "again.safetensors", "ours.sharded")
