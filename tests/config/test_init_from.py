"""The key ``init_from`` of a configuration, in runs and on the command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from networks import Net
from safetensors.torch import save_file
from small_runs import CONFIG, small_registry

import argus_core
from argus_core.cli import main
from argus_core.config import read_config
from argus_core.errors import ConfigError
from argus_core.storage import read_header

TABLE = "[model]\ninit_from = { path = 'base.safetensors', skip = ['out.*'] }"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    Path("config.toml").write_text(CONFIG.replace("[model]", TABLE), encoding="utf-8")
    with small_registry():
        torch.manual_seed(5)
        save_file(Net(hidden=8).state_dict(), "base.safetensors")
        yield tmp_path


def argus(*arguments: str) -> str:
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def refusal(*arguments: str) -> str:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1, result.output
    return result.output


def test_a_path_and_a_table_are_read_as_a_table(folder: Path) -> None:
    assert read_config(Path("config.toml")).model["init_from"] == {
        "path": "base.safetensors",
        "skip": ["out.*"],
    }
    changed = read_config(Path("config.toml"), ["init_from=other.pth"]).model["init_from"]
    assert changed == {"path": "other.pth"}
    changed = read_config(Path("config.toml"), ["model.init_from.mismatched=fresh"]).model["init_from"]
    assert changed["mismatched"] == "fresh"
    Path("child.toml").write_text(
        'extends = "config.toml"\n[model]\ninit_from = { skip = [] }\n', encoding="utf-8"
    )
    assert read_config(Path("child.toml")).model["init_from"] == {"path": "base.safetensors", "skip": []}


def test_a_value_that_does_not_fit_is_refused_with_its_place(folder: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"--set init_from=3: \[model\] init_from: init_from is 3; give the"
    ):
        read_config(Path("config.toml"), ["init_from=3"])
    with pytest.raises(ConfigError, match=r"init_from.weights is 'best'; give 'average' or 'trained'"):
        read_config(Path("config.toml"), ["init_from.weights=best"])


def test_a_run_tells_its_weights_once_and_resumes_without_the_file(folder: Path) -> None:
    told = "weights from base.safetensors: 2 of 4 tensors taken; 2 left as built (out.weight, out.bias); 2 "
    assert told in argus("train", "config.toml", "--dry-run")
    assert told in argus("train", "config.toml", "--set", "num_epochs=1")
    assert told in Path("run/log.txt").read_text(encoding="utf-8")
    params = read_header("run/checkpoints/last.safetensors").manifest["params"]
    assert params["init_from"]["path"] == "base.safetensors"
    Path("base.safetensors").unlink()
    assert "weights from" not in argus("resume", "run", "--set", "num_epochs=2")
    assert "a resumed run keeps" in refusal("resume", "run", "--set", "init_from=other.safetensors")


def test_explain_and_summary_do_not_read_the_file(folder: Path) -> None:
    Path("base.safetensors").unlink()
    argus("explain", "config.toml")
    argus("summary", "config.toml")
    assert "no checkpoint at base.safetensors" in refusal("train", "config.toml")
    assert not Path("run").exists()


def test_a_run_starts_from_the_weights_and_equals_one_that_loads_them_by_hand(folder: Path) -> None:
    config = read_config(Path("config.toml"), ["init_from=base.safetensors"])
    model = argus_core.Model(config.params)
    torch.manual_seed(5)
    for name, value in Net(hidden=8).state_dict().items():
        assert torch.equal(model.nn_module.state_dict()[name], value)
