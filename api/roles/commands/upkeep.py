"""`iqdb rm`, `status`, `export`, `backup` and `check`: looking after what is known."""

from __future__ import annotations

import csv
import json as json_format
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, TextIO

import typer

from api.roles.command_parts import show
from api.roles.command_parts.files import is_csv, is_database, path_of
from api.roles.command_parts.gone_files import gone_below
from api.roles.command_parts.opening import opened, opened_database
from api.roles.interrupts import interrupted_by_signals
from api.roles.options import LOCAL, TARGET, with_settings
from api.roles.printable import printable
from api.roles.progress import WAITING, ProgressLine
from iqdb_client import Image
from iqdb_core.errors import WrongUsage
from iqdb_core.settings import Settings

app: Final = typer.Typer()

DISAGREES: Final = 5
_LISTED: Final = 50


def _no_server(command: str, instead: str) -> dict[str, str]:
    return {"url": f"'{command}' works on a database and not on a server (--url, IQDB_URL); {instead}"}


def _id(text: str) -> int:
    """Return the number that a word is; raises WrongUsage, which repeats the word, if it is none."""
    from api.roles.command_parts.manifest import is_image_id  # noqa: PLC0415 - brings numpy

    if not is_image_id(text):
        raise WrongUsage(f"an image id is 0..2**63-1, not {text}")
    return int(text)


class ExportFormat(StrEnum):
    """How an export is written."""

    NDJSON = "ndjson"
    CSV = "csv"
    IQDB = "iqdb"


@app.command()
@with_settings("commands", only=TARGET)
def rm(
    settings: Settings,
    ids: Annotated[list[int] | None, typer.Argument(help="ids of images", parser=_id)] = None,
    *,
    gone: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="delete all images of files that are no longer in this folder"),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", "-n", help="with --gone: list what would be deleted, and delete nothing"),
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="with --gone: do not ask, also if most files are gone")
    ] = False,
) -> int:
    """Delete images, by id or of files that are gone. An unknown id is no error. Files are never touched.

    --gone lists what it deletes, and asks on a terminal. It goes by the sources of the images, which are the
    paths of files that 'iqdb add' has added, on another machine too. It keeps the images of folders that are
    empty now, where a disk may not be mounted. If most files are gone, it deletes nothing without --yes.
    """
    if bool(ids) is (gone is not None):
        raise WrongUsage("give the ids of the images to delete, or --gone FOLDER")
    if (dry_run or yes) and gone is None:
        raise WrongUsage("--dry-run and --yes are for files that are gone, and need --gone FOLDER")
    if gone is not None and settings.url:
        raise WrongUsage(
            "--gone looks for files of this machine, and does not work on a server (--url, IQDB_URL)"
        )
    again = "interrupted; some images may be deleted already; run the same command again to delete the others"
    with opened(settings) as target:
        if gone is None:
            wanted = list(dict.fromkeys(ids or ()))
        else:
            found = gone_below(path_of(gone), target.listed())
            wanted = list(found.sources)
            # Before anything is deleted: the list must not be lost, whatever happens then.
            for image_id, source in found.sources.items():
                typer.echo(f"{image_id}  {printable(source)}")
            for folder, count in found.doubtful.items():
                show.say(
                    f"kept {show.counted(count, 'image')} of files below {printable(folder)}, which is empty:"
                    " is its disk not mounted? Otherwise remove the folder, and they will go"
                )
            if not yes:
                found.check(gone)
            if dry_run:
                show.say(f"would delete {len(wanted):,}")
                return 0
            question = f"delete these images, {found.in_words()} below {gone}?"
            if wanted and not (yes or _is_confirmed(question)):
                show.say("deleted nothing")
                return 1
        with interrupted_by_signals(lambda: show.say(again)):
            missing = len(target.missing(wanted))
            target.remove(wanted)
    not_there = f"; {missing:,} {'was' if missing == 1 else 'were'} not there" if missing else ""
    show.say(f"deleted {len(wanted) - missing:,}{not_there}")
    return 0


def _is_confirmed(question: str) -> bool:
    """Ask a person; a program, which nobody watches, has said what it wants."""
    if not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
        return True
    show.say(f"{question} [y/N]")
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


@app.command()
@with_settings("commands", only=TARGET)
def status(
    settings: Settings, *, json: Annotated[bool, typer.Option("--json", help="as JSON")] = False
) -> None:
    """Say how many images are known, and how the database or server is doing."""
    with opened(settings) as target:
        found = target.status()
        if json:
            show.as_json(found)
        else:
            show.pairs({"in": target.name, **found})


