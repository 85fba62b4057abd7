"""The doctor names every fault of a folder of bad plugins, each with its fix, and the good ones work."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import HAS_TORCH
from installed_plugins import install, is_like, plugins

from argus_core.doctor.declarations import pins
from argus_core.doctor.fault import SORTS, Fault
from argus_core.doctor.installation import Report, examine
from argus_core.doctor.isolation import Trials
from argus_core.registry.component import Component
from argus_core.registry.discovery import read_index

pytestmark = pytest.mark.torchfree


# Without torch there is no update either, and so no hook of one that could be wrong.
def _expected(pyproject: dict[str, Any]) -> list[dict[str, str]]:
    expected: list[dict[str, str]] = pyproject.get("tool", {}).get("expected", [])
    return expected


PLUGINS = {
    name: _expected(pyproject) for name, pyproject in plugins().items() if HAS_TORCH or "strateg" not in name
}
HANGING = {"bad-hang"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project") / "site-packages"
    folder.mkdir()
    for name in PLUGINS:
        install(name, folder)
    return folder


@pytest.fixture(scope="module")
def report(site: Path) -> Iterator[Report]:
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("ARGUS_PLUGINS", "ARGUS_DISABLE_PLUGINS", "ARGUS_STRICT_PLUGINS"):
            patch.delenv(variable, raising=False)
        (site.parent / "pyproject.toml").touch()
        patch.chdir(site.parent)
        path = [str(site), *sys.path]
        found = examine(set(PLUGINS) - HANGING, path=path)
        yield found._replace(faults=(*found.faults, *examine(HANGING, 4.0, path).faults))


def of(report: Report, name: str) -> list[Fault]:
    return [fault for fault in report.faults if name in (origin.split()[0] for origin in fault.providers)]


def is_expected(fault: Fault, expected: dict[str, str]) -> bool:
    return (fault.sort, fault.subject) == (expected["sort"], expected["subject"]) and all(
        is_like(getattr(fault, field), expected[field]) for field in ("problem", "fix")
    )


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    """Return whether a process has ended; one that nobody has waited for yet has."""
    done = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return not done.stdout.strip() or done.stdout.startswith("Z")


@pytest.mark.parametrize("name", PLUGINS)
def test_every_fault_of_a_plugin_is_named_with_its_fix_and_nothing_else(report: Report, name: str) -> None:
    faults = of(report, name)
    for expected in PLUGINS[name]:
        assert any(is_expected(fault, expected) for fault in faults), (expected, faults)
    assert len(faults) == len(PLUGINS[name]), faults


def test_every_sort_of_fault_is_in_the_folder_but_those_of_a_project_and_of_python_itself() -> None:
    sorts = {expected["sort"] for pyproject in plugins().values() for expected in _expected(pyproject)}
    assert sorts == SORTS.keys() - {"pin", "unreadable"}


def test_what_was_loaded_is_counted(report: Report) -> None:
    assert report.providers == len(PLUGINS) - len(HANGING) - 2  # of which no component is left
    assert report.components > report.providers


def test_what_cannot_be_told_without_building_is_a_note(report: Report) -> None:
    note = "step 'built' of good-strategy 1.0: its hooks are not checked: it is built by a function"
    assert (note in report.notes) == HAS_TORCH


def test_a_callback_whose_class_listens_to_nothing_is_a_note(
    alone: Callable[..., Report], fake_distribution: Any
) -> None:
    source = "from argus_core import Callback\nclass Deaf(Callback):\n    def show(self, trainer): ...\n"
    fake_distribution("medseg", "1.0", {"callback": {"unheard": "medseg:Deaf"}}, {"medseg": source})
    report = alone("medseg")
    assert report.faults == ()
    (note,) = report.notes
    assert note == (
        "callback 'unheard' of medseg 1.0: its hooks are not checked: "
        "its class has no method named after an event"
    )


def test_good_plugins_work_beside_the_bad_ones(site: Path) -> None:
    kinds = {"good-loss/good": "loss"} | ({"good-strategy/good": "step"} if HAS_TORCH else {})
    code = (
        "import os, argus_core\n"
        f"for name, kind in {kinds}.items():\n"
        "    assert argus_core.resolve(kind, name).load().__name__ == 'Part'\n"
        "    assert argus_core.resolve(kind, name.split('/')[1]).state == 'loaded'\n"
        "os.killpg(0, 9)\n"  # and what good-loss has started
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(site)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert done.returncode == -9, done.stderr.decode()


# Examined alone.


@pytest.fixture
def alone(site: Path, fake_distribution: Any) -> Callable[..., Report]:
    """Examine plugins of the folder, and those that the test has made, in a project of its own."""

    def examine_alone(*names: str, timeout: float = 60.0) -> Report:
        return examine(set(names), timeout, [*fake_distribution.path, str(site), *sys.path])

    return examine_alone


def write_entry_points(folder: Path, data: bytes) -> Path:
    """Put other entry points into a distribution that a test has made."""
    (file,) = folder.glob("*/entry_points.txt")
    file.write_bytes(data)
    return file


UNREADABLE = {
    "line without =": (
        b"[console_scripts]\n# a comment\nmedseg medseg:main\n",
        "line 3, 'medseg medseg:main', is not 'name = value'",
    ),
    "comment of another sort": (b"[console_scripts]\n; it is\n", "line 2, '; it is', is not 'name = value'"),
    "another encoding": (b"[argus_core.loss]\nf\xe4l = medseg:Focal\n", "line 2 is not UTF-8"),
    "UTF-16": ("[argus_core.loss]\n".encode("utf-16"), "line 1 is not UTF-8"),
}


@pytest.mark.parametrize("data", UNREADABLE)
@pytest.mark.parametrize("names", [(), ("good-loss",)])
def test_entry_points_at_which_python_fails_come_first_and_nothing_that_follows_from_them(
    alone: Callable[..., Report], fake_distribution: Any, names: tuple[str, ...], data: str
) -> None:
    file = write_entry_points(fake_distribution("medseg", "2.1"), UNREADABLE[data][0])
    with pytest.raises((TypeError, UnicodeDecodeError)):
        importlib.metadata.entry_points(group="torch.backends")  # as torch does when it is imported
    report = alone(*names)
    assert report.faults[0] == Fault(
        "unreadable",
        ("medseg",),
        "entry_points.txt",
        f"{UNREADABLE[data][1]}; because of it Python cannot read entry points, and torch cannot be imported",
        f"reinstall medseg, or correct {file}",
    )
    assert not of(report._replace(faults=report.faults[1:]), "medseg")
    assert not {"import", "crash", "hang", "entry point"} & {fault.sort for fault in report.faults}
    assert report.notes[-1].startswith("no component was loaded: ")
    assert (report.providers, report.components) == (0, 0)


def test_entry_points_of_a_copy_that_nobody_reads_stand_in_nobodys_way(
    alone: Callable[..., Report], fake_distribution: Any
) -> None:
    write_entry_points(fake_distribution("medseg", "2.1"), b"[console_scripts]\nmedseg\n")
    fake_distribution("medseg", "2.1")  # before it on the path
    assert alone("medseg").faults == ()


def test_nothing_that_a_plugin_starts_is_left(
    alone: Callable[..., Report], fake_distribution: Any, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    source = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(pids)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
        "time.sleep(600)\n"
    )
    fake_distribution("medseg", "1.0", {"loss": {"hanging": "medseg:Focal"}}, {"medseg": source})
    (fault,) = alone("medseg", timeout=3).faults
    assert (fault.sort, fault.subject) == ("hang", "loss 'hanging'")
    for number in pids.read_text().split():
        wait_until(functools.partial(is_gone, int(number)))


def test_a_doctor_that_is_killed_leaves_nothing(fake_distribution: Any, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    source = f"import os, time\nopen({str(pid)!r}, 'w').write(f'{{os.getpid()}}\\n')\ntime.sleep(600)\n"
    folder = fake_distribution("medseg", "1.0", {"loss": {"hanging": "medseg:Focal"}}, {"medseg": source})
    process = subprocess.Popen(
        [sys.executable, "-m", "argus_core", "plugins", "doctor", "--provider", "medseg"],
        env={**os.environ, "PYTHONPATH": str(folder)},
    )
    try:
        wait_until(lambda: pid.exists() and pid.read_text().endswith("\n"))
    finally:
        process.kill()
        process.wait()
    wait_until(lambda: is_gone(int(pid.read_text())))


def test_one_hang_is_waited_for_once_in_a_module(
    alone: Callable[..., Report], fake_distribution: Any
) -> None:
    names = dict.fromkeys("abcdefgh", "medseg:Focal")
    fake_distribution("medseg", "1.0", {"loss": names}, {"medseg": "import time\ntime.sleep(600)"})
    start = time.monotonic()
    assert len(alone("medseg", timeout=2).faults) == len(names)
    assert time.monotonic() - start < 2 * len(names)


def test_few_hangs_of_one_provider_are_waited_for(
    alone: Callable[..., Report], fake_distribution: Any
) -> None:
    modules = [f"medseg_{letter}" for letter in "abcdefgh"]
    names = {module: f"{module}:Focal" for module in modules}
    fake_distribution(
        "medseg", "1.0", {"loss": names}, dict.fromkeys(modules, "import time\ntime.sleep(600)")
    )
    report = alone("medseg", timeout=1)
    assert [fault.subject for fault in report.faults] == [f"loss {name!r}" for name in modules[:3]]
    why = "was not loaded, since 3 modules of its package hang"
    assert list(report.notes) == [f"loss {name!r} of medseg 1.0: {why}" for name in modules[3:]]


def test_provider_that_is_switched_off_is_noted_and_not_loaded(
    alone: Callable[..., Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARGUS_DISABLE_PLUGINS", "bad-exit")
    report = alone("bad-exit")
    assert report == Report(
        (),
        ("bad-exit 1.0 is switched off by ARGUS_DISABLE_PLUGINS; 1 of its components were not loaded",),
        0,
        0,
    )


def test_what_the_environment_names_in_vain_is_noted(
    alone: Callable[..., Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARGUS_DISABLE_PLUGINS", "good-lost")
    note = "ARGUS_DISABLE_PLUGINS has 'good-lost', which is not installed; did you mean 'good-loss'"
    assert alone("bad-exit").notes[0].startswith(note)


def test_strictness_does_not_keep_the_doctor_from_examining(
    alone: Callable[..., Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARGUS_STRICT_PLUGINS", "1")
    assert len(alone("bad-groups").faults) == len(PLUGINS["bad-groups"])


PINS = [
    ("loss.shared", "good-loss", None),
    (
        "loss.good",
        "absent-of-bad-plugins",
        "*to 'absent-of-bad-plugins', which is not installed",
    ),
    ("loss.good", "bad-rival", "*to 'bad-rival', which does not provide it in version 1.0"),
    ("loss.god", "good-loss", "*to 'good-loss', which does not provide it in version 1.0"),
    ("loss.leaving", "bad-exit", "loss 'leaving' of bad-exit 1.0 is switched off by ARGUS_DISABLE_PLUGINS"),
]


@pytest.mark.parametrize(("name", "provider", "problem"), PINS)
def test_pin_that_leads_nowhere_is_a_fault(
    site: Path,
    fake_distribution: Any,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    provider: str,
    problem: str | None,
) -> None:
    monkeypatch.setattr(sys, "path", [str(site), *sys.path])
    monkeypatch.setenv("ARGUS_DISABLE_PLUGINS", "bad-exit")
    path = Path("pyproject.toml").absolute()
    path.write_text(f'[tool.argus.prefer]\n"{name}" = "{provider}"\n', "utf-8")
    found = [*pins(read_index())]
    assert [fault.subject for fault in found] == ([f"pin of loss {name[5:]!r} in {path}"] if problem else [])
    assert all(is_like(fault.problem, problem or "") and fault.fix for fault in found)


def test_pins_that_cannot_be_read_are_a_fault_and_the_rest_is_examined(alone: Callable[..., Report]) -> None:
    Path("pyproject.toml").write_text("[tool.argus.prefer", "utf-8")
    report = examine((), 60.0, [])
    assert [(fault.sort, fault.subject) for fault in report.faults] == [("pin", "pyproject.toml")]
    assert "is not TOML" in report.faults[0].problem


def test_pin_ends_an_ambiguity(alone: Callable[..., Report]) -> None:
    Path("pyproject.toml").write_text('[tool.argus.prefer]\n"loss.shared" = "good-loss"\n', "utf-8")
    assert alone("bad-rival").faults == ()


def test_interpreter_that_does_not_start_is_told(
    alone: Callable[..., Report], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho no such interpreter >&2; exit 126\n", "utf-8")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    (fault,) = alone("bad-exit").faults
    assert fault.problem == "ends the process with status 126 when it is imported: no such interpreter"


def test_no_module_in_the_current_folder_is_run(
    alone: Callable[..., Report], fake_distribution: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_distribution("medseg", "1.0", {"loss": {"dice": "medseg:dice"}}, {"medseg": "dice = dict\n"})
    folder = tmp_path / "of a stranger"
    folder.mkdir()
    for name in {*sys.stdlib_module_names, "argus_core", "sitecustomize", "usercustomize"}:
        (folder / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w'); raise SystemExit")
    monkeypatch.chdir(folder)
    assert alone("medseg").faults == ()
    assert not (tmp_path / "ran").exists()


def test_trials_that_are_over_start_no_more() -> None:
    component = Component.declared("loss", "focal", ("medseg", "1.0"), "medseg:Focal")
    with Trials(sys.path, 60.0) as trials:
        pass
    assert [*trials.of([component])] == []
