"""optuna's samplers and pruners by short names."""

from __future__ import annotations

import hashlib
import inspect
import warnings
from collections.abc import Mapping
from typing import Any

import optuna

from argus_core import ParamsError, UnknownNameError
from argus_core.authors import Spec, call_factory, near

__all__ = ["GRID", "PRUNERS", "SAMPLERS", "build_pruner", "build_sampler"]

GRID = "grid"
"""The sampler that tries every point of the space in order."""

# Without CmaEsSampler: it stores a pickle in the study, and loading that may run foreign code.
SAMPLERS: Mapping[str, str] = {
    "tpe": "TPESampler",
    "random": "RandomSampler",
    GRID: "RandomSampler",
    "qmc": "QMCSampler",
    "gp": "GPSampler",
}
PRUNERS: Mapping[str, str] = {
    "median": "MedianPruner",
    "percentile": "PercentilePruner",
    "hyperband": "HyperbandPruner",
    "successive_halving": "SuccessiveHalvingPruner",
    "threshold": "ThresholdPruner",
    "patient": "PatientPruner",
    "none": "NopPruner",
}

_MOST: Mapping[str, int] = {"n_ei_candidates": 10_000}
"""Limits of parameters that need memory; every other integer may be as large as ``_LARGEST``."""

_LARGEST = 2**31 - 1

_INDEPENDENT = ("tpe", "random", GRID, "gp")
"""Samplers that draw independently for each trial; the others follow one sequence over the study."""


def build_sampler(spec: Spec, seed: int | None, number: int) -> optuna.samplers.BaseSampler:
    """Return the sampler for the trial of that number.

    Each trial has its own seed, derived from the study's seed and its number. With one seed, a sampler in a
    later process would draw the same numbers again.

    Raises:
        UnknownNameError: the sampler is unknown.
        ParamsError: it does not take these parameters.
    """
    _check("sampler", spec, SAMPLERS)
    params = dict(spec.params)
    seed = params.pop("seed", seed)
    if seed is not None:
        params["seed"] = _seed_of(seed, number) if spec.name in _INDEPENDENT else seed
    if spec.name == "qmc":
        params.setdefault("warn_asynchronous_seeding", False)
    factory = getattr(optuna.samplers, SAMPLERS[spec.name])
    sampler: optuna.samplers.BaseSampler = _build("sampler", spec.name, factory, params)
    return sampler


def build_pruner(spec: Spec) -> optuna.pruners.BasePruner:
    """Return the pruner that a spec chooses.

    Raises:
        UnknownNameError: the pruner is unknown.
        ParamsError: it does not take these parameters.
    """
    _check("pruner", spec, PRUNERS)
    params = {"wrapped_pruner": None, **spec.params} if spec.name == "patient" else spec.params
    factory = getattr(optuna.pruners, PRUNERS[spec.name])
    pruner: optuna.pruners.BasePruner = _build("pruner", spec.name, factory, params)
    return pruner


def _check(what: str, spec: Spec, known: Mapping[str, str]) -> None:
    if spec.name not in known:
        hint = near(spec.name, known) or f"; choose {', '.join(known)}"
        raise UnknownNameError(f"no {what} named {spec.name!r}{hint}")
    for name, value in spec.params.items():
        most = _MOST.get(name, _LARGEST)
        if isinstance(value, int) and name != "seed" and not -most <= value <= most:
            raise ParamsError(f"{name} of {what} {spec.name!r} is {value:,}; give {most:,} at most")


def _build(what: str, name: str, factory: Any, params: Mapping[str, Any]) -> Any:
    with warnings.catch_warnings():
        # A user who names an experimental sampler or option wants it.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return call_factory(f"{what} {name!r}", _plain(factory), (), params)


def _plain(factory: Any) -> Any:
    """Return the factory, with the signature that a decorator hides."""
    return inspect.unwrap(factory)


def _seed_of(seed: int, number: int) -> int:
    digest = hashlib.sha256(f"{seed}/{number}".encode()).digest()
    return int.from_bytes(digest[:4], "big")
