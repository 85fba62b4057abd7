"""The names of timm's networks."""

from __future__ import annotations

from typing import Any

import timm

from argus_core import ParamsError
from argus_core.authors import near

__all__ = ["check_model_name"]


def check_model_name(label: str, name: Any) -> str:
    """Return a network's name, with the tag of its weights if it has one.

    Raises:
        ParamsError: timm has no network of that name, or would download it from elsewhere; a file with such a
            name would start downloads when it is loaded.
    """
    if not isinstance(name, str):
        raise ParamsError(f"model_name of {label} is {name!r}; give a name that timm.list_models() lists")
    if ":" in name or "/" in name:
        raise ParamsError(
            f"model_name of {label} is {name!r}, which timm would download or read; "
            "give a name that timm.list_models() lists"
        )
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        hint = near(architecture, timm.list_models()) or "; timm.list_models() lists them"
        raise ParamsError(f"{label} finds no network {name!r} in timm{hint}")
    if tag:
        _check_tag(label, architecture, tag)
    return name


def _check_tag(label: str, architecture: str, tag: str) -> None:
    tagged = timm.list_pretrained(f"{architecture}.*")
    tags = [name.partition(".")[2] for name in tagged]
    if tag not in tags:
        hint = near(tag, tags) or f"; choose {', '.join(map(repr, tags)) or 'none'}"
        raise ParamsError(f"{label} finds no weights {tag!r} of {architecture!r} in timm{hint}")
