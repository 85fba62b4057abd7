"""The reader of a file, chosen by the caller or by the file's suffix."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from argus_core.data.readers import SORTS, AbstractReader
from argus_core.errors import ArgusError, BuildError
from argus_core.registry.component import BUILTIN
from argus_core.registry.factory import build_component
from argus_core.registry.registry import components

__all__ = ["Readers", "build_reader"]

_IMAGES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
_OTHER_IMAGES = (".avif", ".gif", ".heic", ".heif", ".ico", ".jp2", ".jxl", ".svg")


class Readers:
    """The readers of all installed packages, by suffix.

    Built-in readers come first, then those of plugins in the order of their names: no plugin takes a suffix
    away from a built-in one. A plugin is imported only for a suffix that no built-in reader has.

    Args:
        spec: of the reader for all files; ``None`` for one by suffix.
        columns: the names of the features, or ``None``.
    """

    def __init__(self, spec: Any = None, columns: Sequence[str] | None = None) -> None:
        self.columns = columns
        self._only = None if spec is None else self._built(spec)
        found = [each for each in components("reader") if each.state not in ("blocked", "broken")]
        self._waiting = sorted(found, key=lambda each: (each.provider == BUILTIN, each.name), reverse=True)
        self._by_suffix: dict[str, AbstractReader] = {}

    def of(self, path: str) -> AbstractReader | None:
        """Return the reader of a file, or ``None`` if there is none."""
        if self._only is not None:
            return self._only
        suffix = os.path.splitext(path)[1].lower()
        while suffix not in self._by_suffix and self._waiting:
            component = self._waiting.pop()
            try:
                reader = self._built(component.qualified_name)
            except ArgusError:
                if component.provider == BUILTIN:
                    raise
                continue  # a broken plugin; see `argus plugins doctor`
            for each in reader.suffixes:
                self._by_suffix.setdefault(each, reader)
        return self._by_suffix.get(suffix)

    def missing(self, path: str) -> str:
        """Return in words that no reader takes a file, and what to do."""
        suffix = os.path.splitext(path)[1].lower()
        if suffix in _IMAGES:
            return f"no reader takes {suffix!r}; pip install argus-torchvision"
        if suffix in _OTHER_IMAGES:
            plugin = "" if ".png" in self._by_suffix else ", and pip install argus-torchvision"
            return f"no reader takes {suffix!r}; convert the image to .png or .jpg{plugin}"
        known = ", ".join(sorted(self._by_suffix))
        return f"no reader takes {suffix!r} (known: {known}); choose one with --reader NAME"

    def _built(self, spec: Any) -> AbstractReader:
        reader = build_reader(spec, "the reader")
        reader.columns = self.columns
        return reader


def build_reader(spec: Any, where: str) -> AbstractReader:
    """Build the reader that a spec chooses; ``where`` is the beginning of messages.

    Raises:
        BuildError: the component builds another object.
    """
    reader: Any = build_component("reader", spec, where)
    if not isinstance(reader, AbstractReader):
        raise BuildError(
            f"{where} is a {type(reader).__name__}, which is not a reader; its factory must return an "
            "argus_core.authors.AbstractReader"
        )
    if reader.sort not in SORTS:
        raise BuildError(
            f"{where} reads samples of sort {reader.sort!r}; set sort to one of {', '.join(SORTS)}"
        )
    return reader
