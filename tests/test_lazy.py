"""The names of a module's stub are imported on first use, and are all that it offers."""

from __future__ import annotations

import importlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from argus_core.lazy import lazy_names

pytestmark = pytest.mark.torchfree

STUBS = sorted(Path(__file__).parents[1].glob("argus_core/**/*.pyi"))


@pytest.mark.parametrize("stub", STUBS, ids=lambda stub: stub.relative_to(stub.parents[2]).as_posix())
def test_each_line_of_a_stub_imports_one_name_as_itself(stub: Path) -> None:
    for line in stub.read_text("utf-8").splitlines():
        start, module, word, name, *renamed = line.split()
        assert (start, word, renamed) == ("from", "import", ["as", name])
        assert module.startswith("argus_core.")
    assert stub.with_suffix(".py").exists()


@pytest.fixture
def made(tmp_path: Path) -> Path:
    folder = tmp_path / "lazily_made"
    folder.mkdir()
    source = "from argus_core.lazy import lazy_names\n__getattr__, __dir__, __all__ = lazy_names(__name__)\n"
    (folder / "__init__.py").write_text(source)
    (folder / "__init__.pyi").write_text("from lazily_made.inner import number as number\n")
    (folder / "inner.py").write_text("number = 5\nother = 6\n")
    return folder


def test_a_name_is_imported_on_first_use_and_kept(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(made.parent)
    module = importlib.import_module("lazily_made")
    assert "lazily_made.inner" not in sys.modules
    assert (module.__all__, dir(module)) == (["number"], ["number"])
    assert module.number == 5
    assert vars(module)["number"] == 5
    with pytest.raises(AttributeError, match="module 'lazily_made' has no attribute 'other'"):
        module.other  # noqa: B018
    for name in ("lazily_made", "lazily_made.inner"):
        monkeypatch.delitem(sys.modules, name)


def test_a_stub_in_a_zip_file_is_read(made: Path) -> None:
    archive = made.parent / "made.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in made.glob("*.py*"):
            file.write(path, f"lazily_made/{path.name}")
    program = "import sys; sys.path.insert(0, sys.argv[1]); import lazily_made; print(lazily_made.number)"
    done = subprocess.run(
        [sys.executable, "-c", program, str(archive)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "5\n"


def test_a_module_without_a_stub_is_an_error() -> None:
    with pytest.raises(OSError, match=r"\.pyi"):
        lazy_names("argus_core.lazy")
