"""What a server shows of images, asked over HTTP."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from tests.fixtures import pictures
from tests.fixtures.servers import ServerProcess, embedded_server

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with embedded_server(tmp_path_factory.mktemp("previews") / "iqdb.sqlite") as running:
        running.client.post("/images/7", files={"file": pictures.flat((200, 40, 40))})
        yield running


def test_a_preview_is_a_png_that_browsers_may_keep(server: ServerProcess) -> None:
    answer = server.client.get("/images/7/preview.png")
    assert answer.headers["content-type"] == "image/png"
    assert "max-age=" in answer.headers["cache-control"]
    image = Image.open(io.BytesIO(answer.content))
    assert (image.format, image.size) == ("PNG", (128, 128))
    red, green, blue = image.getpixel((64, 64))
    assert (red, green, blue) == pytest.approx((200, 40, 40), abs=1)
    again = server.client.get("/images/7/preview.png", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    server.client.post("/images/7", files={"file": pictures.flat((20, 40, 240))})
    other = server.client.get("/images/7/preview.png", headers={"If-None-Match": answer.headers["etag"]})
    assert other.status_code == 200
    assert other.headers["etag"] != answer.headers["etag"]


def test_a_hash_has_a_preview_without_being_known(server: ServerProcess) -> None:
    answer = server.client.get("/preview.png", params={"hash": pictures.golden()[0][1]})
    assert answer.status_code == 200
    assert Image.open(io.BytesIO(answer.content)).size == (128, 128)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/images/8/preview.png", 404),
        ("/images/x/preview.png", 400),
        ("/preview.png", 400),
        ("/preview.png?hash=12", 400),
    ],
)
def test_what_cannot_be_shown_is_said(server: ServerProcess, path: str, status: int) -> None:
    answer = server.client.get(path)
    assert answer.status_code == status
    assert answer.json()["message"]
