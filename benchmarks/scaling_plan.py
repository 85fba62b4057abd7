"""The plan for a network of 7 billion parameters on 64 and 1,024 processes, by arithmetic and simulation.

    OMP_NUM_THREADS=1 python benchmarks/scaling_plan.py [--processes 64 1024]

A Llama-like network is built on the meta device, so its tensors have shapes and no values. One process
plays the first of many, in a group of torch's backend `fake`, whose operations do nothing: `fully_shard`
splits the parameters, and the layout of a folder of shards is computed as a checkpoint does it. The
collective operations of an update are counted in a network of the same depth, and of a width that fits.
Nothing is trained or sent.
"""

from __future__ import annotations

import argparse
import resource
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.debug import CommDebugMode
from torch.testing._internal.distributed.fake_pg import FakeStore

from argus_core.data.slices import Share, slice_of
from argus_core.parallel.shards import local, not_a_view
from argus_core.parallel.units import find_units
from argus_core.storage import payload
from argus_core.storage.entry import Entry
from argus_core.storage.folder_manifest import Shard, parse_folder, render_folder
from argus_core.storage.layout import Layout, Plan
from argus_core.storage.pieces import Group, Piece, even_part

BATCH = 4_000  # samples, which neither 64 nor 1,024 processes divide
WIDTH, HIDDEN, LAYERS, VOCABULARY = 4096, 11008, 32, 32000


