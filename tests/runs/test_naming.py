"""Run directories named by a pattern: numbers that no two runs share, and the errors about a pattern."""

from __future__ import annotations

import multiprocessing
import re
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from click.testing import CliRunner
from programs import run_program
from small_runs import small_config, small_registry

from argus_core import isolated_registry
from argus_core.cli import main
from argus_core.config import Config, complete_config, read_config
from argus_core.errors import ConfigError
from argus_core.runs import run
from argus_core.runs.naming import named_run
from argus_core.runs.run import resume, train
from argus_core.scaffold.project import make_project


def configured(run_dir: object, **fit: object) -> Config:
    return Config({}, {}, {"run_dir": str(run_dir), **fit}, file="configs/small.toml")


def claimed(run_dir: str) -> str:
    with named_run(configured(run_dir), overwrite=False) as config:
        path = Path(config.fit["run_dir"])
        (path / "kept").touch()
        return path.name


def test_placeholders_are_filled_in(tmp_path: Path) -> None:
    (tmp_path / "small-7-7-x").mkdir()
    (tmp_path / "small-08-08-x").mkdir()
    (tmp_path / "small-9-8-x").mkdir()
    with named_run(
        configured(tmp_path / "{name}-{n}-{n}-x/{date}-{seed}", seed=3), overwrite=False
    ) as config:
        assert config.fit["run_dir"] == str(tmp_path / f"small-8-8-x/{date.today()}-3")


def test_drawn_seed_of_the_name_is_that_of_the_run() -> None:
    with named_run(configured("{seed}"), overwrite=True) as config:
        assert config.fit["run_dir"] == str(config.fit["seed"])


def test_numbered_folder_that_stays_empty_is_removed_with_its_parents(tmp_path: Path) -> None:
    with named_run(configured(tmp_path / "a/b/{n}"), overwrite=False):
        assert (tmp_path / "a/b/1").is_dir()
    assert not [*tmp_path.iterdir()]


def test_number_without_a_claim_makes_nothing(tmp_path: Path) -> None:
    with named_run(configured(tmp_path / "a/{n}"), overwrite=False, claim=False) as config:
        assert config.fit["run_dir"] == str(tmp_path / "a/1")
    assert not [*tmp_path.iterdir()]


def test_processes_at_once_never_share_a_number(tmp_path: Path) -> None:
    patterns = [str(tmp_path / "runs/{name}-{n}")] * 200
    with ProcessPoolExecutor(8, multiprocessing.get_context("fork")) as processes:
        names = [*processes.map(claimed, patterns)]
    assert sorted(names) == sorted(f"small-{number}" for number in range(1, 201))


def claimed_and_left(run_dir: str) -> str:
    with named_run(configured(run_dir), overwrite=False) as config:
        return config.fit["run_dir"]


def test_processes_at_once_that_leave_nothing_do_not_disturb_each_other(tmp_path: Path) -> None:
    patterns = [str(tmp_path / "a/b/{name}-{n}")] * 1000
    with ProcessPoolExecutor(4, multiprocessing.get_context("fork")) as processes:
        assert len([*processes.map(claimed_and_left, patterns, chunksize=50)]) == 1000
    assert not [*tmp_path.glob("a/b/*")]


@pytest.mark.parametrize("what", ["file", "link"])
def test_what_is_in_the_place_of_the_folder_of_numbers_is_told(tmp_path: Path, what: str) -> None:
    place = tmp_path / "runs"
    place.touch() if what == "file" else place.symlink_to(tmp_path / "nothing")
    message = (
        "is a file; choose another" if what == "file" else "which does not exist; make that folder first"
    )
    with (
        pytest.raises(ConfigError, match=f"^run directory {str(place)!r} .*{message}"),
        named_run(configured(place / "{n}"), overwrite=False),
    ):
        pass


@pytest.mark.parametrize("file", ["...toml", "..toml"])
def test_file_whose_name_is_a_place_does_not_name_the_run(tmp_path: Path, file: str) -> None:
    config = configured(tmp_path / "runs/{name}")
    with named_run(replace(config, file=file), overwrite=False) as named:
        assert named.fit["run_dir"] == str(tmp_path / "runs/run")
    document = {"model": {"name": "mine"}, "data": {"train": "digits"}}
    assert complete_config(document, Path(file)).fit["run_dir"] == "runs/run"


