"""Hostile metadata: nothing waits or fills the memory, and all other packages are found."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import argus_core
from argus_core.doctor.declarations import copies, declarations
from argus_core.doctor.installation import examine
from argus_core.doctor.unreadable import unreadable
from argus_core.errors import ConfigError
from argus_core.registry import discovery
from argus_core.registry.component import BUILTIN
from argus_core.registry.discovery import Index, scan
from argus_core.registry.distributions import Installed, Problem, built_in, installed, version_of
from argus_core.registry.metadata import LARGEST, all_metadata
from argus_core.registry.pins import Pins, read_pins
from argus_core.registry.registry import Registry

pytestmark = [
    pytest.mark.torchfree,
    pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no FIFO"),
]

FOCAL = {"loss": {"focal": "medseg.losses:Focal"}}


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    """Fail a test that waits, such as for the other end of a FIFO."""

    def give_up(*_: object) -> None:
        raise AssertionError("it waits")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def make_socket(path: Path) -> None:
    before = Path.cwd()
    os.chdir(path.parent)  # the path of a socket may have a hundred bytes
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)
    os.chdir(before)


def make_sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**30)


SPECIAL: dict[str, tuple[Callable[[Path], Any], str]] = {
    "FIFO": (os.mkfifo, "is a FIFO; it must be an ordinary file"),
    "socket": (make_socket, "is a socket; it must be an ordinary file"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "is a device; it must be an ordinary file"),
    "link to itself": (lambda path: path.symlink_to(path.name), "cannot be read: "),
    "folder": (Path.mkdir, "is a directory; it must be an ordinary file"),
    "1 GiB": (make_sparse, "is larger than 1,024 KiB"),
}
CONTENT: dict[str, tuple[bytes, str]] = {
    "many lines": (b"[argus_core.loss]\n" + b"a = b:c\n" * (LARGEST // 8), "is larger than 1,024 KiB"),
    "long line": (b"[argus_core.loss]\na = " + b"b" * 100_000, "line 2 of entry_points.txt has 100,004 char"),
    "not UTF-8": (b"[argus_core.loss]\n\xff = b:c\n", "is not UTF-8 at byte 18"),
}


def put(distribution: Path, name: str, make: Callable[[Path], Any]) -> Path:
    """Put another file of metadata into a distribution that a test has made."""
    (info,) = distribution.glob("*.dist-info")
    (info / name).unlink(missing_ok=True)
    make(info / name)
    return info / name


def others(fake_distribution: Any) -> tuple[list[Installed], list[Problem]]:
    found = [*installed("argus_core.", fake_distribution.path)]
    return [each for each in found if isinstance(each, Installed)], [
        each for each in found if isinstance(each, Problem)
    ]


@pytest.mark.parametrize("filename", ["entry_points.txt", "METADATA"])
@pytest.mark.parametrize("kind", SPECIAL)
def test_file_that_is_not_ordinary_is_a_record_and_hides_nothing(
    fake_distribution: Any, kind: str, filename: str
) -> None:
    make, reason = SPECIAL[kind]
    fake_distribution("good", "1.0", FOCAL)
    put(fake_distribution("medseg", "2.1", FOCAL), filename, make)
    fake_distribution("fine", "1.0", FOCAL)
    found, (problem,) = others(fake_distribution)
    assert [each.name for each in found] == ["fine", "good"]
    assert problem.origin == "medseg"
    assert f"{filename} {reason}" in problem.reason
    assert version_of("good") == "1.0"


@pytest.mark.parametrize("kind", CONTENT)
def test_entry_points_that_are_too_much_or_no_text_are_a_record(fake_distribution: Any, kind: str) -> None:
    content, reason = CONTENT[kind]
    put(fake_distribution("medseg", "2.1"), "entry_points.txt", lambda path: path.write_bytes(content))
    fake_distribution("fine", "1.0", FOCAL)
    (fine,), (problem,) = others(fake_distribution)
    assert (fine.name, problem.origin) == ("fine", "medseg")
    assert reason in problem.reason
    assert len(problem.reason) < 200


@pytest.mark.parametrize(
    "header",
    [
        "Name: ../../medseg\nVersion: 1.0",
        "Name: med/seg\nVersion: 1.0",
        "Name: med\x1b[31mseg\nVersion: 1.0",
        "Name: medseg\nVersion: 1.0\x1b]0;title\x07",
        "Name: medseg\nVersion: 1.0 or so",
        f"Name: {'m' * 300}\nVersion: 1.0",
        f"Name: m{' ' * 1_000_000}m\nVersion: 1.0",
        "Name: médseg\nVersion: 1.0",
        "Name:\nVersion: 1.0",
    ],
)
def test_name_or_version_that_cannot_be_one_is_a_record(fake_distribution: Any, header: str) -> None:
    put(fake_distribution("medseg", "1.0", FOCAL), "METADATA", lambda path: path.write_text(header, "utf-8"))
    none, (problem,) = others(fake_distribution)
    assert none == []
    assert "METADATA " in problem.reason
    assert problem.reason.isprintable()


def test_metadata_in_the_name_of_another_package_declare_nothing(fake_distribution: Any) -> None:
    fake_distribution("medseg", "2.1", FOCAL)
    put(
        fake_distribution("stranger", "1.0", {"loss": {"focal": "stranger:Focal"}}),
        "METADATA",
        lambda path: path.write_text("Name: medseg\nVersion: 9.0\n"),
    )
    (medseg,), (problem,) = others(fake_distribution)
    assert medseg.version == "2.1"
    assert problem == Problem(
        "stranger",
        "its metadata cannot be read, the name is 'medseg' in METADATA, but 'stranger' in the folder",
        problem.folder,
    )


def test_an_archive_whose_entry_points_expand_to_much_is_a_record(tmp_path: Path) -> None:
    archive = tmp_path / "medseg.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("medseg-3.0.dist-info/METADATA", "Name: medseg\nVersion: 3.0\n")
        file.writestr("medseg-3.0.dist-info/entry_points.txt", b"[argus_core.loss]\n" + b"#" * 2**26)
    (problem,) = installed("argus_core.", [str(archive)])
    assert isinstance(problem, Problem)
    assert "entry_points.txt is larger than 1,024 KiB" in problem.reason


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_archive_that_python_does_not_import_from_is_a_record(tmp_path: Path, method: int) -> None:
    """A kilobyte of bzip2 may expand to gigabytes before any of it is handed over."""
    archive = tmp_path / "medseg.zip"
    with zipfile.ZipFile(archive, "w", method) as file:
        file.writestr("medseg-3.0.dist-info/METADATA", "Name: medseg\nVersion: 3.0\n")
        file.writestr("medseg-3.0.dist-info/entry_points.txt", b"[argus_core.loss]\n" + b"#" * 2**21)
    (problem,) = installed("argus_core.", [str(archive)])
    assert isinstance(problem, Problem)
    assert "compressed in a way that Python does not import from" in problem.reason


def peak_of(call: Callable[[], object]) -> int:
    """Return how many bytes a call takes at the most, beside what there was."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_an_archive_whose_table_of_contents_takes_much_is_a_record(tmp_path: Path) -> None:
    archive, size = tmp_path / "medseg.zip", 2**30
    with archive.open("wb") as file:
        file.truncate(size)
        file.seek(size)
        count = 2**16 - 2
        file.write(b"PK\5\6" + struct.pack("<4H2LH", 0, 0, count, count, size, 0, 0))
    assert peak_of(lambda: [*installed("argus_core.", [str(archive)])]) < 2**24
    (problem,) = installed("argus_core.", [str(archive)])
    assert problem == Problem(
        "medseg.zip",
        f"its metadata cannot be read, {archive} has a table of contents of more than 8 MiB",
        str(archive),
    )
    (fault,) = declarations([str(archive)])
    assert (fault.sort, fault.problem) == ("metadata", problem.reason)


