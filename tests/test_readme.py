"""The README keeps its word: its commands exist, its code runs, its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pages
import pytest

README = pages.ROOT / "README.md"
TEXT = README.read_text("utf-8")


def test_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pages.run(README)


def test_both_commands_are_on_the_first_screen() -> None:
    first_screen = "\n".join(TEXT.splitlines()[:20])
    assert "argus train examples/digits.toml" in first_screen
    assert "tox run" in first_screen


def test_first_command_loads_what_it_trained_in_a_new_process() -> None:
    command = pages.commands(README)[0]
    steps = [step.split() for step in command.split(" && ")]
    assert [Path(step[0]).name for step in steps] == ["python3", "python", "argus", "argus"]
    assert steps[2][1:3] == ["train", "examples/digits.toml"]
    assert steps[3][1:3] == ["predict", "runs/digits/checkpoints/best.safetensors"]


@pytest.mark.parametrize("command", pages.commands(README))
def test_command_is_one_that_argus_takes(command: str) -> None:
    pages.parse_command(command)


def test_first_python_is_short() -> None:
    block = re.search(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert block is not None
    assert len([line for line in block[1].splitlines() if line.strip()]) <= 25


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#:]+)\)", TEXT))))
def test_link_leads_to_a_file(target: str) -> None:
    assert (pages.ROOT / target).is_file()
