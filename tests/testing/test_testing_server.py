"""Fresh processes know only argus_core, tell what went wrong, and end with whoever started them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from argus_core.testing import fresh_process
from argus_core.testing.fresh_process import SERVER, in_fresh_process, stream_from_fresh_process

# A distribution in a folder of its own, found by PYTHONPATH: the server sees it like any installed one.
PARTS = {
    "loss": {
        "hangs": "faulty.hangs:Loss",
        "crashes": "faulty.crashes:Loss",
        "exits": "faulty.exits:Loss",
        "prints": "faulty.prints:Loss",
    },
    "dataset": {"reads": "faulty.reads:data", "asks": "faulty.asks:data"},
}
MODULES = {
    "hangs": "import time\nwhile True:\n    time.sleep(0.1)\n",
    "crashes": "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n",
    "exits": "import os\nos._exit(0)\n",
    "prints": "print('noise')\nfrom torch.nn import MSELoss as Loss\n",
    "reads": (
        "import sys\nfrom torch.utils.data import TensorDataset\nimport torch\n"
        "def data(module):\n    return TensorDataset(torch.tensor([module in sys.modules]), torch.zeros(1))\n"
    ),
    "asks": "def data():\n    return input()\n",
}


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Make the distribution visible to a new server."""
    folder = tmp_path_factory.mktemp("faulty")
    (folder / "faulty").mkdir()
    (folder / "faulty/__init__.py").touch()
    for name, source in MODULES.items():
        (folder / f"faulty/{name}.py").write_text(source, "utf-8")
    metadata = folder / "faulty-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty\nVersion: 1.0\n", "utf-8")
    groups = (
        f"[argus_core.{kind}]\n" + "".join(f"{name} = {target}\n" for name, target in targets.items())
        for kind, targets in PARTS.items()
    )
    (metadata / "entry_points.txt").write_text("\n".join(groups), "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
        patch.setattr(fresh_process, "_servers", [])
        yield folder
        for server in fresh_process._servers:
            server.end()


def test_a_process_has_imported_no_plugin(faulty: Path) -> None:
    _, found = in_fresh_process("seeded_samples", ("faulty/reads", {"module": "argus_example"}), 1)
    assert found[0][0].item() is False
    _, found = in_fresh_process("seeded_samples", ("faulty/reads", {"module": "faulty.prints"}), 1)
    assert found[0][0].item() is False


def test_what_a_part_prints_does_not_mix_with_the_answer(faulty: Path) -> None:
    results = list(stream_from_fresh_process("part_results", "loss", "faulty/prints"))
    assert {result.state for result in results} == {"passed"}


def test_a_part_that_waits_for_input_gets_none(faulty: Path) -> None:
    with pytest.raises(AssertionError, match="in a process that imports only argus_core, .*EOFError"):
        in_fresh_process("seeded_samples", "faulty/asks", 1)


def test_a_part_that_hangs_in_its_import_is_told(faulty: Path) -> None:
    begun = time.monotonic()
    with pytest.raises(AssertionError, match="did not end within 3 seconds; look for an endless loop"):
        list(stream_from_fresh_process("part_results", "loss", "faulty/hangs", time_limit=3))
    assert time.monotonic() - begun < 30


@pytest.mark.parametrize("name", ["crashes", "exits"])
def test_a_part_that_ends_its_process_is_told(faulty: Path, name: str) -> None:
    with pytest.raises(
        AssertionError, match=r"its process ended without an answer; look for os._exit, a crash"
    ):
        list(stream_from_fresh_process("part_results", "loss", f"faulty/{name}"))


def test_the_next_request_is_answered_after_a_crash(faulty: Path) -> None:
    results = list(stream_from_fresh_process("part_results", "loss", "faulty/prints"))
    assert results[-1].check == "load in a fresh process"


def test_an_unknown_name_is_told() -> None:
    with pytest.raises(
        AssertionError, match="that imports only argus_core, it raised UnknownNameError: no dataset"
    ):
        in_fresh_process("seeded_samples", "nowhere", 1)


def test_what_cannot_be_sent_is_told() -> None:
    with pytest.raises(AssertionError, match=r"cannot be sent to another process \(.*\); use plain data"):
        in_fresh_process("seeded_samples", ("digits", {"split": lambda: "val"}), 1)


def test_tensors_come_back_as_they_were() -> None:
    length, samples = in_fresh_process("seeded_samples", ("digits", {"split": "all"}), 2)
    assert length == 1797
    assert samples[0][0].dtype is torch.float32


@pytest.fixture
def without_forks(faulty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fresh_process, "_CAN_FORK", False)


def test_where_nothing_forks_each_request_gets_a_program(without_forks: None) -> None:
    length, samples = in_fresh_process("seeded_samples", ("faulty/reads", {"module": "argus_example"}), 1)
    assert (length, samples[0][0].item()) == (1, False)


def test_a_program_that_ends_without_an_answer_is_told(without_forks: None) -> None:
    with pytest.raises(AssertionError, match=r"its process ended without an answer; look for os._exit"):
        list(stream_from_fresh_process("part_results", "loss", "faulty/exits"))


def test_a_program_that_takes_too_long_is_told(without_forks: None) -> None:
    with pytest.raises(AssertionError, match=r"did not end within 0\.5 seconds"):
        in_fresh_process("seeded_samples", "faulty/asks", 1, time_limit=0.5)


# Starts a server that only waits, says where it is, and ends in one way or another.
OWNER = """
import os, signal, sys
from argus_core.testing import fresh_process
fresh_process._PROGRAM = (
    "from argus_core.doctor.process import own_streams, write_message\\n"
    "orders, answers = own_streams()\\n"
    "write_message(answers, b'listening')\\n"
    "orders.read()"
)
fresh_process._address()
print(fresh_process._servers[0].process.pid, fresh_process._servers[0].folder, flush=True)
"""


def owner(program: str) -> tuple[int, int, Path]:
    """Return the exit status of a program that starts a server, the server's process and its folder."""
    environment = {name: value for name, value in os.environ.items() if name != SERVER}
    done = subprocess.run(
        [sys.executable, "-c", OWNER + program], capture_output=True, text=True, check=False, env=environment
    )
    process, folder = done.stdout.split(maxsplit=1)
    return done.returncode, int(process), Path(folder.strip())


def has_ended(process: int) -> bool:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_the_server_ends_with_a_process_that_is_killed() -> None:
    status, process, folder = owner("os.kill(os.getpid(), signal.SIGKILL)")
    assert status == -signal.SIGKILL
    assert has_ended(process)
    shutil.rmtree(folder)


def test_a_process_that_ends_takes_its_server_and_its_files_along() -> None:
    status, process, folder = owner("")
    assert status == 0
    assert has_ended(process)
    assert not folder.exists()


def test_a_fork_leaves_the_server_of_its_parent_alone() -> None:
    program = "child = os.fork()\nif child == 0:\n    sys.exit()\nos.waitpid(child, 0)\n"
    program += "assert fresh_process._servers[0].process.poll() is None"
    assert owner(program)[0] == 0


def test_a_server_that_cannot_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SERVER, raising=False)
    monkeypatch.setattr(fresh_process, "_servers", [])
    monkeypatch.setattr(fresh_process, "_PROGRAM", "raise SystemExit('no torch')")
    with pytest.raises(AssertionError, match="no fresh process can be started: no torch"):
        in_fresh_process("seeded_samples", "digits", 1)
