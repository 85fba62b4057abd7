"""A configuration says what it takes, what is wrong with it, and can be changed from the command line."""

from __future__ import annotations

import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import argus_core
from argus_core.config import (
    SECTIONS,
    Config,
    complete_config,
    parse_value,
    read_config,
    read_document,
    resolved_toml,
)
from argus_core.errors import ConfigError
from argus_core.registry.spec import Spec

pytestmark = pytest.mark.torchfree

MODEL = """
[model]
nn_module = ["cnn", { classes = 10 }]
loss = "CrossEntropyLoss"
optimizer = ["AdamW", { lr = 2e-3 }]
"""
DATA = """
[data]
train = ["digits", { split = "train" }]
"""
STEPS = 'step = ["amp", ["accumulate", { steps = 2 }], ["clip_grad_norm", { max_norm = 1.0 }]]\n'


def config_file(tmp_path: Path, text: str, name: str = "digits.toml") -> Path:
    path = tmp_path / name
    path.write_text(text, "utf-8")
    return path


def read(tmp_path: Path, text: str, *changes: str) -> Config:
    return read_config(config_file(tmp_path, text), changes)


def model(tmp_path: Path, lines: str) -> dict[str, Any]:
    """Return the params that ``lines`` under [model], with what else must be there, are read into."""
    return read(tmp_path, MODEL + lines + DATA).params


def changed(tmp_path: Path, *changes: str) -> Config:
    return read(tmp_path, MODEL + STEPS + DATA + 'val = "digits"\n', *changes)


# Specs.


@pytest.mark.parametrize(
    ("written", "spec"),
    [
        ('"Softmax"', "Softmax"),
        ('["Softmax"]', "Softmax"),
        ('["Softmax", { dim = 1 }]', ("Softmax", {"dim": 1})),
        ('{ name = "Softmax", dim = 1 }', ("Softmax", {"dim": 1})),
        ('{ name = "Softmax" }', "Softmax"),
        ('["Softmax", { name = "a parameter" }]', ("Softmax", {"name": "a parameter"})),
        ('["Unflatten", { unflattened_size = [1, 8] }]', ("Unflatten", {"unflattened_size": [1, 8]})),
        ('"medseg/calibrated"', "medseg/calibrated"),
    ],
)
def test_spec_is_read_from_each_way_to_write_it(tmp_path: Path, written: str, spec: object) -> None:
    assert model(tmp_path, f"prediction_transform = {written}")["prediction_transform"] == spec


def test_spec_is_read_from_a_table_of_its_own(tmp_path: Path) -> None:
    text = '[model.prediction_transform]\nname = "Softmax"\ndim = 1\n'
    assert model(tmp_path, text)["prediction_transform"] == ("Softmax", {"dim": 1})


@pytest.mark.parametrize(
    ("written", "specs"),
    [
        ('"amp"', ["amp"]),
        ('["amp"]', ["amp"]),
        ('["amp", { dtype = "bfloat16" }]', [("amp", {"dtype": "bfloat16"})]),
        ('["amp", "accumulate"]', ["amp", "accumulate"]),
        ('["amp", ["accumulate", { steps = 2 }]]', ["amp", ("accumulate", {"steps": 2})]),
        ('[{ name = "accumulate", steps = 2 }, "amp"]', [("accumulate", {"steps": 2}), "amp"]),
        ("[]", []),
    ],
)
def test_several_specs_are_read_from_each_way_to_write_them(
    tmp_path: Path, written: str, specs: object
) -> None:
    assert model(tmp_path, f"step = {written}")["step"] == specs


@pytest.mark.parametrize("written", ["3", "[]", '""', "{ dim = 1 }", '["Softmax", 1]', '["Softmax", "ReLU"]'])
def test_spec_of_another_shape_is_refused(tmp_path: Path, written: str) -> None:
    with pytest.raises(
        ConfigError, match=r"digits\.toml: \[model\] prediction_transform is .*; give a name, "
    ):
        model(tmp_path, f"prediction_transform = {written}")


