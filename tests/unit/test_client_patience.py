"""When the client asks again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from iqdb_client.retrying import Patience


@given(st.integers(1, 50), st.floats(0, 100), st.none() | st.text(max_size=8) | st.floats().map(str))
def test_no_pause_leads_beyond_the_patience(tries: int, spent_s: float, retry_after: str | None) -> None:
    pause_s = Patience(60).pause_s(tries, spent_s, retry_after)
    if pause_s is not None:
        assert 0 < pause_s <= 60 - spent_s


def test_what_the_server_asks_for_is_the_least() -> None:
    assert (Patience(60).pause_s(1, 0, "7") or 0) >= 7
    assert Patience(60).pause_s(1, 54, "7") is None


def test_no_patience_never_repeats() -> None:
    assert Patience(0).pause_s(1, 0, None) is None
