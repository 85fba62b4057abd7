"""Damage anywhere in a checkpoint is refused, by the name of the tensor or of the header with its manifest.

``tox run -e faults`` makes many more trials; docs/explanation/what-a-checkpoint-promises.md has its figures.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from numbered import load, numbered, run_of, save

from argus_core import CorruptCheckpointError
from argus_core.storage import read_header

Trials = Callable[[int, int], int]
Record = Callable[[str, object], None]

HIDDEN = 4000
PAGE = 4096


class Patient:
    """A checkpoint that is damaged for a moment, again and again.

    Attributes:
        size: of the file, in bytes.
        blamed: how often a header or a tensor was.
    """

    def __init__(self, path: Path) -> None:
        header = read_header(path)
        self.size = path.stat().st_size
        self.blamed = Counter[str]()
        self._path = path
        self._data = path.read_bytes()
        self._header = header.payload_start
        self._tensors = {
            name: range(self._header + entry.start, self._header + entry.end)
            for name, entry in header.entries.items()
        }

    def places(self, count: int) -> Iterator[int]:
        """Return random places in the file, half of them in its header."""
        rng = random.Random(count)
        for index in range(count):
            yield rng.randrange(self._header) if index % 2 else rng.randrange(self._header, self.size)

    def byte_at(self, place: int) -> int:
        return self._data[place]

    def refuses(self, start: int, new: bytes | None) -> None:
        """Check that other bytes from a place on, or none, are refused by the name of what was hit."""
        end = self.size if new is None else start + len(new)
        with self._damaged(start, new), pytest.raises(CorruptCheckpointError) as caught:
            load(self._path)
        if start < self._header and "header" in str(caught.value):
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
        return self._path.read_bytes() == self._data and run_of(self._path, HIDDEN) == 1


@pytest.fixture
def patient(tmp_path: Path) -> Patient:
    save(numbered(1, HIDDEN), tmp_path / "model.safetensors")
    return Patient(tmp_path / "model.safetensors")


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
        ("flipped bits", flipped_bit, (200, 2000)),
        ("truncations", truncation, (100, 500)),
        ("zeroed tails", zeroed_tail, (100, 500)),
        ("zeroed pages", zeroed_page, (100, 500)),
    ],
)
def test_damage_is_refused_by_the_name_of_what_it_hit(
    name: str,
    damage: Damage,
    counts: tuple[int, int],
    patient: Patient,
    trials: Trials,
    record_property: Record,
) -> None:
    count = trials(*counts)
    for index, place in enumerate(patient.places(count)):
        patient.refuses(*damage(patient, index, place))
    assert patient.is_well()
    record_property(f"{name}, {count}: all refused", dict(patient.blamed))
