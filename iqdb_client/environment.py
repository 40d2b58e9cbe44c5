"""Proxies and certificates that the environment names and nobody can use. Called where a client is made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from iqdb_client.errors import ClientError


@contextmanager
def usable_environment() -> Iterator[None]:
    """Make a client of httpx in this block: it reads the environment then, and fails in many ways.

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
