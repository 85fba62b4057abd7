"""Batch norm over all processes: torch has it for GPUs; what surrounds it works, and a CPU is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from process_pool import in_processes
from shared_runs import made
from torch import nn

from argus_core import ParamsError
from argus_core.parallel.batch_norm import synchronise
from argus_core.parallel.ddp import DDP
from argus_core.parallel.fsdp import FSDP
from argus_core.registry.registry import isolated_registry


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.Sequential(nn.BatchNorm1d(12)))


def refused(engine: str) -> None:
    with isolated_registry(builtins=True):
        made({"nn_module": "dropping", "parallel": (engine, {"sync_batchnorm": True})})


@pytest.mark.parametrize("engine", ["ddp", "fsdp"])
def test_a_cpu_is_refused_when_the_model_is_built(engine: str) -> None:
    results = in_processes(2, refused, engine, may_fail=True)
    sentence = (
        f"parallel {engine!r}: sync_batchnorm is True, and the device is 'cpu', for which torch has no "
        "SyncBatchNorm; train on a GPU, or leave sync_batchnorm out"
    )
    assert [(each.kind, each.message) for each in results] == [("BuildError", sentence)] * 2


def test_modules_stay_the_objects_that_user_code_knows() -> None:
    model, plain = network(), network()
    norm, names, values = model[1], [*model.state_dict()], [*model.parameters()]  # type: ignore[index]
    plain.load_state_dict(model.state_dict())
    synchronise(model, torch.device("cuda:0"), "ddp")
    assert model[1] is norm  # type: ignore[index]
    assert [type(each).__name__ for each in model.modules()].count("SyncBatchNorm") == 2
    assert [*model.state_dict()] == names
    assert all(one is other for one, other in zip(model.parameters(), values, strict=True))
    rows = torch.randn(5, 6)
    assert torch.equal(model(rows), plain(rows))  # one process: its statistics are those of all
    assert torch.equal(model.eval()(rows), plain.eval()(rows))


def test_classes_of_the_users_own_stay() -> None:
    class Own(nn.BatchNorm1d):
        pass

    model = nn.Sequential(Own(3), nn.InstanceNorm1d(3))
    synchronise(model, torch.device("cuda:0"), "ddp")
    assert [type(each) for each in model] == [Own, nn.InstanceNorm1d]


@pytest.mark.parametrize("engine", [DDP, FSDP])
def test_every_process_makes_as_many_forward_passes(engine: Any) -> None:
    made = engine(sync_batchnorm=True)
    assert made.equal_forwards
    assert "halve_on_oom" in made.conflicts
    assert "halve_on_oom" not in DDP().conflicts
    with pytest.raises(ParamsError, match="sync_batchnorm is 1; give True or False"):
        engine(sync_batchnorm=1)


@pytest.mark.parametrize(
    ("is_on", "note"), [(True, "sync_batchnorm: batch norm's"), (False, "not invariant: batch norm's")]
)
def test_explain_says_whose_statistics_they_are(is_on: bool, note: str) -> None:
    class Of:
        def get_nn_module(self) -> nn.Module:
            return network()

    notes = [*DDP(sync_batchnorm=is_on).notes(Of())]  # type: ignore[arg-type]
    assert any(each.startswith(note) for each in notes)
