"""Phases of a run of one process, and of one of several, which end each step together.

An engine of one process has `Alone`. With `Together` each process gets its slices of the loader's batches,
and all end after the same update: see `argus_core.tensors.board` and `argus_core.tensors.exchange`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from argus_core.abstract_model import AbstractModel
from argus_core.callbacks.state import State
from argus_core.data.order import OrderedLoader, Shortened
from argus_core.data.slices import Share, Silent
from argus_core.errors import ConflictError, ParamsError
from argus_core.parallel.ending import note_signal, noted_signal
from argus_core.steps.output import Window
from argus_core.tensors.board import Board
from argus_core.tensors.processes import gather
from argus_core.tensors.rng import key_seed, seed_all
from argus_core.tensors.watch import Watch
from argus_core.tensors.wholes import Whole
from argus_core.training.interruption import Interruption, check_interruption, received_signal
from argus_core.training.slicing import sliced
from argus_core.training.together import share_of
from argus_core.training.windows import windows_of

__all__ = ["Alone", "Together", "company_of"]

_Read = Callable[[Any], object]
_SIGTERM = 15


def company_of(state: State, loader: Any) -> Alone:
    """Return the way of a phase: alone, or together with other processes."""
    share = share_of(state.model)
    return Alone() if share is None else Together(state, loader, share)


class Alone:
    """A phase of a run of one process."""

    def windows(self, batches: Iterator[Any], size: int, most: int | None) -> Iterator[Any]:
        """Return the windows of ``size`` batches, at most so many."""
        return windows_of(batches, size, most)

    def reading(self, through: Sequence[_Read]) -> Sequence[_Read]:
        """Return the functions that the output of each step passes through."""
        return through

    def ends(self, state: State) -> bool:
        """Return whether the phase ends after this step.

        Raises:
            Interruption: a signal ends it.
        """
        check_interruption()
        return state.stopped

    def end_epoch(self, state: State) -> None:
        """Do what an epoch's end asks for."""


class Together(Alone):
    """A phase of a run of several processes.

    Args:
        state: of the phase.
        loader: of its batches.
        share: of this process.
    """

    def __init__(self, state: State, loader: Any, share: Share) -> None:
        model = state.model
        self._engine = model.parallel
        self._state = state
        self._share = share
        self._dim, self._count = model.batch_dim, model.batch_size
        if isinstance(loader, Shortened):
            loader = loader.loader
        self._is_read_sliced = isinstance(loader, OrderedLoader) and loader.is_sliced
        self._slices = not self._is_read_sliced and not _is_sharded(loader, model)
        self._loader = loader
        _check_sliceable(state.phase, loader, model)
        self._trains = state.phase == "train"
        self._watch = None if self._trains else self._engine.exchange.watch()
        self._is_planned = self._trains and (self._slices or self._is_read_sliced)
        self._board: Board | None = self._engine.exchange.board if self._is_planned else None

    def windows(self, batches: Iterator[Any], size: int, most: int | None) -> Iterator[Any]:
        for window in windows_of(batches, size, most):
            is_window = isinstance(window, Window)
            own = [self._own(batch) for batch in (window if is_window else (window,))]
            self._engine.silent = [is_silent for _, is_silent, _ in own]
            if self._share.rank:
                self._seed()
            if self._is_planned:
                self._engine.wholes = [whole for _, _, whole in own]
            if self._board is not None:
                self._board.begin_update()
            yield Window(batch for batch, _, _ in own) if is_window else own[0][0]
        if self._board is not None:
            self._board.end_data()
        elif self._watch is None:
            self._engine.exchange.end_data()
        else:
            self._end_watch(self._watch)
        if self._is_read_sliced:
            _check_order(self._state, self._loader)

    def reading(self, through: Sequence[_Read]) -> Sequence[_Read]:
        return [self._unless_silent(read) for read in through]

    def ends(self, state: State) -> bool:
        if self._watch is not None:
            if self._watch.after_batch(bool(_own_signal())):
                _interrupt()
            if state.stopped:
                self._end_watch(self._watch)
            return state.stopped
        exchange, signum = self._engine.exchange, _own_signal()
        if self._board is not None:
            is_over = self._board.ends(state.stopped or bool(signum), bool(signum))
            if is_over:
                _end(state, self._board)
            return is_over
        if exchange.is_last:
            is_over = True
        elif state.stopped or signum:
            is_over = exchange.all_stop(bool(signum))
        else:
            return False
        if is_over:
            _end(state, exchange)
        return is_over

    def end_epoch(self, state: State) -> None:
        if not self._trains:
            return
        exchange, signum = self._engine.exchange, _own_signal()
        if exchange.agree_to_stop(state.stopped or bool(signum) or exchange.is_last, bool(signum)):
            _end(state, exchange)

    def _end_watch(self, watch: Watch) -> None:
        if watch.end(bool(_own_signal())):
            _interrupt()

    def _own(self, batch: Any) -> tuple[Any, bool, Whole | None]:
        """Return the slice of this process, whether it is a copied sample, and facts about all slices."""
        if self._is_read_sliced:
            whole = self._loader.wholes.popleft()
            if self._dim is not None:
                whole = whole._replace(is_regular=False)
            return (batch.batch, True, whole) if isinstance(batch, Silent) else (batch, False, whole)
        if not self._slices:
            return batch, False, None
        return sliced(batch, self._count(batch), self._share, self._dim)

    def _seed(self) -> None:
        """Seed the generators again, so that a checkpoint of the first process is enough to resume from."""
        state, rank = self._state, self._share.rank
        seed_all(key_seed(state.engine.seed, "process", rank, state.phase, state.epoch, state.iteration))

    def _unless_silent(self, read: _Read) -> _Read:
        def read_own(output: Any) -> None:
            if not all(self._engine.silent):
                read(output)

        return read_own


