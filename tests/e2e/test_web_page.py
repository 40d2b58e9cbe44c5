"""The web page in a real browser: bring a picture, see what it is."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from tests.fixtures import pictures
from tests.fixtures.browsers import proxy
from tests.fixtures.page import LARGEST_ID, MAX_BYTES, STRANGER, known
from tests.fixtures.servers import ServerProcess, embedded_server
from tests.fixtures.visits import Visit
from tests.fixtures.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

SIZE = (160, 120)
STARTING = json.dumps({"message": "the server is starting: loaded 30 of 120 changes"})


# --- bringing a picture


def test_a_chosen_picture_is_found_with_its_link_and_a_picture(visit: Visit) -> None:
    assert visit.page.text_content("#count") == "3 pictures known"
    visit.choose(known(LARGEST_ID))
    visit.says("Found it:")
    link = visit.page.locator("#copies a.name")
    assert link.text_content() == f"#{LARGEST_ID}"
    assert link.get_attribute("href") == f"https://example.org/posts/{LARGEST_ID}"
    assert visit.page.text_content("#copies .badge") == "The same picture"
    assert visit.page.is_visible("#preview")
    visit.until("document.querySelector('#copies img').naturalWidth === 128")


def test_strangers_are_folded_away(visit: Visit) -> None:
    visit.choose(known(1))
    visit.says("Found it:")
    assert visit.names == ["#1"]
    assert visit.page.is_hidden("#alike")
    visit.page.get_by_text("Show what merely looks alike").click()
    assert visit.page.locator("#alike .card").count() == 2
    assert visit.page.locator("#alike .badge").all_text_contents() == ["Looks alike"] * 2


def test_where_no_copy_is_known_it_says_so(visit: Visit) -> None:
    visit.choose(STRANGER.read_bytes())
    visit.says("No copy known.")
    assert visit.names == []
    assert visit.page.is_visible("summary")


def test_where_no_copy_is_known_turned_ones_can_be_looked_for(visit: Visit) -> None:
    visit.choose(pictures.encoded(Image.open(io.BytesIO(known(1))).rotate(90, expand=True), "JPEG"))
    visit.says("No copy known.")
    visit.page.get_by_role("button", name="turned copies").press("Enter")
    visit.says("Found it:")
    assert visit.page.evaluate("document.activeElement.id") == "message", "a button that is gone has no focus"
    visit.page.keyboard.press("Tab")
    assert visit.page.evaluate("document.activeElement.className") == "name"
    assert visit.names == ["#1"]
    assert visit.page.text_content("#overlay-word") == "turned by a quarter"
    assert visit.page.is_hidden("#turn")
    visit.choose(STRANGER.read_bytes())
    visit.says("No copy known.")
    visit.page.get_by_role("button", name="turned copies").click()
    visit.page.get_by_text("Turned copies were looked for, too.").wait_for()
    assert visit.page.is_hidden("#turn")


def test_the_same_file_twice_is_asked_twice(visit: Visit) -> None:
    visit.choose(known(1))
    visit.says("Found it:")
    with visit.page.expect_response("**/query*"):
        visit.choose(known(1))
    visit.says("Found it:")
    assert visit.names == ["#1"]


@pytest.mark.parametrize("event", ["drop", "paste"])
def test_a_dropped_or_pasted_picture_is_found(visit: Visit, event: str) -> None:
    visit.page.evaluate(
        """([bytes, event]) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], "brought.png", {type: "image/png"}));
            const options = {bubbles: true, cancelable: true, dataTransfer: data, clipboardData: data};
            const kind = event === "drop" ? DragEvent : ClipboardEvent;
            document.body.dispatchEvent(new kind(event, options));
        }""",
        [list(known(2)), event],
    )
    visit.says("Found it:")
    assert visit.names == ["#2"]


def test_an_id_and_a_hash_can_be_typed(visit: Visit, page_server: ServerProcess) -> None:
    visit.page.fill("#text", str(LARGEST_ID))
    visit.page.keyboard.press("Enter")
    visit.says("No copy known.")  # a picture is no copy of itself
    visit.until("document.getElementById('preview').naturalWidth === 128")
    visit.page.fill("#text", page_server.client.get("/images/1").json()["hash"])
    visit.page.get_by_role("button", name="Search").first.click()
    visit.says("Found it:")
    assert visit.names == ["#1"]
    visit.page.fill("#text", "12345")
    visit.page.keyboard.press("Enter")
    visit.says("No picture with the id 12345 is known.")
    assert not visit.page.get_by_text("cannot show it").is_visible()
    visit.page.fill("#text", f"{page_server.url}/images/2/preview.png")
    visit.page.keyboard.press("Enter")
    visit.page.locator("#found .card, #found summary").first.wait_for()
    visit.page.fill("#text", "a cat")
    visit.page.keyboard.press("Enter")
    visit.says("Type an address (https://…), an id, or a hash.")


def test_only_the_latest_answer_is_shown(visit: Visit) -> None:
    held: list[Any] = []
    visit.page.route("**/query*", lambda route: route.continue_() if held else held.append(route))
    visit.choose(known(1))
    # Not before its request has left, or that of the second would be held instead.
    wait_until(lambda: visit.page.evaluate("true") and held, 60)
    visit.choose(known(2))
    visit.says("Found it:")
    assert len(held) == 1
    assert visit.names == ["#2"]


def test_a_preview_that_comes_late_takes_the_place_of_no_newer_picture(visit: Visit) -> None:
    """With a token a script fetches it: what the answer says is not lost by then, either."""
    visit.page.evaluate("sessionStorage.setItem('iqdb-token', 'any')")
    preview = {"body": pictures.picture(1, (64, 48), "PNG"), "content_type": "image/png"}
    match = {"post_id": 2, "score": 90, "likelihood": 0.99999, "turn": "mirror"}
    visit.answers(200, json.dumps([match]))
    first, second = (visit.holds(f"**/images/{number}/preview.png*") for number in (1, LARGEST_ID))
    visit.page.fill("#text", "1")
    visit.page.keyboard.press("Enter")
    visit.says("One copy known: #2.")
    wait_until(lambda: visit.page.evaluate("true") and first, 60)
    visit.choose(known(1), "newer.png")
    visit.until("document.getElementById('preview').alt === 'Your picture: newer.png'")
    visit.page.fill("#text", str(LARGEST_ID))
    visit.page.keyboard.press("Enter")
    wait_until(lambda: visit.page.evaluate("true") and second, 60)
    visit.says("One copy known: #2.")
    assert visit.page.is_hidden("#preview")
    second[0].fulfill(**preview)
    visit.page.locator("#preview").wait_for()
    first[0].fulfill(**preview)
    visit.page.evaluate("fetch('images/2/preview.png').then((answer) => answer.blob())")  # after the other
    assert visit.page.get_attribute("#preview", "alt") == f"Your picture: #{LARGEST_ID}"
    assert visit.page.text_content("#overlay-word") == "mirrored"


def test_with_a_token_too_a_picture_is_fetched_when_it_is_about_to_be_seen_and_kept_no_longer(
    visit: Visit,
) -> None:
    visit.page.evaluate("sessionStorage.setItem('iqdb-token', 'any')")
    asked: list[str] = []
    visit.page.on("request", lambda request: asked.append(request.url))
    match = {"score": 90, "turn": "none"}
    likelihoods = {1: 0.99999, 2: 0.0}
    visit.answers(200, json.dumps([{"post_id": n, "likelihood": p, **match} for n, p in likelihoods.items()]))
    visit.choose(known(1))
    for number, place in ((1, "#copies"), (2, "#alike")):
        if number == 2:
            visit.page.click("summary")
        visit.until(f"document.querySelector('{place} img')?.naturalWidth === 128")
        assert sum("preview.png" in one for one in asked) == number
        # One of a blob would stay in memory until the page is left.
        assert visit.page.get_attribute(f"{place} img", "src").startswith("data:image/png;base64,")


# --- what is said of a match


def test_part_and_turn_are_drawn_on_the_picture(visit: Visit) -> None:
    part = {"x": 40, "y": 30, "width": 80, "height": 60}
    match = {
        "post_id": 1,
        "score": 45.123456789,
        "likelihood": 0.9999987654321,
        "turn": "mirror",
        "part": part,
    }
    visit.answers(200, json.dumps([match, {**match, "post_id": 2, "likelihood": 0.02, "part": None}]))
    visit.choose(pictures.picture(1, SIZE))
    visit.says("Found it:")
    assert visit.page.text_content("#copies .facts") == "over 99 % sure · mirrored · a part of yours"
    visit.page.locator("#overlay rect").wait_for()
    picture = visit.page.locator("#preview").bounding_box()
    drawn = visit.page.locator("#overlay rect").bounding_box()
    assert drawn["x"] - picture["x"] == pytest.approx(picture["width"] / 4, abs=5)
    assert drawn["y"] - picture["y"] == pytest.approx(picture["height"] / 4, abs=5)
    assert drawn["width"] == pytest.approx(picture["width"] / 2, abs=8)
    assert visit.page.text_content("#overlay-word") == "this part, mirrored"


@pytest.mark.parametrize("size", [(100, 400), (400, 100)], ids=["tall", "wide"])
def test_a_match_is_shown_whole_whatever_its_shape(visit: Visit, size: tuple[int, int]) -> None:
    visit.page.route(
        "**/page.json", lambda route: route.fulfill(json={"link": "", "thumbnail": "", "pictures": True})
    )
    visit.page.route("**/thumbnail", lambda route: route.fulfill(body=pictures.picture(1, size, "PNG")))
    visit.page.reload()
    visit.choose(known(1))
    visit.until(f"document.querySelector('#copies img')?.naturalWidth === {size[0]}")
    frame, image = (visit.page.locator(f"#copies {one}").bounding_box() for one in (".frame", "img"))
    assert image == pytest.approx(frame, abs=1)  # within which it is fitted


def test_a_picture_without_detail_is_told_apart(visit: Visit) -> None:
    match = {"post_id": 1, "score": 99.0, "likelihood": 0.3, "turn": "none"}
    visit.answers(200, json.dumps([match]), {"X-Query-Detail": "7.5"})
    visit.choose(pictures.flat((9, 9, 9)))
    visit.says("This picture has too little detail to tell.")
    assert visit.names == []
    assert visit.page.is_hidden("#turn"), "it would tell no more"


def test_names_come_from_sources_and_never_run(visit: Visit) -> None:
    sources = [
        "holiday/<b>beach</b>.jpg",
        "https://example.org/%E5%86%99%E7%9C%9F/view.php?id=3",
        "https://example.org/%E2%80%AEgpj.exe",
        "javascript:alert(1)",
    ]
    visit.page.route(
        "**/page.json", lambda route: route.fulfill(json={"link": "", "thumbnail": "", "pictures": False})
    )
    visit.page.reload()
    visit.answers(
        200,
        json.dumps(
            [{"post_id": n, "score": 99, "likelihood": 0.99999, "source": s} for n, s in enumerate(sources)]
        ),
    )
    visit.choose(known(1))
    visit.says("Found it: b>.jpg, and 3 more.")
    assert visit.names == [
        "b>.jpg",
        "example.org/写真/view.php?id=3",
        "example.org/%E2%80%AEgpj.exe",
        "javascript:alert(1)",
    ]
    links = visit.page.locator("#copies a.name")
    hrefs = [link.get_attribute("href") for link in links.all()]
    assert hrefs == ["#id=0", *sources[1:3], "#id=3"], "its own search, where there is nothing else to go to"
    links.last.click()
    visit.says("4 copies known.")
    visit.page.go_back()
    visit.says("Found it: b>.jpg, and 3 more.")


# --- what goes wrong


def test_what_is_no_picture_is_told_with_the_formats(visit: Visit) -> None:
    visit.choose(known(1))
    visit.says("Found it:")
    visit.choose(b"this is text")
    visit.says("This cannot be read as a picture.")
    assert "JPEG, PNG, WebP" in visit.page.text_content("#more")
    assert visit.page.locator("#found .card").count() == 0, "what an older search found is gone"


def test_a_picture_that_is_too_large_is_not_even_sent(visit: Visit) -> None:
    sent: list[str] = []
    visit.page.on("request", lambda request: sent.append(request.method))
    visit.choose(bytes(MAX_BYTES + 1))
    visit.says("This picture is too large.")
    assert visit.page.text_content("#more") == "It has 0.3 MB. The server takes at most 0.3 MB."
    assert "POST" not in sent


def test_below_a_sub_path_a_proxy_may_refuse_in_html(window: Any, page_server: ServerProcess) -> None:
    with proxy(page_server.url, "/pictures/find", max_bytes=150_000) as url:
        visit = Visit(window, f"{url}/")
        visit.choose(known(1))
        visit.says("Found it:")
        visit.until("document.querySelector('#copies img').naturalWidth === 128")
        visit.choose(pictures.picture(1, (600, 600), "PNG")[:200_000])
        visit.says("This picture is too large.")
        assert "or a proxy in front of it" in visit.page.text_content("#more")
        visit.close()
        assert (visit.errors, visit.strayed) == ([], [])


def test_a_starting_server_is_asked_again(visit: Visit) -> None:
    visit.answers(503, STARTING, {"Retry-After": "1"})
    visit.choose(known(1))
    visit.says("The server is starting.")
    assert "oaded 30 of 120" in visit.page.text_content("#more")
    assert visit.page.evaluate("document.getElementById('progress').value") == 0.25
    visit.page.evaluate(
        """() => {
            window.said = [];
            const note = () => said.push(document.getElementById("message").textContent);
            new MutationObserver(note).observe(document.getElementById("message"), {childList: true});
        }"""
    )
    visit.page.unroute("**/query*")
    visit.says("Found it:")
    assert visit.page.is_hidden("#progress")
    assert visit.page.evaluate("said") == ["Found it: #1."], "a screen reader would tell each try"


def test_who_is_offline_is_told_and_waited_for(visit: Visit) -> None:
    visit.context.set_offline(True)
    visit.choose(known(1))
    visit.says("You are offline.")
    visit.context.set_offline(False)
    visit.says("Found it:")


def test_a_gateway_without_a_server_is_asked_again(visit: Visit) -> None:
    visit.answers(502, "<html>Bad Gateway</html>")
    visit.choose(known(1))
    visit.says("The server does not answer at the moment.")
    visit.page.unroute("**/query*")
    visit.says("Found it:")


@pytest.mark.parametrize("body", ["{}", "null", "<html>Log in</html>"])
def test_what_else_answers_in_the_place_of_the_server_is_called_that(visit: Visit, body: str) -> None:
    visit.answers(200, body)
    visit.choose(known(1))
    visit.says("Something that is not this server answered in its place.")


def test_what_nobody_has_foreseen_is_told_in_words_for_people(visit: Visit) -> None:
    visit.answers(200, "[null]")
    visit.choose(known(1))
    visit.says("Something went wrong on this page.")
    assert len(visit.errors) == 1, "the console has what it was"
    visit.errors.clear()
    visit.page.unroute("**/query*")
    visit.choose(known(1))
    visit.says("Found it:")


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_by_a_proxy_is_not_one_for_want_of_a_token(visit: Visit, status: int) -> None:
    for body in ("<html><h1>403 Forbidden</h1>This needs a token.</html>", '{"message": "Forbidden"}'):
        visit.answers(status, body)
        visit.choose(known(1))
        visit.says("Forbidden." if body.startswith("{") else f"without saying why (status {status})")
        assert visit.page.is_hidden("#token-form")
        visit.page.unroute("**/query*")


def test_a_token_of_any_letters_is_judged_by_the_server(window: Any, tmp_path: Path) -> None:
    """What it refuses is asked for again, and not remembered; what nobody sees is no part of a token."""
    environment = {"IQDB_TOKENS": "read:schlüssel→"}
    with embedded_server(tmp_path / "iqdb.sqlite", "--private", environment=environment) as private:
        visit = Visit(window, private.url)
        visit.says("This server asks for a token.")
        for wrong in ("täst→", "x" * 5000):
            visit.page.fill("#token", wrong)
            visit.page.keyboard.press("Enter")
            visit.says("This server does not know the token.")
        visit.page.reload()
        visit.says("This server asks for a token.")
        visit.page.fill("#token", " schlüs\u200bsel→\u00a0")
        visit.page.keyboard.press("Enter")
        visit.until("document.getElementById('count').textContent.startsWith('No pictures')")
        visit.page.reload()
        visit.until("document.getElementById('count').textContent.startsWith('No pictures')")
        assert visit.page.is_hidden("#token-form")
        visit.close()
        assert (visit.errors, visit.strayed) == ([], [])


def test_a_private_server_asks_for_its_token_and_shows_thumbnails(window: Any, tmp_path: Path) -> None:
    """The first picture has a thumbnail on a board, the second in a folder, the third only a preview."""
    environment = {"IQDB_TOKENS": "write:secret"}
    options = ("--private", "--pictures", str(tmp_path), "--thumbnail", "https://small.example/{id}.png")
    (tmp_path / "mine.png").write_bytes(pictures.picture(2, (300, 200)))
    with embedded_server(tmp_path / "iqdb.sqlite", *options, environment=environment) as private:
        private.client.headers["Authorization"] = "Bearer secret"
        for number, source in ((1, ""), (2, "mine.png"), (3, "")):
            private.client.post(f"/images/{number}", files={"file": known(1)}, params={"source": source})
        visit = Visit(window, private.url)
        visit.says("This server asks for a token.")
        assert visit.page.text_content("#more") == "Whoever runs it can give you one."
        assert visit.page.is_visible("#hint .first"), "nothing was chosen before"
        for guess in ("guess", "another"):
            visit.page.keyboard.type(guess)
            visit.page.keyboard.press("Enter")
            visit.says("This server does not know the token.")
            visit.until("document.activeElement.id === 'token'")
        visit.page.reload()
        visit.says("This server asks for a token.")
        without_token: list[str] = []
        visit.page.on("response", lambda answer: answer.status == 401 and without_token.append(answer.url))
        visit.page.route("https://small.example/**", small_picture)
        visit.page.route("**/query*", with_sources)
        visit.choose(known(1))
        visit.says("This server asks for a token.")
        visit.page.keyboard.type("secret")
        visit.page.keyboard.press("Enter")
        visit.says("Found it: #1, and 2 more.")
        widths = "[...document.querySelectorAll('#copies img')].map((image) => image.naturalWidth)"
        visit.until(f"{widths}.join() === '50,300,128'")
        assert visit.names == ["#1", "mine.png", "#3"]
        assert not [one for one in without_token if "/images/" in one], "what is not there is asked for once"
        assert visit.page.is_visible("#hint .next")
        visit.page.fill("#text", "2")
        visit.page.keyboard.press("Enter")
        visit.says("2 copies known.")
        visit.until("document.getElementById('preview').naturalWidth === 300")
        assert visit.page.text_content("#count") == "3 pictures known"
        visit.page.fill("#text", "https://example.org/cat.jpg")
        visit.page.keyboard.press("Enter")
        visit.says("This server does not fetch addresses.")
        visit.close()
        assert visit.errors == []
        assert {address.rsplit("/", 1)[0] for address in visit.strayed} == {"https://small.example"}


def small_picture(route: Any) -> None:
    """Answer as a board that has a small picture of its first image only."""
    if route.request.url.endswith("/1.png"):
        route.fulfill(body=pictures.picture(1, (50, 40), "PNG"), content_type="image/png")
    else:
        route.fulfill(status=404, body="no such picture", content_type="text/plain")


def with_sources(route: Any) -> None:
    """Let a query tell the source of the second picture, whatever the server tells."""
    answer = route.fetch()
    if answer.status != 200:
        route.fulfill(response=answer)
        return
    matches = answer.json()
    for match in matches:
        if match["post_id"] == 2:
            match["source"] = "mine.png"
    route.fulfill(response=answer, json=matches)
