"""Two processes never train one run in one folder."""

from __future__ import annotations

import os
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from networks import Net, batches, make_model
from processes import running

import argus_core
from argus_core import Callback, State, on_epoch_complete, on_epoch_start
from argus_core.callbacks import Checkpoint, LoggingToCSV, LoggingToFile, MetricsJSONL
from argus_core.errors import CheckpointError, ConfigError, ConflictError
from argus_core.runs.directory import RunDirectory
from argus_core.storage import read_header

pytestmark = pytest.mark.usefixtures("net_registry")

TRAINED_ALREADY = "is being trained already, by another process or another fit; wait until that ends, or give"
WRITTEN_ALREADY = "is being written by another run; wait until that ends, or give {} another file_path"


class Wait(Callback):
    """Waits before the second epoch, until the other end of a connection is closed."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def epoch_start(self, state: State) -> None:
        if state.epoch == 1:
            self.connection.send(os.getpid())
            self.connection.poll(None)


def writers(folder: Path) -> list[Callback]:
    return [Checkpoint(folder, optimizer_state=True), MetricsJSONL(folder / "metrics.jsonl")]


def train(folder: Path, connection: Connection) -> None:
    argus_core.register("nn_module", "net", Net)  # the process is new
    make_model().fit(batches(), num_epochs=3, callbacks=[*writers(folder), Wait(connection)], seed=0)


def hold(folder: Path, connection: Connection) -> None:
    with RunDirectory(folder).held():
        connection.send(os.getpid())
        connection.poll(None)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_run_that_another_process_trains_is_refused_until_that_has_ended(tmp_path: Path) -> None:
    with running(train, tmp_path) as (_, connection):
        connection.recv()
        before = files(tmp_path)
        for callbacks, reason in (
            (writers(tmp_path)[:1], TRAINED_ALREADY),
            (writers(tmp_path), WRITTEN_ALREADY.format("metrics_jsonl")),
        ):
            with pytest.raises(ConflictError, match=reason):
                make_model().fit(batches(), num_epochs=3, callbacks=callbacks, resume=tmp_path)
        assert files(tmp_path) == before
    make_model().fit(batches(), num_epochs=3, callbacks=writers(tmp_path), resume=tmp_path)
    assert sorted(files(tmp_path)) == [
        "metrics.jsonl",
        *(f"model-00{epoch}.safetensors" for epoch in range(3)),
    ]
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize("writer", [LoggingToCSV, MetricsJSONL, LoggingToFile])
@pytest.mark.parametrize("argument", ["callbacks", "val_callbacks"])
def test_log_of_a_run_that_is_on_is_not_begun_again(tmp_path: Path, writer: Any, argument: str) -> None:
    path = tmp_path / "new" / "log"

    @on_epoch_complete
    def train_another(state: State) -> None:
        if state.epoch == 0:
            before = path.read_bytes()
            with pytest.raises(ConflictError, match=WRITTEN_ALREADY.format(writer.name)):
                make_model().fit(batches(), batches(), callbacks=[writer(path)])
            assert path.read_bytes() == before

    options: Any = {argument: [writer(path)]}
    if argument == "callbacks":
        options[argument].append(train_another)
    make_model().fit(batches(), batches(), 2, **({"callbacks": [train_another]} | options))
    make_model().fit(batches(), callbacks=[writer(path)])
    assert [*path.parent.iterdir()] == [path]


def test_two_runs_may_append_to_one_text(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"

    @on_epoch_complete
    def train_another(state: State) -> None:
        make_model().fit(batches(), callbacks=[LoggingToFile(path, append=True)])

    make_model().fit(batches(), callbacks=[LoggingToFile(path, append=True), train_another])
    assert path.read_text().count("train starts") == 2
    assert [*tmp_path.iterdir()] == [path]


def test_run_may_be_resumed_into_another_folder_while_it_is_on(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"

    @on_epoch_start
    def resume_elsewhere(state: State) -> None:
        if state.epoch == 1:
            make_model().fit(batches(), num_epochs=2, callbacks=writers(other), resume=one)

    make_model().fit(batches(), num_epochs=2, callbacks=[*writers(one), resume_elsewhere])
    ids = {read_header(folder / "model-001.safetensors").manifest["run"]["id"] for folder in (one, other)}
    assert len(ids) == 1


def test_other_runs_write_to_the_folder_as_well(tmp_path: Path) -> None:
    def of(name: str) -> Checkpoint:
        return Checkpoint(tmp_path, optimizer_state=True, file_format=f"{name}.safetensors")

    @on_epoch_complete
    def train_another(state: State) -> None:
        make_model().fit(batches(), callbacks=[of("b")])

    make_model().fit(batches(), callbacks=[of("a"), train_another])
    assert sorted(files(tmp_path)) == ["a.safetensors", "b.safetensors"]


def test_checkpoint_that_the_run_replaces_while_it_is_read_is_refused(tmp_path: Path) -> None:
    make_model().fit(batches(), num_epochs=2, callbacks=writers(tmp_path))
    first, second = (tmp_path / f"model-00{epoch}.safetensors" for epoch in range(2))
    argus_core.register("callback", "late", lambda: on_epoch_start(second.replace(first) and print))
    with pytest.raises(CheckpointError, match="model-000.safetensors was replaced after its header was read"):
        make_model().fit(batches(), num_epochs=3, callbacks=["late"], resume=first)


def test_fit_and_argus_train_never_write_to_one_run_directory_at_a_time(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    with directory.held():
        directory.versions.write_text('{"argus-torch": "0"}')
        directory.checkpoints.mkdir()
    in_run = Checkpoint(directory.checkpoints, optimizer_state=True)
    beside = Checkpoint(tmp_path / "more", every="2up", optimizer_state=True)

    @on_epoch_start
    def train_by_command(state: State) -> None:
        with pytest.raises(ConfigError, match="is in use by"), directory.held():
            pass

    with running(hold, tmp_path) as (_, connection):
        connection.recv()
        with pytest.raises(ConflictError, match=TRAINED_ALREADY):
            make_model().fit(batches(), callbacks=[in_run])
    make_model().fit(batches(), callbacks=[in_run, beside, train_by_command])
    assert not [*tmp_path.rglob(".*lock")]


def test_lock_of_another_process_that_came_by_its_name_stays(tmp_path: Path) -> None:
    @on_epoch_start
    def replace(state: State) -> None:
        (path,) = tmp_path.glob(f".{'?' * 32}.lock")
        path.unlink()
        path.write_text("another's")

    make_model().fit(batches(), callbacks=[*writers(tmp_path), replace])
    assert [path.read_text() for path in tmp_path.glob(".*.lock")] == ["another's"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_run_that_fails_leaves_no_lock(tmp_path: Path, error: Any) -> None:
    @on_epoch_complete
    def fail(state: State) -> None:
        raise error

    with pytest.raises(error):
        make_model().fit(batches(), callbacks=[*writers(tmp_path), fail])
    assert not [*tmp_path.glob(".*")]
