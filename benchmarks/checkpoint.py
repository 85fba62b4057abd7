"""Wall time and memory of saving, reading and loading checkpoints, against other formats and plain bytes.

    OMP_NUM_THREADS=1 python benchmarks/checkpoint.py [--megabytes 50 500] [--rounds 15] [--folder DIR]

The state is a network's and Adam's for it, which is twice as much. Files are read from the system's cache;
they are written to DIR, which should be on the disk that matters, and reach it before the clock stops.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import torch
from interleave import interleave, print_table
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

import argus_core
from argus_core.storage import CheckpointFile
from argus_core.storage.payload import view

try:
    import argus
except ImportError:
    argus = None

Run = Callable[[], object]

WIDTH = 1024
STATUS = Path("/proc/self/status")


class Stack(nn.Module):
    """Layers of 4 MiB each."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(layers))


class Block(nn.Module):
    """Two convolutions beside a short cut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)
        if inputs != outputs:
            self.short_cut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )


class ResNet18(nn.Module):
    """initial values as torch gives them to its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64))
        self.blocks = nn.ModuleList()
        for inputs, outputs in pairwise((64, 64, 128, 256, 512)):
            self.blocks.extend([Block(inputs, outputs, 1 + (inputs < outputs)), Block(outputs, outputs, 1)])
        self.head = nn.Linear(512, 1000)


class ResNet18ForRelu(ResNet18):
    """convolutions initialised again for ReLU, as usual."""

    def __init__(self) -> None:
        super().__init__()
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


@contextmanager
def written(path: Path) -> Iterator[BinaryIO]:
    """Return a new file that is on the disk when the block has ended."""
    with path.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def trained_model(megabytes: int) -> Any:
    layers = max(1, round(megabytes * 1e6 / 3 / (4 * WIDTH * (WIDTH + 1))))
    params = {"nn_module": ("stack", {"layers": layers}), "optimizer": ("Adam", {"lr": 1e-3})}
    model = argus_core.Model({**params, "device": "cpu"})
    for parameter in model.nn_module.parameters():
        parameter.grad = torch.randn_like(parameter)
    model.optimizer.step()
    model.optimizer.zero_grad()
    return model


def flat_state(model: Any) -> dict[str, Tensor]:
    slots = model.optimizer.state_dict()["state"]
    state = {f"nn/{name}": tensor for name, tensor in model.nn_module.state_dict().items()}
    return state | {f"{index}/{slot}": value for index, each in slots.items() for slot, value in each.items()}


def saves(model: Any, folder: Path) -> dict[str, Callable[[], Run]]:
    """Return what saves the whole state, by name; each writes a file of its own anew."""
    flat = flat_state(model)
    plain = {
        "model_name": "Model",
        "params": model.params,
        "nn_state_dict": model.nn_module.state_dict(),
        "optimizer_state_dict": model.optimizer.state_dict(),
    }

    def save_bytes(path: Path) -> None:
        with written(path) as file:
            for tensor in flat.values():
                file.write(view(tensor))

    def save_ours(path: Path) -> None:
        model.save(path, optimizer_state=True)

    def save_torch(path: Path) -> None:
        with written(path) as file:
            torch.save(plain, file)

    def save_safetensors(path: Path) -> None:
        save_file(flat, path)
        with path.open("rb") as file:
            os.fsync(file.fileno())

    return {
        "plain bytes + fsync": _fresh(folder / "bytes", save_bytes),
        "argus_core": _fresh(folder / "argus.safetensors", save_ours),
        "torch.save + fsync": _fresh(folder / "torch.pth", save_torch),
        "safetensors + fsync": _fresh(folder / "plain.safetensors", save_safetensors),
    }


def _fresh(path: Path, save: Callable[[Path], None]) -> Callable[[], Run]:
    def prepare() -> Run:
        with suppress(FileNotFoundError):
            path.unlink()
        os.sync()  # nobody waits for what another has written
        return lambda: save(path)

    return prepare


