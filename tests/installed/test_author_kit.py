"""The page "publish a part in five minutes", followed word for word in a new virtual environment.

The environment finds what this one has, the core from its wheel above all, and installs the page's package
into itself. Nothing comes from an index. Run by ``tox run -e plugins`` alone.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pages
import pytest

from argus_core.scaffold import MADE_KINDS

PAGE = pages.DOCS / "tutorial" / "publish-a-part.md"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# ([\w./-]+\.(?:py|toml))\n")
_OFFLINE = ["--no-index", "--no-build-isolation", "--disable-pip-version-check", "--quiet"]


class Reader:
    """Does what a reader does: writes files, changes a function, types commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        environment = folder / ".venv"
        venv.EnvBuilder(with_pip=False).create(environment)
        self.python = str(environment / "bin/python")
        ours = sysconfig.get_paths()["purelib"]
        (site,) = environment.glob("lib/python*/site-packages")
        (site / "outer.pth").write_text(f"import site; site.addsitedir({ours!r})\n", "utf-8")

    def types(self, line: str) -> str:
        """Run a command line and return what it prints."""
        name, *arguments = shlex.split(line)
        if name == "cd":
            self.folder = self.folder / arguments[0]
            return ""
        if name == "cp":
            shutil.copy(self.folder / arguments[0], self.folder / arguments[1])
            return ""
        if arguments[:2] == ["-m", "pip"]:
            arguments[3:3] = _OFFLINE if arguments[2] != "uninstall" else []
        program = ["-m", "argus_core"] if name == "argus" else []
        assert name in ("argus", "python"), line
        return self.runs(*program, *arguments)

    def runs(self, *arguments: str) -> str:
        """Run Python and return what it prints."""
        done = subprocess.run(
            [self.python, *arguments], cwd=self.folder, capture_output=True, text=True, check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTEST_ADDOPTS": "-p no:cacheprovider"},
        )  # fmt: skip
        assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
        return done.stdout


def followed(reader: Reader) -> Iterator[tuple[str, str, str]]:
    """Go through the page; give each command with what the page and what the command print."""
    for language, block in BLOCKS:
        named = _FILE.match(block)
        if language == "console":
            for part in re.split(r"^(?=\$ )", block, flags=re.MULTILINE)[1:]:
                command, _, expected = part.removeprefix("$ ").partition("\n")
                yield command, expected, reader.types(command)
        elif named:
            file = reader.folder / named[1]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block, "utf-8")
        elif language == "python":
            file = reader.folder / "medseg/src/medseg/networks.py"
            source = file.read_text("utf-8")
            changed = source[: source.index("    def forward")] + block
            assert changed != source
            file.write_text(changed, "utf-8")


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    return Reader(tmp_path_factory.mktemp("reader").resolve())


def test_the_page_works_word_for_word(reader: Reader) -> None:
    start = reader.folder
    typed = []
    for command, expected, printed in followed(reader):
        typed.append(command.split()[0])
        if expected.strip() not in ("", "..."):
            assert pages.difference(expected, printed) is None, f"{command}\n{printed}"
    assert typed.count("argus") >= 5
    assert typed.count("python") >= 4
    inspected = reader.types("argus inspect elsewhere/best.safetensors")
    assert "medseg 0.1.0" in inspected
    with zipfile.ZipFile(start / "dist/medseg-0.1.0-py3-none-any.whl") as wheel:
        assert "medseg/networks.py" in wheel.namelist()


def test_a_package_with_every_kind_passes_its_own_tests_and_is_valid(tmp_path: Path) -> None:
    reader = Reader(tmp_path.resolve())
    kinds = [argument for kind in MADE_KINDS for argument in ("--kind", kind)]
    reader.runs("-m", "argus_core", "new-plugin", "argus-everything", *kinds)
    reader.types("python -m pip install ./argus-everything")
    reader.types("python -m pytest argus-everything -W error")
    record = json.loads(reader.types("argus plugins validate argus-everything --json"))
    assert [part["kind"] for part in record["parts"]] == [*MADE_KINDS]
    assert all(part["holds"] for part in record["parts"])


def test_the_wheel_has_the_templates() -> None:
    import argus_core

    folder = Path(argus_core.__file__).parent / "scaffold/templates"
    assert "site-packages" in folder.parts
    assert len(list(folder.rglob("*.tmpl"))) > 2 * len(MADE_KINDS)
    assert sys.prefix in str(folder)
