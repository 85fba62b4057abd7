"""Core and plugins installed as wheels, used away from the checkout, in processes of their own.

Run by ``tox run -e plugins`` alone: it installs and uninstalls packages in its environment.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from processes import output_of, pip, run

TRAIN = """
import torch, argus_core
torch.manual_seed(0)
model = argus_core.Model({{
    "nn_module": ("cnn", {{"width": 4}}), "loss": {loss!r}, "optimizer": ("SGD", {{"lr": 0.1}}),
    "prediction_transform": "temperature_softmax", "step": "gradient_centralization", "device": "cpu",
}})
data = [(torch.randn(4, 1, 8, 8), torch.randint(10, (4,))) for _ in range(3)]
model.fit(data)
model.save("model.safetensors", optimizer_state=True)
torch.save((data[0][0], model.predict(data[0][0])), "prediction.pt")
"""

LOAD = """
import argus_core
model = argus_core.load_model("model.safetensors", **{options!r})
import torch
images, expected = torch.load("prediction.pt")
assert torch.equal(model.predict(images), expected)
print("same prediction")
"""

LIST = """
import sys
from click.testing import CliRunner
from argus_core.cli import main
result = CliRunner().invoke(main, ["list"])
assert result.exit_code == 0, result.output
loaded = {"torch", "argus_example", "argus_sklearn", "sklearn"} & set(sys.modules)
assert not loaded, loaded
print(result.output)
"""


@pytest.fixture
def dice_wheel(tmp_path: Path) -> Path:
    """Return the wheel of a plugin with one loss, as small as a wheel can be."""
    wheel = tmp_path / "argus_dice-1.4-py3-none-any.whl"
    info = "argus_dice-1.4.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("argus_dice.py", "from torch.nn import CrossEntropyLoss as Dice\n")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: argus-dice\nVersion: 1.4\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/entry_points.txt", "[argus_core.loss]\ndice = argus_dice:Dice\n")
        archive.writestr(f"{info}/RECORD", "")
    return wheel


def test_the_packages_are_wheels_and_not_the_checkout() -> None:
    import argus_core

    assert "site-packages" in argus_core.__file__


def test_list_shows_the_plugins_parts_and_imports_neither_them_nor_torch(tmp_path: Path) -> None:
    listed = output_of(LIST, tmp_path)
    for name, provider in (("cnn", "argus-example"), ("focal", "argus-example"), ("digits", "argus-sklearn")):
        assert any(name in line.split() and provider in line for line in listed.splitlines()), listed


def test_a_checkpoint_loads_in_a_process_that_imports_only_argus_core(tmp_path: Path) -> None:
    output_of(TRAIN.format(loss="focal"), tmp_path)
    assert "same prediction" in output_of(LOAD.format(options={"device": "cpu"}), tmp_path)


def test_after_an_uninstall_the_error_names_distribution_and_version(
    tmp_path: Path, dice_wheel: Path
) -> None:
    pip("install", "--no-deps", "--no-index", str(dice_wheel))
    try:
        output_of(TRAIN.format(loss="dice"), tmp_path)
    finally:
        pip("uninstall", "--yes", "argus-dice")
    failed = run(LOAD.format(options={}), tmp_path)
    assert failed.returncode != 0
    assert "MissingPluginError" in failed.stderr
    assert "loss 'argus-dice/dice'" in failed.stderr
    assert "pip install 'argus-dice==1.4'" in failed.stderr
    assert "same prediction" in output_of(LOAD.format(options={"loss": None}), tmp_path)
