"""The loop: the order of events, stopping, windows, counters and custom events."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from networks import Net, batches

import argus_core
from argus_core import (
    ArgusError,
    BuildError,
    Callback,
    Engine,
    Metric,
    Model,
    ParamsError,
    hookimpl,
    on_event,
)
from argus_core.callbacks.hooks import RunHooks
from argus_core.hooks import hookspec
from argus_core.steps.output import Window

EVENTS = [name for name in vars(RunHooks) if not name.startswith("_")]


@pytest.fixture
def model() -> Iterator[Model]:
    with argus_core.isolated_registry(builtins=True):
        argus_core.register("nn_module", "net", Net)
        yield Model(
            {
                "nn_module": "net",
                "loss": "CrossEntropyLoss",
                "optimizer": ("SGD", {"lr": 0.1}),
                "device": "cpu",
            }
        )


class Recorder(Callback):
    """Writes down every event it hears; its methods are made below."""

    def __init__(self) -> None:
        self.events: list[str] = []


def _listener(event: str) -> Callable[[Recorder, Any], None]:
    def listen(self: Recorder, state: Any) -> None:
        self.events.append(event)

    return listen


for _event in EVENTS:
    setattr(Recorder, _event, _listener(_event))


def test_events_come_in_the_documented_order(model: Model) -> None:
    recorder = Recorder()
    model.fit(batches((4, 4)), batches((4,)), num_epochs=1, callbacks=[recorder])
    assert recorder.events == [
        "start",
        "epoch_start",
        "iteration_start",
        "iteration_complete",
        "iteration_start",
        "iteration_complete",
        "validation_start",
        "validation_iteration_complete",
        "validation_complete",
        "epoch_complete",
        "complete",
    ]


def test_early_callbacks_come_first_and_late_ones_last_whatever_the_list_says(model: Model) -> None:
    order: list[str] = []

    class Early(Callback):
        @hookimpl(tryfirst=True)
        def start(self, state: Any) -> None:
            order.append("early")

    class Late(Callback):
        @hookimpl(trylast=True)
        def start(self, state: Any) -> None:
            order.append("late")

    class Plain(Callback):
        def __init__(self, name: str) -> None:
            self.label = name

        def start(self, state: Any) -> None:
            order.append(self.label)

    model.fit(batches((4,)), callbacks=[Late(), Plain("first"), Plain("second"), Early()])
    assert order == ["early", "first", "second", "late"]


def test_stopped_ends_the_run_after_the_current_iteration(model: Model) -> None:
    seen: list[tuple[int, int]] = []

    class Stop(Callback):
        def iteration_complete(self, state: Any) -> None:
            seen.append((state.epoch, state.iteration))
            state.stopped = len(seen) == 2

        def epoch_complete(self, state: Any) -> None:
            assert "train_loss" in state.metrics

    model.fit(batches((4, 4, 4)), num_epochs=3, callbacks=[Stop()])
    assert seen == [(0, 0), (0, 1)]


def test_counters_count_epochs_and_iterations_from_0(model: Model) -> None:
    seen: list[tuple[int, int, int]] = []

    class Count(Callback):
        def iteration_complete(self, state: Any) -> None:
            seen.append((state.epoch, state.iteration, state.global_step))

    model.fit(batches((4, 4)), num_epochs=2, callbacks=[Count()])
    assert seen == [(0, 0, 1), (0, 1, 2), (1, 0, 3), (1, 1, 4)]


def test_the_state_after_a_run_has_the_last_epoch(model: Model) -> None:
    engine = Engine(model.train_step, model)
    assert engine.run(batches((4,)), num_epochs=3).epoch == 2


def test_a_window_is_complete_except_for_the_real_tail(model: Model) -> None:
    sizes: list[int] = []
    engine = Engine(lambda batch, state: sizes.append(len(batch)) or {}, model, window_size=2)
    engine.run(batches((4, 4, 4, 4, 4)))
    assert sizes == [2, 2, 1]


def test_a_window_of_one_is_the_loader_batch_itself(model: Model) -> None:
    seen: list[Any] = []
    data = batches((4,))
    Engine(lambda batch, state: seen.append(batch) or {}, model).run(data)
    assert seen[0] is data[0]
    assert not isinstance(seen[0], Window)


def test_a_loader_may_be_a_generator_without_a_length(model: Model) -> None:
    engine = Engine(model.train_step, model)
    engine.run(batch for batch in batches((4, 4)))
    assert engine.num_batches is None
    assert engine.state.global_step == 2


def test_an_empty_loader_is_refused(model: Model) -> None:
    with pytest.raises(ArgusError, match="the train loader gave no batches; give it data"):
        model.fit([])
    with pytest.raises(ArgusError, match="the val loader gave no batches"):
        model.fit(batches((4,)), [])


def test_an_exception_is_shown_to_callbacks_and_raised_again(model: Model) -> None:
    seen: list[BaseException] = []

    class Fails(Callback):
        def iteration_complete(self, state: Any) -> None:
            raise RuntimeError("sensor unplugged")

        def catch_exception(self, state: Any) -> None:
            seen.append(state.exception)

    with pytest.raises(RuntimeError, match="sensor unplugged"):
        model.fit(batches(), callbacks=[Fails()])
    assert [str(error) for error in seen] == ["sensor unplugged"]


def test_a_callback_may_bring_events_of_its_own(model: Model) -> None:
    heard: list[int] = []

    class Sampling:
        @hookspec
        def sample_drawn(self, state: Any) -> None:
            """A sample was drawn."""

    class Sampler(Callback):
        hookspecs = (Sampling,)

        def iteration_complete(self, state: Any) -> None:
            state.engine.raise_event("sample_drawn")

    @on_event("sample_drawn")
    def listen(state: Any) -> None:
        heard.append(state.iteration)

    model.fit(batches((4, 4)), callbacks=[listen, Sampler()])
    assert heard == [0, 1]


def test_an_event_that_nobody_declared_is_named_with_near_ones(model: Model) -> None:
    engine = Engine(model.train_step, model)
    with pytest.raises(BuildError, match="no event 'epoch_completed'; did you mean 'epoch_complete'"):
        engine.raise_event("epoch_completed")


def test_phase_states_know_each_other(model: Model) -> None:
    phases: list[tuple[str, str]] = []

    class Phases(Callback):
        def epoch_complete(self, state: Any) -> None:
            val = state.phase_states["val"]
            phases.append((state.phase, val.phase))
            assert val.phase_states["train"] is state
            assert val.metrics["val_loss"] == state.metrics["val_loss"]

    model.fit(batches((4,)), batches((4,)), callbacks=[Phases()])
    assert phases == [("train", "val")]


def test_the_loop_does_not_read_the_loss(model: Model) -> None:
    outputs: list[Any] = []

    class Keep(Callback):
        def iteration_complete(self, state: Any) -> None:
            outputs.append(state.step_output)

    Engine(model.train_step, model, callbacks=[Keep()]).run(batches((4, 4)))
    assert all(not output._values for output in outputs)
    assert torch.is_tensor(outputs[0].loss_tensor)


def test_every_callback_sees_the_exception_even_if_one_fails_then(
    model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[str] = []

    @on_event("iteration_complete")
    def fail(state: Any) -> None:
        raise RuntimeError("sensor unplugged")

    @on_event("catch_exception")
    def fail_again(state: Any) -> None:
        raise OSError("disk full")

    @on_event("catch_exception")
    def note(state: Any) -> None:
        seen.append(str(state.exception))

    with pytest.raises(RuntimeError, match="sensor unplugged"):
        model.fit(batches(), callbacks=[fail, fail_again, note])
    assert seen == ["sensor unplugged"]
    assert "disk full" in caplog.text


@pytest.mark.parametrize("loader", [None, 3, lambda: iter(batches())])
def test_a_loader_that_cannot_be_gone_through_is_refused(loader: Any, model: Model) -> None:
    with pytest.raises(ParamsError, match="the train loader is .*; give an iterable of batches"):
        model.fit(loader)


def test_a_loader_may_have_getitem_alone_and_no_length(model: Model) -> None:
    class Stream:
        def __getitem__(self, index: int) -> Any:
            return batches()[index]

        def __len__(self) -> int:
            raise NotImplementedError

    stream: Any = Stream()
    assert Engine(model.train_step, model).run(stream).global_step == len(batches())


def test_a_generator_that_has_run_dry_is_named(model: Model) -> None:
    with pytest.raises(ArgusError, match="a generator gives them once, so make it a list or a DataLoader"):
        model.fit((batch for batch in batches()), num_epochs=2)


def test_a_metric_computes_a_number(model: Model) -> None:
    class Constant(Metric):
        name = "constant"

        def __init__(self, value: Any) -> None:
            self.value = value

        def update(self, step_output: Any) -> None:
            pass

        def compute(self) -> Any:
            return self.value

    metrics = model.fit(batches(), batches(), metrics=[Constant(torch.tensor(2))])
    assert type(metrics["val_constant"]) is float
    with pytest.raises(BuildError, match="metric 'constant' computed 'two', which is not a number"):
        model.fit(batches(), batches(), metrics=[Constant("two")])


@pytest.mark.parametrize("window_size", [0, None, 2.0, 10**30])
def test_a_window_takes_a_number_of_batches(window_size: Any, model: Model) -> None:
    with pytest.raises(BuildError, match="window_size is .*; it must be an integer"):
        Engine(model.train_step, model, window_size=window_size)
