"""Tokens, rights and rates, without a server."""

from __future__ import annotations

import hashlib
import itertools
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.access import keyring as keyring_module
from api.access import rate
from api.access.keyring import Keyring, create_token, parse_tokens, read_tokens
from api.access.policy import AccessPolicy, Ambiguous, Forbidden, RateLimited, Unauthorized, anonymous_right
from api.access.rate import RateLimit, caller_of
from api.access.rights import Right, right_for
from api.web.guards.origin import check_origin
from iqdb_core.errors import WrongUsage

if TYPE_CHECKING:
    from pathlib import Path

RING = Keyring(parse_tokens("read:r write:w admin:a"))
EVERYWHERE = "0.0.0.0"  # noqa: S104 - nothing listens here
BY_RIGHT = {Right.READ: b"r", Right.WRITE: b"w", Right.ADMIN: b"a"}


def bearer(token: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"authorization", b"Bearer " + token)]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class TestKeyring:
    def test_a_token_is_found_with_its_right(self) -> None:
        for right, token in BY_RIGHT.items():
            found = RING.find(token)
            assert found is not None
            assert found.right is right
        assert RING.find(b"") is None
        assert RING.find(b"rw") is None

    @given(st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1, max_size=20))
    def test_tokens_are_found_in_every_encoding_that_clients_use(self, token: str) -> None:
        if token.startswith("sha256:"):
            return
        ring = Keyring([create_token("read", token, "here")])
        assert ring.find(token.encode()) is not None
        if all(ord(character) < 256 for character in token):
            assert ring.find(token.encode("latin-1")) is not None
        assert ring.find(token.encode() + b"x") is None

    def test_a_token_may_be_given_as_a_digest(self) -> None:
        digest = hashlib.sha256(b"secret").hexdigest()
        ring = Keyring([create_token("admin", f"sha256:{digest}", "here")])
        assert ring.find(b"secret") is not None
        assert ring.find(digest.encode()) is None

    def test_every_entry_is_compared_whichever_fits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        compared: list[bytes] = []

        def counted(left: bytes, right: bytes) -> bool:
            compared.append(right)
            return left == right

        monkeypatch.setattr(keyring_module.hmac, "compare_digest", counted)
        counts = set()
        for token in (b"r", b"w", b"a", b"none"):
            compared.clear()
            RING.find(token)
            counts.add(len(compared))
        assert len(counts) == 1

    @pytest.mark.parametrize("text", ["secret", "root:x", "read:", "write:sha256:12", "read"])
    def test_invalid_tokens_are_refused_and_not_repeated_in_the_error(self, text: str) -> None:
        with pytest.raises(WrongUsage) as caught:
            parse_tokens(f"read:fine, {text}")
        assert "token 2" in str(caught.value)
        assert "secret" not in str(caught.value)

    def test_a_file_is_read_and_read_again(self, tmp_path: Path) -> None:
        clock, file = Clock(), tmp_path / "tokens"
        file.write_text("# who\n\nread  öne\nwrite two\n", encoding="utf-8")
        ring = Keyring(file=file, clock=clock)
        assert ring.find("öne".encode()) is not None
        file.write_text("admin three\n")
        os.utime(file, ns=(1, 1))
        assert ring.find(b"two") is not None  # it is not looked at for each request
        clock.now += keyring_module.LOOK_S
        assert ring.find(b"two") is None
        assert ring.find(b"three") is not None
        file.write_text("nonsense\n")
        clock.now += keyring_module.LOOK_S
        assert ring.find(b"three") is not None  # a mistake locks nobody out
        file.unlink()
        clock.now += keyring_module.LOOK_S
        assert ring.find(b"three") is not None

    def test_a_file_that_cannot_be_read_is_refused_without_its_path(self, tmp_path: Path) -> None:
        (tmp_path / "bytes").write_bytes(b"read \xff\n")
        (tmp_path / "words").write_text("read a b\n")
        for name in ("absent", "bytes", "words"):
            with pytest.raises(WrongUsage) as caught:
                read_tokens(tmp_path / name)
            assert str(tmp_path) not in str(caught.value)


