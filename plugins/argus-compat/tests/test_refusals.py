"""What is refused, in a sentence, and by errors of the types that scripts catch."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from blobs import Dense, loaders
from torch import nn

import argus
import argus_core
from argus.callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    LoggingToCSV,
    LoggingToFile,
    MonitorCheckpoint,
    ReduceLROnPlateau,
)
from argus.engine import Engine, Events
from argus.metrics import Loss, Metric
from argus.model.build import cast_loss, cast_nn_module, cast_optimizer, choose_attribute_from_dict
from argus.utils import check_pickleble, get_device_indices
from argus_core.errors import ArgusError, ArgusWarning, BuildError, ParamsError, SpecError

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")


class PlainModel(argus.Model, name="PlainModel-of-this-file"):
    nn_module = Dense
    optimizer = torch.optim.SGD
    loss = nn.CrossEntropyLoss


@pytest.fixture
def model() -> argus.Model:
    model = PlainModel({})
    model.logger.disabled = True
    return model


def test_a_model_without_a_network_says_so() -> None:
    with pytest.raises(SpecError, match=r"params\['nn_module'\] is \{\}; give a name or"):
        argus.Model({})


@pytest.mark.parametrize("slot", ["loss", "optimizer"])
def test_a_part_that_nobody_chose_is_missed_at_once(slot: str) -> None:
    class Bare(argus.Model):
        nn_module = Dense

    params = {"loss": "MSELoss", "optimizer": "SGD"}
    del params[slot]
    with pytest.raises(SpecError, match=rf"params\['{slot}'\] is \{{\}}; give a name or"):
        Bare(params)


def test_params_that_cannot_be_saved_are_refused_before_anything_is_trained() -> None:
    with pytest.raises(
        ParamsError, match="params contain a value that cannot be saved .*; set it in the model's class"
    ):
        PlainModel({"function": lambda: None})


def test_params_are_a_dict() -> None:
    with pytest.raises(SpecError, match=r"params of the model is \[\]; give a dict"):
        PlainModel([])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("order", "message"),
    [(("nn_module", "loss"), "lacks 'device'"), (("nn_module", "device", "teacher"), "has 'teacher'")],
)
def test_an_order_of_building_has_the_parts(order: tuple[str, ...], message: str) -> None:
    class Ordered(argus.Model):
        nn_module = Dense

        def __init__(self, params: Any) -> None:
            super().__init__(params, build_order=order)

    with pytest.raises(SpecError, match=f"build_order is .* which {message}; give nn_module, optimizer"):
        Ordered({})


def test_parts_that_are_not_in_the_order_are_left_out() -> None:
    class Predictor(argus.Model):
        nn_module = Dense
        loss = nn.CrossEntropyLoss

        def __init__(self, params: Any) -> None:
            super().__init__(params, build_order=("nn_module", "device", "prediction_transform"))

    predictor = Predictor({})
    assert (predictor.loss, predictor.optimizer) == (None, None)
    assert predictor.predict(torch.randn(2, 1, 8, 8)).shape == (2, 3)


def test_choosing_from_what_is_offered() -> None:
    offered = {"dense": Dense, "name": "SGD"}
    assert choose_attribute_from_dict(offered, ("dense", {"n_classes": 2})) == (Dense, {"n_classes": 2})
    assert choose_attribute_from_dict(offered, "name") == ("SGD", {})
    with pytest.raises(SpecError, match="params name 'other'; the model class offers 'dense', 'name'"):
        choose_attribute_from_dict(offered, "other")
    with pytest.raises(
        SpecError, match="the params of .*Dense.*, which the model class fixes, are 'dense'; give a dict"
    ):
        choose_attribute_from_dict(Dense, "dense")


def test_casting_what_builds_a_part() -> None:
    assert cast_optimizer("SGD") is torch.optim.SGD
    assert cast_loss(nn.MSELoss) is nn.MSELoss
    with pytest.raises(
        SpecError, match="nn_module is 3; give a class, a function that builds one, or a name"
    ):
        cast_nn_module(3)


@pytest.mark.parametrize("action", ["fit", "validate", "train_step", "val_step", "get_lr", "set_lr"])
def test_training_without_a_part_is_an_attribute_error(action: str, model: argus.Model) -> None:
    model.optimizer = None
    argument = 0.1 if action == "set_lr" else next(iter(loaders()[0]))
    arguments = () if action == "get_lr" else (argument,)
    with pytest.raises(
        AttributeError, match="the model has no optimizer, so it cannot train or validate; choose"
    ):
        getattr(model, action)(*arguments)


def test_predicting_without_a_transform_is_an_attribute_error(model: argus.Model) -> None:
    model.prediction_transform = None
    assert not model.predict_ready()
    with pytest.raises(AttributeError, match="the model has no prediction_transform, so it cannot predict"):
        model.predict(torch.randn(1, 1, 8, 8))


@pytest.mark.parametrize("lr", ["fast", [0.1, 0.2], -1])
def test_a_rate_that_is_none_is_a_value_error(lr: Any, model: argus.Model) -> None:
    with pytest.raises(ValueError, match="set_lr got"):
        model.set_lr(lr)


class NotCallable(Callback):
    start = 3


@pytest.mark.parametrize(
    ("callback", "message"),
    [
        (3, "callbacks has 3, which is not an argus.callbacks.Callback; give an instance"),
        (Callback, "callbacks has <class .*; give an instance of a subclass"),
        (NotCallable(), "NotCallable.start is 3, which Events.START cannot call; make it a method"),
    ],
)
def test_what_is_no_callback_is_a_type_error(callback: Any, message: str, model: argus.Model) -> None:
    with pytest.raises(TypeError, match=message):
        model.fit(loaders()[0], callbacks=[callback])


def test_what_is_no_metric_is_a_type_error(model: argus.Model) -> None:
    with pytest.raises(TypeError, match="metrics has 3, which is not an argus.metrics.Metric; give a name"):
        model.fit(loaders()[0], loaders()[1], metrics=[3])


def test_what_is_no_event_is_a_type_error(model: argus.Model) -> None:
    engine = Engine(model.train_step)
    with pytest.raises(
        TypeError, match="event is 'start'; give a member of argus.engine.Events or of an EventEnum"
    ):
        engine.add_event_handler("start", print)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="event is 3"):
        engine.raise_event(3)  # type: ignore[arg-type]


def test_an_engine_runs_a_method_of_a_model() -> None:
    with pytest.raises(
        TypeError, match="step_method is <function .*, which is not a method of a model; give one"
    ):
        Engine(lambda batch, state: None)


@pytest.mark.parametrize("callback", [MonitorCheckpoint, EarlyStopping, ReduceLROnPlateau])
def test_a_direction_that_is_none_is_a_value_error(callback: Any) -> None:
    with pytest.raises(ValueError, match="better is 'up'; give 'auto', 'min' or 'max'"):
        callback(better="up")


@pytest.mark.parametrize("callback", [MonitorCheckpoint, EarlyStopping, ReduceLROnPlateau])
def test_a_metric_that_nobody_knows_is_a_value_error(
    callback: Any, model: argus.Model, tmp_path: Path
) -> None:
    monitor = callback(
        monitor="val_nothing", **({"dir_path": tmp_path} if callback is MonitorCheckpoint else {})
    )
    with pytest.raises(
        ValueError, match="whether higher or lower is better for 'val_nothing' is unknown; define or import"
    ):
        model.fit(*loaders(), callbacks=[monitor])


@pytest.mark.parametrize("callback", [MonitorCheckpoint, EarlyStopping, ReduceLROnPlateau])
def test_a_metric_that_nobody_computes_is_told(callback: Any, model: argus.Model, tmp_path: Path) -> None:
    monitor = callback(**({"dir_path": tmp_path} if callback is MonitorCheckpoint else {}))
    with pytest.raises(BuildError, match="'val_loss', and the run has no validation; give fit a val_loader"):
        model.fit(loaders()[0], callbacks=[monitor])


@pytest.mark.parametrize("callback", [LoggingToFile, LoggingToCSV])
def test_a_missing_folder_is_told_if_it_shall_not_be_made(
    callback: Any, model: argus.Model, tmp_path: Path
) -> None:
    log = callback(tmp_path / "a" / "log", create_dir=False)
    with pytest.raises(
        ArgusError, match="has create_dir=False, and the folder '.*a' does not exist; create it, or leave"
    ):
        model.fit(loaders()[0], callbacks=[log])


@pytest.mark.parametrize(
    "formatter", ["[%(asctime)s][%(levelname)s]: %(message)s", "%(levelname)s %(message)s"]
)
def test_a_file_that_is_not_a_log_of_its_form_is_not_emptied(
    formatter: str, model: argus.Model, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    for _ in range(2):
        model.fit(loaders()[0], callbacks=[LoggingToFile(path, formatter=formatter)])
    path.write_text("- my notes\n")
    with pytest.raises(ArgusError, match="LoggingToFile would replace '.*file', which is not a log that it"):
        model.fit(loaders()[0], callbacks=[LoggingToFile(path, formatter=formatter)])
    assert path.read_text() == "- my notes\n"


def test_a_log_of_bare_messages_empties_no_binary_file(model: argus.Model, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(b"PK\x03\x04\0")
    with pytest.raises(ArgusError, match="LoggingToFile would replace"):
        model.fit(loaders()[0], callbacks=[LoggingToFile(path, formatter="%(message)s")])
    assert path.read_bytes() == b"PK\x03\x04\0"


@pytest.mark.parametrize("options", [{"max_saves": 0}, {"period": 0}, {"file_format": "{0}.pth"}])
def test_a_checkpoint_that_could_not_work_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ParamsError, match="checkpoint"):
        Checkpoint(**options)


NAMES = re.findall(r"`(\w+)`", README.partition("These names mean something there")[2].partition("\n\n")[0])


REFUSED = """
    build_weights evaluation extra_state forward_loss held_parameters is_finite load_module_modes
    load_step_state module_modes move_to parallel parts step_parts step_state trainable_parameters training
    traits transform_prediction
