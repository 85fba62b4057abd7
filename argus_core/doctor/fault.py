"""Faults that the doctor reports, with their fixes."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["SORTS", "Fault", "split_message"]

SORTS: dict[str, str] = {
    "unreadable": "Python cannot read the entry points of one package, and so of none; nothing is loaded",
    "metadata": "the metadata of a package cannot be read",
    "copies": "a package is installed in several versions, or another package is named argus-torch",
    "group": "the name of a group of entry points is similar to one of argus_core, but not the same",
    "declaration": "an entry point is ignored, since its kind or name is not valid",
    "ambiguous": "several packages provide a name, and no pin chooses one",
    "pin": "a pin of the project cannot be read, or names no component",
    "entry point": "an entry point names a missing object, or one that cannot be called",
    "import": "a component cannot be imported",
    "hang": "importing a component takes longer than the time limit",
    "crash": "importing a component ends the whole process",
    "hook": "a step strategy or callback has a hook that is misspelled or takes other arguments",
}
"""Every sort of fault, with its meaning."""


class Fault(NamedTuple):
    """A fault of a plugin or of the project's pins.

    Attributes:
        sort: one of `SORTS`.
        providers: the packages with the fault, each with its version; empty for a fault of the project.
        subject: the faulty component or file: ``"loss 'focal'"``.
        problem: the fault, as the end of a sentence about the subject.
        fix: the next action.
    """

    sort: str
    providers: tuple[str, ...]
    subject: str
    problem: str
    fix: str


def split_message(message: str) -> tuple[str, str]:
    """Return the two halves of an error's message: the problem and the next action."""
    problem, separator, fix = message.partition("; ")
    return (problem, fix) if separator else (message, "correct it")