class TestPolicy:
    @pytest.mark.parametrize("right", list(Right))
    @pytest.mark.parametrize(
        ("method", "path", "needed"),
        [
            ("GET", "/live", Right.NONE),
            ("GET", "/", Right.NONE),
            ("GET", "/static/page.js", Right.NONE),
            ("POST", "/static/page.js", Right.WRITE),
            ("GET", "/images/1", Right.READ),
            ("HEAD", "/images/1", Right.READ),
            ("POST", "/query", Right.READ),
            ("POST", "/query/batch", Right.READ),
            ("POST", "/images/missing", Right.READ),
            ("POST", "/images/missing/", Right.READ),
            ("POST", "/images/1", Right.WRITE),
            ("POST", "/queryx", Right.WRITE),
            ("PUT", "/anything", Right.WRITE),
            ("DELETE", "/images", Right.WRITE),
            ("GET", "/export", Right.ADMIN),
            ("GET", "/changes/", Right.ADMIN),
            ("GET", "/metrics", Right.ADMIN),
        ],
    )
    def test_rights_are_compared(self, right: Right, method: str, path: str, needed: Right) -> None:
        assert right_for(method, path) is needed
        policy = AccessPolicy(RING, Right.NONE, Right.NONE)
        headers = bearer(BY_RIGHT[right]) if right else []
        if right >= needed:
            policy.check(method, path, headers, "192.0.2.1")
        else:
            with pytest.raises(Forbidden if right else Unauthorized):
                policy.check(method, path, headers, "192.0.2.1")

    @pytest.mark.parametrize(
        ("host", "has_tokens", "is_open", "direct", "proxied"),
        [
            ("127.0.0.1", False, False, Right.ADMIN, Right.READ),
            ("::1", False, False, Right.ADMIN, Right.READ),
            ("localhost", False, False, Right.ADMIN, Right.READ),
            ("127.0.0.1", True, False, Right.READ, Right.READ),
            ("127.0.0.1", False, True, Right.ADMIN, Right.WRITE),
            (EVERYWHERE, False, False, Right.READ, Right.READ),
            ("::", False, False, Right.READ, Right.READ),
            ("example.org", False, False, Right.READ, Right.READ),
            (EVERYWHERE, True, False, Right.READ, Right.READ),
            (EVERYWHERE, True, True, Right.WRITE, Right.WRITE),
            (EVERYWHERE, False, True, Right.WRITE, Right.WRITE),
        ],
    )
    def test_rights_of_callers_without_a_token(
        self, host: str, has_tokens: bool, is_open: bool, direct: Right, proxied: Right
    ) -> None:
        ring = RING if has_tokens else Keyring()
        assert anonymous_right(host, ring, is_open=is_open, is_private=False) == (direct, proxied)

    def test_a_file_of_tokens_means_tokens_also_while_it_is_empty(self, tmp_path: Path) -> None:
        clock, file = Clock(), tmp_path / "tokens"
        file.write_text("")
        ring = Keyring(file=file, clock=clock)
        policy = AccessPolicy(ring, *anonymous_right("127.0.0.1", ring, is_open=False, is_private=False))
        for text in ("", "write w\n", ""):
            file.write_text(text)
            clock.now += keyring_module.LOOK_S
            with pytest.raises(Unauthorized, match="Bearer TOKEN"):
                policy.check("POST", "/images/1", [], "127.0.0.1")
            with pytest.raises(Unauthorized):
                policy.check("GET", "/export", [], "127.0.0.1")
            if text:
                policy.check("POST", "/images/1", bearer(b"w"), "127.0.0.1")

    def test_private_closes_reading(self) -> None:
        assert anonymous_right("127.0.0.1", RING, is_open=False, is_private=True) == (Right.NONE, Right.NONE)
        with pytest.raises(WrongUsage, match="needs tokens"):
            anonymous_right("127.0.0.1", Keyring(), is_open=False, is_private=True)
        with pytest.raises(WrongUsage, match="choose one"):
            anonymous_right("127.0.0.1", RING, is_open=True, is_private=True)

    @pytest.mark.parametrize("name", [b"x-forwarded-for", b"forwarded", b"x-real-ip"])
    def test_a_proxy_on_this_machine_opens_nothing(self, name: bytes) -> None:
        policy = AccessPolicy(Keyring(), *anonymous_right("::1", Keyring(), is_open=False, is_private=False))
        policy.check("POST", "/images/1", [], "::1")
        with pytest.raises(Unauthorized, match="--open"):
            policy.check("POST", "/images/1", [(name, b"192.0.2.1")], "::1")

    @pytest.mark.parametrize(
        "host",
        [
            "localhost",
            "LocalHost:5588",
            "127.0.0.1:5588",
            "127.8.9.1",
            "[::1]",
            "[::1]:5588",
            "a.localhost:1",
        ],
    )
    def test_this_machine_calls_itself_by_its_own_names(self, host: str) -> None:
        policy = AccessPolicy(Keyring(), *anonymous_right("::1", Keyring(), is_open=False, is_private=False))
        policy.check("GET", "/export", [(b"host", host.encode())], "::1")

    @pytest.mark.parametrize(
        "host",
        [
            *("evil.example", "evil.example:5588", "127.0.0.1.evil.example", "localhost.evil.example:80"),
            *("192.0.2.1", "", "localhost@evil.example", "[::2]:80", "xn--localhost", "\xe9"),
        ],
    )
    def test_a_name_that_leads_here_from_elsewhere_opens_nothing(self, host: str) -> None:
        """A web site whose name was made to lead to its visitor's machine."""
        policy = AccessPolicy(Keyring(), *anonymous_right("::1", Keyring(), is_open=False, is_private=False))
        headers = [(b"host", host.encode("latin-1"))]
        policy.check("POST", "/query", headers, "::1")
        for method, path in (("POST", "/images/1"), ("DELETE", "/images"), ("GET", "/export")):
            with pytest.raises(Unauthorized):
                policy.check(method, path, headers, "::1")

    def test_a_token_raises_and_never_lowers(self) -> None:
        AccessPolicy(RING, Right.WRITE, Right.WRITE).check("POST", "/images/1", bearer(b"r"), None)

    @pytest.mark.parametrize(
        "pair",
        [(b"Bearer w", b"Bearer r"), (b"Bearer no", b"Bearer w"), (b"Basic x", b"Bearer w"), (b"", b"")],
    )
    def test_two_headers_for_one_caller_are_refused(self, pair: tuple[bytes, bytes]) -> None:
        headers = [(b"authorization", value) for value in pair]
        policy = AccessPolicy(RING, Right.READ, Right.READ, RateLimit(1, Clock()))
        for method, path in (("GET", "/status"), ("POST", "/query/batch"), ("POST", "/images/1")):
            with pytest.raises(Ambiguous, match="more than once"):
                policy.check(method, path, headers, "192.0.2.1")
        with pytest.raises(Ambiguous):
            check_origin(headers)

    def test_only_bearer_tokens_count(self) -> None:
        for value in (b"Basic w", b"w", b"Bearer", b"Bearer  ", b""):
            with pytest.raises(Unauthorized):
                AccessPolicy(RING, Right.READ, Right.READ).check(
                    "POST", "/images/1", [(b"authorization", value)], None
                )


