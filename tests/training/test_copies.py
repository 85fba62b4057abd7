"""A dry run finds what would fail later, and leaves everything as it was."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from networks import batches, make_model, same_weights
from torch import Tensor
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, TensorDataset

import argus_core
from argus_core import (
    ArgusError,
    BuildError,
    Callback,
    Metric,
    ParamsError,
    SpecError,
    State,
    StateMismatchError,
    on_epoch_complete,
)
from argus_core.authors import WRITES
from argus_core.callbacks import Checkpoint, LoggingToCSV, MetricsJSONL
from argus_core.callbacks.early_stopping import EarlyStopping
from argus_core.metrics import Accuracy

pytestmark = pytest.mark.usefixtures("net_registry")

VAL = batches((6, 4), seed=1)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in an empty folder, and check that no temporary folder is left."""
    monkeypatch.chdir(tmp_path)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    yield tmp_path
    assert [*temporary.glob("argus-*")] == []


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != "temporary")


class Failing(Callback):
    """Fails at one event, or in one of its methods."""

    def __init__(self, event: str) -> None:
        self.event = event

    def epoch_complete(self, state: State) -> None:
        if self.event == "epoch_complete":
            raise ValueError("of epoch_complete")

    def complete(self, state: State) -> None:
        if self.event == "complete":
            raise ValueError("of complete")

    def checkpoint_saved(self, state: State) -> None:
        if self.event == "checkpoint_saved":
            raise ValueError("of checkpoint_saved")

    def state_dict(self) -> dict[str, Any]:
        return {"value": object() if self.event == "state_dict" else 3}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self.event == "load_state_dict":
            raise KeyError("gone")


class FailingMetric(Metric):
    """Fails when it is computed, or has a state that no file holds."""

    name = "failing"

    def __init__(self, place: str) -> None:
        self.place = place

    def update(self, step_output: Any) -> None:
        pass

    def compute(self) -> float:
        if self.place == "compute":
            raise ValueError("of compute")
        return 0.0

    def state_dict(self) -> dict[str, Any]:
        return {"value": object()} if self.place == "state_dict" else {}


WIDE = [(torch.zeros(2, 5), torch.zeros(2, dtype=torch.int64))]


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"callbacks": [Failing("epoch_complete")]}, ValueError, "of epoch_complete"),
        ({"callbacks": [Failing("complete")]}, ValueError, "of complete"),
        ({"callbacks": [Failing("checkpoint_saved")]}, ValueError, "of checkpoint_saved"),
        (
            {"callbacks": [Failing("state_dict")]},
            ParamsError,
            r"^callback\['Failing'\]\['value'\] is of type object",
        ),
        ({"callbacks": [Failing("load_state_dict")]}, StateMismatchError, "does not fit callback Failing"),
        ({"val_callbacks": [Failing("epoch_complete")]}, ValueError, "of epoch_complete"),
        ({"metrics": [FailingMetric("compute")]}, ValueError, "of compute"),
        (
            {"metrics": [FailingMetric("state_dict")], "metrics_on_train": True},
            ParamsError,
            r"^running\['failing'\]\['value'\] is of type object",
        ),
        ({"val_loader": WIDE}, RuntimeError, "shapes cannot be multiplied"),
        ({"val_loader": {"good": VAL, "wide": WIDE}}, RuntimeError, "shapes cannot be multiplied"),
        (
            {"lr_scheduler": ("ReduceLROnPlateau", {"monitor": "val_acuracy"})},
            BuildError,
            "monitors 'val_acuracy', which is not computed",
        ),
        (
            {"lr_scheduler": ("OneCycleLR", {"max_lr": 1.0, "total_steps": 99})},
            SpecError,
            "has 99 steps left, and the run makes up to 100",
        ),
        (
            {
                "callbacks": [
                    (
                        "checkpoint",
                        {"dir_path": "own", "every": "50ep", "file_format": "{val_f1}.safetensors"},
                    )
                ]
            },
            ArgusError,
            "val_f1",
        ),
    ],
)
def test_what_would_fail_later_fails_at_once(given: dict[str, Any], error: type, message: str) -> None:
    arguments = {"val_loader": VAL, **given}
    model = make_model()
    with pytest.raises(error, match=message):
        model.fit(batches(), num_epochs=100, dry_run=True, **arguments)
    assert same_weights(model, make_model())


