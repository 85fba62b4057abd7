"""What a dataset holds shows its generators, and whether reading it changes anything."""

from __future__ import annotations

import functools
import itertools
import logging
import random
import re
import threading
from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy
import pytest
import torch
from torch.utils.data import Subset, TensorDataset

from argus_core.data.holdings import Holdings


def test_generators_are_found_wherever_they_are_held() -> None:
    own = [random.Random(), torch.Generator(), numpy.random.default_rng(), numpy.random.RandomState()]
    closure = (lambda held: lambda: held)(own[1])
    dataset = SimpleNamespace(
        a=own[0], transforms=[closure, functools.partial(print, own[2])], c={"d": own[3]}
    )
    found = Holdings(Subset(dataset, [0])).generators  # type: ignore[type-var]
    assert sorted(map(id, found)) == sorted(map(id, own))


OF_MODULE = numpy.random.default_rng()


def draw() -> float:
    return OF_MODULE.random()


class Slotted:
    __slots__ = ("held", "unset")

    def __init__(self, held: Any) -> None:
        self.held = held


class OfClass:
    held = random.Random()
    counts: ClassVar[list[int]] = [0]
    lock = staticmethod(max)

    def __init__(self) -> None:
        self.function = draw


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        (lambda own: Slotted(own), None),
        (lambda own: own.random, None),
        (lambda own: own.gauss, None),
        (lambda own: [own] + 200 * [0], None),
        (lambda own: dict.fromkeys(range(200), own), None),
        (lambda own: OfClass(), [OfClass.held, OF_MODULE]),
        (lambda own: lambda: draw(), [OF_MODULE]),
        (lambda own: lambda: [OF_MODULE.random() for _ in range(2)], [OF_MODULE]),
    ],
)
def test_generators_are_found_beyond_attributes(held: Any, expected: list[Any] | None) -> None:
    own = random.Random()
    found = Holdings(held(own))
    assert [*map(id, found.generators)] == [*map(id, [own] if expected is None else expected)]
    assert found.is_whole


@pytest.mark.parametrize("bits", ["PCG64", "MT19937", "Philox", "SFC64"])
def test_the_bits_beneath_a_generator_of_numpy_are_a_generator(bits: str) -> None:
    own = getattr(numpy.random, bits)()
    assert Holdings(SimpleNamespace(own=own)).generators == [own]


CHANGES: dict[str, tuple[Any, Any]] = {
    "a count": (lambda: SimpleNamespace(n=0), lambda held: setattr(held, "n", 1)),
    "a list": (lambda: SimpleNamespace(left=list(range(1000))), lambda held: held.left.pop()),
    "a queue": (lambda: SimpleNamespace(left=deque([1])), lambda held: held.left.clear()),
    "a cache": (lambda: SimpleNamespace(cache={}), lambda held: held.cache.update(a=1)),
    "a tensor": (lambda: SimpleNamespace(t=torch.zeros(2)), lambda held: held.t.add_(1)),
    "a new attribute": (SimpleNamespace, lambda held: setattr(held, "n", 1)),
    "a nested one": (
        lambda: SimpleNamespace(a=[SimpleNamespace(n=0)]),
        lambda held: setattr(held.a[0], "n", 1),
    ),
    "a slot": (lambda: Slotted(0), lambda held: setattr(held, "held", 1)),
    "an array": (lambda: SimpleNamespace(a=numpy.zeros(999)), lambda held: held.a.put(5, 1)),
    "a long list": (lambda: SimpleNamespace(a=[None] * 999), lambda held: held.a.__setitem__(5, 1)),
    "a long dict": (lambda: dict.fromkeys(range(999)), lambda held: held.update({5: 1})),
    "a list behind a method": (lambda: [1].append, lambda held: held(2)),
    "a class": (OfClass, lambda held: held.counts.append(1)),
    "a lost one": (lambda: SimpleNamespace(n=0), lambda held: delattr(held, "n")),
}


@pytest.mark.parametrize("name", CHANGES)
def test_changes_are_seen(name: str) -> None:
    make, change = CHANGES[name]
    held = make()
    before = Holdings(held)
    assert before.is_whole
    assert not Holdings(held).changed(before)
    change(held)
    assert Holdings(held).changed(before)


@pytest.mark.parametrize("held", [itertools.count(), threading.Lock(), iter([1])])
def test_objects_that_do_not_show_whether_they_change_are_known_as_such(held: Any) -> None:
    assert not Holdings(SimpleNamespace(held=[held])).is_whole


def test_ordinary_datasets_are_whole() -> None:
    paths = [Path("a"), Path("b")]
    tensors = TensorDataset(torch.zeros(3), torch.zeros(3))
    held = SimpleNamespace(
        paths=paths,
        tensors=tensors,
        array=numpy.zeros(3),
        function=max,
        module=random,
        network=torch.nn.ReLU(),
        logger=logging.getLogger(),
        pattern=re.compile("a"),
    )
    assert Holdings(held).is_whole


def test_circles_and_many_objects_end() -> None:
    circle = SimpleNamespace()
    circle.itself = circle
    assert Holdings(circle).is_whole
    many = SimpleNamespace(
        parts=[SimpleNamespace(parts=[SimpleNamespace() for _ in range(50)]) for _ in range(50)]
    )
    assert not Holdings(many).is_whole


def test_an_object_that_makes_up_attributes_is_not_asked_for_them() -> None:
    class Lazy:
        def __getattr__(self, name: str) -> object:
            raise RuntimeError(name)

    assert Holdings(Lazy()).is_whole
