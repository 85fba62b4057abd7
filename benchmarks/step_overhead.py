"""CPU time of one optimizer update: argus_core and others against the loop written by hand.

    python benchmarks/step_overhead.py [--rounds 31] [--updates 400] [--device cuda]

A network so small that the update itself hardly counts, one thread, the real public entry points, batches
from a list. Frameworks that are not installed are named and left out, as all others are on a device: there
wall-clock time is measured, from and to an idle device, and the loops by hand read their sums at the end.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from typing import Any

import torch
from frameworks import FRAMEWORKS, MLP, installed
from interleave import CLOCKS, clock_of, interleave, print_table
from torch import nn

import argus_core

Batches = list[tuple[torch.Tensor, torch.Tensor]]
Contender = Callable[[], Callable[[], object]]


def regression(updates: int, device: torch.device) -> Batches:
    return [(torch.randn(32, 16).to(device), torch.randn(32, 1).to(device)) for _ in range(updates)]


def classification(updates: int, device: torch.device) -> Batches:
    return [(torch.randn(32, 16).to(device), torch.randint(0, 2, (32,)).to(device)) for _ in range(updates)]


def bare(outputs: int, batches: Batches) -> Callable[[], object]:
    """Track nothing."""
    network, loss_function, optimizer = by_hand(outputs, batches)

    def run() -> None:
        network.train()
        for input, target in batches:
            optimizer.zero_grad()
            loss = loss_function(network(input), target)
            loss.backward()
            optimizer.step()

    return run


def hand_loss(outputs: int, batches: Batches) -> Callable[[], object]:
    """Track the mean loss of a sample."""
    network, loss_function, optimizer = by_hand(outputs, batches)
    read = read_on(batches)

    def run() -> float:
        network.train()
        total, count = 0.0, 0
        for input, target in batches:
            optimizer.zero_grad()
            loss = loss_function(network(input), target)
            loss.backward()
            optimizer.step()
            samples = target.shape[0]
            total += read(loss) * samples
            count += samples
        return float(total) / count

    return run


def hand_accuracy(outputs: int, batches: Batches) -> Callable[[], object]:
    """Track the mean loss of a sample and the share of right predictions."""
    network, loss_function, optimizer = by_hand(outputs, batches)
    read = read_on(batches)

    def run() -> tuple[float, float]:
        network.train()
        total, right, count = 0.0, 0, 0
        for input, target in batches:
            optimizer.zero_grad()
            prediction = network(input)
            loss = loss_function(prediction, target)
            loss.backward()
            optimizer.step()
            samples = target.shape[0]
            total += read(loss) * samples
            right += read((prediction.argmax(1) == target).sum())
            count += samples
        return float(total) / count, float(right) / count

    return run


def read_on(batches: Batches) -> Callable[[torch.Tensor], Any]:
    """Return how a loop by hand takes a number from the device: at once on the CPU, else without waiting."""
    return torch.Tensor.item if batches[0][0].device.type == "cpu" else torch.Tensor.detach


def by_hand(outputs: int, batches: Batches) -> tuple[nn.Module, nn.Module, torch.optim.Optimizer]:
    network = MLP(outputs).to(batches[0][0].device)
    return network, loss_of(outputs), torch.optim.SGD(network.parameters(), lr=0.01)


def loss_of(outputs: int) -> nn.Module:
    return nn.MSELoss() if outputs == 1 else nn.CrossEntropyLoss()


def argus(outputs: int, batches: Batches, metrics: list[str]) -> Callable[[], object]:
    model = argus_core.Model(
        {
            "nn_module": ("mlp", {"outputs": outputs}),
            "loss": type(loss_of(outputs)).__name__,
            "optimizer": ("SGD", {"lr": 0.01}),
            "device": str(batches[0][0].device),
        }
    )
    return lambda: model.fit(batches, metrics=metrics, metrics_on_train=bool(metrics))


def frameworks(outputs: int, batches: Batches, accuracy: bool, names: Iterable[str]) -> dict[str, Contender]:
    """Return the other frameworks that are installed, each ready to be measured."""
    contenders: dict[str, Contender] = {}
    for name, make in installed(names).items():
        contenders[name] = lambda make=make: make(  # type: ignore[misc]
            MLP(outputs), loss_of(outputs), batches, accuracy
        )
    return contenders


def main() -> None:
    arguments = parse()
    torch.set_num_threads(1)
    argus_core.register("nn_module", "mlp", MLP)
    device: torch.device = arguments.device
    names = (list(FRAMEWORKS) if device.type == "cpu" else []) if arguments.only is None else arguments.only

    print(
        f"{arguments.rounds} rounds of {arguments.updates} updates, {clock_of(device)}, one thread, "
        f"torch {torch.__version__}\n"
    )
    batches = regression(arguments.updates, device)
    contenders: dict[str, Contender] = {
        "bare loop": lambda: bare(1, batches),
        "by hand, loss": lambda: hand_loss(1, batches),
        "argus_core": lambda: argus(1, batches, []),
        **frameworks(1, batches, False, names),
    }
    report("loss tracked", contenders, "by hand, loss", arguments)

    labelled = classification(arguments.updates, device)
    contenders = {
        "bare loop": lambda: bare(2, labelled),
        "by hand, loss and accuracy": lambda: hand_accuracy(2, labelled),
        "argus_core": lambda: argus(2, labelled, ["accuracy"]),
        **frameworks(2, labelled, True, names),
    }
    report("loss and accuracy tracked", contenders, "by hand, loss and accuracy", arguments)


def report(title: str, contenders: dict[str, Contender], base: str, arguments: argparse.Namespace) -> None:
    print(f"{title}:\n")
    times = interleave(contenders, arguments.rounds, CLOCKS[clock_of(arguments.device)])
    bases = {base: "over by hand (middle half)", "bare loop": "over bare (middle half)"}
    print_table(times, bases, 1e6 / arguments.updates, "us an update")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--updates", type=int, default=400)
    parser.add_argument("--device", type=torch.device, default="cpu")
    parser.add_argument(
        "--only", nargs="*", metavar="FRAMEWORK", help=f"of {', '.join(FRAMEWORKS)}; none for none"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