def test_everything_is_as_before(folder: Path) -> None:
    data = TensorDataset(torch.randn(24, 4), torch.randint(3, (24,)))
    loader = DataLoader(data, batch_size=8, shuffle=True, generator=torch.Generator().manual_seed(1))
    stopping, metric = EarlyStopping("val_a_loss"), Accuracy()
    callbacks: list[Any] = [
        stopping,
        Checkpoint("own", every="7ep"),
        MetricsJSONL(folder / "own" / "metrics.jsonl"),
        ("logging_to_csv", {"file_path": "metrics.csv"}),
        ("monitor_checkpoint", {"dir_path": "best", "monitor": "val_b_accuracy"}),
    ]
    model = make_model(step=[("ema", {"decay": 0.5})], optimizer=("Adam", {"lr": 0.1}))
    schedule = StepLR(model.optimizer, 1)
    model.nn_module.eval()
    before = random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # type: ignore[index]
    generator = loader.generator.get_state().tolist()  # type: ignore[union-attr]
    values = model.fit(
        loader,
        {"a": loader, "b": VAL},
        num_epochs=100,
        metrics=[metric],
        callbacks=callbacks,
        lr_scheduler=schedule,
        seed=3,
        dry_run=True,
    )
    assert values.keys() == {
        "train_loss",
        *(f"val_{name}_{of}" for name in "ab" for of in ("loss", "accuracy")),
    }
    assert files(folder) == []
    assert same_weights(model, make_model())
    assert (len(model.optimizer.state), model.get_lr(), schedule.last_epoch) == (0, 0.1, 0)
    assert model.step_state() == {}
    assert not model.nn_module.training
    assert (stopping.monitor.best, stopping.waited, hasattr(metric, "total") and metric.total) == (None, 0, 0)
    assert callbacks[1].dir_path == folder / "own"
    after = random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # type: ignore[index]
    assert after == before
    assert loader.generator.get_state().tolist() == generator  # type: ignore[union-attr]


def test_a_dry_run_reads_one_window_and_one_batch_of_each_set() -> None:
    seen: list[tuple[str, int, bool]] = []

    @argus_core.on_iteration_complete
    def look(state: State) -> None:
        batch = state.batch
        seen.append((state.phase, len(batch) if isinstance(batch[0], tuple) else 1, state.is_dry_run))

    make_model(step=[("accumulate", {"steps": 2})]).fit(
        batches(), {"a": VAL, "b": VAL}, callbacks=[look], val_callbacks=[look], dry_run=True
    )
    assert seen == [("train", 2, True), ("val_a", 1, True), ("val_b", 1, True)]


class Overflowing(torch.nn.Module):
    """A loss that is not finite for the first few calls, as a loss that is scaled too much."""

    def __init__(self, calls: int = 2) -> None:
        super().__init__()
        self.calls = calls

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        self.calls -= 1
        return prediction.mean() * (float("inf") if self.calls >= 0 else 1.0)


def test_skipped_updates_are_repeated_until_one_moves_the_weights() -> None:
    argus_core.register("loss", "overflowing", Overflowing)
    guard = [("finite_guard", {"policy": "skip", "max_consecutive": 100})]
    counts: list[int] = []

    @argus_core.on_complete
    def count(state: State) -> None:
        counts.append(state.updates_skipped)

    sizes = (4,) * 50
    make_model(loss="overflowing", step=guard).fit(batches(sizes), callbacks=[count], dry_run=True)
    assert counts == [2]
    with pytest.raises(
        ArgusError, match=r"^each of the first 32 updates was skipped, as its gradients were not"
    ):
        make_model(loss=("overflowing", {"calls": 99}), step=guard).fit(batches(sizes), dry_run=True)


