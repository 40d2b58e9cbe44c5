"""The web page in a real browser: names of pictures, and the question in the page's address."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.fixtures.page import STRANGER, known
from tests.fixtures.servers import ServerProcess, embedded_server
from tests.fixtures.visits import Visit

if TYPE_CHECKING:
    from pathlib import Path

PLACES = (
    "[...document.querySelectorAll('#copies .place')].map((place) => place.hidden ? null : place.textContent)"
)


def show(visit: Visit, sources: list[str]) -> None:
    """Let a picture be found once for each of these sources, under the ids from 0 on."""
    copies = [{"post_id": n, "score": 99, "likelihood": 0.99999, "source": s} for n, s in enumerate(sources)]
    visit.answers(200, json.dumps(copies))
    visit.choose(known(1))
    visit.says("Found it:")


# --- names


def test_no_name_hides_or_turns_what_it_is(visit: Visit) -> None:
    unseen = "\u202e\u2066\u200f\u00ad\u0007\u2028"
    show(
        visit,
        [
            "/disk/x/\u202egpj.exe",
            " ",
            "\u200b\u200d",
            "a/\u2066b/\u3164",
            f"x{unseen}y",
            "/x/l\u200cr.jpg",
        ],
    )
    assert visit.names == ["\ufffdgpj.exe", "#1", "#2", "#3", f"x{chr(0xFFFD) * 6}y", "l\u200cr.jpg"]
    shown = visit.page.evaluate("document.getElementById('found').innerHTML")
    assert not set(shown) & set(unseen), "neither in what is said, nor in what is pointed at"
    assert visit.page.locator("#copies .facts").all_text_contents()[:2] == [
        "over 99 % sure · #0",
        "over 99 % sure",
    ]
    assert visit.page.evaluate(PLACES)[3] == "a/\ufffdb/"
    assert visit.page.text_content("#message") == "Found it: \ufffdgpj.exe, and 5 more."
    visit.page.unroute("**/query*")
    visit.choose(b"text", "\u202egpj.exe")
    visit.says("This cannot be read as a picture.")
    assert visit.page.text_content("#unshown") == "\ufffdgpj.exe (this browser cannot show it)"


def test_pictures_of_one_name_are_told_apart_by_their_folders(visit: Visit) -> None:
    deep = "/disk/x/Photos/2019 a long journey around the whole world/DCIM/100APPLE/"
    folders = ["2019/beach/", "C:\\Photos\\2020\\", deep]
    show(visit, [*(f"{folder}IMG_1.HEIC" for folder in folders), "IMG_1.HEIC", "https://example.org/a/b.jpg"])
    assert visit.names == ["IMG_1.HEIC"] * 4 + ["example.org/a/b.jpg"]
    cut = "/disk/x/Photos/2… the whole world/DCIM/100APPLE/"
    assert visit.page.evaluate(PLACES) == [*folders[:2], cut, None, None]
    assert visit.page.locator("#copies .place").nth(2).is_visible()
    assert visit.page.get_attribute("#copies li:nth-child(3) .name", "title") == f"{deep}IMG_1.HEIC"


def test_the_end_of_a_long_name_is_seen(visit: Visit) -> None:
    show(visit, [f"{'very ' * 30}long 1.png", f"https://example.org/{'a' * 100}/2.png"])
    assert [name[-5:] for name in visit.names] == ["1.png", "2.png"]
    assert [len(name) for name in visit.names] == [60, 60]


def test_name_and_folder_of_any_source_are_found_without_looking_twice(visit: Visit) -> None:
    expected = {
        "a/b/": ["b/", "a/"],
        "a\\b\\/": ["b\\/", "a\\"],
        "/": ["/", ""],
        "//a": ["a", "//"],
        "a": ["a", ""],
        "": ["#7", ""],
        "x\n/y": ["y", "x\ufffd/"],
        "a" * 1998 + "/b": ["b", f"{'a' * 16}…{'a' * 30}/"],
        "/" * 1999 + "b": ["b", f"{'/' * 16}…{'/' * 31}"],
        "b" + "/" * 1999: [f"b{'/' * 19}…{'/' * 39}", ""],
    }
    found = visit.page.evaluate(
        """async (sources) => {
          const { nameOf, placeOf } = await import("./static/words.js");
          return sources.map((source) => [nameOf({ source, post_id: 7 }), placeOf({ source, post_id: 7 })]);
        }""",
        list(expected),
    )
    assert dict(zip(expected, found, strict=True)) == expected
    # Sources have 2,000 characters at most. Of one a hundred times as long no step may take its square.
    took_ms = visit.page.evaluate(
        """async () => {
          const { placeOf } = await import("./static/words.js");
          const begin = performance.now();
          placeOf({ source: "a".repeat(100_000) + "/b", post_id: 7 });
          return performance.now() - begin;
        }"""
    )
    assert took_ms < 3000


# --- the address of the page


def fragment(visit: Visit) -> str:
    """Return what stands behind the # of the address."""
    return str(visit.page.evaluate("location.hash"))


