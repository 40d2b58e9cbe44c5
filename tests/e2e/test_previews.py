"""What a server shows of images, asked over HTTP."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from tests.fixtures import pictures
from tests.fixtures.command_line import run_process
from tests.fixtures.servers import ServerProcess, embedded_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that knows image 7, and images 8 to 10 that came from files, the last from a hidden one."""
    folder = tmp_path_factory.mktemp("previews")
    database = folder / "iqdb.sqlite"
    (folder / "shown").mkdir()
    (folder / "shown" / "photo.png").write_bytes(pictures.picture(8, (1000, 500)))
    (folder / "shown" / "no.png").write_bytes(b"text")
    (folder / "hidden.png").write_bytes(pictures.picture(10))
    with embedded_server(database, "--pictures", str(folder / "shown")) as running:
        running.client.post("/images/7", files={"file": pictures.flat((200, 40, 40))})
        sources = {8: "photo.png", 9: str(folder / "shown" / "no.png"), 10: str(folder / "hidden.png")}
        for number, source in sources.items():
            picture = {"file": pictures.picture(number)}
            running.client.post(f"/images/{number}", files=picture, params={"source": source})
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
        ("/images/99/preview.png", 404),
        ("/images/7/thumbnail", 404),
        ("/images/9/thumbnail", 404),
        ("/images/10/thumbnail", 404),
        ("/images/99/thumbnail", 404),
        ("/images/x/thumbnail", 400),
        ("/images/x/preview.png", 400),
        ("/preview.png", 400),
        ("/preview.png?hash=12", 400),
    ],
)
def test_previews_that_cannot_be_made_are_errors(server: ServerProcess, path: str, status: int) -> None:
    answer = server.client.get(path)
    assert answer.status_code == status
    assert answer.json()["message"]
    assert ".png" not in answer.json()["message"], "where files lie concerns nobody"


def test_a_file_below_the_folder_is_shown_small(server: ServerProcess) -> None:
    answer = server.client.get("/images/8/thumbnail")
    assert answer.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(answer.content)).size == (400, 200)
    again = server.client.get("/images/8/thumbnail", headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304
    assert server.client.get("/static/page.json").json()["pictures"] is True


@pytest.mark.parametrize(
    ("option", "value"),
    [("--pictures", "no such folder"), ("--thumbnail", "x/{id}"), ("--link", "https://example.org")],
)
def test_invalid_page_settings_end_the_start_with_one_sentence(
    tmp_path: Path, option: str, value: str
) -> None:
    ended = run_process("http", "127.0.0.1", "0", tmp_path / "x", option, value)
    assert ended.returncode != 0
    assert ended.stderr.startswith(f"iqdb: {option} ")
    assert "Traceback" not in ended.stderr
