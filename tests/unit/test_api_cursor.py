"""Cursors of mirrors: text that comes back, and histories that do not fit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.contents.cursor import Cursor, InvalidCursor, OtherHistory
from iqdb_core.model import FeedState, Mark

FEED = FeedState(head_seq=10, before=Mark(3, "abc"), after=Mark(7, "def"))


def test_a_cursor_survives_formatting_and_parsing() -> None:
    assert Cursor.parse(None) == Cursor(0, None)
    assert Cursor.parse("5") == Cursor(5, None)
    assert Cursor.parse(Cursor(5, "abc").after(FEED, 8)) == Cursor(8, "def")
    assert Cursor.parse(Cursor(5, "abc").after(FEED, None)) == Cursor(5, "abc")
    assert Cursor.parse(Cursor(0, None).after(FeedState(0, None, None), None)) == Cursor(0, "0")


@given(st.text(max_size=30))
def test_other_text_is_refused(text: str) -> None:
    try:
        cursor = Cursor.parse(text)
    except InvalidCursor:
        return
    assert text in {str(cursor.seq), f"{cursor.seq}.{cursor.token}"} or text.startswith("0")


@pytest.mark.parametrize("text", ["9223372036854775808", "1.", "-1", "1.x y", "x", "1\n"])
def test_text_that_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(InvalidCursor):
        Cursor.parse(text)


@pytest.mark.parametrize("cursor", [Cursor(11, None), Cursor(5, "xyz"), Cursor(5, "0"), Cursor(11, "abc")])
def test_another_history_is_noticed(cursor: Cursor) -> None:
    with pytest.raises(OtherHistory):
        cursor.check(FEED)


@pytest.mark.parametrize("cursor", [Cursor(0, None), Cursor(0, "0"), Cursor(5, None), Cursor(5, "abc")])
def test_the_same_history_passes(cursor: Cursor) -> None:
    cursor.check(FEED)
