"""Parameters and inputs for checks of built-in components that the defaults do not suit."""

from __future__ import annotations

import calendar
import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy
import torch
from safetensors.torch import save_file
from torch import Tensor

__all__ = ["EXAMPLES", "STEP_PARAMS"]

_SAMPLES = 7
_TABLE = Path(__file__).with_name("table.csv")


def _numbers(*sizes: int, seed: int = 0) -> Tensor:
    return torch.randn(_SAMPLES, *sizes, generator=torch.Generator().manual_seed(seed))


def _signs(*sizes: int) -> Tensor:
    return _numbers(*sizes, seed=1).sign()


def _classes(count: int = 5) -> Tensor:
    return torch.randint(count, (_SAMPLES,), generator=torch.Generator().manual_seed(1))


def _distributions() -> tuple[Tensor, Tensor]:
    return _numbers(5).log_softmax(1), _numbers(5, seed=1).softmax(1)


def _labels() -> tuple[Tensor, Tensor]:
    # The right classes come first, then -1.
    return _numbers(4), torch.tensor([[3, 0, -1, 1], [2, -1, 0, 1], [0, 1, 2, 3]] * 2 + [[1, -1, 0, 0]])


def _texts() -> tuple[Tensor, ...]:
    # (time, batch, characters), the texts, and the lengths of both.
    log_probabilities = torch.randn(6, 3, 5, generator=torch.Generator().manual_seed(0)).log_softmax(2)
    texts = torch.tensor([[1, 2, 3], [2, 4, 1], [3, 3, 1]])
    return log_probabilities, texts, torch.full((3,), 6), torch.full((3,), 3)


def _sequences() -> list[tuple[Tensor, Tensor]]:
    return [(_numbers(3)[:length], _classes()[:length]) for length in (4, 2, 7)]


def _write_csv(path: str) -> None:
    Path(path).write_text("a,b,name\n1,2,3\n4,5,6\n", "utf-8")


def _write_npy(path: str) -> None:
    numpy.save(path, _numbers(2, 3).numpy())


def _write_npz(path: str) -> None:
    numpy.savez(path, input=_numbers(2).numpy(), target=_classes().numpy())


def _write_parquet(path: str) -> None:
    table = importlib.import_module("pyarrow").table({"a": [1.0, 2.0], "b": [3, 4], "name": ["c", "d"]})
    importlib.import_module("pyarrow.parquet").write_table(table, path)


def _write_safetensors(path: str) -> None:
    save_file({"input": _numbers(2)}, path)


def _write_text(path: str) -> None:
    Path(path).write_text("one\n\ntwo\n", "utf-8")


def _loss(batch: Callable[[], Any], **others: Any) -> dict[str, Any]:
    return {"batch": batch, **others}


STEP_PARAMS: dict[str, list[dict[str, Any]]] = {
    "accumulate": [{"steps": 2}],
    "amp": [{"dtype": "bfloat16"}, {"dtype": "float16", "init_scale": 2.0**10}],
    "clip_grad_norm": [{"max_norm": 0.3}],
    "clip_grad_value": [{"clip_value": 0.05}],
    "compile": [{"backend": "eager"}],  # fast, with the same graphs as other backends
    "ema": [{"decay": 0.9}],
    "microbatch": [{"chunks": 3}],
    "sam": [{"rho": 0.05}],
    "unfreeze": [{"match": "*.bias", "after": "2up"}],
}
"""The parameters of each step strategy in the checks of its own and in the composition matrix."""

