"""Random number generators that code draws from: keeping their state, seeing them move, seeding them.

Seeding happens once a sample, and looking once a batch, so each class takes the cheapest way of its library.
Reading the state of a global generator takes 9 us in Python and 33 in numpy, and a copy of its bytes 0.7: so
the bytes are compared, and the state is read if they have changed. If the bytes are not at the expected
address, the state is read each time.
"""

from __future__ import annotations

import pickle
import random
import sys
from abc import ABC, abstractmethod
from ctypes import memmove, string_at
from typing import Any

import numpy
import torch

from argus_core.tensors.rng import key_seed

__all__ = ["Source", "global_sources", "is_generator", "source_of"]

_WORDS = 4 * 624  # bytes of a Mersenne Twister, besides the position in them
_SEEN = 32  # bytes of them that are compared: each seed, and each 624 draws, change all but the first 4


class Source(ABC):
    """An abstract generator that code may draw from.

    Args:
        generator: of a library.
        salt: keeps its numbers apart from those of another generator with the same seed.
    """

    _kept: Any

    def __init__(self, generator: Any, salt: int = 0) -> None:
        self._generator = generator
        self._salt = salt

    @abstractmethod
    def seed(self, seed: int) -> None:
        """Start the stream of numbers that ``seed``, of 64 bits, stands for."""

    @abstractmethod
    def get(self) -> Any:
        """Return the state."""

    @abstractmethod
    def put(self, state: Any) -> None:
        """Set a state that `get` returned."""

    def peek(self) -> Any:
        """Return a mark for `differs`; the generator has been seeded since numbers were drawn last."""
        return self.get()

    def differs(self, mark: Any) -> bool:
        """Return whether numbers were drawn since `peek` returned ``mark``."""
        return bool(self.get() != mark)

    def keep(self) -> None:
        """Remember the state, for `moved` and `restore`."""
        self._kept = self.get()

    def moved(self) -> bool:
        """Return whether numbers were drawn since `keep`."""
        return self.differs(self._kept)

    def restore(self) -> None:
        """Set the state that `keep` remembered."""
        self.put(self._kept)


class _Torch(Source):
    def seed(self, seed: int) -> None:
        self._generator.manual_seed(seed ^ self._salt)

    def get(self) -> torch.Tensor:
        state: torch.Tensor = self._generator.get_state()
        return state

    def put(self, state: torch.Tensor) -> None:
        self._generator.set_state(state)

    def differs(self, mark: torch.Tensor) -> bool:
        return _bytes_of(self._generator.get_state()) != _bytes_of(mark)  # torch.equal takes twice as long


class _Python(Source):
    def seed(self, seed: int) -> None:
        self._generator.seed(seed ^ self._salt)

    def get(self) -> Any:
        return self._generator.getstate()

    def put(self, state: Any) -> None:
        self._generator.setstate(state)

    def differs(self, mark: Any) -> bool:
        # A draw moves the position, which comes last; 624 of them change every word.
        _, words, normal = self._generator.getstate()
        return bool(words[-1] != mark[1][-1] or words[0] != mark[1][0] or normal != mark[2])


class _Numpy(Source):
    """A generator that a program made with ``default_rng`` or ``RandomState``, or the bits beneath one."""

    def __init__(self, generator: Any, salt: int = 0) -> None:
        super().__init__(generator, salt)
        self._bits = getattr(generator, "bit_generator", generator)

    def seed(self, seed: int) -> None:
        if isinstance(self._generator, numpy.random.RandomState):
            self._generator.seed((seed ^ self._salt) >> 32)
        else:
            self._bits.state = type(self._bits)(seed ^ self._salt).state

    def get(self) -> Any:
        if isinstance(self._generator, numpy.random.RandomState):
            return self._generator.get_state(legacy=False)
        return self._bits.state

    def put(self, state: Any) -> None:
        if isinstance(self._generator, numpy.random.RandomState):
            self._generator.set_state(state)
        else:
            self._bits.state = state

    def differs(self, mark: Any) -> bool:
        return pickle.dumps(self.get()) != pickle.dumps(mark)


class _Twister(Source):
    """An abstract global generator, a Mersenne Twister whose bytes are read where its library holds them."""

    _address: int
    _mark: Any = None  # of the state that was kept last

    def state_bytes(self) -> bytes:
        """Return all bytes of the state."""
        return string_at(self._address, _WORDS + 4)

    def differs(self, mark: Any) -> bool:
        return bool(self.peek() != mark)

    def keep(self) -> None:
        now = self.peek()
        if now != self._mark:
            self._mark, self._kept = now, self.get()

    def moved(self) -> bool:
        return self.differs(self._mark)


