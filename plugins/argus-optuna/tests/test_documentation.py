from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from argus_core.cli import main
from argus_optuna.algorithms import PRUNERS, SAMPLERS
from argus_optuna.command import command
from argus_optuna.settings import _KEYS

ROOT = Path(__file__).parents[3]
README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
PAGE = (ROOT / "docs/plugins/argus-optuna.md").read_text(encoding="utf-8")


def test_code_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for language, code in re.findall(r"```(\w+)\n(.*?)```", README, flags=re.DOTALL):
        if language == "toml":
            Path("digits.toml").write_text(code, encoding="utf-8")
        elif language == "console":
            _, *args = shlex.split(code.removeprefix("$ "))
            assert CliRunner().invoke(main, args, catch_exceptions=False).exit_code == 0
        else:
            assert language == "python"
            exec(code, names)
    assert names["result"].best is not None  # type: ignore[attr-defined]


def rows(heading: str) -> list[str]:
    """Return the first column of the tables under a heading of the page."""
    section = re.split(r"^## ", PAGE.partition(f"\n## {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    return re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)


def test_every_key_sampler_and_pruner_is_documented() -> None:
    keys = [key for key in _KEYS if key != "space"]  # which has a section of its own
    assert rows("`[sweep]`") == [*keys, *SAMPLERS, *PRUNERS]


def test_every_option_is_documented() -> None:
    options = {option for each in command.params for option in each.opts if isinstance(each, click.Option)}
    documented = set(re.findall(r"^\| `(--[\w-]+)", PAGE, re.MULTILINE))
    assert documented == options - {"--traceback"}
