"""Arrays of numbers in files of any origin, read within the memory that their values take.

What a file claims is compared with what it has before memory is taken for it, and nothing in a file is run.
"""

from __future__ import annotations

from argus_core.data.arrays.claim import Unsuitable
from argus_core.data.arrays.npy import read_npy, read_npz
from argus_core.data.arrays.table import read_csv
from argus_core.data.arrays.tensors import read_safetensors

__all__ = ["Unsuitable", "read_csv", "read_npy", "read_npz", "read_safetensors"]
