"""Waits for a CUDA device in each update of a run, as torch's own debug mode reports them.

    python benchmarks/device_waits.py

Two runs of different lengths are compared, so what a run waits for at its start and end does not count. The
loop by hand reads its loss in each update: if its row is not 1, the counting is wrong.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from frameworks import MLP
from torch import nn

import argus_core

SHORT, LONG = 40, 140
BFLOAT16 = ("amp", {"dtype": "bfloat16"})
RUNS: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "fit": ([], {}),
    "fit, accuracy of training": ([], {"metrics": ["accuracy"], "metrics_on_train": True}),
    "fit, logged every 50 updates": ([], {"log_every": "50up"}),
    "fit, amp": ([BFLOAT16], {}),
    "fit, amp, clip_grad_norm, ema": ([BFLOAT16, ("clip_grad_norm", {"max_norm": 1.0}), "ema"], {}),
    "fit, accumulate": ([("accumulate", {"steps": 2})], {}),
}


def batches(count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(torch.randn(32, 16).pin_memory(), torch.randint(0, 2, (32,)).pin_memory()) for _ in range(count)]


def by_hand(count: int) -> None:
    network = MLP(2).cuda()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    for input, target in batches(count):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(
            network(input.cuda(non_blocking=True)), target.cuda(non_blocking=True)
        )
        loss.backward()
        optimizer.step()
        loss.item()


def fit(step: list[Any], options: dict[str, Any], count: int) -> None:
    params = {
        "nn_module": ("mlp", {"outputs": 2}),
        "loss": "CrossEntropyLoss",
        "step": step,
        "device": "cuda",
    }
    model = argus_core.Model({**params, "optimizer": ("SGD", {"lr": 0.01})})
    model.fit(batches(count), **options)


def waits(run: Callable[[int], None], count: int) -> int:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            run(count)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing" in str(each.message) for each in caught)


def main() -> None:
    argus_core.register("nn_module", "mlp", MLP, override=True)
    runs: dict[str, Callable[[int], None]] = {"by hand, the loss read in each update": by_hand}
    for name, (step, options) in RUNS.items():
        runs[name] = lambda count, step=step, options=options: fit(step, options, count)  # type: ignore[misc]
    print("| run | waits in an update |\n|---|---:|")
    for name, run in runs.items():
        run(SHORT)  # the first run makes streams, handles and kernels
        print(f"| {name} | {(waits(run, LONG) - waits(run, SHORT)) / (LONG - SHORT):.2f} |")


if __name__ == "__main__":
    main()
