"""Scripts written for pytorch-argus find on argus_core what version 1.1.0 itself found.

``golden/make.py`` ran the same scripts on pytorch-argus 1.1.0 and wrote its results down.
"""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch

HERE = Path(__file__).parent
SCRIPTS = sorted(path for path in (HERE / "scripts").glob("*.py") if path.stem != "blobs")
RESULTS = json.loads((HERE / "golden" / "results.json").read_text())

# Sums come out a little different on other processors.
_TOLERANCE = 2e-4
_ROUNDING = 1e-6  # of float32, which differs between processors
_NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")


def differences(found: Any, expected: Any, where: str = "") -> list[str]:
    if isinstance(expected, dict) and isinstance(found, dict) and found.keys() == expected.keys():
        items: Any = ((found[key], expected[key], key) for key in expected)
    elif isinstance(expected, list) and isinstance(found, list | tuple) and len(found) == len(expected):
        items = zip(found, expected, range(len(expected)), strict=True)
    elif _is_same(found, expected):
        return []
    else:
        return [f"{where}: {found!r} is not {expected!r}"]
    return [line for one, other, key in items for line in differences(one, other, f"{where}/{key}")]


def _is_same(found: Any, expected: Any) -> bool:
    if isinstance(expected, str) and isinstance(found, str):
        numbers = [list(map(float, _NUMBER.findall(text))) for text in (found, expected)]
        return _NUMBER.sub("#", found) == _NUMBER.sub("#", expected) and numbers[0] == pytest.approx(
            numbers[1], rel=_ROUNDING, abs=_TOLERANCE
        )
    if isinstance(expected, float) and isinstance(found, float | int):
        return found == pytest.approx(expected, rel=_ROUNDING, abs=_TOLERANCE)
    return type(found) is type(expected) and found == expected


def test_every_script_has_results() -> None:
    assert [path.stem for path in SCRIPTS] == sorted(RESULTS)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_finds_what_pytorch_argus_found(path: Path, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = runpy.run_path(str(path))["main"](tmp_path)
    finally:
        torch.set_num_threads(threads)
    assert differences(found, RESULTS[path.stem]) == []


def test_a_difference_would_be_seen() -> None:
    expected = {"a": [1.5, "file-0.25.pth"], "b": True}
    assert differences({"a": [1.50001, "file-0.25001.pth"], "b": True}, expected) == []
    assert differences({"a": [1.6, "file-0.25.pth"], "b": True}, expected) == ["/a/0: 1.6 is not 1.5"]
    assert len(differences({"a": [1.5, "file-0.26.pth"], "b": 1}, expected)) == 2
    assert len(differences({"a": [1.5]}, expected)) == 1
