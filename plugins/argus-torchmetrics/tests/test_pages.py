"""The code of the plugin's pages runs, and they tell of all that there is."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest
from cases import CASES, NEEDS
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from argus_torchmetrics.catalogue import DOMAINS

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "plugins" / "argus-torchmetrics.md"
README = Path(__file__).parents[1] / "README.md"


def _runner() -> Any:
    """Return the module that runs the pages of the core's documentation."""
    spec = importlib.util.spec_from_file_location("argus_pages", ROOT / "tests" / "support" / "pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_code_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _runner().run(README)


def test_code_of_the_page_runs_and_keeps_their_values_and_curves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _runner().run(PAGE)
    run = tmp_path / "runs" / "digits"
    values = json.loads((run / "metrics.jsonl").read_text("utf-8").splitlines()[-1])
    of_classes = [f"val_recall_{number}" for number in range(10)]
    names = ["val_loss", "val_multiclass_f1_score", *of_classes, "val_multiclass_auroc"]
    assert [name for name in values if name.startswith("val_")] == names
    assert values["val_multiclass_auroc"] > 0.8
    events = EventAccumulator(str(run / "tensorboard")).Reload()
    curve = [event.value for event in events.Scalars("multiclass_f1_score/val")]
    assert len(curve) == 2
    assert curve[-1] == pytest.approx(values["val_multiclass_f1_score"])


def _rows(heading: str) -> dict[str, set[str]]:
    section = PAGE.read_text("utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `?([\w-]+)`? \| (`.*`) \|$", section, re.MULTILINE)
    return {first: set(re.findall(r"`(\w+)`", names)) for first, names in rows}


def test_every_name_stands_in_the_list_of_its_domain() -> None:
    listed = _rows("All names")
    assert set(listed) == set(DOMAINS)
    assert set().union(*listed.values()) == CASES.keys() | NEEDS.keys()
    assert sum(map(len, listed.values())) == len(CASES) + len(NEEDS)


def test_what_a_metric_needs_is_listed() -> None:
    listed = {name: package for package, names in _rows("What some need").items() for name in names}
    assert listed == {name: package for name, (_, package) in NEEDS.items()}


def test_the_readme_counts_them() -> None:
    assert f"{len(CASES) + len(NEEDS)} of them" in README.read_text("utf-8")
