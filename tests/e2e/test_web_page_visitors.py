"""The web page in a real browser: sketches, phones, keyboards, and what a visitor does by mistake."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

import pytest

from iqdb_core.model import Write
from iqdb_core.signature import from_image_bytes
from iqdb_core.store import open_store
from tests.fixtures import pictures
from tests.fixtures.browsers import window_without_storage
from tests.fixtures.page import LARGEST_ID, STRANGER, known
from tests.fixtures.servers import ServerProcess, embedded_server
from tests.fixtures.visits import Visit
from tests.fixtures.waiting import wait_until

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
    status = visit.page.get_by_role("status")
    assert status.count() == 1, "screen readers tell only what changes in a region that is there"
    visit.page.keyboard.type("what")
    visit.page.keyboard.press("Enter")
    status.get_by_text("Type an address").wait_for()
    visit.page.keyboard.press("Control+A")
    visit.page.keyboard.type("1")
    visit.page.keyboard.press("Enter")
    visit.page.locator("#found .card, #found summary").first.wait_for()
    visit.page.locator("summary").focus()
    visit.page.keyboard.press("Enter")
    visit.page.keyboard.press("Tab")
    assert "name" in visit.page.evaluate("document.activeElement.className")
    visit.page.go_back()
    visit.page.locator("#message").wait_for(state="hidden")
    assert visit.page.evaluate("document.activeElement.id") == "tab-picture", "what is gone has no focus"


@pytest.mark.parametrize("width", [320, 360, 390])
def test_nothing_sticks_out_on_a_phone_whatever_is_shown(
    window: Any, page_server: ServerProcess, width: int
) -> None:
    """No box leaves the card that it is in, and no state of the page is wider than the window."""
    visit = Visit(window, page_server.url, size=(width, 800))

    def check(state: str) -> None:
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= width, state
        outside = visit.page.evaluate(
            """() => [...document.querySelectorAll("#asked, .saying, .card")].flatMap((card) => {
              const { right } = card.getBoundingClientRect();
              return [...card.querySelectorAll("*")].filter((one) => {
                const box = one.getBoundingClientRect();
                return box.width > 1 && box.right > right + 0.5 && !one.matches(".frame *");
              }).map((one) => one.outerHTML);
            })"""
        )
        assert outside == [], state

    def answered(status: int, body: str, sentence: str, headers: dict[str, str] | None = None) -> None:
        visit.answers(status, body, headers)
        visit.choose(known(1))
        visit.says(sentence)
        check(sentence)
        visit.page.unroute("**/query*")

    check("empty")
    visit.page.click("#tab-sketch")
    check("sketch")
    answered(401, json.dumps({"message": "the token is not one of this server's"}), "does not know the token")
    answered(401, json.dumps({"message": "'Authorization: Bearer TOKEN'"}), "asks for a token")
    answered(400, json.dumps({"message": "w" * 300}), "Www")
    answered(
        503, json.dumps({"message": "starting: loaded 3 of 12 changes"}), "is starting", {"Retry-After": "30"}
    )
    long = {
        "score": 99.0,
        "likelihood": 0.99999,
        "turn": "negative-transverse",
        "source": f"{'p' * 90}/{'n' * 90}",
    }
    answered(200, json.dumps([{"post_id": LARGEST_ID, **long}, {"post_id": 2, **long}]), "Found it")
    visit.choose(b"text", f"{'unshown' * 20}.heic")
    visit.says("This cannot be read as a picture.")
    visit.page.locator("#unshown").wait_for()
    check("a picture that the browser cannot show")
    # As it is for a moment, until the page is told that there is no picture of it.
    visit.page.evaluate("addEventListener('error', (event) => event.stopImmediatePropagation(), true)")
    visit.page.fill("#text", "9" * 200)
    visit.page.keyboard.press("Enter")
    visit.says("An id is a whole number")
    visit.until("document.getElementById('preview').complete")
    check("a long id")
    visit.context.set_offline(True)
    visit.choose(known(1))
    visit.says("You are offline.")
    check("offline")
    visit.close()


def test_an_answer_that_is_cut_short_says_so(visit: Visit) -> None:
    match = {"score": 99.0, "likelihood": 0.99999, "turn": "none"}
    visit.answers(200, json.dumps([{"post_id": number, **match} for number in range(48)]))
    visit.choose(known(1))
    visit.says("Found it: #0, and at least 47 more.")


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
    visit.says("Found it:")
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
    visit.says("Found it:")
    assert visit.page.input_value("#text") == ""
    with visit.page.expect_response("**/query*"):
        search.click()
    visit.says("Found it:")
    assert visit.page.is_visible("#preview")


def test_on_a_phone_the_answer_comes_into_view(window: Any, page_server: ServerProcess) -> None:
    visit = Visit(window, page_server.url, size=(360, 640))
    visit.choose(pictures.picture(1, (300, 500)))
    visit.says("No copy known.")
    visit.until("document.getElementById('message').getBoundingClientRect().bottom < innerHeight")
    visit.choose(known(1))
    visit.says("Found it:")
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
        visit.says("Found it: #0, and 29 more.")
        images = "[...document.querySelectorAll('#copies img')]"
        visit.page.evaluate(f"{images}.forEach((image) => {{ image.loading = 'eager' }})")
        visit.until(f"{images}.every((image) => image.naturalWidth === 128)")
        visit.close()
        assert visit.errors == []


def test_the_number_of_pictures_stays_while_the_server_is_busy(visit: Visit) -> None:
    refused = []

    def refuse(route: Any) -> None:
        route.fulfill(status=429, body='{"message": "too many"}', headers={"Retry-After": "1"})
        refused.append(route)

    visit.page.route("**/status", refuse)
    visit.choose(known(1))
    visit.says("Found it:")
    wait_until(lambda: visit.names and len(refused) > 1, 60, what="it has asked again")
    assert visit.page.text_content("#count") == "3 pictures known"


def test_what_the_page_must_know_is_asked_until_it_is_there(visit: Visit) -> None:
    starting = {
        "status": 503,
        "body": '{"message": "the server is starting"}',
        "headers": {"Retry-After": "1"},
    }
    visit.page.route("**/page.json", lambda route: route.fulfill(**starting))
    visit.page.reload()
    visit.until("document.getElementById('count').textContent === 'The server is starting.'")
    visit.page.unroute("**/page.json")
    visit.until("document.getElementById('count').textContent === '3 pictures known'")
    visit.choose(known(1))
    visit.says("Found it:")


def test_what_is_brought_before_the_page_knows_its_server_is_searched_then(visit: Visit) -> None:
    held = visit.holds("**/page.json")
    visit.page.reload()
    visit.page.fill("#text", "12345")
    visit.page.keyboard.press("Enter")
    visit.says("Searching …")
    visit.choose(known(2))
    visit.page.locator("#preview").wait_for()
    held[0].fulfill(status=503, body='{"message": "the server is starting"}', headers={"Retry-After": "1"})
    visit.says("The server is starting.")
    visit.page.unroute("**/page.json")
    for asked_again in held[1:]:
        asked_again.continue_()
    visit.says("Found it:")
    assert visit.names == ["#2"], "the newest question counts"


@pytest.mark.parametrize("brought", ["file", "text"])
def test_what_is_brought_before_the_scripts_is_taken_when_they_come(visit: Visit, brought: str) -> None:
    held = visit.holds("**/main.js")
    visit.page.reload(wait_until="commit")
    visit.page.locator("#text").wait_for()
    if brought == "file":
        visit.choose(known(1))
    else:
        visit.page.fill("#text", "12345")
        visit.page.keyboard.press("Enter")
    wait_until(lambda: visit.page.evaluate("true") and held, 60)
    held[0].continue_()
    visit.says("Found it:" if brought == "file" else "No picture with the id 12345 is known.")


def test_of_several_pictures_it_says_which_one_was_taken(visit: Visit) -> None:
    for data, sentence in ((known(1), "Found it:"), (b"text", "This cannot be read as a picture.")):
        visit.page.evaluate(
            """(bytes) => {
                const data = new DataTransfer();
                for (const name of ["a.jpg", "b.jpg"]) {
                    data.items.add(new File([new Uint8Array(bytes)], name, {type: "image/jpeg"}));
                }
                document.body.dispatchEvent(new DragEvent("drop", {bubbles: true, dataTransfer: data}));
            }""",
            list(data),
        )
        visit.says(sentence)
        read_out = visit.page.get_by_role("status").text_content()
        assert "Only a.jpg was taken: one picture at a time." in read_out
    visit.choose(known(1))
    visit.says("Found it:")
    assert visit.page.is_hidden("#more")


def test_without_scripts_there_is_a_line_for_a_shell_and_nothing_dead(
    window: Any, page_server: ServerProcess
) -> None:
    plain = window.context.browser.new_page(java_script_enabled=False, viewport={"width": 320, "height": 800})
    plain.goto(page_server.url)
    command = plain.locator("noscript code").text_content()
    assert shlex.split(command)[-1] == "SERVER/query?find=copies"
    assert "'SERVER/query?find=copies'" in command, "zsh takes a bare question mark for a pattern"
    assert plain.locator("button:visible, input:visible, label:visible").count() == 0
    plain.context.close()


def test_a_picture_that_is_brought_to_the_sketch_is_shown(visit: Visit) -> None:
    visit.page.click("#tab-sketch")
    visit.choose(known(1))
    visit.says("Found it:")
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
    assert visit.page.is_hidden("#message")
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
    visit.says("Found it:")
    assert visit.page.get_by_text("A part of your picture is missing").is_visible()


def test_a_browser_that_keeps_nothing_shows_the_page_and_has_the_token_until_it_is_loaded_again(
    window: Any, tmp_path: Path
) -> None:
    environment = {"IQDB_TOKENS": "read:secret"}
    with (
        embedded_server(tmp_path / "iqdb.sqlite", "--private", environment=environment) as private,
        window_without_storage(window, tmp_path / "profile") as keeping_nothing,
    ):
        visit = Visit(keeping_nothing, private.url)
        visit.says("This server asks for a token.")
        visit.page.fill("#token", "secret")
        visit.page.keyboard.press("Enter")
        visit.until("document.getElementById('count').textContent.startsWith('No pictures')")
        visit.choose(known(1))
        visit.says("No pictures are known yet.")
        visit.page.reload()
        visit.says("This server asks for a token.")
        visit.close()
        assert (visit.errors, visit.strayed) == ([], [])


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_bars_anybody(window: Any, page_server: ServerProcess, scheme: str, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    visit = Visit(window, page_server.url, size=(width, 800), scheme=scheme)
    for step in ("empty", "found", "sketch", "error", "token"):
        if step == "found":
            visit.choose(known(1))
            visit.says("Found it:")
            visit.page.locator("summary").click()
        if step == "sketch":
            visit.page.click("#tab-sketch")
        if step == "error":
            visit.page.click("#tab-picture")
            visit.choose(b"text")
            visit.says("This cannot be read as a picture.")
        if step == "token":
            visit.answers(401, json.dumps({"message": "the token is not one of this server's"}))
            visit.choose(known(1))
            visit.says("This server does not know the token.")
            visit.page.unroute("**/query*")
        found = axe.run(visit.page)
        assert found.violations_count == 0, f"{step}: {found.generate_report()}"
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
    visit.close()