def test_reload_and_back_keep_an_id_and_a_hash(visit: Visit, page_server: ServerProcess) -> None:
    visit.page.fill("#text", "#0012345")
    visit.page.keyboard.press("Enter")
    visit.says("No picture with the id 12345 is known.")
    assert fragment(visit) == "#id=12345"
    entries = visit.page.evaluate("history.length")
    visit.page.keyboard.press("Enter")
    visit.page.reload()
    visit.says("No picture with the id 12345 is known.")
    assert visit.page.input_value("#text") == "12345"
    assert visit.page.evaluate("history.length") == entries, "the same question is one step"
    text = page_server.client.get("/images/1").json()["hash"]
    visit.page.fill("#text", text)
    visit.page.keyboard.press("Enter")
    visit.says("Found it:")
    assert fragment(visit) == f"#hash={text}"
    visit.choose(known(2))
    visit.page.get_by_text("#2", exact=True).wait_for()
    assert fragment(visit) == "", "a file cannot be kept"
    visit.choose(STRANGER.read_bytes())
    visit.says("No copy known.")
    visit.page.fill("#text", "what is this")
    visit.page.keyboard.press("Enter")
    visit.says("Type an address")
    visit.page.keyboard.press("Enter")
    visit.page.go_back()
    visit.says("No copy known.")
    visit.page.go_back()
    visit.page.get_by_text("#2", exact=True).wait_for()
    assert visit.page.is_visible("#preview")
    visit.page.go_back()
    visit.page.get_by_text("#1", exact=True).wait_for()
    assert visit.page.input_value("#text") == text
    visit.page.go_back()
    visit.says("No picture with the id 12345 is known.")
    visit.page.go_forward()
    visit.says("Found it:")
    visit.page.go_back()
    visit.page.go_back()
    visit.page.locator("#message").wait_for(state="hidden")
    assert visit.page.input_value("#text") == ""


def test_an_address_that_is_changed_by_hand_is_searched(visit: Visit) -> None:
    visit.page.evaluate("location.hash = '#id=007'")
    visit.says("No picture with the id 7 is known.")
    visit.page.evaluate("location.hash = '#id=8'")
    visit.says("No picture with the id 8 is known.")
    visit.page.go_back()
    visit.says("No picture with the id 7 is known.")
    visit.page.go_back()
    visit.page.locator("#message").wait_for(state="hidden")


@pytest.mark.parametrize(
    "junk",
    ["#id=https://example.org/a.png", "#hash=1", "#url=https://example.org/", "#id=<b>", "#id=", "#x=1"],
)
def test_an_address_can_ask_for_nothing_but_an_id_or_a_hash(visit: Visit, junk: str) -> None:
    asked: list[str] = []
    visit.page.on("request", lambda request: asked.append(request.url) if "query?" in request.url else None)
    visit.page.evaluate("(junk) => { location.hash = junk }", junk)
    visit.page.reload()
    visit.until("document.getElementById('count').textContent === '3 pictures known'")
    assert visit.page.is_hidden("#message")
    assert asked == []


@pytest.mark.parametrize("number", ["9223372036854775808", "92233720368547758080", "9" * 600])
def test_a_number_too_large_for_an_id_is_told_the_range(visit: Visit, number: str) -> None:
    visit.page.fill("#text", number)
    visit.page.keyboard.press("Enter")
    visit.says("An id is a whole number of 0..9223372036854775807.")


# --- a server that knows nothing yet


def test_an_empty_server_says_at_once_how_pictures_are_added(window: Any, tmp_path: Path) -> None:
    with embedded_server(tmp_path / "iqdb.sqlite") as empty:
        visit = Visit(window, empty.url)
        assert visit.page.text_content("#count") == "No pictures are known yet: iqdb add FOLDER adds some."
        visit.choose(known(1))
        visit.says("No pictures are known yet.")
        assert visit.page.text_content("#more") == "iqdb add FOLDER adds some."
        visit.close()
        assert visit.errors == []
