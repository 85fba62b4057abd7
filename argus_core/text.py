"""Safe text for terminals and logs: escaped control characters, limited length, wrapped lines.

Names, versions, params and paths may come from an untrusted file or package, and could otherwise move the
cursor, forge lines or hide text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

__all__ = ["escape_json", "one_line", "printable", "shortened", "shown", "strict_json", "wrapped"]

_LINES = str.maketrans("", "", "\n\t")
_SPACES = "\u00a0\u202f\u3000"  # spaces of French and Japanese, which Python calls not printable
# In emoji and in the scripts that need them; between ASCII letters they are only invisible.
_JOINER = "(?<=[^\x00-\x7f\u200c\u200d])[\u200c\u200d](?=[^\x00-\x7f\u200c\u200d])"  # rarely needed
_LONGEST = 200
_LONGEST_WORD = 1000  # characters; paths and commands that a user copies are shorter
_LONGEST_LINE = 10_000
_KEPT = 100  # characters of the beginning and of the end of a longer word
_COMMAND = r"\b(?:argus|pip|python3?) [^;,()]+"
_UNBROKEN = "\x00"  # does not occur in printable text


def printable(text: str) -> str:
    r"""Return text with a backslash escape for each non-printable character except newlines and tabs.

    Control characters, format characters (such as those that reverse the direction of writing), line
    separators and lone surrogates are escaped; letters, marks and emoji of all languages are kept. Very long
    lines are cut as by `shortened`.

    >>> print(printable("ö 漢字\x1b[31m\n\u202egnp.exe"))
    ö 漢字\x1b[31m
    \u202egnp.exe
    """
    text = "\n".join(map(shortened, text.split("\n"))) if len(text) > _LONGEST_WORD else text
    if text.translate(_LINES).isprintable():
        return text
    joiners = {found.start() for found in re.finditer(_JOINER, text)}
    return "".join(
        each if each in "\n\t" or each.isprintable() or each in _SPACES or index in joiners else _escape(each)
        for index, each in enumerate(text)
    )


def one_line(text: str) -> str:
    r"""Return text as `printable` does, its newlines and tabs escaped too.

    >>> print(one_line("loss\n2026-01-05 INFO all is well"))
    loss\n2026-01-05 INFO all is well
    """
    text = shortened(text)
    if text.isprintable():
        return text
    return printable(text).replace("\n", r"\n").replace("\t", r"\t")


def shortened(text: str) -> str:
    """Return text without the middle of very long words, and of a very long text.

    >>> print(shortened("loss " + "a" * 5000 + " is unknown").replace("a" * 100, "a.."))
    loss a..… (5,000 characters) …a.. is unknown
    """
    if len(text) <= _LONGEST_WORD:
        return text
    if len(text) > _LONGEST_LINE:
        text = _without_middle(text, _LONGEST_LINE // 2)
    return re.sub(r"\S+", lambda found: _without_middle(found[0], _KEPT), text)


def _without_middle(text: str, kept: int) -> str:
    return (
        text
        if len(text) <= max(_LONGEST_WORD, 2 * kept)
        else f"{text[:kept]}… ({len(text):,} characters) …{text[-kept:]}"
    )


def wrapped(text: str, width: int) -> str:
    """Return `one_line` of text, in several lines of at most ``width`` characters where words allow it.

    A command is not broken, so that it can be copied.

    >>> print(wrapped("early_stopping ended the run; resume with: argus resume runs/a", 40))
    early_stopping ended the run; resume
    with: argus resume runs/a
    """
    import textwrap  # lazy: few commands need it

    whole = re.sub(_COMMAND, lambda found: found[0].replace(" ", _UNBROKEN), one_line(text))
    lines = textwrap.wrap(whole, width, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines).replace(_UNBROKEN, " ")


def shown(value: object) -> str:
    """Return the repr of a value from a file for a message, cut short if long.

    >>> shown(10**5000)
    'an int that is too long to show'
    """
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        return f"an {type(value).__name__} that is too long to show"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text):,} characters)"


def escape_json(text: str) -> str:
    """Return ASCII JSON with DEL escaped, the only control character that the json module does not escape."""
    return text.replace("\x7f", r"\u007f")


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def strict_json(value: Any) -> Any:
    """Return plain data with ``"nan"``, ``"inf"`` and ``"-inf"`` for the numbers that JSON does not have."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: strict_json(each) for key, each in value.items()}
    return [strict_json(each) for each in value] if isinstance(value, list | tuple) else value
