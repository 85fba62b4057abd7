"""Run what needs a GPU, and write one JSON file of what it printed; ``gpu.sh`` calls it.

    python benchmarks/gpu.py results.json [--only waits step ...]

A job that fails or takes too long is recorded as such, and the others run all the same.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
PYTEST = ["-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "--durations", "10"]


def marked(folder: Path) -> list[str]:
    """Return the test files with a test that is marked ``gpu``."""
    return sorted(str(file) for file in folder.rglob("test_*.py") if "mark.gpu" in file.read_text("utf-8"))


def tests() -> list[str]:
    return [*PYTEST, *marked(ROOT / "tests")]


def plugin_tests(name: str) -> list[str]:
    folder = ROOT / "plugins" / name
    return [*PYTEST, "--rootdir", str(folder), "-c", str(folder / "pyproject.toml"), *marked(folder)]


def benchmark(name: str, *arguments: str) -> list[str]:
    return [str(ROOT / "benchmarks" / f"{name}.py"), *arguments]


JOBS: dict[str, tuple[list[str], int]] = {
    "tests": (tests(), 150),
    "tests-of-argus-torchmetrics": (plugin_tests("argus-torchmetrics"), 30),
    "tests-of-argus-compat": (plugin_tests("argus-compat"), 30),
    "waits": (benchmark("device_waits"), 30),
    "step": (benchmark("step_overhead", "--device", "cuda", "--rounds", "9", "--updates", "200"), 40),
    "epoch": (
        benchmark(
            "epoch", "--device", "cuda", "--rounds", "5", "--only", "digits", "rows-in-memory", "images"
        ),
        60,
    ),
}
"""By name: the arguments of Python, and the seconds that it may take."""


def run(arguments: list[str], seconds: int) -> dict[str, Any]:
    start = time.perf_counter()
    try:
        ended = subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
        )
        status, output = ended.returncode, ended.stdout
    except subprocess.TimeoutExpired as expired:
        status, output = None, (expired.stdout or b"").decode("utf-8", "replace")
    taken = round(time.perf_counter() - start, 1)
    lines = output.splitlines()
    return {"exit_status": status, "seconds": taken, "tables": tables(lines), "last_lines": lines[-40:]}


def tables(lines: list[str]) -> list[list[dict[str, str]]]:
    """Return the Markdown tables among lines, each as its rows by column."""
    found: list[list[dict[str, str]]] = []
    columns: list[str] = []
    for line in lines:
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if not cells:
            columns = []
        elif not columns:
            columns = cells
            found.append([])
        elif not set(line) <= set("|-: "):
            found[-1].append(dict(zip(columns, cells, strict=False)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("--only", nargs="+", choices=JOBS, default=list(JOBS))
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("torch sees no CUDA device")
    results: dict[str, Any] = {
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(),
        "jobs": {},
    }
    for name in arguments.only:
        results["jobs"][name] = found = run(*JOBS[name])
        print(f"{name}: exit status {found['exit_status']}, {found['seconds']} s", flush=True)
        arguments.results.write_text(json.dumps(results, indent=1), "utf-8")
    sys.exit(any(found["exit_status"] != 0 for found in results["jobs"].values()))


if __name__ == "__main__":
    main()
