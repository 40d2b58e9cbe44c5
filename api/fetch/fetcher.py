"""Fetches a picture by its address, for a client that is not trusted.

Every name is looked up once and all its addresses are checked. The connection goes to one of these, so a name
that changes between check and connection makes no difference. Redirects are followed here, each checked in
the same way. There are no proxies of the environment, no cookies, no compressed answers, and no kept
connections, so that nothing has to be closed at the end. Called by `api.web.reading.fetching`.
"""

from __future__ import annotations

import asyncio
import fnmatch
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Final

import httpx
from starlette.datastructures import UploadFile

from api.fetch.addresses import is_public, resolve
from api.fetch.failures import FetchBusy, FetchFailed, FetchRefused
from api.ingestion.picture import BodyTooLarge, spooled

log = logging.getLogger(__name__)

MAX_URL: Final = 2000
MAX_REDIRECTS: Final = 5
MAX_AT_ONCE: Final = 8
SLOT_WAIT_S: Final = 3.0
CONNECT_S: Final = 5.0
"""Time limit of connecting to one address of a name, seconds; less if it has many, so that all are tried."""
_PORTS: Final = {"http": 80, "https": 443}
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, slots=True)
class FetchOptions:
    """What may be fetched, and at what cost.

    Parameters
    ----------
    max_bytes : int
    timeout_s : float
        For the whole fetch, redirects included, seconds.
    hosts : tuple of str
        Patterns like "*.example.org"; if empty, every host is allowed.
    private : bool
        Whether other ports and addresses of the server's own network are allowed too.
    referer_rules : tuple of (str, str)
        A pattern of hosts, and the Referer that they get.
    """

    max_bytes: int
    timeout_s: float = 20.0
    hosts: tuple[str, ...] = ()
    private: bool = False
    referer_rules: tuple[tuple[str, str], ...] = ()


