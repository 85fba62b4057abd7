from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import argus

HERE = Path(__file__).parent
README = (HERE.parent / "README.md").read_text(encoding="utf-8")


def test_python_in_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    for block in re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL):
        exec(block, names)
    assert Path("digits.pth").exists()


def test_names_that_a_script_should_leave_alone_are_listed() -> None:
    theirs = json.loads((HERE / "golden" / "interface.json").read_text())["argus"]["Model"]
    parts = {"nn_module", "loss", "optimizer", "device", "prediction_transform"}

    class Whole(argus.Model):
        def build_nn_module(self, meta: object, params: object) -> object:
            import torch

            return torch.nn.Linear(1, 1)

    model = Whole({"loss": None, "optimizer": None})
    public = {name for name in dir(model) if not name.startswith("_")}
    added = public - set(theirs) - parts - {"params", "logger", "step"}
    listed = README.partition("These names mean something there")[2].partition("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", listed)) == added
