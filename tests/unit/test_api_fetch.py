"""Fetching by address: which are refused, that what was checked is what is connected to, and every limit."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

import pytest

from api.fetch import fetcher as fetcher_module
from api.fetch.addresses import is_public
from api.fetch.failures import FetchBusy, FetchFailed, FetchRefused
from api.fetch.fetcher import (
    MAX_AT_ONCE,
    Fetcher,
    FetchOptions,
)
from api.fetch.rules import parse_hosts, parse_referer_rules
from api.ingestion.picture import BodyTooLarge
from iqdb_core.errors import WrongUsage
from tests.fixtures.http_peer import Answer, HttpPeer

if TYPE_CHECKING:
    from collections.abc import Coroutine

EVERYWHERE = "0.0.0.0"  # noqa: S104 - nothing listens here
PICTURE = b"bytes of a picture"


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(coroutine, 60))


def options(**changes: Any) -> FetchOptions:
    return FetchOptions(**{"max_bytes": 100, "private": True, "timeout_s": 20.0, **changes})


FIXED: dict[str, Answer | None] = {
    "picture": (200, {}, PICTURE),
    "large": (200, {}, bytes(101)),
    "zipped": (200, {"Content-Encoding": "gzip"}, b"x"),
    "missing": (404, {}, b""),
    "silent": None,
    "loop": (301, {"Location": "/loop"}, b""),
    "nowhere": (302, {}, b""),
}


def serve(_: str, path: str) -> Answer | None:
    step, _, rest = path.removeprefix("/").partition("/")
    if step == "to":
        return 302, {"Location": rest}, b""
    return FIXED.get(step, (500, {}, b""))


async def fetched(fetcher: Fetcher, url: str) -> bytes:
    upload = await fetcher.fetch(url)
    data = await upload.read()
    await upload.close()
    return data


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.8.8.8", EVERYWHERE, "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254"),
        *("100.64.0.1", "192.0.2.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.0.1"),
        *("::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "ff02::1", "2001:db8::1", "fec0::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::808:808"),
        *("2002:7f00:1::", "2002:a00:1::1", "2001:0:7f00:1::1", "64:ff9b:1::1", "not an address", ""),
    ],
)
def test_addresses_that_are_not_anyones_are_refused(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "93.184.216.34", "2606:2800:220:1::1", "::ffff:8.8.8.8", "2a00:1450::1"]
)
def test_addresses_that_are_public_are_taken(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "127.0.0.1", "[::1]", "0", "127.1", "2130706433", "0x7f000001", "0177.0.0.1"),
        *("[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "localhost.", "[fe80::1]", "169.254.169.254"),
    ],
)
def test_this_machine_is_not_reached_however_it_is_written(host: str) -> None:
    async def scenario() -> None:
        async with HttpPeer(serve) as peer:
            fetcher = Fetcher(options(private=False), "0")
            with pytest.raises((FetchRefused, FetchFailed)):
                await fetched(fetcher, f"http://{host}/picture")
            assert peer.requests == []

    run(scenario())


@pytest.mark.parametrize("host", ["xn--zz", "xn--a", "xn--", "a..b", "-", "\u2488", "xn--zz.example"])
def test_a_name_that_cannot_be_is_refused_in_words(host: str) -> None:
    async def scenario() -> None:
        async with HttpPeer(serve) as peer:
            for url in (f"http://{host}/", f"http://127.0.0.1:{peer.port}/to/http://{host}/"):
                with pytest.raises((FetchRefused, FetchFailed)):
                    await fetched(Fetcher(options(), "0"), url)

    run(scenario())


def test_a_fetch_beyond_the_limit_is_refused_as_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetcher_module, "SLOT_WAIT_S", 0.05)

    async def scenario() -> None:
        arrived = asyncio.Semaphore(0)

        def counting(method: str, path: str) -> Answer | None:
            arrived.release()
            return serve(method, path)

        async with HttpPeer(counting) as peer:
            fetcher = Fetcher(options(), "0")
            silent = [
                asyncio.create_task(fetcher.fetch(f"http://127.0.0.1:{peer.port}/silent"))
                for _ in range(MAX_AT_ONCE)
            ]
            for _ in silent:
                await arrived.acquire()
            with pytest.raises(FetchBusy):
                await fetcher.fetch(f"http://127.0.0.1:{peer.port}/picture")
            for task in silent:
                task.cancel()
            await asyncio.gather(*silent, return_exceptions=True)
            assert await fetched(fetcher, f"http://127.0.0.1:{peer.port}/picture") == PICTURE

    run(scenario())


def test_one_private_address_among_public_ones_is_enough_to_refuse() -> None:
    async def mixed(_: str, __: int) -> list[str]:
        return ["93.184.216.34", "10.0.0.1"]

    async def scenario() -> None:
        with pytest.raises(FetchRefused, match="not on the public internet"):
            await fetched(Fetcher(options(private=False), "0", mixed), "http://example.org/")

    run(scenario())


def test_connections_go_to_the_address_that_was_checked() -> None:
    asked: list[str] = []

    async def scenario() -> None:
        async with HttpPeer(serve) as peer:

            async def resolver(host: str, port: int) -> list[str]:
                asked.append(host)
                assert port == peer.port
                return ["127.0.0.1"] if len(asked) == 1 else ["192.0.2.1"]

            url = f"http://pictures.example:{peer.port}/picture#part"
            made = Fetcher(
                options(referer_rules=parse_referer_rules("*.example=https://example.org/")), "1.2", resolver
            )
            assert await fetched(made, url) == PICTURE
            assert asked == ["pictures.example"]
            head = peer.heads[0].lower()
            assert f"host: pictures.example:{peer.port}\r\n" in head
            assert "referer: https://example.org/\r\n" in head
            assert "user-agent: iqdb-server/1.2\r\n" in head
            assert "accept-encoding: identity\r\n" in head
            assert "cookie" not in head
            assert peer.requests == ["GET /picture"]

    run(scenario())


def test_proxies_of_the_environment_are_passed_by(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with HttpPeer(serve) as peer, HttpPeer(serve) as proxy:
            for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
                monkeypatch.setenv(name, proxy.url)
            assert await fetched(Fetcher(options(), "0"), f"{peer.url}/picture") == PICTURE
            assert proxy.requests == []

    run(scenario())


def test_cookies_are_neither_kept_nor_sent() -> None:
    def with_cookie(_: str, path: str) -> Answer:
        if path == "/to":
            return 302, {"Location": "/picture", "Set-Cookie": "on-the-way=1"}, b""
        return 200, {"Set-Cookie": "visitor=stranger; Path=/"}, PICTURE

    async def scenario() -> None:
        async with HttpPeer(with_cookie) as peer:
            fetcher = Fetcher(options(), "0")
            for path in ("to", "picture", "to"):
                await (await fetcher.fetch(f"{peer.url}/{path}")).close()
            assert len(peer.heads) == 5
            assert "cookie" not in "".join(peer.heads).lower()

    run(scenario())


def test_redirects_are_followed_and_each_is_checked() -> None:
    async def scenario() -> None:
        async with HttpPeer(serve) as peer:
            assert await fetched(Fetcher(options(), "0"), f"{peer.url}/to//picture") == PICTURE

            async def resolver(host: str, _: int) -> list[str]:
                return ["127.0.0.1"] if host == "one.example" else ["10.0.0.1"]

            peer.requests.clear()
            hosts = options(hosts=parse_hosts("one.example, *.two.example"))
            for target in (
                f"http://three.example:{peer.port}/",
                "file:///etc/passwd",
                "gopher://one.example/",
            ):
                with pytest.raises(FetchRefused):
                    await fetched(
                        Fetcher(hosts, "0", resolver), f"http://one.example:{peer.port}/to/{target}"
                    )
            assert len(peer.requests) == 3
            for path, words in (("loop", "more than 5 times"), ("nowhere", "without an address")):
                with pytest.raises(FetchFailed, match=words):
                    await fetched(Fetcher(options(), "0"), f"{peer.url}/{path}")
            assert len([one for one in peer.requests if "loop" in one]) == 6

    run(scenario())


@pytest.mark.parametrize(
    "target", ["mailto:a@b", "javascript:alert(1)", "data:image/png;base64,AAAA", "http:ok"]
)
def test_a_redirect_to_an_invalid_address_is_an_error(target: str) -> None:
    async def scenario() -> None:
        async with HttpPeer(lambda *_: (302, {"Location": target}, b"")) as peer:
            with pytest.raises(FetchFailed, match="redirects to an invalid address"):
                await fetched(Fetcher(options(), "0"), peer.url)
            assert len(peer.requests) == 1

    run(scenario())


def test_the_next_address_of_a_name_is_tried_if_one_does_not_answer() -> None:
    async def scenario() -> None:
        async with HttpPeer(serve) as peer:
            with socket.create_server(("127.0.0.3", peer.port), backlog=0) as full, ExitStack() as held:
                # A queue that is full: further connections wait for an answer that does not come.
                for _ in range(2):
                    waiting = held.enter_context(socket.socket())
                    waiting.setblocking(False)
                    with suppress(BlockingIOError):
                        waiting.connect(full.getsockname())

                async def resolver(host: str, _: int) -> list[str]:
                    dead = ["127.0.0.2", "127.0.0.3"]  # one refuses, one is silent
                    return dead if host == "dead.example" else [*dead, "127.0.0.1"]

                fetcher = Fetcher(options(timeout_s=3.0), "0", resolver)
                assert await fetched(fetcher, f"http://some.example:{peer.port}/picture") == PICTURE
                with pytest.raises(FetchFailed, match="does not answer"):
                    await fetched(fetcher, f"http://dead.example:{peer.port}/picture")
            assert peer.requests == ["GET /picture"]

    run(scenario())


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://example.org/a.jpg", "http:// or https://"),
        ("example.org/a.jpg", "http:// or https://"),
        ("http:///a.jpg", "http:// or https://"),
        ("http://user:secret@example.org/", "name or password"),
        ("http://example.org:22/", "usual ports"),
        ("https://example.org:80/", "usual ports"),
        ("http://" + "a" * 2000, "at most 2000"),
        ("http://exa mple.org/", "not a web address|public|no host"),
        ("http://[::1/", "not a web address"),
        ("http://\ud800.example/", "not a web address|no host"),
        ("data:image/png;base64,AAAA", "http:// or https://"),
        ("", "http:// or https://"),
    ],
)
def test_invalid_and_forbidden_addresses_are_refused(url: str, words: str) -> None:
    async def nobody(_: str, __: int) -> list[str]:
        raise OSError("no network here")

    async def scenario() -> None:
        with pytest.raises((FetchRefused, FetchFailed), match=words) as caught:
            await fetched(Fetcher(options(private=False), "0", nobody), url)
        assert "secret" not in str(caught.value)

    run(scenario())


@pytest.mark.parametrize(
    ("path", "error", "words"),
    [
        ("large", BodyTooLarge, "100 bytes"),
        ("zipped", FetchFailed, "compressed"),
        ("missing", FetchFailed, "answered 404"),
        ("odd", FetchFailed, "answered 500"),
    ],
)
def test_answers_that_are_no_picture_are_an_error(path: str, error: type[Exception], words: str) -> None:
    async def scenario() -> None:
        async with HttpPeer(serve) as peer:
            with pytest.raises(error, match=words):
                await fetched(Fetcher(options(), "0"), f"{peer.url}/{path}")

    run(scenario())


def test_an_answer_without_a_size_is_cut_off_at_the_limit() -> None:
    async def serve_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 x\r\n\r\n" + bytes(101))
        await reader.read()  # until the other side ends it
        writer.close()

    async def scenario() -> None:
        async with await asyncio.start_server(serve_on, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(BodyTooLarge):
                await fetched(Fetcher(options(timeout_s=5.0), "0"), f"http://127.0.0.1:{port}/")

    run(scenario())


def test_a_silent_server_costs_no_more_than_the_time_limit() -> None:
    async def scenario() -> None:
        async with HttpPeer(serve) as peer:
            with pytest.raises(FetchFailed, match="no picture came within"):
                await fetched(Fetcher(options(timeout_s=0.2), "0"), f"{peer.url}/silent")
        with pytest.raises(FetchFailed, match="does not answer"):
            await fetched(Fetcher(options(), "0"), f"{peer.url}/picture")

    run(scenario())


@pytest.mark.parametrize("text", ["a", "=b", "a=\n", "a=ö"])
def test_rules_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(WrongUsage):
        parse_referer_rules(f"x=y, {text}" if text != "a=\n" else "a=\x00")


@pytest.mark.parametrize("text", ["https://example.org", "me@example.org", "bücher.example", "a\x00"])
def test_hosts_that_are_none_are_refused(text: str) -> None:
    for parse, rule in ((parse_hosts, text), (parse_referer_rules, f"{text}=y")):
        with pytest.raises(WrongUsage):
            parse(f"x=y {rule}" if parse is parse_referer_rules else f"x, {rule}")
