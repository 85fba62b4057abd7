"""The registry: a look-up after the first, and the first scan with many installed distributions.

    python benchmarks/registry_lookup.py [--rounds 15]

The distributions are folders of metadata made for the purpose; every tenth, or every one, is a plugin of
ten components.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import timeit
from pathlib import Path
from statistics import median

from argus_core import resolve
from argus_core.discovery import scan


def make_distributions(folder: Path, count: int, plugin_every: int) -> None:
    for number in range(count):
        info = folder / f"dist_{number}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: dist-{number}\nVersion: 1.0\n")
        entries = [f"[console_scripts]\ndist{number} = dist{number}:main\n"]
        if number % plugin_every == 0:
            components = "".join(f"net{number}_{index} = dist{number}:Net{index}\n" for index in range(10))
            entries.append(f"[argus_core.nn_module]\n{components}")
        (info / "entry_points.txt").write_text("\n".join(entries))


def scan_milliseconds(folder: Path, rounds: int) -> float:
    seconds = []
    for _ in range(rounds):
        start = time.process_time()
        scan([str(folder)])
        seconds.append(time.process_time() - start)
    return median(seconds) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds: int = parser.parse_args().rounds
    resolve("loss", "CrossEntropyLoss")
    number = 100_000
    runs = timeit.repeat(lambda: resolve("loss", "CrossEntropyLoss"), number=number, repeat=rounds)
    empty = timeit.repeat(lambda: None, number=number, repeat=rounds)
    print(f"look-up after the first: {(median(runs) - median(empty)) / number * 1e9:.0f} ns\n")
    print("| installed distributions | plugins among them | first scan, CPU ms |\n|---:|---:|---:|")
    for count, plugin_every in ((10, 10), (100, 10), (500, 10), (500, 1)):
        with tempfile.TemporaryDirectory() as folder:
            make_distributions(Path(folder), count, plugin_every)
            milliseconds = scan_milliseconds(Path(folder), rounds)
        print(f"| {count} | {count // plugin_every} | {milliseconds:.1f} |")


if __name__ == "__main__":
    main()