def test_spec_of_another_shape_among_several_is_refused_by_its_position(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[model\] step\[1\] is \{'steps': 2\}; give a name, "):
        model(tmp_path, 'step = ["amp", { steps = 2 }, "default"]')


# Defaults.


def test_what_is_left_out_has_its_default(tmp_path: Path) -> None:
    config = read(tmp_path, MODEL + DATA)
    assert config.params["device"] == "auto"
    assert {key: config.data[key] for key in ("batch_size", "val_batch_size", "num_workers")} == {
        "batch_size": 32,
        "val_batch_size": 32,
        "num_workers": 0,
    }
    assert (config.data["shuffle"], config.data["drop_last"], config.data["pin_memory"]) == (
        True,
        False,
        "auto",
    )
    assert (config.fit["num_epochs"], config.fit["metrics_on_train"]) == (1, False)
    assert "seed" not in config.fit


def test_val_batch_size_is_batch_size_unless_given(tmp_path: Path) -> None:
    assert read(tmp_path, MODEL + DATA + "batch_size = 8").data["val_batch_size"] == 8


def test_run_directory_is_named_after_the_file(tmp_path: Path) -> None:
    assert read(tmp_path, MODEL + DATA).fit["run_dir"] == "runs/digits"


@pytest.mark.parametrize(("val", "monitor"), [("", "train_loss"), ('val = "digits"', "val_loss")])
def test_monitor_is_the_loss_of_the_data_that_there_are(tmp_path: Path, val: str, monitor: str) -> None:
    assert read(tmp_path, MODEL + DATA + val).fit["monitor"] == monitor


def test_params_of_the_model_leave_out_its_name(tmp_path: Path) -> None:
    assert set(read(tmp_path, MODEL + DATA).params) == {"nn_module", "loss", "optimizer", "device"}


# What is wrong.


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            MODEL + DATA + "[fit]\nnum_epoch = 3",
            r"digits\.toml: \[fit\] has 'num_epoch'; did you mean 'num_epochs'\?",
        ),
        (
            MODEL + DATA + "zzz = 3",
            r"digits\.toml: \[data\] has 'zzz'; it takes train, val, test, split, batch_size, ",
        ),
        (MODEL + DATA + "num_epochs = 3", r"\[data\] has 'num_epochs', which belongs under \[fit\]"),
        ("[modle]\n" + MODEL + DATA, r"digits\.toml has the section \[modle\]; did you mean 'model'\?"),
        ("[zzz]\n" + MODEL + DATA, r"\[zzz\]; the sections are \[model\], \[data\], \[fit\]"),
        ("seed = 3\n" + MODEL + DATA, r"'seed' is outside its section; move it under \[fit\]"),
        ("fit = 3\n" + MODEL + DATA, r"'fit' is 3; write it as \[fit\] with its keys below"),
        (DATA, r"\[model\] has no 'nn_module' \(there is no section \[model\]\); name the network"),
        (MODEL, r"\[data\] has no 'train' \(there is no section \[data\]\); name the dataset to train on"),
        (MODEL + "[data]\nval = 'digits'", r"\[data\] has no 'train'; name the dataset to train on"),
        (
            "[model]\nnn_module = 'cnn'\nloss = 'MSELoss'" + DATA,
            r"\[model\] has no 'optimizer'; name the optimizer",
        ),
        (MODEL + "x", r"digits\.toml is not TOML: .*\(at .*\); correct it$"),
        (
            "[model]\nnn_module = cnn",
            r"digits\.toml is not TOML: Invalid value \(at .*\); correct it; text needs quotes$",
        ),
        ("x = " + 100_000 * "[", r"digits\.toml is not TOML: "),
    ],
)
def test_mistake_is_named_with_its_file_and_the_next_action(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, text)


def test_toml_error_names_line_and_column(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\(at line 2, column 8\)"):
        read(tmp_path, "[model]\nloss = Focal")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[data]\nbatch_size = 0", r"\[data\] batch_size is 0; give a whole number from 1 to "),
        ("[data]\nbatch_size = true", r"batch_size is True; give a whole number from 1"),
        ("[data]\nbatch_size = 1.5", r"batch_size is 1\.5; give a whole number"),
        ("[data]\nnum_workers = -1", r"num_workers is -1; give a whole number from 0 to 256"),
        ("[data]\nshuffle = 'yes'", r"shuffle is 'yes'; give true or false"),
        ("[fit]\nmonitor = 3", r"\[fit\] monitor is 3; give a non-empty string"),
        ("[fit]\nrun_dir = ''", r"run_dir is ''; give a non-empty string"),
        ("[model]\ndevice = 1.5", r"device is 1\.5; give a device such as 'auto', 'cpu' or 'cuda:0'"),
        ("[model]\nname = []", r"\[model\] name is \[\]; give a non-empty string"),
    ],
)
def test_value_of_the_wrong_type_is_refused(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, line)


