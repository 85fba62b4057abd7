"""Projects with parts of their own: ``argus init``, and the commands that import them."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from programs import run_program

from argus_core.cli import main
from argus_core.cli.building_command import BuildingCommand
from argus_core.errors import ConflictError, SpecError
from argus_core.scaffold.project import make_project

_ARGUS = "import sys; from argus_core.cli import main; main(sys.argv[1:])"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project("flowers", tmp_path)[0]


def test_every_command_of_the_readme_of_a_new_project_runs(tmp_path: Path) -> None:
    made = CliRunner().invoke(main, ["init", "flowers", "--directory", str(tmp_path)])
    assert made.exit_code == 0, made.output
    project = tmp_path / "flowers"
    block = (project / "README.md").read_text().partition("```sh\n")[2].partition("```")[0]
    commands = [shlex.split(line) for line in block.splitlines()]
    assert [words[:2] for words in commands[:2]] == [["argus", "train"]] * 2
    for words in commands:
        if words[0] == "argus":
            code = f"from argus_core.cli import main; main({words[1:]!r})"
        else:
            assert words[:3] == ["python", "-m", "pytest"]
            code = "import pytest; raise SystemExit(pytest.main(['-q', '-p', 'no:cacheprovider']))"
        done = run_program(code, folder=project)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
    assert (project / "predictions.csv").exists()


def test_new_project_is_whole_or_not_there(tmp_path: Path) -> None:
    make_project("flowers", tmp_path)
    with pytest.raises(ConflictError, match="exists already"):
        make_project("flowers", tmp_path)
    with pytest.raises(SpecError, match="'../flowers' cannot be the name of a project"):
        make_project("../flowers", tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["flowers"]


def test_spawned_workers_unpickle_what_the_parts_define(project: Path) -> None:
    code = f"import torch.multiprocessing as m; m.set_start_method('spawn'); {_ARGUS}"
    command = [
        sys.executable,
        "-c",
        code,
        "train",
        "train.toml",
        "--set",
        "num_workers=1",
        "--set",
        "num_epochs=1",
    ]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "best val_accuracy" in done.stdout


def test_commands_that_build_and_no_others_import_parts() -> None:
    context = click.Context(main)
    built_in = [name for name in main.list_commands(context) if name != "sweep"]
    building = {name for name in built_in if isinstance(main.get_command(context, name), BuildingCommand)}
    assert building == {"train", "resume", "test", "predict", "export", "convert", "explain", "summary"}


@pytest.mark.parametrize(
    "words", [["list", "--json"], ["plugins", "list"], ["inspect", "absent.safetensors"]]
)
def test_commands_that_list_and_inspect_import_no_parts(
    project: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    (project / "parts.py").write_text("raise RuntimeError('imported')")
    monkeypatch.chdir(project)
    assert "imported" not in CliRunner().invoke(main, words).output


def test_configuration_imports_no_parts(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["explain", "flowers/train.toml"])
    assert result.exit_code == 1
    assert "no nn_module named 'two_layers'" in result.output


def test_checkpoint_says_which_module_registered_a_missing_name(project: Path, tmp_path: Path) -> None:
    def argus(*words: str) -> subprocess.CompletedProcess[str]:
        return run_program(f"from argus_core.cli import main; main({list(words)!r})", folder=tmp_path)

    parts = ["--parts", "flowers/parts.py"]
    assert (
        argus("train", "flowers/train.toml", *parts, "--set", "num_epochs=1", "--run-dir", "run").returncode
        == 0
    )
    best = "run/checkpoints/best.safetensors"
    told = argus("summary", best)
    assert told.returncode == 1
    assert (
        "saved from parts:TwoLayers, which the module parts registered: --parts gives it to a command"
        in told.stderr
    )
    assert argus("summary", best, *parts).returncode == 0
    broken = argus("summary", best, "--parts", "flowers/part.py")
    assert broken.stderr.startswith(
        "error: 'flowers/part.py' of --parts does not exist; did you mean 'parts.py'"
    )
