"""The cost of an update in two processes, beside torch's DistributedDataParallel by hand.

By hand, with the same mathematics: slices, the number of targets summed over both processes, a hook that adds
gradients, and the loss tracked. Rounds are interleaved. It prints the medians of the first process, in
microseconds, and their ratio.

::

    python benchmarks/parallel.py [--updates 300] [--rounds 7]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

import argus_core
from argus_core import Model

BATCH = 32


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def by_hand() -> Callable[[Any], None]:
    torch.manual_seed(0)
    wrapped = DistributedDataParallel(network())
    loss_of = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(wrapped.parameters(), lr=0.01)
    wrapped.register_comm_hook(None, add)
    total, count = 0.0, 0.0

    def update(batch: Any) -> None:
        nonlocal total, count
        input, target = batch
        own = float(len(target) - target.tolist().count(-100))
        weight = torch.tensor([own], dtype=torch.float64)
        work = distributed.all_reduce(weight, async_op=True)
        optimizer.zero_grad()
        loss = loss_of(wrapped(input), target)
        work.wait()
        loss.backward(torch.tensor(own / weight.item()))
        optimizer.step()
        total += loss.item() * own
        count += own

    return update


def add(state: Any, bucket):  # type: ignore[no-untyped-def] # torch compares annotations with its classes
    work = distributed.all_reduce(bucket.buffer(), async_op=True)
    return work.get_future().then(lambda done: done.value()[0])


def with_argus() -> Callable[[Any], None]:
    torch.manual_seed(0)
    model = Model(
        {
            "nn_module": "perceptron",
            "loss": "CrossEntropyLoss",
            "optimizer": ("SGD", {"lr": 0.01}),
            "device": "cpu",
        }
    )
    total, count = 0.0, 0.0

    def update(batch: Any) -> None:
        nonlocal total, count
        output: Any = model.train_step(batch)
        total += output.loss_tensor.item() * output.samples
        count += output.samples

    return update


def measure(rank: int, processes: int, folder: str, updates: int, rounds: int) -> None:
    torch.set_num_threads(1)
    argus_core.register("nn_module", "perceptron")(network)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=processes
    )
    generator = torch.Generator().manual_seed(rank)
    batches: list[tuple[Tensor, Tensor]] = [
        (
            torch.randn(BATCH // processes, 32, generator=generator),
            torch.randint(10, (BATCH // processes,), generator=generator),
        )
        for _ in range(16)
    ]
    ways = {"by hand": by_hand(), "argus_core": with_argus()}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, update in ways.items():
            distributed.barrier()
            began = time.perf_counter()
            for number in range(updates):
                update(batches[number % len(batches)])
            times[name].append((time.perf_counter() - began) / updates * 1e6)
    if rank == 0:
        medians = {name: statistics.median(each[1:]) for name, each in times.items()}  # the first warms up
        for name, median in medians.items():
            print(f"{name:<12}{median:8.0f} us per update")
        print(f"ratio       {medians['argus_core'] / medians['by hand']:8.3f}")
    distributed.barrier()
    distributed.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure updates in two processes.")
    parser.add_argument("--updates", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.start_processes(
            measure, (2, folder, options.updates, options.rounds), nprocs=2, start_method="fork"
        )


if __name__ == "__main__":
    main()
