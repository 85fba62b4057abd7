"""Types of arguments."""

from __future__ import annotations

import pathlib
from typing import Any, TypeAlias, TypeVar

import torch

__all__ = ["AttrMeta", "Devices", "InputDevices", "Param", "Path", "TVar"]

TVar = TypeVar("TVar")

Path: TypeAlias = pathlib.Path | str
InputDevices: TypeAlias = str | torch.device | list[str | torch.device]
Devices: TypeAlias = torch.device | list[torch.device]

AttrMeta: TypeAlias = dict[str, Any] | Any
"""A class attribute for a part: a class, a dict of classes and names, or a name."""

Param: TypeAlias = dict[str, Any] | tuple[str, dict[str, Any]]
"""The value in params for a part."""
