"""The model: built, trained, saved and loaded."""

from __future__ import annotations

from argus.model import build
from argus.model.load import load_model
from argus.model.model import Model

__all__ = ["Model", "build", "load_model"]
