"""The cost of `argus_core.Model` for a program that has torch, pluggy, numpy and safetensors."""

from __future__ import annotations

import subprocess
import sys

MOST = 2 * 2**20  # bytes

PROGRAM = """
import sys
import tracemalloc

import numpy, pluggy, safetensors, torch

before = set(sys.modules)
tracemalloc.start()
import argus_core

argus_core.Model
used = tracemalloc.get_traced_memory()[0]
print(used, *sorted({name.partition(".")[0] for name in set(sys.modules) - before}))
"""


def test_model_takes_little_memory_and_loads_no_other_package() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    used, *packages = done.stdout.split()
    assert {*packages} - sys.stdlib_module_names <= {"argus_core", "pluggy", "numpy", "safetensors"}
    assert int(used) < MOST
