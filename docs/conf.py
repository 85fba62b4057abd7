"""How the site is built: ``sphinx-build -W -b html docs docs/_build/html``."""

from __future__ import annotations

from argus_core.components import BUILTIN
from argus_core.distributions import version_of

project = "argus_core"
author = "the argus_core authors"
copyright = author
version = release = str(version_of(BUILTIN))

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "changelog.d"]

html_theme = "furo"
html_title = f"{project} {release}"

myst_heading_anchors = 4

# In docstrings `name` is a link where there is something of that name, and plain text elsewhere.
default_role = "py:obj"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
python_use_unqualified_type_names = True
