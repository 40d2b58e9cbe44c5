"""Fetching behind TLS: by which name it is asked for, and that nobody is led out of it."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from api.fetch.failures import FetchRefused
from api.fetch.fetcher import Fetcher
from tests.fixtures.http_peer import HttpPeer
from tests.unit.test_api_fetch import PICTURE, fetched, options, run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

FOLDER = Path(__file__).parents[1] / "fixtures" / "tls"
CERTIFICATE = FOLDER / "certificate.pem"


@pytest.fixture(autouse=True)
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust the certificate, which is of localhost, as those that come with Python's packages are."""
    monkeypatch.setattr("certifi.where", lambda: str(CERTIFICATE))


class TlsSite(NamedTuple):
    """Where a server listens, and the names that it was asked for by."""

    url: str
    names: list[str | None]


@asynccontextmanager
async def tls_site(answer: bytes) -> AsyncIterator[TlsSite]:
    names: list[str | None] = []

    def note(_: ssl.SSLObject, name: str | None, __: ssl.SSLContext) -> None:
        names.append(name)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE, FOLDER / "key.pem")
    context.sni_callback = note  # type: ignore[assignment]
    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        yield TlsSite(f"https://localhost:{server.sockets[0].getsockname()[1]}/", names)


def fetcher() -> Fetcher:
    async def here(_: str, __: int) -> list[str]:
        return ["127.0.0.1"]

    return Fetcher(options(), "0", here)


def test_a_server_is_asked_for_by_its_name_not_by_the_address_that_was_checked() -> None:
    async def scenario() -> None:
        answer = b"HTTP/1.1 200 x\r\nContent-Length: %d\r\n\r\n%b" % (len(PICTURE), PICTURE)
        async with tls_site(answer) as site:
            assert await fetched(fetcher(), site.url) == PICTURE
            assert site.names == ["localhost"]

    run(scenario())


def test_a_redirect_out_of_tls_is_not_followed() -> None:
    async def scenario() -> None:
        async with HttpPeer(lambda *_: (200, {}, PICTURE)) as plain:
            location = f"http://localhost:{plain.port}/".encode()
            answer = b"HTTP/1.1 302 x\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % location
            async with tls_site(answer) as site:
                with pytest.raises(FetchRefused, match="from https to http"):
                    await fetched(fetcher(), site.url)
            assert plain.requests == []

    run(scenario())
