"""Lets tox find the Pythons that pyenv has installed but not activated."""

from __future__ import annotations

import os
from pathlib import Path

from tox.config.sets import ConfigSet
from tox.plugin import impl
from tox.session.state import State


@impl
def tox_add_core_config(core_conf: ConfigSet, state: State) -> None:
    """Offer pyenv's Pythons to environments that ask for a version."""
    versions = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
    state.conf.options.discover.extend(str(python) for python in sorted(versions.glob("3.*/bin/python")))
