"""Refuses writes that a page of another site makes its visitor's browser send (CSRF).

Browsers say where a request comes from (`Sec-Fetch-Site`, or `Origin` in older ones); other clients say
nothing. A request with a bearer token cannot be forged: a foreign page does not know the token. Other kinds
of `Authorization` prove nothing: browsers add a saved password by themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from api.access.policy import Forbidden, bearer_of

_OWN: Final = frozenset({b"same-origin", b"none"})
_HOSTS: Final = frozenset({b"host", b"x-forwarded-host"})


def check_origin(headers: Sequence[tuple[bytes, bytes]]) -> None:
    """Raise Forbidden for a write that a page of another site sends.

    Parameters
    ----------
    headers : sequence of (bytes, bytes)
        Names in small letters.
    """
    if bearer_of(headers):
        return
    site: bytes | None = None
    origin: bytes | None = None
    hosts: list[bytes] = []
    for name, value in headers:
        if name == b"sec-fetch-site":
            site = value.strip().lower()
        elif name == b"origin":
            origin = value.strip().lower()
        elif name in _HOSTS:
            hosts.append(value.strip().lower())
    is_own = site in _OWN if site is not None else origin is None or _host_of(origin) in hosts
    if not is_own:
        raise Forbidden("a page of another site may not write here; send a token if it should")


def _host_of(origin: bytes) -> bytes | None:
    try:
        return urlsplit(origin).netloc or None
    except ValueError:
        return None
