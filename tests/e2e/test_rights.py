"""Every route times every right, asked of a real server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from api.access.policy import AccessPolicy
from api.metrics.instruments import Instruments
from api.web.app import create_front_end
from api.web.guards.limits import LimitOptions
from api.web.subjects.page import PageOptions
from tests.fixtures.servers import ServerProcess, embedded_server
from tests.fixtures.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RIGHTS = ["none", "read", "write", "admin"]
NEEDED = {
    "none": {
        "GET /",
        "GET /static/page.json",
        "GET /static/{name}",
        "GET /live",
        "GET /ready",
    },
    "read": {
        "GET /duplicates",
        "GET /images",
        "GET /images/{image_id}",
        "GET /images/{image_id}/preview.png",
        "GET /images/{image_id}/thumbnail",
        "GET /jobs",
        "GET /jobs/{job_id}",
        "GET /openapi.json",
        "GET /preview.png",
        "GET /query",
        "GET /status",
        "POST /images/missing",
        "POST /query",
        "POST /query/batch",
    },
    "write": {"DELETE /images", "DELETE /images/{image_id}", "POST /images", "POST /images/{image_id}"},
    "admin": {"GET /changes", "GET /export", "GET /metrics"},
}
"""A new route belongs here first: who may use it is a decision."""


def app_routes() -> list[str]:
    app = create_front_end(
        lambda _: pytest.fail("not to be run"),
        limits=LimitOptions(max_bytes=1, max_batch_bytes=1, max_pending=1, max_pending_bytes=1, idle_s=1),
        access=AccessPolicy(),
        instruments=Instruments("0"),
        fetcher=None,
        page_options=PageOptions(),
        on_ready=print,
        on_failure=print,
    )
    return sorted(f"{method} {route.path}" for route in app.api_routes for method in route.methods)


def test_every_route_has_a_decided_right() -> None:
    assert [route for route in app_routes() if not route.startswith("HEAD ")] == sorted(
        set().union(*NEEDED.values())
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rights")
    (folder / "tokens").write_text("write töken-write\nadmin töken-admin\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def private(folder: Path) -> Iterator[ServerProcess]:
    """A server whose tokens come from its file and from the environment, and that nobody may read."""
    environment = {"IQDB_TOKENS": "read:töken-read", "IQDB_TOKEN_FILE": str(folder / "tokens")}
    with embedded_server(folder / "private.sqlite", "--private", environment=environment) as server:
        yield server


def ask(server: ServerProcess, route: str, headers: dict[str, bytes]) -> httpx.Response:
    method, path = route.split(" ")
    path = path.replace("{image_id}", "1").replace("{job_id}", "no-such-job")
    return server.client.request(method, path, headers=headers)


@pytest.mark.parametrize("held", RIGHTS)
@pytest.mark.parametrize("needed", RIGHTS)
def test_a_right_opens_only_the_routes_that_need_it(private: ServerProcess, held: str, needed: str) -> None:
    headers = {} if held == "none" else {"Authorization": f"Bearer töken-{held}".encode()}
    for route in NEEDED[needed]:
        answer = ask(private, route, headers)
        if RIGHTS.index(held) >= RIGHTS.index(needed):
            assert answer.status_code not in {401, 403}, route
        else:
            assert answer.status_code == (401 if held == "none" else 403), route
            assert f"the right {needed}" in answer.json()["message"]


@pytest.mark.parametrize(
    "suffix", ["%0A", "%0a/", "/%0A", "%00", "%0D", "%C2%85", "%E2%80%A8", "%2F%0A", "%20", ";x"]
)
def test_no_other_spelling_of_a_path_opens_it(private: ServerProcess, suffix: str) -> None:
    headers = {"Authorization": "Bearer töken-read".encode()}
    for route in (*NEEDED["write"], *NEEDED["admin"]):
        method, path = route.replace("{image_id}", "1").split(" ")
        answer = private.client.request(method, path + suffix, headers=headers)
        assert answer.status_code in {400, 403, 404}, answer.text


def test_reading_is_open_by_default_and_a_proxy_opens_nothing_more(folder: Path) -> None:
    with embedded_server(folder / "default.sqlite") as server:
        proxied = {"X-Forwarded-For": b"192.0.2.7"}
        for route in NEEDED["none"] | NEEDED["read"]:
            assert ask(server, route, proxied).status_code not in {401, 403}, route
        for route in NEEDED["write"]:
            assert ask(server, route, {}).status_code not in {401, 403}, route
            assert ask(server, route, proxied).status_code == 401, route


def test_writes_from_other_machines_need_a_token_or_open(folder: Path) -> None:
    # This address is loopback, so nobody is let in by the test; only the system knows, the server does not.
    host = "127.1"
    for options, status in (((), 401), (("--open",), 400)):
        log = folder / "elsewhere.log"
        server = ServerProcess(["http", host, "0", str(folder / "elsewhere.sqlite"), *options], log)
        try:
            url = server.wait_ready().url.replace(host, "127.0.0.1")
            answer = httpx.post(f"{url}/images/1")
            assert answer.status_code == status, answer.text
            assert httpx.get(f"{url}/status").status_code == 200
        finally:
            server.close()


def test_the_queries_of_a_batch_count_against_the_callers_rate(folder: Path) -> None:
    tokens = {"IQDB_TOKENS": "read:one"}
    batch = {"queries": [{"post_id": 1}] * 100}
    with embedded_server(folder / "batch.sqlite", "--rate-limit", "1", environment=tokens) as server:
        two = [("Authorization", "Bearer other"), ("Authorization", "Bearer one")]
        refused = server.client.post("/query/batch", json=batch, headers=two)
        assert refused.status_code == 400
        assert "more than once" in refused.json()["message"]
        one = {"Authorization": "Bearer one"}
        assert server.client.post("/query/batch", json=batch, headers=one).status_code == 200
        assert server.client.get("/status", headers=one).status_code == 429
        assert server.client.get("/status").status_code == 200


def test_a_file_that_has_no_tokens_yet_opens_nothing(folder: Path) -> None:
    tokens = folder / "later"
    tokens.write_text("# none yet\n")
    with embedded_server(folder / "later.sqlite", "--token-file", str(tokens)) as server:
        assert "token file has no tokens yet" in server.errors()
        assert server.client.get("/status").status_code == 200
        assert server.client.delete("/images/1").status_code == 401
        tokens.write_text("write now\n")
        bearer = {"Authorization": "Bearer now"}
        wait_until(
            lambda: server.client.delete("/images/1", headers=bearer).status_code == 200, 30, what="a token"
        )
        assert server.client.delete("/images/1").status_code == 401


def test_callers_over_their_rate_get_retry_after(folder: Path) -> None:
    other_proxy = {"FORWARDED_ALLOW_IPS": "192.0.2.0/24"}
    with embedded_server(folder / "rate.sqlite", "--rate-limit", "0.2", environment=other_proxy) as server:
        answers = [server.client.get("/status") for _ in range(3)]
        assert answers[0].status_code == 200
        assert answers[-1].status_code == 429
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 5
        assert server.client.get("/ready").status_code == 200
        # This machine is none of the proxies whose word on the caller's address is believed.
        elsewhere = {"X-Forwarded-For": "203.0.113.7"}
        assert server.client.get("/status", headers=elsewhere).status_code == 429
