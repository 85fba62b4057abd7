"""``python -m argus_core`` is ``argus``."""

from __future__ import annotations

from argus_core.cli import main

if __name__ == "__main__":
    main(prog_name="argus")
