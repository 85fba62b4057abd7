from __future__ import annotations

import subprocess
import sys

import pytest

import argus_core
from argus_plots.confusion import ConfusionMatrix
from argus_plots.curves import Curves


@pytest.mark.parametrize(("name", "callback"), [("curves", Curves), ("confusion_matrix", ConfusionMatrix)])
def test_callback_is_found_by_name(name: str, callback: type) -> None:
    component = argus_core.resolve("callback", name)
    assert component.provider == "argus-plots"
    assert component.load() is callback


def test_matplotlib_is_imported_only_when_it_is_used() -> None:
    program = (
        "import sys, argus_core; assert 'curves' in argus_core.names('callback'); "
        "assert not {'matplotlib', 'argus_plots', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_pyplot_is_never_imported() -> None:
    program = (
        "import sys, argus_plots.curves, argus_plots.confusion; assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
