"""Proxies and certificates that the environment names. Called where a client is made, or got no answer."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import httpx

from iqdb_client.errors import ClientError


@contextmanager
def usable_environment() -> Iterator[None]:
    """Make a client of httpx in this block: it then reads the environment, which can fail in many ways.

    Raises
    ------
    ClientError
        A proxy of a kind that cannot be used, or whose address is none (`HTTP_PROXY`, `NO_PROXY`, ...), or
        certificates that are not there (`SSL_CERT_FILE`).
    """
    try:
        yield
    except (ImportError, OSError, ValueError, httpx.InvalidURL) as error:
        raise ClientError(
            f"the proxies or certificates that the environment names cannot be used: {error}"
        ) from error


def leads_through_proxy(url: str) -> bool:
    """Tell whether the environment names a proxy for this address, and does not except it by `no_proxy`."""
    parts = urlsplit(url)
    proxies = urllib.request.getproxies()
    return bool(proxies.keys() & {parts.scheme, "all"}) and not urllib.request.proxy_bypass(parts.netloc)
