"""The commands that train and predict, and what they read and write."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from programs import run_program
from rewritten import changed_callback
from safetensors.torch import load_file
from small_runs import broken_points, points, small_config, small_registry

import argus_core
from argus_core import cli
from argus_core.config import read_config
from argus_core.errors import BuildError
from argus_core.runs.run import train

ROOT = Path(__file__).parents[2]


def argus(*args: str | Path) -> Result:
    """Call the command; what it does not handle is raised here."""
    return CliRunner().invoke(cli.main, list(map(str, args)), catch_exceptions=False)


@pytest.fixture(autouse=True)
def folder(small_folder: Path) -> Path:
    return small_folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the best checkpoint of a run that is done once for the whole file."""
    folder = tmp_path_factory.mktemp("trained")
    with small_registry():
        result = train(read_config(small_config(folder), [f"run_dir={folder / 'run'}"]))
    return result.directory.best


@pytest.mark.parametrize(
    "command", ["export BEST LONG.pt", "export BEST LONG/b.pt", "convert BEST LONG.safetensors"]
)
def test_path_that_is_too_long_for_the_system_is_one_sentence(command: str, trained: Path) -> None:
    words = [word.replace("LONG", "a" * 5000).replace("BEST", str(trained)) for word in command.split()]
    result = argus(*words)
    assert result.exit_code == 1
    assert re.fullmatch(
        r"error: path '?aaa.* is too long for this system; give a shorter one\n", result.stderr
    )


def best_value(run_dir: Path) -> float:
    lines = (run_dir / "metrics.jsonl").read_text("utf-8").splitlines()
    return max(json.loads(line)["val_accuracy"] for line in lines)


# train.


def test_train_tells_where_things_are_and_the_best_value_exactly(folder: Path) -> None:
    result = argus("train", "small.toml")
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[0] == "run directory: run"
    assert "last checkpoint: run/checkpoints/last.safetensors" in lines
    assert "best checkpoint: run/checkpoints/best.safetensors" in lines
    assert re.fullmatch(rf"best val_accuracy: {best_value(folder / 'run')!r} \(epoch [123]\)", lines[-1])


def test_train_changes_the_configuration(folder: Path) -> None:
    argus(
        "train", "small.toml", "--set", "num_epochs=1", "--set", "step.accumulate.steps=4", "--device", "cpu"
    )
    config = read_config(folder / "run" / "config.toml")
    assert (config.fit["num_epochs"], config.params["step"]) == (1, [("accumulate", {"steps": 4})])


def test_train_keeps_the_run_where_it_is_told(folder: Path) -> None:
    argus("train", "small.toml", "--set", "num_epochs=1", "--run-dir", "2024")
    assert (folder / "2024" / "checkpoints" / "best.safetensors").exists()
    assert read_config(folder / "2024" / "config.toml").fit["run_dir"] == "2024"


def test_train_refuses_a_directory_that_holds_a_run(folder: Path) -> None:
    argus("train", "small.toml", "--set", "num_epochs=1")
    result = argus("train", "small.toml")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "error: run already holds a run; resume it (argus resume), choose another with --run-dir, "
        "or replace it with --overwrite\n"
    )


def test_train_overwrites_a_run_if_asked(folder: Path) -> None:
    argus("train", "small.toml", "--set", "num_epochs=1")
    assert argus("train", "small.toml", "--overwrite").exit_code == 0
    assert len((folder / "run" / "metrics.jsonl").read_text("utf-8").splitlines()) == 3


def test_train_that_cannot_begin_leaves_nothing_behind(folder: Path) -> None:
    result = argus("train", "small.toml", "--set", "loss=CrossEntropyLos")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: no loss named 'CrossEntropyLos'; did you mean 'CrossEntropyLoss'")
    assert not (folder / "run").exists()


def test_train_tells_the_metrics_on_the_test_data(folder: Path) -> None:
    lines = argus("train", "small.toml", "--set", 'test=["points", {split="test"}]').output.splitlines()
    tested = json.loads((folder / "run" / "test.json").read_text("utf-8"))
    assert lines[-2:] == [f"{name}: {value!r}" for name, value in tested.items()]


