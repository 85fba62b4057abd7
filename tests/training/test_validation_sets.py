"""Several validation sets by name: their values, monitors, random numbers and state."""

from __future__ import annotations

import csv
import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import batches, make_model, same_weights
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import argus_core
from argus_core import BuildError, Callback, ConflictError, Metric, Model, ParamsError, State
from argus_core.callbacks.early_stopping import EarlyStopping
from argus_core.callbacks.logs import MetricsJSONL
from argus_core.metrics import Accuracy

pytestmark = pytest.mark.usefixtures("net_registry", "usual_signals")

CLEAN, NOISY = batches((6, 4), seed=1), batches((5,), seed=2)


class Random(Dataset[Any]):
    """Samples that are drawn anew, from torch's generator, each time they are read."""

    def __init__(self, samples: int) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.randn(4), index % 3


class Sampling(Model):
    """A model whose validation draws random numbers itself."""

    def val_step(self, batch: Any, state: Any = None) -> Any:
        input, target = batch
        return super().val_step((input + torch.randn_like(input), target), state)


def sampling() -> Model:
    torch.manual_seed(0)
    return Sampling({**make_model().params})


def loaders(*names: str) -> dict[str, Any]:
    sizes = {"clean": 10, "noisy": 14, "third": 6}
    return {name: DataLoader(Random(sizes[name]), batch_size=4, shuffle=True) for name in names}


def train_loader() -> DataLoader[Any]:
    return DataLoader(Random(12), batch_size=4, shuffle=True)


# Values.


def test_each_set_has_the_values_that_it_has_alone() -> None:
    both = make_model().fit(batches(), {"clean": CLEAN, "noisy": NOISY}, num_epochs=2, metrics=["accuracy"])
    alone = make_model().fit(batches(), NOISY, num_epochs=2, metrics=["accuracy"])
    assert list(both) == [
        "train_loss",
        *("val_clean_loss", "val_clean_accuracy"),
        *("val_noisy_loss", "val_noisy_accuracy"),
    ]
    assert both["val_noisy_loss"] == alone["val_loss"]
    assert both["val_noisy_accuracy"] == alone["val_accuracy"]
    model = make_model()
    values = model.validate({"clean": CLEAN, "noisy": NOISY}, metrics=[Accuracy()])
    assert values["val_clean_accuracy"] == model.validate(CLEAN, metrics=["accuracy"])["val_accuracy"]
    assert list(values) == list(both)[1:]


def test_metrics_keep_their_state_apart_by_set_and_from_training() -> None:
    class Samples(Metric):
        name = "samples"
        states = {"count": "sum"}

        def update(self, step_output: Any) -> None:
            self.count = getattr(self, "count", 0) + len(step_output["target"])

        def compute(self) -> float:
            return float(self.count)

    values = make_model().fit(
        batches(), {"clean": CLEAN, "noisy": NOISY}, num_epochs=2, metrics=[Samples()], metrics_on_train=True
    )
    assert [values[f"{phase}_samples"] for phase in ("train", "val_clean", "val_noisy")] == [21, 10, 5]


def test_a_metric_that_cannot_be_copied_is_refused() -> None:
    metric = Accuracy()
    metric.file = open(__file__, encoding="utf-8")  # type: ignore[attr-defined] # noqa: SIM115
    with metric.file, pytest.raises(ParamsError, match=r"^metric 'accuracy' cannot be copied for val_noisy"):  # type: ignore[attr-defined]
        make_model().fit(batches(), {"clean": CLEAN, "noisy": NOISY}, metrics=[metric])


