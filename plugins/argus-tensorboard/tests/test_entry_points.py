from __future__ import annotations

import subprocess
import sys

import argus_core
from argus_tensorboard.callback import TensorBoard


def test_the_callback_is_found_by_name() -> None:
    component = argus_core.resolve("callback", "tensorboard")
    assert component.provider == "argus-tensorboard"
    assert component.load() is TensorBoard


def test_tensorboard_is_imported_only_when_it_is_used() -> None:
    program = (
        "import sys, argus_core; assert 'tensorboard' in argus_core.names('callback'); "
        "assert not {'tensorboard', 'argus_tensorboard', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