def test_several_devices_are_taken(tmp_path: Path) -> None:
    assert model(tmp_path, 'device = ["cuda:0", "cuda:1"]')["device"] == ["cuda:0", "cuda:1"]


def test_missing_file_is_told_from_those_near(tmp_path: Path) -> None:
    config_file(tmp_path, MODEL + DATA)
    with pytest.raises(
        ConfigError, match=r"no configuration '.*digit\.toml'; did you mean '.*digits\.toml'\?"
    ):
        read_config(tmp_path / "digit.toml")


def test_missing_file_is_told_from_those_that_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config_file(tmp_path, MODEL + DATA)
    with pytest.raises(ConfigError, match=r"no configuration 'nothing-like-it'; choose digits\.toml"):
        read_config(Path("nothing-like-it"))


def test_missing_file_in_an_empty_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"' has no \.toml file; check the path"):
        read_config(tmp_path / "digits.toml")


def test_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"; the folder '.*nowhere' does not exist; check the path"):
        read_config(tmp_path / "nowhere" / "digits.toml")


def test_folder_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a directory; it must be an ordinary file"):
        read_config(tmp_path)


def test_run_directory_in_place_of_a_configuration_is_to_be_resumed(tmp_path: Path) -> None:
    run = tmp_path / "a run"
    run.mkdir()
    path = config_file(run, MODEL + DATA, "config.toml")
    with pytest.raises(
        ConfigError,
        match=rf"^{run} is a run directory, not a configuration; to resume the run: argus resume '{run}'; to "
        rf"train again: give {path}$",
    ):
        read_config(run)


def test_checkpoint_in_place_of_a_configuration_is_to_be_resumed(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    with pytest.raises(ConfigError, match=r"^no configuration '.*last\.safetensors'; "):
        read_config(path)
    path.write_bytes(bytes(2**21))
    with pytest.raises(
        ConfigError,
        match=rf"^{path} is a checkpoint, not a configuration; to resume the run: argus resume {path}$",
    ):
        read_config(path)


def test_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "latin.toml"
    path.write_bytes("# größer".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"latin\.toml cannot be read: .*; give a TOML file in UTF-8"):
        read_config(path)


# Sections of commands.


@pytest.fixture
def crosscheck(scan_registry: Any, fake_distribution: Any) -> None:
    fake_distribution("medseg", "2.1", {"command": {"crosscheck": "medseg:crosscheck"}})
    scan_registry()


@pytest.mark.usefixtures("crosscheck")
def test_section_of_a_command_is_left_to_the_command(tmp_path: Path) -> None:
    config = read(tmp_path, MODEL + DATA + "[crosscheck]\nfolds = 5\nanything = { x = [1] }")
    assert config.commands == {"crosscheck": {"folds": 5, "anything": {"x": [1]}}}
    assert "crosscheck" not in resolved_toml(config)


def test_section_of_a_command_of_our_own_may_stand_there_without_its_plugin(tmp_path: Path) -> None:
    with argus_core.isolated_registry():
        assert read(tmp_path, MODEL + DATA + "[sweep]\ntrials = 5").commands == {"sweep": {"trials": 5}}


@pytest.mark.usefixtures("crosscheck")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[croscheck]\nfolds = 5", r"has the section \[croscheck\]; did you mean 'crosscheck'\?"),
        ("[zzz]", r"the sections are \[model\], \[data\], \[fit\], \[crosscheck\], \[sweep\]$"),
    ],
)
def test_section_of_no_command_is_refused_with_near_names(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, MODEL + DATA + text)


@pytest.mark.usefixtures("crosscheck")
def test_section_of_a_command_is_a_table(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"'crosscheck' is 5; write it as \[crosscheck\] with its keys below"
    ):
        read(tmp_path, "crosscheck = 5\n" + MODEL + DATA)


@pytest.mark.usefixtures("crosscheck")
def test_section_of_a_command_can_be_changed(tmp_path: Path) -> None:
    text = MODEL + DATA + "[crosscheck]\nfolds = 5"
    config = read(tmp_path, text, "crosscheck.folds=3", "crosscheck.sampler.seed=1")
    assert config.commands == {"crosscheck": {"folds": 3, "sampler": {"seed": 1}}}
    with pytest.raises(
        ConfigError, match=r"\[crosscheck\] is a section; set one of its keys: crosscheck\.KEY"
    ):
        read(tmp_path, text, "crosscheck=3")


