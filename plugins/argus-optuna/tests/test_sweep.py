"""Sweeps that train."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch

import argus_core
from argus_core import State
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
from argus_core.registry.discovery import scan
from argus_core.runs.directory import RunDirectory
from argus_core.runs.run import resume
from argus_optuna import SweepResult, TrialRecord, sweep
from argus_optuna.pruning import Pruning

CHOICES = '"optimizer.lr" = { choices = [0.1, 0.2, 0.3, 0.4] }'
GRID = 'sampler = "grid"'
BATCH = (torch.rand(8, 1, 8, 8), torch.randint(10, (8,)))


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    """Use what is installed, and forget what a test registers."""
    with argus_core.isolated_registry() as own:
        own.update(scan())
        yield


def lines(trial: TrialRecord) -> list[dict[str, Any]]:
    """Return what metrics.jsonl of a trial's run says, times aside."""
    text = (trial.directory / "metrics.jsonl").read_text("utf-8")
    return [
        {key: value for key, value in json.loads(line).items() if "time" not in key}
        for line in text.splitlines()
    ]


def states(result: SweepResult) -> list[str]:
    return [trial.state for trial in result.trials]


def callback(name: str, **methods: Any) -> str:
    """Register a callback that trials may name, and return the change that names it."""
    argus_core.register("callback", name, type(name, (argus_core.Callback,), methods))
    return f"fit.callbacks={name}"


def test_each_trial_is_a_run_of_its_own(write: Any) -> None:
    result = sweep(write(), trials=2)
    assert states(result) == ["complete", "complete"]
    for trial in result.trials:
        assert trial.directory == Path(f"runs/digits-sweep/trial-000{trial.number}")
        config = read_config(trial.directory / "config.toml")
        assert config.params["optimizer"] == ("SGD", {"lr": trial.params["optimizer.lr"]})
        assert config.fit["run_dir"] == str(trial.directory)
        assert trial.epochs == len(lines(trial)) == 2
        assert trial.value == max(line["val_accuracy"] for line in lines(trial))
    assert result.trials[0].params != result.trials[1].params


def test_each_trial_keeps_its_own_files_of_callbacks_without_a_path(write: Any) -> None:
    result = sweep(write(), changes=['callbacks=["logging_to_csv"]'], trials=2)
    assert len({trial.directory for trial in result.trials}) == 2
    assert all((trial.directory / "metrics.csv").exists() for trial in result.trials)


def test_trials_whose_callback_changes_the_folder_stay_in_the_study(write: Any, tmp_path: Path) -> None:
    def leave(self: Any, state: Any) -> None:
        os.chdir(elsewhere)

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    config = write()
    here = Path.cwd()
    result = sweep(config, changes=[callback("leave", start=leave)], trials=2)
    os.chdir(here)
    assert list(elsewhere.iterdir()) == []
    assert states(result) == ["complete", "complete"]
    assert result.best is not None
    assert result.best.checkpoint is not None
    assert result.best_checkpoint.read_bytes() == result.best.checkpoint.read_bytes()


def test_best_checkpoint_loads_by_name(write: Any) -> None:
    result = sweep(write(CHOICES, GRID), trials=2)
    assert result.best is not None
    assert result.best_checkpoint == Path("runs/digits-sweep/best.safetensors")
    model = argus_core.load_model(result.best_checkpoint, device="cpu")
    assert model.params["optimizer"] == ("SGD", {"lr": result.best.params["optimizer.lr"]})
    assert result.best.checkpoint is not None
    assert result.best_checkpoint.read_bytes() == result.best.checkpoint.read_bytes()


def test_sweep_goes_on_with_the_study_that_is_there(write: Any) -> None:
    seen: list[int] = []
    sweep(write(), trials=1, on_trial=lambda trial: seen.append(trial.number))
    result = sweep(write(), trials=3, on_trial=lambda trial: seen.append(trial.number))
    assert seen == [trial.number for trial in result.trials] == [0, 1, 2]
    assert sweep(write(), trials=2) == result  # it has enough


def test_two_studies_of_one_seed_are_the_same(write: Any) -> None:
    first, second = (sweep(write(), trials=2, study_dir=name) for name in "ab")
    for one, other in zip(first.trials, second.trials, strict=True):
        assert (one.params, one.value, lines(one)) == (other.params, other.value, lines(other))


