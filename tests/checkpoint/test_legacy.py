"""Checkpoints of pytorch-argus load; hostile and damaged ones are refused."""

from __future__ import annotations

import hashlib
import os
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hostile_archives import ARCHIVES
from networks import Net, batches, make_model, same_weights
from torch import nn

from argus_core import (
    CheckpointError,
    CorruptCheckpointError,
    MissingPluginError,
    Model,
    ParamsError,
    StateMismatchError,
    UnsafeCheckpointError,
    load_model,
)
from argus_core.checkpoint import legacy
from argus_core.checkpoint.legacy import read_legacy
from argus_core.model.conversion import convert, export

pytestmark = pytest.mark.usefixtures("net_registry")


def test_a_pth_of_pytorch_argus_loads(tmp_path: Path) -> None:
    class OldModel(Model):
        nn_module = {"net": Net}
        optimizer = torch.optim.SGD
        loss = nn.CrossEntropyLoss

    params = {
        "nn_module": ("net", {"classes": 3}),
        "optimizer": {"lr": 0.1, "momentum": 0.9},
        "device": "cpu",
    }
    model = OldModel(params)
    model.fit(batches())
    state = {
        "model_name": "OldModel",
        "params": params,
        "nn_state_dict": model.nn_module.state_dict(),
        "optimizer_state_dict": model.optimizer.state_dict(),
    }
    torch.save(state, tmp_path / "old.pth")
    loaded = load_model(tmp_path / "old.pth")
    assert type(loaded) is OldModel
    assert loaded.params == params
    assert same_weights(model, loaded)
    assert loaded.optimizer.state_dict()["state"].keys() == {0, 1, 2, 3}
    assert load_model(tmp_path / "old.pth", optimizer=None, loss=None).optimizer is None


def test_a_pth_of_an_unknown_model_says_to_import_its_code(tmp_path: Path) -> None:
    torch.save({"model_name": "Gone", "params": {}, "nn_state_dict": {}}, tmp_path / "old.pth")
    with pytest.raises(MissingPluginError, match="model 'Gone'.*import the code that registers it"):
        load_model(tmp_path / "old.pth")


class _Evil:
    def __reduce__(self) -> Any:
        return (print, ("this must never run",))


def test_a_pth_with_code_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = {"model_name": "Model", "params": _Evil(), "nn_state_dict": {}}
    torch.save(state, tmp_path / "evil.pth")
    with pytest.raises(UnsafeCheckpointError, match="asks for objects that are not tensors or plain data"):
        load_model(tmp_path / "evil.pth")
    assert "never" not in capsys.readouterr().out


