"""The units of the engine `fsdp`, its options, and what it refuses."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from process_pool import in_processes
from shared_runs import PARTS, data_for, in_full, largest_difference, made, train
from torch import Tensor, distributed, nn
from torch.utils.data import DataLoader

from argus_core.errors import ArgusError, ParamsError
from argus_core.parallel.fsdp import FSDP
from argus_core.parallel.units import find_units
from argus_core.registry.registry import isolated_registry

EXACT = 2e-6


class Stack(nn.Module):
    """Transformer blocks, as many as wanted: (batch, length) integers -> (batch, classes, length) logits."""

    def __init__(self, blocks: int = 3, ties: str = "") -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, blocks, enable_nested_tensor=False)
        self.head = nn.Linear(8, 11, bias=False)
        if ties == "in the rest":
            self.head.weight = self.embedding.weight
        if ties == "across units":
            self.encoder.layers[1].linear1.weight = self.encoder.layers[0].linear1.weight

    def forward(self, input: Tensor) -> Tensor:
        logits: Tensor = self.head(self.encoder(self.embedding(input))).transpose(1, 2)
        return logits


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LSTM(6, 5, batch_first=True)
        self.head = nn.Linear(5, 4)

    def forward(self, input: Tensor) -> Tensor:
        logits: Tensor = self.head(self.layer(input[:, None])[0][:, 0])
        return logits


class Odd(nn.Module):
    """A network with one odd part, of the sort that its argument names."""

    def __init__(self, sort: str) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(6, 6), nn.Linear(6, 4)])
        match sort:
            case "scalar":
                self.scale = nn.Parameter(torch.tensor(1.0))
            case "dtypes":
                self.layers[1].double()
            case "lazy":
                self.layers[0] = nn.LazyLinear(6)
            case "sparse":
                self.table = nn.Embedding(3, 4, sparse=True)
            case "complex":
                self.phase = nn.Parameter(torch.zeros(3, dtype=torch.complex64))
            case "strided":
                self.turned = nn.Parameter(torch.zeros(3, 4).t())
            case "one row":
                self.shift = nn.Parameter(torch.zeros(1))

    def forward(self, input: Tensor) -> Tensor:
        for layer in self.layers:
            input = layer(input)
        return input + getattr(self, "shift", 0)


def bare() -> nn.Module:
    return nn.Linear(6, 4, bias=False)


NETWORKS = {"stack": Stack, "recurrent": Recurrent, "odd": Odd, "bare": bare}
PARTS.update({("nn_module", name): network for name, network in NETWORKS.items()})

STACK = {"nn_module": "stack"}
RUNS: dict[str, dict[str, Any]] = {
    "blocks": {"params": STACK},
    "blocks that are not released": {"params": STACK, "engine": {"reshard_after_forward": False}},
    "blocks with averages": {
        "params": {**STACK, "step": ["sam", ("ema", {"decay": 0.9}), ("clip_grad_norm", {"max_norm": 0.1})]},
        "engine": {"reshard_after_forward": False},
    },
    "accumulated blocks": {
        "params": {**STACK, "step": [("accumulate", {"steps": 2}), ("microbatch", {"chunks": 2})]},
        "engine": {"reshard_after_forward": False},
    },
    "tied": {"params": {"nn_module": ("stack", {"ties": "in the rest"})}},
    "units by name": {"params": STACK, "engine": {"units": ["*.layers.1", "*.linear1", "head"]}},
    "recurrent": {"params": {"nn_module": "recurrent"}},
    "frozen": {"params": {"freeze": "0.*"}},
    "unfrozen": {"params": {"step": [("unfreeze", {"match": "0.*", "after": "1ep"})]}},
    "averages of buffers": {"params": {"step": [("ema", {"buffers": "average"})]}},
    "loss with a parameter": {
        "params": {"loss": "scaled", "step": [("clip_grad_norm", {"max_norm": 0.1}), "sam", "finite_guard"]}
    },
    "largest gradient": {"params": {"step": [("clip_grad_norm", {"max_norm": 0.01, "norm_type": math.inf})]}},
    "adaptive sam": {"params": {"step": [("sam", {"adaptive": True, "rho": 0.5})]}},
    "one row": {"params": {"nn_module": ("odd", {"sort": "one row"})}},
    "several optimizer groups": {
        "params": {"optimizer": ("AdamW", {"lr": 0.01, "no_decay": "norm_and_bias"})},
    },
    "float16": {"params": {"step": [("amp", {"dtype": "float16"})]}, "error": 1e-2},
    "blocks in bfloat16": {"params": STACK, "engine": {"mixed_precision": "bfloat16"}, "error": 3e-2},
}
OPTIMIZERS = [
    "SGD", "Adam", "AdamW", "NAdam", "RAdam", "Adamax", "Adagrad", "Adadelta", "ASGD", "RMSprop",
]  # fmt: skip


def sharded(params: dict[str, Any], engine: Any = ()) -> dict[str, Any]:
    return train({**params, "parallel": ("fsdp", dict(engine))})


@pytest.mark.parametrize("name", RUNS)
def test_shards_train_as_one_process_does(name: str) -> None:
    run = RUNS[name]
    alone = train(run["params"])
    for together in in_processes(2, sharded, run["params"], run.get("engine", {})):
        assert largest_difference(together, alone) <= run.get("error", EXACT)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_of_torch_take_shards(name: str) -> None:
    params = {"optimizer": (name, {"lr": 0.01})}
    alone = train(params)
    for together in in_processes(2, sharded, params):
        assert largest_difference(together, alone) <= (1e-4 if name == "RMSprop" else 1e-5)


def built(params: dict[str, Any], engine: Any = ()) -> None:
    with isolated_registry(builtins=True):
        made({**params, "parallel": ("fsdp", dict(engine))})


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "LBFGS": ({"optimizer": "LBFGS", "step": ["closure"]}, "'optimizer:LBFGS': it works on all"),
    "Rprop": ({"optimizer": "Rprop"}, "'optimizer:Rprop': it writes to single numbers"),
    "Adafactor": ({"optimizer": "Adafactor"}, "'optimizer:Adafactor': it factors whole matrices"),
    "Muon": ({"optimizer": "Muon", "nn_module": "bare"}, "'optimizer:Muon': it makes whole matrices"),
    "fused SGD": ({"optimizer": ("SGD", {"lr": 0.1, "fused": True})}, "'optimizer:SGD (fused)'"),
    "channels_last": ({"step": ["channels_last"]}, "'channels_last': shards have the ordinary"),
    "halving": (
        {"step": [("microbatch", {"chunks": 1, "halve_on_oom": True})]},
        "'microbatch' (halve_on_oom): a process whose memory is full",
    ),
    "scalar": ({"nn_module": ("odd", {"sort": "scalar"})}, "'scale' has no dimension to split"),
    "dtypes": ({"nn_module": ("odd", {"sort": "dtypes"})}, "have several dtypes (float32, float64)"),
    "lazy": ({"nn_module": ("odd", {"sort": "lazy"}), "optimizer": None}, "has no shape yet"),
    "sparse": ({"nn_module": ("odd", {"sort": "sparse"})}, "'table' has sparse gradients"),
    "complex": ({"nn_module": ("odd", {"sort": "complex"})}, "'phase' is complex"),
    "strided": ({"nn_module": ("odd", {"sort": "strided"})}, "'turned' is not contiguous"),
    "tied blocks": (
        {"nn_module": ("stack", {"ties": "across units"})},
        "'encoder.layers.0.linear1.weight' and 'encoder.layers.1.linear1.weight' are one parameter in two",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_split_is_refused_with_the_reason(name: str) -> None:
    params, sentence = REFUSED[name]
    for each in in_processes(2, refused, params):
        assert sentence in each


@pytest.mark.parametrize(
    ("units", "sentence"),
    [
        ("encoder.layers", "which matches 'encoder.layers', a ModuleList; it has no forward pass"),
        ("Blok", "units has 'Blok', which matches no class and no name"),
    ],
)
def test_units_that_cannot_be_gathered_are_refused(units: str, sentence: str) -> None:
    for each in in_processes(2, refused, STACK, {"units": units}):
        assert sentence in each


def refused(params: dict[str, Any], engine: Any = ()) -> str:
    """Return the message; the processes live on, as they fail before their first message."""
    try:
        built(params, engine)
    except ArgusError as error:
        return str(error)
    return ""


def test_explain_shows_the_units() -> None:
    first, second = in_processes(2, explained)
    assert first == second
    assert "parallel 'fsdp' of 2 processes: each holds a shard of every parameter" in first
    assert "unit encoder.layers.1 (TransformerEncoderLayer): 600 values, gathered together" in first
    assert "unit the rest of the network (Stack): 176 values, gathered together" in first


def explained() -> str:
    with isolated_registry(builtins=True):
        return made({**STACK, "parallel": "fsdp"}).explain()


def test_one_process_is_single() -> None:
    with isolated_registry(builtins=True):
        model = made({"parallel": ("fsdp", {"units": "Linear"})})
    assert model.parallel.name == "single"


def test_the_network_keeps_its_class_attributes_and_names() -> None:
    for each in in_processes(2, looked_at):
        assert each == {"is_its_class": True, "blocks": 3, "same_names": True, "rows": 6}


def looked_at() -> dict[str, Any]:
    with isolated_registry(builtins=True):
        network = made({**STACK, "parallel": "fsdp"}).nn_module
    return {
        "is_its_class": isinstance(network, Stack),
        "blocks": len(network.encoder.layers),
        "same_names": [*network.state_dict()] == [*Stack().state_dict()],
        "rows": max(len(own) for own in [network.embedding.weight.to_local()]) if not rank() else 6,
    }


def rank() -> int:
    return distributed.get_rank()


def test_evaluation_leaves_shards_that_are_the_optimizers() -> None:
    assert in_processes(2, evaluated) == [True, True]


def evaluated() -> bool:
    with isolated_registry(builtins=True):
        model = made({**STACK, "parallel": ("fsdp", {"reshard_after_forward": False})})
        loader = DataLoader(data_for("stack", 10), 4)
        model.fit(loader, num_epochs=1)
        model.validate(loader)
        model.predict(data_for("stack", 4)[:][0])
        held = {id(each) for group in model.optimizer.param_groups for each in group["params"]}
        return held == {id(each) for each in model.nn_module.parameters()}


def test_units_are_the_outermost_blocks_that_occur_several_times() -> None:
    units = find_units(Stack(), None)
    assert [*units] == ["encoder.layers.0", "encoder.layers.1", "encoder.layers.2"]
    assert not find_units(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), None)


def test_patterns_name_units_by_class_and_by_name() -> None:
    network = Stack()
    assert [*find_units(network, ["TransformerEncoderLayer"])] == [*find_units(network, None)]
    assert [*find_units(network, ["head", "encoder.layers.[01]"])] == [
        "encoder.layers.0",
        "encoder.layers.1",
        "head",
    ]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"units": 3}, "units is 3"),
        ({"units": []}, r"units is \[\]"),
        ({"mixed_precision": "float16"}, "mixed_precision is 'float16'"),
        ({"reshard_after_forward": 1}, "reshard_after_forward is 1"),
        ({"sharded_already": "no"}, "sharded_already is 'no'"),
        ({"timeout": 0}, "timeout is 0"),
    ],
)
def test_bad_options_are_refused(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        FSDP(**params)


def test_initial_values_follow_from_the_seed_on_any_number_of_processes() -> None:
    alone = weights()
    for count in (2, 3):
        for each in in_processes(count, weights):
            assert each == alone


def weights() -> dict[str, Any]:
    found = {}
    with isolated_registry(builtins=True):
        for network in ("stack", "recurrent", "convolutional"):
            model = made({"nn_module": network, "parallel": "fsdp"})
            assert "built whole" not in model.explain()
            state = model.nn_module.state_dict()
            found |= {f"{network}.{name}": in_full(each).tolist() for name, each in state.items()}
    return {**found, "next": torch.rand(1).item()}