""".split()


@pytest.mark.parametrize("name", [name for name in NAMES if name != "data"])
def test_an_attribute_in_the_place_of_another_works_or_is_told(name: str, tmp_path: Path) -> None:
    class Careless(argus.Model):
        nn_module = Dense
        optimizer = torch.optim.SGD
        loss = nn.CrossEntropyLoss

        def __init__(self, params: Any) -> None:
            super().__init__(params)
            setattr(self, name, 1)

    if name in REFUSED:
        with pytest.raises(BuildError, match=f"Careless sets self.{name}, which argus_core.Model use"):
            Careless({})
        return
    model = Careless({})
    model.logger.disabled = True
    model.fit(*loaders(), metrics=["accuracy"], callbacks=[Checkpoint(tmp_path)])
    model.set_device("cpu")
    assert model.predict(torch.randn(2, 64)).shape == (2, 3)
    model.save(tmp_path / "model.pth", optimizer_state=True)
    assert argus.load_model(tmp_path / "model.pth").validate(loaders()[1])["val_loss"] > 0


def test_an_attribute_in_the_place_of_the_description_of_data_is_told() -> None:
    class Careless(argus.Model):
        nn_module = Dense
        optimizer = torch.optim.SGD
        loss = nn.CrossEntropyLoss

        def __init__(self, params: Any) -> None:
            super().__init__(params)
            self.data = params["data"]

    with pytest.raises(ParamsError, match=r"Careless\.data is a list; .* attribute of your own another name"):
        Careless({"data": [1]})


def test_a_loader_without_batches_is_told(model: argus.Model) -> None:
    with pytest.raises(ArgusError, match="the train loader gave no batches; give it data"):
        model.fit([])


def test_a_loss_without_steps_is_told() -> None:
    with pytest.raises(ArgusError, match="metric 'loss' has no steps; update it with a step output first"):
        Loss().compute()


def test_two_metrics_of_one_name_warn_and_the_newest_has_it() -> None:
    source = """