def test_folders_in_an_archive_may_be_as_deep_as_names_are_long(
    fake_distribution: Any, tmp_path: Path
) -> None:
    fake_distribution("fine", "1.0", FOCAL)
    archive = tmp_path / "deep.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for index in range(10):
            file.writestr(f"{index}.dist-info" + "/a" * 30_000, "")
    path = [str(archive), *fake_distribution.path]
    assert peak_of(lambda: [*installed("argus_core.", path)]) < 2**25
    assert [each.name for each in installed("argus_core.", path) if isinstance(each, Installed)] == ["fine"]


def test_an_egg_that_is_an_archive_is_read(tmp_path: Path) -> None:
    archive = tmp_path / "medseg-3.0-py3.11.egg"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("EGG-INFO/PKG-INFO", "Name: medseg\nVersion: 3.0\n")
        file.writestr("EGG-INFO/entry_points.txt", "[argus_core.loss]\nfocal = medseg:Focal\n")
    (only,) = installed("argus_core.", [str(archive)])
    assert isinstance(only, Installed)
    assert (only.name, only.version) == ("medseg", "3.0")


@pytest.mark.parametrize("name", ["medseg.zip", "medseg.egg"])
def test_a_place_that_is_not_ordinary_is_passed_over(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    assert [*installed("argus_core.", [str(tmp_path / name)])] == []


def test_the_folders_of_a_pth_file_that_is_not_ordinary_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from argus_core.registry.distributions import notice_new

    monkeypatch.setattr("site.getsitepackages", lambda: [str(tmp_path)])
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    os.mkfifo(tmp_path / "a.pth")
    make_sparse(tmp_path / "b.pth")
    (tmp_path / "c.pth").write_text("source\na\0b\n")
    (tmp_path / "source").mkdir()
    notice_new()
    assert sys.path[-1] == str(tmp_path / "source")


# Who is argus-torch.


IMPOSTORS = ["argus-torch", "Argus_Torch", "argus.torch"]


def built_ins(index: Index) -> set[str | None]:
    return {each.version for each in index.components if each.provider == BUILTIN}


@pytest.mark.parametrize("entry_points", [None, {"loss": {"MSELoss": "stranger:Loss"}}])
@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("spelling", IMPOSTORS)
def test_another_distribution_of_that_name_does_not_hide_the_built_ins(
    fake_distribution: Any, spelling: str, place: str, entry_points: Any
) -> None:
    fake_distribution(spelling, "99.0", entry_points)
    path = [*fake_distribution.path, *sys.path] if place == "before" else [*sys.path, *fake_distribution.path]
    index = scan(path)
    assert Registry(index).resolve("loss", "MSELoss").target == "torch.nn:MSELoss"
    assert built_ins(index) == {version_of(BUILTIN)}
    assert version_of(BUILTIN) != "99.0"
    told = [fault for fault in copies(path) if fault.subject == BUILTIN]
    assert len(told) == 1
    assert "is not the package of argus_core: 99.0" in told[0].problem
    assert fake_distribution.path[0] in told[0].fix


@pytest.mark.parametrize("filename", ["entry_points.txt", "METADATA", "RECORD", "direct_url.json"])
@pytest.mark.parametrize("kind", SPECIAL)
def test_another_distribution_of_that_name_that_cannot_be_read_does_not_hide_them(
    fake_distribution: Any, kind: str, filename: str
) -> None:
    put(fake_distribution(BUILTIN, "99.0"), filename, SPECIAL[kind][0])
    assert built_ins(scan([*fake_distribution.path, *sys.path])) == {version_of(BUILTIN)}
    assert len([*copies([*fake_distribution.path, *sys.path])]) == 1


def test_direct_url_that_is_nested_without_end_says_nothing(fake_distribution: Any) -> None:
    put(
        fake_distribution(BUILTIN, "99.0"),
        "direct_url.json",
        lambda path: path.write_text("[" * 100_000),
    )
    assert built_ins(scan([*fake_distribution.path, *sys.path])) == {version_of(BUILTIN)}


def test_the_copy_beside_the_package_is_the_one_that_it_is_from(
    fake_distribution: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a wheel installs it, with another distribution of the name in the same folder."""
    site = tmp_path / "site-packages"
    (site / "argus_core").mkdir(parents=True)
    monkeypatch.setattr("argus_core.registry.distributions._PACKAGE", str((site / "argus_core").resolve()))
    for name, record in {
        "Argus.Torch-9": "stranger.py,,\n",
        "argus_torch-1": "argus_core/__init__.py,,\n",
    }.items():
        (site / f"{name}.dist-info").mkdir()
        (site / f"{name}.dist-info/RECORD").write_text(record)
    for path in ([str(site)], [*fake_distribution.path, str(site)]):
        own = built_in([*all_metadata(path)])
        assert own is not None
        assert Path(own.origin).name == "argus_torch-1.dist-info"


def test_the_same_distribution_found_twice_is_no_fault(fake_distribution: Any, tmp_path: Path) -> None:
    (own,) = [each for each in all_metadata() if each.key == BUILTIN][:1]
    copy = tmp_path / "again"
    copy.mkdir()
    (copy / "argus_torch-0.1.0.dist-info").mkdir()
    for name in ("METADATA", "entry_points.txt"):
        (copy / "argus_torch-0.1.0.dist-info" / name).write_text(own.text(name))
    assert [*copies([str(copy), *sys.path])] == []


def test_another_distribution_that_says_it_is_this_package_in_development_does_not_hide_them(
    fake_distribution: Any,
) -> None:
    fake = fake_distribution(BUILTIN, "99.0", {"loss": {"MSELoss": "stranger:Loss"}})
    source = Path(argus_core.__file__).resolve().parents[1].as_uri()
    url = f'{{"url": "{source}", "dir_info": {{"editable": true}}}}'
    put(fake, "direct_url.json", lambda path: path.write_text(url, "utf-8"))
    put(fake, "RECORD", lambda path: path.write_text("argus_core/__init__.py,,\n", "utf-8"))
    index = scan([*fake_distribution.path, *sys.path])
    assert Registry(index).resolve("loss", "MSELoss").target == "torch.nn:MSELoss"
    assert built_ins(index) == {version_of(BUILTIN)} != {"99.0"}


# Archives, which importlib.metadata reads.


def encrypted(data: bytes) -> bytes:
    return marked(data, 6, 8, b"\x01\x00")


def of_a_method_that_python_lacks(data: bytes) -> bytes:
    return marked(data, 8, 10, b"\x63\x00")


def marked(data: bytes, local: int, central: int, mark: bytes) -> bytes:
    """Return an archive with two bytes changed in what it says of each member, in both places."""
    for start, offset in ((b"PK\x03\x04", local), (b"PK\x01\x02", central)):
        first, *parts = data.split(start)
        data = first + b"".join(start + part[: offset - 4] + mark + part[offset - 2 :] for part in parts)
    return data


def pointing_nowhere(data: bytes) -> bytes:
    place = data.rindex(b"PK\x05\x06") + 16  # where the table of contents begins
    return data[:place] + b"\xff\xff\xff\x7f" + data[place + 4 :]


def damaged(data: bytes) -> bytes:
    return data.replace(b"Name: medseg", b"Name: medsig")


@pytest.mark.parametrize("suffix", [".zip", ".egg"])
@pytest.mark.parametrize(
    "spoil", [encrypted, of_a_method_that_python_lacks, pointing_nowhere, damaged, lambda data: data[:-30]]
)
def test_archive_that_cannot_be_read_hides_nothing(
    fake_distribution: Any, tmp_path: Path, spoil: Callable[[bytes], bytes], suffix: str
) -> None:
    fake_distribution("fine", "1.0", FOCAL)
    archive = tmp_path / f"medseg{suffix}"
    with zipfile.ZipFile(archive, "w") as file:
        folder = "EGG-INFO/PKG-INFO" if suffix == ".egg" else "medseg-1.0.dist-info/METADATA"
        file.writestr(folder, "Metadata-Version: 2.1\nName: medseg\nVersion: 1.0\n")
        file.writestr(f"{folder.partition('/')[0]}/entry_points.txt", "[argus_core.loss]\nevil = a:b\n")
    archive.write_bytes(spoil(archive.read_bytes()))
    path = [str(archive), *fake_distribution.path]
    found = [*installed("argus_core.", path)]
    assert [each.name for each in found if isinstance(each, Installed)] == ["fine"]
    for problem in (each for each in found if isinstance(each, Problem)):
        assert "cannot be read: " in problem.reason
        assert len(problem.reason) < 300


def test_names_in_an_archive_that_are_no_text_hide_nothing(fake_distribution: Any, tmp_path: Path) -> None:
    fake_distribution("fine", "1.0", FOCAL)
    with zipfile.ZipFile(tmp_path / "names.zip", "w") as file:
        for name in ("ev\u202eil-1.0", "x-\ufeff", "-", "."):
            file.writestr(f"{name}.dist-info/METADATA", "Name: ev\u202eil\nVersion: 1.0\n")
            file.writestr(f"{name}.dist-info/entry_points.txt", "[argus_core.loss]\nevil = a:b\n")
    found = [*installed("argus_core.", [str(tmp_path / "names.zip"), *fake_distribution.path])]
    assert [each.name for each in found if isinstance(each, Installed)] == ["fine"]


# The doctor.


@pytest.mark.parametrize("kind", ["FIFO", "socket", "device", "link to itself"])
def test_entry_points_that_python_would_wait_for_come_first(fake_distribution: Any, kind: str) -> None:
    file = put(fake_distribution("medseg", "2.1"), "entry_points.txt", SPECIAL[kind][0])
    fake_distribution("fine", "1.0", {"loss": {"of-this-test": "medseg.losses:Focal"}})
    report = examine({"medseg", "fine"}, 5.0, [*fake_distribution.path, *sys.path])
    (fault,) = report.faults
    assert (fault.sort, fault.providers) == ("unreadable", ("medseg",))
    assert "Python cannot read entry points, and torch cannot be imported" in fault.problem
    assert str(file) in fault.fix


@pytest.mark.parametrize("kind", ["folder", "1 GiB"])
def test_entry_points_that_python_passes_over_or_reads_are_told(fake_distribution: Any, kind: str) -> None:
    put(fake_distribution("medseg", "2.1"), "entry_points.txt", SPECIAL[kind][0])
    assert [*unreadable(fake_distribution.path)] == []
    (fault,) = declarations(fake_distribution.path)
    assert (fault.sort, fault.providers) == ("metadata", ("medseg",))
    assert SPECIAL[kind][1] in fault.problem


# Pins.


PINS: dict[str, tuple[bytes, str]] = {
    "nested": (b"[tool.argus]\nprefer = " + b"[" * 50_000, "it is nested too deeply"),
    "nested tables": (b"[tool.argus]\nprefer = " + b"{a=" * 50_000, "it is nested too deeply"),
    "long key": (b"[tool.argus.prefer]\n" + b".".join([b"a"] * 100_000) + b" = 1", "a key has 100,00"),
    "long quoted key": (b"[tool.argus.prefer]\n" + b'."a"' * 100_000 + b" = 1", "a key has 100,00"),
    "long header": (b"[tool.argus.prefer" + b".a" * 100_000 + b"]", "a key has 100,00"),
    "long key behind a string": (
        b'[tool.argus.prefer]\nk = { q = """ " """, ' + b".".join([b"a"] * 60_000) + b" = 1 }",
        "a key has 60,000 parts",
    ),
    "nested keys": (
        b"[tool.argus.prefer]\nk = " + b'{""%s = ' % (b'.""' * 14) * 60 + b"1" + b"}" * 60,
        "it is nested too deeply; correct it",
    ),
    "hexadecimal": (b'[tool.argus.prefer]\n"loss.focal" = 0x' + b"f" * 5000, "too long to show"),
    "long value": (b"[tool.argus.prefer]\nfocal = '" + b"x" * 100_000 + b"'", "100,002 characters"),
    "decimal": (b'[tool.argus.prefer]\n"loss.focal" = ' + b"9" * 5000, "is not TOML"),
    "NUL": (b"[tool.argus.prefer]\n\0", "is not TOML"),
    "quotes": (b"[tool.argus.prefer]\na = " + b'"\\' * 500_000, "is not TOML"),
}