def test_document_is_completed_as_often_as_wanted(tmp_path: Path) -> None:
    path = config_file(tmp_path, MODEL + DATA + "[sweep]\nspace = { lr = 1 }")
    document = read_document(path)
    path.unlink()
    changes = ["optimizer.lr=0.5", "data.train.split=all", "sweep.space.lr=2"]
    assert complete_config(document, path, changes).params["optimizer"] == ("AdamW", {"lr": 0.5})
    config = complete_config(document, path)
    assert (config.params["optimizer"], config.data["train"], config.commands) == (
        ("AdamW", {"lr": 2e-3}),
        ("digits", {"split": "train"}),
        {"sweep": {"space": {"lr": 1}}},
    )


# A model class of the user's own.

OWN = '[model]\nname = "Segmenter"\nhidden = 3\n\n[model.nn_module]\nclasses = 10\n'


def test_own_model_class_may_have_keys_of_its_own(tmp_path: Path) -> None:
    config = read(tmp_path, OWN + DATA)
    assert config.model["name"] == "Segmenter"
    assert config.params == {"hidden": 3, "nn_module": {"classes": 10}, "device": "auto"}


def test_plain_model_has_no_keys_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[model\] has 'hidden'; it takes name, nn_module, "):
        model(tmp_path, "hidden = 3")


def test_own_key_of_a_model_class_can_be_changed(tmp_path: Path) -> None:
    config = read(tmp_path, OWN + DATA, "model.hidden=4", "nn_module.classes=5", "model.depth=2")
    assert config.params == {"hidden": 4, "depth": 2, "nn_module": {"classes": 5}, "device": "auto"}


def test_params_of_a_fixed_part_can_be_set_where_there_are_none(tmp_path: Path) -> None:
    config = read(tmp_path, OWN + DATA, "model.loss.weight=2", "hidden=5")
    assert (config.params["loss"], config.params["hidden"]) == ({"weight": 2}, 5)


# Changes.


@pytest.mark.parametrize(
    ("change", "section", "key", "value"),
    [
        ("fit.num_epochs=3", "fit", "num_epochs", 3),
        ("num_epochs=3", "fit", "num_epochs", 3),
        (" num_epochs = 3 ", "fit", "num_epochs", 3),
        ("data.batch_size=64", "data", "batch_size", 64),
        ("shuffle=False", "data", "shuffle", False),
        ("model.device=cpu", "model", "device", "cpu"),
        ("device=cuda:1", "model", "device", "cuda:1"),
        ("run_dir=runs/a=b", "fit", "run_dir", "runs/a=b"),
        ('run_dir="runs/with space"', "fit", "run_dir", "runs/with space"),
        ("optimizer=SGD", "model", "optimizer", "SGD"),
        ('optimizer=["SGD", {lr=0.1}]', "model", "optimizer", ("SGD", {"lr": 0.1})),
        ("optimizer.lr=0.01", "model", "optimizer", ("AdamW", {"lr": 0.01})),
        ("optimizer.lr=1e-3", "model", "optimizer", ("AdamW", {"lr": 1e-3})),
        ("model.optimizer.amsgrad=true", "model", "optimizer", ("AdamW", {"lr": 2e-3, "amsgrad": True})),
        ("optimizer.name=NAdam", "model", "optimizer", ("NAdam", {"lr": 2e-3})),
        ("loss.name=MSELoss", "model", "loss", "MSELoss"),
        ("loss.label_smoothing=0.1", "model", "loss", ("CrossEntropyLoss", {"label_smoothing": 0.1})),
        ("data.train.split=all", "data", "train", ("digits", {"split": "all"})),
        ("val.split=val", "data", "val", ("digits", {"split": "val"})),
        ("data.test=digits", "data", "test", "digits"),
        ("metrics=accuracy", "fit", "metrics", ["accuracy"]),
        ('step=["amp", "accumulate"]', "model", "step", ["amp", "accumulate"]),
        (
            "nn_module.encoder.depth=3",
            "model",
            "nn_module",
            ("cnn", {"classes": 10, "encoder": {"depth": 3}}),
        ),
    ],
)
def test_change_sets_what_its_path_names(
    tmp_path: Path, change: str, section: str, key: str, value: object
) -> None:
    assert getattr(changed(tmp_path, change), section)[key] == value


def test_change_sets_a_parameter_of_one_of_several_components(tmp_path: Path) -> None:
    steps = changed(tmp_path, "step.accumulate.steps=4", "model.step.amp.dtype=bfloat16").params["step"]
    assert steps == [
        ("amp", {"dtype": "bfloat16"}),
        ("accumulate", {"steps": 4}),
        ("clip_grad_norm", {"max_norm": 1.0}),
    ]


