"""The markers of hooks: ``hookspec`` declares a hook, ``hookimpl`` marks a method that implements one.

`argus_core.callbacks.hooks.RunHooks` declares the events of a run, `argus_core.steps.hooks.StepHooks` the
slots of one optimizer update.
"""

from __future__ import annotations

import pluggy

__all__ = ["PROJECT", "hookimpl", "hookspec"]

PROJECT = "argus_core"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
