"""Finds query nodes behind one DNS name: every address of the name is a node.

Only URLs of the form `dns+http://NAME:PORT` are looked up like this: otherwise several addresses of a name
are one server. Not with TLS, whose certificates are for names, not addresses. Called by `node_pool`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final
from urllib.parse import urlsplit

from iqdb_core.detached import in_detached_thread

log = logging.getLogger(__name__)

PREFIX: Final = "dns+"
LOOK_S: Final = 5.0
"""Interval of lookups, seconds."""
LIMIT_S: Final = 2.0
"""Time limit of the lookup of one name, seconds."""

Resolve = Callable[[str, int], Awaitable[list[str]]]


async def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a name, of one IP version only: a node with both would be listed twice."""
    look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    found = await in_detached_thread(look_up, name="lookup")  # it may hang for long
    addresses = {str(address[0]) for _, _, _, _, address in found}
    by_version = sorted(addresses, key=lambda address: (ipaddress.ip_address(address).version, address))
    first = ipaddress.ip_address(by_version[0]).version
    return [address for address in by_version if ipaddress.ip_address(address).version == first]


class Discovery:
    """Base URLs of nodes, from URLs that may stand for several nodes.

    Parameters
    ----------
    urls : sequence of str
        Plain URLs, which stay as they are, and URLs with the prefix.
    resolver : callable
        Returns the addresses of a name and port.
    """

    def __init__(self, urls: Sequence[str], resolver: Resolve = resolve) -> None:
        self._fixed = [url for url in urls if not url.startswith(PREFIX)]
        self._names = [url.removeprefix(PREFIX) for url in urls if url.startswith(PREFIX)]
        self._resolver = resolver
        self._found: dict[str, list[str]] = {}
        self._looked_s: float | None = None

    def is_due(self, now_s: float) -> bool:
        """Return whether names are due to be looked up."""
        return bool(self._names) and (self._looked_s is None or now_s >= self._looked_s + LOOK_S)

    async def look(self, now_s: float) -> list[str]:
        """Look the names up and return all URLs; if a lookup fails, the old addresses of the name stay."""
        self._looked_s = now_s
        for url in self._names:
            parts = urlsplit(url)
            port = parts.port or 80
            try:
                async with asyncio.timeout(LIMIT_S):
                    addresses = await self._resolver(parts.hostname or "", port)
            except (OSError, TimeoutError, UnicodeError) as error:  # UnicodeError: no valid name
                log.warning(
                    "the name of the query nodes, %s, cannot be looked up: %s",
                    parts.hostname,
                    error,
                    extra={"action": "no_name"},
                )
                self._found.setdefault(url, [url])
            else:
                self._found[url] = [_with_host(url, address, port) for address in addresses]
        return self.urls()

    def urls(self) -> list[str]:
        """Return the URLs of the last lookup."""
        found = (one for url in self._names for one in self._found.get(url, []))
        return list(dict.fromkeys([*self._fixed, *found]))


def _with_host(url: str, address: str, port: int) -> str:
    host = f"[{address}]" if ":" in address else address
    return urlsplit(url)._replace(netloc=f"{host}:{port}").geturl()
