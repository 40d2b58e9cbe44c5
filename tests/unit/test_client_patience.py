"""When the client asks again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iqdb_client.retrying import Patience


@given(
    st.integers(1, 50) | st.integers(1000, 10**6),
    st.floats(0, 100),
    st.none() | st.text(max_size=8) | st.floats().map(str),
)
def test_no_pause_leads_beyond_the_patience(tries: int, spent_s: float, retry_after: str | None) -> None:
    pause_s = Patience(60).pause_s(tries, spent_s, retry_after)
    if pause_s is not None:
        assert 0 < pause_s <= 60 - spent_s


def test_what_the_server_asks_for_is_the_least() -> None:
    assert (Patience(60).pause_s(1, 0, "7") or 0) >= 7
    assert Patience(60).pause_s(1, 54, "7") is None


def test_no_patience_never_repeats() -> None:
    assert Patience(0).pause_s(1, 0, None) is None


@given(st.floats(0.01, 100))
def test_all_of_the_patience_is_used(total_s: float) -> None:
    """Whoever gave up as soon as the next pause is too long would give up after a third of it."""
    spent_s, tries = 0.0, 1
    while (pause_s := Patience(total_s).pause_s(tries, spent_s)) is not None:
        spent_s, tries = spent_s + pause_s, tries + 1
    assert spent_s == pytest.approx(total_s)
