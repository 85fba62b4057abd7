"""Fine-tunings: parameter groups, frozen parts, averages, accumulation and weights from a file, combined."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from networks import batches
from torch import Tensor, nn

import argus_core
from argus_core import Model

__all__ = [
    "FEW",
    "FLAGS",
    "FROZEN",
    "Classifier",
    "assert_same",
    "classifiers",
    "everything",
    "fitted",
    "params_of",
]

GROUPS = {"groups": [{"match": "backbone.*", "lr": 0.02}], "no_decay": "norm_and_bias", "layer_decay": 0.5}
FROZEN = {
    "all_learn": {},
    "freeze": {"freeze": ["backbone.0.*", "backbone.1.*"]},
    "unfreeze_by_layer": {"step": [("unfreeze", {"match": "backbone.*", "after": "1up", "every": "1up"})]},
    "unfreeze_frozen": {
        "freeze": ["backbone.*"],
        "step": [("unfreeze", {"match": ["backbone.1.*", "backbone.4.*"], "after": "50%"})],
    },
    "unfreeze_epoch": {"step": [("unfreeze", {"match": "backbone.*", "after": "1ep"})]},
}
EMA = ("ema", {"decay": 0.8, "buffers": "average"})
ACCUMULATE = ("accumulate", {"steps": 2})
FLAGS = [*itertools.product([False, True], repeat=4)]
# Of these each three flags have all eight combinations.
FEW = [flags for flags in FLAGS if sum(flags) % 2 == 0]


class Classifier(nn.Module):
    """(batch, 4) -> (batch, 3) logits.

    Args:
        norm: of the hidden features.
        dropout: probability.
    """

    def __init__(self, norm: Callable[[int], nn.Module] = nn.BatchNorm1d, dropout: float = 0.2) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Linear(4, 6), norm(6), nn.ReLU(), nn.Dropout(dropout), nn.Linear(6, 6)
        )
        self.head = nn.Linear(6, 3)

    def forward(self, input: Tensor) -> Tensor:
        scores: Tensor = self.head(self.backbone(input).tanh())
        return scores


def _invariant() -> Classifier:
    """Return a classifier whose training does not depend on the number of processes."""
    return Classifier(nn.LayerNorm, 0.0)


@contextmanager
def classifiers() -> Iterator[None]:
    """Register the networks for the block, and what is built in."""
    with argus_core.isolated_registry(builtins=True):
        argus_core.register("nn_module", "classifier", Classifier)
        argus_core.register("nn_module", "invariant", _invariant)
        yield


ADAM = ("AdamW", {"lr": 0.05, "weight_decay": 0.1})


def params_of(
    frozen: str,
    groups: bool,
    averaged: bool,
    accumulated: bool,
    base: Path | None,
    network: str = "classifier",
    optimizer: tuple[str, dict[str, Any]] = ADAM,
) -> Any:
    """Return the params of a model that combines these."""
    steps = [*FROZEN[frozen].get("step", ()), *[EMA] * averaged, *[ACCUMULATE] * accumulated]
    return {
        "nn_module": network, "loss": "CrossEntropyLoss", "device": "cpu",
        "optimizer": (optimizer[0], {**optimizer[1], **(GROUPS if groups else {})}),
        **FROZEN[frozen], "step": steps,
        **({"init_from": {"path": base, "skip": ["head.*"]}} if base else {}),
    }  # fmt: skip


def fitted(params: Any, **options: Any) -> Model:
    """Return a model after two epochs, with a schedule over them."""
    torch.manual_seed(0)
    model = Model(params)
    schedule = ("warmup_cosine", {"warmup": "1ep", "min_lr": 0.01})
    model.fit(batches(), num_epochs=2, seed=0, lr_scheduler=schedule, **options)
    return model


def everything(model: Model) -> dict[str, Any]:
    """Return all state of a model that further training depends on."""
    network = model.get_nn_module()
    return {
        "weights": network.state_dict(),
        "optimizer": model.optimizer.state_dict(),
        "steps": model.step_state(),
        "learning": [name for name, each in network.named_parameters() if each.requires_grad],
        "asleep": [name for name, each in network.named_modules() if not each.training],
    }


def assert_same(ours: Any, theirs: Any, where: str) -> None:
    """Assert that two states are equal to the last bit."""
    if isinstance(theirs, Mapping):
        assert ours.keys() == theirs.keys(), where
        for key, value in theirs.items():
            assert_same(ours[key], value, f"{where}.{key}")
    elif isinstance(theirs, Tensor):
        assert torch.equal(ours, theirs), where
    else:
        assert ours == theirs, where
