"""Which addresses may be fetched for a client: only those on the public internet.

Anything else may lead into the server's own network. Called by the fetcher for every address of every name,
those of redirects included.
"""

from __future__ import annotations

import ipaddress
import socket
from functools import partial
from typing import Final

from iqdb_core.detached import in_detached_thread

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
    """Return all addresses of a name, in the order to try them. Raises OSError and UnicodeError.

    The server of the name may let a lookup hang for a minute, long after its fetch was given up. So it has a
    thread of its own: in the few of the event loop it would delay other lookups, and the server's end.
    """
    look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    found = await in_detached_thread(look_up, name="lookup")
    return list(dict.fromkeys(str(address[0]) for _, _, _, _, address in found))
