"""Writes that a browser was made to send by a foreign page are refused, all others pass."""

from __future__ import annotations

import pytest

from api.access.policy import Forbidden
from api.web.guards.origin import check_origin


def headers(**values: str) -> list[tuple[bytes, bytes]]:
    return [(name.replace("_", "-").encode(), value.encode()) for name, value in values.items()]


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"sec_fetch_site": "same-origin", "origin": "https://proxied.example", "host": "127.0.0.1:5588"},
        {"sec_fetch_site": "none"},
        {"origin": "http://localhost:5588", "host": "localhost:5588"},
        {"origin": "https://a.example", "host": "127.0.0.1:5588", "x_forwarded_host": "a.example"},
        {"sec_fetch_site": "cross-site", "authorization": "Bearer x"},
        {"sec_fetch_site": "cross-site", "authorization": "bearer x"},
    ],
)
def test_own_pages_other_clients_and_bearers_of_tokens_may_write(given: dict[str, str]) -> None:
    check_origin(headers(**given))


@pytest.mark.parametrize(
    "given",
    [
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site", "host": "a.example"},
        {"sec_fetch_site": "Cross-Site", "origin": "http://a.example", "host": "a.example"},
        {"origin": "http://evil.example", "host": "localhost:5588"},
        {"origin": "http://localhost:3000", "host": "localhost:5588"},
        {"origin": "null", "host": "localhost:5588"},
        {"origin": "http://[bad", "host": "localhost:5588"},
        {"origin": "http://localhost:5588"},
        {"sec_fetch_site": "cross-site", "authorization": "Basic dXNlcjpwdw=="},
        {"origin": "http://evil.example", "authorization": "Negotiate YII="},
        {"sec_fetch_site": "cross-site", "authorization": "Bearer"},
    ],
)
def test_foreign_pages_may_not(given: dict[str, str]) -> None:
    with pytest.raises(Forbidden):
        check_origin(headers(**given))