def test_changes_hold_for_every_trial(write: Any) -> None:
    result = sweep(write(CHOICES), ["num_epochs=1", "sweep.trials=1", "run_dir=runs/other"])
    assert [len(lines(trial)) for trial in result.trials] == [1]
    assert result.study_dir == Path("runs/other-sweep")


def test_components_and_conditional_parameters_are_searched(write: Any) -> None:
    space = """
    optimizer = { choices = ["AdamW", ["SGD", { nesterov = true, momentum = 0.5 }]] }
    "optimizer.momentum" = { choices = [0.9], when = { optimizer = "SGD" } }
    "optimizer.lr" = { choices = [0.1] }
    batch_size = { choices = [256] }
    """
    result = sweep(write(space, GRID), trials=5)
    configs = [read_config(trial.directory / "config.toml") for trial in result.trials]
    assert [config.params["optimizer"] for config in configs] == [
        ("AdamW", {"lr": 0.1}),
        ("SGD", {"nesterov": True, "momentum": 0.9, "lr": 0.1}),
    ]
    assert [config.data["val_batch_size"] for config in configs] == [256, 256]


def test_file_that_is_edited_meanwhile_is_not_noticed(write: Any) -> None:
    path = write(CHOICES, GRID)
    result = sweep(path, trials=2, on_trial=lambda _: path.write_text("nonsense"))
    assert states(result) == ["complete", "complete"]


def test_no_trial_begins_after_the_time(write: Any) -> None:
    result = sweep(write(), timeout=1e-9)
    assert result.trials == ()


def test_loss_is_minimised(write: Any) -> None:
    result = sweep(write(CHOICES, GRID), ["monitor=val_loss"], trials=2)
    assert result.better == "min"
    assert result.best is not None
    assert result.best.value == min(trial.value for trial in result.trials if trial.value is not None)


