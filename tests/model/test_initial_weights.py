"""The weights of a file that a network starts from: formats, names, shapes, and who may choose the file."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import argus_core
from argus_core import ArgusError, CheckpointError, Model, ParamsError, StateMismatchError, load_model
from argus_core.callbacks import Checkpoint
from argus_core.checkpoint import legacy
from argus_core.errors import ArgusWarning, CorruptCheckpointError, SpecError, UnsafeCheckpointError
from argus_core.storage import plain_file

BATCHES = [(torch.randn(8, 4), torch.randint(2, (8,))) for _ in range(3)]


class Classifier(nn.Module):
    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6))
        self.head = nn.Linear(6, classes)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.head(self.backbone(input))
        return scores


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(4, 4, bias=False)
        self.out = nn.Linear(4, 4, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.out(self.embed(input))
        return scores


class Lazy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.LazyLinear(3)
        self.second = nn.Linear(3, 2)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.second(self.first(input))
        return scores


class Outer(nn.Module):
    """A network that builds a whole model of its parameters."""

    def __init__(self, inner: dict[str, Any]) -> None:
        super().__init__()
        self.inner = Model(inner).nn_module


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    with argus_core.isolated_registry(builtins=True):
        argus_core.register("nn_module", "classifier", Classifier)
        argus_core.register("nn_module", "tied", Tied)
        argus_core.register("nn_module", "lazy", Lazy)
        argus_core.register("nn_module", "outer", Outer)
        yield tmp_path


def model(init_from: Any = None, network: Any = "classifier", **params: Any) -> Model:
    torch.manual_seed(1)
    own = {} if init_from is None else {"init_from": init_from}
    return Model({
        "nn_module": network, "loss": "CrossEntropyLoss", "optimizer": ("SGD", {"lr": 0.1}), "device": "cpu",
        **own, **params,
    })  # fmt: skip


def base(classes: int = 2) -> dict[str, torch.Tensor]:
    """Return the state of a network with other weights and statistics than a new one."""
    torch.manual_seed(7)
    network = Classifier(classes)
    network(torch.randn(8, 4))
    return {name: value.clone() for name, value in network.state_dict().items()}


def assert_taken(built: Model, state: dict[str, torch.Tensor]) -> None:
    assert built.initial_weights is not None
    assert set(built.initial_weights.taken) == state.keys()
    for name, value in built.get_nn_module().state_dict().items():
        assert name not in state or torch.equal(value, state[name]), name


def lightning(state: dict[str, Any]) -> dict[str, Any]:
    return {"epoch": 3, "global_step": 9, "state_dict": state, "optimizer_states": [], "loops": {"fit": {}}}


@pytest.mark.parametrize("wrap", [
    lambda state: state,
    lightning,
    lambda state: {"arch": "resnet18", "epoch": 3, "state_dict": state, "version": 2},
    lambda state: {"model": state, "epoch": 1},
    lambda state: {"model_name": "Model", "params": {}, "nn_state_dict": state},
    lambda state: {"generator": state, "step": 4},
    lambda state: {name: nn.Parameter(each) if each.is_floating_point() else each
                   for name, each in state.items()},
])  # fmt: skip
def test_weights_that_torch_saved_are_found_in_the_usual_places(wrap: Any) -> None:
    torch.save(wrap(base()), "base.pth")
    assert_taken(model("base.pth"), base())


def test_averages_of_a_training_script_are_taken_unless_the_trained_weights_are_chosen() -> None:
    averaged = {name: value + 1 for name, value in base().items()}
    torch.save({"state_dict": base(), "state_dict_ema": averaged}, "base.pth")
    assert model("base.pth").initial_weights.average == "state_dict_ema"
    assert_taken(model({"path": "base.pth", "weights": "average"}), averaged)
    assert_taken(model({"path": "base.pth", "weights": "trained"}), base())


def test_safetensors_of_other_programs_are_taken_and_cast() -> None:
    narrow = {name: value.half() if value.is_floating_point() else value for name, value in base().items()}
    save_file(narrow, "base.safetensors", metadata={"format": "pt"})
    built = model(Path("base.safetensors"))
    weight = built.nn_module.head.weight
    assert weight.dtype is torch.float32
    assert torch.equal(weight, narrow["head.weight"].float())
    assert str(built.initial_weights) == "weights from base.safetensors: 9 of 9 tensors taken"


@pytest.mark.parametrize(
    ("name", "reader"), [("base.safetensors", plain_file), ("base.pth", legacy)], ids=["safetensors", "pth"]
)
def test_file_that_is_written_to_while_it_is_read_gives_no_mixed_weights(
    name: str, reader: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (save_file if reader is plain_file else torch.save)(base(), name)  # type: ignore[operator]
    os.utime(name, (0, 0))
    read = "read_payload" if reader is plain_file else "_unpickled"
    original = getattr(reader, read)

    def write_and_read(*args: Any, **options: Any) -> Any:
        with open(name, "r+b") as file:
            first = file.read(1)
            file.seek(0)
            file.write(first)
        return original(*args, **options)

    assert_taken(model(name), base())
    monkeypatch.setattr(reader, read, write_and_read)
    with pytest.raises(
        CorruptCheckpointError, match=f"^{name} was written to while it was read; wait until it is complete"
    ):
        model(name)


@pytest.mark.parametrize("weights", [None, "average", "trained"])
def test_checkpoints_give_their_averages_unless_the_trained_weights_are_chosen(weights: str | None) -> None:
    trained = model(step=("ema", {"decay": 0.5}))
    trained.fit(BATCHES, num_epochs=2)
    trained.save("base.safetensors")
    state = {name: value.clone() for name, value in trained.nn_module.state_dict().items()}
    if weights != "trained":
        with trained.evaluation():
            state |= {name: value.clone() for name, value in trained.nn_module.named_parameters()}
    built = model({"path": "base.safetensors", **({"weights": weights} if weights else {})})
    for name, value in built.nn_module.state_dict().items():
        assert torch.equal(value, state[name]), name
    assert built.initial_weights.average == (None if weights == "trained" else "ema")


def test_the_report_names_what_was_taken_left_and_unused() -> None:
    state = base(5)
    state["backbone.9.weight"] = torch.zeros(2)
    save_file(state, "base.safetensors")
    built = model({"path": "base.safetensors", "skip": ["head.*"]})
    assert str(built.initial_weights) == (
        "weights from base.safetensors: 7 of 9 tensors taken; 2 left as built (head.weight, head.bias); 2 "
        "skipped in the file (head.bias, head.weight); 1 unused in the file (backbone.9.weight)"
    )
    assert_taken(built, {name: value for name, value in state.items() if name in built.initial_weights.taken})
    assert all(name.startswith("backbone.") for name in built.initial_weights.taken)


def test_another_shape_is_an_error_unless_it_may_be_left_as_built() -> None:
    save_file(base(5), "base.safetensors")
    with pytest.raises(StateMismatchError, match=(
        r"init_from: base.safetensors does not fit nn_module 'classifier': 'head.(weight|bias)' is float32.*"
        r"; leave them as built by init_from = \{ path = '\S+', skip = \['head.\*'\] \}"
    )):  # fmt: skip
        model("base.safetensors")
    built = model({"path": "base.safetensors", "mismatched": "fresh"})
    assert built.initial_weights.fresh == ("head.weight", "head.bias")
    assert set(built.initial_weights.unused) == {"head.weight", "head.bias"}


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "model.", "net.encoder."])
def test_a_prefix_of_a_wrapper_is_told_with_the_rename_that_removes_it(prefix: str) -> None:
    torch.save(lightning({prefix + name: value for name, value in base().items()}), "base.ckpt")
    with pytest.raises(StateMismatchError, match="holds none of the tensors") as caught:
        model("base.ckpt")
    shown = f"rename = {{ {prefix + '*'!r} = '*' }}"
    assert str(caught.value).endswith(f"give {shown}")
    assert_taken(model({"path": "base.ckpt", "rename": {f"{prefix}*": "*"}}), base())


def test_a_rename_that_would_take_more_is_suggested() -> None:
    state = {name.replace("backbone", "encoder"): value for name, value in base().items()}
    save_file(state, "base.safetensors")
    built = model("base.safetensors")
    assert str(built.initial_weights).endswith("perhaps with rename = { 'encoder.*' = 'backbone.*' }")
    assert_taken(model({"path": "base.safetensors", "rename": {"encoder.*": "backbone.*"}}), base())


def test_several_stars_of_a_rename_are_filled_in_order() -> None:
    state = {f"net.{name.replace('.', '.layer_', 1)}": value for name, value in base().items()}
    save_file(state, "base.safetensors")
    assert_taken(model({"path": "base.safetensors", "rename": {"net.*.layer_*": "*.*"}}), base())


@pytest.mark.parametrize(("value", "error", "message"), [
    (3, ParamsError, "init_from is 3; give the path"),
    ({"skip": ["head.*"]}, ParamsError, "give the path of a file of weights"),
    ({"path": "base.safetensors", "skipp": []}, ParamsError, "has 'skipp'; did you mean 'skip'"),
    ({"path": "base.safetensors", "skip": 3}, ParamsError, "init_from.skip is 3"),
    ({"path": "base.safetensors", "skip": ["haed.*"]}, ParamsError, "'haed.*' matches no name"),
    ({"path": "base.safetensors", "rename": {"a.*": "b"}}, ParamsError, "as many \\* in both"),
    ({"path": "base.safetensors", "rename": {"encoder.*": "*"}}, ParamsError,
     "init_from.rename: 'encoder.\\*' matches no name in base.safetensors"),
    ({"path": "base.safetensors", "rename": {"*.weight": "head.bias"}}, ParamsError, "as many"),
    ({"path": "base.safetensors", "rename": {"head.weight": "head.bias"}}, ParamsError,
     "gives both 'head.bias' and 'head.weight' of base.safetensors the name 'head.bias'"),
    ({"path": "base.safetensors", "weights": "best"}, ParamsError, "give 'average' or 'trained', or leave"),
    ({"path": "base.safetensors", "weights": "average"}, ArgusError, "holds no average of its weights"),
    ({"path": "base.safetensors", "mismatched": "skip"}, ParamsError, "give 'fresh', or leave it out"),
    ("https://example.org/base.pth", ParamsError, "is an address"),
    ("bse.safetensors", CheckpointError, "no checkpoint at bse.safetensors; did you mean 'base.safetensors'"),
    (".", CheckpointError, "it is a folder; give base.safetensors"),
])  # fmt: skip
def test_options_that_do_not_fit_are_refused(value: Any, error: type[Exception], message: str) -> None:
    save_file(base(), "base.safetensors")
    with pytest.raises(error, match=message):
        model(value)


def test_files_without_one_network_are_refused(folder: Path) -> None:
    for content in ({"a": base(), "b": base()}, {"epoch": 3}, torch.zeros(3), [1, 2], {}):
        torch.save(content, "base.pth")
        with pytest.raises(CheckpointError, match="not one network's state dict"):
            model("base.pth")
    torch.save({"state_dict": base(), "args": argus_core.Component}, "base.pth")
    with pytest.raises(UnsafeCheckpointError, match="save it again from code that you trust"):
        model("base.pth")
    save_file(base(), "base.safetensors")
    whole = Path("base.safetensors").read_bytes()
    for damaged in (whole[:-8], whole + b"1234", whole[:40], whole[:8] + b"{" + b"x" * 30):
        Path("base.safetensors").write_bytes(damaged)
        with pytest.raises(CorruptCheckpointError, match="base.safetensors is not a safetensors file, or"):
            model("base.safetensors")


def test_tensors_of_several_names_are_taken_once_and_must_agree() -> None:
    weight = torch.randn(4, 4)
    save_file({"embed.weight": weight}, "base.safetensors")
    built = model("base.safetensors", network="tied")
    assert built.initial_weights.fresh == ()
    assert torch.equal(built.nn_module.out.weight, weight)
    assert built.nn_module.out.weight is built.nn_module.embed.weight
    torch.save({"embed.weight": weight, "out.weight": weight.clone()}, "base.pth")
    assert len(model("base.pth", network="tied").initial_weights.taken) == 2
    torch.save({"embed.weight": weight, "out.weight": weight + 1}, "base.pth")
    with pytest.raises(
        StateMismatchError, match=r"are one tensor in the network, and differ in base.pth; skip"
    ):
        model("base.pth", network="tied")


def test_lazy_modules_take_their_shapes_from_the_file_all_at_once() -> None:
    state = {"first.weight": torch.randn(3, 4), "first.bias": torch.randn(3)}
    torch.save(state, "base.pth")
    built = model("base.pth", network="lazy")
    built.fit(BATCHES[:1], lr_scheduler=("ConstantLR", {"factor": 1e-9, "total_iters": 9}))
    for name, value in state.items():
        assert torch.allclose(built.nn_module.state_dict()[name], value, atol=1e-6)
    torch.save({"first.weight": state["first.weight"]}, "base.pth")
    with pytest.raises(StateMismatchError, match="lacks 'first.bias' of the lazy module 'first'"):
        model("base.pth", network="lazy")


def test_frozen_and_averaged_parts_start_from_the_file() -> None:
    save_file(base(), "base.safetensors")
    built = model("base.safetensors", freeze=["backbone.*"], step=("ema", {"decay": 0.5}))
    built.fit(BATCHES)
    for name, value in built.nn_module.state_dict().items():
        assert torch.equal(value, base()[name]) == name.startswith("backbone."), name
    with built.evaluation():
        averaged = built.nn_module.head.weight.clone()
    assert not torch.equal(averaged, built.nn_module.head.weight)


def test_a_checkpoint_keeps_the_choice_and_loads_without_the_file() -> None:
    save_file(base(), "base.safetensors")
    built = model("base.safetensors")
    built.fit(BATCHES)
    built.save("trained.safetensors")
    Path("base.safetensors").unlink()
    loaded = load_model("trained.safetensors")
    assert loaded.params["init_from"] == "base.safetensors"
    assert loaded.initial_weights is None
    for name, value in loaded.nn_module.state_dict().items():
        assert torch.equal(value, built.nn_module.state_dict()[name])
    with pytest.raises(SpecError, match="load_model got init_from"):
        load_model("trained.safetensors", init_from="base.safetensors")


def test_a_resumed_run_keeps_its_weights_whatever_is_chosen(folder: Path) -> None:
    save_file(base(), "base.safetensors")
    save_file({name: value + 1 for name, value in base().items()}, "other.safetensors")
    keep = Checkpoint("kept", optimizer_state=True)
    model("base.safetensors").fit(BATCHES, num_epochs=1, seed=0, callbacks=[keep])
    whole = model("base.safetensors")
    whole.fit(BATCHES, num_epochs=2, seed=0)
    left_out, changed = model(), model("other.safetensors")
    left_out.fit(BATCHES, num_epochs=2, resume="kept")
    with pytest.warns(ArgusWarning, match=(
        r"params\['init_from'\] was 'base.safetensors' and is 'other.safetensors', which has no effect"
    )):  # fmt: skip
        changed.fit(BATCHES, num_epochs=2, resume="kept")
    for resumed in (left_out, changed):
        for name, value in resumed.nn_module.state_dict().items():
            assert torch.equal(value, whole.nn_module.state_dict()[name]), name


def test_no_checkpoint_chooses_a_file_of_weights() -> None:
    save_file(base(), "base.safetensors")
    inner = {"nn_module": "classifier", "init_from": "base.safetensors"}
    Model({"nn_module": ("outer", {"inner": inner})}).save("outer.safetensors")
    with pytest.raises(
        UnsafeCheckpointError, match="a checkpoint must not set it, since it names files to read"
    ):
        load_model("outer.safetensors")
    load_model("outer.safetensors", nn_module=("outer", {"inner": inner}))


def test_more_patterns_than_a_cache_holds_are_compared_in_seconds() -> None:
    many = {f"other.{index}": torch.zeros(1) for index in range(2000)}
    save_file({**base(), **many}, "base.safetensors")
    began = time.process_time()
    built = model({"path": "base.safetensors", "skip": [f"other.{index}" for index in range(1000)]})
    assert time.process_time() - began < 4  # three times that, if each pattern were compiled for each name
    assert built.initial_weights is not None
    assert len(built.initial_weights.skipped) == len(built.initial_weights.unused) == 1000
