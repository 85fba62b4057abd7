"""Examination: what is wrong with the installed plugins, or missing for a checkpoint, and what mends it.

`declarations` reads metadata alone. `isolation` loads every component in processes of their own (`process`),
where `trial` runs, so that a plugin which hangs or crashes harms nobody; `installation` puts all of it
together. `checkpoint` compares what a file needs with what is installed.
"""

from __future__ import annotations
