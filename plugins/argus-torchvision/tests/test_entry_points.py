from __future__ import annotations

import subprocess
import sys

import pytest
from torchvision import models
from torchvision.transforms import v2

import argus_core
from argus_core.registry.registry import components
from argus_torchvision import datasets
from argus_torchvision.transforms import LEFT_OUT

OURS = [component for component in components() if component.provider == "argus-torchvision"]


def names(kind: str) -> list[str]:
    return sorted(component.name for component in OURS if component.kind == kind)


def test_every_network_of_torchvision_has_its_name() -> None:
    assert names("nn_module") == sorted(models.list_models())


def test_every_transform_of_torchvision_has_its_name_or_a_reason_not_to() -> None:
    classes = {
        name
        for name, value in vars(v2).items()
        if isinstance(value, type) and issubclass(value, v2.Transform)
    }
    assert names("transform") == sorted({*classes - LEFT_OUT.keys(), "main_output"})
    assert LEFT_OUT.keys() <= classes


def test_every_dataset_has_a_name() -> None:
    targets = {component.target for component in OURS if component.kind == "dataset"}
    assert targets == {f"argus_torchvision.datasets:{name}" for name in datasets.__all__}


@pytest.mark.parametrize("component", OURS, ids=lambda component: f"{component.kind}-{component.name}")
def test_part_is_found_by_name_and_documented(component: argus_core.Component) -> None:
    assert argus_core.resolve(component.kind, component.name) is component
    factory = component.load()
    assert factory is component.load()
    assert factory.__doc__


def test_parts_are_listed_without_importing_torchvision() -> None:
    program = (
        "import sys; from argus_core.cli import main; main(['list'], standalone_mode=False); "
        "assert not {'argus_torchvision', 'torchvision', 'PIL', 'torch'} & set(sys.modules)"
    )
    listed = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert " resnet18 " in listed.stdout
