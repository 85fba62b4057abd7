"""Signals to the whole process group of a run whose loaders have workers: only the run heeds them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import PARAMS, Net
from processes import running
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

import argus_core
from argus_core.data.workers import leaving_signals
from argus_core.storage import read_header

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")

SAMPLES = 24
SECONDS = 60.0


class Samples(Dataset[Any]):
    """Signals the process group when a worker reads one of its samples."""

    def __init__(self, signum: int | None = None) -> None:
        self.signum = signum

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        if index == SAMPLES - 3 and self.signum is not None and get_worker_info() is not None:
            os.killpg(0, self.signum)
        return torch.full((4,), float(index)), index % 3


class Stream(IterableDataset[Any]):
    """The same without indices: torch's own order, which argus_core does not take over."""

    def __init__(self, signum: int | None = None) -> None:
        self.samples = Samples(signum)

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        part = range(SAMPLES) if worker is None else range(worker.id, SAMPLES, worker.num_workers)
        return map(self.samples.__getitem__, part)


class Holder:
    """Goes through a DataLoader that it holds."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        self.loader = loader

    def __iter__(self) -> Iterator[Any]:
        yield from self.loader


class OwnLoader(DataLoader[Any]):
    """A subclass, which argus_core leaves as it is."""


def signal_at_start(worker: int) -> None:
    """Signal the group while the other worker starts; a ``worker_init_fn`` of the user's own."""
    if worker == 0:
        os.killpg(0, signal.SIGTERM)


def loader(data: Any, kind: str = "ordinary", **options: Any) -> Any:
    if kind == "stream":
        data = Stream(data.signum)
    options.setdefault("multiprocessing_context", "fork")
    made = (OwnLoader if kind == "subclass" else DataLoader)(data, batch_size=4, num_workers=2, **options)
    return Holder(made) if kind == "holder" else made


def train(folder: Path, loaders: Any, connection: Connection | None = None) -> None:
    """Train in a process group of our own, that signals itself, and send who is in it."""
    os.setsid()
    output = os.open(folder / "output", os.O_CREAT | os.O_WRONLY)
    os.dup2(output, 1)
    os.dup2(output, 2)
    keep = ("checkpoint", {"dir_path": str(folder), "optimizer_state": True})
    params = {"nn_module": ("net", {}), "loss": "CrossEntropyLoss", "optimizer": ("SGD", {"lr": 0.1})}
    with argus_core.isolated_registry(builtins=True) as registry:
        registry.register("nn_module", "net", Net)
        argus_core.Model({**params, "device": "cpu"}).fit(*loaders(), num_epochs=1000, callbacks=[keep])


