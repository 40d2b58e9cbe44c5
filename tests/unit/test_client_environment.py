"""What the environment names and is none, and hosts that cannot be, are told as the client's own errors."""

from __future__ import annotations

import asyncio
import os

import pytest

from iqdb_client import AsyncClient, Client, ClientError, NotFound
from tests.fixtures.http_peer import HttpPeer


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("ALL_PROXY", "socks5://127.0.0.1:1", "socksio"),
        ("HTTP_PROXY", "foo://x", "foo"),
        ("HTTPS_PROXY", "socks://x:1", "socks"),
        ("HTTP_PROXY", "::", "port"),
        ("NO_PROXY", "[::1", "port"),
        ("SSL_CERT_FILE", "/nonexistent", "No such file"),
    ],
)
def test_what_the_environment_names_and_cannot_be_used_is_told(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(name, value)
    for kind in (Client, AsyncClient):
        with pytest.raises(ClientError, match=words) as told:
            kind("https://127.0.0.1:9")
        assert "environment" in str(told.value)
        assert not told.value.retryable


def test_plain_http_needs_no_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading them takes longer than many a request."""
    monkeypatch.setenv("SSL_CERT_FILE", "/nonexistent")

    async def scenario() -> None:
        async with HttpPeer(lambda *_: (404, {}, b"")) as peer:
            async with AsyncClient(peer.url) as client:
                with pytest.raises(NotFound):
                    await client.get(1)
            with Client(peer.url) as blocking, pytest.raises(NotFound):
                await asyncio.to_thread(blocking.get, 1)

    asyncio.run(scenario())


@pytest.mark.parametrize("url", ["http://a..b", "http://.x", f"http://{'a' * 70}.de", "http://xn--a"])
def test_a_host_that_cannot_be_is_told(url: str) -> None:
    async def ask() -> None:
        async with AsyncClient(url, patience_s=0.1) as client:
            await client.status()

    with Client(url, patience_s=0.1) as client, pytest.raises(ClientError, match="GET /status"):
        client.status()
    with pytest.raises(ClientError, match="GET /status"):
        asyncio.run(ask())


@pytest.mark.parametrize("url", ["http://a:port", "http://a\0", "http://\ud800"])
def test_an_address_that_is_none_is_told(url: str) -> None:
    for kind in (Client, AsyncClient):
        with pytest.raises(ClientError, match="address of the server"):
            kind(url)


@pytest.mark.parametrize("target", ["http://xn--a/", "mailto:a@b"])
def test_a_redirect_to_nowhere_is_told(target: str) -> None:
    async def scenario() -> None:
        async with HttpPeer(lambda *_: (302, {"Location": target}, b"")) as peer:
            async with AsyncClient(peer.url) as client:
                with pytest.raises(ClientError, match="GET /status"):
                    await client.status()
            with Client(peer.url) as blocking, pytest.raises(ClientError, match="GET /status"):
                await asyncio.to_thread(blocking.status)

    asyncio.run(scenario())
