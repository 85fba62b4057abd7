"""CPU time and memory of starting: imports and commands, above a bare Python.

    python benchmarks/start_up.py [--rounds 15]

Every start is a process of its own; ratios and differences are taken within interleaved rounds.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

SAVE = """
import argus_core, torch
from torch import nn
argus_core.register("nn_module", "linear")(nn.Linear)
params = {{"in_features": 4, "out_features": 2}}
argus_core.Model({{"nn_module": ("linear", params), "device": "cpu"}}).save({path!r})
"""

RUN = "from argus_core.cli import main; main({arguments!r}, standalone_mode=False)"

PEAK = "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"


def cpu_seconds(code: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def peak_megabytes(code: str) -> float:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; {PEAK}"], check=True, capture_output=True, text=True
    )
    return int(done.stdout.split()[-1]) / 1024


def imports_torch(code: str) -> bool:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, check=True
    )
    return any(line.rpartition("|")[2].strip() == "torch" for line in done.stderr.splitlines())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds: int = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "model.safetensors")
        subprocess.run([sys.executable, "-c", SAVE.format(path=path)], check=True)
        starts = {
            "bare python": "pass",
            "import argus_core": "import argus_core",
            "argus --help": RUN.format(arguments=["--help"]),
            "argus list": RUN.format(arguments=["list"]),
            "argus inspect FILE": RUN.format(arguments=["inspect", path]),
            "import torch": "import torch",
            "argus_core.Model": "import torch, argus_core; argus_core.Model",
        }
        seconds: dict[str, list[float]] = {name: [] for name in starts}
        for _ in range(rounds):
            for name, code in starts.items():
                seconds[name].append(cpu_seconds(code))
        print("| start | CPU ms | ms above bare python | imports torch |\n|---|---:|---:|---|")
        for name, code in starts.items():
            above = [own - bare for own, bare in zip(seconds[name], seconds["bare python"], strict=True)]
            torch = "yes" if imports_torch(code) else "no"
            print(f"| {name} | {median(seconds[name]) * 1e3:.0f} | {median(above) * 1e3:.0f} | {torch} |")
    above_torch = median(
        peak_megabytes(starts["argus_core.Model"]) - peak_megabytes(starts["import torch"])
        for _ in range(rounds)
    )
    print(f"\nargus_core.Model above import torch: {above_torch:.1f} MB of peak memory")


if __name__ == "__main__":
    main()
