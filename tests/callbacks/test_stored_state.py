"""State from a file is checked before a callback, metric, schedule or step strategy takes it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import batches, make_model, same_weights
from rewritten import changed_callback, changed_progress

import argus_core
from argus_core import ArgusError, CheckpointError, StateMismatchError, UnsafeCheckpointError
from argus_core.callbacks import Callback, Checkpoint
from argus_core.callbacks.epoch_report import EpochReport
from argus_core.callbacks.lr_schedule import build_schedules
from argus_core.registry.factory import build_many
from argus_core.storage.stored import COUNT
from argus_core.tensors.rng import check_random_state, random_state

pytestmark = pytest.mark.usefixtures("net_registry")

NAN, INF, HUGE = math.nan, math.inf, 10**400
NO_COUNTS = [-1, 1.0, True, "1", None, HUGE, NAN, [1], torch.ones(1)]
NO_BESTS = [NAN, INF, -INF, HUGE, True, "1", [1.0], {}, torch.ones(())]
NO_NAMES = [["../x"], ["/x"], ["x\0"], [5], "x", None, 5, {"x": 1}, [["x"]], torch.ones(1)]
NO_RATES = [HUGE, "1", True, [None], ["x"], {}, torch.ones(1), (1.0,)]
NO_TEXTS = [5, None, ["x"], {}]
BEST = {"best": NO_BESTS, "best_epoch": [-1, "x", 1.5, True, HUGE, [0]], "monitor": NO_TEXTS}
REPORT = {"lr": NO_RATES, "skipped_before": NO_COUNTS}

# Of every built-in callback: its parameters, and for each key of its state what is refused.
STATES: dict[str, tuple[dict[str, Any], dict[str, list[Any]]]] = {
    "checkpoint": ({"dir_path": "a"}, {"saved": NO_NAMES, "last_step": NO_COUNTS}),
    "monitor_checkpoint": (
        {"dir_path": "a"},
        {"saved": NO_NAMES, "last_step": NO_COUNTS, **BEST},
    ),
    "early_stopping": (
        {},
        {
            **BEST,
            "waited": NO_COUNTS,
            "best_step": NO_COUNTS,
            "best_seconds": [-1.0, NAN, INF, HUGE, True, "1"],
        },
    ),
    "logging_to_file": ({"file_path": "a"}, REPORT),
    "logging_to_csv": ({"file_path": "a"}, {**REPORT, "rows": NO_COUNTS, "table": NO_TEXTS}),
    "metrics_jsonl": ({"file_path": "a"}, {**REPORT, "lines": NO_COUNTS, "table": NO_TEXTS}),
    "progress": ({}, {**REPORT, **BEST}),
}
CASES = [
    (name, key, value)
    for name, (_, keys) in STATES.items()
    for key, values in keys.items()
    for value in values
]
OPTIONAL = {"monitor", "best_epoch", "best_step", "best_seconds", "table"}


def built(name: str) -> Any:
    (callback,) = build_many("callback", [(name, STATES[name][0])], "callbacks")
    return callback


def refused(part: Any, state: dict[str, Any], match: str, error: type[ArgusError]) -> None:
    with pytest.raises(error, match=match) as caught:
        part.load_state_dict(state)
    assert "\n" not in str(caught.value)


def test_every_built_in_callback_is_in_the_table() -> None:
    builtin = {name for name in argus_core.names("callback") if "/" not in name}
    providers = {name: argus_core.resolve("callback", name).provider for name in builtin}
    assert {name for name, provider in providers.items() if provider == "argus-torch"} == set(STATES)


@pytest.mark.parametrize("name", STATES)
def test_the_table_has_every_key_of_a_state_and_the_callback_takes_its_own(name: str) -> None:
    state = built(name).state_dict()
    assert set(state) == set(STATES[name][1])
    built(name).load_state_dict(state)


@pytest.mark.parametrize(("name", "key", "value"), CASES)
def test_a_value_that_a_callback_never_writes_is_refused(name: str, key: str, value: Any) -> None:
    match = f"the stored state of callback '{name}' is not as argus_core writes it: '{key}' is .*; it must be"
    refused(built(name), {**built(name).state_dict(), key: value}, match, UnsafeCheckpointError)


@pytest.mark.parametrize("name", STATES)
def test_missing_and_unknown_keys_are_refused(name: str) -> None:
    state = built(name).state_dict()
    for key in state.keys() - OPTIONAL - ({"best"} if name == "progress" else set()):
        kept = {other: value for other, value in state.items() if other != key}
        refused(built(name), kept, f"'{key}' is missing; do not trust this file", UnsafeCheckpointError)
    refused(
        built(name), {**state, "start": 5}, "'start' is unknown; it has .*; do not", UnsafeCheckpointError
    )


def test_a_subclass_with_a_state_of_its_own_may_add_keys() -> None:
    class Counting(Checkpoint):
        count = 0

        def state_dict(self) -> dict[str, Any]:
            return {**super().state_dict(), "count": self.count}

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            super().load_state_dict(state_dict)
            self.count = state_dict["count"]

    class Plain(EpochReport):
        def report(self, record: Any, state: Any) -> None: ...

        def state_dict(self) -> dict[str, Any]:
            return {**super().state_dict(), "more": 1}

    counting = Counting("a")
    counting.load_state_dict({"saved": [], "last_step": 0, "count": 3})
    assert counting.count == 3
    Plain().load_state_dict({"lr": None, "skipped_before": 0, "more": 1})


def test_a_subclass_that_declares_the_rules_of_its_state_is_held_to_them() -> None:
    class Counting(Checkpoint):
        def state_dict(self) -> dict[str, Any]:
            return {**super().state_dict(), "count": 0}

        def state_rules(self) -> Any:
            return {**super().state_rules(), "count": COUNT}

    state = Counting("a").state_dict()
    Counting("a").load_state_dict(state)
    refused(Counting("a"), {**state, "count": -1}, "'count' is -1; it must be", UnsafeCheckpointError)
    refused(Counting("a"), {**state, "more": 1}, "'more' is unknown", UnsafeCheckpointError)


def test_a_run_that_resumes_names_the_file_with_such_a_state(tmp_path: Path) -> None:
    callbacks = [
        ("checkpoint", {"dir_path": str(tmp_path), "optimizer_state": True}),
        ("early_stopping", {"monitor": "train_loss", "patience": 5}),
    ]
    make_model().fit(batches(), callbacks=callbacks)
    path = changed_callback(
        tmp_path / "model-000.safetensors",
        "early_stopping",
        lambda state: {**state, "best": {"$float": "nan"}},
    )
    with pytest.raises(UnsafeCheckpointError, match=f"{path}: the stored state of callback 'early_stopping'"):
        make_model().fit(batches(), num_epochs=2, callbacks=callbacks, resume=path)


@pytest.mark.parametrize("key", ["total", "count"])
@pytest.mark.parametrize(
    "value", ["x", None, True, HUGE, [1.0], torch.ones(3), torch.ones((), dtype=torch.bool)]
)
def test_a_value_that_a_metric_never_writes_is_refused(key: str, value: Any) -> None:
    for metric in build_many("metric", ["loss", "accuracy"], "metrics"):
        refused(metric, {"total": 1.0, "count": 2, key: value}, f"'{key}' is .*", UnsafeCheckpointError)


def test_a_metric_takes_numbers_and_tensors_of_one() -> None:
    (metric,) = build_many("metric", ["accuracy"], "metrics")
    for state in ({"total": NAN, "count": 3}, {"total": torch.ones(()), "count": torch.tensor(2)}):
        metric.load_state_dict(state)


# Schedules.

SCHEDULES: list[Any] = [
    ("StepLR", {"step_size": 2}),
    ("MultiStepLR", {"milestones": [1, 2]}),
    ("CosineAnnealingLR", {"T_max": 5}),
    ("CosineAnnealingWarmRestarts", {"T_0": 2}),
    ("OneCycleLR", {"max_lr": 1.0, "total_steps": 9}),
    ("CyclicLR", {"base_lr": 0.1, "max_lr": 1.0}),
    ("ReduceLROnPlateau", {"monitor": "train_loss"}),
    ("LambdaLR", {"lr_lambda": lambda epoch: 1.0}),
    ("SequentialLR", {"schedulers": ["ConstantLR", ("ExponentialLR", {"gamma": 0.5})], "milestones": [2]}),
    ("ChainedScheduler", {"schedulers": ["ConstantLR", ("ExponentialLR", {"gamma": 0.5})]}),
]


def schedule(spec: Any) -> Any:
    (built,) = build_schedules([spec], make_model(optimizer=("SGD", {"lr": 0.1, "momentum": 0.9})))
    return built


def wrong_values(value: Any) -> Iterator[Any]:
    """Yield values of other forms than that of a scheduler's attribute."""
    yield from ({"x": 1}, object)
    if value is not None and not isinstance(value, str):
        yield "x"
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield from (NAN, True, None, HUGE, [1])
    if isinstance(value, list):
        yield from ([*value, 1.0], [{}], 5)