@pytest.mark.parametrize("kind", PINS)
def test_pins_of_whatever_content_are_refused_in_a_sentence(fake_distribution: Any, kind: str) -> None:
    Path("pyproject.toml").write_bytes(PINS[kind][0])
    with pytest.raises(ConfigError, match=PINS[kind][1]) as caught:
        read_pins()
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("kind", [kind for kind in SPECIAL if kind != "folder"])
def test_pins_in_a_file_that_is_not_ordinary_are_refused(fake_distribution: Any, kind: str) -> None:
    Path("pyproject.toml").unlink()
    SPECIAL[kind][0](Path("pyproject.toml"))
    with pytest.raises(ConfigError, match=f"pyproject.toml {SPECIAL[kind][1]}.*; correct or remove it"):
        read_pins()


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to("absent")])
def test_a_folder_or_a_link_to_nothing_is_not_where_pins_are(
    fake_distribution: Any, make: Callable[[Path], Any]
) -> None:
    project = Path.cwd()
    (project / "pyproject.toml").write_text('[tool.argus.prefer]\n"loss.focal" = "medseg"\n')
    (project / "inner").mkdir()
    make(project / "inner/pyproject.toml")
    assert read_pins(project / "inner").path == project / "pyproject.toml"


def test_a_folder_that_was_deleted_has_no_pins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert read_pins() == Pins()


