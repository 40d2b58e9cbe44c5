"""Writes that a page of another site makes its visitor's browser send: refused.

A browser says where a request comes from (`Sec-Fetch-Site`, or `Origin` in older ones); other clients say
nothing. A request that bears a token is no such forgery: a foreign page cannot know it. What else is in its
header `Authorization` says nothing: a browser adds a password that its visitor once typed by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from api.access.policy import Forbidden, bearer_of

_OWN: Final = frozenset({b"same-origin", b"none"})
_HOSTS: Final = frozenset({b"host", b"x-forwarded-host"})


def check_origin(headers: Sequence[tuple[bytes, bytes]]) -> None:
    """Return if a write may come from where it comes from; raises Forbidden.

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
