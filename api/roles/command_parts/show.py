"""What the commands for people print: progress, tables, and the same as JSON for programs.

Results go to standard output, everything else to standard error. Decides nothing. Called by the commands.
"""

from __future__ import annotations

import io
import json
import sys
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from rich.cells import cell_len
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from api.roles.command_parts.likeness import words_of
from api.roles.printable import escaped, printable

if TYPE_CHECKING:
    from api.roles.command_parts.add import Tally
    from api.roles.command_parts.gather import Passed
    from iqdb_client import Match

_LISTED: Final = 50
"""Most refused files, and damaged ones, that are listed one by one."""

_COLUMN: Final = 10
"""Least characters of a column of a table that is printed in pieces, so that they line up."""

# Names of files are no markup and no emoji.
_PLAIN: Final[dict[str, Any]] = {"highlight": False, "soft_wrap": True, "markup": False, "emoji": False}
out: Final = Console(**_PLAIN)
notes: Final = Console(stderr=True, **_PLAIN)


def say(text: str) -> None:
    """Write a line for the person, not for a program."""
    notes.print(Text(printable(text)))


def counted(number: int, what: str) -> str:
    """Return how many there are of something, in words."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def as_json(value: object) -> None:
    """Write one JSON value to standard output."""
    sys.stdout.write(escaped(json.dumps(value, indent=2, ensure_ascii=False)) + "\n")


@contextmanager
def bar(label: str, count: Callable[[], int | None]) -> Iterator[Any]:
    """Show a bar with rate and time left on a terminal; yields what is called with a Tally.

    Parameters
    ----------
    label : str
    count : callable
        Returns how many there are, None if that is not known. It may take its time, in a thread of its own:
        until then the bar only moves.
    """
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=notes, transient=True, disable=not notes.is_terminal) as progress:
        task = progress.add_task(label, total=None, rate="")
        if notes.is_terminal:
            # Nobody waits for it: the pictures of a slow disk may be in before they are counted.
            counting = threading.Thread(target=lambda: progress.update(task, total=count()), daemon=True)
            counting.start()

        def show(tally: Tally) -> None:
            speed = progress.tasks[0].speed
            rate = "" if speed is None else f"{speed:,.0f}/s"
            progress.update(task, completed=tally.seen, rate=rate)

        yield show


def summary(tally: Tally, passed: Passed) -> None:
    """Say what became of all files, and list those that were refused and those that are damaged."""
    refused = [*tally.refused, *passed.unreadable]
    if refused:
        say(f"{_were(len(refused))} not added:")
        _list([f"{name}: {reason}" for name, reason in refused])
    if tally.damaged:
        they = "it" if len(tally.damaged) == 1 else "they"
        say(f"{_were(len(tally.damaged))} damaged, and added as far as {they} can be read:")
        _list(tally.damaged)
    parts = [f"added {tally.added:,}", f"{tally.unchanged:,} were there already"]
    if passed.other_files:
        parts.append(_passed_over(passed.other_files))
    if passed.left_out_folders:
        parts.append(f"left out {counted(passed.left_out_folders, 'hidden or linked folder')}")
    say(", ".join(parts))


def _were(number: int) -> str:
    return f"{number:,} {'was' if number == 1 else 'were'}"


def _passed_over(files: int) -> str:
    return f"passed over {counted(files, 'file')} that {'is no picture' if files == 1 else 'are no pictures'}"


def _list(lines: Sequence[str]) -> None:
    for line in lines[:_LISTED]:
        say(f"  {line}")
    if len(lines) > _LISTED:
        say(f"  ... and {len(lines) - _LISTED:,} more; --json lists them all")


def matches(found: Sequence[Match]) -> None:
    """Write the answer to a search as a table; nothing if it is empty."""
    if not found:
        return
    names = ("id", "likeness", "score", "turned", "source")
    rows = [
        (
            str(match.post_id),
            words_of(match),
            f"{match.score:.0f}",
            "" if match.turn in {None, "none"} else str(match.turn),
            match.source or "",
        )
        for match in found
    ]
    _print(out, _below_each_other([names, *rows], right={0, 2}), has_names=True)


def matches_as_json(found: Sequence[Match]) -> None:
    """Write the answer to a search as a JSON list."""
    as_json([known_of(match) for match in found])


def known_of(value: Any) -> dict[str, object]:
    """Return a record as a JSON object, without what is not known."""
    return {name: one for name, one in asdict(value).items() if one is not None}


def as_json_line(value: object) -> None:
    """Write one JSON value as a line of its own."""
    sys.stdout.write(json_line(value))


def json_line(value: object) -> str:
    """Return one JSON value as a line of its own."""
    return escaped(json.dumps(value, ensure_ascii=False)) + "\n"


def pairs(values: Mapping[str, object]) -> None:
    """Write names and values, one pair a line; what is inside of a value has both names."""
    shown = [
        (name.replace("_", " "), f"{value:,}" if type(value) is int else str(value))
        for name, value in _unfolded(values)
    ]
    _print(out, _below_each_other(shown), has_names=False)


def _unfolded(values: Mapping[str, object], before: str = "") -> Iterator[tuple[str, object]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _unfolded(value, f"{before}{name} ")
        else:
            yield f"{before}{name}", value


def rows(
    columns: Sequence[str], values: Iterable[Sequence[object]], *, is_first: bool, is_terminal: bool
) -> str:
    """Return some rows of a table that is shown piece by piece, with the names of its columns if first."""
    names = [[name.replace("_", " ") for name in columns]] if is_first else []
    right = set(range(len(columns) - 1))
    lines = _below_each_other([*names, *(list(map(str, row)) for row in values)], right=right, least=_COLUMN)
    text = io.StringIO()
    _print(Console(file=text, force_terminal=is_terminal, **_PLAIN), lines, has_names=is_first)
    return text.getvalue()


def _below_each_other(
    rows: Iterable[Sequence[str]], *, right: Collection[int] = (), least: int = 0
) -> list[str]:
    """Return rows as lines, with the cells of a column below each other; the last one is as long as it is.

    Lines are not cut to fit a terminal, which wraps them by itself: so a name that is copied from there is
    whole, without blanks inside.

    Parameters
    ----------
    rows : iterable of sequence of str
        Of the same length, at least 1.
    right : collection of int
        Columns whose cells end below each other.
    least : int
        Narrowest column, in characters.
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(least, *map(cell_len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for row in cells:
        blanks = [" " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)]
        padded = [
            blank + cell if column in right else cell + blank
            for column, (cell, blank) in enumerate(zip(row, blanks, strict=True))
        ]
        lines.append("  ".join([*padded[:-1], row[-1]]).rstrip())
    return lines


def _print(console: Console, lines: Sequence[str], *, has_names: bool) -> None:
    for number, line in enumerate(lines):
        console.print(Text(line, style="bold" if has_names and number == 0 else ""))
