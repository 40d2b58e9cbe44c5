"""How a client of httpx is made: its address, and the proxies and certificates that the environment names."""

from __future__ import annotations

import ssl
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar
from urllib.parse import urlsplit

import httpx

from iqdb_client import calls
from iqdb_client.errors import ClientError

Http = TypeVar("Http", httpx.Client, httpx.AsyncClient)


def new_http(
    kind: Callable[..., Http], url: str, token: str | None, timeout_s: float, contact_s: float
) -> Http:
    """Return a client of httpx for a server of ours.

    Parameters
    ----------
    kind : callable
        `httpx.Client` or `httpx.AsyncClient`.
    url : str
        Of the server.
    token : str, optional
    timeout_s, contact_s : float
        How long to wait for an answer, and for a connection.

    Raises
    ------
    ClientError
        The address is not one, or see `usable_environment`.
    """
    try:
        base_url = httpx.URL(url.rstrip("/"))
    except (httpx.InvalidURL, UnicodeError) as error:
        raise ClientError(f"the address of the server is invalid: {error}") from error
    if base_url.scheme not in {"http", "https"} or not base_url.raw_host:
        raise ClientError(f"the address of a server looks like http://HOST:PORT, unlike {url!r}")
    timeout = httpx.Timeout(timeout_s, connect=min(timeout_s, contact_s))
    # Reading the certificates that this machine trusts takes longer than many a request. HTTP needs none.
    verify = True if base_url.scheme == "https" else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with usable_environment():
        return kind(base_url=base_url, headers=calls.headers(token), timeout=timeout, verify=verify)


@contextmanager
def usable_environment() -> Iterator[None]:
    """Make a client of httpx in this block: it then reads the environment, which can fail in many ways.

    Raises
    ------
    ClientError
        A proxy of a kind that cannot be used, or whose address is invalid (`HTTP_PROXY`, `NO_PROXY`, ...), or
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
