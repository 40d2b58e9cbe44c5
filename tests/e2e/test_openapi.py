"""The OpenAPI document is complete, and true of a real server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from iqdb_core import codec
from tests.e2e.test_rights import NEEDED
from tests.fixtures.noise import noise_png
from tests.fixtures.servers import ServerProcess, embedded_server

if TYPE_CHECKING:
    from collections.abc import Iterator

HASH = codec.to_hash(codec.from_hash("0" * 48 + "".join(f"{place:04x}" for place in range(1, 41)) * 3))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with embedded_server(tmp_path_factory.mktemp("openapi") / "iqdb.sqlite") as running:
        yield running


@pytest.fixture(scope="module")
def document(server: ServerProcess) -> dict[str, Any]:
    found: dict[str, Any] = server.client.get("/openapi.json").json()
    return found


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{method.upper()} {path}": operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
    }


def test_every_route_is_described_with_its_right(document: dict[str, Any]) -> None:
    of_the_page = {"GET /", "GET /static/{name}", "GET /static/page.json"}
    found = operations(document)
    assert set(found) == set().union(*NEEDED.values()) - of_the_page
    for right, routes in NEEDED.items():
        for route in routes - of_the_page:
            assert found[route].get("x-right", "none") == right
            assert bool(found[route].get("security")) == (right != "none")
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"


def test_every_operation_names_its_answers(document: dict[str, Any]) -> None:
    shared = document["components"]["responses"]
    for route, operation in operations(document).items():
        assert operation["summary"], route
        assert operation["description"], route
        assert "4XX" not in operation["responses"], route
        for status, answer in operation["responses"].items():
            if status[0] in "45":
                assert answer == {"$ref": f"#/components/responses/{status}"}, (route, status)
            else:
                assert "content" in answer or status == "304", (route, status)
    for answer in shared.values():
        schema = answer["content"]["application/json"]["schema"]
        assert schema == {"$ref": "#/components/schemas/Error"}
    for status in ("429", "503"):
        assert "Retry-After" in shared[status]["headers"]
    assert document["components"]["schemas"]["Error"]["required"] == ["message"]
    names = [operation["operationId"] for operation in operations(document).values()]
    assert len(set(names)) == len(names)


def test_headers_that_matter_are_named(document: dict[str, Any]) -> None:
    for route in ("POST /images", "POST /images/{image_id}"):
        parameters = operations(document)[route]["parameters"]
        assert ("Prefer", "header") in {(one["name"], one["in"]) for one in parameters}
    accepted = operations(document)["POST /images/{image_id}"]["responses"]["202"]
    assert "Location" in accepted["headers"]
    assert "WWW-Authenticate" in document["components"]["responses"]["401"]["headers"]


def test_examples_are_valid(document: dict[str, Any], server: ServerProcess) -> None:
    bodies = {
        route: operation["requestBody"]["content"]["application/json"]["example"]
        for route, operation in operations(document).items()
        if "requestBody" in operation
    }
    assert len(bodies) == 6
    for route, body in bodies.items():
        method, path = route.split(" ")
        answer = server.client.request(method, path.replace("{image_id}", "1"), json=body)
        assert answer.status_code == 200, (route, answer.text)


@pytest.mark.parametrize(
    ("method", "path", "request_", "status"),
    [
        ("POST", "/images/{image_id}", {"files": {"file": noise_png(1)}}, 200),
        ("POST", "/images/{image_id}", {"files": {"file": b"no picture"}}, 422),
        ("POST", "/images/{image_id}", {"files": {"file": bytes(70_000_000)}}, 413),
        ("POST", "/images/{image_id}", {}, 400),
        ("GET", "/images/{image_id}", {}, 404),
        ("POST", "/query", {"data": {"post_id": "999"}}, 404),
        ("GET", "/query", {"params": {"hash": HASH}}, 200),
        ("GET", "/changes", {"params": {"since": "999.x"}}, 409),
        ("GET", "/jobs/{job_id}", {}, 404),
        ("GET", "/status", {}, 200),
        ("GET", "/ready", {}, 200),
        ("GET", "/metrics", {}, 200),
        ("GET", "/export", {}, 200),
    ],
)
def test_what_is_answered_is_described(
    server: ServerProcess,
    document: dict[str, Any],
    method: str,
    path: str,
    request_: dict[str, Any],
    status: int,
) -> None:
    place = path.replace("{image_id}", "7" if method == "GET" else "2").replace("{job_id}", "none")
    answer = server.client.request(method, place, **request_)
    assert answer.status_code == status, answer.text
    described = operations(document)[f"{method} {path}"]["responses"][str(status)]
    if status < 400:
        assert answer.headers["content-type"].partition(";")[0] in described["content"]
    else:
        assert set(answer.json()) == {"message"}


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [1, 7])
def test_schemathesis_finds_nothing(server: ServerProcess, tmp_path: Path, seed: int) -> None:
    """But for one check: what a form cannot say (a file that is a picture, a hash that is one) is refused."""
    run = subprocess.run(
        [
            *(Path(sys.executable).with_name("schemathesis"), "run", f"{server.url}/openapi.json"),
            *("--checks", "all", "--exclude-checks", "positive_data_acceptance", "--no-color"),
            *("--max-examples", "30", "--seed", str(seed), "--request-timeout", "60"),
            "--suppress-health-check=all",  # of its own speed, which is the machine's
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=800,
    )
    assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]
    assert server.process.poll() is None
