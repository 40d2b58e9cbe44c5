"""Who waits for changes, and who does so no longer: each is called once or never, and leaves nothing."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from iqdb_core.errors import IndexNotReady
from iqdb_core.follower import Follower
from iqdb_core.following import Waiter, Waiters, call_all
from iqdb_core.store import open_store
from tests.fixtures.stores import put
from tests.unit.test_follower import NEVER_S, DictSink

if TYPE_CHECKING:
    from pathlib import Path

    from iqdb_core.errors import IndexStateError


def test_withdrawn_waiters_take_no_memory(tmp_path: Path) -> None:
    """As while the store is away, or where it was put back and never comes so far."""
    store = open_store(str(tmp_path / "store.sqlite"))
    made = Follower(store, DictSink(), cursor=0, poll_s=NEVER_S)
    told: list[IndexStateError | None] = []
    made.when_applied(1, told.append)
    made.when_applied(2, told.append)
    for _ in range(1000):
        made.when_applied(10**6, told.append)()
    assert len(made._waiters) <= 5
    store.apply([put(1, 1)])
    made.catch_up()
    assert told == [None]
    made.stop()
    assert len(told) == 2
    assert isinstance(told[1], IndexNotReady)
    store.close()


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.integers(0, 8)),
            st.tuples(st.just("withdraw"), st.integers(0, 30)),
            st.tuples(st.just("take"), st.integers(0, 8)),
        ),
        max_size=60,
    )
)
def test_each_is_called_once_or_was_withdrawn(steps: list[tuple[str, int]]) -> None:
    def note(place: int, _: IndexStateError | None) -> None:
        called.append(place)

    waiters = Waiters()
    made: list[tuple[int, Waiter]] = []
    called: list[int] = []
    expected: list[int] = []
    waiting: set[int] = set()
    for kind, number in steps:
        if kind == "add":
            waiter = Waiter(partial(note, len(made)))
            waiting.add(len(made))
            made.append((number, waiter))
            waiters.add(number, waiter)
        elif kind == "withdraw" and made:
            place = number % len(made)
            waiting.discard(place)
            waiters.withdraw(made[place][1])
            assert len(waiters) <= 2 * len(waiting) + 1
        elif kind == "take":
            due = sorted((made[place][0], place) for place in waiting if made[place][0] <= number)
            expected += [place for _, place in due]
            waiting -= {place for _, place in due}
            call_all(waiters.take_up_to(number), None)
            assert called == expected
    call_all(waiters.take_all(), None)
    assert sorted(called) == sorted([*expected, *waiting])
    assert len(waiters) == 0