@pytest.mark.parametrize("spec", SCHEDULES, ids=lambda spec: spec[0])
def test_a_schedule_takes_its_own_state_and_refuses_other_forms(spec: Any) -> None:
    state = schedule(spec).state_dict()
    schedule(spec).load_state_dict(state)
    for key, value in state["scheduler"].items():
        for wrong in wrong_values(value):
            changed = {**state, "scheduler": {**state["scheduler"], key: wrong}}
            refused(schedule(spec), changed, "the stored state does not fit lr_scheduler", StateMismatchError)


@pytest.mark.parametrize("key", ["step", "get_lr", "optimizer", "_update_lr", "__class__", "state_dict"])
def test_no_method_of_a_scheduler_is_replaced(key: str) -> None:
    state = schedule(SCHEDULES[0]).state_dict()
    changed = {**state, "scheduler": {**state["scheduler"], key: 5}}
    refused(
        schedule(SCHEDULES[0]), changed, f"it has '{key}', which does not belong to its", StateMismatchError
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [("stepped", 1), ("scheduler", 5), ("chosen", 5), ("chosen", {"gamma": torch.ones(2)}), ("more", 1)],
)
def test_a_value_that_a_schedule_never_writes_is_refused(key: str, value: Any) -> None:
    state = {**schedule(SCHEDULES[0]).state_dict(), key: value}
    refused(schedule(SCHEDULES[0]), state, f"lr_scheduler 'StepLR' .* '{key}' is", UnsafeCheckpointError)


