"""The OpenAPI document is complete, and true of a real server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from api.web.subjects.jobs import _job_body
from iqdb_core import codec
from iqdb_core.jobs.model import Job, JobKind, JobState
from tests.e2e.test_rights import NEEDED
from tests.fixtures import pictures
from tests.fixtures.noise import noise_png
from tests.fixtures.servers import ServerProcess, embedded_server

if TYPE_CHECKING:
    from collections.abc import Iterator

FOUND = {"score", "likelihood", "detail", "turn", "source"}
HASH = codec.to_hash(codec.from_hash("0" * 48 + "".join(f"{place:04x}" for place in range(1, 41)) * 3))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with embedded_server(tmp_path_factory.mktemp("openapi") / "iqdb.sqlite") as running:
        yield running


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that has something to tell under most names: sources, copies, a deletion, a checkpoint."""
    with embedded_server(
        tmp_path_factory.mktemp("filled") / "iqdb.sqlite", "--checkpoint-s", "0.1"
    ) as running:
        for number in (1, 2, 4):
            files = {"file": PHOTO.read_bytes()}
            running.client.post(f"/images/{number}", files=files, params={"source": "page"})
        running.client.post("/images/3", json={"hash": HASH, "source": "page"})
        running.client.delete("/images/2")
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
    left_out = {"GET /", "GET /static/{name}", "GET /static/page.json", "GET /openapi.json"}
    found = operations(document)
    assert set(found) == set().union(*NEEDED.values()) - left_out
    for right, routes in NEEDED.items():
        for route in routes - left_out:
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
def test_answers_match_their_descriptions(
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


def names_left_out(schema: dict[str, Any], value: Any, place: str = "") -> list[str]:
    """Return which fields of an answer its schema does not name."""
    choices = schema.get("oneOf") or schema.get("anyOf")
    if choices:
        return min((names_left_out(one, value, place) for one in choices), key=len)
    if isinstance(value, list):
        return [name for one in value for name in names_left_out(schema["items"], one, f"{place}[]")]
    if not isinstance(value, dict):
        return [] if schema else [place]
    left_out = []
    for name, one in value.items():
        known = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
        if known is None:
            left_out.append(f"{place}.{name}")
        elif known is not True:
            left_out += names_left_out(known, one, f"{place}.{name}")
    return left_out


PHOTO = next(path for path in pictures.photos() if path.suffix == ".jpg")
CUT = PHOTO.read_bytes()[:-400]
"""A JPEG of which the end is missing."""
JSON_HASH = {"json": {"hash": HASH}}


def framed() -> bytes:
    """Return the photo on a page: it is found by a part."""
    with Image.open(PHOTO) as photo:
        page = Image.new("RGB", (photo.width + 300, photo.height + 200), (250, 250, 250))
        page.paste(photo.convert("RGB"), (150, 100))
    return pictures.encoded(page, "JPEG", quality=90)


@pytest.mark.parametrize(
    ("route", "request_", "told"),
    [
        (
            "POST /images/{image_id}",
            {"files": {"file": CUT}, "data": {"source": "a"}},
            {"damaged", "signature"},
        ),
        ("POST /images/{image_id}", {"params": {"source": "b"}, **JSON_HASH}, {"hash"}),
        ("POST /images", {"files": {"9": CUT, "10": b"no picture"}}, {"damaged", "signature", "message"}),
        ("POST /images", {"json": {"images": [{"post_id": 11, "hash": HASH, "source": "c"}]}}, {"status"}),
        ("DELETE /images", {"json": [12, 13]}, {"post_ids"}),
        ("DELETE /images/{image_id}", {}, {"post_id"}),
        ("GET /images/{image_id}", {}, {"source", "signature"}),
        ("GET /images", {}, {"source", "next"}),
        ("POST /images/missing", {"json": [1, 2]}, {"missing"}),
        ("POST /query", {"files": {"file": CUT}}, {"score", "signature"}),
        ("POST /query", {"files": {"file": framed()}, "data": {"find": "copies"}}, FOUND | {"part"}),
        ("POST /query", {"files": {"file": CUT}, "data": {"turns": "all"}}, FOUND),
        ("POST /query", {"json": {"hash": HASH, "mode": "sketch"}}, {"source"}),
        ("POST /query", {"json": {"post_id": 1, "find": "copies", "exclude": [2], "offset": 0}}, FOUND),
        ("GET /query", {"params": {"hash": HASH, "find": "copies"}}, FOUND),
        ("POST /query/batch", {"files": {"a": CUT}, "params": {"find": "copies"}}, FOUND | {"damaged"}),
        ("POST /query/batch", {"json": {"queries": [{"hash": HASH}, {"hash": "no"}]}}, {"message"}),
        ("GET /changes", {}, {"seq", "deleted", "source"}),
        ("GET /duplicates", {}, {"groups", "pairs", "score"}),
        ("GET /status", {}, {"follower", "checkpoint", "uptime_s"}),
        ("GET /live", {}, {"live"}),
        ("GET /ready", {}, {"ready"}),
    ],
)
def test_every_field_of_an_answer_is_named(
    filled: ServerProcess, document: dict[str, Any], route: str, request_: dict[str, Any], told: set[str]
) -> None:
    method, path = route.split(" ")
    place = path.replace("{image_id}", "1" if method == "GET" else "99")
    answer = filled.client.request(method, place, **request_)
    assert answer.status_code == 200, answer.text
    described = operations(document)[route]["responses"]["200"]
    schema = described["content"]["application/json"]["schema"]
    assert names_left_out(schema, answer.json()) == []
    assert all(f'"{name}":' in answer.text for name in told), answer.text
    ours = {name.lower() for name in described.get("headers", {})}
    assert {name for name in answer.headers if name.startswith("x-")} <= ours


def test_every_field_of_a_job_is_named(document: dict[str, Any]) -> None:
    """The embedded server has no jobs."""
    signature = codec.from_hash(HASH)
    job = Job("0f", 7, JobKind.IMAGE, JobState.DONE, 1, 0, "why", "", signature, 3, is_damaged=True)
    described = operations(document)
    one = described["GET /jobs/{job_id}"]["responses"]["200"]["content"]["application/json"]["schema"]
    many = described["GET /jobs"]["responses"]["200"]["content"]["application/json"]["schema"]
    body = _job_body(job)
    assert body.keys() >= {"reason", "hash", "damaged"}
    assert names_left_out(one, body) == []
    assert names_left_out(many, {"jobs": [body], "next": None}) == []


def test_every_query_parameter_is_described_for_every_kind_of_body(document: dict[str, Any]) -> None:
    described = operations(document)["POST /query"]
    words = {one["name"] for one in described["parameters"] if one["in"] == "query"}
    assert {"find", "turns", "offset", "exclude", "min_likelihood", "min_detail", "url"} <= words
    for kind in ("multipart/form-data", "application/x-www-form-urlencoded", "application/json"):
        schema = described["requestBody"]["content"][kind]["schema"]
        named = set(schema["properties"]) | {
            name for one in schema.get("anyOf", []) for name in one["properties"]
        }
        assert words <= named, kind
    adding = operations(document)["POST /images/{image_id}"]
    assert "source" in {one["name"] for one in adding["parameters"]}
    for kind in ("multipart/form-data", "application/x-www-form-urlencoded", "application/json"):
        assert "source" in adding["requestBody"]["content"][kind]["schema"]["properties"], kind


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
