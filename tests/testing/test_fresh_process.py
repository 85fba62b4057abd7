"""What load_model promises, each in a fresh process that imports only argus_core."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from programs import run_program

import argus_core
from argus_core.registry import discovery
from argus_core.registry.registry import isolated_registry

CODE = """
import sys, warnings
import argus_core
assert not {"argus_example", "argus_sklearn"} & sys.modules.keys()
warnings.simplefilter("error")
path = "model.safetensors"
{code}
print("as promised")
"""
CASES = {
    "as saved": """
model = argus_core.load_model(path)
assert model.train_ready() and not model.nn_module.training
""",
    "another device": """
model = argus_core.load_model("of_another_machine.safetensors", device="cpu")
assert {each.device.type for each in model.nn_module.parameters()} == {"cpu"}
""",
    "a list of devices": """
try:
    argus_core.load_model(path, device=["cuda:0", "cuda:1"])
except argus_core.ArgusError as error:
    assert "is not on this machine" in str(error) and "choose from 'cpu'" in str(error), error
else:
    import torch
    assert torch.cuda.device_count() > 1
""",
    "loss None": """
model = argus_core.load_model(path, loss=None)
assert model.loss is None and model.predict_ready() and not model.train_ready()
""",
    "optimizer None": """
model = argus_core.load_model(path, optimizer=None)
assert model.optimizer is None and model.loss is not None
""",
    "prediction_transform None": """
model = argus_core.load_model(path, prediction_transform=None)
prediction = object()
assert model.prediction_transform(prediction) is prediction
""",
    "parameters updated by a dict": """
model = argus_core.load_model(path, optimizer={"lr": 0.5}, nn_module={"dropout": 0.0})
assert model.get_lr() == 0.5
assert model.params["nn_module"] == ("cnn", {"width": 4, "dropout": 0.0})
""",
    "a component replaced by a spec": """
model = argus_core.load_model(path, loss=("focal", {"gamma": 1.0}), optimizer="AdamW")
assert type(model.loss).__name__ == "FocalLoss" and type(model.optimizer).__name__ == "AdamW"
""",
    "change_params_func": """
def changed(params):
    return {**params, "optimizer": ("SGD", {"lr": 0.25, "momentum": 0.9})}
model = argus_core.load_model(path, change_params_func=changed)
assert type(model.optimizer).__name__ == "SGD"
""",
    "change_state_dict_func": """
def zeros(nn_state, optimizer_state):
    return {name: value.zero_() for name, value in nn_state.items()}, optimizer_state
model = argus_core.load_model(path, change_state_dict_func=zeros)
assert not any(each.any() for each in model.nn_module.parameters())
""",
    "another model name": """
class Other(argus_core.Model):
    pass
model = argus_core.load_model(path, model_name="Other")
assert type(model) is Other
""",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a checkpoint of installed parts, and its prediction."""
    folder = tmp_path_factory.mktemp("fresh")
    with isolated_registry() as registry:
        registry.update(discovery.scan())
        torch.manual_seed(0)
        model = argus_core.Model(
            {
                "nn_module": ("cnn", {"width": 4}),
                "loss": "CrossEntropyLoss",
                "optimizer": ("SGD", {"lr": 0.1, "momentum": 0.9}),
                "prediction_transform": ("Softmax", {"dim": 1}),
                "step": ["amp", "ema"],
                "device": "cpu",
            }
        )
        model.fit([(torch.randn(4, 1, 8, 8), torch.randint(10, (4,)))])
        model.save(folder / "model.safetensors", optimizer_state=True)
        model.params["device"] = "cuda:7"
        model.save(folder / "of_another_machine.safetensors", optimizer_state=True)
    return folder


def run(code: str, folder: Path, *path: Path) -> subprocess.CompletedProcess[str]:
    more = "".join(f"import sys; sys.path.insert(0, {str(each)!r})\n" for each in path)
    return run_program(more + CODE.replace("{code}", code), folder=folder)


def test_load_model_in_a_program_that_imports_argus_core_alone(folder: Path) -> None:
    code = CODE.replace("{code}", CASES["as saved"])
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "as promised\n"), done.stderr


@pytest.mark.parametrize("code", CASES.values(), ids=CASES)
def test_load_model_in_a_fresh_process(code: str, folder: Path) -> None:
    done = run(code, folder)
    assert (done.returncode, done.stdout) == (0, "as promised\n"), done.stderr


def test_another_version_of_a_provider_is_warned_of_in_a_fresh_process(folder: Path, tmp_path: Path) -> None:
    info = tmp_path / "argus_example-9.9.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: argus-example\nVersion: 9.9\n")
    (info / "entry_points.txt").write_text("[argus_core.nn_module]\ncnn = argus_example.networks:CNN\n")
    code = """
from argus_core.errors import ProviderDriftWarning
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    argus_core.load_model(path)
(drift,) = [each for each in caught if each.category is ProviderDriftWarning]
message = str(drift.message)
assert "'cnn' was provided by argus-example" in message and "argus-example 9.9 now" in message, message
"""
    done = run(code, folder, tmp_path)
    assert (done.returncode, done.stdout) == (0, "as promised\n"), done.stderr
