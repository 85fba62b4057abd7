"""A checkpoint's parameters build no more than the file accounts for: known before memory is taken."""

from __future__ import annotations

import math
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from loaded_alone import load_one
from networks import Net, make_model
from processes import sent_by
from torch import Tensor, nn

import argus_core
from argus_core import BuildError, Model, StateMismatchError, UnsafeCheckpointError, load_model
from argus_core.model.memory import Limit, NoRoom, Room
from argus_core.storage import CheckpointFile, write
from argus_example.networks import CNN

HUGE = 2**20  # of any length that multiplies with another
MIB = 2**20
# What the process may take beside, and what would be far more than the machine has.
MOST = 300 * MIB
ENOUGH = 6 * 2**30


class Wide(nn.Module):
    """Layers of torch of any width."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.layer = nn.Linear(width, width)


class Attention(nn.Module):
    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(width, 1, width)


class Recurrent(nn.Module):
    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.layer = nn.LSTM(width, width)


class Deep(nn.Module):
    """Many layers of which each is small."""

    def __init__(self, width: int = 1) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(256, 256) for _ in range(width))


class Table(nn.Module):
    """Computes a table that no state has, so that the state fits whatever the width."""

    def __init__(self, width: int = 4, how: str = "ones") -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.register_buffer("table", TABLES[how](width), persistent=False)


TABLES: dict[str, Callable[[int], Tensor]] = {
    "ones": lambda width: torch.ones(width, width),
    "zeros like": lambda width: torch.zeros_like(torch.empty(1).expand(width, width)),
    "triangle": lambda width: torch.full((1,), -math.inf).expand(width, width).triu(1),
    "outer product": lambda width: torch.outer(torch.arange(width), torch.arange(width)),
    "sum": lambda width: torch.arange(width)[:, None] + torch.arange(width),
    "range": lambda width: torch.arange(0, 1, 1 / (width * width)),
    "points": lambda width: torch.linspace(0, 1, width * width),
    "repetition": lambda width: torch.ones(1).repeat(width, width),
    "padding": lambda width: nn.functional.pad(torch.ones(1), (0, width * width)),
    "random": lambda width: torch.rand(width, width),
    "integers": lambda width: torch.randint(9, (width, width)),
    "identity": lambda width: torch.eye(width),
    "indices": lambda width: torch.tril_indices(width, width),
    "classes": lambda width: nn.functional.one_hot(torch.arange(4), width * width // 4),
    "larger": lambda width: nn.functional.interpolate(torch.ones(1, 1, 1, 1), size=(width, width)),
    "resized": lambda width: torch.empty(0).resize_(width, width),
    "written into": lambda width: torch.add(
        torch.ones(width, 1), torch.ones(width), out=torch.empty(0, dtype=torch.float32)
    ),
    "a value looked at": lambda width: torch.ones(width, width * int(torch.rand(1).item() >= 0)),
    "joined": lambda width: torch.cat([torch.ones(width)] * 2**10),
    "distances": lambda width: nn.functional.pdist(torch.ones(width, 1)),
    "a diagonal": lambda width: torch.diag(torch.ones(width)),
    "all of a decomposition": lambda width: torch.linalg.svd(torch.ones(width, 1))[0],
    "made dense": lambda width: torch.sparse_coo_tensor(
        [[0], [0]], [1.0], (width, width), check_invariants=False
    ).to_dense(),
    "complex": lambda width: torch.polar(torch.ones(width, 1), torch.ones(width)),
    "by size": lambda width: torch.empty(0).new_zeros(width, width),
}


class HidesErrors(nn.Module):
    """Goes on whatever fails."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        try:
            self.layer = nn.Linear(width, width)
        except Exception:
            self.layer = nn.Linear(width, width)


class Loss(nn.CrossEntropyLoss):
    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.register_buffer("table", torch.zeros(width, width), persistent=False)


class Transform(nn.Identity):
    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.register_buffer("table", torch.zeros(width, width))


class Copies(nn.CrossEntropyLoss):
    """Makes many copies of a tensor among its parameters."""

    def __init__(self, values: Any = None, width: int = 1) -> None:
        super().__init__()
        self.copies = [torch.as_tensor(values).clone() for _ in range(width)]


class Strategy:
    """Makes a table of its own."""

    def __init__(self, width: int = 4) -> None:
        self.table = torch.zeros(width, width)

    @argus_core.hookimpl
    def set_up(self, model: Model) -> None:
        """Own nothing else."""


