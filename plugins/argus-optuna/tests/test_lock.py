from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from argus_core.errors import ArgusError
from argus_optuna.lock import Lock

HOLDER = """
import sys, pathlib
from argus_optuna.lock import Lock
lock = Lock(pathlib.Path(sys.argv[1]))
print(lock.acquire(), flush=True)
sys.stdin.read()
"""


def test_lock_is_held_by_one_and_given_back(tmp_path: Path) -> None:
    first, second = Lock(tmp_path / "lock"), Lock(tmp_path / "lock")
    assert first.acquire()
    assert not second.acquire()
    first.release()
    assert second.acquire()
    second.release()
    second.release()  # does no harm


def test_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        mine = Lock(tmp_path / "lock")
        assert not mine.acquire()
        process.kill()
        process.wait()
        assert mine.acquire()
        mine.release()


def test_folder_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ArgusError, match="cannot be locked: unable to open .*; choose another folder"):
        Lock(tmp_path / "nowhere" / "lock").acquire()


def test_file_of_something_else_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "lock").write_bytes(b"notes" * 1000)
    with pytest.raises(ArgusError, match="lock' cannot be locked: file is not a database; choose another"):
        Lock(tmp_path / "lock").acquire()
