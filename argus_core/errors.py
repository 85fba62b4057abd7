"""The exceptions and warnings of argus_core.

::

    ArgusError
    ├── UnknownNameError        no component of that name
    ├── AmbiguousNameError      several packages provide that name
    ├── BrokenPluginError       its provider cannot be imported
    ├── BlockedPluginError      its provider is switched off
    ├── SpecError               a choice of a component has the wrong shape
    ├── ParamsError             parameters are not plain data, or not the factory's
    ├── BuildError              a component, or a model made of them, cannot be built
    ├── ConflictError           two things claim one place
    ├── ConfigError             a configuration file is wrong
    └── CheckpointError
        ├── CorruptCheckpointError    the file is not what was written
        ├── UnsafeCheckpointError     the file asks for something that loading never does
        ├── NewerCheckpointError      a newer argus_core wrote it
        ├── MissingPluginError        the file needs a package that is not installed
        └── StateMismatchError        its state does not fit the model
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from argus_core.text import shortened

__all__ = [
    "AmbiguousNameError",
    "ArgusError",
    "ArgusWarning",
    "BlockedPluginError",
    "BrokenPluginError",
    "BuildError",
    "CheckpointError",
    "ConfigError",
    "ConflictError",
    "CorruptCheckpointError",
    "MissingPluginError",
    "NewerCheckpointError",
    "ParamsError",
    "ProviderDriftWarning",
    "SpecError",
    "StateMismatchError",
    "UnknownNameError",
    "UnsafeCheckpointError",
    "near",
]


_SHORTEST_BEGINNING = 2  # letters of a prefix from which a whole name is suggested
_LONGEST = 200  # letters of a name to compare with others, which takes quadratic time


class _Told(Exception):
    def __str__(self) -> str:
        return shortened(super().__str__())  # names from a file may be as long as the file


class ArgusError(_Told):
    """The base of all errors of argus_core; the message ends with the next action."""


class UnknownNameError(ArgusError):
    """No component of that kind has that name."""


class AmbiguousNameError(ArgusError):
    """Several packages provide a component of that short name."""


class BrokenPluginError(ArgusError):
    """The component is declared, but its provider fails when imported."""


class BlockedPluginError(ArgusError):
    """The component's provider is switched off by the environment."""


class SpecError(ArgusError):
    """The choice of a component has the wrong shape."""


class ParamsError(ArgusError):
    """Parameters are not plain data, or the factory does not take them."""


class BuildError(ArgusError):
    """A component, or the model made of several, cannot be built."""


class ConflictError(ArgusError):
    """Two things claim a place that holds one."""


class ConfigError(ArgusError):
    """A configuration file, or a change to it from the command line, is wrong."""


class CheckpointError(ArgusError):
    """A checkpoint cannot be read or written, or is unsafe to read."""


class CorruptCheckpointError(CheckpointError):
    """The file's bytes are not those that were written."""


class UnsafeCheckpointError(CheckpointError):
    """The file asks for something that loading never does."""


class NewerCheckpointError(CheckpointError):
    """The file's schema is newer than this argus_core."""


class MissingPluginError(CheckpointError):
    """A checkpoint names components that no installed package provides."""


class StateMismatchError(CheckpointError):
    """The stored state does not fit the model that was built."""


class ArgusWarning(_Told, UserWarning):
    """The base of all warnings of argus_core: a permitted action with a surprising effect."""


class ProviderDriftWarning(ArgusWarning):
    """Another package or version now provides a component that a checkpoint names."""


def near(name: str, known: Iterable[str], limit: int = 3) -> str:
    """Return ``"; did you mean 'X' or 'Y'?"`` for the known names close to ``name``, or ``""``.

    The comparison ignores case and punctuation, and a prefix is close to its name, as are the initials of its
    words. If no other is, a known name of three letters or more is close to one that begins with it. Where no
    name is close, names with the same first word are suggested: for ``train_dice`` the metrics of training.

    >>> near("f1", ["recall", "F1_Score"]), near("crossentropyloss", ["CrossEntropyLoss", "NLLLoss"])
    ("; did you mean 'F1_Score'?", "; did you mean 'CrossEntropyLoss'?")
    >>> near("train_dice", ["val_loss", "train_loss", "train_accuracy"])
    "; did you mean 'train_loss' or 'train_accuracy'?"
    >>> near("validation", ["train", "val", "test"])
    "; did you mean 'val'?"
    >>> near("learning_rate", ["lr", "momentum"])
    "; did you mean 'lr'?"
    """
    by_folded: dict[str, dict[str, None]] = {}
    for candidate in known:
        by_folded.setdefault(_folded(candidate), {})[candidate] = None
    folded_name = _folded(name)
    initials = "".join(word[0] for word in name.casefold().split("_") if word)
    if folded_name in by_folded:
        close = [folded_name]
    elif len(initials) > 1 and initials in by_folded:
        close = [initials]
    elif len(folded_name) > _LONGEST:
        return ""
    else:
        import difflib  # lazy, to keep start-up fast: most names are right

        close = difflib.get_close_matches(folded_name, by_folded, n=10, cutoff=0.6)
        # Typing errors are seldom in the first letters: 'adamm' is nearer to 'AdamW' than to 'RAdam'.
        close = sorted(close, key=lambda folded: -_shared_start(folded_name, folded))
        if len(folded_name) >= _SHORTEST_BEGINNING:
            longer = sorted((each for each in by_folded if each.startswith(folded_name)), key=len)
            close = list(dict.fromkeys([*close, *longer]))
        close = close or [each for each in by_folded if len(each) > 2 and folded_name.startswith(each)]
    names = [candidate for folded in close for candidate in by_folded[folded]] or _of_one_word(
        name, by_folded
    )
    if not names:
        return ""
    return "; did you mean " + " or ".join(map(repr, names[:limit])) + "?"


def _of_one_word(name: str, by_folded: Mapping[str, Iterable[str]]) -> list[str]:
    """Return the known names with the same first word as ``name``, up to an underscore."""
    word, underscore, _ = name.casefold().partition("_")
    names = (candidate for candidates in by_folded.values() for candidate in candidates)
    return [each for each in names if word and underscore and each.casefold().startswith(f"{word}_")]


def _folded(name: str) -> str:
    """Return the form of a name for comparisons, without case and punctuation."""
    return "".join(filter(str.isalnum, name.casefold())) or name


def _shared_start(name: str, other: str) -> int:
    differing = (place for place, (one, two) in enumerate(zip(name, other, strict=False)) if one != two)
    return next(differing, min(len(name), len(other)))