def test_a_run_that_resumes_can_be_tried_from_any_of_its_checkpoints(folder: Path) -> None:
    every: list[Any] = [("checkpoint", {"dir_path": "run", "every": "2up", "optimizer_state": True})]
    make_model().fit(batches(), VAL, num_epochs=2, callbacks=every)
    found = files(folder / "run")
    assert len(found) == 3
    for file in found:
        model = make_model()
        model.fit(batches(), VAL, num_epochs=4, callbacks=every, resume=Path("run") / file, dry_run=True)
        assert same_weights(model, make_model())
    assert files(folder / "run") == found


def test_what_cannot_be_copied_or_read_again_is_refused() -> None:
    class Open(Callback):
        def __init__(self) -> None:
            self.file = open(__file__, encoding="utf-8")  # noqa: SIM115

        def complete(self, state: State) -> None: ...

    callback = Open()
    with (
        callback.file,
        pytest.raises(ParamsError, match=r"^a dry run works on copies, and callbacks\[1\] \(Open\) c"),
    ):
        make_model().fit(batches(), callbacks=["progress", callback], dry_run=True)
    for arguments in ((iter(batches()),), (batches(), iter(VAL)), (batches(), {"a": iter(VAL)})):
        with pytest.raises(
            ParamsError, match="^a loader is a list_iterator, which gives its batches once, and a dry"
        ):
            make_model().fit(*arguments, dry_run=True)


def test_a_default_path_of_a_plugin_is_replaced_too(folder: Path) -> None:
    class Writer(Callback):
        file_params = {"path": WRITES}

        def __init__(self, path: str = "default.txt") -> None:
            self.path = path

        def complete(self, state: State) -> None:
            Path(self.path).parent.mkdir(parents=True, exist_ok=True)
            Path(self.path).write_text("written", "utf-8")

    argus_core.register("callback", "writer", Writer)
    for callback in ("writer", ("writer", {"path": "given.txt"}), Writer(), Writer("given.txt")):
        make_model().fit(batches(), callbacks=[callback], dry_run=True)
    assert files(folder) == []
    make_model().fit(batches(), callbacks=["writer"])
    assert files(folder) == ["default.txt"]


@pytest.mark.parametrize(
    ("step", "optimizer"),
    [
        (["sam"], ("SGD", {"lr": 0.1, "momentum": 0.9})),
        (["closure"], ("LBFGS", {"max_iter": 2})),
        ([("amp", {"dtype": "float16"}), ("ema", {"decay": 0.5})], ("AdamW", {"lr": 0.1})),
        ([("compile", {"backend": "eager"})], ("SGD", {"lr": 0.1})),
    ],
)
def test_a_run_after_dry_runs_equals_one_without(step: Any, optimizer: Any) -> None:
    tried, other = (make_model(step=step, optimizer=optimizer) for _ in range(2))
    for seed in (0, 1):  # the second one with state of the optimizer and the strategies
        tried.fit(batches(), VAL, seed=9, lr_scheduler=("StepLR", {"step_size": 1}), dry_run=True)
        values = [
            model.fit(batches(), VAL, seed=seed, lr_scheduler=("StepLR", {"step_size": 1}))
            for model in (tried, other)
        ]
        assert values[0] == values[1]
        assert same_weights(tried, other)


@pytest.mark.parametrize("writer", [LoggingToCSV, MetricsJSONL])
def test_all_paths_of_a_table_lie_in_the_folder_of_the_dry_run(writer: Any, tmp_path: Path) -> None:
    seen = []

    @on_epoch_complete
    def look(state: State) -> None:
        (copied,) = [each for each in state.engine.callbacks if isinstance(each, writer)]
        copied._ahead.keep()
        seen.extend(path.name for path in copied.file_path.parent.iterdir())

    make_model().fit(batches(), callbacks=[writer(tmp_path / "table"), look], dry_run=True)
    assert {".table.ahead", "table"} <= {*seen}
    assert not [*tmp_path.glob("*table*")]
