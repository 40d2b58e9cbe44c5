"""Which addresses may be fetched for a client: only those on the public internet.

Anything else may lead into the server's own network. Called by the fetcher for every address of every name,
those of redirects included.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import Final

_TRANSLATED: Final = tuple(
    ipaddress.IPv6Network(network)
    for network in ("64:ff9b::/96", "64:ff9b:1::/48", "2001::/32", "2002::/16", "fec0::/10", "::/96")
)
"""IPv6 networks that embed an IPv4 address (NAT64, Teredo, 6to4, compatible), which may be private."""


def is_public(address: str) -> bool:
    """Return whether an address is public; False for text that is no address."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return is_public(str(ip.ipv4_mapped))
        if any(ip in network for network in _TRANSLATED):
            return False
    is_odd = ip.is_multicast or ip.is_reserved or ip.is_unspecified or ip.is_loopback or ip.is_link_local
    return ip.is_global and not is_odd


async def resolve(host: str, port: int) -> list[str]:
    """Return all addresses of a name, in the order to try them. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for _, _, _, _, address in found))