def test_train_tells_that_there_is_no_best_checkpoint(folder: Path) -> None:
    argus_core.register("dataset", "broken", broken_points)
    result = argus("train", "small.toml", "--set", "val=broken", "--set", "monitor=val_loss")
    assert result.output.splitlines()[-1] == "no best checkpoint: val_loss was never finite"


def test_resume_deletes_no_file_that_a_checkpoint_names(folder: Path) -> None:
    argus("train", "small.toml", "--set", "num_epochs=1")
    thesis = folder / "thesis.tex"
    thesis.write_text("years")
    last = folder / "run" / "checkpoints" / "last.safetensors"
    before = last.read_bytes()
    changed_callback(
        last, "last_checkpoint", lambda state: {**state, "saved": ["../../thesis.tex", str(thesis)]}
    )
    result = argus("resume", "run", "--set", "num_epochs=3")
    assert result.exit_code == 1
    assert (
        "last.safetensors: the stored state of callback 'last_checkpoint' is not as argus_core"
        in result.stderr
    )
    assert len(result.stderr.strip().splitlines()) == 1
    last.write_bytes(before)
    assert argus("resume", "run", "--set", "num_epochs=3").exit_code == 0
    assert thesis.read_text() == "years"


@pytest.mark.filterwarnings("default::argus_core.ArgusWarning")  # the command prints them
@pytest.mark.parametrize(("schedule", "status", "told"), [
    ("warmup_cosine", 0, "follows the curve that the run began with"),
    ('["one_cycle", { warmup = 2 }]', 1, "has 0 steps left, and the run makes up to"),
    ("CosineAnnealingLR", 1, "in which its rate would rise again; resume with fewer num_epochs"),
])  # fmt: skip
def test_resume_with_more_epochs_does_what_the_schedule_allows(
    schedule: str, status: int, told: str, folder: Path
) -> None:
    begun = argus("train", "small.toml", "--set", f"lr_scheduler={schedule}", "--set", "num_epochs=2")
    assert begun.exit_code == 0, begun.stderr
    result = argus("resume", "run", "--set", "num_epochs=4")
    assert (result.exit_code, told in result.stderr) == (status, True)


def test_train_that_keeps_no_checkpoint_ends_with_an_error(folder: Path) -> None:
    result = argus("train", "small.toml", "--set", "optimizer.lr=1e38", "--set", "monitor=val_loss")
    assert result.exit_code == 1
    assert "error: the run ended and kept no checkpoint: best_checkpoint kept no" in result.stderr
    assert (folder / "run" / "metrics.jsonl").exists()


# explain.


def test_explain_draws_the_update_and_runs_nothing(folder: Path) -> None:
    result = argus("explain", "small.toml", "--set", "step.accumulate.steps=4")
    assert re.search(r"window ─► 4 loader batches.* accumulate \(argus-torch ", result.output)
    assert [path.name for path in folder.iterdir()] == ["small.toml"]


def test_explain_refuses_steps_that_nobody_provides() -> None:
    result = argus("explain", "small.toml", "--set", "step=acumulate")
    assert result.stderr.startswith("error: no step named 'acumulate'; did you mean 'accumulate'?")


# inspect.


def test_inspect_prints_what_a_checkpoint_holds(trained: Path) -> None:
    output = argus("inspect", trained).output
    assert f"file: {trained}" in output
    assert re.search(r"\n  loss: CrossEntropyLoss  \(argus-torch .*, torch\.nn:CrossEntropyLoss\)\n", output)
    assert re.search(r"\n  nn_module: net  \(no package, networks:Net\)\n", output)
    assert "\n  nn/hidden.weight  float32 (8, 4)  128 bytes\n" in output


def test_inspect_is_read_by_programs_as_json(trained: Path) -> None:
    record = json.loads(argus("inspect", trained, "--json").output)
    assert record["components"]["optimizer"]["name"] == "argus-torch/SGD"
    assert record["tensors"]["nn/out.bias"] == {"dtype": "float32", "shape": [3], "bytes": 12}
    assert record["bytes"] == trained.stat().st_size


