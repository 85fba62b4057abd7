"""Wall time of saving and reading a folder of shards, against torch.distributed.checkpoint's own storage.

    OMP_NUM_THREADS=1 python benchmarks/sharded.py [--megabytes 200] [--processes 2] [--rounds 15]

Each process holds an even piece of every tensor. A save ends when all files have reached the disk; a read
gives each process its own pieces. Ours computes a CRC-32 of every byte, and compares it when reading; theirs
do not. Files are read from the cache, and written to --folder, which should be on the disk that matters.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from interleave import Times, print_table
from torch import Tensor, distributed, multiprocessing
from torch.distributed import checkpoint
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard

from argus_core.storage import open_stored, write
from argus_core.storage.pieces import Box, Piece, even_part
from argus_core.tensors.processes import saving_group

WIDTH = 1024
LENGTH = 4 * 2**20  # bytes of a tensor
OURS, TORCH = "argus_core, with CRC-32", "torch FileSystemWriter, FileSystemReader"


def pieces(megabytes: int) -> dict[str, Piece]:
    """Return this process's pieces of tensors of 4 MiB."""
    rank, count = distributed.get_rank(), distributed.get_world_size()
    shape = (LENGTH // 4 // WIDTH, WIDTH)
    found = {}
    for index in range(round(megabytes * 1e6 / LENGTH)):
        box = even_part(shape, 0, rank, count)
        found[f"layers.{index}.weight"] = Piece(torch.randn(box.shape), shape, box.offset)
    return found


def saves(own: Mapping[str, Piece], folder: Path) -> dict[str, Callable[[], object]]:
    mesh = init_device_mesh("cpu", (distributed.get_world_size(),))
    state = {
        name: DTensor.from_local(
            piece.tensor, mesh, [Shard(0)], shape=torch.Size(piece.shape), stride=(WIDTH, 1)
        )
        for name, piece in own.items()
    }
    group = saving_group()
    return {
        OURS: lambda: write(folder / "ours.sharded", own, {}, group),
        TORCH: lambda: checkpoint.save(
            state, storage_writer=checkpoint.FileSystemWriter(folder / "torch", sync_files=True)
        ),
    }


def reads(own: Mapping[str, Piece], folder: Path) -> dict[str, Callable[[], object]]:
    mesh = init_device_mesh("cpu", (distributed.get_world_size(),))
    boxes: dict[str, Box | None] = {name: piece.box for name, piece in own.items()}
    rooms = {name: torch.empty_like(piece.tensor) for name, piece in own.items()}
    state = {
        name: DTensor.from_local(room, mesh, [Shard(0)], shape=torch.Size(own[name].shape), stride=(WIDTH, 1))
        for name, room in rooms.items()
    }

    def read_ours() -> dict[str, Tensor]:
        with open_stored(folder / "ours.sharded") as stored:
            return stored.read_parts(boxes, into=rooms)

    return {
        OURS: read_ours,
        TORCH: lambda: checkpoint.load(state, storage_reader=checkpoint.FileSystemReader(folder / "torch")),
    }


def timed(contenders: Mapping[str, Callable[[], object]], rounds: int, clean: Callable[[], None]) -> Times:
    """Return the seconds of each contender in each round, of the slowest process."""
    times: Times = {name: [] for name in contenders}
    order = list(contenders)
    for turn in range(rounds + 1):
        random.Random(turn).shuffle(order)
        for name in order:
            clean()
            distributed.barrier()
            start = time.perf_counter()
            contenders[name]()
            distributed.barrier()
            if turn:
                times[name].append(time.perf_counter() - start)
    return times


def measure(rank: int, count: int, folder: Path, megabytes: int, rounds: int) -> None:
    warnings.simplefilter("ignore")  # of torch about its own functions
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=count
    )
    own = pieces(megabytes)

    def remove() -> None:
        distributed.barrier()
        if rank == 0:
            for name in ("ours.sharded", "torch"):
                shutil.rmtree(folder / name, ignore_errors=True)
            os.sync()  # nobody waits for what another has written

    written = timed(saves(own, folder), rounds, remove)
    for save in saves(own, folder).values():
        save()
    read = timed(reads(own, folder), rounds, lambda: None)
    if rank == 0:
        for title, times in (("Saving", written), ("Reading", read)):
            print(f"### {title} {megabytes} MB in {count} processes\n")
            print_table(times, {TORCH: "over torch"}, 1e3, "ms")
    distributed.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--megabytes", type=int, nargs="+", default=[200])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--folder", type=Path, default=Path())
    options = parser.parse_args()
    for megabytes in options.megabytes:
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            multiprocessing.start_processes(
                measure,
                (options.processes, Path(name).absolute(), megabytes, options.rounds),
                nprocs=options.processes,
                start_method="fork",
            )


if __name__ == "__main__":
    main()
