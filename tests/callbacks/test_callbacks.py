"""Callbacks: events reach them, misspelled ones are caught, functions become callbacks."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Any

import pytest
from planned_runs import planned_engine, planned_run, small_model

import argus_core
from argus_core import BuildError, Callback, Model, State, hookimpl, on_event
from argus_core.callbacks import FunctionCallback
from argus_core.callbacks.hooks import RunHooks
from argus_core.hooks import hookspec
from argus_core.registry.factory import build_many

DECORATORS = [name for name in argus_core.__all__ if name.startswith("on_") and name != "on_event"]


@pytest.fixture
def model() -> Iterator[Model]:
    with small_model() as model:
        yield model


@pytest.mark.parametrize("decorator", DECORATORS)
def test_decorated_function_is_called_at_its_event(decorator: str, model: Model) -> None:
    seen: list[State] = []
    event = decorator.removeprefix("on_")

    @getattr(argus_core, decorator)  # type: ignore[untyped-decorator]
    def note(state: State) -> None:
        seen.append(state)

    class Failing(Callback):
        def complete(self, state: State) -> None:
            raise RuntimeError("end")

    engine = planned_engine(model, [1.0], [note, Failing()])
    with pytest.raises(RuntimeError, match="end"):
        engine.run([0, 1])
    times = {"iteration_start": 2, "iteration_complete": 2}.get(event, 1)
    assert seen == [engine.state] * times


def test_every_decorator_has_a_built_in_event() -> None:
    assert {name.removeprefix("on_") for name in DECORATORS} <= set(vars(RunHooks))


def test_function_may_name_its_argument_as_it_likes(model: Model) -> None:
    epochs = []
    planned_run(model, [1.0, 2.0], on_event("epoch_complete")(lambda s: epochs.append(s.epoch)))
    assert epochs == [0, 1]


def test_decorated_function_keeps_its_name_and_can_still_be_called() -> None:
    @on_event("start")
    def greet(state: Any) -> str:
        return f"hello {state}"

    assert greet("you") == "hello you"
    assert greet.name == "greet"
    assert repr(greet) == "<on_start greet>"


def test_object_with_call_becomes_a_callback(model: Model) -> None:
    class Counter:
        count = 0

        def __call__(self, state: State) -> None:
            self.count += 1

    counter = Counter()
    callback = FunctionCallback("iteration_complete", counter)
    planned_run(model, [1.0], callback, updates=3)
    assert counter.count == 3
    assert callback.name == "Counter"


class ProbeEvents:
    @hookspec
    def probed(self, state: State) -> None:
        """The probe was read."""


class Probe(Callback):
    hookspecs = (ProbeEvents,)

    def iteration_complete(self, state: State) -> None:
        state.engine.raise_event("probed")


def test_function_listens_to_an_event_of_another_callback(model: Model) -> None:
    seen = []
    planned_run(model, [1.0], on_event("probed")(lambda state: seen.append(state.iteration)), Probe())
    assert seen == [0, 1]


def test_function_for_an_event_that_the_run_does_not_have_is_refused(model: Model) -> None:
    @on_event("probd")
    def note(state: State) -> None: ...

    with pytest.raises(
        BuildError,
        match=r"function 'note' handles 'probd', which is not an event of this run; did you mean 'probed'\?; "
        "add the callback whose hookspecs declare it",
    ):
        planned_engine(model, [1.0], [note, Probe()])


@pytest.mark.parametrize(
    ("misspelled", "meant"),
    [
        ("epoch_completed", "epoch_complete"),
        ("on_epoch_start", "epoch_start"),
        ("iteration_completed", "iteration_complete"),
        ("catch_exceptions", "catch_exception"),
        ("starts", "start"),
    ],
)
def test_misspelled_event_is_refused(misspelled: str, meant: str, model: Model) -> None:
    callback = type("Note", (Callback,), {misspelled: lambda self, state: None})()
    with pytest.raises(
        BuildError,
        match=rf"callback Note has a method '{misspelled}', which is not an event; did you mean '{meant}'\?",
    ):
        planned_engine(model, [1.0], [callback])


@pytest.mark.parametrize(
    ("name", "arguments", "meant"),
    [
        ("on_train_epoch_end", ("trainer", "pl_module"), "epoch_complete"),
        ("on_epoch_end", ("epoch", "logs=None"), "epoch_complete"),
        (
            "on_train_batch_end",
            ("trainer", "pl_module", "outputs", "batch", "batch_idx"),
            "iteration_complete",
        ),
        ("on_step_end", ("args", "state", "control", "**kwargs"), "iteration_complete"),
        ("on_exception", ("trainer", "pl_module", "exception"), "catch_exception"),
        ("on_complete", (), "complete"),
        ("epoch_end", ("state",), "epoch_complete"),
    ],
)
def test_event_by_the_name_of_another_framework_is_refused(
    name: str, arguments: tuple[str, ...], meant: str, model: Model
) -> None:
    method = eval(f"lambda {', '.join(('self', *arguments))}: None")
    callback = type("Note", (Callback,), {name: method})()
    with pytest.raises(BuildError, match=f"method '{name}', which is not an event; did you mean '{meant}'"):
        planned_engine(model, [1.0], [callback])


def test_ordinary_method_is_no_event_of_another_framework(model: Model) -> None:
    class Note(Callback):
        def save_checkpoint(self, state: State) -> None: ...

        def exception(self, error: Exception) -> None: ...

    planned_engine(model, [1.0], [Note()])


def test_callback_that_calls_a_method_by_another_name_itself_is_used(model: Model) -> None:
    class Note(Callback):
        calls = 0

        def epoch_complete(self, state: State) -> None:
            self.on_epoch_end(state.epoch)

        def on_epoch_end(self, epoch: int) -> None:
            self.calls += 1

    note = Note()
    planned_run(model, [1.0], note)
    assert note.calls == 1


def test_misspelled_custom_event_is_refused(model: Model) -> None:
    class Note(Callback):
        def probed_(self, state: State) -> None: ...

    with pytest.raises(BuildError, match="method 'probed_', which is not an event; did you mean 'probed'"):
        planned_engine(model, [1.0], [Note(), Probe()])


def test_method_marked_as_a_hook_that_is_no_event_is_refused(model: Model) -> None:
    class Note(Callback):
        @hookimpl
        def whenever(self, state: State) -> None: ...

    with pytest.raises(
        BuildError, match="callback Note marks 'whenever' with hookimpl, and it is not an event; events are"
    ):
        planned_engine(model, [1.0], [Note()])


def test_other_methods_are_left_alone(model: Model) -> None:
    class Note(Callback):
        def save(self, state: State) -> None: ...
        def summary(self, state: State, width: int = 3) -> None: ...
        def epoch_completes(self, state: State, total: int) -> None: ...
        def _epoch_completed(self, state: State) -> None: ...

        starts = 3
        update = {}.update

    planned_run(model, [1.0], Note())


@pytest.mark.parametrize(
    "method",
    [
        lambda self: None,
        lambda self, other: None,
        lambda self, state, other: None,
        lambda self, *, state: None,
        lambda self, verbose=False: None,
    ],
)
def test_event_method_with_other_arguments_is_refused(method: Any, model: Model) -> None:
    callback = type("Note", (Callback,), {"epoch_complete": method})()
    with pytest.raises(
        BuildError, match=r"callback Note: epoch_complete\(.*\) cannot handle an event.*; write epoch_com"
    ):
        planned_engine(model, [1.0], [callback])


@pytest.mark.parametrize("method", [lambda self, state, note="": None, lambda self, *args: None])
def test_event_method_may_have_further_arguments_with_defaults(method: Any, model: Model) -> None:
    planned_run(model, [1.0], type("Note", (Callback,), {"epoch_complete": method})())


@pytest.mark.parametrize("function", [lambda: None, lambda state, other: None])
def test_function_with_other_arguments_is_refused(function: Any) -> None:
    with pytest.raises(BuildError, match="cannot handle an event, which passes one argument"):
        on_event("start")(function)


def test_function_without_a_signature_is_taken_as_it_is() -> None:
    assert on_event("start")({}.update).name == "update"


def test_decorating_what_is_no_function_is_refused() -> None:
    with pytest.raises(BuildError, match="on_start decorates 3; give it a function that takes the state"):
        argus_core.on_start(3)  # type: ignore[arg-type]


def test_callback_without_state_has_an_empty_one() -> None:
    callback = Callback()
    callback.load_state_dict(callback.state_dict())
    assert callback.state_dict() == {}


def test_callback_is_named_by_its_class() -> None:
    class Note(Callback):
        pass

    assert Note().name == "Note"


@pytest.mark.parametrize(
    "name",
    ["checkpoint", "monitor_checkpoint", "early_stopping", "logging_to_csv", "metrics_jsonl", "progress"],
)
def test_built_in_callback_is_named_as_it_is_registered(name: str) -> None:
    with argus_core.isolated_registry(builtins=True):
        assert argus_core.resolve("callback", name).load().name == name


def test_early_and_late_methods_frame_those_in_the_listed_order(model: Model) -> None:
    order: list[str] = []

    def noting(name: str, mark: Any) -> Any:
        def epoch_complete(self: Any, state: State) -> None:
            order.append(name)

        return type(name, (Callback,), {"epoch_complete": mark(epoch_complete)})()

    late, early = noting("late", hookimpl(trylast=True)), noting("early", hookimpl(tryfirst=True))
    planned_run(model, [1.0], late, noting("first", hookimpl), noting("second", lambda method: method), early)
    assert order == ["early", "first", "second", "late"]


@pytest.mark.parametrize("value", [5, object(), lambda state: None, {"progress"}, [None]])
def test_what_listens_to_no_event_is_refused(value: Any, model: Model) -> None:
    with pytest.raises(
        BuildError, match="callbacks has .*, which has no method for an event; give a name, a spec"
    ):
        planned_engine(model, [1.0], build_many("callback", value, "callbacks"))


def test_what_listens_to_no_event_is_told_without_its_place_in_memory(model: Model) -> None:
    class Plain: ...

    for value, said in ((Plain(), f"an object of class {Plain.__qualname__}"), (print, "the function print")):
        with pytest.raises(
            BuildError, match=f"^callbacks has {re.escape(said)}, which has no method for an event"
        ):
            planned_engine(model, [1.0], [value])


def test_method_with_other_arguments_is_told_in_a_sentence_without_its_place_in_memory(model: Model) -> None:
    class Plain:
        def epoch_complete(self, state: State, epoch: int) -> None: ...

    message = (
        r"^callback Plain cannot be attached: Plugin 'Plain' for hook 'epoch_complete' .*"
        r"\{'epoch'\}.*; write its methods with the one argument state$"
    )
    with pytest.raises(BuildError, match=message):
        planned_engine(model, [1.0], [Plain()])


def test_object_of_any_class_may_listen(model: Model) -> None:
    class Counter:
        count = 0

        def epoch_complete(self, state: Any) -> None:
            self.count += 1

    counter = Counter()
    planned_run(model, [1.0], counter)
    assert counter.count == 1


def test_class_in_the_place_of_a_callback_is_refused(model: Model) -> None:
    with pytest.raises(BuildError, match=r"callback Callback is a class; give an instance, Callback\(\)"):
        planned_engine(model, [1.0], [Callback])


def test_callback_that_is_listed_twice_is_refused(model: Model) -> None:
    callback = Callback()
    with pytest.raises(BuildError, match="callback Callback is listed twice, the same object; list it once"):
        planned_engine(model, [1.0], [callback, callback])


def test_property_of_a_callback_is_not_read_before_the_run(model: Model) -> None:
    class Reports(Callback):
        @property
        def report(self) -> str:
            raise RuntimeError("nothing was written")

    planned_run(model, [1.0], Reports())


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (3, "3"),
        (None, "None"),
        (functools.partial(print), r"functools.partial\(.*\)"),
        (int, "the class int"),
    ],
)
def test_event_that_is_not_a_method_is_told(value: Any, said: str, model: Model) -> None:
    class Plain:
        def __init__(self) -> None:
            self.start = value

        def epoch_complete(self, state: State) -> None: ...

    reason = rf"callback Plain has {said} as start, which is not a method; write def start\(self, state\)"
    with pytest.raises(BuildError, match=reason):
        planned_engine(model, [1.0], [Plain()])


def test_event_may_be_a_function_in_an_attribute_of_the_instance(model: Model) -> None:
    class Plain:
        def __init__(self) -> None:
            self.epoch_complete = lambda state: epochs.append(state.epoch)

    epochs: list[int] = []
    planned_run(model, [1.0], Plain())
    assert epochs == [0]
