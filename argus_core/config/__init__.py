"""Configuration files: TOML with the sections ``[model]``, ``[data]`` and ``[fit]``.

`argus_core.config.schema` defines the keys, `argus_core.config.values` checks their values,
`argus_core.config.document` reads a file and those that it extends, `argus_core.config.changes` applies
``--set``, and `argus_core.config.template` reads the registered configurations that a file may start from.
"""

from __future__ import annotations

from argus_core.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__)
