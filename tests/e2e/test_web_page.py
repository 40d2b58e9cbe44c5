"""The web page in a real browser: choose a picture, see what it is."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.fixtures import pictures
from tests.fixtures.servers import embedded_server

if TYPE_CHECKING:
    from collections.abc import Iterator

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The page of a server that knows three pictures, in a browser that reports every error."""
    if BROWSER is None:
        pytest.skip("no browser on this machine")
    playwright = pytest.importorskip("playwright.sync_api")
    folder = tmp_path_factory.mktemp("page")
    with (
        embedded_server(folder / "iqdb.sqlite", "--link", "https://example.org/posts/{id}") as server,
        playwright.sync_playwright() as driver,
    ):
        for number in (1, 2, 2**63 - 1):
            server.client.post(f"/images/{number}", files={"file": pictures.picture(number % 97, (64, 48))})
        browser = driver.chromium.launch(executable_path=BROWSER, headless=True, args=FLAGS)
        opened = browser.new_page()
        opened.errors = []
        opened.on("pageerror", lambda error: opened.errors.append(str(error)))
        opened.on("console", lambda line: line.type == "error" and opened.errors.append(line.text))
        opened.goto(server.url)
        yield opened
        browser.close()


def choose(page: Any, folder: Path, data: bytes) -> None:
    file = folder / "chosen.png"
    file.write_bytes(data)
    page.set_input_files("#file", str(file))


def test_a_known_picture_is_found_with_its_link(page: Any, tmp_path: Path) -> None:
    page.get_by_text("3 images known").wait_for()
    choose(page, tmp_path, pictures.picture((2**63 - 1) % 97, (64, 48)))
    page.wait_for_selector("#matches tbody tr")
    assert page.text_content("#message") == "1 likely copy found."
    link = page.locator("#matches tbody tr a").first
    assert link.text_content() == f"#{2**63 - 1}"
    assert link.get_attribute("href") == f"https://example.org/posts/{2**63 - 1}"
    assert page.locator("#matches tbody tr").count() == 3
    assert page.is_visible("#preview")
    assert page.errors == []


def test_a_file_that_is_no_picture_is_explained(page: Any, tmp_path: Path) -> None:
    choose(page, tmp_path, b"this is text")
    page.wait_for_selector("#message.error")
    assert page.text_content("#message").startswith("This did not work: ")
    assert page.is_hidden("#matches")
    page.errors.clear()  # the browser reports the 422 itself


def test_a_stranger_is_not_called_a_copy(page: Any, tmp_path: Path) -> None:
    choose(page, tmp_path, pictures.picture(55, (64, 48)))
    page.get_by_text("No copy found. The most alike:").wait_for()
    assert page.errors == []