def test_what_is_installed_is_known_with_pins_that_cannot_be_read(
    scan_registry: Any, fake_distribution: Any
) -> None:
    fake_distribution("medseg", "2.1", FOCAL)
    Path("pyproject.toml").write_bytes(PINS["nested"][0])
    registry = scan_registry()
    assert [each.name for each in registry.components()] == ["focal"]
    assert argus_core.resolve("loss", "medseg/focal").provider == "medseg"
    with pytest.raises(ConfigError, match="it is nested too deeply; correct it"):
        argus_core.resolve("loss", "focal")


# The command.


@pytest.fixture
def hostile_site(fake_distribution: Any) -> list[str]:
    """A path with one package of each sort before all others, in a project with pins that cannot be read."""
    for index, (make, _) in enumerate(SPECIAL.values()):
        put(fake_distribution(f"bad{index}", "1.0", FOCAL), "entry_points.txt", make)
        put(fake_distribution(f"worse{index}", "1.0", FOCAL), "METADATA", make)
    put(fake_distribution(BUILTIN, "99.0"), "METADATA", os.mkfifo)
    Path("pyproject.toml").write_bytes(PINS["nested"][0])
    return list(fake_distribution.path)


def argus(path: list[str], *args: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    return subprocess.run(
        [sys.executable, "-m", "argus_core", *args],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_commands_that_look_work_whatever_is_installed(hostile_site: list[str]) -> None:
    assert "Print the version and exit." in argus(hostile_site, "--help").stdout
    assert argus(hostile_site, "--version").stdout == f"{BUILTIN} {version_of(BUILTIN)}\n"
    done = argus(hostile_site, "list")
    assert (done.returncode, done.stderr) == (0, "")
    assert "CrossEntropyLoss" in done.stdout
    assert "note: " in done.stdout
    assert "no checkpoint at nowhere" in argus(hostile_site, "inspect", "nowhere").stderr
    assert (
        "declarations left out; argus plugins doctor shows why"
        in argus(hostile_site, "plugins", "list").stdout
    )


def test_the_doctor_tells_each_of_them(hostile_site: list[str]) -> None:
    done = argus(hostile_site, "plugins", "doctor")
    assert (done.returncode, done.stderr) == (1, "")
    told = done.stdout
    for index in range(len(SPECIAL)):
        assert f"bad{index}" in told
        assert f"worse{index}" in told
    assert "has the same name, but is not the package of argus_core" in told
    assert "it is nested too deeply" in told


@pytest.mark.parametrize("kind", ["FIFO", "socket", "line without ="])
def test_a_command_that_needs_torch_says_in_a_sentence_what_is_in_its_way(
    fake_distribution: Any, kind: str
) -> None:
    make = (
        SPECIAL[kind][0] if kind in SPECIAL else lambda path: path.write_text("[console_scripts]\nmedseg\n")
    )
    put(fake_distribution("medseg", "2.1"), "entry_points.txt", make)
    done = argus(fake_distribution.path, "train", "nowhere.toml")
    assert done.returncode == 1
    assert done.stderr.startswith("error: entry_points.txt of medseg: ")
    assert "Python cannot read entry points, and torch cannot be imported; " in done.stderr
    assert done.stderr.count("\n") == 1


def test_strictness_raises_of_metadata_that_are_left_out(
    fake_distribution: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(fake_distribution("medseg", "2.1", FOCAL), "entry_points.txt", os.mkfifo)
    monkeypatch.setenv("ARGUS_STRICT_PLUGINS", "1")
    with pytest.raises(argus_core.BrokenPluginError, match="entry_points.txt is a FIFO"):
        discovery.scan(fake_distribution.path)
