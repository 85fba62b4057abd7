from __future__ import annotations

import re
from pathlib import Path

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_python_in_the_readme_runs() -> None:
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL):
        exec(block, names)


def test_every_entry_point_is_listed() -> None:
    pyproject = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    for kind, name in re.findall(r'entry-points\."argus_core\.(\w+)"\]\n(\w+) =', pyproject):
        assert f"| `{kind}` | `{name}` |" in README
