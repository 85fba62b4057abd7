"""Lets torchvision be imported beside a CPU build of torch, and skips what needs a GPU."""

from __future__ import annotations

import importlib.util
import sys

import pytest
import torch


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") is not None and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


def _import_torchvision() -> None:
    try:
        import torchvision  # type: ignore[import-not-found]
    except RuntimeError:  # its operators belong to another build, and torchmetrics imports it where it is
        for module in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[module]
        for name in ("nms", "qnms"):
            _LIBRARY.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision  # noqa: F401


_LIBRARY = torch.library.Library("torchvision", "FRAGMENT")
if importlib.util.find_spec("torchvision") is not None:
    _import_torchvision()
