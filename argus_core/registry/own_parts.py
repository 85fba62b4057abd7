"""The project's own parts: modules that register names, imported by the commands that build.

``[tool.argus] parts`` of the nearest ``pyproject.toml`` names them, and the option ``--parts``; a
configuration or a checkpoint never does.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import stat
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from argus_core.errors import BrokenPluginError, ConfigError, near
from argus_core.files.working_folder import working_folder
from argus_core.registry.project import nearest_pyproject
from argus_core.registry.registering import registering
from argus_core.text import shown

__all__ = ["OPTION", "TABLE", "OwnPart", "import_parts", "project_parts"]

OPTION = "--parts"
TABLE = "[tool.argus] parts"

_KEYS = ("parts", "prefer")


@dataclass(frozen=True)
class OwnPart:
    """A module to import.

    Attributes:
        written: a path that ends in ``.py``, or the name of a module.
        folder: where it is looked for.
        source: where it is written, for messages.
    """

    written: str
    folder: Path
    source: str

    @property
    def file(self) -> Path | None:
        """The file, or None if a module is named."""
        is_file = self.written.endswith(".py") or "/" in self.written or os.sep in self.written
        return self.folder / os.path.expanduser(self.written) if is_file else None

    @property
    def places(self) -> list[Path]:
        """The files and folders in which its code may be."""
        root = self.written.partition(".")[0]
        named = [self.folder / root, self.folder / root / "__init__.py", self.folder / f"{root}.py"]
        return named if self.file is None else [self.file]

    @property
    def subject(self) -> str:
        """The beginning of a message."""
        return f"{shown(self.written)} of {self.source}"


def project_parts(folder: Path | None = None) -> list[OwnPart]:
    """Return the parts of the nearest ``pyproject.toml``, in ``folder`` (by default the current) or above.

    Raises:
        ConfigError: it cannot be read, its list is malformed, or it belongs to another user.
    """
    found = nearest_pyproject(folder)
    if found is None or b"argus" not in found[1]:
        return []
    path, content = found
    parts = _table(path, content).get("parts", [])
    if not isinstance(parts, list) or not all(isinstance(each, str) and each for each in parts):
        raise ConfigError(
            f"{TABLE} in {path} is {shown(parts)}; give a list of files and modules, such as "
            '["parts.py", "mypkg.networks"]'
        )
    own = [OwnPart(each, path.parent, f"{TABLE} in {path}") for each in parts]
    if own:
        _check_owner(path, folder)
        for file in (file for part in own for file in part.places):
            if path.parent.stat().st_mode & stat.S_IWOTH and file.is_file() and not _is_own(file):
                raise _not_own(file, path)
    return own


def import_parts(parts: Sequence[OwnPart]) -> None:
    """Import modules, which register their names; one that is imported already is left as it is.

    Raises:
        ConfigError: one is missing, is a folder, or has the name of another module.
        BrokenPluginError: importing one raises.
    """
    for part in parts:
        with registering(_module_name(part)):
            _import(part)


def _table(path: Path, content: bytes) -> dict[str, object]:
    """Return ``[tool.argus]``."""
    from argus_core.files.toml import not_toml, parse  # lazy: most projects have no such table

    try:
        table: object = parse(content.decode())
    except ValueError as error:
        raise ConfigError(not_toml(path, error)) from error
    for key in ("tool", "argus"):
        table = table.get(key, {}) if isinstance(table, dict) else table
    if not isinstance(table, dict):
        raise ConfigError(f"tool.argus in {path} is {shown(table)}; write the table [tool.argus]")
    for key in table:
        if key not in _KEYS:
            hint = near(key, _KEYS) or f"; it takes {' and '.join(_KEYS)}"
            raise ConfigError(f"[tool.argus] in {path} has the unknown key {shown(key)}{hint}")
    return table


def _check_owner(path: Path, folder: Path | None) -> None:
    # /tmp and its like: a file that another user left there is not to run code.
    if _is_own(path):
        return
    is_here = path.parent == (Path.cwd() if folder is None else folder.absolute())
    if is_here and not path.parent.stat().st_mode & stat.S_IWOTH:
        return
    raise _not_own(path, path)


def _is_own(path: Path) -> bool:
    """Return whether a file is this user's, or the system's; a link to such a file is anyone's."""
    return not hasattr(os, "getuid") or os.lstat(path).st_uid in (0, os.getuid())


def _not_own(file: Path, path: Path) -> ConfigError:
    code = "names code to run" if file == path else f"is code to run for {path}"
    return ConfigError(
        f"{file} belongs to another user, and {code} in {TABLE}; copy the project into a folder "
        "of your own if you trust it, or put a pyproject.toml of your own into the current folder"
    )