def test_a_schedule_of_a_plugin_keeps_what_attributes_it_likes() -> None:
    class Growing(torch.optim.lr_scheduler.LRScheduler):
        def __init__(self, optimizer: Any) -> None:
            self.seen: list[int] = []
            super().__init__(optimizer)

        def get_lr(self) -> Any:
            self.seen.append(self.last_epoch)
            return [group["lr"] for group in self.optimizer.param_groups]

    argus_core.register("lr_scheduler", "growing", Growing)
    one, other = schedule("growing"), schedule("growing")
    one.scheduler.optimizer.step()
    one.scheduler.step()
    other.load_state_dict(one.state_dict())
    assert other.scheduler.seen == [0, 1]


# Step strategies.


@pytest.mark.parametrize(
    ("step", "state", "message"),
    [
        ("ema", {"updates": -1, "averages": {}}, "'updates' is -1"),
        ("ema", {"updates": 1, "averages": {"x": 5}}, "'averages' is"),
        ("ema", {"updates": 1, "averages": [1]}, "'averages' is"),
        ("ema", {"updates": 1}, "'averages' is missing"),
        (
            "ema",
            {"updates": 1, "averages": {"hidden.weight": torch.ones(1)}},
            "averages of step 'ema' do not",
        ),
        ("ema", {"updates": 1, "averages": {}, "set_up": 1}, "'set_up' is unknown"),
        (("amp", {"dtype": "float16"}), {"scale": NAN}, "'scale' is nan"),
        (("amp", {"dtype": "float16"}), {"scale": "x"}, "'scale' is 'x'"),
        (("amp", {"dtype": "float16"}), {"scale": 1.0}, "'growth_factor' is missing"),
        ("finite_guard", {"skipped": "1"}, "'skipped' is '1'"),
        ("finite_guard", {"skipped": HUGE}, "'skipped' is 1"),
        ("finite_guard", {}, "'skipped' is missing"),
        (("microbatch", {"chunks": 2, "halve_on_oom": True}), {"given": 5}, "'given' is 5"),
        (
            ("microbatch", {"chunks": 2, "halve_on_oom": True}),
            {"given": (2, None), "chunks": None, "size": -1},
            "'size' is -1",
        ),
    ],
)
def test_a_state_that_a_strategy_never_writes_is_refused(step: Any, state: Any, message: str) -> None:
    name = step if isinstance(step, str) else step[0]
    with pytest.raises(CheckpointError, match=message) as caught:
        make_model(step=step).load_step_state({name: state})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("step", ["ema", ("amp", {"dtype": "float16"}), "finite_guard"])