class Fetcher:
    """Fetches a bounded number of pictures at once.

    Parameters
    ----------
    options : FetchOptions
    version : str
        The version of this program, which is sent to the other server.
    resolver : callable
        Returns the addresses of a name and port.
    """

    def __init__(
        self,
        options: FetchOptions,
        version: str,
        resolver: Callable[[str, int], Awaitable[list[str]]] = resolve,
    ) -> None:
        self._options = options
        self._resolver = resolver
        self._slots = asyncio.Semaphore(MAX_AT_ONCE)
        self._client = httpx.AsyncClient(
            trust_env=False,
            follow_redirects=False,
            # No cookies: those that one site sets would be sent to every other site at the same address.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            # A kept connection belongs to an address and could be reused for another name there.
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
            headers={
                "User-Agent": f"iqdb-server/{version}",
                "Accept": "image/*",
                "Accept-Encoding": "identity",
            },
        )

    async def fetch(self, text: str) -> UploadFile:
        """Return the content of an address as an open file, which the caller has to close.

        Raises
        ------
        FetchRefused
            The rules forbid the address, or one that it redirects to.
        FetchFailed
            The other server gave no picture, or not in time.
        FetchBusy
            Too many fetches are under way.
        BodyTooLarge
            It is larger than the limit.
        """
        try:
            async with asyncio.timeout(SLOT_WAIT_S):
                await self._slots.acquire()
        except TimeoutError:
            raise FetchBusy("this server fetches from too many slow addresses at the moment") from None
        try:
            async with asyncio.timeout(self._options.timeout_s):
                return await self._follow(text)
        except TimeoutError:
            raise FetchFailed(f"no picture came within {self._options.timeout_s:g} seconds") from None
        except httpx.HTTPError as error:
            log.info("not fetched: %r", error, extra={"action": "fetch_failed"})
            raise FetchFailed("the other server does not answer as it should") from None
        finally:
            self._slots.release()

    async def _follow(self, text: str) -> UploadFile:
        url = self._parse(text)
        for _ in range(MAX_REDIRECTS + 1):
            async with aclosing(await self._answer(url, await self._addresses_of(url))) as answer:
                if answer.status_code not in _REDIRECTS:
                    return await self._read(answer, url)
                location = answer.headers.get("location")
            if not location:
                raise FetchFailed(f"the server {_host(url)} redirects without an address")
            following = self._parse(str(_joined(url, location)))
            if url.scheme == "https" and following.scheme == "http":
                raise FetchRefused(f"the server {_host(url)} redirects from https to http")
            url = following
        raise FetchFailed(f"the server {_host(url)} redirects more than {MAX_REDIRECTS} times")

    async def _answer(self, url: httpx.URL, addresses: Sequence[str]) -> httpx.Response:
        """Return the unread answer of the first address that connects; raises the error of the last."""
        connect_s = min(CONNECT_S, self._options.timeout_s / len(addresses))
        *others, last = addresses
        for address in others:
            with suppress(httpx.ConnectError, httpx.ConnectTimeout):
                return await self._answer_at(address, url, connect_s)
        return await self._answer_at(last, url, connect_s)

    async def _answer_at(self, address: str, url: httpx.URL, connect_s: float) -> httpx.Response:
        request = self._client.build_request(
            "GET",
            url.copy_with(host=address, fragment=None),
            headers={"Host": url.netloc.decode("ascii"), **self._referer(_host(url))},
            extensions={"sni_hostname": _host(url)},
            timeout=httpx.Timeout(None, connect=connect_s),
        )
        try:
            return await self._client.send(request, stream=True)
        except (httpx.InvalidURL, ValueError):
            # httpx parses the address of a redirect even if it does not follow it.
            raise FetchFailed(f"the server {_host(url)} redirects to an invalid address") from None
        except AttributeError as error:  # of uvloop's transport, for a connection that is reset at once
            raise httpx.ConnectError("the connection was reset", request=request) from error

    def _parse(self, text: str) -> httpx.URL:
        if len(text) > MAX_URL:
            raise FetchRefused(f"an address has at most {MAX_URL} characters")
        try:
            url = httpx.URL(text.strip())
            host = _host(url)
        except (httpx.InvalidURL, ValueError, UnicodeError):
            raise FetchRefused("this is not a web address") from None
        if url.scheme not in _PORTS or not host:
            raise FetchRefused("an address begins with http:// or https://")
        if url.userinfo:
            raise FetchRefused("an address with a name or password in it is not fetched")
        if url.port not in {None, _PORTS[url.scheme]} and not self._options.private:
            raise FetchRefused("only the usual ports of http and https are fetched from")
        name = host.rstrip(".").lower()
        if self._options.hosts and not any(fnmatch.fnmatchcase(name, one) for one in self._options.hosts):
            raise FetchRefused(f"the host {host} is not one of those that this server fetches from")
        return url

    async def _addresses_of(self, url: httpx.URL) -> list[str]:
        """Return all addresses of a name, in the order to try them; at least one."""
        try:
            addresses = await self._resolver(_host(url), url.port or _PORTS[url.scheme])
        except (OSError, UnicodeError):
            raise FetchFailed(f"there is no host {_host(url)}") from None
        if not addresses or (not self._options.private and not all(map(is_public, addresses))):
            raise FetchRefused(f"the server {_host(url)} is not on the public internet")
        return addresses

    def _referer(self, host: str) -> dict[str, str]:
        name = host.rstrip(".").lower()
        found = (referer for one, referer in self._options.referer_rules if fnmatch.fnmatchcase(name, one))
        referer = next(found, None)
        return {} if referer is None else {"Referer": referer}

    async def _read(self, answer: httpx.Response, url: httpx.URL) -> UploadFile:
        if answer.status_code != httpx.codes.OK:
            raise FetchFailed(f"the server {_host(url)} answered {answer.status_code}")
        if answer.headers.get("content-encoding", "identity").lower() != "identity":
            raise FetchFailed(f"the server {_host(url)} sent a compressed answer without being asked to")
        announced = answer.headers.get("content-length", "")
        if announced.isascii() and announced.isdigit():
            self._check_size(int(announced[:18]))
        return await spooled(self._bounded(answer))

    async def _bounded(self, answer: httpx.Response) -> AsyncIterator[bytes]:
        """Yield the content; raises BodyTooLarge."""
        size = 0
        async for chunk in answer.aiter_raw():
            size += len(chunk)
            self._check_size(size)
            yield chunk

    def _check_size(self, size: int) -> None:
        if size > self._options.max_bytes:
            raise BodyTooLarge(self._options.max_bytes)


def _host(url: httpx.URL) -> str:
    """Return the name in DNS form; `URL.host` decodes international names."""
    return url.raw_host.decode("ascii")


def _joined(url: httpx.URL, location: str) -> httpx.URL:
    try:
        return url.join(location)
    except (httpx.InvalidURL, ValueError):
        raise FetchFailed(f"the server {_host(url)} redirects to an invalid address") from None
