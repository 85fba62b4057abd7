"""The doctor: finds faults of installed plugins, and packages that a checkpoint lacks, with their fixes.

`installation` runs all checks of plugins. `declarations` reads only metadata. `isolation` loads every
component in separate processes (`process`), where `trial` runs, so that a plugin that hangs or crashes does
not stop the doctor. `checkpoint` compares the needs of a file with the installed packages.
"""

from __future__ import annotations
