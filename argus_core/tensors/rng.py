"""Random number generators: saving, restoring and seeding the state of every generator of a run."""

from __future__ import annotations

import random
import reprlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from hashlib import blake2b
from typing import Any

import numpy
import torch

from argus_core.storage.mismatch import fitting

__all__ = [
    "Generators",
    "check_random_state",
    "is_seed",
    "kept_random_state",
    "key_seed",
    "own_random_numbers",
    "random_state",
    "seed_all",
    "seeded",
    "set_random_state",
]

# Numbers that are drawn to check that they differ: more than the state of a generator holds.
_DRAWN = 1_300


def random_state() -> dict[str, Any]:
    """Return the state of the generators of Python, numpy, torch and each CUDA device, as plain data."""
    version, words, gauss = random.getstate()
    name, keys, *rest = numpy.random.get_state(legacy=True)
    state: dict[str, Any] = {
        "python": {"version": version, "words": torch.tensor(words), "gauss": gauss},
        "numpy": {"name": str(name), "keys": torch.tensor(list(map(int, keys))), "rest": rest},
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def check_random_state(state: dict[str, Any]) -> None:
    """Check a state from a file before `set_random_state` uses it.

    With an invalid position in its state, numpy reads out of bounds or crashes the process. From a generator
    that always returns one number, some distributions draw for ever.

    Raises:
        StateMismatchError: the state does not have that form.
    """
    with fitting("the generators of random numbers", "resume from another checkpoint"):
        python, of_numpy, of_torch = random.Random(), numpy.random.RandomState(), torch.Generator()
        python.setstate(_python_state(state["python"]))
        of_numpy.set_state(_numpy_state(state["numpy"]))
        of_torch.set_state(state["torch"])
        drawn = (
            [python.random() for _ in range(_DRAWN)],
            of_numpy.random_sample(_DRAWN).tolist(),
            torch.rand(_DRAWN, generator=of_torch).tolist(),
        )
        if any(len(set(numbers)) == 1 for numbers in drawn):
            raise ValueError("a generator gives one number for ever")


def set_random_state(state: dict[str, Any]) -> None:
    """Restore the state that `random_state` returned; CUDA devices that it lacks do not change.

    Raises:
        StateMismatchError: the state does not have that form.
    """
    with fitting("the generators of random numbers", "resume from another checkpoint"):
        random.setstate(_python_state(state["python"]))
        numpy.random.set_state(_numpy_state(state["numpy"]))
        torch.set_rng_state(state["torch"])
        if torch.cuda.is_available():
            for device, each in zip(range(torch.cuda.device_count()), state.get("cuda", ()), strict=False):
                torch.cuda.set_rng_state(each, device)


def _python_state(stored: dict[str, Any]) -> tuple[Any, ...]:
    gauss = stored["gauss"]
    if gauss is not None and type(gauss) is not float:
        raise ValueError(f"Python's next normal number is {reprlib.repr(gauss)}")
    return stored["version"], tuple(stored["words"].tolist()), gauss


def _numpy_state(stored: dict[str, Any]) -> tuple[Any, ...]:
    keys = stored["keys"].numpy().astype("uint32")
    position, has_gauss, gauss = stored["rest"]
    if type(position) is not int or not 0 <= position <= len(keys):
        raise ValueError(f"numpy's position is {reprlib.repr(position)} of {len(keys)}")
    return stored["name"], keys, position, has_gauss, gauss


def is_seed(value: object) -> bool:
    """Return whether a value is a seed that torch takes: an integer that fits into 64 bits."""
    return type(value) is int and -(2**63) <= value < 2**64


def key_seed(*key: Any) -> int:
    """Return a seed of 63 bits that depends on the key only."""
    return int.from_bytes(blake2b(repr(key).encode(), digest_size=8).digest(), "big") >> 1


def seed_all(seed: int) -> None:
    """Seed the generators of Python, numpy and torch's CPU generator; those of devices do not change."""
    random.seed(seed)
    numpy.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)


class Generators:
    """A snapshot of all generators' state, in their own form, for use in this process only."""

    def __init__(self) -> None:
        self._python = random.getstate()
        self._numpy = numpy.random.get_state()
        self._torch = _torch_states()

    def torch_was_used(self) -> bool:
        """Return whether the state of torch's generators has changed since the snapshot."""
        now = _torch_states()
        return len(now) != len(self._torch) or not all(map(torch.equal, now, self._torch))

    def restore(self) -> None:
        """Restore the state of all generators."""
        random.setstate(self._python)
        numpy.random.set_state(self._numpy)
        cpu, *devices = self._torch
        torch.set_rng_state(cpu)
        for index, state in enumerate(devices):
            torch.cuda.set_rng_state(state, index)


def _torch_states() -> list[torch.Tensor]:
    there = torch.cuda.is_available() and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if there else ())]


@contextmanager
def kept_random_state() -> Iterator[None]:
    """Restore the generators of Python, numpy and torch's CPU generator when the block ends."""
    states = random.getstate(), numpy.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        numpy.random.set_state(states[1])
        torch.set_rng_state(states[2])


@contextmanager
def own_random_numbers(seed: int) -> Iterator[None]:
    """Seed all generators, those of CUDA devices too, and restore their states when the block ends."""
    kept = Generators()
    seed_all(seed)
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(seed)
    try:
        yield
    finally:
        kept.restore()


@contextmanager
def seeded(generator: Any, seed: int) -> Iterator[None]:
    """Seed a random number generator, and restore its state when the block ends."""
    put_back: Callable[[Any], Any]
    if isinstance(generator, torch.Generator):
        state: Any = generator.get_state()
        generator.manual_seed(seed)
        put_back = generator.set_state
    elif isinstance(generator, random.Random):
        state = generator.getstate()
        generator.seed(seed)
        put_back = generator.setstate
    elif isinstance(generator, numpy.random.RandomState):
        state = generator.get_state()
        generator.seed(seed % 2**32)
        put_back = generator.set_state
    else:
        bits = getattr(generator, "bit_generator", generator)
        state = bits.state
        bits.state = type(bits)(seed).state
        put_back = partial(setattr, bits, "state")
    try:
        yield
    finally:
        put_back(state)
