"""What people are shown: names of files are neither markup nor orders to a terminal."""

from __future__ import annotations

import io
import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from api.roles.command_parts import show
from api.roles.command_parts.add import Tally
from api.roles.command_parts.gather import Passed
from api.roles.printable import printable, printable_lines
from iqdb_client import Match

EVIL = "a[/red][bold]:smile:\x1b[31m\x9b2J\r\u202egpj\udce9.jpg"
SHOWN = "a[/red][bold]:smile:\ufffd[31m\ufffd2J\ufffd\ufffdgpj\ufffd.jpg"


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What is written on a terminal of both consoles."""
    stream = io.StringIO()
    for name in ("out", "notes"):
        console = Console(file=stream, force_terminal=True, width=400, **show._PLAIN)
        monkeypatch.setattr(show, name, console)
    return stream


def test_a_name_is_shown_as_it_is_in_tables(shown: io.StringIO) -> None:
    show.matches([Match(1, 50.0, "iqdb_", source=EVIL, likelihood=1.0)])
    show.pairs({EVIL: EVIL, "images": 1234})
    assert shown.getvalue().count(SHOWN) == 3
    assert "1,234" in shown.getvalue()
    assert EVIL not in shown.getvalue()


@pytest.mark.parametrize("columns", [80, 50, 40, 30])
def test_ids_and_scores_are_shown_whole_on_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=columns, **show._PLAIN)
    monkeypatch.setattr(show, "out", console)
    found = [
        Match(2**40 + number, 100.0, "iqdb_", source="/srv/a b/c.jpg", likelihood=0.99, turn="rotated-90")
        for number in range(3)
    ]
    show.matches(found)
    words = stream.getvalue().split()
    assert all(str(match.post_id) in words for match in found)
    assert words.count("100") == 3


@pytest.mark.parametrize("columns", [80, 30])
def test_a_value_is_shown_whole_on_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=columns, **show._PLAIN)
    monkeypatch.setattr(show, "out", console)
    place = "/srv/pictures of all/" + "0123456789" * 9
    show.pairs({"in": place, "head seq": 3})
    show.matches([Match(1, 100.0, "iqdb_", source=place, likelihood=1.0)])
    row = show.rows(["group", "source"], [[1, place]], is_first=False, is_terminal=True)
    lines = (stream.getvalue() + row).splitlines()
    assert [line.endswith(f"  {place}") for line in lines] == [True, False, False, True, True]


def test_columns_stay_below_each_other_beside_wide_letters(shown: io.StringIO) -> None:
    show.pairs({"写真": "a", "四つ": "b", "one": "c", "in_two": ""})
    assert shown.getvalue() == "写真    a\n四つ    b\none     c\nin two\n"


def test_what_was_left_out_is_said(shown: io.StringIO) -> None:
    show.summary(Tally(added=2), Passed(other_files=1000, left_out_folders=3))
    assert shown.getvalue() == (
        "added 2, 0 were there already, passed over 1,000 files that are no pictures,"
        " left out 3 hidden or linked folders\n"
    )


def test_a_name_is_shown_as_it_is_in_lists_of_errors(shown: io.StringIO) -> None:
    show.summary(Tally(refused=[(EVIL, EVIL)]), Passed(unreadable=[(EVIL, "no")]))
    assert shown.getvalue().count(SHOWN) == 3
    assert shown.getvalue().startswith("2 were not added:\n")
    assert "\x1b[31m" not in shown.getvalue()


@given(st.text())
def test_nothing_that_a_terminal_obeys_is_printable(text: str) -> None:
    out = printable(text)
    assert len(out) == len(text)
    assert all(unicodedata.category(one) not in {"Cc", "Cs"} for one in out)
    assert printable_lines(f"{text}\n{text}").split("\n") == [
        printable(line) for line in f"{text}\n{text}".replace("\t", " ").split("\n")
    ]
    assert printable_lines("refused\n\tIs it running?") == "refused\n Is it running?"


@given(st.text(st.characters(exclude_categories=())))
def test_json_has_everything_and_nothing_that_a_terminal_obeys(text: str) -> None:
    line = show.json_line({"name": text})
    assert json.loads(line) == {"name": text}
    assert printable(line.removesuffix("\n")) == line.removesuffix("\n")
