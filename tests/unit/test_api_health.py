"""Reasons for the public: no paths, no addresses, nothing quoted."""

from __future__ import annotations

import pytest

from api.search.health import public_text, public_values


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "OSError: [Errno 28] No space left on device: '/var/lib/iqdb/7.rows'",
            "OSError: [Errno 28] No space left on device: ...",
        ),
        ("checkpoint /srv/x.index refused: it has version 1", "checkpoint ... refused: it has version 1"),
        (
            'connection to server at "10.0.0.7", port 5432 failed\nmore',
            "connection to server at ..., port 5432 failed",
        ),
        ("cannot reach postgresql://u:p@db/iqdb now", "cannot reach ... now"),
        ("no answer from 10.1.2.3 or ::1", "no answer from ... or ..."),
        ("the database is locked and/or busy", "the database is locked and/or busy"),
        ("", ""),
        ("no answer from 2001:db8:1:2:3:4:5:6, nor [2001:db8:1::7]:6379", "no answer from ..., nor ...:6379"),
        ("since 12:30:45 it is away", "since 12:30:45 it is away"),
        pytest.param("a:" * 200_000, "...", id="a long row of digits and colons"),
        pytest.param("a" * 1_000_000, "a" * 1_000_000, id="a long hash, which may not take minutes"),
    ],
)
def test_paths_and_addresses_are_removed_from_reasons(text: str, shown: str) -> None:
    assert public_text(text) == shown


def test_values_of_none_are_left_out() -> None:
    assert public_values({"a": None, "b": 0, "c": "fine"}) == {"b": 0, "c": "fine"}
