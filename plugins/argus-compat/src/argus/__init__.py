"""The interface of pytorch-argus 1.1 on top of argus_core: scripts written for it run unchanged."""

from __future__ import annotations

from importlib import metadata

__all__ = [
    "Model",
    "callbacks",
    "engine",
    "load_model",
    "loss",
    "metrics",
    "model",
    "optimizer",
    "types",
    "utils",
]

__version__ = "1.1.0"
"""The version of pytorch-argus with this interface; pip shows that of argus-compat."""

try:
    _other = metadata.version("pytorch-argus")
except metadata.PackageNotFoundError:
    pass
else:
    raise ImportError(
        f"pytorch-argus {_other} is installed beside argus-compat, and both contain the import package "
        "argus, so their files may be mixed; keep one of them. To run on argus_core: "
        "pip uninstall -y pytorch-argus argus-compat && pip install argus-compat. To stay with the other: "
        "pip uninstall -y pytorch-argus argus-compat && pip install pytorch-argus"
    )

from argus import callbacks, engine, loss, metrics, model, optimizer, types, utils  # noqa: E402
from argus.model import Model, load_model  # noqa: E402
