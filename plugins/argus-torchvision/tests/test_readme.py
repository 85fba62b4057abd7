from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torchvision_operators

from argus_core.data.datasets import build_dataset
from argus_core.registry.registry import components

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
FILE = re.compile(r"# ([\w.]+)\n")


def blocks() -> Iterator[tuple[str, str]]:
    yield from re.findall(r"```(\w+)\n(.*?)```", README, flags=re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with the files that the readme shows, and the images that one of them makes."""
    folder = tmp_path_factory.mktemp("readme")
    for _, block in blocks():
        if named := FILE.match(block):
            (folder / named[1]).write_text(block, "utf-8")
    subprocess.run([sys.executable, "make_digits.py"], cwd=folder, check=True)
    return folder


@pytest.fixture
def files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in that folder."""
    monkeypatch.chdir(folder)
    return folder


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own, where torchvision can be imported as it can be here."""
    folder = Path(torchvision_operators.__file__).parent
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True)


def test_the_example_trains_on_a_folder_of_images_as_the_readme_says(files: Path) -> None:
    run(sys.executable, "-m", "argus_core", "train", "digits.toml")
    lines = (files / "runs/digits/metrics.jsonl").read_text("utf-8").splitlines()
    accuracies = [record["val_accuracy"] for record in map(json.loads, lines) if "val_accuracy" in record]
    assert len(accuracies) == 2
    assert max(accuracies) > 0.85  # 0.89 to 0.93, by the processor


def test_python_in_the_readme_prints_what_it_says() -> None:
    shown = [(language, block) for language, block in blocks() if not FILE.match(block)]
    names: dict[str, object] = {}
    for (language, block), (following, output) in zip(shown, [*shown[1:], ("", "")], strict=True):
        if language == "python":
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(block, names)
            assert following != "output" or printed.getvalue() == output


@pytest.mark.parametrize("block", [block for language, block in blocks() if language == "toml"])
def test_datasets_in_the_readme_are_built(block: str, files: Path) -> None:
    for split, table in tomllib.loads(block)["data"].items():
        if isinstance(table, dict):
            spec: Any = (table.pop("name"), table)
            image, _ = build_dataset(spec, f"[data] {split}")[0]
            assert image.ndim == 3


def test_every_part_but_those_of_torchvisions_own_names_is_listed() -> None:
    for component in components():
        if component.provider == "argus-torchvision" and component.kind in ("dataset", "loss"):
            assert re.search(rf"\| `{component.name}` \|", README)