class Block(nn.Module):
    """A block of Llama: attention of four square matrices, a gated network of three, two norms."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.query, self.key, self.value, self.output = (nn.Linear(width, width, False) for _ in range(4))
        self.gate, self.up = (nn.Linear(width, hidden, False) for _ in range(2))
        self.down = nn.Linear(hidden, width, False)
        self.before, self.after = (nn.RMSNorm(width) for _ in range(2))

    def forward(self, hidden: Tensor) -> Tensor:
        own = self.before(hidden)
        seen = nn.functional.scaled_dot_product_attention(
            self.query(own), self.key(own), self.value(own), is_causal=True
        )
        hidden = hidden + self.output(seen)
        own = self.after(hidden)
        return hidden + self.down(nn.functional.silu(self.gate(own)) * self.up(own))


class Llama(nn.Module):
    """32 blocks between an embedding and a head of their own."""

    def __init__(self, width: int, hidden: int, vocabulary: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList(Block(width, hidden) for _ in range(LAYERS))
        self.norm = nn.RMSNorm(width)
        self.head = nn.Linear(width, vocabulary, False)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.embedding(tokens)
        for block in self.blocks:
            hidden = block(hidden)
        return self.head(self.norm(hidden))  # type: ignore[no-any-return]


@dataclass
class Row:
    """What is printed for one number of processes."""

    processes: int
    samples: str
    bytes_of_first: int
    bytes_of_last: int
    collectives: str
    manifest: int
    header: int
    description: int
    seconds: float


@contextmanager
def first_of(processes: int) -> Iterator[None]:
    """Play the first of so many processes."""
    distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=processes)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def sharded(network: nn.Module) -> nn.Module:
    """Split a network as the engine `fsdp` does."""
    for unit in find_units(network, None).values():
        unit.register_forward_hook(not_a_view)
        fully_shard(unit)
    network.register_forward_hook(not_a_view)
    fully_shard(network)
    for module in network.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
    network.set_reshard_after_forward(False, recurse=False)  # type: ignore[operator]
    return network


def collectives() -> str:
    """Return the collective operations of one update, by kind."""
    network = sharded(Llama(16, 32, 64))
    optimizer = torch.optim.AdamW(network.parameters())
    with CommDebugMode() as seen, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of the hooks by which it counts
        network(torch.zeros(1, 2, dtype=torch.long)).sum().backward()
        optimizer.step()
    counts: Counter[str] = Counter()
    for operation, count in seen.get_comm_counts().items():
        counts["gathers" if "gather" in str(operation) else "sums"] += count
    return " + ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))


def state_of(network: nn.Module) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the parameters and of Adam's state, by the names that a checkpoint gives them."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, parameter in network.named_parameters():
        shapes[f"nn/{name}"] = tuple(parameter.shape)
        shapes[f"optimizer/{name}/exp_avg"] = tuple(parameter.shape)
        shapes[f"optimizer/{name}/exp_avg_sq"] = tuple(parameter.shape)
        shapes[f"optimizer/{name}/step"] = ()
    return shapes


def plan_of(shapes: dict[str, tuple[int, ...]], rank: int, processes: int) -> Plan:
    """Return the plan of one process for a folder; its tensors have one number in memory each."""
    tensors: dict[str, Tensor | Piece] = {}
    for name, shape in shapes.items():
        if not shape:
            tensors[name] = torch.zeros(())
            continue
        box = even_part(shape, 0, rank, processes)
        tensors[name] = Piece(payload.outline(Entry("float32", box.shape, None)), shape, box.offset)
    return Plan(tensors, Group(rank, processes, lambda value: [value]))


def size_of(layout: Layout) -> int:
    return sum(payload.entry_of(tensor).size for tensor in layout.own.values())


def measured(processes: int) -> Row:
    with first_of(processes):
        counted = collectives()
        with torch.device("meta"):
            network = sharded(Llama(WIDTH, HIDDEN, VOCABULARY))
        shapes = state_of(network)
        check_split(network, processes)
    cut = (slice_of(BATCH, Share(rank, processes)) for rank in range(processes))
    slices = Counter(stop - start for start, stop, _ in cut)
    began = time.process_time()
    first = plan_of(shapes, 0, processes)
    described = [first.description()] * processes  # equal, as the last one's shows
    layout = first.layout(described)
    seconds = time.process_time() - began
    last = plan_of(shapes, processes - 1, processes)
    assert last.description() == described[0]
    shards = (Shard(size_of(layout), 0),) * processes
    manifest = render_folder({"schema": 1}, layout.entries, layout.places, layout.aliases, "0" * 32, shards)
    parse_folder(manifest, sum(shard.size for shard in shards))
    return Row(
        processes,
        " and ".join(f"{count} x {size}" for size, count in sorted(slices.items())),
        size_of(layout),
        size_of(last.layout(described)),
        counted,
        len(manifest),
        len(str(layout.offsets)),
        len(str(described[0])),
        seconds,
    )


def check_split(network: nn.Module, processes: int) -> None:
    """Check that torch has split every parameter as a checkpoint takes for granted."""
    for name, parameter in network.named_parameters():
        assert isinstance(parameter, DTensor), name
        assert tuple(local(parameter).shape) == even_part(tuple(parameter.shape), 0, 0, processes).shape, name


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, nargs="+", default=[64, 1024])
    options = parser.parse_args()
    torch.set_num_threads(1)
    with torch.device("meta"):
        network = Llama(WIDTH, HIDDEN, VOCABULARY)
    parameters = sum(each.numel() for each in network.parameters())
    tensors = len(state_of(network))
    print(f"{parameters / 1e9:.2f} G parameters, {tensors} tensors with Adam's state, batches of {BATCH}\n")
    print("| | " + " | ".join(f"{each:,} processes" for each in options.processes) + " |")
    print("|---|" + "---:|" * len(options.processes))
    rows = [measured(each) for each in options.processes]
    gibibytes = [(f"{row.bytes_of_first / 2**30:.3f}", f"{row.bytes_of_last / 2**30:.3f}") for row in rows]
    lines = {
        "processes x samples of a batch": [row.samples for row in rows],
        "GiB of parameters and Adam's state, first process": [first for first, _ in gibibytes],
        "the same, last process": [last for _, last in gibibytes],
        "collective operations of torch in an update": [row.collectives for row in rows],
        "manifest, KiB": [f"{row.manifest / 1024:.0f}" for row in rows],
        "offsets in a shard's header, KiB": [f"{row.header / 1024:.0f}" for row in rows],
        "message of a process before a save, bytes": [str(row.description) for row in rows],
        "CPU seconds for the plan of one process": [f"{row.seconds:.2f}" for row in rows],
    }
    for title, cells in lines.items():
        print(f"| {title} | " + " | ".join(cells) + " |")
    peak = resource.getrusage(resource.RUSAGE_SELF)
    print(f"\n{peak.ru_utime + peak.ru_stime:.0f} s of CPU, {peak.ru_maxrss / 2**20:.2f} GiB at most")


if __name__ == "__main__":
    main()
