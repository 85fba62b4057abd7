from __future__ import annotations

import contextlib
import io
import re
import sys
from pathlib import Path

import pytest

from argus_core import resolve
from argus_core.registry.factory import build_component

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_python_in_the_readme_prints_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    (output,) = re.findall(r"```output\n(.*?)```", README, flags=re.DOTALL)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(block, {})
    assert printed.getvalue() == output


def test_transforms_in_the_readme_are_built() -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", README, flags=re.DOTALL)
    for table in tomllib.loads(block)["data"].values():
        assert callable(build_component("transform", table["transform"], "transform"))


def test_optimizers_in_the_readme_are_there() -> None:
    assert "caution" in resolve("optimizer", "adan").load().__signature__.parameters  # type: ignore[attr-defined]