NETWORKS = {
    "CNN": CNN,
    "Wide": Wide,
    "Attention": Attention,
    "Recurrent": Recurrent,
    "Deep": Deep,
    "HidesErrors": HidesErrors,
    "Table": Table,
    "net": Net,
}
OTHERS = [
    ("loss", "Loss", Loss),
    ("loss", "Copies", Copies),
    ("transform", "Transform", Transform),
    ("step", "Strategy", Strategy),
]


def register_all() -> None:
    for name, factory in NETWORKS.items():
        argus_core.register("nn_module", name, factory, override=True)
    for kind, name, factory in OTHERS:
        argus_core.register(kind, name, factory, override=True)


CASES: dict[str, tuple[str, Any, Any]] = {
    **{
        name: ("nn_module", (name, {}), (name, {"width": HUGE}))
        for name in NETWORKS
        if name not in ("net", "Table")
    },
    "Net": ("nn_module", ("net", {}), ("net", {"hidden": 2**40})),
    **{
        f"a table: {how}": ("nn_module", ("Table", {"how": how}), ("Table", {"how": how, "width": HUGE}))
        for how in TABLES
    },
    "Loss": ("loss", ("Loss", {}), ("Loss", {"width": HUGE})),
    "Copies": (
        "loss",
        ("Copies", {"values": torch.zeros(MIB)}),
        ("Copies", {"values": torch.zeros(MIB), "width": HUGE}),
    ),
    "LinearCrossEntropyLoss": (
        "loss",
        ("LinearCrossEntropyLoss", {"in_features": 4, "num_classes": 3}),
        ("LinearCrossEntropyLoss", {"in_features": HUGE, "num_classes": HUGE}),
    ),
    "Transform": ("prediction_transform", ("Transform", {}), ("Transform", {"width": HUGE})),
    "Strategy": ("step", [("Strategy", {})], [("Strategy", {"width": HUGE})]),
}


def rewritten(path: Path, slot: str, value: Any, to: Path) -> Path:
    """Write a checkpoint again with another choice of a part, all checksums right."""
    from argus_core.storage.encoding import encode

    with CheckpointFile(path) as file:
        tensors, manifest = file.read(), dict(file.header.manifest)
    for key in ("tensors", "aliases"):
        manifest.pop(key, None)
    manifest["params"][slot] = encode(value, "params", tensors)
    write(to, tensors, manifest)
    return to


@pytest.fixture(autouse=True)
def parts(net_registry: Any) -> None:
    register_all()


@pytest.mark.parametrize("name", CASES)
def test_a_part_larger_than_the_file_is_refused_before_its_memory_is_taken(name: str, tmp_path: Path) -> None:
    pytest.importorskip("resource", reason="the system does not say how much memory a process had")
    slot, small, large = CASES[name]
    sound = tmp_path / "sound.safetensors"
    make_model(**{slot: small}).save(sound)
    path = rewritten(sound, slot, large, tmp_path / "large.safetensors")
    [outcome] = sent_by(load_one, path, [sound], register_all, ENOUGH)
    assert outcome.error is UnsafeCheckpointError, outcome
    assert "large.safetensors: " in outcome.message
    assert f"pass {slot}=(name, {{params}}) to load_model" in outcome.message
    assert outcome.growth < MOST


class BuiltLater(Model):
    """Does things of its own after its network is built, so its state is put in later."""

    nn_module = Wide

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        self.note = "built"


class BuildsItself(Model):
    def build_nn_module(self, factory: Any, params: Any) -> nn.Module:
        return nn.Sequential(factory(**params))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.safetensors"


@pytest.mark.parametrize(("cls", "small", "large"), [
    (BuiltLater, {}, {"width": HUGE}),
    (BuildsItself, ("Wide", {}), ("Wide", {"width": HUGE})),
])  # fmt: skip
def test_a_model_class_that_builds_in_its_own_way_is_kept_to_it(
    path: Path, cls: type[Model], small: Any, large: Any
) -> None:
    argus_core.register("model", cls.__name__, cls, override=True)
    cls({"nn_module": small, "device": "cpu"}).save(path)
    rewritten(path, "nn_module", large, path)
    with pytest.raises(
        UnsafeCheckpointError, match=r"nn_module 'Wide' would take more than 134,\d+,\d+ bytes"
    ):
        load_model(path)


def test_a_file_of_pytorch_argus_is_kept_to_it(tmp_path: Path) -> None:
    state = {"model_name": "Model", "nn_state_dict": Wide().state_dict()}
    params = {"nn_module": ("Wide", {"width": HUGE}), "device": "cpu"}
    torch.save({**state, "params": params}, tmp_path / "a.pth")
    with pytest.raises(UnsafeCheckpointError, match="nn_module 'Wide' would take more"):
        load_model(tmp_path / "a.pth")