def _check_order(state: State, loader: OrderedLoader) -> None:
    """Check that all processes have read slices of the same batches; each calls it at the end of an epoch.

    Raises:
        ConflictError: a sampler has drawn another order in one of them.
    """
    orders = gather(loader.fingerprint(state.epoch) or "", state.model.device)
    for rank, order in enumerate(orders):
        # A process that has read further ahead has the fingerprint of another number of batches.
        if order != orders[0] and order.partition(":")[0] == orders[0].partition(":")[0]:
            raise ConflictError(
                f"the order of {state.phase} epoch {state.epoch + 1} differs between process 0 and process "
                f"{rank}: {loader.changed_order()}; let it draw from torch's, numpy's or Python's own "
                "generator, or from a generator that it holds"
            )


def _is_sharded(loader: Any, model: AbstractModel) -> bool:
    """Return whether a loader gives each process its own part, as the user says of those without indices."""
    return bool(model.parallel.sharded_already) and not isinstance(loader, Sequence)


def _check_sliceable(phase: str, loader: Any, model: AbstractModel) -> None:
    """Raise for a loader that is neither sliced nor said to be sharded already.

    Raises:
        ParamsError: it is one.
    """
    if isinstance(loader, OrderedLoader | list | tuple) or _is_sharded(loader, model):
        return
    dataset = type(getattr(loader, "dataset", loader)).__name__
    raise ParamsError(
        f"the {phase} loader ({dataset}) has no indices of which each process could read its slice; give "
        'each process its own part and say so by parallel = ("ddp", {"sharded_already": True}), or give a '
        "DataLoader over a dataset with indices"
    )


def _end(state: State, exchange: Any) -> None:
    state.stopped = True
    if exchange.is_signalled:
        _interrupt()


def _interrupt() -> NoReturn:
    raise Interruption(received_signal() or noted_signal() or _SIGTERM)


def _own_signal() -> int:
    """Return the signal that has come to this process, or 0; the others learn which one it is."""
    signum = received_signal()
    if signum:
        note_signal(signum)
    return signum
