"""Helping threads: all for a lone query, none for queries that run beside each other, none after closing."""

from __future__ import annotations

import threading

from iqdb_core.index.helpers import Helpers


def test_a_lone_query_gets_what_it_wants_up_to_all() -> None:
    helpers = Helpers(3)
    for wanted, expected in ((0, 0), (2, 2), (9, 3)):
        with helpers.claimed(wanted) as count:
            assert count == expected
    helpers.close()


def test_queries_beside_each_other_leave_each_other_a_core() -> None:
    helpers = Helpers(3)
    with helpers.claimed(9) as first, helpers.claimed(9) as second:
        assert (first, second) == (3, 0)
    with helpers.claimed(1) as first, helpers.claimed(9) as second, helpers.claimed(9) as third:
        assert (first, second, third) == (1, 2, 0)
    with helpers.claimed(9) as again:
        assert again == 3
    helpers.close()


def test_work_is_done_elsewhere_and_here_once_closed() -> None:
    helpers = Helpers(1)
    threads: list[int] = []
    with helpers.claimed(1):
        helpers.submit(lambda _: threads.append(threading.get_ident()), 1).result(10)
        assert threads != [threading.get_ident()]
        helpers.close()
        helpers.submit(lambda _: threads.append(threading.get_ident()), 1).result(0)
        assert threads[-1] == threading.get_ident()
    with helpers.claimed(1) as count:
        assert count == 0
    helpers.close()
