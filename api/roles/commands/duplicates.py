"""`iqdb duplicates`: what is there more than once."""

from __future__ import annotations

import csv
import io
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from io import FileIO
from pathlib import Path
from typing import Annotated, Final

import typer

from api.roles.command_parts import show, suggested
from api.roles.command_parts.files import is_csv
from api.roles.command_parts.gone_files import folder_above, gone_ids, without
from api.roles.command_parts.linked_files import without_links
from api.roles.command_parts.opening import opened
from api.roles.interrupts import interrupted_by_signals
from api.roles.options import TARGET, with_settings
from api.roles.progress import ProgressLine
from iqdb_client import ClientError
from iqdb_core.duplicates import Group
from iqdb_core.errors import ConfigError, IqdbError, WrongUsage
from iqdb_core.likelihood_words import LIKELY
from iqdb_core.settings import Settings

app: Final = typer.Typer()

COLUMNS: Final = ("group", "post_id", "likelihood", "source")
_MOST_IDS: Final = 20
"""Of files that are gone, so many are named one by one at the end."""


class DuplicatesFormat(StrEnum):
    """How groups are written."""

    NDJSON = "ndjson"
    CSV = "csv"
    TABLE = "table"


@app.command()
@with_settings("commands", only=TARGET)
def duplicates(
    settings: Settings,
    *,
    min_likelihood: Annotated[
        float, typer.Option(min=0, max=1, help="least likelihood that two images show the same picture")
    ] = LIKELY,
    form: Annotated[
        DuplicatesFormat | None,
        typer.Option(
            "--format",
            help="default: csv if the file ends so, a table on a terminal, else ndjson, a line per group",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="the same as --format ndjson")] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="a new file, or with --after one to append to (default: standard output)"
        ),
    ] = None,
    after: Annotated[
        int | None, typer.Option(help="go on after this id, which an interrupted run has named", min=-1)
    ] = None,
) -> None:
    """Find groups of images that show the same picture, smallest id first.

    Images are compared whole, and not turned: a picture and a screenshot of it are no group. Left out are
    plain pictures, which look alike whatever they show, links to files of the same group, and files that are
    gone.
    """
    if json and form not in {None, DuplicatesFormat.NDJSON}:
        raise WrongUsage(f"--json is --format ndjson, and not {form}")
    form = DuplicatesFormat.NDJSON if json else form
    output = None if output == Path("-") else output
    position = -1 if after is None else after
    with (
        interrupted_by_signals(lambda: _tell_interrupted(position)),
        opened(settings) as target,
        _opened(output, is_new=after is None) as out,
        ProgressLine("looking for duplicates") as line,
    ):
        form = form or _format_for(output, out.is_terminal)
        if form is DuplicatesFormat.CSV and (position < 0 if output is None else out.is_empty):
            out.write(_csv([COLUMNS]))
        total = int(target.status()["images"])
        tally = _Tally()
        try:
            while True:
                page = target.duplicates(position, min_likelihood)
                sources = target.there([one for group in page.groups for one in group.image_ids])
                every = [_told(found, sources, is_here=not settings.url) for found in page.groups]
                told = [one for one in every if len(one.group.image_ids) > 1]
                if told:  # all of a page or nothing: who goes on begins with a page
                    line.erase()
                    out.write(_text(told, form, is_first=not tally.groups, is_terminal=out.is_terminal))
                position = position if page.next_after is None else page.next_after
                tally.add(page.looked_at, every, told)
                line(min(tally.looked_at, total), max(total, tally.looked_at))
                if page.next_after is None:
                    break
        except BrokenPipeError:  # who read it has seen enough
            raise
        except (OSError, ClientError, IqdbError):
            line.close()
            _tell_interrupted(position)
            raise
    tally.say(settings.database_url)


def _tell_interrupted(position: int) -> None:
    """Say what is missing of the output."""
    show.say(f"interrupted; go on with --after {position}")


@dataclass(frozen=True, slots=True)
class _Told:
    """A group, where its images come from, as far as it is known, and what was left out of it.

    Parameters
    ----------
    group : Group
    sources : mapping of int to str
    gone : tuple of int
        Images whose files are gone.
    links : int
        How many images came by links.
    likelihoods : mapping of int to float
        The best one of each image.
    """

    group: Group
    sources: Mapping[int, str]
    gone: tuple[int, ...]
    links: int
    likelihoods: Mapping[int, float]

    @property
    def number(self) -> int:
        """Its smallest id: no other group's number, and the same in every run."""
        return self.group.image_ids[0]


def _told(found: Group, sources: Mapping[int, str | None], *, is_here: bool) -> _Told:
    """Return a group as it is told; `is_here`: sources are files of this machine, if they are files."""
    known = {one: name for one in found.image_ids if (name := sources.get(one))}
    if not is_here:
        return _Told(found, known, (), 0, _best(found))
    gone = gone_ids(found.image_ids, known)
    there = without(found, gone) if gone else found
    group = without_links(there, known)
    # Of a large group no pair may be known but one with an image that is left out.
    likelihoods = _best(found) | _best(group)
    return _Told(group, known, gone, len(there.image_ids) - len(group.image_ids), likelihoods)


def _best(group: Group) -> dict[int, float]:
    """Return the likelihood of the surest pair of each image that has one."""
    best: dict[int, float] = {}
    for pair in group.pairs:
        for image_id in (pair.first, pair.second):
            best[image_id] = max(best.get(image_id, 0.0), pair.likelihood)
    return best