def test_progress_of_the_configurations_own_is_the_only_one(
    write: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep(write(CHOICES), ['fit.callbacks=[["progress", {table = true}]]'], trials=1)
    assert sum(line.startswith("epoch 1/2") for line in capsys.readouterr().out.splitlines()) == 1


# Pruning.


def test_trial_that_does_badly_is_pruned_and_can_be_gone_on_with(write: Any) -> None:
    pruner = 'pruner = ["threshold", { lower = 2.0 }]'
    result = sweep(write(CHOICES, pruner), trials=1)
    [trial] = result.trials
    assert (trial.state, trial.value, trial.epochs, trial.error) == ("pruned", None, 1, None)
    assert trial.checkpoint is not None
    assert argus_core.load_model(trial.checkpoint, device="cpu").params["nn_module"][0] == "cnn"
    assert "pruned after epoch 1" in (trial.directory / "log.txt").read_text("utf-8")
    assert resume(trial.directory).best_value is not None  # an ordinary run
    assert len(lines(trial)) == 2


def test_median_prunes_only_what_is_worse_than_others(write: Any) -> None:
    space = '"optimizer.lr" = { choices = [0.2, 0.3, 1e-9] }'
    pruner = 'pruner = ["median", { n_startup_trials = 1, n_warmup_steps = 1 }]'
    result = sweep(write(space, f"{pruner}\n{GRID}"), ["num_epochs=4"])
    assert result.trials[0].state == "complete"
    assert (result.trials[2].state, result.trials[2].epochs) == ("pruned", 2)


def test_pruning_is_a_callback_for_a_loop_of_ones_own(write: Any) -> None:
    study = optuna.create_study(
        direction="maximize", pruner=optuna.pruners.ThresholdPruner(lower=2.0, n_warmup_steps=1)
    )
    trial = study.ask()
    params = {
        "nn_module": ("cnn", {"width": 4}),
        "loss": "CrossEntropyLoss",
        "optimizer": "SGD",
        "device": "cpu",
    }
    loader = [BATCH]
    pruning = Pruning(trial, "val_accuracy")
    argus_core.Model(params).fit(
        loader, val_loader=loader, num_epochs=5, metrics=["accuracy"], callbacks=[pruning]
    )
    assert pruning.pruned
    assert list(study.trials[0].intermediate_values) == [0, 1]


def test_pruning_of_a_metric_that_nobody_computes_is_refused(write: Any) -> None:
    model = argus_core.Model(
        {"nn_module": "cnn", "loss": "CrossEntropyLoss", "optimizer": "SGD", "device": "cpu"}
    )
    with pytest.raises(
        ArgusError, match="monitor of Pruning is 'val_acuracy', and the run has no validation"
    ):
        model.fit([BATCH], callbacks=[Pruning(optuna.create_study().ask(), "val_acuracy")])


# Failing.


def test_trial_that_fails_is_recorded_and_the_sweep_goes_on(write: Any) -> None:
    def epoch_complete(self: Any, state: Any) -> None:
        if state.model.get_lr() == 0.2:
            raise ZeroDivisionError("a mistake\nof two lines")

    result = sweep(write(CHOICES, GRID), [callback("breaks", epoch_complete=epoch_complete)], trials=3)
    assert states(result) == ["complete", "failed", "complete"]
    assert result.trials[1].error == "ZeroDivisionError: a mistake of two lines"
    assert (result.trials[1].directory / "log.txt").exists()


def test_trial_that_is_not_finite_has_failed(write: Any) -> None:
    def epoch_complete(self: Any, state: Any) -> None:
        if state.model.get_lr() == 0.2 and state.epoch == 1:
            state.metrics["val_accuracy"] = float("nan")

    result = sweep(
        write(CHOICES, GRID), [callback("odd", epoch_complete=epoch_complete), "num_epochs=3"], trials=3
    )
    assert states(result) == ["complete", "failed", "complete"]
    assert result.trials[1].error == "val_accuracy is nan in epoch 2"
    assert result.trials[1].epochs == 1
    assert result.trials[1].checkpoint is not None  # of the epoch before


def test_trial_that_keeps_no_checkpoint_has_failed_for_its_metric(write: Any) -> None:
    def epoch_complete(self: Any, state: Any) -> None:
        if state.model.get_lr() == 0.2:
            state.metrics["val_accuracy"] = float("nan")
            for parameter in state.model.nn_module.parameters():
                parameter.data.fill_(float("nan"))

    result = sweep(write(CHOICES, GRID), [callback("odd", epoch_complete=epoch_complete)], trials=3)
    assert states(result) == ["complete", "failed", "complete"]
    assert result.trials[1].error == "val_accuracy is nan in epoch 1"


def test_sweep_of_nothing_but_failures_ends_with_the_last_reason(write: Any) -> None:
    def start(self: Any, state: Any) -> None:
        raise ZeroDivisionError("a mistake")

    change = callback("breaks", start=start)
    message = (
        "all 3 trials of runs/digits-sweep have failed, trial 2 with ZeroDivisionError: a mistake; correct"
    )
    with pytest.raises(ArgusError, match=message):
        sweep(write(CHOICES, GRID), [change], trials=4)
    assert not Path("runs/digits-sweep/trial-0000").exists()  # it failed before its first update


def test_short_sweep_of_nothing_but_failures_is_an_error_too(write: Any) -> None:
    def start(self: Any, state: Any) -> None:
        raise ZeroDivisionError("a mistake")

    with pytest.raises(
        ArgusError, match="all 1 trials .* have failed, trial 0 with ZeroDivisionError: a mistake"
    ):
        sweep(write(CHOICES), [callback("breaks", start=start)], trials=1)


# Interruptions within one process; test_processes.py has real signals.


def test_interrupted_trial_is_gone_on_with_exactly(write: Any) -> None:
    stop = [True]

    def epoch_complete(self: Any, state: Any) -> None:
        if state.epoch == 1 and stop:
            raise KeyboardInterrupt

    change = callback("ends", epoch_complete=epoch_complete)
    with pytest.raises(KeyboardInterrupt):
        sweep(write(CHOICES), [change, "num_epochs=4", "fit.checkpoint_every=1up"], trials=1)
    stop.clear()
    result = sweep(write(CHOICES), [change, "num_epochs=4", "fit.checkpoint_every=1up"], trials=1)
    whole = sweep(write(CHOICES), [change, "num_epochs=4"], trials=1, study_dir="whole")
    assert states(result) == ["complete"]
    assert (result.trials[0].value, result.trials[0].epochs) == (whole.trials[0].value, 4)
    assert lines(result.trials[0])[-1] == lines(whole.trials[0])[-1]
    assert (result.trials[0].directory / "log.txt").read_text("utf-8").count("train starts") == 2


def begun(write: Any, *changes: str) -> tuple[RunDirectory, list[str]]:
    """Interrupt the first trial after its first epoch; return its run, and the changes to go on with."""
    stop = [True]

    def epoch_complete(self: Any, state: Any) -> None:
        if stop:
            raise KeyboardInterrupt

    all_changes = [callback("ends", epoch_complete=epoch_complete), "fit.checkpoint_every=1up", *changes]
    with pytest.raises(KeyboardInterrupt):
        sweep(write(CHOICES), all_changes, trials=1)
    stop.clear()
    return RunDirectory(Path("runs/digits-sweep/trial-0000")), all_changes


def damage_header(file: Path) -> None:
    file.write_bytes(b"no checkpoint")


def damage_tensors(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("damage", [damage_header, damage_tensors])
def test_trial_whose_checkpoint_is_damaged_starts_over_and_nothing_is_lost(write: Any, damage: Any) -> None:
    run, changes = begun(write)
    log, config = run.log.read_bytes(), run.config.read_bytes()
    damage(run.last)
    aside = RunDirectory(Path("runs/digits-sweep/trial-0000-set-aside-1"))
    with pytest.warns(
        ArgusWarning,
        match=rf"^trial 0 starts over, since its run cannot be resumed \(.*\); .* kept in {aside.path}$",
    ):
        result = sweep(write(CHOICES), changes, trials=1)
    assert states(result) == ["complete"]
    assert len(lines(result.trials[0])) == 2
    assert (aside.log.read_bytes(), aside.config.read_bytes()) == (log, config)
    assert aside.last.exists()


@pytest.mark.parametrize("refused", ["exists", "rename"])
def test_trial_whose_folder_the_system_refuses_is_kept_for_later(
    write: Any, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    run, changes = begun(write)
    log = run.log.read_bytes()
    damage_header(run.last)
    usual = getattr(Path, refused)

    def refuses(path: Path, *args: Any) -> Any:
        if path in (run.path, run.last):
            raise PermissionError(13, "Permission denied", str(path))
        return usual(path, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Path, refused, refuses)
        with pytest.raises(ArgusError, match="^trial 0 cannot be resumed: PermissionError: .*; correct that"):
            sweep(write(CHOICES), changes, trials=1)
    assert run.log.read_bytes() == log
    with pytest.warns(ArgusWarning, match="trial 0 starts over"):
        assert states(sweep(write(CHOICES), changes, trials=1)) == ["complete"]


def test_trial_that_is_damaged_again_is_set_aside_beside_the_first(write: Any) -> None:
    run, changes = begun(write)
    Path("runs/digits-sweep/trial-0000-set-aside-1").mkdir()
    damage_header(run.last)
    with pytest.warns(ArgusWarning, match="kept in runs/digits-sweep/trial-0000-set-aside-2$"):
        sweep(write(CHOICES), changes, trials=1)


def other_network(run: RunDirectory) -> str:
    text = run.config.read_text("utf-8")
    run.config.write_text(text.replace("width = 4", "width = 8"), encoding="utf-8")
    return "does not fit nn_module"


def unknown_key(run: RunDirectory) -> str:
    with run.config.open("a", encoding="utf-8") as file:
        file.write("\n[model.future]\n")
    return "there is no key|has 'future'"


def unknown_name(run: RunDirectory) -> str:
    text = run.config.read_text("utf-8")
    run.config.write_text(text.replace('"cnn"', '"cnnn"'), encoding="utf-8")
    return "no nn_module named 'cnnn'"


@pytest.mark.filterwarnings("ignore:the run that resumes from .* has changed")
@pytest.mark.parametrize("spoil", [other_network, unknown_key, unknown_name])
def test_trial_that_cannot_go_on_for_another_reason_waits_until_that_is_mended(
    write: Any, spoil: Any
) -> None:
    run, changes = begun(write)
    before = {file: file.read_bytes() for file in (run.config, run.last, run.log)}
    reason = spoil(run)
    message = (
        rf"^trial 0 cannot be resumed: .*({reason}).*; correct that and run the sweep again, "
        rf"or move {run.path} away, and trial 0 starts over$"
    )
    for _ in range(4):  # it is no kill, of which a trial survives two
        with pytest.raises(ArgusError, match=message):
            sweep(write(CHOICES), changes, trials=1)
    assert run.last.read_bytes() == before[run.last]
    run.config.write_bytes(before[run.config])
    [trial] = sweep(write(CHOICES), changes, trials=1).trials
    assert (trial.state, len(lines(trial))) == ("complete", 2)
    assert run.log.read_bytes().startswith(before[run.log])  # it went on


def test_trial_goes_on_where_the_sweep_runs_now(write: Any) -> None:
    run, changes = begun(write)
    text = run.config.read_text("utf-8")
    run.config.write_text(text.replace('device = "cpu"', 'device = "cuda:77"'), encoding="utf-8")
    [trial] = sweep(write(CHOICES), changes, trials=1).trials
    assert (trial.state, len(lines(trial))) == ("complete", 2)
    assert read_config(run.config).model["device"] == "cpu"


def test_trial_that_fails_once_it_has_gone_on_has_failed(write: Any) -> None:
    run, changes = begun(write)
    callback("fails", epoch_complete=lambda self, state: 1 / 0)
    text = run.config.read_text("utf-8")
    run.config.write_text(text.replace('"ends"', '"fails"'), encoding="utf-8")
    with pytest.raises(ArgusError, match="trial 0 with ZeroDivisionError: division by zero"):
        sweep(write(CHOICES), changes, trials=1)


def test_trial_whose_run_was_moved_away_starts_over(write: Any) -> None:
    run, changes = begun(write)
    run.path.rename("elsewhere")
    [trial] = sweep(write(CHOICES), changes, trials=1).trials
    assert (trial.state, len(lines(trial))) == ("complete", 2)


# What is refused before anything runs.


@pytest.mark.parametrize(
    ("space", "error", "message"),
    [
        (
            "optimizr.lr = { low = 0.1, high = 1.0 }",
            ConfigError,
            r"toml: \[sweep\.space\] 'optimizr\.lr': with optimizr\.lr=0\.1, there is no key 'optimizr'; d",
        ),
        (
            "optimizer.lrr = { low = 0.1, high = 1.0 }",
            ParamsError,
            r"with optimizer\.lrr=0\.1, \[model\] optimizer: optimizer 'SGD' has no parameter ",
        ),
        (
            "optimizer = { choices = ['SGD', 'AdamWW'] }",
            UnknownNameError,
            r"'optimizer': with optimizer=\"AdamWW\", no optimizer named 'AdamWW'; did you mean 'AdamW'",
        ),
        (
            "batch_size = { low = 0, high = 64 }",
            ConfigError,
            r"'batch_size': with batch_size=0, \[data\] batch_size is 0; give a whole number from 1 to 2",
        ),
        (
            "step.accumulate.steps = { low = 1, high = 2 }",
            ConfigError,
            r"'step\.accumulate\.steps': with .*=1, \[model\] step is not set; choose a component first",
        ),
        (
            "sweep.trials = { low = 1, high = 2 }",
            ConfigError,
            r"\[sweep\.space\] has 'sweep\.trials', but a run does not use \[sweep\]; leave it out",
        ),
        (
            "nn_module.width = { choices = [-4] }",
            BuildError,
            r"'nn_module\.width': with nn_module\.width=-4, nn_module 'cnn' cannot be built from ",
        ),
        (
            "nn_module.widht = { low = 1, high = 2 }",
            ParamsError,
            r"nn_module 'cnn' has no parameter .*; did you mean 'width'",
        ),
    ],
)
def test_space_that_does_not_fit_the_configuration_is_refused(
    write: Any, space: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        sweep(write(space))
    assert not Path("runs").exists()


def test_only_the_key_that_is_wrong_is_blamed(write: Any) -> None:
    space = "optimizer.lr = { low = 0.1, high = 1.0 }\noptimizer.lrr = { low = 0.1, high = 1.0 }"
    with pytest.raises(ParamsError, match=r"\[sweep\.space\] 'optimizer\.lrr': with optimizer\.lrr=0\.1, "):
        sweep(write(space))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("device=zzz", "^unknown device 'zzz'"),
        ("nn_module.width=-4", "^nn_module 'cnn' cannot be built from "),
    ],
)
def test_what_is_wrong_without_the_space_is_not_blamed_on_it(write: Any, change: str, message: str) -> None:
    with pytest.raises(ArgusError, match=message):
        sweep(write(), [change])
    assert not Path("runs").exists()


def test_metric_that_nobody_computes_is_refused(write: Any) -> None:
    with pytest.raises(
        ConfigError, match="monitor = 'val_acuracy', which no metric computes; did you mean 'val_accuracy'"
    ):
        sweep(write(), ["monitor=val_acuracy"])
    with pytest.raises(
        ConfigError, match="which no metric computes; the metrics are val_loss, val_accuracy, train_"
    ):
        sweep(write(), ["monitor=zzz"])


@pytest.mark.parametrize(
    ("better", "message"), [("max", None), (None, "does not declare whether higher or lower is better$")]
)
def test_metric_of_several_values_says_which_way_is_better(
    write: Any, better: str | None, message: str | None
) -> None:
    class Scores(argus_core.Metric):
        name = "scores"
        several = True

        def reset(self) -> None: ...

        def update(self, step_output: Any) -> None: ...

        def compute(self) -> float:
            return 0.0

    Scores.better = better  # type: ignore[assignment]
    argus_core.register("metric", "scores", Scores)
    changes = ["metrics=scores", "monitor=val_scores_recall"]
    if message is None:
        assert sweep(write(), changes, timeout=1e-9).better == "max"
    else:
        with pytest.raises(ConfigError, match=message):
            sweep(write(), changes, timeout=1e-9)


def test_trial_whose_run_was_done_when_its_process_was_killed_is_recorded(
    write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr("argus_optuna.study.Study.finish", killed)
        with pytest.raises(SystemExit):
            sweep(write(CHOICES), trials=1)
    for lock in Path("runs/digits-sweep/locks").iterdir():
        lock.unlink()  # as when the process is gone
    [trial] = sweep(write(CHOICES), trials=1).trials
    assert (trial.state, trial.epochs, len(lines(trial))) == ("complete", 2, 2)
    assert trial.value == max(line["val_accuracy"] for line in lines(trial))


def test_trial_that_was_pruned_when_its_process_was_killed_stays_so(
    write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise SystemExit

    pruner = 'pruner = ["threshold", { lower = 2.0 }]'
    with monkeypatch.context() as patch:
        patch.setattr("argus_optuna.study.Study.finish", killed)
        with pytest.raises(SystemExit):
            sweep(write(CHOICES, pruner), trials=1)
    for lock in Path("runs/digits-sweep/locks").iterdir():
        lock.unlink()
    [trial] = sweep(write(CHOICES, pruner), trials=1).trials
    assert (trial.state, trial.epochs, len(lines(trial))) == ("pruned", 1, 1)


def test_missing_configuration_is_refused(write: Any) -> None:
    with pytest.raises(ConfigError, match="no configuration 'digits.tml'"):
        sweep("digits.tml")


@pytest.mark.parametrize("change", ["num_epochs=5", "optimizer.momentum=0.9", "train.split=train", "seed=1"])
def test_another_configuration_is_another_study(write: Any, change: str) -> None:
    sweep(write(), timeout=1e-9)
    with pytest.raises(
        ConfigError, match=r"has another configuration: \w+\.[\w.]+ was .* and is .*; undo the change"
    ):
        sweep(write(), [change])


@pytest.mark.parametrize(
    "change", ["optimizer.lr=0.9", "num_threads=2", "checkpoint_every=2ep", "device=auto"]
)
def test_what_is_searched_and_where_it_runs_may_change(write: Any, change: str) -> None:
    sweep(write(), timeout=1e-9)
    assert sweep(write(), [change], timeout=1e-9).trials == ()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_full_disk_ends_the_sweep_and_the_trial_goes_on_later(code: int, write: Any) -> None:
    fails = [True]

    def epoch_start(self: Any, state: State) -> None:
        if state.epoch == 1 and fails[0]:
            try:
                raise OSError(code, os.strerror(code))
            except OSError as error:
                raise CheckpointError(f"cannot write a file: {error.strerror}; free some space") from error

    change = callback("writes", epoch_start=epoch_start)
    with pytest.raises(
        ArgusError,
        match="trial 0 is interrupted: cannot write a file: .*; free some space; then run the sweep",
    ):
        sweep(write(), changes=[change], trials=3)
    assert not Path("runs/digits-sweep/trial-0001").exists()
    fails[0] = False
    result = sweep(write(), changes=[change], trials=3)
    assert states(result) == ["complete"] * 3
    assert [line["epoch"] for line in lines(result.trials[0])] == [0, 1]


def test_best_checkpoint_that_cannot_be_copied_is_copied_by_the_next_sweep(
    write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*paths: Path) -> None:
        raise CheckpointError("cannot write best.safetensors: No space left on device; free some space")

    with monkeypatch.context() as patch:
        patch.setattr("argus_optuna.study._copy", full)
        with pytest.raises(ArgusError, match="trial 0 is interrupted: cannot write best"):
            sweep(write(), trials=1)
    result = sweep(write(), trials=1)
    assert states(result) == ["complete"]
    assert result.best_checkpoint is not None
    assert result.best is not None
    assert result.best.checkpoint is not None
    assert result.best_checkpoint.read_bytes() == result.best.checkpoint.read_bytes()