def test_a_deflated_pth_is_refused(tmp_path: Path) -> None:
    torch.save({"zeros": torch.zeros(1000)}, tmp_path / "plain.pth")
    bomb_path = tmp_path / "bomb.pth"
    with (
        zipfile.ZipFile(tmp_path / "plain.pth") as source,
        zipfile.ZipFile(bomb_path, "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for entry in source.infolist():
            bomb.writestr(entry.filename, source.read(entry))
    with pytest.raises(UnsafeCheckpointError, match="is compressed"):
        load_model(tmp_path / "bomb.pth")


def test_a_damaged_pth_is_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "old.pth"
    torch.save({"model_name": "Model", "params": {}, "nn_state_dict": {"w": torch.arange(1000.0)}}, path)
    data = path.read_bytes()
    middle = data.index(torch.tensor([500.0]).numpy().tobytes())
    path.write_bytes(data[:middle] + b"\xff" + data[middle + 1 :])
    with pytest.raises(CorruptCheckpointError, match="damaged in"):
        load_model(path)
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(CorruptCheckpointError, match="is damaged, or older"):
        load_model(path)


def test_a_pth_that_is_no_model_says_so(tmp_path: Path) -> None:
    torch.save({"weights": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="is not a pytorch-argus checkpoint"):
        load_model(tmp_path / "other.pth")


def test_a_header_whose_length_looks_like_an_archive_is_no_archive(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    model = Model({"nn_module": "net", "device": "cpu"})
    length = int.from_bytes(b"PK", "little")
    model.save(path, run={"note": ""})
    missing = length - int.from_bytes(path.read_bytes()[:8], "little")
    model.save(path, run={"note": "x" * missing})
    assert path.read_bytes()[:2] == b"PK"
    assert same_weights(load_model(path), model)


@pytest.mark.parametrize(
    "change",
    [
        {"model_name": None},
        {"params": None},
        {"nn_state_dict": [1]},
        {"optimizer_state_dict": 5},
    ],
)
def test_a_pth_of_another_form_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save({"model_name": "Model", "params": {}, "nn_state_dict": {}} | change, path)
    with pytest.raises(CheckpointError, match=f"the saved state has no valid {next(iter(change))}; it takes"):
        load_model(path)


def test_a_path_that_no_file_can_have_is_refused() -> None:
    with pytest.raises(ParamsError, match="holds a NUL character"):
        load_model("a\0b")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes in folders")
@pytest.mark.parametrize("read", [load_model, lambda path: export(path, path.with_name("out.pt"))])
def test_a_pipe_is_refused_without_waiting_for_it(read: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    os.mkfifo(path)
    # Else a reader that waits would wait for ever.
    writer = threading.Timer(20, lambda: os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK)))
    writer.start()
    started = time.monotonic()
    try:
        with pytest.raises(CheckpointError, match="it is not an ordinary file; give the path of a file"):
            read(path)
        assert time.monotonic() - started < 15
    finally:
        writer.cancel()


def test_a_pth_can_be_pinned_by_its_digest(tmp_path: Path) -> None:
    path = tmp_path / "old.pth"
    model = make_model()
    state = {"model_name": "Model", "params": model.params, "nn_state_dict": model.nn_module.state_dict()}
    torch.save(state, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert same_weights(load_model(path, sha256=digest), model)
    with pytest.raises(CorruptCheckpointError, match="old.pth"):
        load_model(path, sha256="0" * 64)


@pytest.mark.parametrize("check", ["check_archive", "verify_sha256"])
def test_what_is_checked_is_what_is_read_even_if_it_is_replaced_meanwhile(
    check: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, models = tmp_path / "old.pth", [make_model(), make_model()]
    nn.init.ones_(next(models[1].nn_module.parameters()))
    for model, target in zip(models, (path, tmp_path / "other"), strict=True):
        weights = model.nn_module.state_dict()
        torch.save({"model_name": "Model", "params": model.params, "nn_state_dict": weights}, target)
    checked = getattr(legacy, check)

    def check_and_replace(*args: Any) -> None:
        checked(*args)
        (tmp_path / "other").replace(path)

    monkeypatch.setattr(legacy, check, check_and_replace)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert same_weights(load_model(path, sha256=digest), models[0])
    assert not same_weights(models[0], models[1])


@pytest.mark.parametrize(
    "name",
    [
        "network with stride 0",
        "params with stride 0",
        "optimizer with stride 0",
        "optimizer with one tensor many times",
        "list of 2**60 lists",
        "list that holds itself",
        "deep list",
        "dict whose values is a number",
        "dict whose keys is a number",
        "storage of 2**31 bytes without data",
        "gadget by stacked names",
        "archive that claims 4 GiB",
        "archive of 45,000 entries",
    ],
)
def test_a_pth_that_would_grow_or_is_no_state_is_refused_before_it_is_used(tmp_path: Path, name: str) -> None:
    path = tmp_path / "hostile.pth"
    ARCHIVES[name].make(path, path)
    with pytest.raises(ARCHIVES[name].error, match=ARCHIVES[name].why):
        read_legacy(path)


def test_one_chain_of_lists_that_is_met_at_two_depths_is_measured_at_the_deeper(tmp_path: Path) -> None:
    def chain(end: Any) -> Any:
        for _ in range(40):
            end = [end]
        return end

    inner = chain(1)
    params = {"first": inner, "second": chain(inner)}
    torch.save({"model_name": "Model", "params": params, "nn_state_dict": {}}, tmp_path / "deep.pth")
    with pytest.raises(UnsafeCheckpointError, match="has more than 64 levels"):
        read_legacy(tmp_path / "deep.pth")


def saved_state(path: Path, **changes: Any) -> Path:
    """Save a trained model in the form of pytorch-argus, with changes."""
    model = make_model(nn_module=("net", {"classes": 3}), optimizer=("Adam", {"lr": 0.1}))
    model.fit(batches())
    state = {
        "model_name": "Model",
        "params": model.params,
        "nn_state_dict": model.nn_module.state_dict(),
        "optimizer_state_dict": model.optimizer.state_dict(),
    }
    torch.save(state | {key: change(state[key]) for key, change in changes.items()}, path)
    return path


def group(**changes: Any) -> Any:
    """Return what changes the one parameter group of an optimizer's state."""
    return lambda state: {**state, "param_groups": [{**state["param_groups"][0], **changes}]}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda state: {}, "it is not a dict of state and param_groups"),
        (lambda state: {"state": {}}, "it is not a dict of state and param_groups"),
        (lambda state: {**state, "param_groups": 5}, "its param_groups are not a list of dicts"),
        (lambda state: {**state, "param_groups": [[]]}, "its param_groups are not a list of dicts"),
        (lambda state: {**state, "param_groups": [{}]}, "its param_groups do not list their params"),
        (group(params=None), "its param_groups do not list their params"),
        (group(params=["a", "b", "c", "d"]), "the params of its param_groups are not numbers, each once"),
        (group(params=[0, 0, 1, 2]), "the params of its param_groups are not numbers, each once"),
        (group(params=[[0], 1, 2, 3]), "the params of its param_groups are not numbers, each once"),
        (lambda state: {**state, "state": []}, "its state is not a dict of dicts"),
        (lambda state: {**state, "state": {0: []}}, "its state is not a dict of dicts"),
        (lambda state: {**state, "state": {0: 5, 1: {}}}, "its state is not a dict of dicts"),
        (lambda state: {**state, "state": {7: {}}}, "it has the state of 7, which none of its param_groups"),
        (lambda state: {**state, "state": {"0": {}}}, "it has the state of '0', which none of its"),
        (lambda state: {**state, "state": {0: {"step": 1}}}, "next update would fail: it lacks 'exp_avg'"),
        (
            group(params=[0, 1]),
            "loaded state dict contains a parameter group that doesn't match|has the state",
        ),
        (group(betas=[1]), r"betas is \[1\] in the file"),
    ],
)
def test_an_optimizers_state_of_another_form_is_refused_in_one_sentence(
    tmp_path: Path, change: Any, problem: str
) -> None:
    path = saved_state(tmp_path / "old.pth", optimizer_state_dict=change)
    for read in (load_model, lambda path: convert(path, path.with_name("new.safetensors"))):
        with pytest.raises(
            StateMismatchError, match=f"state does not fit Adam.*({problem}).*; load with opt"
        ):
            read(path)
    assert load_model(path, optimizer=None).optimizer is None


def test_an_optimizers_state_by_other_numbers_is_taken(tmp_path: Path) -> None:
    def other(state: Any) -> Any:
        number = {0: 94, 1: 17, 2: 80, 3: 5}
        slots = {number[old]: each for old, each in state["state"].items()}
        return group(params=[*number.values()])({**state, "state": slots})

    ours = load_model(saved_state(tmp_path / "old.pth", optimizer_state_dict=other))
    theirs = load_model(saved_state(tmp_path / "new.pth"))
    assert ours.optimizer.state_dict()["state"].keys() == theirs.optimizer.state_dict()["state"].keys()
    ours.fit(batches())
    convert(tmp_path / "old.pth", tmp_path / "old.safetensors")


@pytest.mark.parametrize(
    "tensor",
    [lambda like: torch.ones(1).expand_as(like), lambda like: torch.ones(99).as_strided(like.shape, (1, 1))],
    ids=["stride 0", "overlap"],
)
def test_slots_that_overlap_themselves_or_each_other_are_loaded_as_their_own(
    tmp_path: Path, tensor: Any
) -> None:
    def overlap(state: Any) -> Any:
        slots = state["state"][0]
        shared = tensor(slots["exp_avg"])
        return {**state, "state": {**state["state"], 0: {**slots, "exp_avg": shared, "exp_avg_sq": shared}}}

    model = load_model(saved_state(tmp_path / "old.pth", optimizer_state_dict=overlap))
    model.fit(batches())
    first, second = (model.optimizer.state_dict()["state"][0][slot] for slot in ("exp_avg", "exp_avg_sq"))
    assert first.is_contiguous()
    assert not torch.equal(first, second)


@pytest.mark.parametrize("names", [[5], [None, "weight"], [(1, 2)]])
def test_a_network_whose_state_has_other_keys_than_names_is_refused(tmp_path: Path, names: Any) -> None:
    path = saved_state(tmp_path / "old.pth", nn_state_dict=lambda _: dict.fromkeys(names, torch.ones(2)))
    for read in (load_model, lambda path: export(path, path.with_name("new.safetensors"))):
        with pytest.raises(CheckpointError, match=r"no valid nn_state_dict; .*nn_state_dict \(with strings"):
            read(path)


def test_many_large_views_of_one_tensor_are_refused(tmp_path: Path) -> None:
    numbers = torch.ones(2**21)
    views = {f"{place}": numbers[place : 2**20 + place] for place in range(100)}
    path = saved_state(tmp_path / "old.pth", nn_state_dict=lambda _: views)
    with pytest.raises(UnsafeCheckpointError, match="claims more data than it has"):
        read_legacy(path)


@pytest.mark.parametrize("keys", ["other cases", "tensors"])
def test_data_that_have_many_keys_are_not_read_for_each(tmp_path: Path, keys: str) -> None:
    path = tmp_path / "hostile.pth"
    ARCHIVES[f"one record under many keys: {keys}"].make(path, path)
    with pytest.raises(UnsafeCheckpointError, match="claims more data than it has"):
        read_legacy(path)
