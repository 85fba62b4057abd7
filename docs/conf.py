"""How the site is built: ``sphinx-build -W -b html docs docs/_build/html``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from argus_core.registry.component import BUILTIN
from argus_core.registry.distributions import version_of

project = "argus_core"
author = "the argus_core authors"
copyright = author
version = release = str(version_of(BUILTIN))

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "changelog.d"]

html_theme = "furo"
html_title = f"{project} {release}"

copybutton_prompt_text = "$ "  # what is copied from a console is its commands
copybutton_only_copy_prompt_lines = True

myst_enable_extensions = ["deflist", "dollarmath"]
myst_heading_anchors = 4

# In docstrings `name` is a link where there is something of that name, and plain text elsewhere.
default_role = "py:obj"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
python_use_unqualified_type_names = True

# changelog.md shows the news that no release has gathered yet.
docs = Path(__file__).parent
news = docs / "_build" / "news.md"
news.parent.mkdir(exist_ok=True)
towncrier = [sys.executable, "-m", "towncrier", "build", "--draft", "--version=Not released yet", "--date="]
draft = subprocess.run(towncrier, cwd=docs.parent, check=True, capture_output=True, encoding="utf-8").stdout
news.write_text(draft.replace("Not released yet ()", "Not released yet"), encoding="utf-8")
