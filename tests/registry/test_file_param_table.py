"""What a file may set: every parameter of every component is in the table of the documentation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from argus_core.registry.file_params import FileParam
from argus_core.registry.registry import Component
from argus_core.testing import file_param_table as tables
from argus_core.testing.file_param_table import check_file_param_table, file_param_table

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "file-parameters.md"

# What the parameters are that their types do not show to be plain.
REVIEWED = {
    "**kwargs": "ignored",
    "**options": (
        "`mode`, `dynamic`, `fullgraph`, `disable`, `recompile_limit`, `isolate_recompiles`: "
        "listed words, numbers and flags"
    ),
    "adjust_lr_fn": "a listed word",
    "amp.dtype": "a listed word",
    "better": "a listed word",
    "buffers": "a listed word",
    "csv.classes": "names of classes, or a flag",
    "csv.features": "names of columns",
    "csv.ignore": "names of columns",
    "csv.target": "names of columns",
    "csv.units": "units by the name of a column",
    "device": "the name of a device",
    "dtype": "the name of a dtype",
    "early_stopping.patience": "a number of epochs, updates, minutes or hours",
    "ema.warmup": "a flag",
    "every": "a number of epochs, updates, minutes or hours",
    "id": "the name of a column; no file chooses a reader",
    "line_search_fn": "a listed word",
    "monitor": "the name of a metric",
    "mixed_precision": "a listed word",
    "name": "what the values are called",
    "optimizer": "given by the run",
    "policy": "a listed word",
    "reduce": "a flag",
    "reduction": "a word",
    "schedulers": "specs of parts, each held to the same file",
    "separator": "a character",
    "sharded": "a flag, or a listed word",
    "size_average": "a flag",
    "units": "names of classes, or patterns of names",
    "unfreeze.after": "a number of epochs or updates, or a share of the run",
    "unfreeze.every": "a number of epochs or updates, or a share of the run",
    "unfreeze.match": "patterns of names",
    "warmup": "a number of steps, or a share of the run",
}


def test_the_table_of_what_files_may_set_has_every_parameter() -> None:
    check_file_param_table(PAGE, "argus-torch", REVIEWED)


class Part:
    """Has parameters of every sort."""

    file_params: ClassVar = {
        "table": FileParam("names a file to read", in_configuration=True),
        "tool": FileParam("runs it", values=("cc",)),
    }

    def __init__(
        self,
        size: int,
        scale: float | None = None,
        table: str = "",
        tool: str = "cc",
        rate=0.1,  # type: ignore[no-untyped-def]
        mode: str = "a",
    ) -> None: ...


@pytest.fixture
def declare(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let a package ``mine`` have one component, of kind loss."""

    def declared(factory: Any) -> None:
        part = Component.in_process("loss", "part", factory)
        object.__setattr__(part, "provider", "mine")
        monkeypatch.setattr(tables, "components", lambda kind: [part] if kind == "loss" else [])

    return declared


def test_a_row_says_what_a_declared_parameter_does(declare: Callable[..., None]) -> None:
    declare(Part)
    lines = file_param_table("mine", {"mode": "a word"}).splitlines()
    assert "| loss | `part` | `table` | nothing | anything | names a file to read |" in lines
    assert "| loss | `part` | `tool` | 'cc' | 'cc' | runs it |" in lines
    plain = "numbers, flags, tensors, listed words"
    assert f"| loss | `part` | `size`, `scale`, `rate` | anything | anything | {plain} |" in lines
    assert "| loss | `part` | `mode` | anything | anything | a word |" in lines


def test_a_parameter_that_was_not_reviewed_fails(declare: Callable[..., None]) -> None:
    declare(Part)
    with pytest.raises(
        AssertionError, match="have not been reviewed: loss part: mode .mode: 'str' = 'a'.; declare"
    ):
        file_param_table("mine", {})


@pytest.mark.parametrize("name", ["cache_dir", "root", "model_path", "download", "backend", "pretrained"])
def test_a_suspicious_name_is_reviewed_whatever_its_type(declare: Callable[..., None], name: str) -> None:
    namespace: dict[str, Any] = {}
    exec(f"def factory({name}: bool = False): ...", namespace)
    declare(namespace["factory"])
    with pytest.raises(AssertionError, match=f"have not been reviewed: loss part: {name}"):
        file_param_table("mine", {})


def test_a_review_of_a_parameter_that_is_gone_fails(declare: Callable[..., None]) -> None:
    declare(Part)
    with pytest.raises(AssertionError, match="no component of mine has part.gone; remove"):
        file_param_table("mine", {"mode": "a word", "part.gone": "a word"})


def test_a_page_with_another_table_fails_until_it_is_written(
    declare: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(Part)
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- mine -->\nold\n<!-- end -->\nafter\n")
    monkeypatch.delenv(tables.WRITE, raising=False)
    with pytest.raises(
        AssertionError, match="the table of mine is out of date; run this test with ARGUS_WRITE"
    ):
        check_file_param_table(page, "mine", {"mode": "a word"})
    monkeypatch.setenv(tables.WRITE, "1")
    check_file_param_table(page, "mine", {"mode": "a word"})
    monkeypatch.delenv(tables.WRITE)
    check_file_param_table(page, "mine", {"mode": "a word"})
    assert page.read_text().startswith("before\n")
    assert page.read_text().endswith("<!-- end -->\nafter\n")