def test_inspect_refuses_a_damaged_checkpoint(trained: Path, folder: Path) -> None:
    shutil.copy(trained, folder / "cut.safetensors")
    os.truncate(folder / "cut.safetensors", 1000)
    result = argus("inspect", "cut.safetensors")
    assert (result.exit_code, result.stderr.startswith("error: cut.safetensors: ")) == (1, True)


def test_inspect_needs_neither_torch_nor_the_packages(trained: Path) -> None:
    code = (
        "import sys; from argus_core.cli import main\n"
        "try: main(['inspect', sys.argv[1]])\n"
        "except SystemExit as error: assert not error.code, error.code\n"
        "assert not {'torch', 'numpy'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(trained)], check=True, capture_output=True, text=True
    )
    assert "nn_module: net" in done.stdout


# predict.


def test_predict_reaches_the_best_value_to_the_last_digit(trained: Path) -> None:
    options = ("--param", "split=val", "--metric", "accuracy", "--batch-size", "8")
    lines = argus("predict", trained, "points", *options).output.splitlines()
    assert f"accuracy: {best_value(trained.parent.parent)!r}" in lines
    assert lines[-1] == "predictions: predictions.npz (30 samples)"


def test_predict_writes_what_the_model_predicts(trained: Path, folder: Path) -> None:
    argus("predict", trained, "points", "--param", "split=test")
    model = argus_core.load_model(trained)
    input, target = points("test").tensors
    with np.load(folder / "predictions.npz") as written:
        assert set(written.files) == {"prediction", "target"}
        assert np.allclose(written["prediction"], model.predict(input).numpy())
        assert written["target"].tolist() == target.tolist()


@pytest.mark.parametrize("suffix", ["npz", "npy", "csv", "safetensors"])
def test_predict_reads_and_writes_each_format(trained: Path, folder: Path, suffix: str) -> None:
    input, _ = points("test").tensors
    np.save("input.npy", input.numpy())
    assert argus("predict", trained, "input.npy", "--output", f"out.{suffix}").exit_code == 0
    expected = argus_core.load_model(trained).predict(input).numpy()
    assert np.allclose(_written(Path(f"out.{suffix}")), expected)


def _written(path: Path) -> Any:
    """Return the predictions in a file."""
    if path.suffix == ".csv":
        return np.loadtxt(path, delimiter=",", skiprows=1)
    if path.suffix == ".safetensors":
        return load_file(path)["prediction"].numpy()
    if path.suffix == ".npy":
        return np.load(path)
    with np.load(path) as archive:
        return archive["prediction"]


@pytest.mark.parametrize("sort", ["FIFO", "pickle", "shape", "pipe as a configuration"])
def test_hostile_input_is_refused_in_one_line(trained: Path, folder: Path, sort: str) -> None:
    command = ["predict", trained, "input.npy"]
    if sort == "FIFO":
        os.mkfifo("input.npy")
    elif sort == "pickle":
        np.save("input.npy", np.array([{}], dtype=object))
    elif sort == "shape":
        header = "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 3), }\n"
        Path("input.npy").write_bytes(b"\x93NUMPY\1\0" + bytes([len(header), 0]) + header.encode())
    else:
        os.mkfifo("a.toml")
        command = ["train", "a.toml"]
    result = argus(*command)
    assert result.exit_code == 1
    [line] = result.stderr.splitlines()
    assert re.match(r"error: .*(ordinary file|Python objects|24,000,000,000,000 bytes)", line)


def test_predict_computes_metrics_from_the_targets_in_a_file(trained: Path) -> None:
    input, target = points("val").tensors
    np.savez("val.npz", input=input.numpy(), target=target.numpy())
    lines = argus("predict", trained, "val.npz", "--metric", "accuracy").output.splitlines()
    assert f"accuracy: {best_value(trained.parent.parent)!r}" in lines


def test_predict_needs_the_loss_for_metrics_only(trained: Path) -> None:
    def not_to_be_built() -> None:
        raise RuntimeError("the loss was built")

    shutil.copy(trained, "a.safetensors")
    argus_core.register("loss", "own", torch.nn.CrossEntropyLoss)
    argus_core.load_model("a.safetensors", loss="own").save("a.safetensors")
    argus_core.register("loss", "own", not_to_be_built, override=True)
    assert argus("predict", "a.safetensors", "points").exit_code == 0
    with pytest.raises(BuildError, match="the loss was built"):
        argus_core.load_model("a.safetensors")


