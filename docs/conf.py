"""How the site is built: ``sphinx-build -W -b html docs docs/_build/html``."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx import addnodes
from sphinx.application import Sphinx

from argus_core.registry.component import BUILTIN
from argus_core.registry.distributions import version_of

project = "argus_core"
author = "the argus_core authors"
copyright = author
version = release = str(version_of(BUILTIN))

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "changelog.d"]

html_theme = "furo"
html_title = f"{project} {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"

copybutton_prompt_text = "$ "  # what is copied from a console is its commands
copybutton_only_copy_prompt_lines = True

myst_enable_extensions = ["alert", "deflist", "dollarmath"]
myst_heading_anchors = 4

# In docstrings `name` is a link where there is something of that name, and plain text elsewhere.
default_role = "py:obj"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_use_ivar = True  # attributes are a list, as parameters are
python_use_unqualified_type_names = True


def setup(app: Sphinx) -> None:
    """Show formulas in the browser's own MathML, without network; lay out contents, drawings and code."""
    app.add_html_math_renderer("mathml", (_inline_formula, None), (_formula, None))
    app.connect("doctree-read", _list_once, priority=100)  # before Sphinx collects the contents of a page
    app.connect("doctree-resolved", _mark_drawings)
    app.connect("doctree-resolved", _break_long_code)


def _list_once(app: Sphinx, doctree: nodes.document) -> None:
    """Leave classes out of "on this page" where each one has a heading of its own."""
    if app.env.docname in ("reference/built-in", "reference/step-strategies"):
        for signature in doctree.findall(addnodes.desc_signature):
            signature["_toc_name"] = ""


def _inline_formula(translator: Any, node: nodes.math) -> None:
    translator.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def _formula(translator: Any, node: nodes.math_block) -> None:
    translator.body.append(f'<div class="formula">{tex2mathml(node.astext(), as_block=True)}</div>\n')
    raise nodes.SkipNode


def _mark_drawings(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Mark what has lines or columns: on a phone it is scrolled, where messages wrap."""
    for block in doctree.findall(nodes.literal_block):
        if re.search(r"[│├└]|\S {2,}\S.*\n.*\S {2,}\S", block.astext()):
            block["classes"].append("drawing")


def _break_long_code(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Let a long path or name in a table break behind its signs, so that the table fits a phone."""
    for entry in doctree.findall(nodes.entry):
        for code in [code for code in entry.findall(nodes.literal) if len(code.astext()) > 16]:
            pieces = re.split(r"(?<=[/_.:,=(])(?=\w)(?!py\b)", code.astext())
            breaks = [nodes.raw("", "<wbr>", format="html") for _ in pieces]
            code["classes"].append("long")
            code[:] = [child for pair in zip(map(nodes.Text, pieces), breaks, strict=True) for child in pair]


# changelog.md shows the news that no release has gathered yet.
docs = Path(__file__).parent
news = docs / "_build" / "news.md"
news.parent.mkdir(exist_ok=True)
towncrier = [sys.executable, "-m", "towncrier", "build", "--draft", "--version=Not released yet", "--date="]
draft = subprocess.run(towncrier, cwd=docs.parent, check=True, capture_output=True, encoding="utf-8").stdout
news.write_text(draft.replace("Not released yet ()", "Not released yet"), encoding="utf-8")
