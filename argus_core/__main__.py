"""The command ``argus``, also as ``python -m argus_core``."""

from __future__ import annotations

from argus_core.early_interrupt import early_interrupt

__all__ = ["main"]


def main() -> None:
    """Run the command; Ctrl-C ends it quietly from the first import on."""
    early_interrupt.install()
    from argus_core.cli import main as argus  # lazy: its imports take most of the start

    argus(prog_name="argus")


if __name__ == "__main__":
    main()
