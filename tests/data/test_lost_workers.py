"""A worker that is killed, or that ends, is named with the samples that it was reading."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
import torch
from networks import Net
from torch.utils.data import DataLoader, Dataset, IterableDataset

import argus_core
from argus_core.data.lost_workers import Sent
from argus_core.errors import ArgusError

pytestmark = [
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no such signals"),
    # torch opens files when it loses a connection, and its handler of SIGCHLD may raise while it does.
    pytest.mark.filterwarnings("ignore:unclosed file <_io.FileIO:ResourceWarning"),
    # Or in a callback of the garbage collector, of another pytest plugin.
    pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning"),
]


class Ending(Dataset[Any]):
    """Ends its process at one sample, by a signal or with an exit status."""

    def __init__(self, end: int, at: int = 13) -> None:
        self.end = end
        self.at = at

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> Any:
        if index == self.at and self.end > 0:
            os.kill(os.getpid(), self.end)
        if index == self.at:
            os._exit(-self.end)
        return torch.full((4,), float(index)), index % 3


class EndingStream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return map(Ending(signal.SIGKILL).__getitem__, range(40))


def fit(loader: Any, **more: Any) -> None:
    params = {"nn_module": ("net", {}), "loss": "CrossEntropyLoss", "optimizer": ("SGD", {"lr": 0.1})}
    with argus_core.isolated_registry(builtins=True) as registry:
        registry.register("nn_module", "net", Net)
        argus_core.Model({**params, "device": "cpu"}).fit(loader, seed=0, **more)


@pytest.mark.parametrize("persistent", [False, True])
def test_a_killed_worker_is_named_with_its_samples_and_its_likely_cause(persistent: bool) -> None:
    loader = DataLoader(Ending(signal.SIGKILL), 4, num_workers=2, persistent_workers=persistent)
    with pytest.raises(
        ArgusError,
        match="^worker 1 of the loader's 2 was killed by SIGKILL while it read the samples 12, 13, 14, 15; "
        r"if memory ran out, choose fewer workers \(num_workers\) or smaller batches$",
    ):
        fit(loader)
    fit(DataLoader(Ending(0, at=-1), 4, num_workers=1))  # torch does not raise for the lost worker again


def test_a_worker_that_ends_by_itself_is_named_with_its_exit_status() -> None:
    good = DataLoader(Ending(0, at=-1), 20)
    with pytest.raises(
        ArgusError,
        match="^worker 0 of the loader's 1 ended with exit status 3 while it read the samples 12, .*; choose",
    ):
        fit(good, val_loader=DataLoader(Ending(-3), 4, num_workers=1))


def test_a_worker_of_a_stream_is_named_too() -> None:
    with pytest.raises(ArgusError, match="^worker 0 of the loader's 1 was killed by SIGKILL; if memory"):
        fit(DataLoader(EndingStream(), 4, num_workers=1))


def test_only_the_batches_that_may_be_read_now_are_remembered() -> None:
    sent = Sent(2)
    for position in (0, 4, 8):
        sent.add(position, torch.arange(position, position + 4))
    assert [sent.at(position) for position in (0, 4, 8)] == [[], [4, 5, 6, 7], [8, 9, 10, 11]]
