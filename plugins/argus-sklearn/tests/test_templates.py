from __future__ import annotations

from pathlib import Path

import pytest

import argus_core
from argus_core.config import read_config
from argus_core.runs.run import train
from argus_sklearn import templates

EXAMPLE = Path(__file__).parents[3] / "examples" / "digits.toml"


def short(value: object) -> object:
    """Return what a configuration says with short names, as the example has them."""
    if isinstance(value, str):
        return value.rpartition("/")[2] if value.startswith("argus-") else value
    if isinstance(value, dict):
        return {key: short(item) for key, item in value.items()}
    return type(value)(map(short, value)) if isinstance(value, list | tuple) else value


def test_template_is_found_by_name_and_says_what_the_first_example_does(tmp_path: Path) -> None:
    assert argus_core.resolve("config", "argus-sklearn/digits").load() is templates.digits
    file = tmp_path / "digits.toml"
    file.write_text('template = "digits"\n', encoding="utf-8")
    ours, example = read_config(file), read_config(EXAMPLE)
    assert short(dict(ours.params)) == dict(example.params)
    assert short(dict(ours.data)) == dict(example.data)
    assert short(dict(ours.fit)) == dict(example.fit)


def test_parameters_set_epochs_and_rate_together_with_the_schedule(tmp_path: Path) -> None:
    fit = templates.digits(epochs=3, lr=0.1)["fit"]
    assert fit["num_epochs"] == fit["lr_scheduler"][1]["T_max"] == 3
    assert templates.digits(lr=0.1)["model"]["optimizer"][1] == {"lr": 0.1}


def test_file_with_nothing_but_the_template_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "mine.toml"
    file.write_text('template = ["digits", { epochs = 2 }]\n', encoding="utf-8")
    result = train(read_config(file, ["device=cpu", "fit.callbacks=[]"]))
    assert result.metrics["val_accuracy"] > 0.8
    resolved = (tmp_path / "runs" / "mine" / "config.toml").read_text(encoding="utf-8")
    assert "template" not in resolved
    assert read_config(tmp_path / "runs" / "mine" / "config.toml").fit["num_epochs"] == 2
