"""Checkpoints that are written again with something else in their manifests, checksums and all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from argus_core.storage import CheckpointFile, write


def rewrite(path: Path, change: Callable[[dict[str, Any]], Any], to: Path | None = None) -> Path:
    """Write a checkpoint again with its manifest changed, in place or to another file."""
    with CheckpointFile(path) as file:
        tensors, manifest = file.read(), dict(file.header.manifest)
    for key in ("tensors", "aliases"):
        manifest.pop(key)
    change(manifest)
    write(to or path, tensors, manifest)
    return to or path


def changed_progress(path: Path, change: Callable[[dict[str, Any]], Any], **sections: Any) -> Path:
    """Change what a checkpoint says of its run's progress, and whole sections of its manifest."""
    return rewrite(path, lambda manifest: manifest.update(progress=change(manifest["progress"]), **sections))


def changed_callback(path: Path, name: str, change: Callable[[dict[str, Any]], Any]) -> Path:
    """Change the state that a checkpoint holds of one callback."""
    return changed_progress(
        path,
        lambda progress: {
            **progress,
            "callback": {**progress["callback"], name: change(progress["callback"][name])},
        },
    )
