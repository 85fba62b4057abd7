"""The surface for authors of plugins that go deeper than one part: commands, templates, trackers, searches.

`argus_core` has what every part needs, `argus_core.testing` its checks, and this module all that a plugin may
import besides. Other modules of the package may change with any release.

Names are imported on first use: a command is listed, and its help is shown, without torch.
"""

from __future__ import annotations

from argus_core.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__)
