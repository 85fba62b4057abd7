from __future__ import annotations

import subprocess
import sys

import pytest

import argus_core
from argus_example.losses import FocalLoss
from argus_example.networks import CNN
from argus_example.steps import GradientCentralization
from argus_example.transforms import TemperatureSoftmax

PARTS = [
    ("nn_module", "cnn", CNN),
    ("loss", "focal", FocalLoss),
    ("transform", "temperature_softmax", TemperatureSoftmax),
    ("step", "gradient_centralization", GradientCentralization),
]


@pytest.mark.parametrize(("kind", "name", "factory"), PARTS)
def test_part_is_found_by_name(kind: str, name: str, factory: type) -> None:
    component = argus_core.resolve(kind, name)
    assert component.provider == "argus-example"
    assert component.load() is factory


def test_parts_are_listed_without_importing_the_plugin() -> None:
    program = (
        "import sys, argus_core; assert 'cnn' in argus_core.names('nn_module'); "
        "assert not {'argus_example', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
