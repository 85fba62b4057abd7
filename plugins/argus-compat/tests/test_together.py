"""Parts of argus_core in scripts, and parts of scripts in argus_core."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from blobs import ConvNet, Dense, loaders
from torch import nn

import argus
import argus_core
from argus.callbacks import Callback, Checkpoint, EarlyStopping, LoggingToCSV
from argus.metrics import CategoricalAccuracy, Metric
from argus_core.callbacks import MetricsJSONL


class SmallModel(argus.Model, name="SmallModel-of-this-file"):
    nn_module = Dense
    optimizer = torch.optim.SGD
    loss = nn.CrossEntropyLoss


@pytest.fixture
def model() -> argus.Model:
    torch.manual_seed(0)
    model = SmallModel({"optimizer": {"lr": 0.05}})
    model.logger.disabled = True
    return model


def test_metrics_of_argus_core_are_computed_by_name_and_by_instance(model: argus.Model) -> None:
    train_loader, val_loader = loaders()
    best_two = argus_core.metrics.TopKAccuracy(k=2)  # type: ignore[attr-defined]
    metrics = model.fit(train_loader, val_loader, metrics=["accuracy", best_two], metrics_on_train=True)
    assert metrics["val_top_k_accuracy"] >= metrics["val_accuracy"] > 0
    assert list(metrics) == [
        *("train_loss", "train_accuracy", "train_top_k_accuracy"),
        *("val_loss", "val_accuracy", "val_top_k_accuracy"),
    ]


def test_categorical_accuracy_is_the_accuracy_of_argus_core(model: argus.Model) -> None:
    _, val_loader = loaders()
    assert (
        model.validate(val_loader, metrics=[CategoricalAccuracy()])["val_accuracy"]
        == model.validate(val_loader, metrics=["accuracy"])["val_accuracy"]
    )


def test_callbacks_of_argus_core_are_called(model: argus.Model, tmp_path: Path) -> None:
    epochs: list[int] = []

    @argus_core.on_epoch_complete
    def note(state: argus_core.State) -> None:
        epochs.append(state.epoch)

    callbacks = [
        MetricsJSONL(tmp_path / "a.jsonl"),
        ("metrics_jsonl", {"file_path": str(tmp_path / "b.jsonl")}),
    ]
    model.fit(*loaders(), num_epochs=2, callbacks=[*callbacks, note])
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == epochs == [0, 1]
    assert {"train_loss", "val_loss"} <= rows[0].keys()
    assert len((tmp_path / "b.jsonl").read_text().splitlines()) == 2


def test_parts_of_plugins_are_chosen_by_name() -> None:
    argus_core.register(
        "loss",
        "double",
        lambda: lambda prediction, target: 2 * nn.functional.cross_entropy(prediction, target),
    )
    argus_core.register("nn_module", "conv", ConvNet)
    model = argus.Model(
        {
            "nn_module": ("conv", {"n_classes": 3}),
            "loss": "double",
            "optimizer": ("SGD", {"lr": 0.1}),
            "prediction_transform": ("Softmax", {"dim": 1}),
        }
    )
    batch = torch.randn(2, 1, 8, 8), torch.tensor([0, 1])
    step_output = model.val_step(batch)
    assert step_output["prediction"].sum(1).tolist() == pytest.approx([1, 1])
    assert step_output["loss"] > 0


def test_callbacks_and_metrics_of_a_script_work_in_argus_core(tmp_path: Path) -> None:
    class Mean(Metric):
        name = "mean"

        def reset(self) -> None:
            self.values: list[float] = []

        def update(self, step_output: Any) -> None:
            self.values.append(step_output["prediction"].mean().item())

        def compute(self) -> float:
            return sum(self.values) / len(self.values)

    class Count(Callback):
        count = 0

        def iteration_complete(self, state: Any) -> None:
            self.count += 1

    argus_core.register("nn_module", "dense", Dense)
    model = argus_core.Model(
        {"nn_module": "dense", "loss": "CrossEntropyLoss", "optimizer": "SGD", "device": "cpu"}
    )
    count = Count()
    callbacks = [
        count,
        Checkpoint(tmp_path, file_format="{epoch}.safetensors"),
        EarlyStopping("val_mean", patience=9),
        LoggingToCSV(tmp_path / "log.csv"),
    ]
    metrics = model.fit(*loaders(), num_epochs=2, metrics=["mean"], callbacks=callbacks)
    assert "val_mean" in metrics
    assert count.count == 8
    assert {"0.safetensors", "1.safetensors", "log.csv"} == {path.name for path in tmp_path.iterdir()}


def test_a_callback_finds_the_loader_in_the_state(model: argus.Model) -> None:
    """Version 1.1.0 has it not, but its own example of distributed training asks for it."""
    found: list[Any] = []

    @argus.callbacks.on_epoch_complete
    def note(state: argus.engine.State) -> None:
        found.append(state.data_loader)

    train_loader, val_loader = loaders()
    model.fit(train_loader, val_loader, num_epochs=2, callbacks=[note], val_callbacks=[note])
    assert found == [val_loader, val_loader, train_loader, val_loader, train_loader]


def test_a_metric_of_argus_core_may_have_several_values(model: argus.Model) -> None:
    class Extremes(argus_core.Metric):
        name = "extremes"
        several = True

        def update(self, step_output: Any) -> None:
            self.seen = step_output["prediction"]

        def compute(self) -> dict[str, float]:
            return {"least": float(self.seen.min()), "most": float(self.seen.max())}

    metrics = model.validate(loaders()[1], metrics=[Extremes()])
    assert metrics["val_extremes_least"] < metrics["val_extremes_most"]


def _validate_alone(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    if rank == 0:
        small = SmallModel({})
        small.logger.disabled = True
        small.fit(*loaders(), metrics=["accuracy"])
    dist.barrier()  # a process that has left breaks the connections that the other is still making
    dist.destroy_process_group()


def test_one_process_of_several_may_run_alone(tmp_path: Path) -> None:
    processes = mp.start_processes(
        _validate_alone, (str(tmp_path),), nprocs=2, join=False, start_method="fork"
    )
    assert processes is not None
    assert processes.join(timeout=60) or processes.join(timeout=60)


def test_step_is_a_key_of_ones_own(model: argus.Model) -> None:
    assert SmallModel({"step": "mine", "optimizer": {"lr": 0.1}}).step_parts == []


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_mixed_precision_with_a_scaler_trains_on_a_gpu(model: argus.Model, tmp_path: Path) -> None:
    class ScaledModel(SmallModel):
        def __init__(self, params: dict[str, Any]) -> None:
            super().__init__(params)
            self.scaler = torch.amp.GradScaler("cuda")

        def train_step(self, batch: Any, state: Any) -> dict[str, Any]:
            self.train()
            self.optimizer.zero_grad()
            input, target = argus.utils.deep_to(batch, self.device, non_blocking=True)
            with torch.amp.autocast("cuda"):
                prediction = self.nn_module(input)
                loss = self.loss(prediction, target)
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimizer)
            self.scaler.update()
            return {"prediction": prediction.detach(), "target": target, "loss": loss.item()}

    scaled = ScaledModel({"optimizer": {"lr": 0.05}, "device": "cuda:0"})
    metrics = scaled.fit(*loaders(), num_epochs=5, metrics=["accuracy"], callbacks=[Checkpoint(tmp_path)])
    assert metrics["val_accuracy"] > 0.5
    assert scaled.params["device"] == "cuda:0"
    state = torch.load(next(tmp_path.iterdir()), weights_only=True)
    assert all(tensor.is_cpu for tensor in state["nn_state_dict"].values())


@pytest.mark.filterwarnings("ignore:nn_module .Dense. will not load by name")
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_file_is_logged_once_whoever_saves_it(
    model: argus.Model, tmp_path: Path, caplog: pytest.LogCaptureFixture, suffix: str
) -> None:
    model.logger.disabled = False
    file_format = f"{{epoch}}.{suffix}"
    callbacks = [
        Checkpoint(tmp_path / "own", file_format),
        argus_core.callbacks.Checkpoint(tmp_path / "core"),  # type: ignore[attr-defined]
    ]
    model.fit(loaders()[0], callbacks=callbacks)
    model.save(tmp_path / f"by_hand.{suffix}")
    told = [record.getMessage() for record in caplog.records if "saved" in record.getMessage()]
    assert told == [
        f"saved {tmp_path / 'own' / f'0.{suffix}'}",
        f"saved {tmp_path / 'core' / 'model-000.safetensors'}",
        f"saved {tmp_path / f'by_hand.{suffix}'}",
    ]


def test_a_checkpoint_of_a_script_logs_the_files_of_a_model_of_argus_core(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    argus_core.register("nn_module", "dense", Dense)
    model = argus_core.Model(
        {"nn_module": "dense", "loss": "CrossEntropyLoss", "optimizer": "SGD", "device": "cpu"}
    )
    with caplog.at_level("INFO"):
        model.fit(loaders()[0], callbacks=[Checkpoint(tmp_path, "{epoch}.safetensors")])
    assert f"saved {tmp_path / '0.safetensors'}" in caplog.text
