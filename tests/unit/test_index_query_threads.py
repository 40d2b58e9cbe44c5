"""Turns come in order and never too many at once; helpers are for a lone query, and gone after closing."""

from __future__ import annotations

import threading
from contextlib import ExitStack

import pytest

from iqdb_core.index.query_threads import QueryThreads
from tests.fixtures.waiting import wait_until


def test_a_single_query_gets_up_to_all_helpers() -> None:
    threads = QueryThreads(4, 3)
    for wanted, expected in ((0, 0), (2, 2), (9, 3)):
        with threads.turn(wanted) as count:
            assert count == expected
    threads.close()


def test_queries_beside_each_other_leave_each_other_a_core() -> None:
    threads = QueryThreads(4, 3)
    with threads.turn(9) as first, threads.turn(9) as second:
        assert (first, second) == (3, 0)
    with threads.turn(1) as first, threads.turn(9) as second, threads.turn(9) as third:
        assert (first, second, third) == (1, 1, 0)
    with threads.turn(9) as again:
        assert again == 3
    threads.close()


def test_work_is_done_elsewhere_and_here_once_closed() -> None:
    threads = QueryThreads(2, 1)
    seen: list[int] = []
    with threads.turn(1):
        threads.submit(lambda _: seen.append(threading.get_ident()), 1).result(10)
        assert seen != [threading.get_ident()]
        threads.close()
        threads.submit(lambda _: seen.append(threading.get_ident()), 1).result(0)
        assert seen[-1] == threading.get_ident()
    with threads.turn(1) as count:
        assert count == 0
    threads.close()


def test_waiting_queries_start_in_order() -> None:
    threads = QueryThreads(1, 0)
    called: list[int] = []
    waiting: list[threading.Thread] = []

    def ask(number: int) -> None:
        with threads.turn(0):
            called.append(number)

    with threads.turn(0):
        for number in range(8):
            waiting.append(threading.Thread(target=ask, args=(number,)))
            waiting[-1].start()
            wait_until(lambda: len(threads._waiting) == len(waiting), 30)
        assert called == []
    for thread in waiting:
        thread.join(10)
    assert called == list(range(8))


def test_never_more_at_once_than_there_are_turns() -> None:
    threads = QueryThreads(2, 0)
    lock = threading.Lock()
    now = most = 0

    def ask() -> None:
        nonlocal now, most
        for _ in range(200):
            with threads.turn(0):
                with lock:
                    now += 1
                    most = max(most, now)
                with lock:
                    now -= 1

    asking = [threading.Thread(target=ask) for _ in range(6)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join(30)
    assert (now, most <= 2) == (0, True)
    assert threads._running == 0


def test_a_query_that_fails_gives_its_turn_and_its_helpers_back() -> None:
    threads = QueryThreads(2, 1)
    with pytest.raises(LookupError), threads.turn(1):
        raise LookupError
    with ExitStack() as stack:
        assert [stack.enter_context(threads.turn(1)) for _ in range(2)] == [1, 0]
    threads.close()
