"""Names of new packages and projects: checks, and the import name and prefix derived from them."""

from __future__ import annotations

import importlib.util
import keyword
import re
import sys

from argus_core.errors import SpecError
from argus_core.registry.distributions import version_of
from argus_core.registry.metadata import normalised

__all__ = ["check_distribution_name", "check_project_name", "import_name", "prefix"]

_DISTRIBUTION = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_LONGEST = 100
_FILES = ("bin", "build", "conftest", "dist", "docs", "examples", "lib", "setup", "src", "test", "tests")
_TOOLS = (
    "hatchling",
    "pip",
    "pytest",
    "ruff",
    "setuptools",
    "sitecustomize",
    "tox",
    "usercustomize",
    "wheel",
)
_DEVICES = re.compile(r"aux|con|nul|prn|(com|lpt)\d")  # no folder of Windows has such a name


def check_project_name(name: str, what: str = "project") -> None:
    """Raise `SpecError` unless ``name`` is allowed for the folder of a new project."""
    if not _DISTRIBUTION.fullmatch(name):
        raise SpecError(
            f"{name!r} cannot be the name of a {what}; use letters a to z, digits, '-', '_' and '.', and "
            "begin and end with a letter or digit"
        )
    if len(name) > _LONGEST:
        raise SpecError(
            f"{name[:20] + '...'!r} has {len(name)} characters; give a name of at most {_LONGEST}"
        )


def check_distribution_name(name: str) -> None:
    """Raise `SpecError` unless ``name`` is allowed for a new package."""
    check_project_name(name, "package")
    module = import_name(name)
    if not module.isidentifier() or keyword.iskeyword(module):
        raise SpecError(
            f"{name!r} would be imported as {module!r}, which is not a name in Python; give a name that "
            "begins with a letter and is not a keyword"
        )
    if module in sys.stdlib_module_names or module in ("argus", "argus_core"):  # argus-compat provides argus
        raise SpecError(
            f"{name!r} would hide the module {module!r} that Python programs import; give another name"
        )
    if module in _FILES:
        raise SpecError(f"{name!r} is also a file or folder of a Python project; give another name")
    if module in _TOOLS:
        raise SpecError(f"{name!r} would hide the module {module!r} that projects use; give another name")
    if _DEVICES.fullmatch(module):
        raise SpecError(f"{name!r} cannot be the name of a folder on Windows; give another name")
    version = version_of(name)
    if version is not None:
        raise SpecError(
            f"{normalised(name)} {version} is installed already; give another name, or uninstall it first"
        )
    if _is_importable(module):
        raise SpecError(f"{name!r} would hide the installed module {module!r}; give another name")


def import_name(name: str) -> str:
    """Return the import name of a distribution: ``med_seg`` for ``Med-Seg``."""
    return normalised(name).replace("-", "_")


def prefix(name: str) -> str:
    """Return the prefix of the names of a distribution's parts: its own name without ``argus-``."""
    module = import_name(name)
    shorter = module.removeprefix("argus_")
    return shorter if shorter and not shorter[0].isdigit() else module


def _is_importable(module: str) -> bool:
    """Return whether a module of that name exists; a folder without ``__init__.py`` does not count."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):  # ValueError: already imported, without a spec
        return module in sys.modules
    return spec is not None and spec.origin is not None
