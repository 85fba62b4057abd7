"""The prose of docstrings and documentation uses the field's verbs and names who acts."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pages
import pytest

pytestmark = pytest.mark.torchfree

# What slipped into the prose before, as a regular expression, and what to write instead.
INSTEAD = {
    r"\b(?:go|goes|going|gone|went) on\b": "resume, continue, keep",
    r"\b(?:take|takes|taken|took|taking) back\b": "restore, undo",
    r"\b(?:leave|leaves|left|leaving) aside\b": "skip",
    r"\banew\b": "again, start over",
    r"\bmend(?:s|ed|ing)?\b": "fix",
    r"\b(?:nobody|somebody|whoever|anybody)\b": "the actor: a user, a package, no strategy",
    r"\b(?:is|are|was|were|be) told\b": "say, report, warn: the actor says it",
    r"\b(?:what|that|which) there (?:is|are)\b": "the things themselves: the registered components",
    r"(?<!here )\b(?:is|are|was|were) no (?!longer|more|such|less|later|earlier|larger)\w": "is not a",
    r"\bin (?:the|its|their) midst\b": "in the middle of",
    r"\b(?:hear|hears|heard) of\b": "is called for, receives",
    r"\bwhat comes of it\b": "result",
    r"\bto the bit\b": "to the last bit, bit for bit",
    r"\bhave (?:it|them) not\b": "do not have",
    r"\bgo(?:es)? with it\b": "is deleted with it, is kept with it",
    r"\b(?:another|other) (?:\w+ )?than it was\b": "has changed",
    r"\bbut that\b": "except that",
    r"\bthe present (?:update|trial|epoch|run|learning)\b": "the current",
    r"\bnothing but\b": "only",
}
BANNED = re.compile("|".join(f"({pattern})" for pattern in INSTEAD), re.IGNORECASE)


def prose_of(page: str) -> str:
    """Return a page with its code blanked out, every line and column where it was."""

    def blank(code: re.Match[str]) -> str:
        return re.sub(r"[^\n]", "`", code[0])

    without_fences = re.sub(r"^ *(```+|~~~+).*?^ *\1 *$", blank, page, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"(`+)(?!`).+?(?<!`)\1(?!`)", blank, without_fences)


def faults_of(text: str, place: str, first_line: int = 1) -> list[str]:
    """Return a line for each banned word of some prose, with what to write instead."""
    faults = []
    for found in BANNED.finditer(re.sub(r"\n *", lambda gap: "\n" + " " * (len(gap[0]) - 1), text)):
        instead = list(INSTEAD.values())[(found.lastindex or 1) - 1]
        line = first_line + text.count("\n", 0, found.start())
        faults.append(f"{place}:{line}: {' '.join(found[0].split())!r}; write: {instead}")
    return faults


# The packages and modules of argus_core whose docstrings are held to this.
SWEPT = {
    *("checkpoint", "config", "data", "files", "metrics", "model", "scaffold", "steps", "storage", "tensors"),
    *("abstract_model.py", "errors.py", "hooks.py", "text.py"),
}
SOURCE = pages.ROOT / "argus_core"
MODULES = sorted(path for path in SOURCE.rglob("*.py") if path.relative_to(SOURCE).parts[0] in SWEPT)
QUESTION = re.compile(r"\s*(?:what|whether|how|who|whoever|where|when)\b", re.IGNORECASE)


def docstrings_of(module: Path) -> Iterator[tuple[int, str]]:
    """Yield the first line number and the text of each docstring, those of attributes too."""
    for node in ast.walk(ast.parse(module.read_text("utf-8"))):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text))):
                yield node.lineno, text


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.relative_to(SOURCE).as_posix())
def test_docstrings_begin_with_a_noun_or_an_imperative_and_have_no_banned_word(module: Path) -> None:
    place = module.relative_to(pages.ROOT).as_posix()
    faults = []
    for line, text in docstrings_of(module):
        if QUESTION.match(text):
            faults.append(f"{place}:{line}: begins {text[:40]!r}; begin with a noun phrase or an imperative")
        faults += faults_of(prose_of(text), place, line)
    assert faults == []
