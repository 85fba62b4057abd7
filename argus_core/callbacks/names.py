"""Names of checkpoint files: their format, and the paths that it may give."""

from __future__ import annotations

import os
import re
import string
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any

from argus_core.errors import ArgusError, ParamsError, near
from argus_core.storage.forms import FOLDER
from argus_core.text import shown

__all__ = [
    "FileFormat",
    "Pattern",
    "formats_of",
    "in_one_case",
    "is_plain_name",
    "may_coincide",
    "path_pattern",
]

Pattern = list[tuple[frozenset[str] | None, bool]]
"""For each character of a name: the allowed ones (None: all except a slash), and whether it may repeat."""

_DIGITS = frozenset("0123456789")  # a sign would let "000-0.5" pass for one number
_INTEGERS = ("epoch", "step")
_MOST_FOLDERS = 32
_MOST_FIELDS = 64
_LONGEST = 255  # bytes, of a name on every file system
_LONGEST_FORMAT = 1000  # characters


class FileFormat:
    """The format of a callback's file names, such as ``model-{epoch:03d}.safetensors``.

    Args:
        callback: for messages.
        text: the format, perhaps with folders inside the callback's own: ``best/{epoch}.safetensors``.

    Raises:
        ParamsError: it cannot be filled in, or its names would lie outside of the callback's folder.
    """

    def __init__(self, callback: str, text: object) -> None:
        self.callback = callback
        try:
            if not isinstance(text, str):
                raise TypeError("it is not a string")
            _check_fields(text)
            name = string.Formatter().vformat(text, (), _AnyField(epoch=0, step=0))
        except (TypeError, ValueError, IndexError, AttributeError, MemoryError) as error:
            raise ParamsError(
                f"{callback} has file_format={shown(text)}, which is not a valid format ({error}); give "
                f"one such as 'model-{{epoch:03d}}.safetensors'"
            ) from error
        self.text = text
        if self.folders > _MOST_FOLDERS:
            raise ParamsError(
                f"{callback} has file_format={shown(text)}, which is {self.folders:,} folders deep; at "
                f"most {_MOST_FOLDERS} are allowed; give a format such as "
                f"'best/{{epoch:03d}}.safetensors'"
            )
        if not is_plain_name(name, self.folders):
            raise ParamsError(
                f"{callback} has file_format={text!r}; its names must be plain and lie in dir_path; give "
                f"a format such as 'model-{{epoch:03d}}.safetensors'"
            )

    @property
    def folders(self) -> int:
        """The depth of its names in the callback's folder."""
        return self.text.replace("\\", "/").count("/")

    def name(self, fields: Mapping[str, Any]) -> str:
        """Return the name for these fields.

        Raises:
            ArgusError: a field is missing, or the name would lie outside of the callback's folder.
        """
        try:
            name = self.text.format(**fields)
        except KeyError as error:
            field = str(error.args[0])
            raise ArgusError(
                f"{self.callback} has file_format={self.text!r}, and there is no {field!r}"
                f"{near(field, fields)} (there are: {', '.join(fields)})"
            ) from None
        if not is_plain_name(name, self.folders):
            raise ArgusError(
                f"{self.callback} has file_format={self.text!r}, which gives the name {name!r}; "
                "names must be plain and lie in dir_path; put numbers into the metrics that it names"
            )
        return name

    def pattern(self, folder: Path) -> Pattern:
        """Return the pattern of its files' paths in ``folder``, for `may_coincide`."""
        return [*path_pattern(folder), (frozenset("/"), False), *self._units]

    def matches(self, name: str) -> bool:
        """Return whether the format may give ``name``."""
        return may_coincide(self._units, [(frozenset(char), False) for char in name])

    @cached_property
    def _units(self) -> Pattern:
        units: Pattern = []
        for literal, field, spec, _ in string.Formatter().parse(self.text):
            units += [(frozenset(char), False) for char in literal]
            if field is not None:
                units += _number(field, spec or "")
        return units


