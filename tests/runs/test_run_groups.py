"""Parameter groups from a configuration and from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_runs import CONFIG, small_registry

from argus_core.config import read_config
from argus_core.runs.run import train

GROUPS = 'optimizer = ["SGD", { lr = 0.1, groups = [{ match = "out.*", lr = 0.5, name = "head" }] }]'


def test_a_configuration_and_set_choose_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run.toml").write_text(CONFIG.replace('optimizer = ["SGD", { lr = 0.1 }]', GROUPS))
    with small_registry():
        config = read_config(Path("run.toml"), ["optimizer.layer_decay=0.5"])
        train(config)
    lines = Path("run/log.txt").read_text()
    assert "lr 0.05 (layer 0) 0.5 (head, layer 1)" in lines
