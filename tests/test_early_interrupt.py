"""Ctrl-C while the command starts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[1] / "examples" / "digits.toml"
# Sends SIGINT when a module is first looked for, so that no time is measured, and discards the exception, as
# C++ that imports a module does.
PROGRAM = """
import signal, sys

interrupting = sys.argv.pop()

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == interrupting:
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                pass

sys.meta_path.insert(0, Interrupting())
from argus_core.__main__ import main

main()
"""


@pytest.mark.parametrize(
    "module",
    [
        pytest.param("click", id="before the first line of the command"),
        pytest.param("torch.nn", id="while torch is imported"),
    ],
)
def test_interrupt_while_the_command_starts_ends_it_in_one_word(module: str, usual_signals: None) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "explain", str(EXAMPLE), module],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")
