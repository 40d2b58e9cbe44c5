"""Query nodes behind one name: every address that the name has is a node.

An address of the form `dns+http://NAME:PORT` asks for it, because elsewhere several addresses of one name are
one server. Not with TLS, whose certificates are of names and not of addresses. Called by `node_pool`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Final
from urllib.parse import urlsplit

log = logging.getLogger(__name__)

PREFIX: Final = "dns+"
LOOK_S: Final = 5.0
"""How often names are looked up again, seconds."""
LIMIT_S: Final = 2.0

Resolve = Callable[[str, int], Awaitable[list[str]]]


async def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a name, of one family: a node that has both would stand there twice."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = {str(address[0]) for _, _, _, _, address in found}
    by_version = sorted(addresses, key=lambda address: (ipaddress.ip_address(address).version, address))
    first = ipaddress.ip_address(by_version[0]).version
    return [address for address in by_version if ipaddress.ip_address(address).version == first]


class Discovery:
    """Base URLs of nodes, from URLs that may name several.

    Parameters
    ----------
    urls : sequence of str
        Plain ones, which stay as they are, and ones with the prefix.
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
        """Tell whether names should be looked up (again)."""
        return bool(self._names) and (self._looked_s is None or now_s >= self._looked_s + LOOK_S)

    async def look(self, now_s: float) -> list[str]:
        """Look the names up and return all URLs; a name that cannot be looked up keeps what it had."""
        self._looked_s = now_s
        for url in self._names:
            parts = urlsplit(url)
            port = parts.port or 80
            try:
                async with asyncio.timeout(LIMIT_S):
                    addresses = await self._resolver(parts.hostname or "", port)
            except (OSError, TimeoutError, UnicodeError) as error:  # UnicodeError: a name that cannot be
                log.warning(
                    "the query nodes' name %s is not found: %s",
                    parts.hostname,
                    error,
                    extra={"action": "no_name"},
                )
                self._found.setdefault(url, [url])
            else:
                self._found[url] = [_with_host(url, address, port) for address in addresses]
        return self.urls()

    def urls(self) -> list[str]:
        """Return the URLs that were found last."""
        found = (one for url in self._names for one in self._found.get(url, []))
        return list(dict.fromkeys([*self._fixed, *found]))


def _with_host(url: str, address: str, port: int) -> str:
    host = f"[{address}]" if ":" in address else address
    return urlsplit(url)._replace(netloc=f"{host}:{port}").geturl()
