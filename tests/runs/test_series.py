"""Several runs in one process: one folder for their paths, and one signal that ends them all."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from argus_core import ConfigError
from argus_core.runs.directory import RunDirectory
from argus_core.runs.series import run_series
from argus_core.training.interruption import check_interruption


def test_relative_paths_are_taken_from_where_the_series_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    with run_series("argus sweep"):
        os.chdir("elsewhere")
        assert RunDirectory(Path("run")).root == tmp_path / "run"


def test_series_takes_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="argus sweep runs in 2 processes"), run_series("argus sweep"):
        pass


@pytest.mark.usefixtures("usual_signals")
def test_signal_between_two_runs_ends_the_series_with_its_exit_code() -> None:
    began: list[int] = []

    def two_runs() -> None:
        with run_series("argus sweep"):
            for number in range(2):
                check_interruption()
                began.append(number)
                os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit) as ended:
        two_runs()
    assert (began, ended.value.code) == ([0], 128 + signal.SIGTERM)