def test_one_tensor_under_many_names_does_not_count_twice(tmp_path: Path) -> None:
    weight = torch.zeros(256, 256)
    names = [f"layers.{index}.{name}" for index in range(2**12) for name in ("weight", "bias")]
    state = {name: weight if name.endswith("weight") else weight[0] for name in names}
    params = {"nn_module": ("Deep", {"width": 2**12}), "device": "cpu"}
    torch.save({"model_name": "Model", "nn_state_dict": state, "params": params}, tmp_path / "a.pth")
    with pytest.raises(UnsafeCheckpointError, match="nn_module 'Deep' would take more"):
        load_model(tmp_path / "a.pth")


def test_a_file_with_a_hole_counts_for_what_is_on_the_disk(tmp_path: Path) -> None:
    model = make_model(nn_module=("Wide", {"width": 6000}))  # 144 MB
    torch.nn.init.zeros_(model.nn_module.layer.weight)
    model.save(tmp_path / "whole.safetensors")
    path = tmp_path / "hole.safetensors"
    subprocess.run(["cp", "--sparse=always", tmp_path / "whole.safetensors", path], check=True)
    if path.stat().st_blocks * 512 > MIB:
        pytest.skip("the disk keeps no holes")
    with pytest.raises(UnsafeCheckpointError, match="nn_module 'Wide' would take more"):
        load_model(path)


def test_a_network_that_is_only_wrong_keeps_its_own_message(path: Path) -> None:
    make_model(nn_module=("Wide", {})).save(path)
    with pytest.raises(StateMismatchError, match=r"float32\[4, 4\] in the file and float32\[5, 5\]"):
        load_model(path, nn_module={"width": 5})


def test_the_caller_builds_what_they_like(path: Path) -> None:
    make_model(nn_module=("Table", {"width": 4}), loss=("Loss", {})).save(path)
    large = {"width": 6000}  # 144 MB
    with pytest.raises(UnsafeCheckpointError, match="nn_module 'Table'"):
        load_model(path, nn_module=large)
    with pytest.raises(UnsafeCheckpointError, match="loss 'Loss'"):
        load_model(path, loss=large)
    model = load_model(path, nn_module=("Table", large), loss=("Loss", large))
    assert model.nn_module.table.shape == model.loss.table.shape == (6000, 6000)


class Temporary(nn.Module):
    """Makes tables that are gone when the next is made."""

    def __init__(self, needs_values: bool = False) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.note = float(self.layer.weight.detach().sum()) if needs_values else 0.0
        for _ in range(40):
            torch.ones(2000, 2000).triu()


@pytest.mark.parametrize("needs_values", [False, True])
def test_memory_that_is_free_again_does_not_count(path: Path, needs_values: bool) -> None:
    argus_core.register("nn_module", "temporary", Temporary)
    make_model(nn_module=("temporary", {"needs_values": needs_values})).save(path)
    load_model(path)


def test_tensors_on_the_meta_device_do_not_count() -> None:
    with Limit(MIB):
        torch.empty(HUGE, HUGE, device="meta")
        torch.ones(HUGE, HUGE, device="meta").triu() + 1
        torch.arange(2**40, device="meta")


def test_views_and_changes_in_place_do_not_count() -> None:
    with Limit(5 * MIB):
        table = torch.ones(MIB)
        for _ in range(10):
            table.expand(HUGE, MIB).t()[0].mean()
            table.mul_(2).reshape(2**10, 2**10).add_(1)


def test_room_is_used_up_by_what_is_made() -> None:
    room = Room(100)
    room.call(torch.ops.aten.ones.default, ([10],), {})
    assert room.left == 60
    with pytest.raises(NoRoom):
        room.call(torch.ops.aten.ones.default, ([16],), {})
    assert room.left == 60


def test_a_result_whose_size_only_values_tell_counts_once_it_is_there() -> None:
    with Limit(MIB):
        torch.repeat_interleave(torch.ones(1), torch.tensor([2**10]))
    with pytest.raises(NoRoom), Limit(MIB):
        torch.repeat_interleave(torch.ones(1), torch.tensor([2 * MIB])).add(1)


def test_building_without_a_limit_stays_possible() -> None:
    with pytest.raises(BuildError, match="memory"):
        make_model(nn_module=("Wide", {"width": 2**30}))
