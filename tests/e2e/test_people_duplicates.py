"""`iqdb duplicates` on a server whose images change, or that fails, while it is asked."""

from __future__ import annotations

import http.server
import json
import threading
from typing import TYPE_CHECKING

import pytest

from tests.fixtures.command_line import run

if TYPE_CHECKING:
    from collections.abc import Iterator

GROUP = {"post_ids": [1, 2], "pairs": [{"post_ids": [1, 2], "likelihood": 1.0, "score": 100.0}]}
ANSWERS = {
    "/status": (200, {"images": 3}),
    "/images/1": (200, {"post_id": 1, "hash": "iqdb_0", "source": "one"}),
    "/images/2": (404, {"message": "no image has the id 2"}),
    "/duplicates": (200, {"groups": [GROUP], "looked_at": 2, "next": 2}),
}


class Failing(http.server.BaseHTTPRequestHandler):
    """Knows the first page of groups, one of which has lost an image meanwhile, and fails at the next."""

    def do_GET(self) -> None:
        path = "further" if "after=" in self.path else self.path.partition("?")[0]
        status, body = ANSWERS.get(path, (500, {"message": "internal error"}))
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def failing() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Failing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_who_is_interrupted_by_the_server_is_told_where_to_go_on(failing: str) -> None:
    ended = run("duplicates", "--url", failing, "--format", "ndjson")
    assert ended.returncode != 0
    assert "go on with --after 2" in ended.stderr
    assert "internal error" in ended.stderr
    assert json.loads(ended.stdout)["images"] == [{"post_id": 1, "source": "one"}, {"post_id": 2}]
