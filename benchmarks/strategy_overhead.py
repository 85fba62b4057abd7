"""CPU time that the framework itself adds to an update with eight strategies, above the same loop by hand.

    python benchmarks/strategy_overhead.py [--rounds 15] [--updates 400]

What the framework does in between is going through slots, asking the loss for its divisor, keeping outputs,
calling metrics. That hardly depends on the network, so the network is tiny and the difference is in
microseconds rather than in percent. It is compared with three loops, which train alike:

- "by hand" is what everybody writes;
- "by hand, no zero_grad" clears gradients itself, without the profiling that torch wraps around it;
- "by hand, frugal" also lets backward begin with a micro-batch's share of the window, which spares their
  product. It calls the same functions of torch as the framework, of which no more is left than its Python.

The loops take turns within one epoch, a block of updates each, so that what else runs on the machine slows
all of them, and each block is compared with those of the others beside it.
"""

from __future__ import annotations

import argparse
import gc
import math
import random
import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from interleave import Times, print_differences
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

import argus_core

Batches = list[tuple[Tensor, Tensor]]

BLOCK = 25  # updates
STEPS, CHUNKS = 2, 2  # four micro-batches to an update
CLIP_VALUE, MAX_NORM, DECAY, RHO = 0.1, 1.0, 0.99, 0.05
EIGHT: list[Any] = [
    ("amp", {"dtype": "bfloat16"}),
    ("accumulate", {"steps": STEPS}),
    ("microbatch", {"chunks": CHUNKS}),
    ("clip_grad_value", {"clip_value": CLIP_VALUE}),
    ("clip_grad_norm", {"max_norm": MAX_NORM}),
    ("ema", {"decay": DECAY, "warmup": False}),
    "finite_guard",
    "channels_last",
]
SAM = ("sam", {"rho": RHO})


FRAMEWORK = "argus_core"
BY_HAND = {
    "by hand": {"zero_grad": True, "frugal": False},
    "by hand, no zero_grad": {"zero_grad": False, "frugal": False},
    "by hand, frugal": {"zero_grad": False, "frugal": True},
}


class MLP(nn.Sequential):
    """16-32-outputs, on images of 4 x 4 pixels: there must be something to lay out with channels last."""

    def __init__(self, outputs: int) -> None:
        super().__init__(nn.Flatten(), nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, outputs))


def regression(updates: int) -> Batches:
    return [(torch.randn(32, 1, 4, 4), torch.randn(32, 1)) for _ in range(updates * STEPS)]


def classification(updates: int) -> Batches:
    return [(torch.randn(32, 1, 4, 4), torch.randint(0, 2, (32,))) for _ in range(updates * STEPS)]


class ByHand:
    """The loop without a framework.

    Args:
        loss: takes the mean over samples.
        outputs: of the network.
        sam: whether gradients are taken twice.
        zero_grad: whether gradients are cleared by ``Optimizer.zero_grad``.
        frugal: whether backward begins with the share of a micro-batch, and not with 1 at its product.
    """

    def __init__(self, loss: nn.Module, outputs: int, sam: bool, zero_grad: bool, frugal: bool) -> None:
        self.network, self.loss, self.sam = MLP(outputs), loss, sam
        self.zero_grad, self.frugal = zero_grad, frugal
        self.parameters = list(self.network.parameters())
        for parameter in self.parameters:
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(self.parameters, lr=0.01)
        self.averages = [parameter.detach().clone() for parameter in self.parameters]
        self.average = get_ema_multi_avg_fn(DECAY)  # type: ignore[no-untyped-call]
        self.total, self.samples = 0.0, 0
        self.network.train()

    def start_from(self, state: Mapping[str, Tensor]) -> None:
        """Begin with the weights of another network."""
        self.network.load_state_dict(state)
        for average, parameter in zip(self.averages, self.parameters, strict=True):
            average.copy_(parameter.detach())

    def train(self, batches: Batches) -> None:
        """Train on the batches, and track the loss."""
        for start in range(0, len(batches), STEPS):
            loss, samples = self.update(batches[start : start + STEPS])
            self.total += loss.item() * samples
            self.samples += samples

    def update(self, window: Batches) -> tuple[Tensor, int]:
        window = [(input.contiguous(memory_format=torch.channels_last), target) for input, target in window]
        parts = [
            part
            for input, target in window
            for part in zip(input.chunk(CHUNKS), target.chunk(CHUNKS), strict=True)
        ]
        samples = sum(target.shape[0] for _, target in parts)
        loss = self.gradients(parts, samples)
        if self.sam:
            self.climb_and_return(parts, samples)
        nn.utils.clip_grad_value_(self.parameters, CLIP_VALUE)
        nn.utils.clip_grad_norm_(self.parameters, MAX_NORM)
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        largest = nn.utils.get_total_norm(gradients, math.inf)
        if not torch.isfinite(loss) & torch.isfinite(largest):
            raise ValueError("not finite")
        self.optimizer.step()
        self.average(self.averages, self.parameters, None)
        return loss, samples

    def gradients(self, parts: Batches, samples: int) -> Tensor:
        if self.zero_grad:
            self.optimizer.zero_grad()
        else:
            for parameter in self.parameters:
                parameter.grad = None
        losses, total = [], 0.0
        for input, target in parts:
            with torch.autocast("cpu", torch.bfloat16):
                loss = self.loss(self.network(input), target)
            share = target.shape[0] / samples
            if self.frugal:
                loss.backward(loss.new_full((), share))
                total += loss.item() * share
            else:
                loss = loss * share
                loss.backward()
                losses.append(loss.detach())
        return parts[0][0].new_full((), total) if self.frugal else torch.stack(losses).sum()

    def climb_and_return(self, parts: Batches, samples: int) -> None:
        kept = [parameter.detach().clone() for parameter in self.parameters]
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        length = RHO / (nn.utils.get_total_norm(gradients) + 1e-12)
        with torch.no_grad():
            for parameter, gradient in zip(self.parameters, gradients, strict=True):
                parameter.addcmul_(gradient, length)
        self.gradients(parts, samples)
        with torch.no_grad():
            for parameter, value in zip(self.parameters, kept, strict=True):
                parameter.copy_(value)


