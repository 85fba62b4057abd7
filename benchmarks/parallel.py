"""The cost of an update of two processes under `ddp` and `fsdp`, beside torch's engines by hand.

    OMP_NUM_THREADS=1 python benchmarks/parallel.py [--turns 60] [--block 25] [--only fsdp] [--sizes mlp]

By hand, the usual loop: `DistributedDataParallel` or `fully_shard` of each block, each process reads its half
of a batch from a list, gradients are averaged, the loss is tracked. argus_core fits the list of whole
batches. The processes start once, and the loops take turns of a few updates in them. CPU time is that of all
processes with all their threads; the ratio is that of neighbouring turns.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
from collections.abc import Callable
from itertools import product
from statistics import median
from typing import Any

import torch
from interleave import ratio
from torch import Tensor, distributed, multiprocessing, nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import argus_core
from argus_core import Callback, Model

Batches = list[tuple[Tensor, Tensor]]
Seconds = tuple[float, float]  # of CPU time in this process, and of wall-clock time

BATCH = 32
CLASSES = 10
WARM_UP = 3  # turns


class Dense(nn.Sequential):
    """A layer of the multilayer perceptron."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(nn.Linear(inputs, outputs), nn.ReLU())


class Convolution(nn.Sequential):
    """A layer of the convolutional network."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))


class Transformer(nn.Module):
    """4 layers of width 128 over 32 tokens: 3.2 MB of parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(64, 128)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(128, 4, 512, dropout=0.0, batch_first=True) for _ in range(4)
        )
        self.head = nn.Linear(128, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.embedding(tokens)
        for layer in self.layers:
            hidden = layer(hidden)
        return self.head(hidden.mean(1))  # type: ignore[no-any-return]


def mlp() -> nn.Module:
    return nn.Sequential(Dense(32, 64), Dense(64, 64), nn.Linear(64, CLASSES))


def cnn() -> nn.Module:
    return nn.Sequential(Convolution(1, 16), Convolution(16, 32), nn.Flatten(), nn.Linear(128, CLASSES))


NETWORKS: dict[str, Callable[[], nn.Module]] = {"mlp": mlp, "cnn": cnn, "transformer": Transformer}
BLOCKS = (Dense, Convolution, nn.TransformerEncoderLayer)
INPUTS: dict[str, Callable[[], Tensor]] = {
    "mlp": lambda: torch.randn(BATCH, 32),
    "cnn": lambda: torch.randn(BATCH, 1, 8, 8),
    "transformer": lambda: torch.randint(64, (BATCH, 32)),
}


def batches_of(size: str) -> Batches:
    torch.manual_seed(0)
    return [(INPUTS[size](), torch.randint(CLASSES, (BATCH,))) for _ in range(16)]


def by_hand(engine: str, size: str) -> Callable[[int], object]:
    """Return the loop by hand over so many batches."""
    network = NETWORKS[size]()
    if engine == "ddp":
        network = DistributedDataParallel(network)
    else:
        for module in network.modules():
            if isinstance(module, BLOCKS):
                fully_shard(module)
        fully_shard(network)
    optimizer = torch.optim.AdamW(network.parameters())
    loss_function = nn.CrossEntropyLoss()
    rank, count = distributed.get_rank(), distributed.get_world_size()
    own = [tuple(each.tensor_split(count)[rank] for each in batch) for batch in batches_of(size)]

    def run(updates: int) -> float:
        total, samples = 0.0, 0
        for number in range(updates):
            input, target = own[number % len(own)]
            optimizer.zero_grad()
            loss = loss_function(network(input), target)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(target)
            samples += len(target)
        return total / samples

    return run


def by_argus(engine: str, size: str) -> Model:
    names = {type(each).__name__ for each in NETWORKS[size]().modules()}
    units = [each.__name__ for each in BLOCKS if each.__name__ in names]
    return Model(
        {
            "nn_module": size,
            "loss": "CrossEntropyLoss",
            "optimizer": "AdamW",
            "device": "cpu",
            "parallel": ("fsdp", {"units": units}) if engine == "fsdp" else engine,
        }
    )


class Turns(Callback):
    """Lets the loop by hand take turns with a fit, and takes the time of both.

    Args:
        other: the loop by hand.
        block: the updates of each turn.
    """

    def __init__(self, other: Callable[[int], object], block: int) -> None:
        self._other, self._block = other, block
        self.taken: dict[str, list[Seconds]] = {"argus_core": [], "by hand": []}

    def epoch_start(self, state: Any) -> None:
        self._began = now()

    def iteration_complete(self, state: Any) -> None:
        if state.global_step % self._block:
            return
        self.taken["argus_core"].append(since(self._began))
        distributed.barrier()
        began = now()
        self._other(self._block)
        self.taken["by hand"].append(since(began))
        gc.collect()
        distributed.barrier()
        self._began = now()


def now() -> Seconds:
    return time.process_time(), time.perf_counter()


def since(began: Seconds) -> Seconds:
    cpu, wall = now()
    return cpu - began[0], wall - began[1]


def measure(rank: int, folder: str, options: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=options.processes
    )
    for size, network in NETWORKS.items():
        argus_core.register("nn_module", size, override=True)(network)
    for engine, size in product(options.only, options.sizes):
        turns = Turns(by_hand(engine, size), options.block)
        batches = batches_of(size)
        updates = options.block * (options.turns + WARM_UP)
        by_argus(engine, size).fit([batches[i % len(batches)] for i in range(updates)], callbacks=[turns])
        report(engine, size, turns.taken, options)
    distributed.barrier()
    distributed.destroy_process_group()


def report(engine: str, size: str, taken: dict[str, list[Seconds]], options: argparse.Namespace) -> None:
    """Print the CPU time of all processes, and wall-clock time, of both loops."""
    cells = [engine, size]
    times = torch.tensor([taken["by hand"][WARM_UP:], taken["argus_core"][WARM_UP:]], dtype=torch.float64)
    distributed.all_reduce(times)
    for cpu_or_wall in (times[..., 0], times[..., 1] / options.processes):
        seconds = dict(zip(["by hand", "argus_core"], cpu_or_wall.tolist(), strict=True))
        cells += [f"{median(each) / options.block * 1e6:.0f}" for each in seconds.values()]
        cells.append(ratio(seconds, "argus_core", "by hand"))
    if not distributed.get_rank():
        print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=60, help="of each loop")
    parser.add_argument("--block", type=int, default=25, help="updates of a turn")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=["ddp", "fsdp"], default=["ddp", "fsdp"])
    parser.add_argument("--sizes", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    options = parser.parse_args()
    print(
        f"{options.turns} turns of {options.block} updates, {options.processes} processes, "
        f"torch {torch.__version__}\n\n"
        "| engine | network | by hand, CPU us | argus_core, CPU us | over by hand (middle half) | "
        "by hand, us | argus_core, us | over by hand (middle half) |\n|---|---|---:|---:|---:|---:|---:|---:|"
    )
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.start_processes(
            measure, (folder, options), nprocs=options.processes, start_method="fork"
        )


if __name__ == "__main__":
    main()
