"""The parameters that a file may set, and the check of files.

A parameter comes from one of three sources: the caller (Python, ``--set``), a configuration that is trained
with, or a checkpoint. Most parameters are plain values: numbers, flags, shapes. A file may set those to any
value. A parameter that names code, programs, files or addresses is declared in the attribute ``file_params``
of its component's factory::

    class Tagger(nn.Module):
        file_params = {"vocabulary": FileParam("reads the file that it names", in_configuration=True)}

`argus_core.registry.factory.call_factory` checks every call against the declaration. So it also applies to
parts inside other parts, to fixed classes and to other names of the same factory. A number that sets how
often a loop runs is declared too, with the largest that a file may choose.
"""

from __future__ import annotations

import os
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from argus_core.errors import ConfigError, UnsafeCheckpointError
from argus_core.files.working_folder import absolute, shown
from argus_core.registry.component import where_defined

__all__ = [
    "FUNCTION",
    "OBJECT",
    "READS",
    "WRITES",
    "FileParam",
    "Source",
    "check_file_params",
    "check_param",
    "declared",
    "file_params_of",
    "taken_from",
]


@dataclass(frozen=True)
class FileParam:
    """The declaration of a parameter that is not a plain value, and the values that a file may set.

    Attributes:
        does: its effect, as a verb phrase: ``"runs the program that it names"``.
        values: the values that any file may choose; ``None`` is always allowed.
        most: the largest number that any file may choose, and the length of a list of numbers.
        keys: the parameter may also be a dict of numbers and flags with keys among these.
        in_configuration: whether a configuration that is trained with may set any value. Always False for a
            parameter that runs code.
        writes: whether the program writes to the place that it names; a configuration inside a run directory
            may only choose a path in that directory.
    """

    does: str
    values: tuple[Any, ...] = ()
    most: int | None = None
    keys: frozenset[str] = frozenset()
    in_configuration: bool = False
    writes: bool = False

    def allows(self, value: Any) -> bool:
        """Return whether any file may set the parameter to ``value``."""
        if isinstance(value, Mapping) and self.keys:
            return self.keys >= value.keys() and all(map(_is_plain, value.values()))
        if self.most is not None and type(value) in (int, float):
            return bool(value <= self.most)
        if self.most is not None and isinstance(value, list | tuple):
            return len(value) <= self.most and all(map(_is_plain, value))
        return value is None or any(type(value) is type(each) and value == each for each in self.values)

    def allowed(self) -> str:
        """Return the values that any file may choose, for messages and tables."""
        values = ", ".join(map(repr, self.values))
        numbers = "" if self.most is None else f"numbers up to {self.most:,}"
        keys = f"numbers and flags for {', '.join(sorted(self.keys))}" if self.keys else ""
        return " or ".join(filter(None, (values, numbers, keys))) or "nothing"


FUNCTION = FileParam("is a function, which no file can hold")
OBJECT = FileParam("is an object, which no file can hold")
READS = FileParam("names files to read", in_configuration=True)
WRITES = FileParam("names files to write", in_configuration=True, writes=True)

# torch's factories have no attribute file_params.
_OF_TORCH: Mapping[str, Mapping[str, FileParam]] = {
    "torch.nn.modules.loss:LinearCrossEntropyLoss": {"options": OBJECT},
    "torch.nn.modules.loss:TripletMarginWithDistanceLoss": {"distance_function": FUNCTION},
    "torch.optim.lbfgs:LBFGS": {
        **dict.fromkeys(("max_iter", "max_eval"), FileParam("sets how much is computed", most=10**6)),
        "history_size": FileParam("sets how much is kept in memory", most=10**4),
    },
    "torch.optim.lr_scheduler:CyclicLR": {"scale_fn": FUNCTION},
    "torch.optim.lr_scheduler:LambdaLR": {"lr_lambda": FUNCTION},
    "torch.optim.lr_scheduler:MultiplicativeLR": {"lr_lambda": FUNCTION},
    **{
        f"torch.utils.data.sampler:{name}": {"generator": OBJECT}
        for name in ("RandomSampler", "SubsetRandomSampler", "WeightedRandomSampler")
    },
}

# The key of each kind in params, in the arguments of load_model and in a configuration.
_KEYS = {
    "transform": "prediction_transform",
    "collate": "data.collate",
    "dataset": "data.SPLIT",
    "sampler": "data.sampler",
    "callback": "callbacks",
    "metric": "metrics",
}
_OF_DATA = ("collate", "dataset", "sampler")  # a checkpoint's are built by a command that has --set
_SEVERAL = ("step", "callback", "metric", "lr_scheduler")


