"""Fault: something wrong, and what mends it."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["SORTS", "Fault", "split_message"]

SORTS: dict[str, str] = {
    "unreadable": "Python cannot read a package's entry points, and so nobody's; nothing is loaded",
    "metadata": "the metadata of a package cannot be read",
    "copies": "a package is installed in several versions, or another one calls itself argus-torch",
    "group": "the name of a group of entry points is nearly one of argus_core",
    "declaration": "an entry point is left out: its kind or name cannot be",
    "ambiguous": "several packages have a name, and none is pinned",
    "pin": "a pin of the project cannot be read, or leads nowhere",
    "entry point": "an entry point leads to nothing, or to what cannot be called",
    "import": "a component cannot be imported",
    "hang": "importing a component takes longer than the time limit",
    "crash": "importing a component ends the whole process",
    "hook": "a step strategy or callback has a hook that is misspelled or takes other arguments",
}
"""Every sort of fault, with what it means."""


class Fault(NamedTuple):
    """Something wrong.

    Attributes:
        sort: one of `SORTS`.
        providers: the distributions that it concerns, each with its version; none where it is the project's.
        subject: what it is about: ``"loss 'focal'"``.
        problem: what is wrong with it.
        fix: the next action.
    """

    sort: str
    providers: tuple[str, ...]
    subject: str
    problem: str
    fix: str


def split_message(message: str) -> tuple[str, str]:
    """Return the two halves of an error's message: what is wrong, and what to do."""
    problem, separator, fix = message.partition("; ")
    return (problem, fix) if separator else (message, "correct it")
