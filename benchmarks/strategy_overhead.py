"""CPU time that the framework itself adds to an update with eight strategies, above the same loop by hand.

    python benchmarks/strategy_overhead.py [--rounds 31] [--updates 200]

Both call the same functions of torch on the same micro-batches, so what is left is what the framework does in
between: going through slots, asking the loss for its divisor, keeping outputs, calling metrics. It hardly
depends on the network, so the network is tiny and the difference is in microseconds rather than in percent.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any

import torch
from interleave import interleave, print_differences
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

import argus_core

Batches = list[tuple[Tensor, Tensor]]
Contender = Callable[[], Callable[[], object]]

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
        batches: of one epoch.
        sam: whether gradients are taken twice.
        torchs_zero_grad: whether gradients are cleared by `Optimizer.zero_grad`, as everybody does, and not
            as the framework does it, without the profiling that torch wraps around it.
    """

    def __init__(
        self, loss: nn.Module, outputs: int, batches: Batches, sam: bool, torchs_zero_grad: bool
    ) -> None:
        self.network, self.loss, self.batches, self.sam = MLP(outputs), loss, batches, sam
        self.parameters = list(self.network.parameters())
        for parameter in self.parameters:
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(self.parameters, lr=0.01)
        self.averages = [parameter.detach().clone() for parameter in self.parameters]
        self.torchs_zero_grad = torchs_zero_grad

    def __call__(self) -> float:
        """Train for an epoch and return the mean loss of a sample."""
        self.network.train()
        total, count = 0.0, 0
        for start in range(0, len(self.batches), STEPS):
            loss, samples = self.update(self.batches[start : start + STEPS])
            total += loss.item() * samples
            count += samples
        return total / count

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
        get_ema_multi_avg_fn(DECAY)(self.averages, self.parameters, None)  # type: ignore[no-untyped-call]
        return loss, samples

    def gradients(self, parts: Batches, samples: int) -> Tensor:
        if self.torchs_zero_grad:
            self.optimizer.zero_grad()
        else:
            for parameter in self.parameters:
                parameter.grad = None
        losses = []
        for input, target in parts:
            with torch.autocast("cpu", torch.bfloat16):
                loss = self.loss(self.network(input), target)
            loss = loss * (target.shape[0] / samples)
            loss.backward()
            losses.append(loss.detach())
        return torch.stack(losses).sum()

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


def argus(loss: str, outputs: int, batches: Batches, steps: list[Any]) -> Callable[[], object]:
    model = argus_core.Model(
        {
            "nn_module": ("images_mlp", {"outputs": outputs}),
            "loss": loss,
            "optimizer": ("SGD", {"lr": 0.01}),
            "step": steps,
            "device": "cpu",
        }
    )
    model.window_size()  # sets strategies up, which happens once in a run
    return lambda: model.fit(batches)


def check(contenders: dict[str, Contender]) -> None:
    """Refuse to compare loops that do not train alike."""
    losses = []
    for make in contenders.values():
        torch.manual_seed(0)
        result = make()()
        losses.append(result["train_loss"] if isinstance(result, dict) else result)
    torch.testing.assert_close(losses, losses[:1] * len(losses), rtol=1e-5, atol=0)


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
            compare(loss, outputs, batches, strategies, arguments)


def compare(
    loss: str, outputs: int, batches: Batches, strategies: list[Any], arguments: argparse.Namespace
) -> None:
    part, sam = getattr(nn, loss)(), SAM in strategies
    contenders: dict[str, Contender] = {
        "by hand": lambda: ByHand(part, outputs, batches, sam, torchs_zero_grad=False),
        "by hand, optimizer.zero_grad()": lambda: ByHand(part, outputs, batches, sam, torchs_zero_grad=True),
        "argus_core": lambda: argus(loss, outputs, batches, strategies),
    }
    check(contenders)
    times = interleave(contenders, arguments.rounds)
    print_differences(times, "by hand", 1e6 / arguments.updates, "us an update")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--updates", type=int, default=200)
    return parser.parse_args()


if __name__ == "__main__":
    main()
