"""The preparation of samples from files: what the validation data of a model did to make inputs of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from argus_core.checkpoint.records import find, missing
from argus_core.config import Config
from argus_core.config.changes import with_params
from argus_core.data.collation import build_collate
from argus_core.data.description import DataDescription
from argus_core.data.readers import SORTS
from argus_core.errors import ArgusError, BuildError, MissingPluginError, ParamsError
from argus_core.registry.component import Factory
from argus_core.registry.diagnosis import missing_message
from argus_core.registry.factory import build_many, call_factory
from argus_core.registry.file_params import Source, check_file_params, taken_from
from argus_core.registry.registry import resolve
from argus_core.registry.spec import Spec, parse_spec, parse_specs

__all__ = ["Chain", "Preparation", "as_row", "unchanged"]

Prepare = Callable[[Any], Any]

_ATTRIBUTE = "prepares"


class Preparation:
    """Makes inputs of samples as the validation data of a model did.

    The factory of a dataset declares by its attribute ``prepares`` how, for each sort of samples that it
    takes: a function that takes some of the factory's parameters, and returns a function of a sample. A
    dataset that declares nothing, and has a parameter ``transform``, takes images through these transforms.

    Args:
        data: the description of the model's data.
        config: its section ``[data]``, perhaps changed by the caller.
        given: the caller's own functions by sort, which come first.
    """

    def __init__(
        self, data: DataDescription, config: Config, given: Mapping[str, Prepare] | None = None
    ) -> None:
        self.data = data
        self.config = config
        self.given = dict(given or {})

    @property
    def sorts(self) -> tuple[str, ...]:
        """The sorts of samples that the files of a folder may have.

        Raises:
            MissingPluginError: no installed package provides the dataset.
        """
        if self.given:
            return tuple(self.given)
        spec, _ = self._chosen
        if spec is None:
            return ("input", "row")
        declared = _declared(self._factory)
        return tuple(declared) or (("image",) if "transform" in spec.params else ("input", "row"))

    def of(self, sort: str) -> Prepare:
        """Return the function that makes an input of a sample.

        Raises:
            ParamsError: neither the dataset nor the caller says how.
            MissingPluginError: no installed package provides the dataset.
            UnsafeCheckpointError: the checkpoint sets a parameter that only the caller may set.
        """
        if sort in self.given:
            return self.given[sort]
        if sort == "input":
            return unchanged
        spec, source = self._chosen
        if spec is not None:
            label, factory = f"dataset {spec.name!r}", self._factory
            with taken_from(source):
                declared = _declared(factory)
                if sort in declared:
                    return _made(label, factory, declared[sort], spec.params)
                if sort == "image" and "transform" in spec.params:
                    check_file_params(label, factory, spec.params)
                    return Chain(_transforms(spec.params["transform"], label))
        if sort == "row":
            return as_row
        which = "the data of the model do" if spec is None else f"dataset {spec.name!r} does"
        raise ParamsError(
            f"{which} not say how to make an input of {_article(sort)}; leave such files out, pass "
            f"prepare=FUNCTION to predict_on, or declare {_ATTRIBUTE} of the dataset's factory"
        )

    def collate(self) -> Callable[[list[Any]], Any] | None:
        """Return the function by which validation makes batches, ``None`` for torch's."""
        key = "val_collate" if "val_collate" in self.config.data else "collate"
        if key not in self.config.data:
            return None
        with taken_from(self.config.source("data", key)):
            return build_collate(self.config.data[key], f"[data] {key}")

    @cached_property
    def _chosen(self) -> tuple[Spec | None, Source | None]:
        """Return the spec of the validation data, or of what comes nearest, and its source."""
        data = self.config.data
        for key in ("val", "train" if "split" in data else "test", "test", "train"):
            value = data.get(key)
            if isinstance(value, Mapping):  # several sets, which share their preparation
                value = next(iter(value.values()), None)
            if value is not None:
                name, params = with_params(value)
                if key == "train":
                    params = {**params, **data.get("split", {}).get("val_params", {})}
                return parse_spec("dataset", (name, params), f"[data] {key}"), self.config.source("data", key)
        return None, None

    @cached_property
    def _factory(self) -> Factory:
        spec, _ = self._chosen
        assert spec is not None
        lost = [
            missing("dataset", record)
            for record in self.data.components.get("dataset", ())
            if record["as"] == spec.name and find("dataset", record) is None
        ]
        if lost:
            raise MissingPluginError(missing_message(lost))
        return resolve("dataset", spec.name).load()


class Chain:
    """Functions that are called one after the other.

    Args:
        functions: of one argument, in order.
    """

    def __init__(self, functions: list[Prepare]) -> None:
        self.functions = functions

    def __call__(self, sample: Any) -> Any:
        """Return the result of the last one."""
        for function in self.functions:
            sample = function(sample)
        return sample


def unchanged(sample: Any) -> Any:
    """Return a sample as it is."""
    return sample


def as_row(row: list[float]) -> Tensor:
    """Return numbers as a tensor of torch's default dtype."""
    return torch.tensor(row, dtype=torch.get_default_dtype())


def _declared(factory: Factory) -> Mapping[str, Factory]:
    declared = getattr(factory, _ATTRIBUTE, {})
    if not isinstance(declared, Mapping) or not {*declared} <= {*SORTS}:
        raise BuildError(
            f"{_ATTRIBUTE} of {factory!r} is {declared!r}; declare a dict of functions by {', '.join(SORTS)}"
        )
    return declared


def _made(label: str, factory: Factory, make: Factory, params: Mapping[str, Any]) -> Prepare:
    """Call a declared function with those of the dataset's parameters that it takes."""
    taken = inspect.signature(make).parameters
    chosen = {name: value for name, value in params.items() if name in taken}
    check_file_params(label, factory, chosen)
    prepare: Any = call_factory(label, make, (), chosen)
    if not callable(prepare):
        raise BuildError(f"{_ATTRIBUTE} of {label} returns a {type(prepare).__name__}; return a function")
    found: Prepare = prepare
    return found


def _transforms(specs: Any, label: str) -> list[Prepare]:
    named = [_as_spec(each) for each in specs] if isinstance(specs, list | tuple) else _as_spec(specs)
    chosen = parse_specs("transform", named, f"transform of {label}")
    made = build_many("transform", [(spec.name, spec.params) for spec in chosen], f"transform of {label}")
    for each in made:
        if not callable(each):
            raise ArgusError(f"transform of {label} builds a {type(each).__name__}; give transforms")
    return made


def _as_spec(spec: Any) -> Any:
    """Return a spec, which may be a table, as a name or a tuple."""
    if not isinstance(spec, Mapping) or "name" not in spec:
        return spec
    return (spec["name"], {key: value for key, value in spec.items() if key != "name"})


def _article(sort: str) -> str:
    return f"an {sort}" if sort[0] in "aeiou" else f"a {sort}"
