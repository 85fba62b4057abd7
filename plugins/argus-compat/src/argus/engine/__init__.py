"""The loop over batches, its events and its state."""

from __future__ import annotations

from argus.engine.engine import Engine, EventEnum, Events, State

__all__ = ["Engine", "EventEnum", "Events", "State"]
