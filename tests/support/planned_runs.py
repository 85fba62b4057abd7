"""Runs whose losses are planned, for callbacks that react to metrics; engine, model and files are real."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from networks import Net

import argus_core
from argus_core import Engine, Model, State
from argus_core.metrics import Loss


@contextmanager
def small_model(**params: Any) -> Iterator[Model]:
    """Give a model that can be saved without a warning, in a registry of its own."""
    with argus_core.isolated_registry(builtins=True):
        argus_core.register("nn_module", "net", Net)
        yield Model(
            {
                "nn_module": "net",
                "loss": "CrossEntropyLoss",
                "optimizer": ("SGD", {"lr": 0.1}),
                "device": "cpu",
                **params,
            }
        )


def planned_engine(model: Model, losses: Sequence[float], callbacks: Sequence[Any], **options: Any) -> Engine:
    """Return an engine in which each epoch's ``train_loss`` is the planned one."""

    def step(batch: Any, state: State) -> dict[str, Any]:
        return {"prediction": torch.zeros(2), "target": torch.zeros(2), "loss": float(losses[state.epoch])}

    return Engine(step, model, callbacks=callbacks, metrics=[Loss()], **options)


def planned_run(model: Model, losses: Sequence[float], *callbacks: Any, updates: int = 2) -> State:
    """Run as many epochs of ``updates`` updates as there are losses."""
    return planned_engine(model, losses, callbacks).run(range(updates), len(losses))
