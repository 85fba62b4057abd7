"""Every error that argus_core raises on purpose.

::

    ArgusError
    ├── UnknownNameError        no component of that name
    ├── AmbiguousNameError      several providers have it
    ├── BrokenPluginError       its provider cannot be imported
    ├── BlockedPluginError      its provider is switched off
    ├── SpecError               a choice of a component has the wrong shape
    ├── ParamsError             parameters are not plain data, or not the factory's
    ├── BuildError              a component, or a model made of them, cannot be built
    ├── ConflictError           two things claim one place
    ├── ConfigError             a configuration file is wrong
    └── CheckpointError
        ├── CorruptCheckpointError    the file is not what was written
        ├── UnsafeCheckpointError     the file asks for what is never done
        ├── NewerCheckpointError      a newer argus_core wrote it
        ├── MissingPluginError        it needs a package that is not installed
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


_SHORTEST_BEGINNING = 2  # letters of a name that suggest all of it
_LONGEST = 200  # letters of a name that is compared with others, which takes time by the square of them


class _Told(Exception):
    def __str__(self) -> str:
        return shortened(super().__str__())  # names in it may be from a file, and as long as that


class ArgusError(_Told):
    """Anything argus_core refuses; the message ends with what to do next."""


class UnknownNameError(ArgusError):
    """No component of that kind has that name."""


class AmbiguousNameError(ArgusError):
    """Several providers have a component of that short name."""


class BrokenPluginError(ArgusError):
    """The component is declared, but its provider fails when imported."""


class BlockedPluginError(ArgusError):
    """The component's provider is switched off by the environment."""


class SpecError(ArgusError):
    """What was written to choose a component has the wrong shape."""


class ParamsError(ArgusError):
    """Parameters are not plain data, or the factory does not take them."""


class BuildError(ArgusError):
    """A component, or the model made of several, cannot be built."""


class ConflictError(ArgusError):
    """Two things claim a place that holds one."""


class ConfigError(ArgusError):
    """A configuration file, or a change to it from the command line, is wrong."""


class CheckpointError(ArgusError):
    """A checkpoint cannot be read, or must not be."""


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
    """Something is allowed but will surprise."""


class ProviderDriftWarning(ArgusWarning):
    """Another package or version now provides a component that a checkpoint names."""


def near(name: str, known: Iterable[str], limit: int = 3) -> str:
    """Return ``"; did you mean 'X' or 'Y'?"`` for the known names close to ``name``, or ``""``.

    Case and punctuation do not count, and the beginning of a name is close to it. Where no name is close,
    those with the same first word are suggested: of ``train_dice`` the metrics of training.

    >>> near("f1", ["recall", "F1_Score"]), near("crossentropyloss", ["CrossEntropyLoss", "NLLLoss"])
    ("; did you mean 'F1_Score'?", "; did you mean 'CrossEntropyLoss'?")
    >>> near("train_dice", ["val_loss", "train_loss", "train_accuracy"])
    "; did you mean 'train_loss' or 'train_accuracy'?"
    """
    by_folded: dict[str, dict[str, None]] = {}
    for candidate in known:
        by_folded.setdefault(_folded(candidate), {})[candidate] = None
    folded_name = _folded(name)
    if folded_name in by_folded:
        close = [folded_name]
    elif len(folded_name) > _LONGEST:
        return ""
    else:
        import difflib  # not at start-up, where milliseconds count: most names are right

        close = difflib.get_close_matches(folded_name, by_folded, n=10, cutoff=0.6)
        # A slip is seldom in the first letters: 'adamm' is nearer to 'AdamW' than to 'RAdam'.
        close = sorted(close, key=lambda folded: -_shared_start(folded_name, folded))
        if len(folded_name) >= _SHORTEST_BEGINNING:
            longer = sorted((each for each in by_folded if each.startswith(folded_name)), key=len)
            close = list(dict.fromkeys([*close, *longer]))
    names = [candidate for folded in close for candidate in by_folded[folded]] or _of_one_word(
        name, by_folded
    )
    if not names:
        return ""
    return "; did you mean " + " or ".join(map(repr, names[:limit])) + "?"


def _of_one_word(name: str, by_folded: Mapping[str, Iterable[str]]) -> list[str]:
    """Return the known names that begin with the first word of ``name`` and an underscore, as it does."""
    word, underscore, _ = name.casefold().partition("_")
    names = (candidate for candidates in by_folded.values() for candidate in candidates)
    return [each for each in names if word and underscore and each.casefold().startswith(f"{word}_")]


def _folded(name: str) -> str:
    """Return what counts of a name when others are compared with it."""
    return "".join(filter(str.isalnum, name.casefold())) or name


def _shared_start(name: str, other: str) -> int:
    differing = (place for place, (one, two) in enumerate(zip(name, other, strict=False)) if one != two)
    return next(differing, min(len(name), len(other)))
