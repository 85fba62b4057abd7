"""The marks of hooks: *when* plugins are called. The registry says *what* is called.

`argus_core.callbacks.hooks.RunHooks` are the events of a run, and `argus_core.steps.hooks.StepHooks` the
slots of one optimizer update.
"""

from __future__ import annotations

import pluggy

__all__ = ["PROJECT", "hookimpl", "hookspec"]

PROJECT = "argus_core"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