def living(group: int) -> list[int]:
    """Return the processes of a group that are not over."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, number = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:  # it has ended meanwhile
            continue
        if int(number) == group and state not in "ZX":
            found.append(int(stat.parent.name))
    return found


def wait_for_the_end_of(group: int) -> None:
    end = time.monotonic() + SECONDS
    while living(group):
        assert time.monotonic() < end
        time.sleep(0.05)


def in_training(signum: int, kind: str = "ordinary", **options: Any) -> tuple[Any, ...]:
    return (loader(Samples(signum), kind, **options),)


def in_validation(signum: int, **options: Any) -> tuple[Any, ...]:
    return loader(Samples(), **options), loader(Samples(signum), **options)


def while_workers_start(**options: Any) -> tuple[Any, ...]:
    return (loader(Samples(), worker_init_fn=signal_at_start, **options),)


CASES: dict[str, tuple[int, Any]] = {
    "SIGTERM in training": (signal.SIGTERM, lambda: in_training(signal.SIGTERM)),
    "SIGINT in training": (signal.SIGINT, lambda: in_training(signal.SIGINT)),
    "SIGHUP in training": (signal.SIGHUP, lambda: in_training(signal.SIGHUP)),
    "SIGUSR1 in training": (signal.SIGUSR1, lambda: in_training(signal.SIGUSR1)),
    "persistent workers": (signal.SIGTERM, lambda: in_training(signal.SIGTERM, persistent_workers=True)),
    "in validation": (signal.SIGTERM, lambda: in_validation(signal.SIGTERM)),
    "in validation, persistent": (
        signal.SIGTERM,
        lambda: in_validation(signal.SIGTERM, persistent_workers=True),
    ),
    "while workers start": (signal.SIGTERM, while_workers_start),
    "an iterable dataset": (signal.SIGTERM, lambda: in_training(signal.SIGTERM, "stream")),
    "a subclass of DataLoader": (signal.SIGTERM, lambda: in_training(signal.SIGTERM, "subclass")),
    "a loader in another object": (signal.SIGTERM, lambda: in_training(signal.SIGTERM, "holder")),
}


# A signal ends the server of forks, and its workers miss it only after torch's 5 seconds.
FORKSERVER = "workers of a forkserver"
CASES[FORKSERVER] = (
    signal.SIGTERM,
    lambda: in_training(signal.SIGTERM, multiprocessing_context="forkserver"),
)
# A worker that is still starting when the run has ended says that it misses its locks.
SPAWNED = "while workers start, spawned"
CASES[SPAWNED] = (signal.SIGTERM, lambda: while_workers_start(multiprocessing_context="spawn"))


def train_case(folder: Path, name: str, connection: Connection) -> None:
    train(folder, CASES[name][1])


@pytest.mark.parametrize("name", CASES)
def test_a_signal_to_the_process_group_ends_the_run_and_it_is_saved(name: str, tmp_path: Path) -> None:
    signum = CASES[name][0]
    with running(train_case, tmp_path, name) as (process, _):
        process.join(SECONDS)
        assert process.exitcode == (1 if signum == signal.SIGINT else 128 + signum)
        assert process.pid is not None
        if name == FORKSERVER:
            wait_for_the_end_of(process.pid)
        assert living(process.pid) == []
    output = (tmp_path / "output").read_text()
    assert "DataLoader worker" not in output
    assert output == "" or signum == signal.SIGINT or name in (FORKSERVER, SPAWNED)
    newest = max(tmp_path.glob("*.safetensors"), key=lambda path: path.stat().st_mtime)
    assert read_header(newest).manifest["progress"]["counters"]["global_step"] > 0


def train_without_end(folder: Path, connection: Connection) -> None:
    connection.send("ready")
    train(folder, lambda: (loader(Samples(), persistent_workers=True),))


def test_workers_end_when_the_run_is_killed(tmp_path: Path) -> None:
    with running(train_without_end, tmp_path) as (process, connection):
        assert connection.recv() == "ready"
        assert process.pid is not None
        while len(living(process.pid)) < 3 or not list(tmp_path.glob("*.safetensors")):
            time.sleep(0.05)
        process.kill()
        process.join(SECONDS)
        wait_for_the_end_of(process.pid)


def keep_workers_to_the_end(connection: Connection) -> None:
    """Leave a loader with persistent workers behind, whose workers nobody ends but the end of the process."""
    os.setsid()
    kept = loader(Samples(), persistent_workers=True)
    sys.modules["kept"] = kept
    with argus_core.isolated_registry(builtins=True) as registry:
        registry.register("nn_module", "net", Net)
        model = argus_core.Model({"nn_module": ("net", {}), "loss": "CrossEntropyLoss", "device": "cpu"})
        model.validate(kept)
        model.validate(kept)


def test_a_process_with_workers_left_ends_by_itself() -> None:
    with running(keep_workers_to_the_end) as (process, _):
        process.join(SECONDS)
        assert process.exitcode == 0
        assert process.pid is not None
        assert living(process.pid) == []


def note_handlers(worker: int) -> None:
    assert signal.getsignal(signal.SIGTERM) not in (signal.SIG_IGN, signal.SIG_DFL)
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_a_worker_calls_the_users_own_worker_init_fn_with_signals_unblocked() -> None:
    list(argus_core.data.order.ordered(loader(Samples(), worker_init_fn=note_handlers), 0, "train"))


def test_the_users_loader_has_its_own_worker_init_fn_again() -> None:
    given = loader(Samples(), "subclass", worker_init_fn=note_handlers)
    with argus_core.isolated_registry(builtins=True) as registry:
        registry.register("nn_module", "net", Net)
        model = argus_core.Model({"nn_module": ("net", {}), "loss": "CrossEntropyLoss", "device": "cpu"})
        model.validate(given)
    assert given.worker_init_fn is note_handlers


@pytest.mark.parametrize("dataset", [Samples, Stream])
def test_workers_end_with_the_run_or_the_validation(dataset: Any) -> None:
    @argus_core.on_iteration_complete
    def fail(state: Any) -> None:
        raise ZeroDivisionError

    def given(persistent: bool) -> Any:
        return DataLoader(dataset(), 4, num_workers=1, persistent_workers=persistent)

    before = set(multiprocessing.active_children())
    with argus_core.isolated_registry(builtins=True) as registry:
        registry.register("nn_module", "net", Net)
        model = argus_core.Model(PARAMS)
        model.fit(given(True), given(True))
        assert set(multiprocessing.active_children()) == before
        model.validate(given(True))
        assert set(multiprocessing.active_children()) == before
        with pytest.raises(ZeroDivisionError) as kept:
            model.fit(given(False), callbacks=[fail])
    assert kept.tb
    assert set(multiprocessing.active_children()) == before


def test_a_worker_init_fn_is_wrapped_once() -> None:
    wrapped = leaving_signals(None)
    assert leaving_signals(wrapped) is wrapped


class Hanging(Dataset[Any]):
    """Waits without end for a sample of the third batch, once it has said so."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        if index == 9:
            (self.folder / "hangs").touch()
            time.sleep(10 * SECONDS)
        return torch.full((4,), float(index)), index % 3


def train_with_a_hanging_dataset(
    folder: Path, phase: str, method: str | None, connection: Connection
) -> None:
    def loaders() -> tuple[Any, ...]:
        hanging: Any = DataLoader(Hanging(folder), batch_size=4)
        if method is not None:
            hanging = loader(Hanging(folder), multiprocessing_context=method)
        return (hanging,) if phase == "train" else (loader(Samples()), hanging)

    train(folder, loaders)


@pytest.mark.parametrize(
    ("phase", "method"),
    [("train", "fork"), ("train", "spawn"), ("val", "fork"), ("train", None), ("val", None)],
)
def test_a_signal_ends_a_run_that_waits_for_a_dataset_which_hangs(
    phase: str, method: str | None, tmp_path: Path
) -> None:
    with running(train_with_a_hanging_dataset, tmp_path, phase, method) as (process, _):
        wait_for(tmp_path / "hangs")
        time.sleep(1.0)  # until the batches before it are used up
        assert process.pid is not None
        os.kill(process.pid, signal.SIGTERM)
        wait_for(tmp_path / "model-000.safetensors")
        process.join(8)  # torch would wait 10 s for two workers that hang
        assert process.exitcode == 128 + signal.SIGTERM
    assert read_header(tmp_path / "model-000.safetensors").manifest["progress"]["counters"]["global_step"] > 0


def wait_for(path: Path) -> None:
    end = time.monotonic() + SECONDS
    while not path.exists():
        assert time.monotonic() < end
        time.sleep(0.05)