def test_predict_without_targets_cannot_compute_metrics(trained: Path) -> None:
    np.save("input.npy", points("val").tensors[0].numpy())
    result = argus("predict", trained, "input.npy", "--metric", "accuracy")
    assert result.exit_code == 1
    assert result.stderr == (
        "error: 'input.npy' has no targets, which --metric needs; leave --metric out, "
        "or give a file with input and target\n"
    )


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["points", "--param", "split"], "--param split: give KEY=VALUE, as in --param split=val"),
        (
            ["input.npy", "--param", "a=1"],
            "--param is for a dataset that is chosen by name, and 'input.npy' is a file",
        ),
        (["points", "--batch-size", "0"], "0 is not in the range 1<=x<="),
    ],
)
def test_predict_refuses_what_makes_no_sense(
    trained: Path, folder: Path, args: list[str], message: str
) -> None:
    shutil.copy(trained, folder / "a.safetensors")
    result = argus("predict", "a.safetensors", *(arg.format(checkpoint="a.safetensors") for arg in args))
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["pints"], "no dataset named 'pints'; did you mean 'points'"),
        (["points", "--param", "samples=0"], "dataset 'points' has no samples"),
        (["points", "--param", "spit=val"], "dataset 'points' has no parameter 'spit'"),
        (["points", "--metric", "acuracy"], "no metric named 'acuracy'; did you mean 'accuracy'"),
        (["nowhere.csv"], "no data file 'nowhere.csv'; check the path"),
        (
            ["points", "--output", "out.txt"],
            "cannot write 'out.txt'; give a name that ends in one of .npy, .npz",
        ),
        (["points", "--output", "no/out.npz"], "there is no folder 'no'; make it first"),
        (["points", "--device", "warp"], "unknown device 'warp'"),
    ],
)
def test_predict_names_what_is_wrong(trained: Path, folder: Path, args: list[str], message: str) -> None:
    result = argus("predict", trained, *args)
    assert result.exit_code == 1
    assert message in result.stderr
    assert not (folder / "predictions.npz").exists()


@pytest.mark.parametrize(
    ("checkpoint", "message"),
    [
        ("gone.safetensors", "no checkpoint at gone.safetensors"),
        ("small.toml", "small.toml is a configuration"),
    ],
)
def test_predict_checks_the_checkpoint_before_its_output(folder: Path, checkpoint: str, message: str) -> None:
    (folder / "predictions.npz").write_text("mine", "utf-8")
    assert argus("predict", checkpoint, "points").stderr.startswith(f"error: {message}")


def test_predict_replaces_a_file_only_if_asked(trained: Path, folder: Path) -> None:
    (folder / "predictions.npz").write_text("mine", "utf-8")
    result = argus("predict", trained, "points")
    assert (result.exit_code, result.stderr) == (
        1,
        "error: predictions.npz exists already; choose another output file, or add --overwrite\n",
    )
    assert (folder / "predictions.npz").read_text("utf-8") == "mine"
    assert argus("predict", trained, "points", "--overwrite").exit_code == 0
    with np.load(folder / "predictions.npz") as written:
        assert len(written["prediction"]) == 30


@pytest.mark.parametrize("is_link", [False, True])
def test_predict_replaces_no_file_that_was_put_there_meanwhile(
    trained: Path, folder: Path, is_link: bool
) -> None:
    (folder / "notes.txt").write_text("mine", "utf-8")
    output = folder / "predictions.npz"

    @argus_core.register("dataset", "meanwhile")
    def meanwhile() -> Any:
        output.symlink_to("notes.txt") if is_link else output.write_text("mine", "utf-8")
        return points()

    result = argus("predict", trained, "meanwhile")
    assert (result.exit_code, "predictions.npz exists already" in result.stderr) == (1, True)
    assert output.read_text("utf-8") == "mine"


