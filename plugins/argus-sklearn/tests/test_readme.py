from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from argus_sklearn import datasets

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
COMMON = dict(re.findall(r"^\| `(\w+)` \| `(.+?)` \|", README, flags=re.MULTILINE))


def test_python_in_the_readme_runs() -> None:
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL):
        exec(block, names)


@pytest.mark.parametrize("name", datasets.__all__)
def test_documented_parameters_and_defaults_are_those_of_every_dataset(name: str) -> None:
    parameters = inspect.signature(getattr(datasets, name)).parameters
    assert {common: repr(parameters[common].default) for common in COMMON} == COMMON
    assert len(COMMON) == 4
    for own in parameters.keys() - COMMON:
        assert f"`{own}=True`" in README


@pytest.mark.parametrize("name", datasets.__all__)
def test_every_dataset_is_listed(name: str) -> None:
    assert re.search(rf"^\| `{name}` \|", README, flags=re.MULTILINE)
