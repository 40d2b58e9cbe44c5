"""What the environment names and is none, and hosts that cannot be, are told as the client's own errors."""

from __future__ import annotations

import asyncio
import os

import pytest

from api.roles.command_parts.opening import opened
from iqdb_client import AsyncClient, Client, ClientError, NotFound, Unavailable
from iqdb_core.errors import SearchUnavailable
from iqdb_core.settings import Settings
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


@pytest.mark.parametrize(
    ("name", "no_proxy", "is_named"),
    [
        ("HTTP_PROXY", "", True),
        ("all_proxy", "", True),
        ("HTTP_PROXY", "127.0.0.1", False),
        ("HTTP_PROXY", "*", False),
        ("HTTPS_PROXY", "", False),
    ],
)
def test_a_server_behind_a_proxy_of_the_environment_that_does_not_answer_is_told_so(
    monkeypatch: pytest.MonkeyPatch, name: str, no_proxy: str, is_named: bool
) -> None:
    """Else whoever runs a server on his own machine looks for the fault there."""
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    settings = Settings(url="http://127.0.0.1:9")
    with pytest.raises(SearchUnavailable) as told, opened(settings):
        raise Unavailable("Connection refused")
    assert ("through a proxy (http_proxy, no_proxy)" in str(told.value)) is is_named


@pytest.mark.parametrize("url", ["http://a..b", "http://.x", f"http://{'a' * 70}.de", "http://xn--a"])
def test_a_host_that_cannot_be_is_told(url: str) -> None:
    async def ask() -> None:
        async with AsyncClient(url, patience_s=0.1) as client:
            await client.status()

    with Client(url, patience_s=0.1) as client, pytest.raises(ClientError, match="GET /status"):
        client.status()
    with pytest.raises(ClientError, match="GET /status"):
        asyncio.run(ask())


@pytest.mark.parametrize(
    "url",
    ["http://a:port", "http://a\0", "http://\ud800", "localhost:5588", "example.org", "ftp://a", "http:", ""],
)
def test_an_address_that_is_none_is_told(url: str) -> None:
    for kind in (Client, AsyncClient):
        with pytest.raises(ClientError, match=r"the address of (a|the) server"):
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
