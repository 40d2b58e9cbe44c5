"""Is this text the address of something on the web? Called where settings are read."""

from __future__ import annotations

from typing import Final
from urllib.parse import SplitResult, urlsplit

_NOT_IN_A_HOST: Final = frozenset(" ;,'\"{}")
_MAX_LABEL: Final = 63
"""Characters between two dots of a host's name, as DNS has it."""


def without_user(url: str) -> str:
    """Return an address as it may be shown to anyone: without a name or password before its host.

    Nor anything else before the last @, since a password may hold what else ends a host.
    """
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def split_web_address(text: str) -> SplitResult | None:
    """Return the pieces of an address of the web; None for text that is none.

    It begins with http:// or https:// and a host, which may have a port behind it and a user before it.
    """
    try:
        parts = urlsplit(text)
        is_host = _is_host(parts.hostname or "") and parts.port != 0
    except ValueError:  # half an IPv6 address, a port that is none
        return None
    is_address = is_host and parts.scheme in {"http", "https"} and text.isprintable()
    return parts if is_address and not _NOT_IN_A_HOST & set(parts.netloc) else None


def _is_host(name: str) -> bool:
    """Tell whether a name could be looked up: whoever tries with one that cannot fails in odd ways."""
    return all(0 < len(label) <= _MAX_LABEL for label in name.removesuffix(".").split("."))
