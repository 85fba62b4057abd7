"""Damage anywhere in a checkpoint is refused, by the name of the tensor or of the header with its manifest.

``tox run -e faults`` makes many more trials; docs/explanation/what-a-checkpoint-promises.md has its figures.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from numbered import load, numbered, run_of, save
from together import save_numbered

from argus_core import CorruptCheckpointError
from argus_core.storage import read_header

Trials = Callable[[int, int], int]
Record = Callable[[str, object], None]

HIDDEN = 4000
PAGE = 4096


class Patient:
    """A file of a checkpoint that is damaged for a moment, again and again.

    Args:
        path: of the checkpoint.
        file: the checkpoint itself, or a file in its folder.

    Attributes:
        size: of the file, in bytes.
        blamed: how often a header or a tensor was.
    """

    def __init__(self, path: Path, file: Path) -> None:
        self.size = file.stat().st_size
        self.blamed = Counter[str]()
        self._checkpoint, self._path = path, file
        self._data = file.read_bytes()
        self._header, self._tensors = self.size, {}
        if file.suffix == ".safetensors":
            header = read_header(file)
            self._header = start = header.payload_start
            self._tensors = {
                name: range(start + entry.start, start + entry.end) for name, entry in header.entries.items()
            }

    def places(self, count: int) -> Iterator[int]:
        """Return random places in the file, half of them in its header."""
        rng = random.Random(count)
        for index in range(count):
            in_header = index % 2 or self._header == self.size
            yield rng.randrange(self._header) if in_header else rng.randrange(self._header, self.size)

    def byte_at(self, place: int) -> int:
        return self._data[place]

    def refuses(self, start: int, new: bytes | None) -> None:
        """Check that other bytes from a place on, or none, are refused by the name of what was hit."""
        end = self.size if new is None else start + len(new)
        with self._damaged(start, new), pytest.raises(CorruptCheckpointError) as caught:
            load(self._checkpoint)
        if start < self._header and re.search("header|manifest", str(caught.value)):
            self.blamed["by the header"] += 1
            return
        hit = [name for name, place in self._tensors.items() if place.start < end and start < place.stop]
        assert any(f"tensor {name!r}" in str(caught.value) for name in hit)
        self.blamed["by a tensor's name"] += 1

    @contextmanager
    def _damaged(self, start: int, new: bytes | None) -> Iterator[None]:
        end = self.size if new is None else start + len(new)
        with self._path.open("rb+", buffering=0) as file:
            file.seek(start)
            if new is None:
                file.truncate()
            else:
                file.write(new)
            yield
            file.seek(start)
            file.write(self._data[start:end])

    def is_well(self) -> bool:
        return self._path.read_bytes() == self._data and run_of(self._checkpoint, HIDDEN) == 1


FILES = {
    "file": "model.safetensors",
    "first shard": "model.sharded/00000-of-00002.safetensors",
    "second shard": "model.sharded/00001-of-00002.safetensors",
    "folder's manifest": "model.sharded/manifest.json",
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a checkpoint in one file, and one of two shards that two processes wrote."""
    folder = tmp_path_factory.mktemp("saved")
    save(numbered(1, HIDDEN), folder / "model.safetensors")
    save_numbered(folder / "model.sharded", folder / "meeting", 2, run=1, hidden=HIDDEN)
    return folder


@pytest.fixture(params=FILES)
def patient(saved: Path, request: pytest.FixtureRequest) -> Patient:
    file = saved / FILES[request.param]
    return Patient(saved / file.relative_to(saved).parts[0], file)


Damage = Callable[[Patient, int, int], tuple[int, bytes | None]]


def flipped_bit(patient: Patient, index: int, place: int) -> tuple[int, bytes]:
    return place, bytes([patient.byte_at(place) ^ 1 << index // 2 % 8])


def truncation(patient: Patient, index: int, place: int) -> tuple[int, None]:
    return place, None


def zeroed_tail(patient: Patient, index: int, place: int) -> tuple[int, bytes]:
    start = min(place, patient.size - 4)  # the last byte of a number may be zero anyway
    return start, bytes(patient.size - start)


def zeroed_page(patient: Patient, index: int, place: int) -> tuple[int, bytes]:
    start = place - place % PAGE
    return start, bytes(min(PAGE, patient.size - start))


@pytest.mark.parametrize(
    ("name", "damage", "counts"),
    [
        ("flipped bits", flipped_bit, (120, 2000)),
        ("truncations", truncation, (60, 500)),
        ("zeroed tails", zeroed_tail, (60, 500)),
        ("zeroed pages", zeroed_page, (60, 500)),
    ],
)
def test_damage_is_refused_by_the_name_of_what_it_hit(
    name: str,
    damage: Damage,
    counts: tuple[int, int],
    patient: Patient,
    trials: Trials,
    record_property: Record,
    request: pytest.FixtureRequest,
) -> None:
    count = trials(*counts)
    for index, place in enumerate(patient.places(count)):
        patient.refuses(*damage(patient, index, place))
    assert patient.is_well()
    where = request.node.callspec.params["patient"]
    record_property(f"{name} in a {where}, {count}: all refused", dict(patient.blamed))
