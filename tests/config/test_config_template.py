"""A file starts from a configuration by name, and its own keys go over it as ``--set`` does."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import argus_core
from argus_core.cli import main
from argus_core.config import Config, complete_config, read_config, resolved_toml
from argus_core.config.template import build_template
from argus_core.errors import ArgusError, BuildError, ConfigError, ParamsError, UnknownNameError
from argus_core.registry.file_params import FileParam

pytestmark = pytest.mark.torchfree

FILE = 'template = "baseline"\n'


def baseline(lr: float = 0.1, classes: int = 10) -> dict[str, Any]:
    """Return how to train a classifier.

    Args:
        lr: the learning rate.
        classes: how many.
    """
    return {
        "model": {
            "nn_module": ("cnn", {"classes": classes, "sizes": {"width": 16, "depth": 2}}),
            "loss": "CrossEntropyLoss",
            "optimizer": ("SGD", {"lr": lr, "momentum": 0.9}),
            "step": ["amp", ("medseg/accumulate", {"steps": 2})],
        },
        "data": {"train": ["digits", {"split": "train"}], "val": "digits", "batch_size": 64},
        "fit": {"num_epochs": 3, "metrics": ["accuracy"], "lr_scheduler": ("StepLR", {"step_size": 2})},
    }


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    with argus_core.isolated_registry(builtins=True):
        argus_core.register("config", "baseline", baseline)
        yield


def read(tmp_path: Path, text: str, *changes: str) -> Config:
    path = tmp_path / "mine.toml"
    path.write_text(text, "utf-8")
    return read_config(path, changes)


def over(tmp_path: Path, lines: str, section: str = "model") -> Config:
    return read(tmp_path, f"{FILE}[{section}]\n{lines}\n")


# What a file has of its template.


def test_file_has_all_that_its_template_says(tmp_path: Path) -> None:
    config = read(tmp_path, FILE)
    assert config.params == {
        "nn_module": ("cnn", {"classes": 10, "sizes": {"width": 16, "depth": 2}}),
        "loss": "CrossEntropyLoss",
        "optimizer": ("SGD", {"lr": 0.1, "momentum": 0.9}),
        "step": ["amp", ("medseg/accumulate", {"steps": 2})],
        "device": "auto",
    }
    assert (config.data["train"], config.data["batch_size"]) == (("digits", {"split": "train"}), 64)
    assert (config.fit["num_epochs"], config.fit["monitor"]) == (3, "val_loss")


def test_run_directory_is_named_after_the_file(tmp_path: Path) -> None:
    assert read(tmp_path, FILE).fit["run_dir"] == "runs/mine"


@pytest.mark.parametrize(
    "written",
    ['["baseline", { lr = 0.5 }]', '{ name = "baseline", lr = 0.5 }'],
)
def test_template_takes_parameters_like_any_spec(tmp_path: Path, written: str) -> None:
    config = read(tmp_path, f"template = {written}\n")
    assert config.params["optimizer"] == ("SGD", {"lr": 0.5, "momentum": 0.9})


def test_resolved_configuration_says_everything_without_the_template(tmp_path: Path) -> None:
    config = read(tmp_path, FILE + "[model]\noptimizer.lr = 0.5\n")
    text = resolved_toml(config)
    assert "template" not in text
    with argus_core.isolated_registry():
        assert read(tmp_path, text) == config


def test_changes_of_the_command_line_go_over_file_and_template(tmp_path: Path) -> None:
    config = read(tmp_path, FILE + "[fit]\nnum_epochs = 5\n", "num_epochs=7", "step.accumulate.steps=8")
    assert config.fit["num_epochs"] == 7
    assert config.params["step"][1] == ("medseg/accumulate", {"steps": 8})


# The file's own keys.


@pytest.mark.parametrize(
    ("line", "key", "expected"),
    [
        ("optimizer.lr = 0.5", "optimizer", ("SGD", {"lr": 0.5, "momentum": 0.9})),
        (
            "optimizer = { nesterov = true }",
            "optimizer",
            ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
        ),
        ('optimizer = "Adam"', "optimizer", "Adam"),
        ('optimizer = "SGD"', "optimizer", "SGD"),
        ('optimizer = ["SGD", { lr = 0.5 }]', "optimizer", ("SGD", {"lr": 0.5})),
        ('optimizer = { name = "SGD", lr = 0.5 }', "optimizer", ("SGD", {"lr": 0.5})),
        ("loss.label_smoothing = 0.1", "loss", ("CrossEntropyLoss", {"label_smoothing": 0.1})),
        (
            "nn_module.sizes.width = 8",
            "nn_module",
            ("cnn", {"classes": 10, "sizes": {"width": 8, "depth": 2}}),
        ),
        ("nn_module.sizes = 8", "nn_module", ("cnn", {"classes": 10, "sizes": 8})),
        ("nn_module.sizes = {}", "nn_module", ("cnn", {"classes": 10, "sizes": {}})),
        (
            'nn_module.sizes = { name = "small" }',
            "nn_module",
            ("cnn", {"classes": 10, "sizes": {"name": "small"}}),
        ),
        ("step.accumulate.steps = 4", "step", ["amp", ("medseg/accumulate", {"steps": 4})]),
        (
            'step.amp.dtype = "float16"',
            "step",
            [("amp", {"dtype": "float16"}), ("medseg/accumulate", {"steps": 2})],
        ),
        ('step = "amp"', "step", ["amp"]),
        ("step = []", "step", []),
        ('prediction_transform = "Softmax"', "prediction_transform", "Softmax"),
        ('device = "cpu"', "device", "cpu"),
    ],
)
def test_key_of_the_file_goes_over_that_of_the_template(
    tmp_path: Path, line: str, key: str, expected: object
) -> None:
    config = over(tmp_path, line)
    assert config.params[key] == expected
    untouched = set(config.params) - {key}
    assert {name: config.params[name] for name in untouched} == {
        name: value for name, value in read(tmp_path, FILE).params.items() if name in untouched
    }


@pytest.mark.parametrize(
    "change",
    [
        "optimizer.lr=0.5",
        "optimizer=Adam",
        "step.accumulate.steps=4",
        "nn_module.sizes.width=8",
        "batch_size=8",
    ],
)
def test_key_of_the_file_does_what_the_same_change_does(tmp_path: Path, change: str) -> None:
    key, _, value = change.partition("=")
    section = "data" if key == "batch_size" else "model"
    text = f'"{value}"' if value.isalpha() else value
    assert over(tmp_path, f"{key} = {text}", section) == read(tmp_path, FILE, change)


def test_parameters_of_a_template_stay_its_own(tmp_path: Path) -> None:
    shared = baseline()
    argus_core.register("config", "shared", lambda: shared)
    read(tmp_path, 'template = "shared"\n[model]\nnn_module.sizes.width = 8\nstep.accumulate.steps = 9\n')
    assert shared == baseline()


def test_own_class_of_model_merges_its_own_keys(tmp_path: Path) -> None:
    argus_core.register(
        "config",
        "vae",
        lambda: {
            "model": {"name": "VAE", "nn_module": {"width": 8, "depth": 2}, "prior": {"mean": 0, "dev": 1}},
            "data": {"train": "digits"},
        },
    )
    config = read(
        tmp_path, 'template = "vae"\n[model]\nnn_module.width = 4\nprior.mean = 1\nbeta = { up = 1 }\n'
    )
    assert config.params["nn_module"] == {"width": 4, "depth": 2}
    assert (config.params["prior"], config.params["beta"]) == ({"mean": 1, "dev": 1}, {"up": 1})
    assert read(tmp_path, 'template = "vae"\n[model]\nprior = 3\n').params["prior"] == 3


@pytest.mark.parametrize("own", [["SGD", {"lr": 0.1}], ("SGD", {"lr": 0.1})])
def test_own_class_of_model_may_have_specs_of_its_own(tmp_path: Path, own: Any) -> None:
    def gan() -> dict[str, Any]:
        return {"model": {"name": "GAN", "second": own, "sizes": [1, 2]}, "data": {"train": "digits"}}

    argus_core.register("config", "gan", gan)
    config = read(tmp_path, 'template = "gan"\n[model]\nsecond.lr = 0.5\n')
    assert config.params["second"] == ("SGD", {"lr": 0.5})
    assert read(tmp_path, 'template = "gan"\n', "second.lr=0.5") == config
    with pytest.raises(ConfigError, match=r"mine\.toml: \[model\] sizes is \[1, 2\]; set it whole"):
        read(tmp_path, 'template = "gan"\n[model]\nsizes.first = 3\n')


def test_section_of_a_command_is_merged_table_by_table(tmp_path: Path) -> None:
    argus_core.register(
        "config", "swept", lambda: baseline() | {"sweep": {"trials": 5, "space": {"lr": {"low": 0.1}}}}
    )
    text = 'template = "swept"\n[sweep]\ntrials = 9\nspace.lr.high = 1.0\n'
    config = read(tmp_path, text)
    assert config.commands == {"sweep": {"trials": 9, "space": {"lr": {"low": 0.1, "high": 1.0}}}}


@pytest.mark.parametrize(
    ("section", "line", "reason"),
    [
        ("model", "step.acumulate.steps = 4", r"step has no 'acumulate'; did you mean 'medseg/accumulate'"),
        (
            "model",
            "step.accumulate = 4",
            r"step\.accumulate is 4; give a table of parameters of 'accumulate'",
        ),
        ("model", "optimizer = {}", r"optimizer is \{\}; give a name, "),
        ("model", "optimiser.lr = 1", r"\[model\] has 'optimiser'; did you mean 'optimizer'"),
        ("model", "device.index = 1", r"device is \{'index': 1\}; give a device"),
        ("model", "prediction_transform.dim = 1", r"prediction_transform is \{'dim': 1\}; give a name, "),
        ("fit", "num_epochs.most = 4", r"num_epochs is \{'most': 4\}; give a whole number"),
        ("fit", 'template = "baseline"', r"\[fit\] has 'template', which belongs at the top of the file"),
        ("data", "train.name = 3", r"train is \{'name': 3\}; give a name, "),
    ],
)
def test_what_a_key_does_not_take_is_told_of_the_file(
    tmp_path: Path, section: str, line: str, reason: str
) -> None:
    with pytest.raises(ConfigError, match=r"mine\.toml: .*" + reason):
        over(tmp_path, line, section)


def test_component_that_a_template_has_twice_is_set_whole(tmp_path: Path) -> None:
    argus_core.register("config", "twice", lambda: {"fit": {"metrics": ["f1", ("f1", {"name": "other"})]}})
    with pytest.raises(ConfigError, match=r"metrics has 'f1' 2 times; set it whole"):
        read(tmp_path, 'template = "twice"\n[fit]\nmetrics.f1.name = "third"\n')
    argus_core.register("config", "none", lambda: {"fit": {"metrics": []}})
    with pytest.raises(ConfigError, match=r"metrics has no 'f1'; it is empty; write the whole list"):
        read(tmp_path, 'template = "none"\n[fit]\nmetrics.f1.name = "third"\n')


# Templates of templates.


def test_template_may_start_from_another(tmp_path: Path) -> None:
    def small(lr: float = 0.3) -> dict[str, Any]:
        return {"template": ("baseline", {"lr": lr}), "model": {"nn_module": {"classes": 3}}}

    argus_core.register("config", "small", small)
    argus_core.register("config", "tiny", lambda: {"template": "small", "fit": {"num_epochs": 1}})
    config = read(tmp_path, 'template = "tiny"\n[data]\nbatch_size = 8\n')
    assert config.params["nn_module"] == ("cnn", {"classes": 3, "sizes": {"width": 16, "depth": 2}})
    assert config.params["optimizer"] == ("SGD", {"lr": 0.3, "momentum": 0.9})
    assert (config.fit["num_epochs"], config.data["batch_size"]) == (1, 8)


def test_templates_in_a_circle_are_refused(tmp_path: Path) -> None:
    argus_core.register("config", "a", lambda: {"template": "b"})
    argus_core.register("config", "b", lambda: {"template": "c"})
    argus_core.register("config", "c", lambda: {"template": "b"})
    with pytest.raises(
        ConfigError, match=r"^config 'c' of this process starts from itself: b -> c -> b; let its template be"
    ):
        read(tmp_path, 'template = "a"\n')


# Templates that cannot be had.


@pytest.mark.parametrize(
    ("written", "error", "reason"),
    [
        ('"baselin"', UnknownNameError, "no config named 'baselin'; did you mean 'baseline'"),
        ('"SGD"', UnknownNameError, "no config named 'SGD'; there is an optimizer of that name"),
        ('"medseg/baseline"', UnknownNameError, "the package 'medseg' is not installed"),
        ("3", ConfigError, r"mine\.toml: template is 3; give a name, "),
        ("[]", ConfigError, r"mine\.toml: template is \[\]; give a name, "),
        (
            '["baseline", "other"]',
            ConfigError,
            r"mine\.toml: template is \['baseline', 'other'\]; give a name",
        ),
        (
            '["baseline", { rate = 1 }]',
            ParamsError,
            r"config 'baseline' of .* takes baseline\(lr=0\.1, classes=10\)",
        ),
    ],
)
def test_template_that_there_is_not_is_told(
    tmp_path: Path, written: str, error: type[ArgusError], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        read(tmp_path, f"template = {written}\n")


def test_misspelled_key_of_the_template_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"mine\.toml has the section \[templat\]; did you mean 'template'"):
        read(tmp_path, 'templat = "baseline"\n')


def _holds_itself() -> dict[str, Any]:
    table: dict[str, Any] = {}
    table["model"] = table
    return table


def _fails() -> dict[str, Any]:
    raise ZeroDivisionError("no classes")


@pytest.mark.parametrize(
    ("factory", "error", "reason"),
    [
        (lambda: None, ConfigError, "returned None; its factory must return a dict of sections"),
        (lambda: "baseline", ConfigError, "returned 'baseline'; its factory must return a dict"),
        (
            lambda: [("model", {})],
            ConfigError,
            r"returned \[\(\'model\', \{\}\)\]; its factory must return a dict",
        ),
        (lambda: {3: {}}, ConfigError, "has the key 3; keys are strings"),
        (lambda: {"model": {"loss": None}}, ConfigError, r"\['model'\]\['loss'\] is None; a configuration"),
        (
            lambda: {"model": {"step": [len]}},
            ConfigError,
            r"\['model'\]\['step'\]\[0\] is of type builtin_fu",
        ),
        (lambda: {"fit": {"run_dir": Path("runs")}}, ConfigError, r"\['fit'\]\['run_dir'\] is of type Posix"),
        (_holds_itself, ConfigError, "is nested too deeply, or contains itself; make it flatter"),
        (_fails, BuildError, r"cannot be built from \(\): ZeroDivisionError: no classes"),
        (lambda: exit(3), BuildError, r"cannot be built from \(\): SystemExit: 3"),
        (lambda: {"modl": {}}, ConfigError, r" has the section \[modl\]; did you mean 'model'"),
        (lambda: {"model": 3}, ConfigError, r": 'model' is 3; write it as \[model\]"),
        (lambda: {"fit": {"epochs": 3}}, ConfigError, r": \[fit\] has 'epochs'; did you mean"),
        (lambda: {"fit": {"num_epochs": 0}}, ConfigError, r": \[fit\] num_epochs is 0; give"),
    ],
)
def test_template_that_is_no_configuration_is_told(
    tmp_path: Path, factory: Callable[[], Any], error: type[ArgusError], reason: str
) -> None:
    argus_core.register("config", "broken", factory)
    with pytest.raises(error, match=r"config 'broken' of this process.*" + reason) as caught:
        read(tmp_path, 'template = "broken"\n')
    assert "\n" not in str(caught.value)


def test_what_a_template_leaves_out_is_asked_of_the_file(tmp_path: Path) -> None:
    argus_core.register("config", "partial", lambda: {"fit": {"num_epochs": 3}})
    with pytest.raises(ConfigError, match=r"mine\.toml: \[model\] has no 'nn_module'"):
        read(tmp_path, 'template = "partial"\n')


def test_document_stays_as_it_is(tmp_path: Path) -> None:
    document = {"template": ["baseline", {"lr": 0.5}], "model": {"nn_module": {"sizes": {"width": 8}}}}
    before = json.dumps(document)
    complete_config(document, tmp_path / "mine.toml")
    assert json.dumps(document) == before


# The command line.


def test_show_prints_what_a_template_says() -> None:
    output = CliRunner().invoke(main, ["show", "config", "baseline"]).output
    assert "\nbaseline(lr: float = 0.1, classes: int = 10)\n" in output
    assert "\n[data]\n" in output
    assert "batch_size = 64\n" in output
    record = json.loads(CliRunner().invoke(main, ["show", "config", "baseline", "--json"]).output)
    assert record["configuration"]["fit"]["num_epochs"] == 3


def test_show_does_not_build_a_template_that_needs_a_parameter() -> None:
    def needy(classes: int) -> dict[str, Any]:
        return baseline(classes=classes)

    argus_core.register("config", "needy", needy)
    result = CliRunner().invoke(main, ["show", "config", "needy"])
    assert result.exit_code == 0
    assert "[data]" not in result.output


def test_templates_are_listed() -> None:
    assert "config  baseline" in CliRunner().invoke(main, ["list", "config"]).output


def test_template_is_read_without_torch(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(FILE, "utf-8")
    program = (
        "import sys, argus_core; from pathlib import Path; from argus_core.config import read_config; "
        "argus_core.register('config', 'baseline', lambda: {'model': {'nn_module': 'cnn', 'loss': 'MSELoss', "
        "'optimizer': 'SGD'}, 'data': {'train': 'digits'}}); "
        "assert read_config(Path(sys.argv[1])).params['loss'] == 'MSELoss'; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program, str(file)], check=True)


def test_built_template_is_a_copy() -> None:
    shared = baseline()
    argus_core.register("config", "shared", lambda: shared)
    built = build_template(argus_core.resolve("config", "shared"), {})
    built["fit"]["num_epochs"] = 99
    assert shared == baseline()


def test_a_file_sets_of_a_template_only_what_a_file_may_set(tmp_path: Path) -> None:
    def shelled(command: str = "none", classes: int = 10) -> dict[str, Any]:
        return baseline(classes=classes)

    shelled.file_params = {"command": FileParam("runs the program that it names")}  # type: ignore[attr-defined]
    argus_core.register("config", "shelled", shelled)
    argus_core.register(
        "config", "chosen", lambda: {"template": ["shelled", {"command": "the template's own author"}]}
    )
    read(tmp_path, 'template = ["shelled", { classes = 3 }]\n')
    read(tmp_path, 'template = "chosen"\n')
    with pytest.raises(
        ConfigError,
        match="command of config 'shelled' .* is 'touch ran'; a configuration must not set it, since it runs "
        "the program that it names; if you trust it, build the template in Python",
    ):
        read(tmp_path, 'template = ["shelled", { command = "touch ran" }]\n')