def test_reports_have_the_values_of_all_sets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = {name: str(tmp_path / name) for name in ("log", "csv", "jsonl")}
    callbacks: list[Any] = [
        ("progress", {"table": True}),
        ("logging_to_file", {"file_path": paths["log"]}),
        ("logging_to_csv", {"file_path": paths["csv"]}),
        ("metrics_jsonl", {"file_path": paths["jsonl"]}),
    ]
    values = make_model().fit(batches(), {"clean": CLEAN, "noisy": NOISY}, callbacks=callbacks)
    shown = capsys.readouterr().out
    assert "* best val_clean_loss" in shown
    assert all(f"{name} {value:.4f}" in shown for name, value in values.items())
    assert all(name in Path(paths["log"]).read_text("utf-8") for name in values)
    with open(paths["csv"], encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    line = json.loads(Path(paths["jsonl"]).read_text("utf-8"))
    for name, value in values.items():
        assert float(row[name]) == line[name] == value


# Monitors.


@pytest.mark.parametrize(
    "given",
    [
        {"callbacks": [("early_stopping", {"monitor": "val_loss"})]},
        {"callbacks": [("monitor_checkpoint", {"dir_path": "best", "monitor": "val_loss"})]},
        {"lr_scheduler": ("ReduceLROnPlateau", {"monitor": "val_loss"})},
    ],
)
def test_a_monitor_of_no_set_names_those_of_the_sets(
    given: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    message = (
        r"monitors 'val_loss', and the run's validation sets have names; "
        "choose 'val_clean_loss' or 'val_noisy_loss'$"
    )
    with pytest.raises(BuildError, match=message):
        make_model().fit(batches(), {"clean": CLEAN, "noisy": NOISY}, **given)


def test_monitors_follow_the_set_that_they_name(tmp_path: Path) -> None:
    stopping = EarlyStopping("val_noisy_accuracy")
    model = make_model()
    values = model.fit(
        batches(),
        {"clean": CLEAN, "noisy": NOISY},
        metrics=["accuracy"],
        callbacks=[
            stopping,
            ("monitor_checkpoint", {"dir_path": str(tmp_path), "monitor": "val_noisy_loss"}),
        ],
        lr_scheduler=("ReduceLROnPlateau", {"monitor": "val_noisy_loss"}),
    )
    assert stopping.monitor.best == values["val_noisy_accuracy"]
    assert [file.name for file in tmp_path.iterdir()] == [
        f"model-000-{values['val_noisy_loss']:.6f}.safetensors"
    ]


def test_the_warning_of_a_loss_that_is_nan_names_the_set(caplog: pytest.LogCaptureFixture) -> None:
    broken = [(torch.full((2, 4), torch.nan), torch.zeros(2, dtype=torch.int64))]
    make_model().fit(batches(), {"clean": CLEAN, "broken": broken})
    assert "val_broken_loss is nan in epoch 1; look for nan and inf in the validation data" in caplog.text


# Random numbers and resuming.


def test_another_set_changes_nothing_in_the_others_and_in_training() -> None:
    few, many = sampling(), sampling()
    own = few.fit(train_loader(), loaders("clean"), num_epochs=2, seed=3)
    with_others = many.fit(train_loader(), loaders("third", "noisy", "clean"), num_epochs=2, seed=3)
    assert own.items() <= with_others.items()
    assert same_weights(few, many)
    for first, second in ((("clean",), ("noisy", "clean")), (("noisy",), ("noisy", "clean"))):
        torch.manual_seed(7)
        alone = few.validate(loaders(*first))
        torch.manual_seed(7)
        assert alone.items() <= few.validate(loaders(*second)).items()


def test_sets_of_the_same_samples_draw_different_numbers_in_each_epoch() -> None:
    seen: list[tuple[str, float]] = []

    @argus_core.on_iteration_complete
    def look(state: State) -> None:
        seen.append((state.phase, float(state.batch[0].sum())))

    same = {name: DataLoader(Random(4), batch_size=4) for name in ("a", "b")}
    make_model().fit(train_loader(), same, num_epochs=2, seed=0, val_callbacks=[look])
    assert [phase for phase, _ in seen] == ["val_a", "val_b"] * 2
    assert len({value for _, value in seen}) == 4


def fit_all(
    folder: Path, resume: Any = None, more: Any = (), epochs: int = 2
) -> tuple[Model, dict[str, float]]:
    model = sampling()
    every: Any = ("checkpoint", {"dir_path": str(folder), "every": "1up", "optimizer_state": True})
    values = model.fit(
        train_loader(),
        loaders("clean", "noisy"),
        num_epochs=epochs,
        metrics=["accuracy"],
        metrics_on_train=True,
        callbacks=[every, ("early_stopping", {"monitor": "val_noisy_loss", "patience": 9}), *more],
        lr_scheduler=("ReduceLROnPlateau", {"monitor": "val_clean_loss", "patience": 0}),
        seed=5,
        resume=resume,
    )
    return model, values


def test_a_run_resumes_exactly_from_each_update(tmp_path: Path) -> None:
    model, values = fit_all(tmp_path / "whole")
    files = sorted((tmp_path / "whole").iterdir())
    assert len(files) == 6
    for file in files:
        again, resumed = fit_all(tmp_path / file.stem, resume=file)
        assert same_weights(model, again)
        assert resumed == values


def test_an_interruption_in_the_second_set_repeats_the_validation_of_all(tmp_path: Path) -> None:
    model, values = fit_all(tmp_path / "whole")
    counts: dict[str, int] = {}

    class Stop(Callback):
        def iteration_complete(self, state: State) -> None:
            counts[state.phase] = counts.get(state.phase, 0) + 1
            if (state.phase, counts[state.phase]) == ("val_noisy", 2):
                signal.raise_signal(signal.SIGTERM)

    def fit(resume: Any = None) -> tuple[Model, dict[str, float]]:
        model = sampling()
        return model, model.fit(
            train_loader(),
            loaders("clean", "noisy"),
            num_epochs=2,
            metrics=["accuracy"],
            metrics_on_train=True,
            callbacks=[
                ("checkpoint", {"dir_path": str(tmp_path / "r"), "every": "9ep", "optimizer_state": True})
            ],
            val_callbacks=[Stop()],
            lr_scheduler=("ReduceLROnPlateau", {"monitor": "val_clean_loss", "patience": 0}),
            seed=5,
            resume=resume,
        )

    with pytest.raises(SystemExit):
        fit()
    assert counts == {"val_clean": 3, "val_noisy": 2}
    again, resumed = fit(tmp_path / "r")
    assert counts == {"val_clean": 9, "val_noisy": 2 + 8}
    assert same_weights(model, again)
    assert resumed == values


# Callbacks of the sets.


def test_callbacks_hear_each_set_or_their_own() -> None:
    heard: list[str] = []

    class Hear(Callback):
        def __init__(self, who: str) -> None:
            self.who = who

        def epoch_complete(self, state: State) -> None:
            heard.append(f"{self.who} {state.phase} {sorted(state.phase_states)}")

    sets = {"a": CLEAN, "b": NOISY}
    make_model().fit(batches(), sets, val_callbacks=[Hear("all")])
    phases = ["train", "val_a", "val_b"]
    assert heard == [f"all val_a {phases}", f"all val_b {phases}"]
    heard.clear()
    make_model().fit(batches(), sets, val_callbacks={"b": [Hear("own")]})
    assert heard == [f"own val_b {phases}"]
    with pytest.raises(
        ParamsError, match="^val_callbacks names the validation set 'c'; the sets are 'a', 'b'; "
    ):
        make_model().fit(batches(), sets, val_callbacks={"c": [Hear("none")]})


def test_training_callbacks_hear_one_validation_of_all_sets() -> None:
    heard: list[str] = []

    class Hear(Callback):
        def validation_start(self, state: State) -> None:
            heard.append("start")

        def validation_iteration_complete(self, state: State) -> None:
            assert state.validating is not None
            heard.append(state.validating.phase)

        def validation_complete(self, state: State) -> None:
            heard.append(str(sorted(state.metrics)))

    make_model().fit(batches(), {"a": CLEAN, "b": NOISY}, callbacks=[Hear()])
    phases = [*["val_a"] * len(CLEAN), *["val_b"] * len(NOISY)]
    assert heard == ["start", *phases, str(["train_loss", "val_a_loss", "val_b_loss"])]


def test_a_callback_that_writes_files_needs_a_place_for_each_set(tmp_path: Path) -> None:
    sets = {"a": CLEAN, "b": NOISY}
    message = (
        r"^val_callbacks has 'metrics_jsonl', which writes files, and there are 2 validation sets; give "
        r"each its own: val_callbacks=\{'a': \[...\], 'b': \[...\]\}$"
    )
    for callback in (("metrics_jsonl", {"file_path": str(tmp_path / "x")}), MetricsJSONL(tmp_path / "x")):
        with pytest.raises(ConflictError, match=message):
            make_model().fit(batches(), sets, val_callbacks=[callback])
    own = {name: [("metrics_jsonl", {"file_path": str(tmp_path / name)})] for name in sets}
    values = make_model().fit(batches(), sets, val_callbacks=own)
    assert json.loads((tmp_path / "b").read_text("utf-8"))["val_b_loss"] == values["val_b_loss"]


# Bad input.


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "^val_loader is an empty dict; give the loader of each validation set by its name, such as "),
        (
            {"loss": CLEAN},
            "^a validation set is named 'loss', as a metric of the run is; give the set another",
        ),
        ({"accuracy": CLEAN}, "^a validation set is named 'accuracy', as a metric of the run is; give"),
        ({"train": CLEAN}, "^a validation set is named 'train', as a phase of a run is; give it another"),
        ({"val": CLEAN}, "^a validation set is named 'val', as a phase of a run is; give it another"),
        (
            {"my set": CLEAN},
            "^a validation set is named 'my set'; give it a name of letters, digits and under",
        ),
        ({"": CLEAN}, "^a validation set is named ''; give it a name of letters"),
        ({3: CLEAN}, "^a validation set is named 3; give it a name of letters"),
        ({"a": None}, "^the loader of the validation set 'a' is None; give an iterable of batches, such as"),
        (
            {"a": {"b": CLEAN}},
            "^the val_a loader is a dict, which gives its keys as batches; give a loader of ",
        ),
        (
            {"image": torch.zeros(2, 4)},
            "^the val loader is a dict, which gives its keys as batches; give a loader",
        ),
        ({"label": [0, 1, 2]}, "^the val loader is a dict, which gives its keys as batches; give a loader"),
    ],
)
def test_a_dict_that_is_not_of_loaders_by_name_is_refused(given: Any, message: str) -> None:
    with pytest.raises((ParamsError, ConflictError), match=message):
        make_model().fit(batches(), given, metrics=["accuracy"])
    with pytest.raises((ParamsError, ConflictError), match=message):
        make_model().validate(given, metrics=["accuracy"])


def test_sets_whose_values_would_have_one_name_are_refused() -> None:
    metrics = [Accuracy(name="b_c"), Accuracy(name="c")]
    message = "^validation sets 'a' and 'a_b' would both compute val_a_b_c; give one of them another name"
    with pytest.raises(ConflictError, match=message):
        make_model().fit(batches(), {"a": CLEAN, "a_b": NOISY}, metrics=metrics)
