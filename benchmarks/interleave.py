"""Measures contenders side by side: every round runs each of them once, and ratios are taken within rounds.

A busy machine slows a whole round down, so the ratio of two contenders in one round stays true where their
times do not. The order changes from round to round, and the median leaves the disturbed rounds out.
"""

from __future__ import annotations

import gc
import random
import resource
import time
from collections.abc import Callable, Mapping
from statistics import median

import torch

__all__ = ["CLOCKS", "Times", "clock_of", "interleave", "print_differences", "print_table"]

Times = dict[str, list[float]]
"""The seconds of every round by contender."""


def cpu_seconds() -> float:
    """Return the CPU time of this process and of the workers that have ended."""
    used = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def idle_seconds() -> float:
    """Return the time at which the device has done all that was asked of it."""
    torch.accelerator.synchronize()
    return time.perf_counter()


CLOCKS: dict[str, Callable[[], float]] = {
    "CPU time": cpu_seconds,
    "wall-clock time from and to an idle device": idle_seconds,
}


def clock_of(device: torch.device) -> str:
    """Return the name in `CLOCKS` of the clock for what runs on a device."""
    return list(CLOCKS)[device.type != "cpu"]


def interleave(
    contenders: Mapping[str, Callable[[], Callable[[], object]]],
    rounds: int = 15,
    clock: Callable[[], float] = cpu_seconds,
) -> Times:
    """Return what each contender took in each round, by ``clock``.

    Args:
        contenders: each is called before its turn, outside the measurement, and returns what is measured;
            new objects in every round give nobody a lucky place in memory for good.
        rounds: how often each runs; one more round before them warms up.
        clock: CPU seconds of this process and of its ended workers by default.
    """
    times: Times = {name: [] for name in contenders}
    order = list(contenders)
    for turn in range(rounds + 1):
        random.Random(turn).shuffle(order)
        for name in order:
            run = contenders[name]()
            gc.collect()
            start = clock()
            run()
            elapsed = clock() - start
            if turn:
                times[name].append(elapsed)
    return times


def print_table(times: Times, bases: Mapping[str, str], scale: float, unit: str) -> None:
    """Print a Markdown table: the median of each contender and of its ratio to each base.

    Args:
        times: of `interleave`.
        bases: what to compare with: a column's title by contender.
        scale: what a round's seconds are multiplied by to give ``unit``.
    """
    present = {base: title for base, title in bases.items() if base in times}
    print(f"| contender | {unit} |" + "".join(f" {title} |" for title in present.values()))
    print("|---|---:|" + "---:|" * len(present))
    for name, rounds in times.items():
        columns = [ratio(times, name, base) for base in present]
        print(f"| {name} | {median(rounds) * scale:.4g} | " + " | ".join(columns) + " |")
    print()


def ratio(times: Times, name: str, base: str) -> str:
    """Return the median of a contender's ratio to ``base`` within rounds, with its middle half."""
    ratios = sorted(own / other for own, other in zip(times[name], times[base], strict=True))
    quarter = len(ratios) // 4
    return f"{median(ratios):.3f} ({ratios[quarter]:.2f}-{ratios[-1 - quarter]:.2f})"


def print_differences(times: Times, judged: str, scale: float, unit: str) -> None:
    """Print a Markdown table: the median of each contender, and of what ``judged`` takes more than it.

    Args:
        times: of one run, by contender.
        judged: a contender.
        scale: what a round's seconds are multiplied by to give ``unit``.
    """
    print(f"| contender | {unit} | {judged} takes more by (middle half) |\n|---|---:|---:|")
    for name, rounds in times.items():
        more = sorted((own - other) * scale for own, other in zip(times[judged], rounds, strict=True))
        quarter = len(more) // 4
        middle = f"{median(more):.0f} ({more[quarter]:.0f} to {more[-1 - quarter]:.0f})"
        print(f"| {name} | {median(rounds) * scale:.4g} | {middle} |")
    print()
