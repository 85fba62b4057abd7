"""A configuration that trains in a fraction of a second, and what the tests do with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy.engine import Engine

CONFIG = """
[model]
nn_module = ["cnn", {{ classes = 10, width = 4 }}]
loss = "CrossEntropyLoss"
optimizer = ["SGD", {{ lr = 0.1 }}]
device = "cpu"

[data]
train = ["digits", {{ split = "val" }}]
val = ["digits", {{ split = "test" }}]
batch_size = 128

[fit]
num_epochs = 2
metrics = ["accuracy"]
monitor = "val_accuracy"
seed = 0
num_threads = 1

[sweep]
trials = 3
{sweep}

[sweep.space]
{space}
"""
SPACE = '"optimizer.lr" = { low = 1e-3, high = 1.0, log = true }'

Write = Callable[..., Path]


@pytest.fixture(autouse=True, scope="session")
def _quick_databases() -> Iterator[None]:
    """Let SQLite not wait for the disk, which takes half of the time and matters in a power cut alone."""

    def connected(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA synchronous = OFF")

    sqlalchemy.event.listen(Engine, "connect", connected)
    yield
    sqlalchemy.event.remove(Engine, "connect", connected)


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Return a function that writes the configuration; the test works in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def write_config(space: str = SPACE, sweep: str = "", name: str = "digits.toml") -> Path:
        path = tmp_path / name
        path.write_text(CONFIG.format(space=space, sweep=sweep), encoding="utf-8")
        return Path(name)

    return write_config