@pytest.mark.parametrize("run_dir", ["{name}", "{name}-{n}", "runs/\udcff"])
def test_name_that_no_configuration_can_hold_is_refused_before_anything_is_built(run_dir: str) -> None:
    config = replace(configured(run_dir), file=rb"configs/\udcff.toml".decode("unicode_escape"))
    with (
        pytest.raises(
            ConfigError, match="it must be UTF-8, as config.toml is; choose another with --run-dir"
        ),
        named_run(config, overwrite=False),
    ):
        pass


@pytest.mark.parametrize(
    ("run_dir", "overwrite", "message"),
    [
        ("runs/{n}/..", False, "which leads out of the folder that {n} numbers; leave out the .. after it"),
        ("runs/{n}/x/../../y", False, "which leads out of the folder that {n} numbers"),
        ("runs/{nam}", False, "where {nam} is not a placeholder; did you mean 'name'"),
        ("runs/{time}", False, "where {time} is not a placeholder; .*choose another with --run-dir"),
        ("runs/{}", False, "where {} is not a placeholder; the placeholders are {name}, {n}, {date}, {seed}"),
        ("runs/{n", False, "where { is not a placeholder"),
        ("runs/n}", False, "where } is not a placeholder"),
        ("runs/{n:03}", False, "where {n:03} is not a placeholder"),
        ("runs/{name/x}", False, "where { is not a placeholder"),
        ("{n}/{n}", False, "which numbers several folders; write {n} in one of them"),
        ("runs/{n}", True, "each run a directory of its own, .*; leave --overwrite out, or name the run"),
    ],
)
def test_pattern_that_cannot_be_used_is_told(run_dir: str, overwrite: bool, message: str) -> None:
    with (
        pytest.raises(ConfigError, match=re.escape(message).replace(r"\.\*", ".*")),
        named_run(configured(run_dir), overwrite),
    ):
        pass


def test_run_keeps_its_own_directory_and_resumes_there(small_folder: Path) -> None:
    pattern = f"run_dir={small_folder / '{name}-{n}'}"
    with small_registry():
        config = read_config(small_config(small_folder), [pattern])
        directories = [train(replace(config)).directory for _ in range(2)]
        assert [each.root.name[-2:] for each in directories] == ["-1", "-2"]
        assert read_config(directories[1].config).fit["run_dir"] == str(directories[1].root)
        resumed = resume(directories[0].root, ["num_epochs=5"])
    assert resumed.directory.root == directories[0].root


def test_overwrite_replaces_the_run_of_the_same_name(small_folder: Path) -> None:
    with small_registry():
        config = read_config(small_config(small_folder), [f"run_dir={small_folder / 'a-{seed}'}", "seed=5"])
        train(config)
        with pytest.raises(ConfigError, match="a-5 already holds a run"):
            train(config)
        assert train(config, overwrite=True).directory.root.name == "a-5"


def test_command_numbers_runs_and_a_dry_run_leaves_no_folder(tmp_path: Path) -> None:
    project = make_project("flowers", tmp_path)[0]
    for words in (["--dry-run"], ["--set", "num_epochs=1"]):
        arguments = ["train", "train.toml", "--run-dir", "runs/{name}-{n}", *words]
        done = run_program(f"from argus_core.cli import main; main({arguments!r})", folder=project)
        assert done.returncode == 0, done.stderr
        assert "runs/train-1" in done.stdout
        assert (project / "runs").exists() == ("--dry-run" not in words)


def test_command_numbers_a_run_when_nothing_that_takes_seconds_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal while torch is imported ends the process at once, and must leave no numbered folder."""
    project = make_project("flowers", tmp_path)[0]
    monkeypatch.chdir(project)
    seen = []

    def begin(config: Config, *_: object) -> None:
        seen.append(config.fit["run_dir"])
        assert not (project / "runs").exists()
        raise ConfigError("that is enough")

    monkeypatch.setattr(run, "train", begin)
    monkeypatch.setattr(sys, "path", [*sys.path])  # to which the command adds the folder of its parts
    try:
        with isolated_registry(builtins=True):
            result = CliRunner().invoke(main, ["train", "train.toml", "--run-dir", "runs/{name}-{n}"])
    finally:
        del sys.modules["parts"]
    assert "error: that is enough" in result.output
    assert seen == ["runs/{name}-{n}"]
