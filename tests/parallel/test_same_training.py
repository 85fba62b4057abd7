"""Several processes train as one does: the same weights, losses and metrics, for every strategy."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from process_pool import in_processes
from shared_runs import largest_difference, made, train

import argus_core
from argus_core.registry.registry import isolated_registry
from argus_core.steps.weights import Weights
from argus_core.tensors.exchange import Exchange

EXACT = 2e-6
WEIGHTS = torch.tensor([1.0, 3.0, 0.2, 2.0])

RUNS: dict[str, dict[str, Any]] = {
    "plain": {"params": {}},
    "tail of one sample": {"params": {}, "samples": 50},
    "class weights": {"params": {"loss": ("CrossEntropyLoss", {"weight": WEIGHTS})}},
    "ignored targets of a transformer": {
        "params": {"nn_module": "attention"},  # AdamW would enlarge the rounding of gradients that are 0
    },
    "digits": {"params": {"nn_module": "convolutional", "optimizer": ("AdamW", {"lr": 0.01})}},
    "elements": {"params": {"nn_module": "regression", "loss": "MSELoss"}},
    "sum": {
        "params": {
            "nn_module": "regression",
            "loss": ("MSELoss", {"reduction": "sum"}),
            "optimizer": ("SGD", {"lr": 0.003}),
        }
    },
    "sum in micro-batches": {
        "params": {
            "nn_module": "regression",
            "loss": ("MSELoss", {"reduction": "sum"}),
            "optimizer": ("SGD", {"lr": 0.003}),
            "step": [("microbatch", {"chunks": 2})],
        }
    },
    "parameter of the loss": {"params": {"loss": "scaled"}},
    "loss derived from torch's": {"params": {"loss": "focused"}},
    "unused parameters": {"params": {"nn_module": "branched"}},
    "accumulation": {"params": {"step": [("accumulate", {"steps": 3})]}, "samples": 50},
    "micro-batches": {"params": {"step": [("microbatch", {"chunks": 3})]}},
    "micro-batches of a size": {"params": {"step": [("microbatch", {"size": 2})]}},
    "micro-batches that may halve": {
        "params": {"step": [("microbatch", {"chunks": 1, "halve_on_oom": True})]}
    },
    "clipped norm": {"params": {"step": [("clip_grad_norm", {"max_norm": 0.1})]}},
    "clipped largest entry": {
        "params": {"step": [("clip_grad_norm", {"max_norm": 0.1, "norm_type": float("inf")})]}
    },
    "clipped values": {"params": {"step": [("clip_grad_value", {"clip_value": 0.01})]}},
    "averages": {"params": {"step": [("ema", {"decay": 0.9})]}},
    "sam": {"params": {"step": ["sam"]}},
    "finite_guard": {"params": {"step": ["finite_guard"]}},
    "channels_last": {"params": {"step": ["channels_last"], "nn_module": "convolutional"}},
    "closure": {"params": {"step": ["closure"]}},
    "parameters that learn later": {"params": {"step": [("unfreeze", {"match": "*.bias", "after": "3up"})]}},
    "LBFGS": {
        "params": {"step": ["closure"], "optimizer": ("LBFGS", {"lr": 0.1, "max_iter": 3})},
        "error": 1e-4,
    },
    "many strategies": {
        "params": {
            "step": [
                ("accumulate", {"steps": 2}), ("microbatch", {"chunks": 2}), "sam", ("ema", {"decay": 0.9}),
                ("clip_grad_norm", {"max_norm": 0.5}), "finite_guard",
            ]
        }
    },
    "bfloat16": {"params": {"step": [("amp", {"dtype": "bfloat16"})]}, "error": 1e-2},
    "schedule by updates": {
        "params": {},
        "fit": {"lr_scheduler": ("CosineAnnealingLR", {"T_max": 9, "interval": "update"})},
    },
    "two validation sets": {"params": {}, "fit": {"sets": ("clean", "noisy")}},
    "metrics on train": {"params": {}, "fit": {"metrics_on_train": True}},
    "number of updates": {"params": {}, "fit": {"num_epochs": 9, "num_updates": 11}},
    "limits": {"params": {}, "fit": {"limit_train": 5, "limit_val": 1}},
    "validation within an epoch": {"params": {}, "fit": {"validate_every": "3up", "log_every": "2up"}},
    "early stopping": {
        "params": {"optimizer": ("SGD", {"lr": 2.0})},
        "fit": {"num_epochs": 9, "callbacks": [("early_stopping", {"monitor": "val_loss", "patience": 1})]},
        "error": 1e-3,
    },
    "plateau": {
        "params": {},
        "fit": {"lr_scheduler": ("ReduceLROnPlateau", {"monitor": "val_loss", "patience": 0})},
    },
    "workers": {"params": {}, "workers": 1},
    "frozen, and trained from the second epoch on": {
        "params": {"step": [("unfreeze", {"match": "0.*", "after": "1ep"})]}
    },
    "one layer after the other": {
        "params": {
            "optimizer": ("AdamW", {"lr": 0.01}),
            "step": [
                ("unfreeze", {"match": ["0.*", "2.weight"], "after": "2up", "every": "3up"}),
                ("accumulate", {"steps": 2}),
            ],
        }
    },
}  # fmt: skip


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("name", RUNS)
def test_processes_train_as_one_does(name: str, count: int) -> None:
    run = dict(RUNS[name])
    error = run.pop("error", EXACT)
    alone = train(**run)
    for together in in_processes(count, _train, run):
        assert largest_difference(together, alone) <= error


def test_four_processes_share_a_batch_of_seven() -> None:
    alone = train({}, samples=29)
    for together in in_processes(4, _train, {"params": {}, "samples": 29}):
        assert largest_difference(together, alone) <= EXACT


@pytest.mark.parametrize(
    "name", ["plain", "class weights", "ignored targets of a transformer", "accumulation"]
)
def test_slices_that_were_weighted_equally_would_differ(name: str) -> None:
    run = RUNS[name]
    alone = train(**run)
    for together in in_processes(3, _train_with_equal_weights, run):
        assert largest_difference(together, alone) > 1e-3


def test_all_processes_have_the_same_weights() -> None:
    first, *others = in_processes(3, _train, {"params": {}})
    assert all(other == first for other in others)


def _train(run: dict[str, Any]) -> dict[str, Any]:
    return train(**run)


def _train_with_equal_weights(run: dict[str, Any]) -> dict[str, Any]:
    start, finish = Exchange.start, Exchange.finish
    own: list[Any] = []

    def keep(exchange: Exchange, weight: Any) -> None:
        own[:] = [weight]
        start(exchange, weight)

    def equal(exchange: Exchange) -> Any:
        finish(exchange)
        return own[0] * exchange._count

    Exchange.start, Exchange.finish = keep, equal  # type: ignore[method-assign, assignment]
    planned = Weights.of_wholes
    Weights.of_wholes = lambda *_: None  # type: ignore[method-assign, assignment]
    try:
        return train(**run)
    finally:
        Exchange.start, Exchange.finish = start, finish  # type: ignore[method-assign]
        Weights.of_wholes = planned  # type: ignore[method-assign]


class Drifting(torch.nn.Module):
    """A network with a buffer that no checkpoint has, drawn by its process."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(6, 4)
        self.register_buffer("noise", torch.randn(4, generator=own_generator()), persistent=False)


class Shifted(torch.nn.CrossEntropyLoss):
    """A loss with such a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("shift", torch.randn(4, generator=own_generator()))


def own_generator() -> torch.Generator:
    return torch.Generator().manual_seed(torch.distributed.get_rank())


def buffers(engine: str) -> list[list[float]]:
    with isolated_registry(builtins=True):
        argus_core.register("nn_module", "drifting", Drifting)
        argus_core.register("loss", "shifted", Shifted)
        model = made({"nn_module": "drifting", "loss": "shifted", "parallel": engine})
        return [model.nn_module.noise.tolist(), model.loss.shift.tolist()]


@pytest.mark.parametrize("engine", ["ddp", "fsdp"])
def test_all_buffers_begin_with_the_values_of_the_first_process(engine: str) -> None:
    first, second = in_processes(2, buffers, engine)
    assert first == second