class TestRate:
    def test_a_burst_passes_and_then_the_rate_holds(self) -> None:
        clock = Clock()
        limit = RateLimit(2, clock)
        burst = int(2 * rate.BURST_S)
        assert [limit.take("a") for _ in range(burst)] == [0] * burst
        assert limit.take("a") == 1
        assert limit.take("b") == 0
        clock.now += 0.5
        assert limit.take("a") == 0
        assert limit.take("a") == 1
        clock.now += 1000
        assert [limit.take("a") for _ in range(burst + 1)].count(0) == burst

    def test_the_cost_of_a_batch_delays_the_next_requests(self) -> None:
        clock = Clock()
        policy = AccessPolicy(RING, Right.READ, Right.READ, RateLimit(1, clock))
        admission = policy.check("POST", "/query/batch", bearer(b"r"), "192.0.2.1")
        policy.charge(admission.caller, 99)
        with pytest.raises(RateLimited) as told:
            policy.check("POST", "/query", bearer(b"r"), "192.0.2.2")
        assert told.value.wait_s == 100 - int(rate.BURST_S) + 1
        policy.check("POST", "/query", [], "192.0.2.1")
        clock.now += told.value.wait_s
        policy.check("POST", "/query", bearer(b"r"), "192.0.2.2")

    def test_a_page_of_small_pictures_costs_one_request(self) -> None:
        policy = AccessPolicy(RING, Right.READ, Right.READ, RateLimit(0.2, Clock()))
        for path in ("/", "/static/main.js", "/static/page.json") * 50:
            policy.check("GET", path, [], "192.0.2.1")
        for number in range(24):
            policy.check("GET", f"/images/{number}/preview.png", [], "192.0.2.1")
            policy.check("GET", f"/images/{number}/thumbnail", [], "192.0.2.1")
        with pytest.raises(RateLimited):
            policy.check("GET", "/status", [], "192.0.2.1")

    @pytest.mark.parametrize(
        ("anonymous", "said"), [(Right.ADMIN, "from its own machine only"), (Right.READ, "takes no writes")]
    )
    def test_the_error_says_why_nobody_may_write(self, anonymous: Right, said: str) -> None:
        policy = AccessPolicy(Keyring(), anonymous, Right.READ)
        with pytest.raises(Unauthorized, match=said):
            policy.check("POST", "/images/1", [(b"x-forwarded-for", b"192.0.2.7")], "127.0.0.1")

    def test_a_slow_rate_says_how_long_to_wait(self) -> None:
        limit = RateLimit(0.01, Clock())
        assert (limit.take("a"), limit.take("a")) == (0, 100)
        limit = RateLimit(5e-324, Clock())
        assert (limit.take("a"), limit.take("a")) == (0, 86_400)

    def test_no_rate_is_no_limit(self) -> None:
        limit = RateLimit(0)
        assert {limit.take("a") for _ in range(1000)} == {0}

    def test_memory_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(rate, "MAX_CALLERS", 10)
        limit = RateLimit(1, Clock())
        for number in range(100):
            limit.take(str(number))
        assert len(limit._buckets) == 10

    def test_callers_are_told_apart_by_token_before_address(self) -> None:
        policy = AccessPolicy(RING, Right.READ, Right.READ, RateLimit(0.001, Clock()))
        for number, headers in itertools.product(range(5), ([], bearer(b"r"), bearer(b"w"))):
            if number == 0:
                policy.check("GET", "/status", headers, "192.0.2.1")
            else:
                with pytest.raises(RateLimited) as caught:
                    policy.check("GET", "/status", headers, "192.0.2.1")
                assert caught.value.wait_s == 1000
            policy.check("GET", "/live", headers, "192.0.2.1")

    def test_an_ipv6_customer_is_one_caller(self) -> None:
        assert (
            caller_of("2001:db8:1:2:3::4") == caller_of("2001:db8:1:2:ffff::1") != caller_of("2001:db8:1:3::")
        )
        assert caller_of("::ffff:192.0.2.7") == caller_of("192.0.2.7") == "192.0.2.7"
        assert caller_of("unknown") == "unknown"
