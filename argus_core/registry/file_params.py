"""Which parameters a file may set, and the check that holds files to that.

A parameter has one of three sources: the caller (Python, ``--set``), a configuration that is trained with,
or a checkpoint. Most parameters are plain values: numbers, flags, shapes. A file may set those to anything.
A parameter that names code, programs, files or addresses is declared, in the attribute ``file_params`` of
its component's factory::

    class Tagger(nn.Module):
        file_params = {"vocabulary": FileParam("reads the file that it names", in_configuration=True)}

`argus_core.registry.factory.call_factory` compares every call with the declaration, so it also holds for
parts inside of parts, for fixed classes and for other names of the same factory. A number that sets how often
a loop runs is declared too, with the most that a file may choose.
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
    "declared",
    "file_params_of",
    "taken_from",
]


@dataclass(frozen=True)
class FileParam:
    """What a parameter does beyond being a number, a flag or a shape, and what a file may set it to.

    Attributes:
        does: ends the sentence "it ...", as in ``"runs the program that it names"``.
        values: what any file may choose; ``None`` is always among them.
        most: the largest number that any file may choose, and the length of a list of numbers.
        keys: the parameter may also be a dict of numbers and flags with keys among these.
        in_configuration: whether a configuration that is trained with may set any value. Never for what runs
            code.
        writes: whether something is written there, a path or elsewhere: a configuration that lies in a run
            directory may only choose a path in it.
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
        """Return what any file may choose, for messages and tables."""
        values = ", ".join(map(repr, self.values))
        numbers = "" if self.most is None else f"numbers up to {self.most:,}"
        keys = f"numbers and flags for {', '.join(sorted(self.keys))}" if self.keys else ""
        return " or ".join(filter(None, (values, numbers, keys))) or "nothing"


FUNCTION = FileParam("is a function, which no file can hold")
OBJECT = FileParam("is an object, which no file can hold")
READS = FileParam("names files to read", in_configuration=True)
WRITES = FileParam("names files to write", in_configuration=True, writes=True)

# torch's own factories cannot carry a declaration.
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
}

# Where the kinds of parts stand in params, in the arguments of load_model and in a configuration.
_KEYS = {
    "transform": "prediction_transform",
    "dataset": "data.SPLIT",
    "callback": "callbacks",
    "metric": "metrics",
}
_SEVERAL = ("step", "callback", "metric", "lr_scheduler")


@dataclass(frozen=True)
class Source:
    """The file that parameters come from.

    Attributes:
        path: the file.
        is_checkpoint: whether it is a checkpoint; else it is a configuration.
        given: what the caller has set in the file's place: the kind of a part, or its label such as
            ``"step 'compile'"``, and a parameter; ``None`` stands for all parameters.
        outer: the label of the part that the parameters belong to a part of, if there is one.
        folder: the run directory that a configuration lies in, if it is resumed from there.
    """

    path: str
    is_checkpoint: bool
    given: frozenset[tuple[str, str | None]] = field(default=frozenset())
    outer: str | None = None
    folder: str = ""

    def with_given(self, given: Iterable[tuple[str, str | None]]) -> Source:
        """Return the same file where the caller's code has set more."""
        return Source(self.path, self.is_checkpoint, self.given.union(given), self.outer, self.folder)

    def inside(self, label: str) -> Source | None:
        """Return the file for the parts inside of a part; ``None`` where the caller chose all of it."""
        if self.is_callers(label, None):
            return None
        if self.outer:
            return self
        return Source(self.path, self.is_checkpoint, self.given, label, self.folder)

    def is_callers(self, label: str, parameter: str | None) -> bool:
        """Return whether the caller has set a parameter, or all of them, of the part with this label."""
        kind = label.partition(" ")[0]
        wanted = {(kind, None), (label, None), (kind, parameter), (label, parameter)}
        return self.outer is None and not wanted.isdisjoint(self.given)

    def may_set(self, rule: FileParam, value: Any) -> bool:
        """Return whether the file may set a parameter with this declaration to ``value``."""
        if rule.allows(value):
            return True
        if self.is_checkpoint or not rule.in_configuration:
            return False
        return not (rule.writes and self.folder) or _lies_in(value, self.folder)

    def refusal(self, label: str, parameter: str, value: Any, rule: FileParam) -> Exception:
        """Return the error for a value that the file must not choose."""
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
        if self.is_checkpoint:
            return f"pass {key}=... to load_model"
        if kind == "config":
            return "build the template in Python"
        path = [key, *([name.strip("'")] if kind in _SEVERAL else ()), *(() if self.outer else (parameter,))]
        return f"pass --set {'.'.join(path)}=..., or build it in Python"


_source: ContextVar[Source | None] = ContextVar("the file that parameters come from", default=None)


@contextmanager
def taken_from(source: Source | None) -> Iterator[None]:
    """Hold the parts that are built inside to what ``source`` may set; ``None`` is the caller."""
    token = _source.set(source)
    try:
        yield
    finally:
        _source.reset(token)


@contextmanager
def declared(label: str, factory: Callable[..., Any], params: Mapping[str, Any]) -> Iterator[None]:
    """Check the parameters of a part that is built inside, and hold the parts inside of it to the same file.

    Raises:
        UnsafeCheckpointError: a checkpoint sets what only the caller may set.
        ConfigError: a configuration does.
    """
    check_file_params(label, factory, params)
    source = _source.get()
    with taken_from(source and source.inside(label)):
        yield


def check_file_params(label: str, factory: Callable[..., Any], params: Mapping[str, Any]) -> None:
    """Check parameters against the declaration of the factory, if they come from a file.

    Raises:
        UnsafeCheckpointError: a checkpoint sets what only the caller may set.
        ConfigError: a configuration does.
    """
    source = _source.get()
    if source is None:
        return
    for parameter, rule in file_params_of(factory).items():
        if parameter not in params or source.may_set(rule, params[parameter]):
            continue
        if not source.is_callers(label, parameter):
            raise source.refusal(label, parameter, params[parameter], rule)


def file_params_of(factory: Any) -> Mapping[str, FileParam]:
    """Return the declaration of a factory, or of the class or function that it wraps."""
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
    """Return whether a path is one in a folder; links in the folder are the business of what writes there."""
    if not isinstance(path, str | os.PathLike):
        return False
    path = absolute(os.path.expanduser(path))
    inner, outer = os.path.abspath(path), os.path.abspath(folder)
    # Behind a link, ".." leads elsewhere than it reads.
    return os.path.commonpath([inner, outer]) == outer and os.path.realpath(path) == os.path.realpath(inner)


def _is_plain(value: object) -> bool:
    return value is None or type(value) in (bool, int, float)
