"""The interface of a model for steps, runs and checkpoints; `argus_core.model` implements it."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from argus_core.registry.part import Part
from argus_core.tensors.dimensions import BatchDim

__all__ = ["AbstractModel"]


class AbstractModel(ABC):
    """The interface of `argus_core.Model`: network, loss, optimizer, prediction transform and device."""

    nn_module: Any = None
    loss: Any = None
    optimizer: Any = None
    prediction_transform: Any = None
    batch_dim: BatchDim = None
    initial_weights: Any = None
    parallel: Any  # an `AbstractParallel`
    warned_unregistered = False

    data: Any
    params: dict[str, Any]
    parts: dict[str, Part | None]
    step_parts: list[Part]
    device: torch.device
    logger: logging.Logger

    # Its parts.

    @abstractmethod
    def choose_parts(self) -> dict[str, Part | None]: ...

    @abstractmethod
    def build_part(self, part: str, chosen: Part) -> Any: ...

    @abstractmethod
    def get_nn_module(self) -> nn.Module: ...

    @abstractmethod
    def get_lr(self) -> float | list[float]: ...

    @abstractmethod
    def traits(self) -> set[str]: ...

    # Training and prediction.

    @abstractmethod
    def predict(self, input: Any) -> Any: ...

    @abstractmethod
    def train_step(self, batch: Any, state: Any = None) -> Mapping[str, Any]: ...

    @abstractmethod
    def val_step(self, batch: Any, state: Any = None) -> Mapping[str, Any]: ...

    @abstractmethod
    def forward_loss(self, batch: Any) -> tuple[Any, Any, torch.Tensor]: ...

    @abstractmethod
    def loss_reduction(self) -> str: ...

    @abstractmethod
    def loss_weight(self, batch: Any) -> float | torch.Tensor: ...

    @abstractmethod
    def build_weights(self, of_step: Callable[[Any], float | torch.Tensor] | None) -> Any: ...

    @abstractmethod
    def batch_size(self, batch: Any) -> int: ...

    @abstractmethod
    def window_size(self) -> int: ...

    @abstractmethod
    def transform_prediction(self, prediction: Any) -> Any: ...

    @abstractmethod
    def train(self) -> None: ...

    @abstractmethod
    def training(self) -> AbstractContextManager[None]: ...

    @abstractmethod
    def evaluation(self) -> AbstractContextManager[None]: ...

    # State.

    @abstractmethod
    def save(
        self,
        file_path: str | Path,
        optimizer_state: bool = False,
        run: Mapping[str, Any] | None = None,
        progress: Mapping[str, Any] | None = None,
        write: Callable[..., None] = ...,
    ) -> None: ...

    @abstractmethod
    def is_finite(self, optimizer_state: bool = True) -> bool: ...

    @abstractmethod
    def module_modes(self) -> dict[str, list[str]]: ...

    @abstractmethod
    def hold_modules(self, modules: Sequence[nn.Module]) -> None: ...

    @abstractmethod
    def held_parameters(self) -> set[str]: ...

    @abstractmethod
    def load_module_modes(self, modes: Mapping[str, Sequence[str]]) -> None: ...

    @abstractmethod
    def step_traits(self) -> set[str]: ...

    @abstractmethod
    def step_callbacks(self, updates: int | None, epochs: int | None) -> list[Any]: ...

    @abstractmethod
    def step_state(self) -> dict[str, dict[str, Any]]: ...

    @abstractmethod
    def evaluated_state(self) -> dict[str, str]: ...

    @abstractmethod
    def load_step_state(self, state: Mapping[str, Mapping[str, Any]]) -> None: ...

    @abstractmethod
    def extra_state(self) -> dict[str, Any]: ...

    @abstractmethod
    def load_extra_state(self, state: Mapping[str, Any]) -> None: ...
