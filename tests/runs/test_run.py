"""A run from a configuration: reproducible, kept whole, and never in the way of another."""

from __future__ import annotations

import contextlib
import contextvars
import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import Net
from small_runs import broken_points, contents, points, small_config, small_registry
from torch.utils.data import TensorDataset

import argus_core
from argus_core import Model, State
from argus_core.config import read_config
from argus_core.errors import (
    ArgusError,
    ArgusWarning,
    BuildError,
    CheckpointError,
    ConfigError,
    ParamsError,
    UnknownNameError,
)
from argus_core.runs.run import Result, build_model, resume, train


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in an empty folder, with the small network and data registered."""
    monkeypatch.chdir(tmp_path)
    with small_registry():
        yield tmp_path


def run(folder: Path, *changes: str, more: str = "", overwrite: bool = False) -> Result:
    return train(read_config(small_config(folder, more), changes), overwrite)


def lines(result: Result) -> list[dict[str, Any]]:
    """Return what metrics.jsonl says, what differs from run to run aside."""
    records = [json.loads(line) for line in result.directory.metrics.read_text("utf-8").splitlines()]
    return [{key: value for key, value in record.items() if key != "time"} for record in records]


def test_predictions_that_nothing_reads_are_not_kept(folder: Path) -> None:
    kept: list[list[str]] = []

    @argus_core.on_epoch_complete
    def note(state: State) -> None:
        kept.append(list(state.step_output))

    note.reads_predictions = False
    train(read_config(small_config(folder)), callbacks=[note])
    assert kept[0] == ["loss"]


def test_run_directory_holds_the_whole_run(folder: Path) -> None:
    run(folder)
    names = {path.relative_to(folder / "run").as_posix() for path in (folder / "run").rglob("*")}
    assert names == {
        "config.toml",
        "versions.json",
        "metrics.jsonl",
        "log.txt",
        "checkpoints",
        "checkpoints/best.safetensors",
        "checkpoints/last.safetensors",
    }


def test_run_directory_of_a_name_that_no_system_takes_is_told(folder: Path) -> None:
    with pytest.raises(
        ArgusError, match=r"^run directory 'aa[.a]*' cannot be used: File name too long; choose"
    ):
        run(folder, f"run_dir={'a' * 5000}")


def test_callbacks_without_a_path_write_into_the_run_directory(folder: Path) -> None:
    result = run(folder, 'callbacks=["logging_to_csv", "checkpoint"]', 'val_callbacks=["logging_to_csv"]')
    assert (result.directory.path / "metrics.csv").read_text("utf-8").startswith("time,epoch,lr,train_loss")
    assert (result.directory.path / "val" / "metrics.csv").exists()
    assert (result.directory.checkpoints / "model-000.safetensors").exists()
    assert "file_path" not in result.directory.config.read_text("utf-8")


def test_report_of_the_users_own_takes_the_place_of_the_run_s(folder: Path) -> None:
    result = run(folder, 'callbacks=[["metrics_jsonl", {append = true}], "logging_to_file"]')
    assert len(lines(result)) == 3
    log = result.directory.log.read_text("utf-8")
    assert log.count("train starts") == 1


def test_callback_with_a_path_writes_where_it_is_told(folder: Path) -> None:
    result = run(folder, 'callbacks=[["logging_to_csv", {file_path = "curves/a.csv"}]]')
    assert (folder / "curves" / "a.csv").exists()
    assert not (result.directory.path / "metrics.csv").exists()


@pytest.mark.parametrize(
    "outside", ["{folder}/thesis.csv", "../thesis.csv", "run/../thesis.csv", "~/thesis.csv"]
)
def test_resumed_run_writes_outside_its_directory_only_if_the_caller_says_so(
    outside: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "work").mkdir()
    monkeypatch.chdir(folder / "work")
    monkeypatch.setenv("HOME", str(folder / "home"))
    path = outside.format(folder=folder)
    own = f'callbacks=[["logging_to_csv", {{file_path = "{path}"}}]]'
    directory = run(folder / "work", own).directory.path
    (written,) = folder.rglob("*.csv")
    written.unlink()
    with pytest.raises(
        ConfigError, match="may choose a path in run, since it names files to write"
    ) as caught:
        resume(directory, ["num_epochs=3"])
    assert "if you trust it, pass --set callbacks.logging_to_csv.file_path=..." in str(caught.value)
    assert not written.exists()
    resume(directory, ["num_epochs=3", f'callbacks.logging_to_csv.file_path="{path}"'])
    assert written.exists()


def test_resumed_run_writes_to_a_path_in_its_directory(folder: Path) -> None:
    directory = run(folder, 'callbacks=[["logging_to_csv", {file_path = "run/curves/a.csv"}]]').directory.path
    resume(directory, ["num_epochs=3"])
    assert len((directory / "curves" / "a.csv").read_text("utf-8").splitlines()) == 4


def test_two_runs_of_one_configuration_are_identical(folder: Path) -> None:
    first, second = (run(folder, f"run_dir={name}") for name in "ab")
    assert lines(first) == lines(second)
    assert first.metrics == second.metrics


def test_workers_change_nothing(folder: Path) -> None:
    first, second = (run(folder, f"run_dir=run{count}", f"num_workers={count}") for count in (0, 1))
    assert lines(first) == lines(second)


def test_another_seed_is_another_run(folder: Path) -> None:
    first, second = (run(folder, f"run_dir=run{seed}", f"seed={seed}") for seed in (0, 1))
    assert lines(first) != lines(second)


def test_resolved_configuration_repeats_the_run(folder: Path) -> None:
    first = run(folder, "optimizer.lr=0.05")
    second = train(read_config(first.directory.config, ["run_dir=again"]))
    assert lines(first) == lines(second)


def test_num_threads_is_what_torch_uses(folder: Path) -> None:
    before = torch.get_num_threads()
    try:
        run(folder, "num_threads=2")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_seed_that_is_drawn_is_kept_with_the_run(folder: Path) -> None:
    path = small_config(folder)
    path.write_text(path.read_text("utf-8").replace("seed = 0\n", ""), "utf-8")
    first = train(read_config(path))
    assert read_config(first.directory.config).fit["seed"] >= 0
    assert lines(first) == lines(train(read_config(first.directory.config, ["run_dir=again"])))


def test_callbacks_of_the_caller_are_called_and_not_kept(folder: Path) -> None:
    seen: list[float] = []

    class Stop(argus_core.Callback):
        def epoch_complete(self, state: State) -> None:
            seen.append(state.metrics["val_accuracy"])
            state.stopped = True

    config = read_config(small_config(folder))
    result = train(config, callbacks=[Stop(), ("progress", {"table": False})])
    assert seen == [result.metrics["val_accuracy"]]
    assert "callbacks" not in read_config(result.directory.config).fit
    resume(result.directory.path, callbacks=[Stop()])
    assert len(lines(result)) == len(seen) == 2


def test_progress_of_the_caller_takes_the_place_of_the_usual(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(read_config(small_config(folder)), callbacks=[("progress", {"table": False})])
    assert len(capsys.readouterr().out.splitlines()) == 3  # an epoch each, and no table


def test_training_is_shuffled_unless_switched_off(folder: Path) -> None:
    shuffled, ordered = (
        run(folder, f"run_dir=run-{value}", f"shuffle={value}") for value in ("true", "false")
    )
    assert lines(shuffled) != lines(ordered)


def test_versions_name_what_took_part(folder: Path) -> None:
    versions = json.loads(run(folder).directory.versions.read_text("utf-8"))
    assert versions["torch"] == torch.__version__
    assert set(versions) == {"argus-torch", "python", "torch", "platform", "providers"}
    assert versions["providers"] == {}  # the network and data are registered in this process


def test_versions_name_every_provider(folder: Path) -> None:
    with argus_core.isolated_registry(builtins=True) as registry:
        registry.update(argus_core.registry.registry.scan())
        changes = [
            "nn_module=cnn",
            "data.train=digits",
            "data.val.name=digits",
            "num_epochs=1",
            "batch_size=512",
        ]
        versions = json.loads(run(folder, *changes).directory.versions.read_text("utf-8"))
    assert set(versions["providers"]) == {"argus-example", "argus-sklearn"}


def test_best_epoch_is_that_of_the_best_checkpoint(folder: Path) -> None:
    result = run(folder)
    values = [record["val_accuracy"] for record in lines(result)]
    assert result.best_value == max(values)
    assert result.best_epoch == values.index(max(values))


def test_best_checkpoint_reaches_its_value_again(folder: Path) -> None:
    result = run(folder)
    model = argus_core.load_model(result.directory.best)
    loader = torch.utils.data.DataLoader(points("val"), 8)
    assert model.validate(loader, ["accuracy"])["val_accuracy"] == result.best_value


def test_last_checkpoint_can_be_trained_on(folder: Path) -> None:
    model = argus_core.load_model(run(folder, "optimizer.momentum=0.9").directory.last)
    assert model.optimizer.state_dict()["state"]


def test_last_metrics_are_returned(folder: Path) -> None:
    result = run(folder)
    assert set(result.metrics) == {"train_loss", "val_loss", "val_accuracy"}
    assert result.metrics["val_accuracy"] == lines(result)[-1]["val_accuracy"]


def without(folder: Path, *keys: str, more: str = "") -> Path:
    """Write the configuration without the lines of some keys."""
    path = small_config(folder, more)
    starts = tuple(f"{key} =" for key in keys)
    kept = [line for line in path.read_text("utf-8").splitlines() if not line.startswith(starts)]
    path.write_text("\n".join(kept), "utf-8")
    return path


def test_run_without_validation_follows_the_training_loss(folder: Path) -> None:
    result = train(read_config(without(folder, "val", "monitor", "metrics")))
    assert (result.monitor, set(result.metrics)) == ("train_loss", {"train_loss"})


def test_metrics_of_a_run_without_validation_are_told_unless_a_test_uses_them(folder: Path) -> None:
    path = without(folder, "val", "monitor")
    with pytest.warns(
        ArgusWarning,
        match=r"^\[fit\] metrics has 'accuracy', and the run has no validation, so it has no effect; "
        r"add val to \[data\], or set metrics_on_train",
    ):
        train(read_config(path, ["num_epochs=1"]))
    tested = train(read_config(path, ["num_epochs=1", "test=points"]), overwrite=True)
    assert set(tested.test_metrics) == {"test_loss", "test_accuracy"}
    with pytest.raises(UnknownNameError, match="no metric named 'acuracy'"):
        train(read_config(path, ["run_dir=other", "test=points", "metrics=acuracy"]))
    assert not (folder / "other").exists()


@pytest.mark.parametrize(
    ("kept", "more", "subject"),
    [
        (["monitor"], "", r"\[fit\] is 'val_accuracy'"),
        ([], "callbacks = ['early_stopping']", "early_stopping is 'val_loss'"),
        ([], "lr_scheduler = ['ReduceLROnPlateau', { monitor = 'val_loss' }]", "lr_scheduler is 'val_loss'"),
    ],
)
def test_metric_of_validation_without_data_for_it_is_told_before_training(
    folder: Path, kept: list[str], more: str, subject: str
) -> None:
    path = without(folder, *{"val", "metrics", "monitor"}.difference(kept), more=more)
    with pytest.raises(
        BuildError,
        match=rf"^monitor of {subject}, and the run has no validation; add val to \[data\], choose "
        r"another monitor, or let a callback compute it \(computed: train_loss\)$",
    ):
        train(read_config(path))
    assert not (folder / "run").exists()


def test_loss_that_is_never_finite_has_no_best_epoch(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    argus_core.register("dataset", "broken", broken_points)
    result = run(folder, "val=broken", "monitor=val_loss", "test=points")
    assert (result.best_epoch, result.best_value, result.test_metrics) == (None, None, {})
    assert result.directory.last.exists()
    assert "val_loss was not finite in each of the 3 epochs" in caplog.text


def test_run_whose_weights_are_never_finite_is_an_error_and_is_kept(folder: Path) -> None:
    with pytest.raises(
        CheckpointError,
        match="ended and kept no checkpoint: best_checkpoint kept no file .* val_loss was not finite in "
        "each of the 3 .*; last_checkpoint kept no file in run/checkpoints: the weights were not "
        "finite at each of",
    ):
        run(folder, "optimizer.lr=1e38", "monitor=val_loss")
    assert len((folder / "run" / "metrics.jsonl").read_text("utf-8").splitlines()) == 3
    assert (folder / "run" / "config.toml").exists()


def test_best_checkpoint_is_measured_on_the_test_data(folder: Path) -> None:
    result = run(folder, 'test=["points", {split="test"}]')
    model = argus_core.load_model(result.directory.best)
    expected = model.validate(torch.utils.data.DataLoader(points("test"), 8), ["accuracy"])
    assert result.test_metrics == {
        "test_loss": expected["val_loss"],
        "test_accuracy": expected["val_accuracy"],
    }
    assert json.loads(result.directory.test.read_text("utf-8")) == result.test_metrics


def test_table_of_the_epochs_is_printed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(folder)
    assert "epoch    train_loss  val_loss  val_accuracy  lr at start" in capsys.readouterr().out


def test_own_progress_stands_in_place_of_the_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(folder, "callbacks=progress")
    out = capsys.readouterr().out
    assert out.count("epoch 1/3") == 1
    assert "epoch  train_loss" not in out


def test_own_callbacks_schedulers_and_metrics_take_part(folder: Path) -> None:
    seen: list[str] = []

    class Note:
        def __init__(self, text: str) -> None:
            self.text = text

        def complete(self, state: State) -> None:
            seen.append(f"{self.text} {state.phase}")

    argus_core.register("callback", "note", Note)
    result = run(
        folder,
        'callbacks=["note", {text="a"}]',
        'val_callbacks=["note", {text="b"}]',
        'lr_scheduler=["StepLR", {step_size=1, gamma=0.5}]',
        "metrics_on_train=true",
    )
    assert seen == [*3 * ["b val"], "a train"]
    assert [record["lr"] for record in lines(result)] == [0.1, 0.05, 0.025]
    assert "train_accuracy" in result.metrics


# Bad input.


def test_second_run_is_refused_before_anything_is_built(folder: Path) -> None:
    first = run(folder)
    written = first.directory.metrics.read_text("utf-8")
    with pytest.raises(
        ConfigError, match=r"run already holds a run; resume it \(argus resume\), choose another with"
    ):
        run(folder, "nn_module=unknown")
    assert first.directory.metrics.read_text("utf-8") == written


def test_second_run_overwrites_the_first_if_asked(folder: Path) -> None:
    run(folder)
    assert len(lines(run(folder, "num_epochs=1", overwrite=True))) == 1


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ("nn_module=nett", UnknownNameError, "no nn_module named 'nett'; did you mean 'net'"),
        ("loss=CrosEntropyLoss", UnknownNameError, "no loss named 'CrosEntropyLoss'; did you mean 'Cros"),
        ("optimizer=AdamV", UnknownNameError, "no optimizer named 'AdamV'; did you mean "),
        ("prediction_transform=Softmx", UnknownNameError, "no transform named 'Softmx'; did you mean "),
        ("step=acumulate", UnknownNameError, "no step named 'acumulate'; did you mean 'accumulate'"),
        ("metrics=acuracy", UnknownNameError, "no metric named 'acuracy'; did you mean 'accuracy'"),
        ("callbacks=early_stoping", UnknownNameError, "no callback named 'early_stoping'; did you mean "),
        ("val_callbacks=progres", UnknownNameError, "no callback named 'progres'; did you mean 'progress'"),
        ("lr_scheduler=StepLr", UnknownNameError, "no lr_scheduler named 'StepLr'; did you mean 'StepLR'"),
        ("train=pints", UnknownNameError, "no dataset named 'pints'; did you mean 'points'"),
        ("model.name=Modle", UnknownNameError, "no model named 'Modle'; did you mean 'Model'"),
        ("optimizer.learning_rate=1", ParamsError, "optimizer 'SGD' has no parameter 'learning_rate'"),
        ("callbacks=early_stopping.x", UnknownNameError, "no callback named 'early_stopping.x'"),
        ("lr_scheduler.gamma=1", ConfigError, "lr_scheduler is not set; choose a component first"),
        ("lr_scheduler=StepLR", ParamsError, "lr_scheduler 'StepLR' does not take these parameters"),
        ("monitor=val_acuracy", BuildError, "monitors 'val_acuracy', which is not computed; did you mean"),
        ("train.samples=0", ArgusError, r"\[data\] train has no samples"),
        ("batch_size=31 drop_last=true", ArgusError, "the train loader gave no batches"),
        ("device=warp", ArgusError, "unknown device 'warp'"),
        ("loss.reduction=none", ArgusError, "loss"),
    ],
)  # fmt: skip
def test_run_that_cannot_begin_leaves_nothing_behind(
    folder: Path, change: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run(folder, *change.split())
    assert [path.name for path in folder.iterdir()] == ["small.toml"]


def test_run_that_is_interrupted_is_kept(folder: Path) -> None:
    class Interrupt:
        def epoch_complete(self, state: State) -> None:
            raise KeyboardInterrupt

    argus_core.register("callback", "interrupt", Interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(folder, "callbacks=interrupt")
    assert "KeyboardInterrupt" in (folder / "run" / "log.txt").read_text("utf-8")


# Models.


def test_model_is_built_as_configured(folder: Path) -> None:
    model = build_model(read_config(small_config(folder)))
    assert type(model) is Model
    assert model.params["step"] == [("accumulate", {"steps": 2})]


def test_own_model_class_is_built_by_name(folder: Path) -> None:
    class Segmenter(Model):
        nn_module = Net

    config = read_config(small_config(folder), ["model.name=Segmenter", "model.own=3"])
    config = type(config)({**config.model, "nn_module": {"hidden": 5}}, config.data, config.fit)
    model = build_model(config)
    assert (type(model), model.params["own"], model.nn_module.hidden.out_features) == (Segmenter, 3, 5)


def test_model_that_is_no_subclass_is_refused(folder: Path) -> None:
    argus_core.register("model", "function", lambda params: None)
    with pytest.raises(
        BuildError, match="model 'function' is .*, which is not a subclass of argus_core.Model; choose"
    ):
        build_model(read_config(small_config(folder), ["model.name=function"]))


def test_iterable_dataset_is_trained_on(folder: Path) -> None:
    class Stream(torch.utils.data.IterableDataset[Any]):
        def __iter__(self) -> Iterator[Any]:
            samples: TensorDataset = points()
            return (samples[index] for index in range(len(samples)))

    argus_core.register("dataset", "stream", Stream)
    assert len(lines(run(folder, "train=stream"))) == 3


def test_log_of_a_run_has_no_lines_of_one_in_another_thread(folder: Path) -> None:
    small = small_config(folder)
    others: list[Any] = []

    def train_another(state: State) -> None:
        context = contextvars.copy_context()  # has the registry
        config = read_config(small, ["run_dir=other", "num_epochs=1"])
        thread = threading.Thread(target=lambda: others.append(context.run(train, config)))
        thread.start()
        thread.join()

    result = train(read_config(small, ["num_epochs=1"]), callbacks=[argus_core.on_epoch_start(train_another)])
    log, other = (each.directory.log.read_text("utf-8") for each in (result, *others))
    assert "saved run/checkpoints/last.safetensors" in log
    assert "other" not in log
    assert "saved other/checkpoints/last.safetensors" in other


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_before_the_first_update_leaves_nothing(
    folder: Path, usual_signals: None, signum: int
) -> None:
    def stopping() -> Any:
        signal.raise_signal(signum)

    argus_core.register("dataset", "stopping", stopping)
    with pytest.raises(SystemExit) as ended:
        run(folder, 'data.train="stopping"')
    assert ended.value.code == 128 + signum
    assert not (folder / "run").exists()
    assert signal.getsignal(signum) == signal.SIG_DFL


def test_a_signal_that_comes_twice_before_a_run_is_one(folder: Path, usual_signals: None) -> None:
    def stopping() -> Any:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)

    argus_core.register("dataset", "stopping", stopping)
    with pytest.raises(SystemExit):
        run(folder, 'data.train="stopping"')
    assert not (folder / "run").exists()


def test_a_signal_before_a_run_that_replaces_one_leaves_that(folder: Path, usual_signals: None) -> None:
    def stopping() -> Any:
        signal.raise_signal(signal.SIGTERM)

    argus_core.register("dataset", "stopping", stopping)
    before = contents(run(folder).directory.path)
    with pytest.raises(SystemExit):
        run(folder, 'data.train="stopping"', overwrite=True)
    assert contents(folder / "run") == before


@pytest.mark.parametrize(
    ("signum", "ending"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)]
)
@pytest.mark.parametrize("command", ["train", "overwrite", "resume"])
def test_a_signal_before_a_run_that_other_code_has_caught_ends_it(
    folder: Path, usual_signals: None, command: str, signum: int, ending: type[BaseException]
) -> None:
    def deaf() -> TensorDataset:
        with contextlib.suppress(BaseException):
            signal.raise_signal(signum)
        return points()

    def failing() -> None:
        try:
            signal.raise_signal(signum)
        finally:
            raise OSError("no such data")

    argus_core.register("dataset", "deaf", deaf)
    argus_core.register("dataset", "failing", failing)
    if command != "train":
        run(folder)
    before = contents(folder / "run")
    for dataset in ("deaf", "failing"):
        changes = [f'data.train="{dataset}"', "num_epochs=3"]
        with pytest.raises(ending):
            resume(folder / "run", changes) if command == "resume" else run(folder, *changes, overwrite=True)
        assert contents(folder / "run") == before
