"""Writing plain safetensors files for other programs: tensors without a manifest."""

from __future__ import annotations

import os
from collections.abc import Mapping

from torch import Tensor

from argus_core.errors import ParamsError
from argus_core.storage import header, payload
from argus_core.storage.entry import is_plain
from argus_core.storage.replacement import replacement

__all__ = ["write_plain"]


def write_plain(path: str | os.PathLike[str], tensors: Mapping[str, Tensor]) -> None:
    """Write tensors to ``path`` atomically: the file is complete, or was not written.

    A tensor with several names is written once per name, since the format has no aliases. Copies take some
    MiB at a time.

    Raises:
        ParamsError: the format does not have a tensor's dtype or a name.
        CheckpointError: writing failed; an existing file at ``path`` is unchanged.
    """
    kept, aliases = payload.stored_once(tensors)
    named = kept | {alias: kept[owner] for alias, owner in aliases.items()}
    forms = {name: payload.entry_of(tensor) for name, tensor in named.items()}
    for name, form in forms.items():
        if not is_plain(form.dtype):
            raise ParamsError(f"tensor {name!r} has dtype {form.dtype}, not one of the format")
    entries = header.place(dict(sorted(forms.items(), key=lambda item: (-item[1].alignment, item[0]))))
    with replacement(path, "file") as file:
        file.write(header.render_plain(entries))
        for name in entries:
            for piece in payload.pieces(named[name]):
                file.write(payload.view(piece))