def test_component_of_several_is_found_by_the_short_form_of_its_name(tmp_path: Path) -> None:
    steps = changed(tmp_path, "step=argus-torch/accumulate", "step.accumulate.steps=4").params["step"]
    assert steps == [("argus-torch/accumulate", {"steps": 4})]


def test_changes_are_made_one_after_the_other(tmp_path: Path) -> None:
    config = changed(tmp_path, "optimizer=SGD", "optimizer.lr=0.1", "optimizer.lr=0.2")
    assert config.params["optimizer"] == ("SGD", {"lr": 0.2})


@pytest.mark.parametrize(
    ("part", "whole"),
    [
        ("optimizer.lr=0.1", "optimizer=SGD"),
        ("step.accumulate.steps=3", "model.step=amp"),
        ("split.val=0.1", "data.split={test = 0.2}"),
        ("optimizer.name=SGD", 'optimizer=["Adam", {lr = 0.1}]'),
    ],
)
def test_change_of_a_part_before_a_change_of_the_whole_is_refused(
    tmp_path: Path, part: str, whole: str
) -> None:
    with pytest.raises(
        ConfigError,
        match=rf"^--set {re.escape(whole)} would undo --set {re.escape(part)}, which comes before it; "
        r"reverse their order, or leave one out$",
    ):
        changed(tmp_path, part, whole)


def test_change_that_a_search_space_would_undo_is_refused(tmp_path: Path) -> None:
    path = config_file(tmp_path, MODEL + DATA)
    with pytest.raises(ConfigError, match=r"^--set optimizer=\"SGD\" would undo --set optimizer\.lr=0\.1, "):
        complete_config(read_document(path), path, ["optimizer.lr=0.1"], ['optimizer="SGD"'])
    config = complete_config(read_document(path), path, ["optimizer=SGD"], ["optimizer.lr=0.1"])
    assert config.params["optimizer"] == ("SGD", {"lr": 0.1})


def test_change_of_a_component_in_an_empty_list_says_how_to_choose_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is not set; choose a component first: --set model\.step=ema"):
        changed(tmp_path, "step=[]", "step.ema.decay=0.9")


def test_change_can_give_what_the_file_leaves_out(tmp_path: Path) -> None:
    assert read(tmp_path, MODEL, "train=digits").data["train"] == "digits"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("optimzer.lr=3", r"--set optimzer\.lr=3: there is no key 'optimzer'; did you mean 'optimizer'\?"),
        ("zzz=3", r"there is no key 'zzz'; the keys are name, nn_module, "),
        ("fit.seeed=3", r"--set fit\.seeed=3: \[fit\] has 'seeed'; did you mean 'seed'\?"),
        ("model.batch_size=3", r"\[model\] has 'batch_size', which belongs under \[data\]"),
        ("num_epochs=many", r"--set num_epochs=many: \[fit\] num_epochs is 'many'; give a whole number"),
        ("optimizer=3", r"--set optimizer=3: \[model\] optimizer is 3; give a name, "),
        ("step.acumulate.steps=3", r"\[model\] step has no 'acumulate'; did you mean 'accumulate'\?"),
        (
            "step.zzz.steps=3",
            r"\[model\] step has no 'zzz'; it has amp, accumulate, clip_grad_norm; name ",
        ),
        ("step.ema.decay=3", "name one of these, or write the whole list with 'ema'"),
        ("step.steps=3", r"\[model\] step has no 'steps'; name the component first, as in amp\.steps=VALUE"),
        ("step.accumulate=3", r"name a parameter of 'accumulate' too, as in accumulate\.PARAMETER=VALUE"),
        ("fit=3", r"\[fit\] is a section; set one of fit\.num_epochs, "),
        (
            "num_epochs.x=3",
            r"\[fit\] num_epochs has no parameters; set it whole: --set fit\.num_epochs=VALUE",
        ),
        ("test.split=val", r"\[data\] test is not set; choose a component first: --set data\.test=NAME"),
        ("metrics.accuracy.threshold=0", r"not set; choose a component first: --set fit\.metrics=accuracy"),
        ("optimizer.name=3", r"\[model\] optimizer\.name is 3; give the name of a component"),
        ("nn_module.classes.x=3", r"\[model\] nn_module: 'classes' is 10, which has no keys; set it whole"),
        ("num_epochs", r"--set num_epochs: give KEY=VALUE, as in --set optimizer\.lr=0\.01"),
        ("=3", r"--set =3: give KEY=VALUE"),
        ("optimizer.=3", r"--set optimizer\.=3: give KEY=VALUE"),
        (
            "optimizer=[SGD]",
            r"the value is not TOML \(.*\); put quotes around strings, and other quotes around",
        ),
    ],
)
def test_change_that_cannot_be_made_is_refused(tmp_path: Path, change: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        changed(tmp_path, change)


def test_component_that_is_there_twice_is_not_guessed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[model\] step has 'amp' 2 times; set it whole"):
        changed(tmp_path, 'step=["amp", "amp"]', "step.amp.dtype=float16")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.01", 0.01),
        ("1e-3", 1e-3),
        ("3", 3),
        ("true", True),
        ("True", True),
        ("SGD", "SGD"),
        ('"3"', "3"),
        ("[1, 2]", [1, 2]),
        ("{a = 1}", {"a": 1}),
        ("runs/a", "runs/a"),
        ("1\nother = 2", "1\nother = 2"),
        ("", ""),
    ],
)
def test_value_is_toml_or_else_a_string(text: str, value: object) -> None:
    assert parse_value(text, "--set") == value


