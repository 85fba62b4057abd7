from __future__ import annotations

import subprocess
import sys
from typing import Any

import optuna
import pytest

from argus_core.errors import ConfigError
from argus_core.files.toml import parse
from argus_optuna.space import Space, read_space
from argus_optuna.toml_text import toml_text

LR = "lr = { low = 1e-4, high = 0.1, log = true }"
CONDITIONAL = """
optimizer = { choices = ["SGD", "AdamW"] }
"optimizer.momentum" = { low = 0.0, high = 0.9, when = { optimizer = "SGD" } }
"optimizer.lr" = { low = 1e-4, high = 0.1, log = true }
"""


def space(text: str) -> Space:
    return read_space(parse(text), "c.toml: [sweep.space]")


def suggested(found: Space, **fixed: Any) -> dict[str, Any]:
    return found.suggest(optuna.trial.FixedTrial(fixed))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ('"optimizer.lr" = { low = 0, high = 1 }', ["optimizer.lr"]),
        ("optimizer.lr = { low = 0, high = 1 }", ["optimizer.lr"]),
        ("[model.optimizer.lr]\nlow = 0\nhigh = 1", ["model.optimizer.lr"]),
        (
            "[optimizer]\nlr = { low = 0, high = 1 }\neps = { choices = [1] }",
            ["optimizer.lr", "optimizer.eps"],
        ),
        ("step.accumulate.steps = { low = 1, high = 4 }", ["step.accumulate.steps"]),
        ("a.b = { low = 0, high = 1, when = { c.d = 1 } }\nc.d = { choices = [1, 2] }", ["c.d", "a.b"]),
    ],
)
def test_keys_may_be_quoted_or_not(text: str, keys: list[str]) -> None:
    assert list(space(text).described()) == keys


