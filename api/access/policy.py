"""Decides whether a request is admitted, and if its rate is exceeded, when it may be tried again.

Reads headers as bytes; returns an `Admission` or raises an error, which `api.web` maps to a status. Called
by `api.web.guards.auth`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NamedTuple

from api.access.keyring import Keyring, Token
from api.access.rate import RateLimit, caller_of
from api.access.rights import Right, right_for
from iqdb_core.errors import IqdbError, WrongUsage

_FORWARDED: Final = frozenset({b"x-forwarded-for", b"forwarded", b"x-real-ip"})
_PORT: Final = re.compile(r":\d*$")
_UNLIMITED: Final = frozenset({"/live", "/ready"})
_PAGE: Final = re.compile(r"/|/static/.*")
"""Files of the page, which are not counted: a browser requests all of them at once."""
_SMALL_PICTURE: Final = re.compile(r"/images/[^/]+/(preview\.png|thumbnail)")
_SMALL_PICTURE_COST: Final = 1 / 50
"""Cost of a small picture, as a share of a request: the page shows 48 of them for one search."""


class Ambiguous(IqdbError):
    """A request with more than one header `Authorization`: it is not clear which one counts."""


class Unauthorized(IqdbError):
    """A request without the token that it needs, or with a wrong one."""


class Forbidden(IqdbError):
    """A request whose token has a lesser right."""


class RateLimited(IqdbError):
    """A request of a caller that exceeds its rate.

    Parameters
    ----------
    wait_s : int
        Whole seconds after which the caller may try again.
    """

    retryable = True

    def __init__(self, wait_s: int) -> None:
        super().__init__("you ask more often than this server allows; ask again later")
        self.wait_s = wait_s


class Admission(NamedTuple):
    """An admitted request.

    Parameters
    ----------
    needed : Right
        What the request needs.
    caller : str or None
        The caller against whose rate it counts; None if it is not counted.
    """

    needed: Right
    caller: str | None = None


@dataclass(frozen=True, slots=True)
class AccessPolicy:
    """Decides which callers may do what, and how often.

    Parameters
    ----------
    keyring : Keyring
    anonymous : Right
        What callers without a token may do.
    forwarded : Right
        What such callers may do through a proxy, or if they address the server by a name that is not local:
        then a loopback address proves nothing. (In DNS rebinding a web site makes its own name
        lead to its visitor's machine; requests of its pages bear that name.)
    rate : RateLimit
    """

    keyring: Keyring = field(default_factory=Keyring)
    anonymous: Right = Right.ADMIN
    forwarded: Right = Right.READ
    rate: RateLimit = field(default_factory=lambda: RateLimit(0))

    def check(
        self, method: str, path: str, headers: Sequence[tuple[bytes, bytes]], address: str | None
    ) -> Admission:
        """Return what the request needs and who sends it, if it is admitted.

        Parameters
        ----------
        method, path : str
            See `rights.right_for`.
        headers : sequence of (bytes, bytes)
            Names in lower case.
        address : str, optional
            The address of the caller, as far as the server knows.

        Raises
        ------
        Ambiguous, Unauthorized, Forbidden, RateLimited
        """
        if path in _UNLIMITED:
            return Admission(Right.NONE)
        given = bearer_of(headers)
        is_forwarded = any(
            name in _FORWARDED or (name == b"host" and not _is_local(value)) for name, value in headers
        )
        token = None if given is None else self.keyring.find(given)
        caller = _caller(token, address) if self.rate.is_on and not _PAGE.fullmatch(path) else None
        if caller is not None:
            cost = _SMALL_PICTURE_COST if _SMALL_PICTURE.fullmatch(path) else 1.0
            wait_s = self.rate.take(caller, cost)
            if wait_s:
                raise RateLimited(wait_s)
        needed = right_for(method, path)
        self._check_right(needed, token, is_forwarded=is_forwarded, is_given=given is not None)
        return Admission(needed, caller)

    def charge(self, caller: str | None, count: int) -> None:
        """Count a batch of several requests against the rate of its caller."""
        if caller is not None:
            self.rate.charge(caller, count)

    def _check_right(self, needed: Right, token: Token | None, *, is_forwarded: bool, is_given: bool) -> None:
        anonymous = min(self.anonymous, self.forwarded) if is_forwarded else self.anonymous
        held = max(anonymous, token.right if token else Right.NONE)
        if held >= needed:
            return
        need = f"the right {needed.name.lower()}"
        if token is not None:
            raise Forbidden(f"this needs {need}, and the token has the right {token.right.name.lower()}")
        if is_given:
            raise Unauthorized("the token is not one of this server's")
        if self.keyring.is_configured:
            raise Unauthorized(f"this needs the header 'Authorization: Bearer TOKEN', TOKEN with {need}")
        if needed is Right.WRITE:
            where = (
                "it takes writes from its own machine only, as localhost"
                if self.anonymous >= needed
                else "it takes no writes where other machines reach it"
            )
            raise Unauthorized(
                f"this server has no tokens, so {where}; "
                "start it with IQDB_TOKEN, or with --open to let everyone write"
            )
        raise Unauthorized(f"this needs a token with {need}, and the server has none; set IQDB_TOKENS")


def anonymous_right(host: str, keyring: Keyring, *, is_open: bool, is_private: bool) -> tuple[Right, Right]:
    """Return the rights of callers without a token: of direct ones, and of those behind a proxy.

    Parameters
    ----------
    host : str
        What the server listens on.
    is_open : bool
        Whether everyone may write.
    is_private : bool
        Whether even reading needs a token.

    Raises
    ------
    WrongUsage
        With these settings nobody could do anything.
    """
    if is_private and is_open:
        raise WrongUsage("--open lets everyone write and --private lets nobody read: choose one")
    if is_private and not keyring:
        raise WrongUsage("--private needs tokens: IQDB_TOKEN, IQDB_TOKENS or --token-file")
    rest = Right.WRITE if is_open else Right.NONE if is_private else Right.READ
    # Even if there are no tokens yet: the decision must also hold once the file gets its first.
    if keyring.is_configured or is_private or not is_loopback(host):
        return rest, rest
    return Right.ADMIN, rest


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a server that listens on this address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@lru_cache(maxsize=64)
def _is_local(host: bytes) -> bool:
    """Return whether a header `Host` names this machine by a loopback name or address."""
    name = _PORT.sub("", host.decode("latin-1").strip().lower()).rstrip(".")
    return name.endswith(".localhost") or is_loopback(name.removeprefix("[").removesuffix("]"))


def _caller(token: Token | None, address: str | None) -> str:
    return f"token {token.name}" if token else caller_of(address or "unknown")


def bearer_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """Return the bearer token of the header `Authorization`; None if there is none.

    The only reader of that header, so that all checks see the same caller. Raises Ambiguous.
    """
    values = [value for name, value in headers if name == b"authorization"]
    if len(values) > 1:
        raise Ambiguous("the header 'Authorization' is given more than once; send one")
    scheme, _, given = values[0].partition(b" ") if values else (b"", b"", b"")
    return given.strip() if scheme.lower() == b"bearer" else None