def test_predict_replaces_what_a_link_leads_to_and_keeps_the_link(trained: Path, folder: Path) -> None:
    (folder / "old.npz").write_text("mine", "utf-8")
    (folder / "link.npz").symlink_to("old.npz")
    result = argus("predict", trained, "points", "--output", "link.npz")
    assert result.stderr == "error: link.npz exists already; choose another output file, or add --overwrite\n"
    assert argus("predict", trained, "points", "--output", "link.npz", "--overwrite").exit_code == 0
    assert (folder / "link.npz").readlink() == Path("old.npz")
    with np.load(folder / "old.npz") as written:
        assert len(written["prediction"]) == 30


@pytest.mark.parametrize("name", ["best.safetensors", "last.safetensors"])
def test_predict_never_replaces_a_checkpoint_of_a_run(trained: Path, name: str) -> None:
    before = trained.with_name(name).read_bytes()
    result = argus("predict", trained, "points", "--output", trained.with_name(name), "--overwrite")
    assert result.exit_code == 1
    assert re.search("is (also the input|a file of the run in .*); choose another output file", result.stderr)
    assert trained.with_name(name).read_bytes() == before


@pytest.mark.parametrize("suffix", ["npz", "npy", "csv", "safetensors"])
def test_predictions_that_cannot_be_written_leave_the_file_that_was_there(
    trained: Path, folder: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    output = folder / f"out.{suffix}"
    output.write_text("mine", "utf-8")
    monkeypatch.setattr(os, "fsync", full)
    result = argus("predict", trained, "points", "--output", output.name, "--overwrite")
    assert result.exit_code == 1
    assert result.stderr == (
        f"error: cannot write {output.name}: No space left on device; the file that was there is untouched; "
        "free some space or save elsewhere\n"
    )
    assert output.read_text("utf-8") == "mine"
    assert {path.name for path in folder.iterdir()} == {"small.toml", output.name}


# Processes of their own, with the packages that are installed.


def installed_argus(folder: Path, *args: str) -> list[str]:
    """Run the command as a user does; return the lines of its output."""
    done = subprocess.run(
        [sys.executable, "-m", "argus_core", *args], cwd=folder, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout.splitlines()


def test_example_trains_and_predicts_in_another_process_with_the_same_accuracy(folder: Path) -> None:
    example = str(ROOT / "examples" / "digits.toml")
    lines = installed_argus(folder, "train", example, "--set", "num_epochs=1", "--device", "cpu")
    best = re.fullmatch(r"best val_accuracy: (\S+) \(epoch \d\)", lines[-1])
    assert best is not None
    checkpoint = "runs/digits/checkpoints/best.safetensors"
    data = ("digits", "--param", "split=val", "--metric", "accuracy", "--device", "cpu")
    assert f"accuracy: {best[1]}" in installed_argus(folder, "predict", checkpoint, *data)
    versions = json.loads((folder / "runs/digits/versions.json").read_text("utf-8"))
    assert set(versions["providers"]) == {"argus-example", "argus-sklearn"}


RUN = """
import os, signal, sys
import argus_core
from argus_core.cli import main
from networks import Net
from small_runs import points

class Signal:
    def __init__(self, number, when, epoch=1):
        self.number, self.when, self.epoch = number, when, epoch
    def send(self, when, state):
        if (when, state.epoch) == (self.when, self.epoch):
            os.kill(os.getpid(), self.number)
    def epoch_start(self, state):
        self.send("start", state)
    def epoch_complete(self, state):
        self.send("complete", state)

argus_core.register("callback", "signal", Signal)
argus_core.register("dataset", "points", points)
argus_core.register("nn_module", "net", Net)
main(sys.argv[1:])
"""


def signalled(
    folder: Path, command: str, *args: str, number: int, when: str
) -> subprocess.CompletedProcess[str]:
    """Call the command in a process in whose run, at its second epoch, a signal comes."""
    callbacks = f'callbacks=[["signal", {{number = {int(number)}, when = "{when}"}}]]'
    return run_program(RUN, command, *args, "--set", callbacks, folder=folder)


@pytest.mark.parametrize(
    ("number", "status", "last"),
    [(signal.SIGINT, 130, ["interrupted"]), (signal.SIGTERM, 143, []), (signal.SIGHUP, 129, [])],
)
@pytest.mark.usefixtures("usual_signals")
def test_interrupted_run_says_how_to_go_on(folder: Path, number: int, status: int, last: list[str]) -> None:
    told = ["the run can be resumed: argus resume 'a run'", *last]
    done = signalled(folder, "train", "small.toml", "--run-dir", "a run", number=number, when="start")
    assert (done.returncode, done.stderr.splitlines()) == (status, told)
    begun = best_value(folder / "a run")
    again = ("a run/checkpoints/last.safetensors", "--set", "num_epochs=4")
    done = signalled(folder, "resume", *again, number=number, when="complete")
    assert (done.returncode, done.stderr.splitlines()) == (status, told)
    assert begun <= best_value(folder / "a run")
    resumed = argus(*shlex.split(told[0].partition("argus ")[2]), "--set", "callbacks=[]")
    assert resumed.exit_code == 0
    assert len((folder / "a run/metrics.jsonl").read_text("utf-8").splitlines()) == 4


@pytest.mark.usefixtures("usual_signals")
def test_interrupted_run_says_which_parts_resume_it(folder: Path) -> None:
    (folder / "own.py").write_text("")
    args = ("train", "small.toml", "--run-dir", "run", "--parts", "own.py")
    done = signalled(folder, *args, number=signal.SIGTERM, when="start")
    assert done.stderr == "the run can be resumed: argus resume run --parts own.py\n"


def test_run_interrupted_before_it_began_does_not_offer_the_one_that_it_would_have_replaced(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert argus("train", "small.toml", "--set", "num_epochs=1").exit_code == 0

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("argus_core.runs.run.build_model", interrupted)
    for args in (("train", "small.toml", "--overwrite"), ("resume", "run")):
        result = argus(*args)
        assert (result.exit_code, result.stderr) == (130, "interrupted\n")
    assert (folder / "run/checkpoints/last.safetensors").exists()


@pytest.mark.parametrize("command", ["train", "resume", "show", "explain", "inspect", "predict"])
def test_examples_of_the_help_work(
    command: str, folder: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every example is called as it stands there, where the files that it names are.

    Those of several processes stop where torchrun takes over; tests/parallel/test_launching.py starts it.
    """
    started: list[list[str]] = []

    def start(_: str, program: list[str]) -> None:
        started.append(program)
        raise SystemExit(0)

    monkeypatch.setattr("os.execv", start)
    (folder / "examples").symlink_to(ROOT / "examples")
    checkpoints = folder / "runs" / "digits" / "checkpoints"
    if command in ("inspect", "predict"):
        checkpoints.mkdir(parents=True)
        Path("new").mkdir()
        for name in ("images.npy", "new/images.npy"):
            np.save(name, torch.rand(3, 1, 8, 8).numpy())
        with argus_core.isolated_registry(builtins=True) as registry:
            registry.update(argus_core.registry.registry.scan())
            config = read_config(ROOT / "examples" / "digits.toml", ["device=cpu"])
            argus_core.Model(config.params).save(checkpoints / "best.safetensors")
    help_text = argus(command, "--help").output
    lines = re.findall(r"^ +argus (.+)$", help_text.partition("Examples:")[2], re.MULTILINE)
    assert lines
    with argus_core.isolated_registry(builtins=True) as registry:
        registry.update(argus_core.registry.registry.scan())
        if command == "resume":
            argus("train", "examples/digits.toml", "--set", "num_epochs=1", "--set", "batch_size=512")
        for line in lines:
            fewer = (
                ["--set", "num_epochs=1", "--set", "batch_size=512"] if command in ("train", "resume") else []
            )
            result = argus(*shlex.split(line), *fewer)
            assert result.exit_code == 0, (line, result.stderr)
    several = [line for line in lines if "--nproc-per-node" in line]
    assert [program[1:3] for program in started] == [["-m", "argus_core.cli.launcher"]] * len(several)


def wide_points() -> torch.utils.data.TensorDataset:
    """Return samples that have one number too many for the network."""
    return torch.utils.data.TensorDataset(torch.zeros(8, 5), torch.zeros(8, dtype=torch.long))


WIDE = (
    "error: RuntimeError: mat1 and mat2 shapes cannot be multiplied (8x5 and 4x8) (raised by the network's "
    "layer 'hidden' (Linear(in_features=4, out_features=8, bias=True)), "
    "in update 1 of train epoch 1, from the batch [(8, 5) float32, (8,) int64]); "
    "--traceback shows the lines of code"
)
UNREADABLE = (
    "error: OSError: truncated image (raised by the loader, in dataset Unreadable, at index 2, after 0 "
    "updates of train epoch 1); --traceback shows the lines of code"
)


class Unreadable(torch.utils.data.Dataset[Any]):
    """Cannot read its third sample."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> Any:
        if index == 2:
            raise OSError("truncated\nimage")
        return torch.zeros(4), 0


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (['data.train="wide"'], WIDE),
        (['data.train="unreadable"', "shuffle=false"], UNREADABLE),
    ],
)
def test_exception_of_a_network_or_a_dataset_is_one_sentence(
    changes: list[str], told: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    argus_core.register("dataset", "wide", wide_points)
    argus_core.register("dataset", "unreadable", Unreadable)
    options = [each for change in changes for each in ("--set", change)]
    result = argus("train", small_config(folder), *options)
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == told
    with pytest.raises((RuntimeError, OSError)):
        argus("train", small_config(folder), *options, "--traceback")
    monkeypatch.setenv("ARGUS_TRACEBACK", "1")
    with pytest.raises((RuntimeError, OSError)):
        argus("train", small_config(folder), *options)


@pytest.mark.parametrize("options", [(), ("--metric", "accuracy")])
def test_exception_of_a_checkpoints_transform_is_one_sentence(folder: Path, options: tuple[str, ...]) -> None:
    network = argus_core.Model(
        {
            "nn_module": "net",
            "loss": "CrossEntropyLoss",
            "prediction_transform": ("Softmax", {"dim": 99}),
            "device": "cpu",
        }
    )
    network.save("odd.safetensors")
    np.savez("points.npz", input=np.zeros((3, 4), np.float32), target=np.zeros(3, np.int64))
    result = argus("predict", "odd.safetensors", "points.npz", *options)
    assert result.exit_code == 1
    (told,) = result.stderr.splitlines()
    assert told.startswith("error: IndexError: Dimension out of range")
    assert "raised by the prediction transform Softmax, " in told
    assert told.endswith("leaves it out); --traceback shows the lines of code")
    with pytest.raises(IndexError):
        argus("predict", "odd.safetensors", "points.npz", *options, "--traceback")


def test_a_dry_run_says_what_it_has_tried_and_keeps_nothing(folder: Path) -> None:
    result = argus("train", "small.toml", "--dry-run", "--set", 'data.test=["points", { split = "test" }]')
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0] == "dry run of small.toml: its files go into a temporary folder, which is removed"
    assert {"train: 2 batches", "val: 1 batch", "test: 1 batch"} <= set(lines)
    assert re.fullmatch(r"checkpoint: saved and loaded, [\d,]+ bytes", lines[-2])
    assert re.fullmatch(r"nothing failed in \d+\.\d s; run is as it was", lines[-1])
    assert [file.name for file in folder.iterdir()] == ["small.toml"]


def test_a_dry_run_that_fails_exits_as_the_run_would(folder: Path) -> None:
    argus("train", "small.toml", "--set", "num_epochs=1")
    before = {file: file.read_bytes() for file in (folder / "run").rglob("*") if file.is_file()}
    refused = argus("train", "small.toml", "--dry-run")
    assert (refused.exit_code, "run already holds a run" in refused.output) == (1, True)
    failed = argus("train", "small.toml", "--dry-run", "--overwrite", "--set", "monitor=val_f1")
    assert (failed.exit_code, "error: [fit] monitors 'val_f1'" in failed.output) == (1, True)
    assert argus("train", "small.toml", "--dry-run", "--overwrite").exit_code == 0
    assert {file: file.read_bytes() for file in (folder / "run").rglob("*") if file.is_file()} == before
