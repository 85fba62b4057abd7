"""Examples at the end of a command's help."""

from __future__ import annotations

__all__ = ["examples"]


def examples(*lines: str) -> str:
    """Return the end of a help text, with example command lines."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
