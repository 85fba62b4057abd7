"""Text as a terminal shows it and a log keeps it: nothing in it moves the cursor, forges a line or hides.

Names, versions, params and paths may come from a file or package of a stranger's.
"""

from __future__ import annotations

import re

__all__ = ["escape_json", "one_line", "printable", "shown"]

_LINES = str.maketrans("", "", "\n\t")
_SPACES = "\u00a0\u202f\u3000"  # of French, of Japanese: spaces that Python would not print
# In emoji and in the scripts that need them. Between ASCII letters they could only hide.
_JOINER = "(?<=[^\x00-\x7f\u200c\u200d])[\u200c\u200d](?=[^\x00-\x7f\u200c\u200d])"  # hardly ever needed
_LONGEST = 200


def printable(text: str) -> str:
    r"""Return text with its newlines and tabs, and a backslash escape for whatever else is not printable.

    Control characters, format characters (such as those that reverse the direction of writing), line
    separators and lone surrogates are escaped; letters, marks and emoji of all languages stay.

    >>> print(printable("ö 漢字\x1b[31m\n\u202egnp.exe"))
    ö 漢字\x1b[31m
    \u202egnp.exe
    """
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
    if text.isprintable():
        return text
    return printable(text).replace("\n", r"\n").replace("\t", r"\t")


def shown(value: object) -> str:
    """Return the repr of a value from a file for a message, cut short where it is long.

    >>> shown(10**5000)
    'an int that is too long to show'
    """
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        return f"an {type(value).__name__} that is too long to show"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text):,} characters)"


def escape_json(text: str) -> str:
    """Return ASCII JSON without DEL, the one control character that the json module writes as it is."""
    return text.replace("\x7f", r"\u007f")


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