@app.command()
@with_settings("commands", only=TARGET)
def export(
    settings: Settings,
    file: Annotated[str, typer.Argument(help="a new file, or - for standard output")],
    *,
    form: Annotated[
        ExportFormat | None,
        typer.Option(
            "--format", help="default: csv or iqdb (.db, .sqlite) by the file's ending, else ndjson"
        ),
    ] = None,
) -> None:
    """Write all images of one moment: id, hash and source as NDJSON or CSV, or a file for IQDB."""
    form = form or _format_of(file)
    if form is ExportFormat.IQDB and file == "-":
        raise WrongUsage("an IQDB file cannot be written to standard output")
    with opened(settings) as target, ExitStack() as stack:
        if form is ExportFormat.IQDB:
            with ProgressLine("writing") as line:
                count = target.write_iqdb_file(Path(file), line)
        elif file == "-":
            count = _write(target.images(), form, sys.stdout)
        else:
            from iqdb_core.store.contents.files import new_file  # noqa: PLC0415 - brings SQL

            part = stack.enter_context(new_file(Path(file)))
            out = stack.enter_context(part.open("w", encoding="utf-8", newline=""))
            count = _write(target.images(), form, out)
    if file != "-":
        show.say(f"wrote {show.counted(count, 'image')} to {file}")


def _write(images: Iterable[Image], form: ExportFormat, out: TextIO) -> int:
    """Write images as lines, and return how many there were."""
    count = 0
    writer = csv.writer(out)
    if form is ExportFormat.CSV:
        writer.writerow(["post_id", "hash", "source"])
    for image in images:
        count += 1
        if form is ExportFormat.CSV:
            writer.writerow([image.post_id, image.hash, image.source or ""])
        else:
            body = {"post_id": image.post_id, "hash": image.hash}
            if image.source is not None:
                body["source"] = image.source
            out.write(json_format.dumps(body, ensure_ascii=False) + "\n")
    return count


@app.command()
@with_settings("commands", only=LOCAL, without=_no_server("backup", "'iqdb export' writes all that it holds"))
def backup(
    settings: Settings, file: Annotated[Path, typer.Argument(help="a new file; it must not be there yet")]
) -> None:
    """Copy the whole database into a file while it is in use; IQDB opens the copy, too.

    To restore, stop the server and put the file in the database's place. A database of an older version is
    copied as it is, and not upgraded.
    """
    from iqdb_core.store.opening import back_up_older  # noqa: PLC0415 - brings SQL

    if file == Path("-"):
        raise WrongUsage("a backup cannot be written to standard output")
    with ProgressLine("copying", if_silent=WAITING) as line:
        count = back_up_older(settings.database_url, file, line)
        if count is None:
            with opened_database(settings) as database:
                count = database.store.backup(file, line)
    show.say(f"{file} holds {show.counted(count, 'image')}")


@app.command()
@with_settings("commands", only=LOCAL, without=_no_server("check", "run it where the database is"))
def check(
    settings: Settings,
    *,
    repair: Annotated[
        bool, typer.Option("--repair", help="bring what disagrees in step with the images")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="as JSON")] = False,
) -> int:
    """Check that images, feed, counters and sources of a database agree. Exit code 5: they do not.

    After a repair, 5 says that something is left which could not be mended.
    """
    with opened_database(settings) as database, ProgressLine("checking") as line:
        report = database.store.check(repair=repair, progress=line)
    if json:
        show.as_json(
            {
                "images": report.images,
                "found": report.found,
                "repaired": report.repaired,
                "findings": [
                    {"kind": one.kind, "message": one.message, "post_id": one.image_id}
                    for one in report.findings
                ],
            }
        )
    else:
        for one in report.findings[:_LISTED]:
            show.say(f"{one.kind}: {one.message}")
        mended = f", {report.repaired:,} of them mended" if repair else ""
        # Rows that are no signatures are looked at as well, and are no images.
        rows, found = show.counted(report.images, "row"), show.counted(report.found, "disagreement")
        show.say(f"looked at {rows} of images; {found}{mended}")
    return 0 if report.found == report.repaired else DISAGREES


def _format_of(file: str) -> ExportFormat:
    if is_csv(file):
        return ExportFormat.CSV
    return ExportFormat.IQDB if is_database(file) else ExportFormat.NDJSON
