"""Query nodes behind a name that cannot be looked up."""

from __future__ import annotations

import asyncio

import pytest

from api.search.discovery import Discovery


@pytest.mark.parametrize("host", ["a..b", "a" * 64])
def test_a_name_that_cannot_be_is_no_end(host: str) -> None:
    url = f"http://{host}:1"
    assert asyncio.run(Discovery([f"dns+{url}", "http://b"]).look(0.0)) == ["http://b", url]
