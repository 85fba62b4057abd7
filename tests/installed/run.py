"""Runs each plugin's own tests and those of this folder, two pytests at a time, with the settings of each.

    python tests/installed/run.py [WORD ...]

Words choose suites by their names. One pytest for all plugins would mix their settings and modules; two
workers for each would import torch three times where once is enough.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
PLUGINS = HERE.parents[1] / "plugins"
LONGEST = (PLUGINS / "argus-optuna", HERE / "test_author_kit.py", PLUGINS / "argus-torchmetrics")
CHANGING = (HERE / "test_tutorial.py", HERE / "test_wheels.py")
"""They install packages into the environment, which no other test may see."""


def main() -> None:
    """Run the chosen suites, and leave with an error if one fails."""
    others = {*PLUGINS.glob("argus-*"), *HERE.glob("test_*.py")} - {*LONGEST, *CHANGING}
    words = sys.argv[1:]
    with ThreadPoolExecutor(2) as pool:
        results = [*pool.map(succeeds, chosen([*LONGEST, *sorted(others)], words))]
    results += map(succeeds, chosen(CHANGING, words))
    sys.exit(not all(results) if results else f"no suite has one of these words in its name: {words}")


def chosen(suites: Sequence[Path], words: list[str]) -> list[Path]:
    """Return the suites with one of the words in their names; all where there are no words."""
    return [suite for suite in suites if not words or any(word in suite.name for word in words)]


def succeeds(suite: Path) -> bool:
    """Run a suite in a process of its own, and print its report once it is whole."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--quiet", str(suite)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    print(f"{suite.relative_to(HERE.parents[1])}\n{done.stdout}", flush=True)
    return done.returncode == 0


main()