@dataclass(frozen=True)
class Source:
    """The file that parameters come from.

    Attributes:
        path: the file.
        is_checkpoint: True for a checkpoint, False for a configuration.
        given: the parameters that the caller has set instead of the file, as pairs: the kind of a part or its
            label (``"step 'compile'"``), and a parameter; ``None`` means all of its parameters.
        outer: the label of the part around the part that the parameters belong to, or ``None``.
        folder: the run directory that contains the configuration of a resumed run, or ``""``.
    """

    path: str
    is_checkpoint: bool
    given: frozenset[tuple[str, str | None]] = field(default=frozenset())
    outer: str | None = None
    folder: str = ""

    def with_given(self, given: Iterable[tuple[str, str | None]]) -> Source:
        """Return the same file with more parameters that the caller has set."""
        return Source(self.path, self.is_checkpoint, self.given.union(given), self.outer, self.folder)

    def inside(self, label: str) -> Source | None:
        """Return the source for parts inside a part; ``None`` if the caller chose the whole part."""
        if self.is_callers(label, None):
            return None
        if self.outer:
            return self
        return Source(self.path, self.is_checkpoint, self.given, label, self.folder)

    def is_callers(self, label: str, parameter: str | None) -> bool:
        """Return whether the caller has set a parameter, or all (``None``), of the part with this label."""
        kind = label.partition(" ")[0]
        wanted = {(kind, None), (label, None), (kind, parameter), (label, parameter)}
        return self.outer is None and not wanted.isdisjoint(self.given)

    def may_set(self, rule: FileParam, value: Any) -> bool:
        """Return whether the file may set a parameter with declaration ``rule`` to ``value``."""
        if rule.allows(value):
            return True
        if self.is_checkpoint or not rule.in_configuration:
            return False
        return not (rule.writes and self.folder) or _lies_in(value, self.folder)

    def refusal(self, label: str, parameter: str, value: Any, rule: FileParam) -> Exception:
        """Return the error for a value that the file may not choose."""
        file = "checkpoint" if self.is_checkpoint else "configuration"
        allowed = f"a path in {shown(self.folder)}" if self.folder and rule.writes else rule.allowed()
        may = "must not set it" if allowed == "nothing" else f"may choose {allowed}"
        error = UnsafeCheckpointError if self.is_checkpoint else ConfigError
        return error(
            f"{self.path}: {parameter} of {label} is {reprlib.repr(value)}; a {file} {may}, since it "
            f"{rule.does}; if you trust it, {self._action(label, parameter)}"
        )

    def _action(self, label: str, parameter: str) -> str:
        kind, _, name = (self.outer or label).partition(" ")
        key = _KEYS.get(kind, kind)
        if self.is_checkpoint and kind not in _OF_DATA:
            return f"pass {key}=... to load_model"
        if kind == "config":
            return "build the template in Python"
        path = [key, *([name.strip("'")] if kind in _SEVERAL else ()), *(() if self.outer else (parameter,))]
        return f"pass --set {'.'.join(path)}=..., or build it in Python"


_source: ContextVar[Source | None] = ContextVar("the file that parameters come from", default=None)


@contextmanager
def taken_from(source: Source | None) -> Iterator[None]:
    """Check parts built in the ``with`` block by what ``source`` may set; ``None`` is the caller."""
    token = _source.set(source)
    try:
        yield
    finally:
        _source.reset(token)


@contextmanager
def declared(label: str, factory: Callable[..., Any], params: Mapping[str, Any]) -> Iterator[None]:
    """Check the parameters of a part, and apply the same source to the parts that its factory builds.

    Raises:
        UnsafeCheckpointError: a checkpoint sets a parameter that only the caller may set.
        ConfigError: a configuration sets one.
    """
    check_file_params(label, factory, params)
    source = _source.get()
    with taken_from(source and source.inside(label)):
        yield


def check_file_params(label: str, factory: Callable[..., Any], params: Mapping[str, Any]) -> None:
    """Check parameters against the declaration of the factory, if they come from a file.

    Raises:
        UnsafeCheckpointError: a checkpoint sets a parameter that only the caller may set.
        ConfigError: a configuration sets one.
    """
    if _source.get() is None:
        return
    for parameter, rule in file_params_of(factory).items():
        if parameter in params:
            check_param(label, parameter, rule, params[parameter])


def check_param(label: str, parameter: str, rule: FileParam, value: Any) -> None:
    """Check one parameter against its declaration; see `check_file_params`."""
    source = _source.get()
    if source is None or source.may_set(rule, value) or source.is_callers(label, parameter):
        return
    raise source.refusal(label, parameter, value, rule)


def file_params_of(factory: Any) -> Mapping[str, FileParam]:
    """Return ``file_params`` of a factory, or of the class or function that it wraps."""
    seen: list[object] = []  # a wrapper may wrap itself
    while factory is not None and not any(factory is each for each in seen):
        seen.append(factory)
        own = getattr(factory, "file_params", None) or _OF_TORCH.get(where_defined(factory))
        if own:
            found: Mapping[str, FileParam] = own
            return found
        factory = getattr(factory, "func", None) or getattr(factory, "__wrapped__", None)
    return {}


def _lies_in(path: object, folder: str) -> bool:
    """Return whether a path is in a folder; the code that writes there checks links in it."""
    if not isinstance(path, str | os.PathLike):
        return False
    path = absolute(os.path.expanduser(path))
    inner, outer = os.path.abspath(path), os.path.abspath(folder)
    # After a link, ".." is not the folder that the path shows.
    return os.path.commonpath([inner, outer]) == outer and os.path.realpath(path) == os.path.realpath(inner)


def _is_plain(value: object) -> bool:
    return value is None or type(value) in (bool, int, float)