def formats_of(callback: str, text: Any, sharded: bool | str) -> tuple[FileFormat, FileFormat]:
    """Return the formats of a callback's names in a run of whole tensors, and in one of shards.

    Args:
        callback: for messages.
        text: the format that the user gives.
        sharded: whether the names are those of folders; ``"auto"``: in a run of shards.
    """
    in_folders = text
    if isinstance(text, str) and sharded and text.endswith(".safetensors"):
        in_folders = text.removesuffix(".safetensors") + FOLDER
    of_shards = FileFormat(callback, in_folders)
    return of_shards if sharded is True else FileFormat(callback, text), of_shards


def is_plain_name(name: object, folders: int = 0) -> bool:
    """Return whether ``name`` is a plain relative path, at most ``folders`` folders deep."""
    if not isinstance(name, str) or not name.isprintable() or PurePath(name).is_absolute():
        return False
    parts = name.replace("\\", "/").split("/")
    if len(parts) > folders + 1 or PurePath(name).drive:
        return False
    return all(part not in ("", ".", "..") and len(os.fsencode(part)) <= _LONGEST for part in parts)


def path_pattern(path: Path) -> Pattern:
    """Return the pattern of one path, for `may_coincide`."""
    return [(frozenset(char), False) for char in os.path.realpath(path)]


def in_one_case(pattern: Pattern) -> Pattern:
    """Return the pattern of the paths that differ in case alone, and are one file on some file systems."""
    return [(chars and frozenset(map(str.lower, chars)), more) for chars, more in pattern]


def may_coincide(one: Pattern, other: Pattern) -> bool:
    """Return whether a path may match both patterns."""
    pairs = enumerate(zip(one, other, strict=False))
    # Most paths of one run begin alike, and continue so that they cannot coincide.
    alike = next((place for place, (ours, theirs) in pairs if ours != theirs or ours[1]), 0)
    seen, reached = {(alike, alike)}, [(alike, alike)]
    while reached:
        here, there = reached.pop()
        if here == len(one) or there == len(other):
            if (here, there) == (len(one), len(other)):
                return True
            continue
        (ours, more), (theirs, others_more) = one[here], other[there]
        if _meet(ours, theirs):
            for step in _next(here, there, more, others_more):
                if step not in seen:
                    seen.add(step)
                    reached.append(step)
    return False


def _meet(ours: frozenset[str] | None, theirs: frozenset[str] | None) -> bool:
    if ours is None or theirs is None:
        return "/" not in (ours or theirs or ())
    return bool(ours & theirs)


def _next(here: int, there: int, more: bool, others_more: bool) -> Iterable[tuple[int, int]]:
    for ours in (here, here + 1) if more else (here + 1,):
        for theirs in (there, there + 1) if others_more else (there + 1,):
            yield ours, theirs


def _check_fields(text: str) -> None:
    """Raise for formats that take far more memory or time than a name, and for invalid fields.

    Raises:
        ValueError: there is one, or there are too many.
    """
    if len(text) > _LONGEST_FORMAT:
        raise ValueError(f"it has {len(text):,} characters; at most {_LONGEST_FORMAT:,} are allowed")
    fields = [each for each in string.Formatter().parse(text) if each[1] is not None]
    if len(fields) > _MOST_FIELDS:
        raise ValueError(f"it has {len(fields):,} fields; at most {_MOST_FIELDS} are allowed")
    for _, field, spec, conversion in fields:
        if conversion or "{" in (spec or ""):
            raise ValueError(f"the field {field!r} has more than a format such as ':03d'")
        if any(int(width) > _LONGEST for width in re.findall(r"\d+", spec or "")):
            raise ValueError(f"the field {field!r} is wider than {_LONGEST} characters")


def _number(field: str, spec: str) -> Iterator[tuple[frozenset[str] | None, bool]]:
    """Yield the pattern of a field's number, as its format defines it."""
    fixed = re.fullmatch(r"0?\d*\.([1-9]\d*)f", spec)
    if fixed:
        yield _DIGITS, True
        yield frozenset("."), False
        yield _DIGITS, True
    elif re.fullmatch(r"0?\d*d", spec) or (field in _INTEGERS and re.fullmatch(r"(0\d*)?", spec)):
        yield _DIGITS, True
    else:
        yield None, True


class _AnyField(dict[str, Any]):
    """Returns a number for every field: all fields of a file's name are numbers."""

    def __missing__(self, key: str) -> float:
        return 0.0