def reads(folder: Path) -> dict[str, Callable[[], Run]]:
    """Return what reads the network's part of the files that `saves` wrote, by name."""

    def read_ours(verify: bool) -> dict[str, Tensor]:
        with CheckpointFile(folder / "argus.safetensors") as file:
            names = [name for name in file.header.entries if name.startswith("nn/")]
            return file.read(names, verify=verify)

    def read_safetensors() -> dict[str, Tensor]:
        with safe_open(folder / "plain.safetensors", "pt") as file:
            names = [name for name in file.keys() if name.startswith("nn/")]  # noqa: SIM118
            return {name: file.get_tensor(name) for name in names}

    return {
        "torch.load(weights_only=True)": lambda: lambda: torch.load(folder / "torch.pth", weights_only=True),
        "argus_core, network only, verified": lambda: lambda: read_ours(verify=True),
        "argus_core, network only": lambda: lambda: read_ours(verify=False),
        "safetensors, network only, mapped": lambda: read_safetensors,
    }


def loads(folder: Path, network: type[nn.Module]) -> dict[str, Callable[[], Run]]:
    """Return what makes a network of its file, ready to predict, by name."""
    argus_core.register("nn_module", "network", network, override=True)
    argus_core.Model({"nn_module": "network", "device": "cpu"}).save(folder / "network.safetensors")
    torch.save(network().state_dict(), folder / "state.pth")

    def by_hand() -> nn.Module:
        module = network()
        module.load_state_dict(torch.load(folder / "state.pth", weights_only=True))
        return module.eval()

    def ours() -> Any:
        return argus_core.load_model(folder / "network.safetensors", loss=None, optimizer=None)

    others = {} if argus is None else {"pytorch-argus load_model": _pytorch_argus(folder, network)}
    contenders = {"argus_core load_model, verified": ours, "build, torch.load, load_state_dict": by_hand}
    return {name: (lambda run=run: run) for name, run in (others | contenders | {"build": network}).items()}


def _pytorch_argus(folder: Path, network: type[nn.Module]) -> Run:
    parts = {"nn_module": network, "loss": nn.CrossEntropyLoss, "optimizer": torch.optim.SGD}
    cls = type(f"Benchmark{network.__name__}", (argus.Model,), parts)
    model = cls({"nn_module": {}, "loss": {}, "optimizer": {"lr": 0.1}, "device": "cpu"})
    model.logger.disabled = True
    path = folder / "network.pth"
    model.save(path)
    return lambda: argus.load_model(path, loss=None, optimizer=None, device="cpu")


def print_memory(contenders: Mapping[str, Callable[[], Run]], size: int, title: str) -> None:
    """Print the most memory that each has needed at a time, beside what was there, as a share of ``size``."""
    if not STATUS.exists():
        return
    print(f"| contender | {title} |\n|---|---:|")
    for name, prepare in contenders.items():
        run = prepare()
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # what was freed before must not serve this one unseen
        before = _status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5", "ascii")  # begins VmHWM anew
        result = run()
        print(f"| {name} | {(_status('VmHWM') - before) / size:.2f} |")
        del result
    print()


def _status(key: str) -> int:
    line = next(line for line in STATUS.read_text("ascii").splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--megabytes", type=int, nargs="+", default=[50, 500])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--folder", type=Path, default=Path())
    options = parser.parse_args()
    argus_core.register("nn_module", "stack", Stack)
    for megabytes in options.megabytes:
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            measure_state(trained_model(megabytes), megabytes, Path(name), options.rounds)
    for network in (ResNet18ForRelu, ResNet18):
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            print(f"### Loading a ResNet-18, 47 MB: {network.__doc__}\n")
            times = interleave(loads(Path(name), network), options.rounds, time.perf_counter)
            bases = {"pytorch-argus load_model": "over pytorch-argus", "build": "over building alone"}
            print_table(times, bases, 1e3, "ms")


def measure_state(model: Any, megabytes: int, folder: Path, rounds: int) -> None:
    size = sum(tensor.nbytes for tensor in flat_state(model).values())
    writers = saves(model, folder)
    print(f"### Saving {megabytes} MB: a network and Adam's state\n")
    times = interleave(writers, rounds, time.perf_counter)
    bases = {"plain bytes + fsync": "over plain bytes", "torch.save + fsync": "over torch.save"}
    print_table(times, bases, 1e3, "ms")
    print_memory(writers, size, "memory beside the state, of its size")
    readers = reads(folder)
    print(f"### Reading the network, a third of the {megabytes} MB\n")
    times = interleave(readers, rounds, time.perf_counter)
    print_table(times, {"torch.load(weights_only=True)": "over torch.load"}, 1e3, "ms")
    print_memory(readers, size // 3, "memory, of the network's size")


if __name__ == "__main__":
    main()
