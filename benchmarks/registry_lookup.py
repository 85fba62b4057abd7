"""The registry: a look-up after the first, the first scan, and listing, with many installed distributions.

    python benchmarks/registry_lookup.py [--rounds 15]

The distributions are folders of metadata made for the purpose. Every one has the METADATA of an ordinary
package, 15 KB, and an entry point of its own; some are plugins.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import timeit
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

from interleave import interleave

from argus_core import resolve
from argus_core.registry.discovery import scan

SIZES = ((10, 1, 10), (100, 10, 10), (500, 50, 10), (500, 50, 100), (500, 500, 10))
"""Distributions, plugins among them, and the components of each."""

LARGEST = (500, 50, 100)

METADATA = (
    "Metadata-Version: 2.1\nName: dist-{}\nVersion: 1.0\n" + "Classifier: none\n" * 20 + "\n" + "word " * 3000
)

RUN = "from argus_core.cli import main; main({arguments!r}, standalone_mode=False)"

STARTS = {
    "bare python": "pass",
    "first look-up": "import argus_core; argus_core.resolve('nn_module', 'net0_0')",
    "`argus list`": RUN.format(arguments=["list"]),
    "`argus list nn_module --json`": RUN.format(arguments=["list", "nn_module", "--json"]),
    "`argus plugins list`": RUN.format(arguments=["plugins", "list"]),
    "`argus plugins why net0_0`": RUN.format(arguments=["plugins", "why", "net0_0"]),
}


def make_distributions(folder: Path, count: int, plugins: int, parts: int) -> None:
    for number in range(count):
        info = folder / f"dist_{number}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(METADATA.format(number))
        entries = [f"[console_scripts]\ndist{number} = dist{number}:main\n"]
        if number % (count // plugins) == 0:
            components = "".join(f"net{number}_{part} = dist{number}:Net{part}\n" for part in range(parts))
            entries.append(f"[argus_core.nn_module]\n{components}")
        (info / "entry_points.txt").write_text("\n".join(entries))


def cpu_seconds(code: str, folder: str) -> float:
    environment = {**os.environ, "PYTHONPATH": folder}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure_scans(root: Path, rounds: int) -> None:
    contenders: dict[str, Callable[[], Callable[[], object]]] = {}
    for size in SIZES:
        folder = root / "-".join(map(str, size))
        folder.mkdir()
        make_distributions(folder, *size)
        contenders[" | ".join(map(str, size))] = partial(partial, scan, [str(folder)])
    times = interleave(contenders, rounds)
    print("| installed distributions | plugins among them | components of each | scan, CPU ms |")
    print("|---:|---:|---:|---:|")
    for name, seconds in times.items():
        print(f"| {name} | {median(seconds) * 1e3:.1f} |")


def measure_starts(folder: str, rounds: int) -> None:
    seconds: dict[str, list[float]] = {name: [] for name in STARTS}
    for _ in range(rounds):
        for name, code in STARTS.items():
            seconds[name].append(cpu_seconds(code, folder))
    print("\n| start | CPU ms above bare python (middle half) |\n|---|---:|")
    for name in STARTS:
        pairs = zip(seconds[name], seconds["bare python"], strict=True)
        above = sorted((own - bare) * 1e3 for own, bare in pairs)
        quarter = len(above) // 4
        print(f"| {name} | {median(above):.0f} ({above[quarter]:.0f}-{above[-1 - quarter]:.0f}) |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds: int = parser.parse_args().rounds
    resolve("loss", "CrossEntropyLoss")
    number = 100_000
    runs = timeit.repeat(lambda: resolve("loss", "CrossEntropyLoss"), number=number, repeat=rounds)
    empty = timeit.repeat(lambda: None, number=number, repeat=rounds)
    print(f"look-up after the first: {(median(runs) - median(empty)) / number * 1e9:.0f} ns\n")
    with tempfile.TemporaryDirectory() as root:
        measure_scans(Path(root), rounds)
        measure_starts(str(Path(root) / "-".join(map(str, LARGEST))), rounds)


if __name__ == "__main__":
    main()
