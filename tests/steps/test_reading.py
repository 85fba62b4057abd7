"""Who reads predictions: kept for that long, given to metrics part by part, and taken back with an update."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import batches, make_model
from strategies import CUT
from torch import Tensor, nn

import argus_core
from argus_core import (
    ArgusError,
    Callback,
    Metric,
    Model,
    State,
    StepOutput,
    on_epoch_complete,
    on_iteration_complete,
)
from argus_core.callbacks import EarlyStopping
from argus_core.callbacks.checkpoints import Checkpoint

pytestmark = pytest.mark.usefixtures("net_registry")

SIZES = (4, 4, 4, 2)
PARTS = {"accumulate": ("accumulate", {"steps": 4}), "microbatch": ("microbatch", {"size": 1}), "both": CUT}
BUILT_IN = ["progress", ("checkpoint", {"dir_path": "run"}), ("logging_to_file", {"file_path": "log.txt"})]


@pytest.fixture
def alive(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, net_registry: None) -> list[int]:
    """The numbers of earlier predictions whose memory is in use at the start of each forward pass."""
    monkeypatch.chdir(tmp_path)
    counts: list[int] = []
    memory: list[weakref.ref[Any]] = []

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hidden = nn.Linear(4, 3)

        def forward(self, input: Tensor) -> Tensor:
            counts.append(sum(each() is not None for each in memory))
            logits: Tensor = self.hidden(input)
            memory.append(weakref.ref(logits.untyped_storage()))
            return logits

    argus_core.register("nn_module", "counting", Network)
    return counts


def model(*steps: Any, cls: type[Model] = Model, **params: Any) -> Model:
    return cls({**make_model().params, "nn_module": "counting", "step": list(steps), **params})


@pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS)
@pytest.mark.parametrize("metrics", [[], ["accuracy"]], ids=str)
def test_with_built_in_callbacks_one_prediction_is_kept_at_a_time(
    alive: list[int], parts: Any, metrics: list[str]
) -> None:
    steps = parts if isinstance(parts, list) else [parts]
    model(*steps).fit(
        batches(SIZES),
        batches(SIZES),
        metrics=metrics,
        metrics_on_train=True,
        callbacks=BUILT_IN,
        num_epochs=2,
    )
    assert set(alive) == {0}


def test_without_strategies_no_prediction_outlives_its_update(alive: list[int]) -> None:
    model().fit(
        batches(SIZES), batches(SIZES), metrics=["accuracy"], metrics_on_train=True, callbacks=BUILT_IN
    )
    assert set(alive) == {0}


@pytest.mark.parametrize("step", ["sam", "closure"])
def test_a_procedure_keeps_one_prediction_at_a_time(alive: list[int], step: str) -> None:
    model(step, ("microbatch", {"size": 1})).fit(batches(SIZES), metrics=["accuracy"], metrics_on_train=True)
    assert set(alive) == {0}


def test_a_callback_that_reads_predictions_keeps_those_of_one_window(alive: list[int]) -> None:
    seen: list[int] = []

    @on_iteration_complete
    def note(state: State) -> None:
        seen.append(len(state.step_output["prediction"]))

    model(("accumulate", {"steps": 2})).fit(batches((4, 4, 4, 2)), callbacks=[note], num_epochs=2)
    assert seen == [8, 6, 8, 6]
    assert max(alive) == 1


def test_a_callback_may_read_the_last_outputs_of_both_phases_after_an_epoch() -> None:
    seen: list[tuple[int, int]] = []

    @on_epoch_complete
    def note(state: State) -> None:
        states = state.phase_states
        seen.append(
            (len(states["train"].step_output["prediction"]), len(states["val"].step_output["target"]))
        )

    make_model(step=("accumulate", {"steps": 3})).fit(batches((4, 3, 2)), batches((5, 1)), callbacks=[note])
    assert seen == [(9, 1)]


def test_a_subclass_of_a_built_in_callback_may_read_predictions() -> None:
    class Seeing(EarlyStopping):
        def iteration_complete(self, state: State) -> None:
            assert len(state.step_output["prediction"]) == 7

    make_model(step=("accumulate", {"steps": 2})).fit(batches((4, 3)), callbacks=[Seeing("train_loss")])


def test_a_callback_that_denies_reading_keeps_nothing_and_is_told_so() -> None:
    class Denies(Callback):
        reads_predictions = False

        def iteration_complete(self, state: State) -> None:
            assert list(state.step_output) == ["loss"]
            assert "'loss': " in repr(state.step_output)
            state.step_output["prediction"]

    with pytest.raises(ArgusError, match="set reads_predictions = True in the class of the callback"):
        make_model().fit(batches((4,)), callbacks=[Denies()])


def test_a_function_may_deny_reading() -> None:
    @on_epoch_complete
    def note(state: State) -> None:
        assert list(state.step_output) == ["loss"]

    note.reads_predictions = False
    make_model().fit(batches((4,)), callbacks=[note])


def test_a_step_that_is_called_by_hand_returns_predictions() -> None:
    hand = make_model(step=("microbatch", {"size": 2}))
    output = hand.train_step(batches((5,))[0])
    assert len(output["prediction"]) == len(output["target"]) == 5
    assert len(hand.val_step(batches((5,))[0])["prediction"]) == 5


def test_a_train_step_that_calls_the_usual_one_gets_predictions_and_counts_once() -> None:
    class Wraps(Model):
        def train_step(self, batch: Any, state: Any = None) -> Mapping[str, Any]:
            output = super().train_step(batch, state)
            return {**output, "loss": output["loss"] * 2}

    params = make_model().params
    torch.manual_seed(0)
    wrapped = Wraps(params)
    torch.manual_seed(0)
    usual = Model(params)
    data = batches(SIZES)
    doubled = wrapped.fit(data, metrics=["accuracy"], metrics_on_train=True)
    expected = usual.fit(data, metrics=["accuracy"], metrics_on_train=True)
    assert doubled["train_loss"] == pytest.approx(expected["train_loss"] * 2)
    assert doubled["train_accuracy"] == expected["train_accuracy"]


def test_a_step_that_wraps_the_usual_one_may_keep_what_it_returns() -> None:
    kept: list[Any] = []
    hand = make_model()
    usual = hand.train_step

    @functools.wraps(usual)
    def keeping(batch: Any, state: Any = None) -> Any:
        kept.append(usual(batch, state))
        return kept[-1]

    hand.train_step = keeping
    hand.fit(batches((4, 3)))
    assert [len(output["prediction"]) for output in kept] == [4, 3]


# Parts.


class Targets(Metric):
    """Keeps the targets that it sees, and declares no state."""

    name = "targets"

    def reset(self) -> None:
        self.seen: list[list[int]] = []

    def update(self, step_output: Mapping[str, Any]) -> None:
        assert len(step_output["prediction"]) == len(step_output["target"])
        self.seen.append(step_output["target"].tolist())

    def compute(self) -> float:
        return float(len(self.seen))


@pytest.mark.parametrize("callbacks", [[], [on_iteration_complete(lambda state: None)]], ids=["none", "one"])
def test_a_metric_sees_each_micro_batch_by_itself(callbacks: list[Any]) -> None:
    metric, data = Targets(), batches((4, 3))
    make_model(step=("accumulate", {"steps": 2})).fit(
        data, metrics=[metric], metrics_on_train=True, callbacks=callbacks
    )
    assert metric.seen == [target.tolist() for _, target in data]


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.out = nn.Embedding(10, 8), nn.Linear(8, 5)

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.out(self.embed(tokens))
        return logits.transpose(1, 2)


def padded(lengths: tuple[int, ...] = (7, 5, 9)) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        (
            torch.randint(10, (4, length), generator=generator),
            torch.randint(5, (4, length), generator=generator),
        )
        for length in lengths
    ]


@pytest.mark.parametrize("steps", [("accumulate", {"steps": 2}), ("microbatch", {"size": 3})], ids=str)
@pytest.mark.parametrize("callbacks", [[], [on_iteration_complete(lambda state: None)]], ids=["none", "one"])
def test_metrics_take_parts_of_several_shapes(steps: Any, callbacks: list[Any]) -> None:
    argus_core.register("nn_module", "tagger", Tagger)
    params = {"nn_module": "tagger", "optimizer": ("SGD", {"lr": 0.0})}
    options: dict[str, Any] = {"metrics": ["accuracy", "top_k_accuracy"], "metrics_on_train": True}
    torch.manual_seed(0)
    expected = make_model(**params).fit(padded(), padded(), **options)
    torch.manual_seed(0)
    found = make_model(**params, step=steps).fit(padded(), padded(), **options, callbacks=callbacks)
    assert found == pytest.approx(expected, rel=1e-6)


def test_predictions_of_several_shapes_are_read_as_a_list() -> None:
    argus_core.register("nn_module", "tagger", Tagger)
    shapes: list[Any] = []

    @on_iteration_complete
    def note(state: State) -> None:
        shapes.extend(tuple(each.shape) for each in state.step_output["prediction"])
        assert torch.allclose(state.step_output["prediction"][1].sum(1), torch.ones(4, 5))
        shapes.extend(tuple(each.shape) for each in state.step_output["target"])

    tagger = make_model(
        nn_module="tagger", step=("accumulate", {"steps": 2}), prediction_transform=("Softmax", {"dim": 1})
    )
    tagger.fit(padded((7, 5)), callbacks=[note])
    assert shapes == [(4, 5, 7), (4, 5, 5), (4, 7), (4, 5)]


# An update that comes to nothing.


class Raising(Model):
    calls = 0
    fails_at = 0

    def forward_loss(self, batch: Any) -> tuple[Any, Any, Tensor]:
        type(self).calls += 1
        if self.calls == self.fails_at:
            raise RuntimeError("the data ended")
        return super().forward_loss(batch)


def test_a_run_that_goes_on_after_an_exception_in_mid_update_counts_each_part_once(tmp_path: Path) -> None:
    argus_core.register("model", "Raising", Raising, override=True)
    data = batches((4,) * 8)
    params = {**make_model().params, "step": ("accumulate", {"steps": 4})}
    options: dict[str, Any] = {"metrics": ["accuracy"], "metrics_on_train": True}

    def fitted(**more: Any) -> Any:
        torch.manual_seed(0)
        Raising.calls = 0
        return Raising(params).fit(data, **options, **more)

    Raising.fails_at = 0
    expected = fitted()
    Raising.fails_at = 7  # the third part of the second update
    saving = Checkpoint(tmp_path, every="1up", optimizer_state=True, save_after_exception=True)
    with pytest.raises(RuntimeError, match="the data ended"):
        fitted(callbacks=[saving])
    Raising.fails_at = 0
    assert fitted(resume=tmp_path) == expected


def test_an_update_that_is_made_again_with_less_memory_counts_each_part_once() -> None:
    class Small(Model):
        def forward_loss(self, batch: Any) -> tuple[Any, Any, Tensor]:
            if len(batch[0]) > 4:
                raise torch.OutOfMemoryError("the memory is full")
            return super().forward_loss(batch)

    def fitted(cls: type[Model], step: Any) -> Any:
        torch.manual_seed(0)
        trained = cls({**make_model().params, "step": step})
        return trained.fit(batches((4, 9)), metrics=["accuracy"], metrics_on_train=True)

    halving = [("accumulate", {"steps": 2}), ("microbatch", {"chunks": 1, "halve_on_oom": True})]
    found = fitted(Small, halving)
    assert found == pytest.approx(fitted(Model, ("accumulate", {"steps": 2})), rel=1e-6)


def test_an_output_whose_parts_are_gone_says_so() -> None:
    output = StepOutput(make_model(), (), torch.tensor(1.0), 1, True)
    output.release()
    assert dict(output) == {"loss": 1.0}
    assert len(output) == 1
    with pytest.raises(ArgusError, match="has no predictions and targets"):
        output.get("target")
