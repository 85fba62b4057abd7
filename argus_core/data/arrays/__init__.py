"""Readers of numeric arrays in untrusted files, with memory bounded by the size of the values.

The sizes that a file claims are compared with its real size before memory is allocated, and no code in a
file runs.
"""

from __future__ import annotations

from argus_core.data.arrays.claim import Unsuitable
from argus_core.data.arrays.npy import read_npy, read_npz
from argus_core.data.arrays.table import read_csv
from argus_core.data.arrays.tensors import read_safetensors

__all__ = ["Unsuitable", "read_csv", "read_npy", "read_npz", "read_safetensors"]
