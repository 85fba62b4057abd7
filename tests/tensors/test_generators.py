"""Generators keep their state, show that numbers were drawn, and start the stream of a seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy
import pytest
import torch

from argus_core.tensors import generators
from argus_core.tensors.generators import Source, global_sources, is_generator, source_of
from argus_core.tensors.rng import random_state, set_random_state

OWN: dict[str, tuple[Callable[[], Any], Callable[[Any], float]]] = {
    "torch": (torch.Generator, lambda own: torch.rand((), generator=own).item()),
    "Python": (random.Random, lambda own: own.random()),
    "numpy": (numpy.random.default_rng, lambda own: float(own.random())),
    "old numpy": (numpy.random.RandomState, lambda own: float(own.random_sample())),
}
GLOBAL: dict[str, Callable[[], float]] = {
    "torch": lambda: torch.rand(()).item(),
    "numpy": lambda: float(numpy.random.rand()),
    "Python": random.random,
}
GLOBAL_NORMAL: dict[str, Callable[[], float]] = {
    "torch": lambda: torch.randn((), dtype=torch.float64).item(),
    "numpy": lambda: float(numpy.random.randn()),
    "Python": lambda: random.gauss(0, 1),
}


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    state = random_state()
    yield
    set_random_state(state)


@pytest.fixture(params=["bytes", "states"])
def sources(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dict[str, Source]:
    """Return the global sources, as they are where bytes can be compared, and as they are where not."""
    if request.param == "states":
        monkeypatch.setattr(generators._GlobalNumpy, "is_known", lambda: False)
        monkeypatch.setattr(generators._GlobalPython, "is_known", lambda: False)
    return dict(zip(("torch", "numpy", "Python"), global_sources(), strict=True))


def drawn(draw: Callable[[], float], number: int = 3) -> list[float]:
    return [draw() for _ in range(number)]


@pytest.mark.parametrize("name", GLOBAL)
@pytest.mark.parametrize("draws", [GLOBAL, GLOBAL_NORMAL], ids=["uniform", "normal"])
@pytest.mark.parametrize("before", [0, 1])
def test_a_global_generator_shows_that_it_moved_and_comes_back(
    sources: dict[str, Source], name: str, draws: Any, before: int
) -> None:
    source, draw = sources[name], draws[name]
    drawn(draw, before)  # a second normal number may wait
    source.keep()
    assert not source.moved()
    expected = draw()
    assert source.moved()
    source.restore()
    assert draw() == expected
    source.restore()
    assert not source.moved()


@pytest.mark.parametrize("name", GLOBAL)
def test_a_seed_begins_a_stream_whatever_was_drawn_before(sources: dict[str, Source], name: str) -> None:
    source, draw = sources[name], GLOBAL_NORMAL[name]
    streams = []
    for before in (0, 1):
        drawn(draw, before)
        source.seed(2**63 + 12345)
        mark = source.peek()
        assert not source.differs(mark)
        streams.append(drawn(draw))
        assert source.differs(mark)
    assert streams[0] == streams[1]


def test_a_state_is_read_again_after_it_was_changed_elsewhere(sources: dict[str, Source]) -> None:
    for name, source in sources.items():
        source.keep()
        drawn(GLOBAL[name], 700)  # more than the words of a twister
        source.keep()
        expected = drawn(GLOBAL_NORMAL[name])
        source.restore()
        assert drawn(GLOBAL_NORMAL[name]) == expected


def test_torch_and_numpy_have_different_numbers_for_one_seed() -> None:
    of_torch, of_numpy, _ = global_sources()
    of_torch.seed(12345)
    of_numpy.seed(12345)
    assert abs(torch.rand((), dtype=torch.float64).item() - numpy.random.rand()) > 1e-6


@pytest.mark.parametrize("name", OWN)
def test_a_generator_of_ones_own_is_seeded_and_comes_back(name: str) -> None:
    make, draw = OWN[name]
    own = make()
    source, twin, other = source_of(own, 0), source_of(own, 0), source_of(own, 1)
    source.keep()
    first = draw(own)
    assert source.moved()
    source.restore()
    assert draw(own) == first
    streams = []
    for each in (source, twin, other):
        each.seed(77)
        streams.append([draw(own) for _ in range(3)])
    assert streams[0] == streams[1] != streams[2]


def test_a_function_in_the_place_of_random_random_leaves_the_other_functions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(random, "random", lambda: 0.5)
    source = global_sources()[2]
    source.keep()
    expected = random.gauss(0, 1)
    assert source.moved()
    source.restore()
    assert random.gauss(0, 1) == expected


def test_the_bytes_are_only_read_where_they_are_the_state(monkeypatch: pytest.MonkeyPatch) -> None:
    assert generators._GlobalPython.is_known()
    assert generators._GlobalNumpy.is_known()
    monkeypatch.setattr(generators.sys.implementation, "name", "pypy")
    assert not generators._GlobalPython.is_known()
    own = numpy.random.get_bit_generator()
    numpy.random.set_bit_generator(numpy.random.PCG64(0))
    try:
        assert not generators._GlobalNumpy.is_known()
    finally:
        numpy.random.set_bit_generator(own)


def test_the_systems_generator_has_no_state() -> None:
    assert is_generator(random.Random())
    assert not is_generator(random.SystemRandom())
