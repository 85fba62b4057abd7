"""The prose of the documentation uses the field's verbs and names who acts."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.torchfree

# What slipped in before, as regular expressions in which a space is any gap, and what to write instead.
INSTEAD = {
    r"\b(?:go|goes|going|gone|went) on\b": "resume, continue, keep",
    r"\b(?:go|goes|going|gone|went) over (?:it|the|to)\b": "override, move",
    r"\b(?:take|takes|taken|took|taking|put|puts|putting)(?: \w+){0,3} back\b": "restore, undo",
    r"\b(?:leave|leaves|left|leaving) aside\b": "skip",
    r"\b(?:write|writes|writing|written) over\b": "overwrite",
    r"\banew\b": "again, start over",
    r"\bmend(?:s|ed|ing)?\b": "fix",
    r"\b(?:nobody|somebody|whoever|anybody|everybody)\b": "the actor: a user, a package, no strategy",
    r"\b(?:is|are|was|were|be|been) told\b": "who says it: the log says, the command reports",
    r"\b(?:what|that|which) there (?:is|are)\b": "the things themselves: the installed parts",
    r"(?<!here)(?<!\s) (?:is|are|was|were) no (?!longer\b|more\b)[a-z]": "is not a",
    r"\bin (?:the|its|their) midst\b": "in the middle of, during",
    r"\b(?:hear|hears|heard) of\b": "is called for, receives",
    r"\bwhat comes of\b": "the result",
    r"\b(?:have|has) (?:it|them) not\b": "does not have",
    r"\bbut for\b(?! example)": "except",
    r"\bnothing but\b": "only",
    r"\bat hand\b": "available, installed",
    r"\b(?:stand|stands|stood) (?:in|beside|under|below|there)\b": "is in, follows, is listed",
    r"\b(?:the|its|their) present (?:one|state|rate|update|trial|epoch|run|weights|schema)": "current",
    r"\bwaited for\b": "the actor waits for",
    r"\b(?:which|that) way (?:is better|\w+ gets better)\b": "whether higher or lower is better",
    r"\b(?:take|takes|taken|took) along\b": "copy, contain",
    r"\bas (?:it|they) stands?\b": "the state of",
    r"\bc[ao]mes? to an end\b": "end, finish",
    r"\bwhen (?:it|they) (?:is|are) asked for\b": "on first use",
    r"\bsee to it\b": "the action itself: flush, check",
    r"\bbusiness of\b": "the code that does it",
    r"\b(?:does|do) as well\b": "is accepted too",
    r"\bvery (?:object|one|same)\b": "this object, the same",
    r"\blikewise\b": "the sentence again",
    r"\bhanded over\b": "passed",
    r"\btells? (?:of|what|where|which|why)\b": "show, say, describe",
    r"\b(?:let|lets) go of\b": "close, release",
    r"\bout of the way\b": "rename, move",
    r"\bno end of\b": "infinite",
}
_BANNED = re.compile("|".join(f"({words})" for words in INSTEAD).replace(" ", r"\s+"), re.IGNORECASE)

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(
    page
    for page in (*ROOT.glob("*.md"), *ROOT.glob("plugins/*/README.md"), *DOCS.rglob("*.md"))
    if not {*page.relative_to(ROOT).parts} & {"CHANGELOG.md", "changelog.d", "_build"}
)


def faults_of(prose: str, place: str, first_line: int = 1) -> list[str]:
    """Return one line for each banned word: its place, the word, and what to write instead."""
    alternatives = list(INSTEAD.values())
    faults = []
    for found in _BANNED.finditer(prose):
        assert found.lastindex is not None
        words = found[0].split()
        line = first_line + prose.count("\n", 0, found.end() - len(words[-1]))
        faults.append(f"{place}:{line}: {' '.join(words)!r}; write: {alternatives[found.lastindex - 1]}")
    return faults


def prose_of(page: str) -> str:
    """Return a page without its fenced and inline code, every word on the line where it was."""
    outside = re.sub(r"^( *)(```+).*?^ *\2 *$", _blank, page, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"(`+)[^`]+\1", _blank, outside)


def _blank(code: re.Match[str]) -> str:
    return re.sub(r"[^\n]+", "#", code[0])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_page_has_no_banned_word(page: Path) -> None:
    assert faults_of(prose_of(page.read_text("utf-8")), page.relative_to(ROOT).as_posix()) == []


def test_a_banned_word_is_reported_with_its_line_and_what_to_write_instead() -> None:
    page = "A run\n```python\nnobody()\n```\n`anew` goes\non.\n"
    assert faults_of(prose_of(page), "page.md") == ["page.md:6: 'goes on'; write: resume, continue, keep"]


@pytest.mark.parametrize("prose", ["there is no file", "is no longer", "a set of its own", "go once"])
def test_ordinary_words_are_not_reported(prose: str) -> None:
    assert faults_of(prose, "page.md") == []


MODULES = sorted([*(ROOT / "argus_core").rglob("*.py"), *ROOT.glob("plugins/*/src/**/*.py")])
QUESTION = re.compile(r"\s*(?:what|whether|how|who|whoever|where|when)\b", re.IGNORECASE)


def docstrings_of(module: Path) -> Iterator[tuple[int, str]]:
    """Yield the first line number and the text of each docstring, those of attributes too."""
    for node in ast.walk(ast.parse(module.read_text("utf-8"))):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text))):
                yield node.lineno, text


def _id(module: Path) -> str:
    return module.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("module", MODULES, ids=_id)
def test_docstrings_begin_with_a_noun_or_an_imperative_and_have_no_banned_word(module: Path) -> None:
    place = module.relative_to(ROOT).as_posix()
    faults = []
    for line, text in docstrings_of(module):
        if QUESTION.match(text):
            faults.append(f"{place}:{line}: begins {text[:40]!r}; begin with a noun phrase or an imperative")
        faults += faults_of(prose_of(text), place, line)
    assert faults == []


def messages_of(module: Path) -> Iterator[tuple[int, str]]:
    """Yield the line number and the text of each string of several words, and of each comment."""
    source = module.read_text("utf-8")
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Constant(value=str(text)) if " " in text:
                yield node.lineno, text
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


@pytest.mark.parametrize("module", MODULES, ids=_id)
def test_messages_and_comments_have_no_banned_word(module: Path) -> None:
    found = [faults_of(prose_of(text), _id(module), line) for line, text in messages_of(module)]
    assert [fault for faults in found for fault in faults] == []