@dataclass(slots=True)
class _Tally:
    """What was told so far.

    Parameters
    ----------
    groups, looked_at : int
        Groups, and images among which they were found.
    extra : int
        Images that are there once more than needed.
    cut : int
        Groups that are too large to be told whole.
    links : int
        Images that were left out as links.
    gone : dict of int to str
        Images that were left out because their files are gone, with these files.
    """

    groups: int = 0
    looked_at: int = 0
    extra: int = 0
    cut: int = 0
    links: int = 0
    gone: dict[int, str] = field(default_factory=dict)

    def add(self, looked_at: int, found: Iterable[_Told], told: Sequence[_Told]) -> None:
        """Count a page: the groups that were found, and those of them that are left to be told."""
        self.looked_at += looked_at
        self.groups += len(told)
        self.extra += sum(len(one.group.image_ids) - 1 for one in told)
        self.cut += sum(not one.group.is_whole for one in told)
        for one in found:
            self.links += one.links
            self.gone |= {image_id: one.sources[image_id] for image_id in one.gone}

    def say(self, database_url: str) -> None:
        """Tell a person the sums, and what may be done to the database."""
        show.say(
            f"{show.counted(self.groups, 'group')} among {show.counted(self.looked_at, 'image')};"
            f" {show.counted(self.extra, 'image')} {'is' if self.extra == 1 else 'are'} there once more than"
            " needed"
        )
        if self.gone:
            gone = show.counted(len(self.gone), "image")
            these = [*map(str, self.gone)]
            if len(these) > _MOST_IDS:
                these = ["--gone", folder_above(self.gone.values()) or "..."]
            forget = suggested.command("rm", *suggested.on_database(database_url), *these)
            show.say(f"left out {gone} whose file is gone; to forget what is gone: {forget}")
        if self.links:
            links = show.counted(self.links, "image")
            show.say(f"left out {links} that came by a link to a file of the same group")
        if self.cut:
            show.say(f"not all images are told of {self.cut:,} of the groups, which are too large")


class Output:
    """Standard output, or a file that is written to at its end.

    Parameters
    ----------
    file : FileIO or None
    """

    def __init__(self, file: FileIO | None) -> None:
        self._file = file

    @property
    def is_empty(self) -> bool:
        """Whether it is a file in which nothing is yet."""
        return self._file is not None and os.fstat(self._file.fileno()).st_size == 0

    @property
    def is_terminal(self) -> bool:
        """Whether a person sees what is written."""
        return (self._file or sys.stdout).isatty()

    def write(self, text: str) -> None:
        """Write a text and hold nothing back; a file has all of it or, after an error, nothing."""
        if self._file is None:
            sys.stdout.write(text)
            sys.stdout.flush()
            return
        size = os.fstat(self._file.fileno()).st_size
        rest = memoryview(text.encode())
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except BaseException:
            with suppress(OSError):  # a device or a pipe has taken what it has taken
                self._file.truncate(size)
            raise


@contextmanager
def _opened(output: Path | None, *, is_new: bool) -> Iterator[Output]:
    if output is None:
        yield Output(None)
        return
    try:
        with output.open("ab", buffering=0) as file:
            out = Output(file)
            if is_new and not out.is_empty:
                # Of the groups of two runs together nobody could tell which are still there.
                raise ConfigError(f"{output} is there already; name a new file, or go on in it with --after")
            yield out
    except BrokenPipeError:
        raise
    except OSError as error:
        raise ConfigError(f"{output} cannot be written: {error.strerror}") from error


def _format_for(output: Path | None, is_terminal: bool) -> DuplicatesFormat:
    if output is not None and is_csv(output):
        return DuplicatesFormat.CSV
    return DuplicatesFormat.TABLE if is_terminal else DuplicatesFormat.NDJSON


def _text(told: Iterable[_Told], form: DuplicatesFormat, *, is_first: bool, is_terminal: bool) -> str:
    """Return groups as they are written; a table has the names of its columns above the first ones."""
    if form is DuplicatesFormat.NDJSON:
        return "".join(map(_line, told))
    rows = (row for one in told for row in _rows(one))
    if form is DuplicatesFormat.CSV:
        return _csv(rows)
    return show.rows(COLUMNS, rows, is_first=is_first, is_terminal=is_terminal)


def _csv(rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue()


def _line(told: _Told) -> str:
    sources, group = told.sources, told.group
    images = [
        {"post_id": image_id, "likelihood": told.likelihoods.get(image_id, 0.0)}
        | ({"source": sources[image_id]} if image_id in sources else {})
        for image_id in group.image_ids
    ]
    pairs = [
        {"post_ids": [pair.first, pair.second], "likelihood": pair.likelihood, "score": pair.score}
        for pair in group.pairs
    ]
    truncated = {} if group.is_whole else {"truncated": True}
    return show.json_line({"group": told.number, "images": images, "pairs": pairs, **truncated})


def _rows(told: _Told) -> Iterator[list[object]]:
    """Yield group, id, likelihood and source, for each image."""
    for image_id in told.group.image_ids:
        likelihood = f"{told.likelihoods.get(image_id, 0):.4f}"
        yield [told.number, image_id, likelihood, told.sources.get(image_id, "")]