@given(st.text())
def test_any_text_is_a_value_or_a_config_error(text: str) -> None:
    with suppress(ConfigError):
        parse_value(text, "--set")


# Writing.


@pytest.mark.parametrize(
    "text",
    [
        MODEL
        + STEPS
        + DATA
        + 'val = "digits"\n[fit]\nseed = 3\nmetrics = ["accuracy", ["top_k_accuracy", {k = 2}]]',
        MODEL
        + DATA
        + "[fit]\nlr_scheduler = ['SequentialLR', {schedulers = [['LinearLR', {}]], milestones = [1]}]",
        OWN + DATA,
    ],
)
def test_resolved_configuration_reads_as_itself(tmp_path: Path, text: str) -> None:
    config = read(tmp_path, text)
    written = config_file(tmp_path, resolved_toml(config), "config.toml")
    assert read_config(written) == config


def test_resolved_configuration_holds_the_defaults(tmp_path: Path) -> None:
    assert "batch_size = 32" in resolved_toml(read(tmp_path, MODEL + DATA))


def test_every_key_says_what_it_is_for() -> None:
    assert all(key.about for keys in SECTIONS.values() for key in keys.values())


def test_configuration_is_read_without_torch(tmp_path: Path) -> None:
    config_file(tmp_path, MODEL + DATA)
    code = (
        "import sys; from pathlib import Path; from argus_core.config import read_config; "
        "read_config(Path('digits.toml')); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


def test_parameters_of_a_list_of_the_models_own_are_set_whole(tmp_path: Path) -> None:
    text = '[model]\nname = "Own"\nsizes = [1, 2]\nsecond = ["SGD", { lr = 0.1 }]\n' + DATA
    assert read(tmp_path, text, "second.lr=0.5").params["second"] == ("SGD", {"lr": 0.5})
    with pytest.raises(ConfigError, match=r"--set sizes\.first=3: \[model\] sizes is \[1, 2\]; set it whole"):
        read(tmp_path, text, "sizes.first=3")


def test_template_is_no_matter_of_the_command_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--set template=digits: a template is chosen by the file alone"):
        read(tmp_path, MODEL + DATA, "template=digits")


def test_components_that_sections_choose_come_with_their_kinds_and_places(tmp_path: Path) -> None:
    metrics = '[fit]\nmetrics = ["accuracy", ["top_k_accuracy", { k = 2 }]]\n'
    config = read(tmp_path, MODEL + DATA + metrics)
    assert list(config.specs("data", "fit")) == [
        ("dataset", "[data] train", Spec("digits", {"split": "train"})),
        ("metric", "[fit] metrics", Spec("accuracy")),
        ("metric", "[fit] metrics", Spec("top_k_accuracy", {"k": 2})),
    ]
    assert [kind for kind, _, _ in config.specs("model")] == ["nn_module", "loss", "optimizer"]


@pytest.mark.parametrize(("name", "is_plain"), [("Model", True), ("argus-torch/Model", True), ("Own", False)])
def test_configuration_alone_chooses_the_parts_of_a_plain_model(
    name: str, is_plain: bool, tmp_path: Path
) -> None:
    assert read(tmp_path, f'{MODEL}name = "{name}"\n{DATA}').is_plain == is_plain
