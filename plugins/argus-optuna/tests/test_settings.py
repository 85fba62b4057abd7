from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from argus_core.config import read_config
from argus_core.errors import ConfigError, SpecError
from argus_core.registry.spec import Spec
from argus_optuna.settings import Settings, read_settings


def settings(path: Path, *changes: str) -> Settings:
    return read_settings(read_config(path, changes), str(path))


def test_what_is_left_out_has_its_default(write: Any) -> None:
    found = settings(write())
    assert (found.trials, found.timeout, found.seed) == (3, None, 0)  # the seed is that of the runs
    assert (found.sampler, found.pruner) == (Spec("tpe"), Spec("median"))
    assert (found.study_dir, found.monitor) == (Path("runs/digits-sweep"), "val_accuracy")


def test_study_lies_beside_the_run_directory_of_the_configuration(write: Any) -> None:
    assert settings(write(), "run_dir=runs/a").study_dir == Path("runs/a-sweep")


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("timeout = 60", "timeout", 60.0),
        ("seed = 7", "seed", 7),
        ('study_dir = "x/y"', "study_dir", Path("x/y")),
        ('sampler = "random"', "sampler", Spec("random")),
        ('sampler = ["tpe", { seed = 0 }]', "sampler", Spec("tpe", {"seed": 0})),
        ('sampler = { name = "tpe", seed = 0 }', "sampler", Spec("tpe", {"seed": 0})),
        ('pruner = ["median", { n_warmup_steps = 2 }]', "pruner", Spec("median", {"n_warmup_steps": 2})),
    ],
)
def test_key_is_read(write: Any, line: str, name: str, value: object) -> None:
    assert getattr(settings(write(sweep=line)), name) == value


def test_settings_can_be_changed_like_any_key(write: Any) -> None:
    found = settings(write(), "sweep.trials=9", "sweep.pruner=none")
    assert (found.trials, found.pruner) == (9, Spec("none"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("trails = 3", r"digits\.toml: \[sweep\] has 'trails'; did you mean 'trials'\?"),
        (
            "zzz = 3",
            r"\[sweep\] has 'zzz'; it takes trials, timeout, sampler, pruner, seed, study_dir, space",
        ),
        ("timeout = 0", r"\[sweep\] timeout is 0; give seconds, a number above 0"),
        ("timeout = '1h'", r"\[sweep\] timeout is '1h'; give seconds"),
        ("timeout = inf", r"\[sweep\] timeout is inf; give seconds"),
        ("seed = -1", r"\[sweep\] seed is -1; give an integer of at least 0"),
        ("seed = 4294967296", r"\[sweep\] seed is 4294967296; .* below 2\*\*32"),
        ("study_dir = ''", r"\[sweep\] study_dir is ''; give a folder"),
    ],
)
def test_mistake_is_named_with_the_next_action(write: Any, line: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings(write(sweep=line))


@pytest.mark.parametrize("value", ["0", "true", "1.5", '"many"'])
def test_number_of_trials_that_is_none_is_refused(write: Any, value: str) -> None:
    with pytest.raises(ConfigError, match=r"\[sweep\] trials is .*; give an integer of at least 1"):
        settings(write(), f"sweep.trials={value}")


def test_sampler_of_another_shape_is_refused(write: Any) -> None:
    with pytest.raises(SpecError, match=r"\[sweep\] sampler"):
        settings(write(sweep="sampler = 3"))


def test_configuration_without_the_section_says_how_to_write_it(write: Any) -> None:
    path = write()
    path.write_text(path.read_text("utf-8").partition("[sweep]")[0], "utf-8")
    with pytest.raises(
        ConfigError, match=r"has no section \[sweep\]; add \[sweep\.space\] with the keys to search"
    ):
        settings(path)


def test_study_of_numbered_runs_needs_a_folder_of_its_own(write: Any) -> None:
    with pytest.raises(
        ConfigError, match=r"\[sweep\] has no study_dir, and run_dir is the pattern .*; give study_dir"
    ):
        settings(write(), "run_dir=runs/{name}-{n}")
    settings(write(sweep="study_dir = 'runs/study'"), "run_dir=runs/{name}-{n}")