from argus.metrics import Metric

class {name}(Metric):
    name = "twice"

    def compute(self):
        return 1.0
"""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        exec(source.format(name="First"), {"__name__": "one"})
        with pytest.raises(ArgusWarning, match="metric 'twice' was one:First and is two:Second now; give"):
            exec(source.format(name="Second"), {"__name__": "two"})
    assert argus_core.resolve("metric", "twice").load().__name__ == "Second"


def test_a_metric_whose_name_has_spaces_works_as_an_instance(model: argus.Model) -> None:
    class Spaced(Metric):
        name = "right answers"

        def compute(self) -> float:
            return 1.0

    assert model.validate(loaders()[1], metrics=[Spaced()])["val_right answers"] == 1.0


def test_devices_that_are_not_cuda_have_no_indices() -> None:
    with pytest.raises(ValueError, match="device cpu is not a CUDA device; give CUDA devices only"):
        get_device_indices([torch.device("cpu")])
    assert get_device_indices([torch.device("cuda:1")]) == [1]


def test_what_cannot_be_pickled_is_refused() -> None:
    check_pickleble({"a": (1, torch.ones(1))})
    with pytest.raises(AttributeError, match="local object"):
        check_pickleble(lambda: None)


def test_an_exception_while_validating_ends_both_runs(model: argus.Model) -> None:
    seen: list[Any] = []

    class Note(Callback):
        def catch_exception(self, state: Any) -> None:
            seen.append((state.phase, type(state.exception).__name__))

    @argus.callbacks.on_iteration_start
    def break_down(state: Any) -> None:
        if state.epoch == 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.fit(*loaders(), callbacks=[Note()], val_callbacks=[Note(), break_down])
    assert seen == [("val", "KeyboardInterrupt"), ("train", "KeyboardInterrupt")]


def test_events_are_those_of_every_enum() -> None:
    assert [event.value for event in Events] == [
        *("start", "complete", "epoch_start", "epoch_complete"),
        *("iteration_start", "iteration_complete", "catch_exception"),
    ]
