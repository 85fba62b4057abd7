"""What counts when a checkpoint callback asks whether a model is finite, and a run that kept nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from networks import Net, batches, make_model
from torch import nn

import argus_core
from argus_core import CheckpointError, Model, State, load_model
from argus_core.callbacks import MonitorCheckpoint

pytestmark = pytest.mark.usefixtures("net_registry")

INF = float("inf")


class Masked(Net):
    """Has buffers of all kinds that are not finite, and one that is."""

    def __init__(self) -> None:
        super().__init__()
        mask = torch.triu(torch.full((3, 3), -INF), diagonal=1)
        self.register_buffer("mask", mask)
        self.register_buffer("short", mask.bfloat16())
        self.register_buffer("tiny", torch.full((2,), torch.nan).to(torch.float8_e5m2))
        self.register_buffer("phase", torch.full((2,), complex(INF, 0)))
        self.register_buffer("count", torch.zeros((), dtype=torch.long))
        self.register_buffer("flags", torch.ones(2, dtype=torch.bool))
        self.register_buffer("scale", torch.ones(2))
        self.register_buffer("passing", torch.full((2,), INF), persistent=False)


@pytest.fixture(autouse=True)
def masked_net(net_registry: None) -> None:
    argus_core.register("nn_module", "masked", Masked)


def masked(**params: Any) -> Model:
    return make_model(nn_module="masked", **params)


def keep(folder: Path, **options: Any) -> tuple[str, dict[str, Any]]:
    return "checkpoint", {"dir_path": str(folder), "optimizer_state": True, **options}


def best(folder: Path, **options: Any) -> tuple[str, dict[str, Any]]:
    return "monitor_checkpoint", {"dir_path": str(folder), "monitor": "train_loss", **options}


def spoil(find: Any, epoch: int = 0) -> Any:
    @argus_core.on_epoch_complete
    def spoil(state: State) -> None:
        if state.epoch >= epoch:
            with torch.no_grad():
                find(state.model).fill_(INF)

    return spoil


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_run_of_a_network_with_a_mask_is_kept_and_resumed(tmp_path: Path) -> None:
    callbacks = [keep(tmp_path / "a", max_saves=1), best(tmp_path / "b", max_saves=1)]
    masked().fit(batches(), num_epochs=3, callbacks=callbacks)
    assert names(tmp_path / "a") == ["model-002.safetensors"]
    assert len(names(tmp_path / "b")) == 1
    resumed = masked()
    resumed.fit(batches(), num_epochs=4, callbacks=callbacks, resume=tmp_path / "a")
    assert resumed.nn_module.mask.isinf().any()
    assert names(tmp_path / "a") == ["model-003.safetensors"]


@pytest.mark.parametrize("buffer", ["mask", "short", "tiny", "phase", "passing"])
def test_a_buffer_that_was_not_finite_never_counts(buffer: str) -> None:
    model = masked()
    assert model.is_finite()
    getattr(model.nn_module, buffer).zero_()
    assert model.is_finite()
    getattr(model.nn_module, buffer).copy_(torch.full((), torch.nan))
    assert model.is_finite()


def test_a_buffer_that_was_finite_counts(tmp_path: Path) -> None:
    masked().fit(
        batches(),
        num_epochs=2,
        callbacks=[keep(tmp_path), spoil(lambda model: model.nn_module.scale, epoch=1)],
    )
    assert names(tmp_path) == ["model-000.safetensors", "model-001-not-finite.safetensors"]


def test_running_statistics_that_overflow_count() -> None:
    argus_core.register("nn_module", "normed", lambda: nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 3)))
    model = make_model(nn_module="normed")
    assert model.is_finite()
    with torch.no_grad():
        model.train()
        model.nn_module(torch.randn(4, 4) * 1e30)
    assert not model.is_finite()


def test_a_sparse_buffer_may_be_looked_at() -> None:
    model = make_model()
    model.nn_module.register_buffer("sparse", torch.eye(3).to_sparse())
    assert model.is_finite()
    model.nn_module.sparse = (torch.eye(3) * INF).nan_to_num(nan=0, posinf=INF).to_sparse()
    assert not model.is_finite()


@pytest.mark.parametrize("where", ["weights", "momentum", "loss"])
def test_parameters_and_the_optimizers_state_count(where: str, tmp_path: Path) -> None:
    class Scaled(nn.CrossEntropyLoss):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))
            self.register_buffer("limit", torch.tensor(INF))

    argus_core.register("loss", "scaled", Scaled)
    places: dict[str, Any] = {
        "weights": lambda model: model.nn_module.out.bias,
        "momentum": lambda model: model.optimizer.state[model.nn_module.out.bias]["momentum_buffer"],
        "loss": lambda model: model.loss.scale,
    }
    model = make_model(loss="scaled", optimizer=("SGD", {"lr": 0.01, "momentum": 0.9}))
    assert model.is_finite()
    model.fit(batches(), num_epochs=2, callbacks=[keep(tmp_path), spoil(places[where], epoch=1)])
    assert names(tmp_path) == ["model-000.safetensors", "model-001-not-finite.safetensors"]
    assert model.is_finite(optimizer_state=False) is (where == "momentum")


def test_the_optimizers_state_does_not_count_where_it_is_not_kept(tmp_path: Path) -> None:
    model = make_model(optimizer=("SGD", {"lr": 0.01, "momentum": 0.9}))
    find: Any = lambda model: model.optimizer.state[model.nn_module.out.bias]["momentum_buffer"]  # noqa: E731
    model.fit(batches(), callbacks=[keep(tmp_path, optimizer_state=False), spoil(find)])
    assert names(tmp_path) == ["model-000.safetensors"]


@pytest.mark.parametrize("buffers", ["copy", "average"])
def test_averages_of_a_network_with_a_mask_are_kept_and_count(buffers: str, tmp_path: Path) -> None:
    model = masked(step=("ema", {"buffers": buffers}))
    model.fit(batches(), batches(), num_epochs=2, callbacks=[keep(tmp_path)])
    loaded = load_model(tmp_path / "model-001.safetensors")
    with loaded.evaluation():
        assert torch.equal(loaded.nn_module.mask, Masked().mask)
    averages = model.step_state()["ema"]["averages"]
    averages["out.bias"].fill_(torch.nan)
    assert not model.is_finite()


def test_files_that_are_not_finite_are_kept_up_to_max_saves(tmp_path: Path) -> None:
    def bias(model: Model) -> Any:
        return model.nn_module.out.bias

    make_model().fit(batches(), num_epochs=5, callbacks=[keep(tmp_path, max_saves=2), spoil(bias, epoch=1)])
    kept = ["model-000.safetensors", "model-003-not-finite.safetensors", "model-004-not-finite.safetensors"]
    assert names(tmp_path) == kept


def test_a_name_in_a_folder_with_a_point_gets_its_ending(tmp_path: Path) -> None:
    keeping = [
        keep(tmp_path, file_format="v1.0/model"),
        spoil(lambda model: model.nn_module.out.bias, epoch=1),
    ]
    make_model().fit(batches(), num_epochs=2, callbacks=keeping)
    assert names(tmp_path / "v1.0") == ["model", "model-not-finite"]


# A run that kept nothing.


def test_a_run_whose_weights_are_not_finite_from_the_first_epoch_ends_with_an_error(tmp_path: Path) -> None:
    heard = []
    done = argus_core.on_complete(lambda state: heard.append(state.epoch))
    with pytest.raises(
        CheckpointError,
        match="the run ended and kept no checkpoint: checkpoint kept no file in .*: the weights were "
        "not finite at each of its 3 saves; lower the learning rate, or check",
    ):
        make_model().fit(
            batches(),
            num_epochs=3,
            callbacks=[keep(tmp_path), spoil(lambda model: model.nn_module.out.bias), done],
        )
    assert heard == [2]


@argus_core.on_epoch_complete
def no_number(state: State) -> None:
    state.metrics["odd"] = float("nan")


def test_a_metric_that_is_never_finite_ends_with_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError,
        match="monitor_checkpoint kept no file in .*: odd was not finite in each of the 2 epo",
    ):
        make_model().fit(
            batches(), num_epochs=2, callbacks=[no_number, best(tmp_path, monitor="odd", better="min")]
        )


def test_where_another_callback_has_kept_a_file_it_is_only_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    callbacks = [no_number, best(tmp_path / "a", monitor="odd", better="min"), keep(tmp_path / "b")]
    make_model().fit(batches(), callbacks=callbacks)
    assert "monitor_checkpoint kept no file" in caplog.text


def test_a_run_whose_files_were_never_due_ends_without_an_error(tmp_path: Path) -> None:
    make_model().fit(batches(), callbacks=[keep(tmp_path, every="100up"), best(tmp_path, every="3ep")])
    assert names(tmp_path) == []


def test_a_resumed_run_that_had_kept_some_ends_without_an_error(tmp_path: Path) -> None:
    callbacks = [keep(tmp_path)]
    make_model().fit(batches(), callbacks=callbacks)
    later = [*callbacks, spoil(lambda model: model.nn_module.out.bias)]
    make_model().fit(batches(), num_epochs=2, callbacks=later, resume=tmp_path)
    assert names(tmp_path) == ["model-000.safetensors", "model-001-not-finite.safetensors"]


def test_a_best_file_whose_event_fails_is_written_again(tmp_path: Path) -> None:
    keep = ("checkpoint", {"dir_path": str(tmp_path), "optimizer_state": True, "save_after_exception": True})
    best = ("monitor_checkpoint", {"dir_path": str(tmp_path / "best"), "monitor": "train_loss"})

    @argus_core.on_event("checkpoint_saved")
    def crash(state: State) -> None:
        raise RuntimeError("the power is out")

    with pytest.raises(RuntimeError, match="the power is out"):
        make_model().fit(batches(), callbacks=[best, keep, crash])
    (file,) = (tmp_path / "best").iterdir()
    file.unlink()
    make_model().fit(batches(), callbacks=[best, keep], resume=tmp_path)
    assert [*(tmp_path / "best").iterdir()] == [file]


def test_a_best_file_that_was_not_finite_is_no_measure_for_later_ones(tmp_path: Path) -> None:
    @argus_core.on_epoch_complete
    def change(state: State) -> None:
        state.metrics["odd"] = [1.0, 2.0][state.epoch]
        with torch.no_grad():
            state.model.nn_module.out.bias.fill_([INF, 0.0][state.epoch])
            state.model.nn_module.hidden.bias.nan_to_num_()

    argus_core.Engine(
        lambda batch, state: {"loss": 1.0},
        make_model(),
        callbacks=[
            change,
            MonitorCheckpoint(tmp_path, monitor="odd", better="min"),
        ],
    ).run(range(2), 2)
    assert names(tmp_path) == ["model-000-1.000000-not-finite.safetensors", "model-001-2.000000.safetensors"]
