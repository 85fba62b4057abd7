"""Processes of their own, as somebody has who only installed the packages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

__all__ = ["argus", "output_of", "pip", "run"]


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a folder."""
    return _python(folder, "-c", code)


def output_of(code: str, folder: Path) -> str:
    """Run code that must not fail and return what it prints."""
    return _output(run(code, folder))


def argus(*arguments: str, folder: Path) -> str:
    """Run a command of argus that must not fail and return what it prints."""
    return _output(_python(folder, "-m", "argus_core", *arguments))


def pip(*arguments: str, folder: Path | None = None) -> None:
    """Run pip, which must not fail."""
    _output(_python(folder, "-m", "pip", *arguments))


def _python(folder: Path | None, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )


def _output(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
