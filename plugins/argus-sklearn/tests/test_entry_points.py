from __future__ import annotations

import subprocess
import sys

import pytest

import argus_core
from argus_sklearn import datasets


@pytest.mark.parametrize("name", datasets.__all__)
def test_dataset_is_found_by_name(name: str) -> None:
    component = argus_core.resolve("dataset", name)
    assert component.provider == "argus-sklearn"
    assert component.load() is getattr(datasets, name)


def test_scikit_learn_is_imported_only_when_a_dataset_is_used() -> None:
    program = (
        "import sys, argus_core; component = argus_core.resolve('dataset', 'wine'); "
        "assert not {'sklearn', 'argus_sklearn', 'torch'} & set(sys.modules); "
        "component.load(); assert 'sklearn' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
