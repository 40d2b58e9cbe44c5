"""`iqdb duplicates`: what is there more than once."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, TextIO

import typer

from api.roles.options import TARGET, with_settings
from api.roles.people import show
from api.roles.people.files import is_csv
from api.roles.people.one_file import without_links
from api.roles.people.opening import opened
from api.roles.progress import ProgressLine
from iqdb_client import ClientError
from iqdb_core.duplicates import Group
from iqdb_core.errors import ConfigError, IqdbError
from iqdb_core.likelihood_words import LIKELY
from iqdb_core.settings import Settings

app: Final = typer.Typer()

COLUMNS: Final = ("group", "post_id", "likelihood", "source")


class DuplicatesFormat(StrEnum):
    """How groups are written."""

    NDJSON = "ndjson"
    CSV = "csv"
    TABLE = "table"


@app.command()
@with_settings("people", only=TARGET)
def duplicates(
    settings: Settings,
    *,
    min_likelihood: Annotated[
        float, typer.Option(min=0, max=1, help="of a pair to show the same picture")
    ] = LIKELY,
    form: Annotated[
        DuplicatesFormat | None,
        typer.Option(
            "--format",
            help="by default csv if the file ends so, a table on a terminal, else ndjson: a line per group",
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="append to this file")] = None,
    after: Annotated[
        int, typer.Option(help="go on after this id, which an interrupted run has told", min=-1)
    ] = -1,
) -> None:
    """Find groups of images that show the same picture, smallest id first.

    Plain pictures, which resemble each other anyhow, are left out, and so are links to files of the same
    group.
    """
    with opened(settings) as target, _written(output) as out:
        form = form or _format_for(output, out)
        is_new = after < 0 if output is None else out.tell() == 0
        if form is DuplicatesFormat.CSV and is_new:
            csv.writer(out).writerow(COLUMNS)
        line = ProgressLine("looking for duplicates")
        total = int(target.status()["images"])
        looked_at = groups = extra = parts = linked = 0
        position = after
        try:
            while True:
                page = target.duplicates(position, min_likelihood)
                for found in page.groups:
                    sources = target.sources(found.image_ids)
                    group = found if settings.url else without_links(found, sources)
                    linked += len(found.image_ids) - len(group.image_ids)
                    if len(group.image_ids) < 2:
                        continue
                    groups += 1
                    extra += len(group.image_ids) - 1
                    parts += not group.is_whole
                    _write(out, group, groups, sources, form)
                out.flush()
                looked_at += page.looked_at
                line(min(looked_at, total), max(total, looked_at))
                if page.next_after is None:
                    break
                position = page.next_after
        except (KeyboardInterrupt, OSError, ClientError, IqdbError):
            show.say(f"interrupted; go on with --after {position}")
            raise
        finally:
            line.close()
    show.say(
        f"{show.counted(groups, 'group')} among {show.counted(looked_at, 'image')};"
        f" {show.counted(extra, 'image')} {'is' if extra == 1 else 'are'} there once more than needed"
    )
    if linked:
        show.say(f"left out {show.counted(linked, 'image')} that came by a link to a file of the same group")
    if parts:
        show.say(f"not all images are told of {parts:,} of the groups, which are too large")


@contextmanager
def _written(output: Path | None) -> Iterator[TextIO]:
    """Yield what is written to: a file at its end, or standard output."""
    if output is None:
        yield sys.stdout
        return
    try:
        with output.open("a", encoding="utf-8", newline="") as out:
            yield out
    except OSError as error:  # also when it is closed: a full disk may be told only then
        raise ConfigError(f"{output} cannot be written: {error.strerror}") from error


def _format_for(output: Path | None, out: TextIO) -> DuplicatesFormat:
    if output is not None and is_csv(output):
        return DuplicatesFormat.CSV
    return DuplicatesFormat.TABLE if out.isatty() else DuplicatesFormat.NDJSON


def _write(out: Any, group: Group, number: int, sources: dict[int, str], form: DuplicatesFormat) -> None:
    if form is DuplicatesFormat.CSV:
        csv.writer(out).writerows(_rows(group, number, sources))
        return
    if form is DuplicatesFormat.TABLE:
        show.rows(COLUMNS, _rows(group, number, sources), out, is_first=number == 1)
        return
    images = [
        {"post_id": image_id} | ({"source": sources[image_id]} if image_id in sources else {})
        for image_id in group.image_ids
    ]
    pairs = [
        {"post_ids": [pair.first, pair.second], "likelihood": pair.likelihood, "score": pair.score}
        for pair in group.pairs
    ]
    truncated = {} if group.is_whole else {"truncated": True}
    out.write(show.json_line({"images": images, "pairs": pairs, **truncated}))


def _rows(group: Group, number: int, sources: dict[int, str]) -> Iterator[list[object]]:
    """Yield group, id, the best likelihood of its pairs, and source, for each image."""
    for image_id in group.image_ids:
        own = [pair.likelihood for pair in group.pairs if image_id in {pair.first, pair.second}]
        yield [number, image_id, f"{max(own, default=0):.4f}", sources.get(image_id, "")]