class Turns:
    """The loader of a run in which other loops take their turns with the same batches.

    Args:
        batches: of one epoch.
        others: by name.
        order: decides who comes first.

    Attributes:
        seconds: the CPU time of an update in each block of each loop, the run's own included.
    """

    def __init__(self, batches: Batches, others: Mapping[str, ByHand], order: random.Random) -> None:
        self.batches, self.others, self.order = batches, others, order
        self.seconds: Times = {name: [] for name in (*others, FRAMEWORK)}

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(self.batches), BLOCK * STEPS):
            block = self.batches[start : start + BLOCK * STEPS]
            for name in self.order.sample([*self.others], len(self.others)):
                begun = time.process_time()
                self.others[name].train(block)
                self._note(name, begun, block)
            begun = time.process_time()
            yield from block
            self._note(FRAMEWORK, begun, block)

    def _note(self, name: str, begun: float, block: Batches) -> None:
        self.seconds[name].append((time.process_time() - begun) * STEPS / len(block))


def compare(loss: str, outputs: int, batches: Batches, strategies: list[Any], rounds: int) -> Times:
    """Return the CPU time of an update in each block of each loop; one round before the others warms up."""
    times: Times = {}
    for turn in range(rounds + 1):
        # New objects in every round give nobody a lucky place in memory for good.
        by_hand = {
            name: ByHand(getattr(nn, loss)(), outputs, SAM in strategies, **traits)
            for name, traits in BY_HAND.items()
        }
        model = argus_core.Model(
            {
                "nn_module": ("images_mlp", {"outputs": outputs}),
                "loss": loss,
                "optimizer": ("SGD", {"lr": 0.01}),
                "step": strategies,
                "device": "cpu",
            }
        )
        start = model.get_nn_module().state_dict()
        for each in by_hand.values():
            each.start_from(start)
        turns = Turns(batches, by_hand, random.Random(turn))
        gc.collect()
        result = model.fit(turns)
        # Loops that do not train alike are not compared.
        losses = [each.total / each.samples for each in by_hand.values()]
        torch.testing.assert_close(losses, [result["train_loss"]] * len(losses), rtol=1e-5, atol=0)
        if turn:
            for name, seconds in turns.seconds.items():
                times.setdefault(name, []).extend(seconds)
    return times


def main() -> None:
    arguments = parse()
    torch.set_num_threads(1)
    argus_core.register("nn_module", "images_mlp", MLP)
    print(
        f"{arguments.rounds} rounds of {arguments.updates} updates of {STEPS * CHUNKS} micro-batches, CPU "
        f"time, one thread, torch {torch.__version__}\n"
    )
    problems = (
        ("MSELoss", 1, regression(arguments.updates)),
        ("CrossEntropyLoss", 2, classification(arguments.updates)),
    )
    for more, strategies in (("", EIGHT), (", and sam", [*EIGHT, SAM])):
        for loss, outputs, batches in problems:
            print(f"eight strategies{more}, {loss}:\n")
            times = compare(loss, outputs, batches, strategies, arguments.rounds)
            print_differences(times, FRAMEWORK, 1e6, "us an update")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--updates", type=int, default=400)
    return parser.parse_args()


if __name__ == "__main__":
    main()
