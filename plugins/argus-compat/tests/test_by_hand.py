"""Metrics, callbacks and engines that a script calls itself, and errors of the types that it catches."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from blobs import Dense, loaders
from torch import nn

import argus
import argus_core
from argus import load_model
from argus.callbacks import (
    Checkpoint,
    EarlyStopping,
    LoggingToCSV,
    LoggingToFile,
    MonitorCheckpoint,
    ReduceLROnPlateau,
    StepLR,
    on_epoch_complete,
)
from argus.engine import Engine, State
from argus.metrics import CategoricalAccuracy, Loss, Metric
from argus.metrics.metric import init_better
from argus_core.errors import ArgusError, ArgusWarning

OUTPUT = {"prediction": torch.eye(3), "target": torch.arange(3), "loss": 0.5}


class HandModel(argus.Model, name="HandModel-of-this-file"):
    nn_module = Dense
    optimizer = torch.optim.SGD
    loss = nn.CrossEntropyLoss


class Choosing(argus.Model, name="Choosing-of-this-file"):
    nn_module = {"dense": Dense}
    optimizer = torch.optim.SGD
    loss = nn.CrossEntropyLoss


class Named(argus.Model, name="Named-of-this-file"):
    nn_module = Dense
    optimizer = torch.optim.SGD
    loss = "MissingLoss"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    argus_core.register("model", "HandModel", HandModel, override=True)


def model(**params: Any) -> argus.Model:
    made = HandModel({"optimizer": {"lr": 0.1}, "device": "cpu"} | params)
    made.logger.disabled = True
    return made


def state(**attributes: Any) -> State:
    made = Engine(model().train_step).state
    made.update(**attributes)
    return made


def fit(**options: Any) -> Any:
    train, val = loaders()
    return model().fit(train, val, **options)


def saved() -> str:
    model().save("model.pth")
    return "model.pth"


def save_by_hand(checkpoint: Any) -> Any:
    return checkpoint.save_checkpoint(state(metrics={"train_loss": 0.5}))


@pytest.mark.parametrize(
    ("kind", "call"),
    [
        (ValueError, lambda: HandModel({"device": []}).set_device([])),
        (ValueError, lambda: HandModel({"device": ["cpu", "cpu"]})),
        (ValueError, lambda: model().set_device(["cpu", "cpu"])),
        (ValueError, lambda: Choosing({"nn_module": ("other", {})})),
        (TypeError, lambda: Choosing({"nn_module": ("dense", 3)})),
        (TypeError, lambda: Choosing({"nn_module": {}})),
        (TypeError, lambda: model(nn_module=3)),
        (TypeError, lambda: model(nn_module={"nope": 3})),
        (TypeError, lambda: model(optimizer=[1])),
        (ValueError, lambda: model(optimizer={"lr": -1})),
        (KeyError, lambda: Named({})),
        (KeyError, lambda: HandModel({}, build_order=("nn_module", "device", "other"))),
        (ValueError, lambda: load_model(saved(), nn_module=None)),
        (TypeError, lambda: load_model(saved(), nn_module={"nope": 3})),
        (TypeError, lambda: load_model(saved(), change_state_dict_func=lambda *states: 3)),
        (ValueError, lambda: model().validate(loaders()[1], metrics=["nope"])),
        (KeyError, lambda: CategoricalAccuracy().update({"prediction": torch.eye(3)})),
        (RuntimeError, CategoricalAccuracy().compute),
        (RuntimeError, Loss().compute),
        (TypeError, lambda: model().train_step(3)),
        (TypeError, lambda: model().val_step(3)),
        (TypeError, lambda: model().predict([[1.0, 2.0]])),
        (TypeError, lambda: model().fit(None)),  # type: ignore[arg-type]
        (TypeError, lambda: model().validate(3)),  # type: ignore[arg-type]
        (ValueError, lambda: Checkpoint("a", max_saves=0)),
        (TypeError, lambda: Checkpoint("a", max_saves="many")),  # type: ignore[arg-type]
        (TypeError, lambda: Checkpoint(3)),  # type: ignore[arg-type]
        (KeyError, lambda: save_by_hand(Checkpoint("a", file_format="{nope}.pth"))),
        (ValueError, lambda: MonitorCheckpoint("a", monitor="loss")),
        (ValueError, lambda: fit(callbacks=[MonitorCheckpoint("a", monitor="val_nope", better="min")])),
        (ValueError, lambda: fit(callbacks=[EarlyStopping("val_nope", better="min")])),
        (KeyError, lambda: fit(callbacks=[ReduceLROnPlateau("val_nope", better="min")])),
        (ImportError, lambda: init_better("auto", "val_nope")),
        (TypeError, lambda: LoggingToFile(3).start(state())),  # type: ignore[arg-type]
    ],
)
def test_errors_are_of_the_types_that_scripts_catch(kind: type[Exception], call: Callable[[], Any]) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert isinstance(caught.value, ArgusError)
    assert not str(caught.value).startswith(("'", '"'))  # as a KeyError shows its text


def test_an_error_that_scripts_catch_is_as_it_was_otherwise() -> None:
    with pytest.raises(argus_core.ParamsError, match="Dense.*takes.*nope") as caught:
        model(nn_module={"nope": 3})
    assert type(caught.value).__name__ == "ParamsError"
    assert isinstance(caught.value.__cause__, TypeError)


def test_metrics_take_plain_dicts() -> None:
    accuracy, loss = CategoricalAccuracy(), Loss()
    for metric in (accuracy, loss):
        metric.update(OUTPUT)
    assert (accuracy.compute(), loss.compute()) == (1.0, 0.5)


def test_accuracy_counts_in_attributes() -> None:
    accuracy = CategoricalAccuracy()
    assert (accuracy.correct, accuracy.count) == (0, 0)
    accuracy.update({**OUTPUT, "target": torch.tensor([0, 1, 1])})
    assert (accuracy.correct, accuracy.count) == (2, 3)
    accuracy.correct += 1
    assert accuracy.compute() == 1.0


def test_metrics_put_their_values_into_a_state() -> None:
    run = state(step_output=OUTPUT)
    for metric in (CategoricalAccuracy(), Loss()):
        metric.epoch_start(run)
        metric.iteration_complete(run)
        metric.epoch_complete(run)
    assert run.metrics == {"train_accuracy": 1.0, "train_loss": 0.5}


@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("cls", [Checkpoint, MonitorCheckpoint])
def test_a_checkpoint_is_saved_after_an_exception(cls: type[Checkpoint], started: bool) -> None:
    run, checkpoint = state(exception=ValueError("stop")), cls("folder", save_after_exception=True)
    if started:
        checkpoint.start(run)
    checkpoint.catch_exception(run)
    assert os.listdir("folder") == ["model-after-exception.pth"]
    assert load_model("folder/model-after-exception.pth").get_lr() == 0.1


def test_a_checkpoint_that_cannot_be_saved_after_an_exception_is_logged() -> None:
    Path("folder").touch()
    run = state(exception=ValueError("stop"))
    Checkpoint("folder/in", save_after_exception=True).catch_exception(run)


def test_a_log_as_csv_makes_its_folder_with_and_without_a_start() -> None:
    run = state(metrics={"train_loss": 0.5})
    started, other = LoggingToCSV("a/b/log.csv"), LoggingToCSV("c/log.csv")
    started.start(run)
    for log in (started, other):
        log.epoch_complete(run)
        log.complete(run)
        rows = log.file_path.read_text().splitlines()
        assert (rows[0], len(rows)) == ("time,epoch,lr,train_loss", 2)


def test_an_engine_that_runs_by_itself_has_no_phase_states() -> None:
    engine, states = Engine(model().train_step), {}
    stopping = EarlyStopping("train_loss")
    for part in (Loss(), stopping, MonitorCheckpoint("a", monitor="train_loss")):
        part.attach(engine)
    assert engine.run(loaders()[0]).phase_states is None
    assert stopping.best_value == engine.state.metrics["train_loss"]
    other = Engine(model().train_step, states)
    assert states == {"train": other.state}
    assert other.state.phase_states is states


def test_the_engines_of_a_fit_know_each_others_states() -> None:
    seen: list[list[str]] = []
    fit(callbacks=[on_epoch_complete(lambda run: seen.append(sorted(run.phase_states)))])
    assert seen == [["train", "val"]]


def test_monitors_say_how_they_compare() -> None:
    run = state()
    for callback in (EarlyStopping("val_accuracy"), MonitorCheckpoint("a", monitor="val_accuracy")):
        assert callback.best_value == -torch.inf
        callback.start(run)
        assert callback.better == "max"
        assert callback.best_value == -torch.inf
        assert callback.better_comp is not None
        assert callback.better_comp(2, 1)


@pytest.mark.parametrize(("better", "best"), [("max", 0.9), ("min", 0.5), ("auto", 0.9)])
def test_monitors_compare_as_they_are_told_where_a_script_has_not_started_them(
    better: str, best: float
) -> None:
    stopping = EarlyStopping("val_accuracy", patience=9, better=better)
    checkpoint = MonitorCheckpoint("a", monitor="val_accuracy", better=better)
    for value in (0.7, 0.5, 0.9):
        run = state(metrics={"val_accuracy": value})
        stopping.epoch_complete(run)
        checkpoint.epoch_complete(run)
    assert (stopping.best_value, checkpoint.best_value) == (best, best)


def test_a_monitor_may_wait_for_a_metric_that_is_defined_later() -> None:
    callback = EarlyStopping("val_of_this_test")
    assert (callback.better, callback.best_value) == ("auto", None)

    class Later(Metric):
        name = "of_this_test"
        better = "max"

    callback.start(state(metrics={"val_of_this_test": 1.0}))
    assert callback.best_value == -torch.inf


def test_a_checkpoint_counts_the_epochs_since_it_saved() -> None:
    checkpoint, counts = Checkpoint("a", period=3), []
    counts.append(checkpoint.epochs_since_last_save)
    model().fit(
        loaders()[0],
        num_epochs=4,
        callbacks=[
            checkpoint,
            on_epoch_complete(lambda state: counts.append(checkpoint.epochs_since_last_save)),
        ],
    )
    assert counts == [0, 1, 2, 0, 1]


def test_a_csv_log_has_its_file_open_while_a_run_is_on() -> None:
    log = LoggingToCSV("log.csv")
    assert log.csv_file is None
    run = state(metrics={"train_loss": 0.5})
    log.start(run)
    log.epoch_start(run)
    assert log.csv_file is not None
    log.csv_file.write("# a remark\n")
    log.epoch_complete(run)
    run.metrics["val_loss"] = 0.25  # a column that is new replaces the file
    log.epoch_complete(run)
    log.csv_file.write("# the end\n")
    log.complete(run)
    assert log.csv_file.closed
    lines = Path("log.csv").read_text().splitlines()
    assert len(lines) == 5
    assert lines[-1].startswith("# the end")


def test_a_model_that_is_defined_again_warns() -> None:
    def define() -> type[argus.Model]:
        class Again(argus.Model):
            nn_module = Dense

        return Again

    define()
    with pytest.warns(UserWarning, match="model 'Again' was .*Again and is .*Again now; give one") as caught:
        newest = define()
    assert [each.filename for each in caught] == [__file__]
    assert argus_core.resolve("model", "Again").load() is newest


def test_schedulers_step_when_they_are_called() -> None:
    run = state(metrics={"val_loss": 1.0})
    for schedule in (StepLR(step_size=1, gamma=0.5), ReduceLROnPlateau(patience=0, factor=0.5)):
        schedule.epoch_complete(run)
        schedule.start(run)
        run.model.train_step(next(iter(loaders()[0])))
        schedule.epoch_complete(run)
        schedule.epoch_complete(run)
    assert run.model.get_lr() == pytest.approx(0.1 * 0.5**3)


def test_a_metric_that_is_defined_again_warns() -> None:
    def define() -> None:
        class Again(Metric):
            name = "again_by_hand"

    define()
    with pytest.warns(ArgusWarning, match="metric 'again_by_hand' was .* and is .*:.*Again now"):
        define()
    with pytest.warns(UserWarning, match="metric 'accuracy' was"):

        class Accuracy(Metric):
            name = "accuracy"
            better = "max"