@pytest.mark.parametrize(
    ("text", "distribution"),
    [
        ("lr = { low = 0.5, high = 2 }", optuna.distributions.FloatDistribution(0.5, 2.0)),
        (LR, optuna.distributions.FloatDistribution(1e-4, 0.1, log=True)),
        (
            "lr = { low = 0.0, high = 0.9, step = 0.3 }",
            optuna.distributions.FloatDistribution(0, 0.9, step=0.3),
        ),
        ("lr = { low = 1, high = 8 }", optuna.distributions.IntDistribution(1, 8)),
        ("lr = { low = 1, high = 7, step = 2 }", optuna.distributions.IntDistribution(1, 7, step=2)),
        ("lr = { low = 1, high = 64, log = true }", optuna.distributions.IntDistribution(1, 64, log=True)),
        ("lr = { choices = [32, 64] }", optuna.distributions.CategoricalDistribution([32, 64])),
        ("lr = { choices = [true, false] }", optuna.distributions.CategoricalDistribution([True, False])),
        (
            'lr = { choices = ["SGD", ["AdamW", { lr = 0.1 }]] }',
            optuna.distributions.CategoricalDistribution(['"SGD"', '["AdamW", { lr = 0.1 }]']),
        ),
    ],
)
def test_table_is_a_distribution_of_optuna(text: str, distribution: object) -> None:
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask()
    space(text).suggest(trial)
    assert trial.distributions == {"lr": distribution}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"\[sweep\.space\] is empty; give keys and values, \"optimizer\.lr\" = "),
        ("lr = 3", r"\[sweep\.space\] 'lr' is 3; give \{ low = 1e-4, high = 0\.1, log = true \}, "),
        ("lr = {}", r"'lr' is \{\}; give \{ low"),
        ("lr = [1, 2]", r"'lr' is \[1, 2\]; give \{ low"),
        ("lr = { low = 1 }", "'lr' has no 'high'; give "),
        ("lr = { lo = 1, high = 2 }", "'lr' has 'lo'; did you mean 'low'"),
        ("lr = { low = 1, high = 2, zzz = 3 }", "'lr' has 'zzz'; give "),
        ("lr = { choice = [1] }", "'lr' has 'choice'; did you mean 'choices'"),
        (
            "lr = { choices = [1], low = 2 }",
            "'lr' has 'choices' and 'low'; give either choices, or low and high",
        ),
        ("lr = { choices = [] }", r"'lr'\.choices is \[\]; give a list of values"),
        ("lr = { choices = 'SGD' }", r"'lr'\.choices is 'SGD'; give a list of values"),
        ("lr = { choices = [1, 2, 1.0] }", r"'lr'\.choices has 1\.0 twice; give each value once"),
        ("lr = { choices = [nan] }", r"'lr'\.choices has nan; give finite numbers"),
        ("lr = { low = 2, high = 2 }", "'lr' goes from 2 to 2; give a low that is below high"),
        ("lr = { low = true, high = 2 }", r"'lr'\.low is True; give a finite number"),
        ("lr = { low = 0, high = inf }", r"'lr'\.high is inf; give a finite number"),
        ("lr = { low = 0, high = '1' }", r"'lr'\.high is '1'; give a finite number"),
        ("lr = { low = 0, high = 1, log = true }", r"'lr'\.low is 0; with log = true it must be above 0"),
        ("lr = { low = 1, high = 2, log = 1 }", r"'lr'\.log is 1; give true or false"),
        ("lr = { low = 1, high = 9, log = true, step = 2 }", "'lr' has log and step; leave one of them out"),
        ("lr = { low = 1, high = 9, step = 0 }", r"'lr'\.step is 0; give an integer above 0"),
        ("lr = { low = 1, high = 9, step = 0.5 }", r"'lr'\.step is 0\.5; give an integer above 0"),
        ("lr = { low = 0.5, high = 9, step = -1 }", r"'lr'\.step is -1; give a number above 0"),
        ("lr = { low = 1, high = 8, step = 2 }", "does not reach high = 8 in steps of 2; give high = 7"),
        (
            "lr = { low = 0.0, high = 1.0, step = 0.3 }",
            r"reach high = 1\.0 in steps of 0\.3; give high = 0\.9",
        ),
        ("run_dir = { choices = ['a'] }", "'run_dir', but each trial has its own run directory"),
        ("fit.monitor = { choices = ['a'] }", r"'fit\.monitor', but trials are compared by it"),
        (
            f"optimizer.{LR}\nmodel.optimizer.{LR}",
            r"'optimizer\.lr' and 'model\.optimizer\.lr', the same key",
        ),
        (
            f"{LR}\na = {{ choices = [1], when = {{ lrr = 1 }} }}",
            "names 'lrr', which is not in the space; did you",
        ),
        (
            f"{LR}\na = {{ choices = [1], when = {{ lr = 1 }} }}",
            "names 'lr', which has a range; give 'lr' choi",
        ),
        ("a = { choices = [1], when = 3 }", r"'a'\.when is 3; give a key of the space and its value"),
        ("a = { choices = [1], when = { b = [] } }", r"'a'\.when has no value for 'b'; give one"),
        (
            "b = { choices = ['SGD', 'AdamW'] }\na = { choices = [1], when = { b = 'SDG' } }",
            r"'a'\.when requires 'b' to be 'SDG', which is not one of its choices; did you mean 'SGD'\?",
        ),
        (
            "b = { choices = [1, 2] }\na = { choices = [1], when = { b = true } }",
            r"requires 'b' to be True, which is not one of its choices; its choices are 1, 2",
        ),
        (
            "a = { choices = [1], when = { b = 1 } }\nb = { choices = [1], when = { a = 1 } }",
            "conditions .* of 'a' and 'b' depend on each other; remove one of them",
        ),
    ],
)
def test_mistake_is_named_with_its_key_and_the_next_action(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        space(text)


def test_a_key_may_depend_on_the_choice_of_another() -> None:
    found = space(CONDITIONAL)
    assert suggested(found, **{"optimizer": "AdamW", "optimizer.lr": 0.01}) == {
        "optimizer": "AdamW",
        "optimizer.lr": 0.01,
    }
    sgd = {"optimizer": "SGD", "optimizer.momentum": 0.5, "optimizer.lr": 0.01}
    assert suggested(found, **sgd) == sgd


def test_a_condition_may_name_several_choices_and_specs_by_their_names() -> None:
    found = space(
        'optimizer = { choices = ["SGD", ["AdamW", { lr = 0.1 }], { name = "Adam", lr = 1 }] }\n'
        'x = { choices = [1], when = { optimizer = ["AdamW", "Adam"] } }'
    )
    there = [params["optimizer"] for params in found.grid() if "x" in params]
    assert there == ['["AdamW", { lr = 0.1 }]', '{ name = "Adam", lr = 1 }']


def test_conditions_may_follow_each_other_in_any_order() -> None:
    found = space(
        "c = { choices = [1], when = { b = 2 } }\n"
        "b = { choices = [1, 2], when = { a = 2 } }\n"
        "a = { choices = [1, 2] }"
    )
    assert list(found.grid()) == [{"a": 1}, {"a": 2, "b": 1}, {"a": 2, "b": 2, "c": 1}]
    assert {"a": 2, "b": 2, "c": 1} in [params for _, params in found.probes()]


def test_probes_have_every_choice_and_both_ends_of_every_range() -> None:
    probes = [(dimension.key, params[dimension.key]) for dimension, params in space(CONDITIONAL).probes()]
    assert probes == [
        ("optimizer", "SGD"),
        ("optimizer", "AdamW"),
        ("optimizer.momentum", 0.0),
        ("optimizer.momentum", 0.9),
        ("optimizer.lr", 1e-4),
        ("optimizer.lr", 0.1),
    ]


def test_a_component_is_chosen_before_its_parameters_are_set() -> None:
    found = space("model.optimizer.lr = { low = 0.1, high = 0.2 }\noptimizer = { choices = ['SGD'] }")
    changes = found.changes({"model.optimizer.lr": 0.1, "optimizer": "SGD"})
    assert changes == ['optimizer="SGD"', "model.optimizer.lr=0.1"]


def test_a_choice_that_is_no_scalar_comes_back_as_it_was_written() -> None:
    found = space('optimizer = { choices = [["SGD", { lr = 0.1, a = [1, "x=y"] }], "AdamW"] }')
    changes = [found.changes(params) for params in found.grid()]
    assert changes == [['optimizer=["SGD", { lr = 0.1, a = [1, "x=y"] }]'], ['optimizer="AdamW"']]


def test_grid_has_every_point_of_a_range_exactly() -> None:
    found = space("a = { low = 0.1, high = 0.7, step = 0.2 }\nb = { low = 2, high = 6, step = 2 }")
    assert [tuple(params.values()) for params in found.grid()] == [
        (a, b) for a in (0.1, 0.3, 0.5, 0.7) for b in (2, 4, 6)
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a = { low = 0, high = 9000000000000000000 }", 0),
        ("a = { low = 0.0, high = 1e300, step = 1e-300 }", 0.0),
    ],
)
def test_grid_of_a_range_without_measure_is_not_kept(text: str, expected: float) -> None:
    assert next(iter(space(text).grid())) == {"a": expected}


@pytest.mark.parametrize(
    "text", [LR, "lr = { low = 0.0, high = 1.0 }", "lr = { low = 1, high = 8, log = true }"]
)
def test_grid_without_an_end_is_refused(text: str) -> None:
    with pytest.raises(
        ConfigError, match=r"'grid' cannot go through 'lr' = \{ low = .*; give it choices, whole"
    ):
        list(space(text).grid())


@pytest.mark.parametrize(
    "value", [1, 0.5, 1e-05, True, 'a "b" = é', [1, [2]], {"a b": {"c": []}}, {}, ["x", {"y": "z"}]]
)
def test_toml_text_is_read_back_as_the_value(value: Any) -> None:
    text = toml_text(value)
    assert "\n" not in text
    assert parse(f"x = {text}") == {"x": value}


def test_a_space_is_read_without_optuna_and_torch() -> None:
    program = (
        "import sys; from argus_optuna.space import read_space; "
        "read_space({'lr': {'low': 1, 'high': 2}}, ''); assert not {'optuna', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
