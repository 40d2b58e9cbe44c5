"""Parses and checks web addresses in settings."""

from __future__ import annotations

from typing import Final
from urllib.parse import SplitResult, urlsplit

_NOT_IN_A_HOST: Final = frozenset(" ;,'\"{}")
_MAX_LABEL: Final = 63
"""Characters between two dots of a host's name, as DNS has it."""


def without_user(url: str) -> str:
    """Return an address that is safe to show: without user and password.

    Everything up to the last @ is removed, because a password may contain characters that otherwise end a
    host.
    """
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def split_web_address(text: str) -> SplitResult | None:
    """Return the parts of a web address; None for any other text.

    It has http:// or https://, optionally a user, a host and optionally a port.
    """
    try:
        parts = urlsplit(text)
        is_host = _is_host(parts.hostname or "") and parts.port != 0
    except ValueError:  # an incomplete IPv6 address, an invalid port
        return None
    is_address = is_host and parts.scheme in {"http", "https"} and text.isprintable()
    return parts if is_address and not _NOT_IN_A_HOST & set(parts.netloc) else None


def _is_host(name: str) -> bool:
    """Return whether a host name is well-formed: lookups of others fail with unrelated errors."""
    return all(0 < len(label) <= _MAX_LABEL for label in name.removesuffix(".").split("."))
