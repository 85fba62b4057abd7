"""For tests alone: lets a torchvision whose compiled operators do not match this torch be imported.

That is so where torch is a build for CPU and torchvision is one for CUDA, as on the public index. The
operators `nms` and `qnms` are then declared and not defined: networks and transforms do without them.
"""

from __future__ import annotations

import importlib
import sys

import torch

__all__ = ["declare_missing_operators"]

_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_libraries: list[torch.library.Library] = []  # an operator lives as long as its library


def declare_missing_operators() -> None:
    """Import torchvision, with its operators declared where the import misses them."""
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "operator torchvision::nms does not exist" not in str(error):
            raise
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}{_SIGNATURE}")
        _libraries.append(library)
        importlib.import_module("torchvision")
