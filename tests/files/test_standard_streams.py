"""Output that nobody reads any more ends, and the run does not."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from programs import run_program
from small_runs import small_config

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has other pipes")

RUN = """
import sys
import argus_core
from argus_core.cli import main
from networks import Net
from small_runs import points

argus_core.register("dataset", "points", points)
argus_core.register("nn_module", "net", Net)
argus_core.register("callback", "talkative", lambda: argus_core.on_epoch_complete(
    lambda state: print("x" * 100_000) or print("y" * 100_000, file=sys.stderr)))
"""
COMMAND = RUN + "main(sys.argv[1:])"
WITHOUT_TORCH = "from argus_core.cli import main; main()"
SCRIPT = (
    RUN
    + """
import logging
logging.basicConfig(filename="log.txt")
from small_runs import CONFIG
from argus_core.config import read_config
from argus_core.runs.run import build_model
from pathlib import Path
from torch.utils.data import DataLoader
model = build_model(read_config(Path("small.toml")))
model.fit(DataLoader(points(), 8), num_epochs=3, callbacks=[("progress", {"table": True})])
Path("done").touch()
"""
)

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "support"), "OMP_NUM_THREADS": "1"}


def closed_pipe() -> int:
    """Return the writing end of a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def vanished_terminal() -> int:
    """Return a terminal that has been closed, as a window is."""
    controller, terminal = os.openpty()
    os.close(controller)
    return terminal


def full_disk() -> int:
    return os.open("/dev/full", os.O_WRONLY)


def trained(folder: Path, stdout: int, stderr: int | None = None, callbacks: str = "talkative") -> Any:
    """Return how the command ended that trains."""
    options = ("small.toml", "--set", f"callbacks={callbacks}")
    return run_program(
        COMMAND, "train", *options, folder=folder, stdout=stdout, stderr=stderr, finalized=True
    )


def outcome(
    folder: Path, code: str, *args: str, stdout: int, stderr: int = subprocess.PIPE
) -> tuple[int, bytes]:
    done = subprocess.run(
        [sys.executable, "-c", code, *args],
        cwd=folder, stdout=stdout, stderr=stderr, env=ENVIRONMENT, check=False,
    )  # fmt: skip
    return done.returncode, done.stderr or b""


@pytest.mark.parametrize("output", [closed_pipe, vanished_terminal])
def test_command_trains_on_when_its_output_is_closed(tmp_path: Path, output: object) -> None:
    small_config(tmp_path)
    writer = output()  # type: ignore[operator]
    done = trained(tmp_path, writer)
    assert (done.returncode, done.stderr.replace("y", "").strip()) == (0, "")
    assert len((tmp_path / "run" / "metrics.jsonl").read_text("utf-8").splitlines()) == 3


def test_command_ends_as_it_would_have_when_both_streams_are_closed(tmp_path: Path) -> None:
    small_config(tmp_path)
    streams = {"stdout": closed_pipe(), "stderr": closed_pipe()}
    assert trained(tmp_path, **streams).returncode == 0
    assert outcome(tmp_path, WITHOUT_TORCH, "train", "small.toml", **streams)[0] == 1  # holds a run
    assert outcome(tmp_path, WITHOUT_TORCH, "trian", **streams)[0] == 2


def test_command_ends_as_it_would_have_when_its_streams_were_closed_before_it(tmp_path: Path) -> None:
    small_config(tmp_path)
    (tmp_path / "command.py").write_text(COMMAND, "utf-8")
    shell = f"exec '{sys.executable}' command.py train small.toml --set callbacks=talkative >&- 2>&-"
    assert subprocess.run(["sh", "-c", shell], cwd=tmp_path, env=ENVIRONMENT, check=False).returncode == 0
    assert len((tmp_path / "run" / "metrics.jsonl").read_text("utf-8").splitlines()) == 3


def test_output_to_a_full_disk_is_an_error_and_the_run_is_whole(tmp_path: Path) -> None:
    small_config(tmp_path)
    done = trained(tmp_path, full_disk(), callbacks="[]")
    reason = "error: the output cannot be written: No space left on device; write it elsewhere\n"
    assert (done.returncode, done.stderr) == (1, reason)
    assert len((tmp_path / "run" / "metrics.jsonl").read_text("utf-8").splitlines()) == 3
    assert outcome(tmp_path, WITHOUT_TORCH, "list", "metric", stdout=full_disk()) == (1, reason.encode())


@pytest.mark.parametrize("args", [("--help",), ("list",), ("list", "--json")])
def test_command_that_lists_has_nothing_to_say_to_a_closed_output(
    tmp_path: Path, args: tuple[str, ...]
) -> None:
    assert outcome(tmp_path, WITHOUT_TORCH, *args, stdout=closed_pipe()) == (0, b"")


@pytest.mark.parametrize("output", [closed_pipe, full_disk])
def test_script_trains_on_when_its_output_is_closed(tmp_path: Path, output: object) -> None:
    small_config(tmp_path)
    done = run_program(SCRIPT, folder=tmp_path, stdout=output(), finalized=True)  # type: ignore[operator]
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "done").exists()
    assert "standard output cannot be written: " in (tmp_path / "log.txt").read_text("utf-8")


def test_what_is_read_is_complete(tmp_path: Path) -> None:
    small_config(tmp_path)
    reader, writer = os.pipe()
    with ThreadPoolExecutor() as pool, open(reader) as pipe:
        read = pool.submit(pipe.read)
        assert trained(tmp_path, writer).returncode == 0
        os.close(writer)
        printed = read.result()
    assert printed.count("x") >= 300_000
    assert printed.rstrip().splitlines()[-1].startswith("best val_accuracy: ")


def test_stream_that_other_code_closes_stays_open_for_the_command(tmp_path: Path) -> None:
    done = run_program(
        "import sys\n"
        "from argus_core.files.standard_streams import lasting\n"
        "with lasting():\n"
        "    sys.stdout.close()\n"
        "    print('still there')\n"
        "print('and afterwards')",
        folder=tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split("\n")[:2] == ["still there", "and afterwards"]
