"""The web page in a real browser: sketches, phones, keyboards, and what a visitor does by mistake."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from iqdb_core.model import Write
from iqdb_core.signature import from_image_bytes
from iqdb_core.store import open_store
from tests.fixtures import pictures
from tests.fixtures.page import STRANGER, known
from tests.fixtures.servers import ServerProcess, embedded_server
from tests.fixtures.visits import Visit

if TYPE_CHECKING:
    from pathlib import Path


def test_a_sketch_is_searched_and_can_be_taken_back(visit: Visit) -> None:
    visit.page.get_by_role("tab", name="Picture").focus()
    visit.page.keyboard.press("ArrowRight")
    box = visit.page.locator("#canvas").bounding_box()
    visit.page.mouse.move(box["x"] + 20, box["y"] + 20)
    visit.page.mouse.down()
    visit.page.mouse.move(box["x"] + 150, box["y"] + 100, steps=4)
    with visit.page.expect_request("**/query*") as asked:
        visit.page.mouse.up()
    assert "mode=sketch" in asked.value.url
    visit.says("These look most like it.")
    assert len(visit.names) == 3
    pixels = "document.getElementById('canvas').getContext('2d').getImageData(0, 0, 512, 384).data"
    painted = f"{pixels}.some((value) => value < 200)"
    assert visit.page.evaluate(painted)
    visit.page.get_by_role("button", name="Undo").click()
    assert not visit.page.evaluate(painted)


def test_everything_can_be_done_with_the_keyboard(visit: Visit) -> None:
    visit.page.keyboard.press("Tab")
    assert visit.page.evaluate("document.activeElement.id") == "tab-picture"
    visit.page.keyboard.press("Tab")
    assert visit.page.evaluate("document.activeElement.id") == "file"
    visit.page.keyboard.press("Tab")
    visit.page.keyboard.type("1")
    visit.page.keyboard.press("Enter")
    visit.page.locator("#found .card, #found summary").first.wait_for()
    visit.page.locator("summary").focus()
    visit.page.keyboard.press("Enter")
    visit.page.keyboard.press("Tab")
    assert "name" in visit.page.evaluate("document.activeElement.className")


@pytest.mark.parametrize("width", [320, 360, 390])
def test_nothing_sticks_out_of_its_card_on_a_phone(
    window: Any, page_server: ServerProcess, width: int
) -> None:
    visit = Visit(window, page_server.url, size=(width, 800))
    for tab in ("#tab-picture", "#tab-sketch"):
        visit.page.click(tab)
        outside = visit.page.evaluate(
            """() => {
              const right = document.querySelector("#asked").getBoundingClientRect().right;
              return [...document.querySelectorAll("#asked *")].map((one) => one.getBoundingClientRect())
                .filter((box) => box.width > 1 && box.right > right + 0.5).length;
            }"""
        )
        assert outside == 0
    visit.close()


def test_an_answer_that_is_cut_short_says_so(visit: Visit) -> None:
    match = {"score": 99.0, "likelihood": 0.99999, "turn": "none"}
    visit.answers(200, json.dumps([{"post_id": number, **match} for number in range(48)]))
    visit.choose(known(1))
    visit.says("Found 48 copies or more.")


def test_the_only_picture_has_no_copy(window: Any, tmp_path: Path) -> None:
    with embedded_server(tmp_path / "iqdb.sqlite") as alone:
        alone.client.post("/images/7", files={"file": known(1)})
        visit = Visit(window, alone.url)
        assert visit.page.get_attribute("#text", "placeholder") == "or an id, or a hash"
        visit.page.fill("#text", "7")
        visit.page.keyboard.press("Enter")
        visit.says("No copy known.")
        visit.close()


def test_a_file_that_cannot_be_read_is_no_fault_of_the_server(visit: Visit, tmp_path: Path) -> None:
    file = tmp_path / "mine.png"
    file.write_bytes(known(1))
    visit.page.set_input_files("#file", file)
    visit.says("Found it.")
    file.unlink()
    search = visit.page.get_by_role("button", name="Search").first
    search.click()
    visit.says("This file cannot be read.")
    assert visit.page.is_hidden("#progress")


def test_search_without_a_text_asks_the_same_again(visit: Visit) -> None:
    search = visit.page.get_by_role("button", name="Search").first
    search.click()
    visit.says("Type an address (https://…), an id, or a hash.")
    visit.page.fill("#text", "12345")
    visit.choose(known(1))
    visit.says("Found it.")
    assert visit.page.input_value("#text") == ""
    with visit.page.expect_response("**/query*"):
        search.click()
    visit.says("Found it.")
    assert visit.page.is_visible("#preview")


def test_on_a_phone_the_answer_comes_into_view(window: Any, page_server: ServerProcess) -> None:
    visit = Visit(window, page_server.url, size=(360, 640))
    visit.choose(pictures.picture(1, (300, 500)))
    visit.says("No copy known.")
    visit.until("document.getElementById('message').getBoundingClientRect().bottom < innerHeight")
    visit.choose(known(1))
    visit.says("Found it.")
    visit.until("document.querySelector('#copies .card').getBoundingClientRect().top < innerHeight / 2")
    visit.close()


def test_a_rate_limit_leaves_the_page_whole(window: Any, tmp_path: Path) -> None:
    path = tmp_path / "iqdb.sqlite"
    store = open_store(str(path))
    store.apply([Write(number, 1, from_image_bytes(STRANGER.read_bytes())) for number in range(30)])
    store.close()
    with embedded_server(path, "--rate-limit", "2") as slow:
        visit = Visit(window, slow.url)
        visit.choose(STRANGER.read_bytes())
        visit.says("Found 30 copies.")
        images = "[...document.querySelectorAll('#copies img')]"
        visit.page.evaluate(f"{images}.forEach((image) => {{ image.loading = 'eager' }})")
        visit.until(f"{images}.every((image) => image.naturalWidth === 128)")
        visit.close()
        assert visit.errors == []


def test_what_the_page_must_know_is_asked_until_it_is_there(visit: Visit) -> None:
    tries: list[Any] = []

    def refuse_first(route: Any) -> None:
        tries.append(route)
        if len(tries) == 1:
            route.fulfill(
                status=503, body='{"message": "the server is starting"}', headers={"Retry-After": "1"}
            )
        else:
            route.continue_()

    visit.page.route("**/page.json", refuse_first)
    visit.page.reload()
    visit.until("document.getElementById('count').textContent === 'The server is starting.'")
    visit.until("document.getElementById('count').textContent === '3 pictures known'")
    visit.choose(known(1))
    visit.says("Found it.")


def test_a_picture_that_is_brought_to_the_sketch_is_shown(visit: Visit) -> None:
    visit.page.click("#tab-sketch")
    visit.choose(known(1))
    visit.says("Found it.")
    assert visit.page.is_visible("#preview")
    assert visit.page.get_attribute("#tab-picture", "aria-selected") == "true"


def test_an_empty_canvas_is_not_searched(visit: Visit) -> None:
    asked: list[str] = []
    visit.page.on("request", lambda request: asked.append(request.url) if "query?" in request.url else None)
    visit.page.click("#tab-sketch")
    visit.page.click("#find")
    visit.says("Paint something first.")
    assert asked == []
    visit.page.click("#fill")
    visit.says("These look most like it.")
    visit.page.click("#clear")
    assert visit.page.is_hidden("#found")
    count = len(asked)
    visit.page.click("#fill")
    visit.page.click("#undo")
    visit.page.click("#fill")  # later than what the fill before had begun
    visit.says("These look most like it.")
    assert len(asked) == count + 1


def test_who_searches_with_a_damaged_file_is_told(visit: Visit) -> None:
    match = {"post_id": 1, "score": 99.0, "likelihood": 0.99999, "turn": "none"}
    visit.answers(200, json.dumps([match]), {"X-Query-Damaged": "true"})
    visit.choose(known(1))
    visit.says("Found it.")
    assert visit.page.get_by_text("A part of your picture is missing").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_bars_anybody(window: Any, page_server: ServerProcess, scheme: str, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    visit = Visit(window, page_server.url, size=(width, 800), scheme=scheme)
    for step in ("empty", "found", "sketch", "error"):
        if step == "found":
            visit.choose(known(1))
            visit.says("Found it.")
            visit.page.locator("summary").click()
        if step == "sketch":
            visit.page.click("#tab-sketch")
        if step == "error":
            visit.page.click("#tab-picture")
            visit.choose(b"text")
            visit.says("This is not a picture.")
        found = axe.run(visit.page)
        assert found.violations_count == 0, f"{step}: {found.generate_report()}"
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
    visit.close()
