"""The board on which processes of one host agree; threads stand for processes here."""

from __future__ import annotations

import random
import time
from array import array
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest

from argus_core.errors import ConflictError
from argus_core.tensors.board import Board
from argus_core.tensors.clock import set_shared_time, shared_time

Wants = Callable[[int, int], bool]  # by rank and update


@pytest.fixture(autouse=True)
def own_clock() -> Iterator[None]:
    yield
    set_shared_time(None)


def boards(count: int, timeout: float = 10.0, lost: tuple[int, ...] = ()) -> list[Board]:
    words = memoryview(array("q", bytes(8 * Board.size_for(count))))
    made = [Board(words, rank, count, lambda each: each in lost, timeout) for rank in range(count)]
    for each in made:
        each.begin_run()
    return made


def run(board: Board, rank: int, wants: Wants, reduce: Callable[[], object], updates: int = 50) -> int:
    """Make updates until all end, or the data do; return how many."""
    for update in range(1, updates + 1):
        board.begin_update()
        reduce()
        if board.ends(wants(rank, update), False):
            return update
    board.end_data()
    return updates


def together(made: list[Board], wants: Wants, reduce: Callable[[], object], **options: Any) -> list[int]:
    with ThreadPoolExecutor(len(made)) as pool:
        running = [pool.submit(run, each, rank, wants, reduce, **options) for rank, each in enumerate(made)]
        return [each.result(20) for each in running]


@pytest.mark.parametrize(("ranks", "expected"), [((0, 1, 2), 3), ((0,), 4), ((2,), 4), ((0, 2), 4), ((), 50)])
def test_all_end_after_the_update_or_the_next_one(ranks: tuple[int, ...], expected: int) -> None:
    made = boards(3)
    barrier = Barrier(3)

    def wants(rank: int, update: int) -> bool:
        return rank in ranks and update >= 3

    assert together(made, wants, barrier.wait) == [expected] * 3


@pytest.mark.parametrize("seed", range(12))
def test_all_end_after_the_same_update_where_reductions_wait_for_nobody(seed: int) -> None:
    """As on an accelerator, where a process may prepare updates that others have not begun."""
    made, drawn = boards(3), random.Random(seed)
    first = {rank: drawn.randint(2, 30) for rank in range(3) if rank == 0 or drawn.random() < 0.5}

    def wants(rank: int, update: int) -> bool:
        return update >= first.get(rank, 99)

    ends = together(made, wants, lambda: time.sleep(drawn.random() / 2000))
    assert len({*ends}) == 1
    assert ends[0] >= min(first.values())


def test_a_wish_after_the_last_update_meets_the_end_of_the_data() -> None:
    made, barrier = boards(2), Barrier(2)
    assert together(made, lambda rank, update: rank == 1 and update == 5, barrier.wait, updates=5) == [5, 5]


def test_another_run_forgets_the_wishes_of_the_one_before() -> None:
    made, barrier = boards(2), Barrier(2)
    assert together(made, lambda rank, update: update == 2, barrier.wait) == [2, 2]
    for each in made:
        each.begin_run()
    assert together(made, lambda rank, update: False, barrier.wait, updates=4) == [4, 4]


def test_a_signal_in_one_process_is_known_to_all() -> None:
    made, barrier = boards(2), Barrier(2)

    def run_until_signal(rank: int) -> bool:
        for update in range(1, 9):
            made[rank].begin_update()
            barrier.wait()
            signalled = rank == 1 and update >= 2
            if made[rank].ends(signalled, signalled):
                break
        return made[rank].is_signalled

    with ThreadPoolExecutor(2) as pool:
        assert [*pool.map(run_until_signal, range(2))] == [True, True]


def test_data_that_end_earlier_in_one_process_are_an_error() -> None:
    made = boards(2)
    for each in made:
        each.begin_update()
    made[1].begin_update()
    with pytest.raises(ConflictError, match="the training loader has ended in 1 of 2 processes"):
        made[0].end_data()


def test_a_process_that_has_ended_is_not_waited_for() -> None:
    made = boards(2, lost=(1,))
    made[0].begin_update()
    with pytest.raises(RuntimeError, match="Connection closed by process 1"):
        made[0].ends(True, False)


def test_a_process_that_hangs_is_waited_for_until_the_timeout() -> None:
    made = boards(2, timeout=0.1)
    made[0].begin_update()
    with pytest.raises(RuntimeError, match=r"Timed out waiting 0\.1 s for process 1"):
        made[0].end_data()


def test_all_have_the_time_at_which_the_first_has_begun_the_update() -> None:
    made = boards(3)
    for _ in range(1500):  # the places for times are used again
        times = set()
        for each in made:
            each.begin_update()
            times.add(shared_time())
        assert len(times) == 1
    assert abs(times.pop() - time.monotonic()) < 5


def test_times_of_the_last_run_are_none_of_the_next() -> None:
    words = memoryview(bytearray(8 * Board.size_for(2))).cast("q")
    first = Board(words, 0, 2, lambda rank: False, 1.0)
    first.begin_run()
    first.begin_update()
    assert any(words[2:])
    first.begin_run()
    assert not any(words[2:])
