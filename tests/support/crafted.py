"""Checkpoints that somebody has changed on purpose: every checksum in them is right."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from typing import Any

__all__ = ["Header", "crafted", "payload_start", "with_header"]

Header = dict[str, Any]


def payload_start(data: bytes) -> int:
    return 8 + int.from_bytes(data[:8], "little")


def with_header(header: bytes, payload: bytes = b"") -> bytes:
    """Return a file with these bytes for a header, whatever they are."""
    return len(header).to_bytes(8, "little") + header + payload


def crafted(sound: bytes, change: Callable[[Header, Header], Any], payload: bytes | None = None) -> bytes:
    """Return a sound checkpoint whose header and manifest are changed.

    Args:
        sound: the bytes of the checkpoint.
        change: is given the header and the manifest to change; what it returns, if anything, is the manifest.
        payload: other tensors' bytes.
    """
    start = payload_start(sound)
    header = json.loads(sound[8:start])
    manifest = json.loads(header["__metadata__"]["argus"])
    changed = change(header, manifest)
    text = json.dumps(manifest if changed is None else changed, separators=(",", ":"))
    header["__metadata__"].update(argus=text, argus_crc=f"{zlib.crc32(text.encode()):08x}")
    data = json.dumps(header, separators=(",", ":")).encode()
    return with_header(data + b" " * (-len(data) % 8), sound[start:] if payload is None else payload)
