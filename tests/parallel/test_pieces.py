"""Networks that are built in pieces: the values of an ordinary build, and no process that holds them all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from process_pool import in_processes
from shared_runs import PARTS, in_full, made
from torch import Tensor, distributed, nn
from torch.nn import init

import argus_core
from argus_core.model.loading import load_model
from argus_core.parallel.piecewise import build_in_pieces
from argus_core.parallel.shards import own_rows
from argus_core.registry.registry import isolated_registry


class Varied(nn.Module):
    """Parameters, buffers and attributes that are made in many ways."""

    def __init__(self) -> None:
        super().__init__()
        table, places = torch.zeros(50, 8), torch.arange(50).unsqueeze(1)
        rates = torch.exp(torch.arange(0, 8, 2) * -0.1)
        table[:, 0::2], table[:, 1::2] = torch.sin(places * rates), torch.cos(places * rates)
        self.register_buffer("table", table, persistent=False)
        self.scale = torch.tensor([1.0, 2.0, 3.0])
        self.mask = torch.ones(4, 4).tril()
        self.truncated = nn.Parameter(torch.empty(5, 3))
        init.trunc_normal_(self.truncated, std=0.02)
        self.orthogonal = nn.Parameter(init.orthogonal_(torch.empty(8, 8)))
        self.padded = nn.Embedding(20, 8, padding_idx=3)
        self.recurrent = nn.LSTM(6, 5)
        self.drawn = nn.Parameter(torch.rand(7).mul_(2))
        self.norm = nn.BatchNorm1d(3)
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
        self.apply(self._begin)
        self.head = nn.Linear(8, 20, bias=False)
        self.head.weight = self.padded.weight

    def _begin(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            init.normal_(module.weight, 0.0, 0.02)
            init.zeros_(module.bias)


class Reading(nn.Module):
    """A network whose constructor reads memory, which the meta device does not have."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 4)
        self.sums = self.layer.weight.detach().numpy().sum()

    def forward(self, input: Tensor) -> Tensor:
        logits: Tensor = self.layer(input)
        return logits


PARTS[("nn_module", "reading")] = Reading


@pytest.mark.parametrize("most", [0, 300, 2**26])
@pytest.mark.parametrize("count", [2, 3])
def test_pieces_have_the_values_of_an_ordinary_build(count: int, most: int) -> None:
    in_processes(count, compare, most)


def compare(most: int) -> None:
    torch.manual_seed(0)
    whole, after = Varied(), torch.get_rng_state()
    torch.manual_seed(0)
    pieces = build_in_pieces(Varied, distributed.group.WORLD, most)
    assert torch.equal(after, torch.get_rng_state())
    assert all(each.is_meta for each in pieces.network.parameters())
    for name, parameter in whole.named_parameters():
        assert torch.equal(pieces.rows[name], own_rows(parameter.detach(), None)), name
    for name, buffer in whole.named_buffers():
        assert torch.equal(pieces.buffers[name], buffer), name
    pieces.put_attributes()
    network: Any = pieces.network
    assert torch.equal(network.mask, whole.mask)
    assert torch.equal(network.scale, whole.scale)
    assert network.head.weight is network.padded.weight


def test_a_network_that_reads_its_values_is_built_whole() -> None:
    alone = first_weight("reading")[0]
    for weight, told in in_processes(2, first_weight, "reading"):
        assert weight == alone
        assert "the network was built whole in each process, and then split: TypeError: can't convert" in told


def first_weight(network: str, **params: Any) -> tuple[Any, str]:
    with isolated_registry(builtins=True):
        model = made({"nn_module": network, "parallel": "fsdp", **params})
        return in_full(next(iter(model.nn_module.state_dict().values()))).tolist(), model.explain()


def test_processes_with_other_random_numbers_get_those_of_the_first() -> None:
    first, second = in_processes(2, drawn)
    assert first == second


def drawn() -> Any:
    with isolated_registry(builtins=True):
        for (kind, name), factory in PARTS.items():
            argus_core.register(kind, name)(factory)
        torch.manual_seed(distributed.get_rank())
        params = {"nn_module": "dense", "parallel": "fsdp", "device": "cpu", "optimizer": None}
        model = argus_core.Model(params)
        return in_full(model.nn_module[0].weight).tolist()


def test_weights_of_a_file_come_into_the_shards(tmp_path: Path) -> None:
    file = tmp_path / "base.safetensors"
    with isolated_registry(builtins=True):
        model = made({})
        model.nn_module[0].weight.data.fill_(2.5)
        model.save(file)
    for weight, _ in in_processes(2, taken, file):
        assert weight == [[2.5] * 6] * 12


def taken(file: Path) -> tuple[Any, str]:
    return first_weight("dense", init_from=str(file))


def test_a_checkpoint_loads_into_shards_without_drawing(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    with isolated_registry(builtins=True):
        model = made({"nn_module": "attention", "parallel": "fsdp", "optimizer": "AdamW"})
        model.save(file, optimizer_state=True)
        expected = {name: each.tolist() for name, each in model.nn_module.state_dict().items()}
    for weights, has_drawn in in_processes(3, loaded, file):
        assert weights == expected
        assert not has_drawn


def loaded(file: Path) -> tuple[dict[str, Any], bool]:
    with isolated_registry(builtins=True):
        for (kind, name), factory in PARTS.items():
            argus_core.register(kind, name)(factory)
        torch.manual_seed(3)
        before = torch.get_rng_state()
        model = load_model(file)
        has_drawn = not torch.equal(torch.get_rng_state(), before)
        state = model.nn_module.state_dict()
        return {name: in_full(each).tolist() for name, each in state.items()}, has_drawn