class _GlobalPython(_Twister, _Python):
    """The generator behind the functions of `random`."""

    def __init__(self) -> None:
        super().__init__(random.random.__self__)  # type: ignore[attr-defined]
        self._address = id(self._generator) + object.__basicsize__
        self._seed = super(random.Random, self._generator).seed  # type: ignore[misc]  # spares a function in Python

    def seed(self, seed: int) -> None:
        self._seed(seed)
        self._generator.gauss_next = None

    def peek(self) -> Any:
        return string_at(self._address, 4 + _SEEN), self._generator.gauss_next

    @staticmethod
    def is_known() -> bool:
        """Return whether the bytes of the object are its state, as every CPython lays it out."""
        own = getattr(random.random, "__self__", None)  # a program may have put a function of its own there
        is_long_enough = random.Random.__basicsize__ >= object.__basicsize__ + _WORDS + 4
        if sys.implementation.name != "cpython" or type(own) is not random.Random or not is_long_enough:
            return False
        _, (*words, position), _ = random.getstate()
        expected = position.to_bytes(4, sys.byteorder) + numpy.array(words, numpy.uint32).tobytes()
        return bool(_GlobalPython().state_bytes() == expected)


class _GlobalNumpy(_Twister):
    """The generator behind the functions of `numpy.random`, at the address that numpy gives for such use."""

    def __init__(self) -> None:
        super().__init__(numpy.random.mtrand.get_bit_generator())
        self._address = self._generator.ctypes.state_address

    def seed(self, seed: int) -> None:
        numpy.random.seed(seed >> 32)  # torch takes the lower bits, for the same algorithm

    def get(self) -> Any:
        return numpy.random.get_state()

    def put(self, state: Any) -> None:
        numpy.random.set_state(state)

    def peek(self) -> Any:
        return string_at(self._address, _SEEN), string_at(self._address + _WORDS, 4)

    # The bytes do not tell whether a second normal number waits to be used. If none waits, none can come
    # while the bytes stay as they are.

    def keep(self) -> None:
        now = self.peek()
        if now != self._mark or self._kept[3]:
            self._mark, self._kept, self._bytes = now, self.get(), self.state_bytes()

    def moved(self) -> bool:
        return super().moved() or bool(self._kept[3] and not self.get()[3])

    def restore(self) -> None:
        if self._kept[3]:
            super().restore()
        else:
            numpy.random.seed(0)  # forgets a normal number that waits
            memmove(self._address, self._bytes, len(self._bytes))

    @staticmethod
    def is_known() -> bool:
        """Return whether the bytes at the address are the state, as numpy 1.17 to 2 lay it out."""
        state: Any = numpy.random.get_state(legacy=False)
        if state["bit_generator"] != "MT19937":
            return False
        key, position = state["state"]["key"], state["state"]["pos"]
        return bool(_GlobalNumpy().state_bytes() == key.tobytes() + position.to_bytes(4, sys.byteorder))


def global_sources() -> list[Source]:
    """Return the generators of Python and numpy, and torch's for the CPU, that libraries draw from."""
    return [
        _Torch(torch.default_generator),
        _GlobalNumpy() if _GlobalNumpy.is_known() else _Numpy(numpy.random.mtrand._rand),
        _GlobalPython() if _GlobalPython.is_known() else _Python(random),
    ]


def source_of(generator: Any, number: int) -> Source:
    """Return the source of a generator that `is_generator` accepts, the ``number``-th of its owner."""
    salt = key_seed("generator", number) << 1
    if isinstance(generator, torch.Generator):
        return _Torch(generator, salt)
    return (_Python if isinstance(generator, random.Random) else _Numpy)(generator, salt)


def is_generator(value: object) -> bool:
    """Return whether a value is a random number generator of Python, numpy or torch that has a state."""
    # numpy imports its generators on first access, which takes 2 MB: only a run needs them.
    numpys = numpy.random.Generator, numpy.random.RandomState, numpy.random.BitGenerator
    return isinstance(value, (torch.Generator, random.Random, *numpys)) and not isinstance(
        value, random.SystemRandom
    )


def _bytes_of(state: torch.Tensor) -> bytes:
    return string_at(state.data_ptr(), state.numel())
