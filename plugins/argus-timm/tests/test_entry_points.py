from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import argus_core
from argus_core.registry.registry import components
from argus_timm.optimizers import NAMES

OURS = [component for component in components() if component.provider == "argus-timm"]
README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_names_are_those_of_the_entry_points() -> None:
    assert sorted((component.kind, component.name) for component in OURS) == sorted(
        [("nn_module", "timm"), ("transform", "timm_transform"), *(("optimizer", name) for name in NAMES)]
    )


@pytest.mark.parametrize("component", OURS, ids=lambda component: component.name)
def test_part_is_found_by_name_and_documented(component: argus_core.Component) -> None:
    assert argus_core.resolve(component.kind, component.name) is component
    factory = component.load()
    assert factory is component.load()
    assert factory.__doc__
    assert re.search(rf"^\| (`{component.kind}` \| )?`{component.name}` \|", README, re.MULTILINE)


def test_parts_are_listed_without_importing_timm() -> None:
    program = (
        "import sys; from argus_core.cli import main; main(['list'], standalone_mode=False); "
        "assert not {'argus_timm', 'timm', 'torchvision', 'torch'} & set(sys.modules)"
    )
    listed = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert " timm_transform " in listed.stdout