def test_a_strategy_takes_its_own_state(step: Any, tmp_path: Path) -> None:
    model = make_model(step=step)
    model.fit(batches())
    model.save(tmp_path / "model.safetensors")
    loaded = argus_core.load_model(tmp_path / "model.safetensors")
    assert loaded.step_state().keys() == model.step_state().keys()
    assert same_weights(loaded, model)


def test_a_callback_of_another_class_takes_nothing() -> None:
    Callback().load_state_dict({"anything": 5})


def with_numpy(rng: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**rng, "numpy": {**rng["numpy"], **changes}}


# numpy checks no position: it reads what lies in memory there, or ends the process.
BAD_GENERATORS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    **{
        f"numpy's position {position}": partial(with_numpy, rest=[position, 0, 0.0])
        for position in (-1, 625, 2.0, True, None)
    },
    "numpy's numbers are too few": partial(with_numpy, keys=torch.ones(3, dtype=torch.int64)),
    "numpy's numbers are 0": partial(with_numpy, keys=torch.zeros(624, dtype=torch.int64)),
    "numpy has another generator": partial(with_numpy, name="PCG64"),
    "Python's numbers are 0": lambda rng: {
        **rng,
        "python": {**rng["python"], "words": torch.tensor([0] * 624 + [1])},
    },
    "Python's next number is a word": lambda rng: {**rng, "python": {**rng["python"], "gauss": "1"}},
    "torch's bytes are others": lambda rng: {**rng, "torch": torch.zeros_like(rng["torch"])},
    "torch's bytes are too few": lambda rng: {**rng, "torch": rng["torch"][:-1]},
    "no mapping": lambda rng: {**rng, "numpy": 5},
}


@pytest.mark.parametrize("change", BAD_GENERATORS.values(), ids=BAD_GENERATORS)
def test_state_that_no_generator_has_is_refused(change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    before = random_state()
    with pytest.raises(StateMismatchError, match="does not fit the generators of random numbers: .*; resume"):
        check_random_state(change(before))
    assert torch.equal(torch.get_rng_state(), before["torch"])


def test_state_of_all_generators_is_taken() -> None:
    check_random_state(random_state())


@pytest.mark.parametrize("position", [-1, 625])
def test_state_that_no_generator_has_is_refused_before_the_run_begins(position: int, tmp_path: Path) -> None:
    keep = ("checkpoint", {"dir_path": str(tmp_path), "optimizer_state": True})
    make_model().fit(batches(), callbacks=[keep])
    (path,) = tmp_path.iterdir()
    rest = {"$tuple": [position, 0, 0.0]}
    changed_progress(path, lambda progress: {**progress, "rng": with_numpy(progress["rng"], rest=rest)})
    begun: list[int] = []
    heard = argus_core.on_start(lambda state: begun.append(1))
    with pytest.raises(
        StateMismatchError, match=f"numpy's position is {position} of 624; resume from another"
    ):
        make_model().fit(batches(), num_epochs=2, resume=path, callbacks=[heard])
    assert not begun
