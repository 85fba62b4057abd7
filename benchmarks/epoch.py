"""CPU time of an epoch through a real DataLoader: argus_core and others against the loop written by hand.

    python benchmarks/epoch.py [--rounds 15] [--only rows-in-memory ...] [--workers 0 2] [--device cuda]

Each contender goes over the same kind of DataLoader, shuffled, workers' time included. Other frameworks take
part in the cases without validation; those that are not installed are named and left out. They do not take
part on a device: there wall-clock time is measured, from and to an idle device, and the loop by hand pins the
memory of its batches, copies them without waiting and reads its sums once an epoch.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy
import torch
from frameworks import MLP, installed
from interleave import CLOCKS, clock_of, interleave, print_table
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import argus_core

Contender = Callable[[], Callable[[], object]]

ROWS = 40_000
BATCH = 256


class Rows(Dataset[Any]):
    """Rows of 16 numbers and a target, read one by one."""

    def __init__(self) -> None:
        self.inputs, self.targets = torch.randn(ROWS, 16), torch.randn(ROWS, 1)

    def __len__(self) -> int:
        return ROWS

    def __getitem__(self, index: int) -> Any:
        return self.inputs[index], self.targets[index]


class RowsOfTorch(Rows):
    """The same with noise."""

    def __getitem__(self, index: int) -> Any:
        return self.inputs[index] + 0.1 * torch.randn(16), self.targets[index]


class RowsOfAll(Rows):
    """The same with noise of all three libraries."""

    def __getitem__(self, index: int) -> Any:
        noise = torch.randn(16) * (0.1 * random.random()) + torch.from_numpy(numpy.random.randn(16)).float()
        return self.inputs[index] + noise, self.targets[index]


class Images(Dataset[Any]):
    """Images of 32 x 32 pixels in ten classes, cropped and flipped at random."""

    def __init__(self) -> None:
        self.inputs, self.targets = torch.randn(2_000, 3, 40, 40), torch.randint(10, (2_000,))

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> Any:
        top, left = torch.randint(9, (2,)).tolist()
        image = self.inputs[index, :, top : top + 32, left : left + 32]
        return image.flip(2) if torch.rand(()) < 0.5 else image, self.targets[index]


class CNN(nn.Module):
    """Two convolutions and a linear layer."""

    def __init__(self, channels: int = 1, pixels: int = 8) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(128, 10),
        )

    def forward(self, input: torch.Tensor) -> Any:
        return self.layers(input)


class Case(NamedTuple):
    """What is trained on.

    Attributes:
        title: for the table.
        train: its dataset.
        val: validated on after each epoch, with accuracy.
        network: a name, and its parameters.
    """

    title: str
    train: Dataset[Any]
    val: Dataset[Any] | None
    network: tuple[str, dict[str, Any]]
    batch_size: int = BATCH
    epochs: int = 1

    def loss(self) -> nn.Module:
        return nn.MSELoss() if self.network[0] == "mlp" else nn.CrossEntropyLoss()

    def build(self) -> nn.Module:
        return (MLP if self.network[0] == "mlp" else CNN)(**self.network[1])

    def loaders(self, workers: int, device: torch.device) -> list[DataLoader[Any]]:
        options = {"num_workers": workers, "pin_memory": device.type != "cpu"}
        made = [DataLoader(self.train, self.batch_size, shuffle=True, **options)]
        if self.val is not None:
            made.append(DataLoader(self.val, self.batch_size, **options))
        return made


def digits() -> Case:
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]

    data = load_digits()
    inputs = torch.tensor(data.images / 16, dtype=torch.float32)[:, None]
    targets = torch.tensor(data.target)
    parts = TensorDataset(inputs[:1400], targets[:1400]), TensorDataset(inputs[1400:], targets[1400:])
    return Case("digits, a CNN, 5 epochs with validation and accuracy", *parts, ("cnn", {}), 32, 5)


def in_memory() -> Case:
    rows = Rows()
    return Case("rows in memory (TensorDataset)", TensorDataset(rows.inputs, rows.targets), None, ("mlp", {}))


CASES: dict[str, Callable[[], Case]] = {
    "digits": digits,
    "rows-in-memory": in_memory,
    "rows": lambda: Case("rows from __getitem__", Rows(), None, ("mlp", {})),
    "rows-of-torch": lambda: Case("rows that draw from torch", RowsOfTorch(), None, ("mlp", {})),
    "rows-of-all": lambda: Case(
        "rows that draw from torch, numpy and Python", RowsOfAll(), None, ("mlp", {})
    ),
    "images": lambda: Case(
        "images, cropped and flipped at random", Images(), None, ("cnn", {"channels": 3}), 32
    ),
}


def by_hand(case: Case, workers: int, device: torch.device) -> Callable[[], object]:
    network, loss_function = case.build().to(device), case.loss()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    train, *val = case.loaders(workers, device)
    read: Callable[[torch.Tensor], Any] = torch.Tensor.item if device.type == "cpu" else torch.Tensor.detach

    def moved(loader: DataLoader[Any]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        if device.type == "cpu":
            return iter(loader)
        return (
            (input.to(device, non_blocking=True), target.to(device, non_blocking=True))
            for input, target in loader
        )

    def validate(loader: DataLoader[Any]) -> tuple[float, float]:
        total, right, count = 0.0, 0, 0
        with torch.no_grad():
            for input, target in moved(loader):
                prediction = network(input)
                total += read(loss_function(prediction, target)) * target.shape[0]
                right += read((prediction.argmax(1) == target).sum())
                count += target.shape[0]
        return float(total) / count, float(right) / count

    def run() -> None:
        for _ in range(case.epochs):
            network.train()
            total, count = 0.0, 0
            for input, target in moved(train):
                optimizer.zero_grad()
                loss = loss_function(network(input), target)
                loss.backward()
                optimizer.step()
                total += read(loss) * target.shape[0]
                count += target.shape[0]
            float(total)
            network.eval()
            for loader in val:
                validate(loader)

    return run


def argus(case: Case, workers: int, device: torch.device) -> Callable[[], object]:
    params = {
        "nn_module": case.network,
        "loss": type(case.loss()).__name__,
        "optimizer": ("SGD", {"lr": 0.01}),
    }
    model = argus_core.Model({**params, "device": str(device)})
    metrics = [] if case.val is None else ["accuracy"]
    loaders = case.loaders(workers, device)
    return lambda: model.fit(*loaders, num_epochs=case.epochs, metrics=metrics)


def contenders(
    case: Case, workers: int, device: torch.device, others: dict[str, Any]
) -> dict[str, Contender]:
    made: dict[str, Contender] = {
        "by hand": partial(by_hand, case, workers, device),
        "argus_core": partial(argus, case, workers, device),
    }
    for name, make in others.items() if case.val is None else ():
        made[name] = lambda make=make: make(  # type: ignore[misc]
            case.build(), case.loss(), case.loaders(workers, device)[0], False
        )
    return made


def main() -> None:
    arguments = parse()
    device: torch.device = arguments.device
    torch.set_num_threads(1)
    argus_core.register("nn_module", "mlp", MLP, override=True)
    argus_core.register("nn_module", "cnn", CNN, override=True)
    others = installed() if device.type == "cpu" else {}
    clock = clock_of(device)
    print(f"{arguments.rounds} rounds, {clock}, one thread, torch {torch.__version__}\n")
    for name in arguments.only:
        case = CASES[name]()
        for workers in arguments.workers:
            print(f"{case.title}, {workers} workers:\n")
            times = interleave(contenders(case, workers, device, others), arguments.rounds, CLOCKS[clock])
            print_table(times, {"by hand": "over by hand (middle half)"}, 1e3 / case.epochs, "ms an epoch")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), metavar="CASE")
    parser.add_argument("--workers", nargs="+", type=int, default=[0, 2])
    parser.add_argument("--device", type=torch.device, default="cpu")
    return parser.parse_args()


if __name__ == "__main__":
    main()
