"""What works in one process is refused in several, before it does anything."""

from __future__ import annotations

import pytest
from networks import Net

import argus_core
from argus_core import Model
from argus_core.errors import ConfigError
from argus_core.tensors.single_process import check_single_process, started_processes


@pytest.mark.parametrize("count", [2, 64])
def test_a_command_for_one_process_is_refused_in_several(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setenv("WORLD_SIZE", str(count))
    assert started_processes() == count
    with pytest.raises(
        ConfigError, match=f"^argus test runs in {count} processes; it works in one; start it"
    ):
        check_single_process("argus test")


@pytest.mark.parametrize("text", ["", "0", "1", " ", "-2", "two", "²"])
def test_environment_of_one_process_or_of_another_program_trains(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("WORLD_SIZE", text)
    check_single_process("argus test")


def test_processes_that_cannot_meet_are_told_when_the_model_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for variable in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(variable, raising=False)
    with argus_core.isolated_registry(builtins=True):
        argus_core.register("nn_module", "net", Net)
        with pytest.raises(ConfigError, match="cannot meet the others at .* start all of them with torchrun"):
            Model({"nn_module": "net", "device": "cpu"})