def _module_name(part: OwnPart) -> str:
    file = part.file
    if file is None:
        if not all(each.isidentifier() for each in part.written.split(".")):
            raise ConfigError(
                f"{part.subject} is not the name of a module; give one, such as 'mypkg.networks', or the "
                "path of a file that ends in .py"
            )
        return part.written
    if file.is_dir():
        raise ConfigError(
            f"{part.subject} is a folder; name a file in it, or a module: {shown(file.name + '.networks')}"
        )
    if not file.is_file():
        if os.path.lexists(file):
            raise ConfigError(f"{part.subject} is not an ordinary file; name a file of Python code")
        raise ConfigError(f"{part.subject} does not exist{_near_file(file)}")
    if not file.stem.isidentifier() or file.suffix != ".py":
        raise ConfigError(
            f"{part.subject} cannot be imported, as Python imports it by its name; rename it to letters, "
            "digits and underscores, ending in .py"
        )
    return file.stem


def _import(part: OwnPart) -> None:
    file, name = part.file, _module_name(part)
    folder = os.path.realpath(part.folder if file is None else file.parent)
    if folder not in sys.path:
        # Last, so that a file of the project hides no module of Python or of a package. Worker processes that
        # are spawned get the same path, and import the module by its name.
        sys.path.append(folder)
    importlib.invalidate_caches()
    began = working_folder()
    try:
        module = importlib.import_module(name)
    except KeyboardInterrupt:
        raise
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise _raised(part, error) from error
        raise ConfigError(f"{part.subject} is not a module{_near_module(part)}") from error
    except BaseException as error:  # SystemExit too: a part never ends the program silently
        raise _raised(part, error) from error
    if os.getcwd() != str(began):
        raise ConfigError(
            f"{part.subject} changes the current folder to {shown(os.getcwd())}, from which the command's "
            "paths would lead elsewhere; leave os.chdir out of it, and give absolute paths"
        )
    _check_place(part, module, folder)


def _check_place(part: OwnPart, module: ModuleType, folder: str) -> None:
    """Raise if a module of the same name, from elsewhere, was imported instead."""
    file = getattr(module, "__file__", None)
    root = part.written.partition(".")[0]
    own = part.file or next(
        (path for path in (Path(folder, root), Path(folder, f"{root}.py")) if path.exists()), None
    )
    if own is None or (isinstance(file, str) and _lies_in(file, own)):
        return
    raise ConfigError(
        f"{part.subject} has the name of {f'the module {file}' if file else 'a module of Python'}, which is "
        f"imported in its place; rename {own.name}"
    )


def _lies_in(file: str, own: Path) -> bool:
    path, place = os.path.realpath(file), os.path.realpath(own)
    return path == place or path.startswith(place + os.sep)


def _raised(part: OwnPart, error: BaseException) -> BrokenPluginError:
    what = " ".join(traceback.format_exception_only(type(error), error)[-1].split())
    what = what.removeprefix("argus_core.errors.")
    return BrokenPluginError(
        f"{part.subject} cannot be imported: {what}{_line(part, error)}; correct it, or take it out of "
        f"{part.source}; --traceback shows the lines of code"
    )


def _line(part: OwnPart, error: BaseException) -> str:
    """Return the line of the part that raised, as the end of a sentence."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({error.filename}:{error.lineno})"
    name = part.file.name if part.file else part.written.rpartition(".")[2] + ".py"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if os.path.basename(frame.filename) == name:
            return f" ({frame.filename}:{frame.lineno})"
    return ""


def _near_file(file: Path) -> str:
    folder = file.parent
    if not folder.is_dir():
        return f"; the folder {shown(str(folder))} does not exist; correct the path"
    others = sorted(each.name for each in folder.glob("*.py"))
    return near(file.name, others) or f"; write it in {shown(str(folder))}, or correct the path"


def _near_module(part: OwnPart) -> str:
    with suppress(Exception):  # looking for near names imports the parents, which exist but may raise
        parent, _, last = part.written.rpartition(".")
        spec = importlib.util.find_spec(parent) if parent else None
        folders = [*(spec.submodule_search_locations or [])] if spec else [str(part.folder)]
        if hint := near(last, sorted(set(_modules(folders)))):
            return f" (looked for in {part.folder} and the installed packages){hint}"
    return f" in {part.folder} or the installed packages; correct the name, or write the file's path"


def _modules(folders: Sequence[str]) -> Iterator[str]:
    for folder in map(Path, folders):
        yield from (each.stem for each in folder.glob("*.py"))
        yield from (each.parent.name for each in folder.glob("*/__init__.py"))