EXAMPLES: Mapping[tuple[str, str], Mapping[str, Any] | Sequence[Mapping[str, Any]]] = {
    ("loss", "BCELoss"): [{}, {"params": {"reduction": "sum"}}],
    ("loss", "CrossEntropyLoss"): [{}, {"params": {"weight": torch.arange(1.0, 6), "label_smoothing": 0.0}}],
    ("loss", "CosineEmbeddingLoss"): _loss(lambda: (_numbers(5), _numbers(5, seed=1), _signs())),
    ("loss", "CTCLoss"): _loss(_texts, separable=False, exact_gradient=False),
    ("loss", "GaussianNLLLoss"): _loss(lambda: (_numbers(5), _numbers(5, seed=1), _numbers(5).square() + 1)),
    ("loss", "HingeEmbeddingLoss"): _loss(lambda: (_numbers(5), _signs(5))),
    ("loss", "KLDivLoss"): _loss(_distributions, params={"reduction": "batchmean"}),
    ("loss", "LinearCrossEntropyLoss"): {"params": {"in_features": 5, "num_classes": 5}},
    ("loss", "MarginRankingLoss"): _loss(lambda: (_numbers(), _numbers(seed=1), _signs())),
    ("loss", "MultiLabelMarginLoss"): _loss(_labels),
    ("loss", "SoftMarginLoss"): _loss(lambda: (_numbers(5), _signs(5))),
    ("loss", "TripletMarginLoss"): _loss(lambda: (_numbers(5), _numbers(5, seed=1), _numbers(5, seed=2))),
    ("loss", "TripletMarginWithDistanceLoss"): _loss(
        lambda: (_numbers(5), _numbers(5, seed=1), _numbers(5, seed=2))
    ),
    ("optimizer", "Adadelta"): {"params": {"lr": 1.0}},
    ("transform", "Softmax"): {"params": {"dim": 1}},
    ("transform", "LogSoftmax"): {"params": {"dim": 1}},
    ("transform", "Softmax2d"): {"input": (2, 5, 3, 4)},
    ("transform", "Unflatten"): {"params": {"dim": 1, "unflattened_size": (2, 3)}, "input": (4, 6)},
    **{("step", name): [{"params": each} for each in params] for name, params in STEP_PARAMS.items()},
    ("metric", "top_k_accuracy"): {"params": {"k": 2}},
    ("callback", "checkpoint"): {"params": {"dir_path": "checkpoints"}},
    ("callback", "monitor_checkpoint"): {"params": {"dir_path": "checkpoints", "monitor": "train_loss"}},
    ("callback", "early_stopping"): {"params": {"monitor": "train_loss", "patience": 1}},
    ("callback", "logging_to_csv"): {"params": {"file_path": "log.csv"}},
    ("callback", "logging_to_file"): {"params": {"file_path": "log.txt"}},
    ("callback", "metrics_jsonl"): {"params": {"file_path": "metrics.jsonl"}},
    ("lr_scheduler", "ChainedScheduler"): {
        "params": {"schedulers": [("ConstantLR", {"factor": 0.5}), ("ExponentialLR", {"gamma": 0.9})]}
    },
    ("lr_scheduler", "CosineAnnealingLR"): {"params": {"T_max": 4}},
    ("lr_scheduler", "CosineAnnealingWarmRestarts"): {"params": {"T_0": 2}},
    ("lr_scheduler", "CyclicLR"): {"params": {"base_lr": 0.01, "max_lr": 0.1, "interval": "update"}},
    ("lr_scheduler", "ExponentialLR"): {"params": {"gamma": 0.9}},
    # A function of the epoch that can be sent to another process.
    ("lr_scheduler", "LambdaLR"): {"params": {"lr_lambda": calendar.isleap}},
    ("lr_scheduler", "MultiplicativeLR"): {"params": {"lr_lambda": calendar.isleap}},
    ("lr_scheduler", "MultiStepLR"): {"params": {"milestones": [1, 3]}},
    ("lr_scheduler", "OneCycleLR"): {"params": {"max_lr": 0.1, "total_steps": 20, "interval": "update"}},
    ("lr_scheduler", "ReduceLROnPlateau"): {"params": {"monitor": "train_loss", "patience": 0}},
    ("lr_scheduler", "SWALR"): {"params": {"swa_lr": 0.01}},
    ("lr_scheduler", "SequentialLR"): {
        "params": {
            "schedulers": [("ConstantLR", {"factor": 0.5}), ("ExponentialLR", {"gamma": 0.9})],
            "milestones": [2],
        }
    },
    ("lr_scheduler", "StepLR"): {"params": {"step_size": 2}},
    **{
        ("lr_scheduler", name): {"params": {"total_steps": 20, "warmup": 3}}
        for name in ("one_cycle", "warmup_cosine", "warmup_linear")
    },
    ("lr_scheduler", "warmup_constant"): {"params": {"warmup": 3}},
    ("sampler", "SubsetRandomSampler"): {"params": {"indices": [1, 3, 4, 9]}},
    ("sampler", "WeightedRandomSampler"): {"params": {"weights": [1.0, 2.0] * 12, "num_samples": 10}},
    ("parallel", "single"): {"processes": 1},  # a run of several refuses it
    ("dataset", "csv"): [
        {"params": {"path": str(_TABLE), "target": "kind", "ignore": ["name"]}},
        {"params": {"path": str(_TABLE), "target": ["width", "height"], "features": ["weight"]}},
    ],
    ("reader", "csv"): [
        {"file": _write_csv},
        {"file": _write_csv, "params": {"id": "name"}, "columns": ("b", "a")},
    ],
    ("reader", "npy"): {"file": _write_npy},
    ("reader", "npz"): {"file": _write_npz},
    ("reader", "parquet"): {"file": _write_parquet, "columns": ("b", "a")},
    ("reader", "safetensors"): {"file": _write_safetensors},
    ("reader", "text"): {"file": _write_text},
    ("collate", "pad"): {"params": {"target_value": -100, "lengths": True}, "samples": _sequences},
}
