from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import optuna
import pytest

from argus_core.errors import ParamsError, UnknownNameError
from argus_core.registry.spec import Spec
from argus_optuna.algorithms import PRUNERS, SAMPLERS, build_pruner, build_sampler

NEEDED = {"percentile": {"percentile": 25.0}, "threshold": {"lower": 0.1}, "patient": {"patience": 2}}


def first(sampler: optuna.samplers.BaseSampler) -> float:
    """Return the first value that a sampler chooses."""
    return optuna.create_study(sampler=sampler).ask().suggest_float("x", 0, 1)


@pytest.mark.parametrize("name", SAMPLERS)
def test_sampler_is_built_by_name(name: str) -> None:
    assert type(build_sampler(Spec(name), 0, 0)).__name__ == SAMPLERS[name]


def test_sampler_that_keeps_a_pickle_in_the_study_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="no sampler named 'cmaes'"):
        build_sampler(Spec("cmaes"), 0, 0)


@pytest.mark.parametrize("name", SAMPLERS)
def test_sampler_reads_no_pickle(name: str) -> None:
    source = Path(inspect.getfile(getattr(optuna.samplers, SAMPLERS[name]))).read_text(encoding="utf-8")
    assert "pickle" not in source


@pytest.mark.parametrize("name", PRUNERS)
def test_pruner_is_built_by_name(name: str) -> None:
    assert type(build_pruner(Spec(name, NEEDED.get(name, {})))).__name__ == PRUNERS[name]


def test_parameters_are_given_on() -> None:
    pruner = build_pruner(Spec("median", {"n_startup_trials": 1, "n_warmup_steps": 3}))
    assert isinstance(pruner, optuna.pruners.MedianPruner)
    assert (pruner._n_startup_trials, pruner._n_warmup_steps) == (1, 3)


def test_option_that_optuna_calls_experimental_is_no_warning() -> None:
    sampler = build_sampler(Spec("tpe", {"multivariate": True, "group": True}), 0, 0)
    assert isinstance(sampler, optuna.samplers.TPESampler)
    assert sampler._multivariate


@pytest.mark.parametrize("name", ["tpe", "random", "grid", "gp"])
def test_each_trial_draws_numbers_of_its_own_that_follow_from_the_seed(name: str) -> None:
    values = [first(build_sampler(Spec(name), 0, number)) for number in (0, 1, 0)]
    assert values[0] == values[2] != values[1]
    assert first(build_sampler(Spec(name), 1, 0)) != values[0]
    assert first(build_sampler(Spec(name, {"seed": 0}), 1, 0)) == values[0]


def test_without_a_seed_it_is_drawn() -> None:
    assert first(build_sampler(Spec("random"), None, 0)) != first(build_sampler(Spec("random"), None, 0))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tp", "no sampler named 'tp'; did you mean 'tpe'"),
        ("zzz", "no sampler named 'zzz'; choose tpe, random, "),
    ],
)
def test_unknown_sampler_is_refused_with_near_names(name: str, message: str) -> None:
    with pytest.raises(UnknownNameError, match=message):
        build_sampler(Spec(name), 0, 0)


def test_unknown_pruner_is_refused_with_near_names() -> None:
    with pytest.raises(UnknownNameError, match="no pruner named 'medain'; did you mean 'median'"):
        build_pruner(Spec("medain"))


def test_wrong_parameter_is_refused_beside_the_right_ones() -> None:
    with pytest.raises(
        ParamsError, match=r"pruner 'median' has no parameter .*; did you mean 'n_warmup_steps'\?"
    ):
        build_pruner(Spec("median", {"n_warmup_step": 3}))
    with pytest.raises(ParamsError, match=r"sampler 'random' has no parameter 'n_startup_trials'"):
        build_sampler(Spec("random", {"n_startup_trials": 3}), 0, 0)


@pytest.mark.parametrize(
    ("build", "spec", "reason"),
    [
        (
            lambda spec: build_sampler(spec, 0, 0),
            Spec("tpe", {"n_ei_candidates": 10**9}),
            "n_ei_candidates of sampler 'tpe' is 1,000,000,000; give 10,000 at most",
        ),
        (
            lambda spec: build_sampler(spec, 0, 0),
            Spec("gp", {"n_startup_trials": 2**31}),
            "n_startup_trials of sampler 'gp' is 2,147,483,648; give 2,147,483,647 at most",
        ),
        (
            build_pruner,
            Spec("hyperband", {"max_resource": 2**62}),
            "max_resource of pruner 'hyperband' is .*; give 2,147,483,647 at most",
        ),
    ],
)
def test_numbers_that_take_memory_are_bounded(build: Any, spec: Spec, reason: str) -> None:
    with pytest.raises(ParamsError, match=reason):
        build(spec)
