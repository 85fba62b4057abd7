"""Monitoring a metric: it must be computed by somebody, and one must know which way is better."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import batches
from planned_runs import planned_run, small_model

from argus_core import BuildError, Callback, Engine, Model, ParamsError, State, on_epoch_complete
from argus_core.callbacks import EarlyStopping, MonitorCheckpoint
from argus_core.callbacks.monitor import Monitor, check_monitor, monitored_value
from argus_core.metrics import Accuracy


@pytest.fixture
def model() -> Iterator[Model]:
    with small_model() as model:
        yield model


class Count(Callback):
    """Says how many updates were made, so that a test sees whether a run began at all."""

    def __init__(self) -> None:
        self.updates = 0

    def iteration_complete(self, state: State) -> None:
        self.updates += 1


def test_missing_metric_is_told_at_the_start_with_the_near_names_and_all_that_are_computed(
    model: Model,
) -> None:
    weights = model.nn_module.out.weight.clone()
    with pytest.raises(
        BuildError,
        match=r"^early_stopping monitors 'val_acc', which is not computed; did you mean 'val_accuracy'\? "
        r"\(computed: train_loss, val_loss, val_accuracy\)$",
    ):
        model.fit(batches(), batches(), metrics=["accuracy"], callbacks=[EarlyStopping("val_acc")])
    assert torch.equal(model.nn_module.out.weight, weights)


def test_a_metric_that_is_not_computed_is_added_by_its_own_name(model: Model) -> None:
    with pytest.raises(
        BuildError, match=r"'val_mae', which is not computed; add 'mae' to metrics \(computed"
    ):
        model.fit(batches(), batches(), callbacks=[EarlyStopping("val_mae")])


@pytest.mark.parametrize(
    ("metric", "action"),
    [("accuracy", r"val_accuracy\)"), ("train_accuracy", r"val_accuracy; set metrics_on_train\)")],
)
def test_a_metric_of_the_run_is_not_to_be_added_again(metric: str, action: str, model: Model) -> None:
    with pytest.raises(BuildError, match=rf"did you mean '.*'\? \(computed: train_loss, val_loss, {action}$"):
        model.fit(batches(), batches(), metrics=["accuracy"], callbacks=[EarlyStopping(metric)])


@pytest.mark.parametrize("metric", ["val_loss", "val_accuracy"])
def test_missing_metric_of_validation_asks_for_validation_data(metric: str, model: Model) -> None:
    with pytest.raises(
        BuildError,
        match=rf"^monitor of early_stopping is '{metric}', and the run has no validation; give fit a "
        r"val_loader, choose another monitor, or let a callback compute it \(computed: train_loss\)$",
    ):
        model.fit(batches(), callbacks=[("early_stopping", {"monitor": metric})])


def test_missing_metric_of_an_engine_of_ones_own_may_come_from_a_callback(model: Model) -> None:
    engine = Engine(model.train_step, model, callbacks=[EarlyStopping("val_dice", better="max")])
    with pytest.raises(BuildError, match=r"or let a callback compute it \(computed: nothing\)$"):
        engine.run(batches())


def test_callback_may_validate_by_itself_without_declaring_it(model: Model) -> None:
    validate = on_epoch_complete(lambda state: state.metrics.update(val_loss=1.0))
    metrics = model.fit(batches(), num_epochs=2, callbacks=[validate, "early_stopping"])
    assert metrics["val_loss"] == 1.0


@pytest.mark.parametrize("where", ["callbacks", "val_callbacks"])
@pytest.mark.parametrize("as_function", [True, False])
def test_missing_metric_is_told_after_the_first_epoch_where_a_callback_could_compute_it(
    where: str, as_function: bool, model: Model
) -> None:
    own: Any = on_epoch_complete(lambda state: None) if as_function else Count()
    counter = Count()
    arguments: dict[str, Any] = {"callbacks": [EarlyStopping("dice", better="max")], "val_callbacks": []}
    arguments[where].append(own)
    arguments["callbacks"].append(counter)
    with pytest.raises(
        BuildError,
        match=r"monitors 'dice', which is not computed; add a metric that computes it to metrics \(computed",
    ):
        model.fit(batches(), batches(), 3, **arguments)
    assert counter.updates == len(batches())


def test_missing_metric_is_told_after_the_first_epoch_where_a_step_of_ones_own_could_compute_it() -> None:
    class Own(Model):
        def train_step(self, batch: Any, state: Any = None) -> Any:
            state.metrics["grad_norm"] = 1.0
            return super().train_step(batch, state)

    with small_model() as model:
        own = Own({key: model.params[key] for key in ("nn_module", "loss", "optimizer", "device")})
    own.fit(batches(), num_epochs=2, callbacks=[EarlyStopping("grad_norm", better="min")])


class Gap(Callback):
    """Says what it computes."""

    computes: Any = ("gap",)

    def epoch_complete(self, state: Any) -> None:
        state.metrics["gap"] = 1.0


@on_epoch_complete
def add_gap(state: Any) -> None:
    state.metrics["gap"] = 1.0


add_gap.computes = ("gap",)


@pytest.mark.parametrize("declared", [Gap(), add_gap], ids=["class", "function"])
def test_declared_value_of_a_callback_is_monitored_and_a_slip_is_told_at_the_start(
    declared: Any, model: Model
) -> None:
    model.fit(batches(), callbacks=[declared, EarlyStopping("gap", better="min")])
    counter = Count()
    counter.computes = ()
    with pytest.raises(BuildError, match=r"did you mean 'gap'\? \(computed: train_loss, gap\)"):
        model.fit(batches(), callbacks=[declared, EarlyStopping("gapp", better="min"), counter])
    assert counter.updates == 0


@pytest.mark.parametrize(
    "options",
    [
        {"validate_every": "1up"},
        {"validate_every": "1h"},
        {"log_every": "1up"},
        {"max_time": "1h"},
        {"limit_val": 1},
    ],
)
def test_slip_is_told_at_the_start_with_each_option_of_a_run(options: Any, model: Model) -> None:
    counter = Count()
    counter.computes = ()
    with pytest.raises(BuildError, match="early_stopping monitors 'val_los', which is not"):
        model.fit(
            batches(), batches(), callbacks=[EarlyStopping("val_los", better="min"), counter], **options
        )
    assert counter.updates == 0


@pytest.mark.parametrize(("better", "values"), [
    ("min", [3.0, 2.0, 2.0, 2.5, 2.0]), ("max", [1.0, 4.0, 4.0, 3.0, 4.0]),
])  # fmt: skip
def test_of_equal_values_the_first_is_the_best(
    better: str, values: list[float], model: Model, tmp_path: Path
) -> None:
    keep = MonitorCheckpoint(tmp_path, "train_loss", better, max_saves=1, file_format="{epoch}.safetensors")
    stop = EarlyStopping("train_loss", patience=3, better=better)
    state = planned_run(model, values, keep, stop)
    assert keep.monitor.epoch == 1
    assert [path.name for path in tmp_path.iterdir()] == ["1.safetensors"]
    assert state.stop_reason is not None  # an equal value is no improvement


def test_subclass_says_for_itself_what_it_computes(model: Model) -> None:
    class Unsaid(EarlyStopping):
        def epoch_start(self, state: Any) -> None:
            state.metrics["dice"] = 1.0

    model.fit(batches(), callbacks=[Unsaid("dice", better="max")])


def test_step_that_wraps_the_models_own_may_compute_anything(model: Model) -> None:
    step = model.train_step

    @functools.wraps(step)
    def traced(batch: Any, state: Any) -> Any:
        state.metrics["grad_norm"] = 1.0
        return step(batch, state)

    model.train_step = traced  # type: ignore[method-assign]
    model.fit(batches(), callbacks=[EarlyStopping("grad_norm", better="min")])


def test_declared_values_are_several_names(model: Model) -> None:
    gap = Gap()
    gap.computes = "gap"
    with pytest.raises(BuildError, match=r"computes of Gap is 'gap'; it must be .*, such as \('gap',\)"):
        model.fit(batches(), callbacks=[gap, EarlyStopping("gap", better="min")])


class PerClass(Accuracy):
    """Has a value for each class."""

    name = "per_class"
    several = True

    def compute(self) -> Any:
        return {"0": super().compute(), "1": 0.5}


def test_one_of_a_metrics_several_values_is_monitored_its_way(model: Model) -> None:
    callback = EarlyStopping("val_per_class_1", patience=5)
    model.fit(batches(), batches(), num_epochs=2, metrics=[PerClass()], callbacks=[callback])
    assert callback.monitor.best == 0.5


def test_a_value_that_a_metric_of_several_does_not_have_is_told_after_the_first_epoch(model: Model) -> None:
    callback = EarlyStopping("val_per_class_7")
    with pytest.raises(BuildError, match=r"monitors 'val_per_class_7', which is not computed; did you mean"):
        model.fit(batches(), batches(), metrics=[PerClass()], callbacks=[callback])


def test_direction_that_a_metric_does_not_have_must_be_told(model: Model) -> None:
    metric = PerClass()
    metric.better = None
    with pytest.raises(
        BuildError,
        match="early_stopping monitors 'val_per_class_0', whose metric does not declare a direction; set "
        "better='min' or 'max'",
    ):
        model.fit(batches(), batches(), metrics=[metric], callbacks=[EarlyStopping("val_per_class_0")])


def test_direction_of_an_unknown_metric_must_be_told(model: Model) -> None:
    counter = Count()
    with pytest.raises(
        BuildError,
        match=r"early_stopping monitors 'train_dice', which is not a metric of this run; "
        r"did you mean 'train_loss'\?; if a callback computes it, set better='min' or 'max' "
        r"\(computed: train_loss\)",
    ):
        model.fit(batches(), callbacks=[EarlyStopping("train_dice"), counter])
    assert counter.updates == 0


@pytest.mark.parametrize(("metric", "best"), [("train_dice_loss", 1.0), ("train_loss", 2.0)])
def test_losses_are_better_low(metric: str, best: float, model: Model) -> None:
    class Measure(Callback):
        def epoch_complete(self, state: State) -> None:
            state.metrics["train_dice_loss"] = [3.0, 1.0, 2.0][state.epoch]

    callback = EarlyStopping(metric, patience=5)
    planned_run(model, [4.0, 3.0, 2.0], callback, Measure())
    assert callback.monitor.best == best


def test_direction_is_the_metrics_own(model: Model) -> None:
    class Measure(Accuracy):
        name = "success_loss"  # in spite of its name

        def compute(self) -> float:
            self.values = getattr(self, "values", [0.9, 0.8, 0.95])
            return self.values.pop()

    callback = EarlyStopping("val_success_loss", patience=5)
    model.fit(batches(), batches(), 3, metrics=[Measure()], callbacks=[callback])
    assert callback.monitor.best == 0.95


@pytest.mark.parametrize("better", ["", "high", None, 1])
def test_unknown_direction_is_refused(better: Any) -> None:
    with pytest.raises(ParamsError, match="better of early_stopping is .+; give 'auto', 'min' or 'max'"):
        EarlyStopping(better=better)


@pytest.mark.parametrize("metric", ["", None, 3])
def test_monitor_that_is_no_name_is_refused(metric: Any) -> None:
    with pytest.raises(
        ParamsError, match="monitor of early_stopping is .+; give the name of a metric, such as 'val_loss'"
    ):
        EarlyStopping(monitor=metric)


def test_metric_that_is_already_there_is_known(model: Model) -> None:
    state = planned_run(model, [1.0])
    state.metrics["restored"] = 3.0
    check_monitor("lr_scheduler", "restored", state)
    assert monitored_value("lr_scheduler", "restored", state) == 3.0


def test_best_is_none_before_the_first_value() -> None:
    assert Monitor("early_stopping", "val_loss").best is None
