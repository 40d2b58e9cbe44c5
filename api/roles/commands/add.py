"""`iqdb add`: many pictures into a database or a server."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import Annotated, Final

import typer

from api.roles.command_parts import show, suggested
from api.roles.command_parts.add import Tally, add_all
from api.roles.command_parts.files import path_of
from api.roles.command_parts.gather import Passed, count, gather
from api.roles.command_parts.notebook import Notebook, notebook_path
from api.roles.command_parts.opening import opened
from api.roles.database_file import file_of
from api.roles.interrupts import INTERRUPTED, stopped_by_signals
from api.roles.options import with_settings
from iqdb_client import ClientError
from iqdb_core.errors import IqdbError, WrongUsage
from iqdb_core.machine import usable_cores
from iqdb_core.settings import Settings

app: Final = typer.Typer()

SOME_REFUSED: Final = 3


@app.command()
@with_settings("commands")
def add(
    settings: Settings,
    paths: Annotated[
        list[str],
        typer.Argument(help="folders, files, patterns, tar archives, or lists of ids (.csv, .ndjson)"),
    ],
    *,
    id_from: Annotated[
        str | None, typer.Option(help=r"a pattern that finds the id in a file's name, e.g. '(\d+)'")
    ] = None,
    hash_here: Annotated[
        bool, typer.Option("--hash-here", help="with --url: decode here and send 264 bytes per picture")
    ] = False,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="pictures decoded or sent at the same time", show_default="one per core"),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="print the outcome as JSON")] = False,
) -> int:
    """Add pictures: folders, files, patterns, tar archives, or lists of id and file.

    What is there unchanged is passed over, so it can be interrupted and run again. Files without an id get
    the next free one. Exit code 3: some were not added; they are listed, and all others are in.
    """
    pattern = _pattern(id_from)
    tally, passed, stopping, bars = Tally(), Passed(), threading.Event(), ExitStack()

    def tell() -> None:
        if json:
            _as_json(tally, passed)
        else:
            show.summary(tally, passed)

    def tell_cut_off() -> None:
        bars.close()
        tell()
        sys.stdout.flush()
        show.say("interrupted; what was being added may be in, too; run the same command again to go on")

    # Before a database is made: a name may be mistyped.
    items = gather(
        paths,
        id_pattern=pattern,
        max_bytes=settings.max_upload_bytes,
        passed=passed,
        stopping=stopping,
    )
    with (
        stopped_by_signals(stopping, tell_cut_off),
        opened(settings, make=True, hash_here=hash_here) as target,
        Notebook(notebook_path(settings.database_url, settings.url)) as notebook,
        bars,
    ):
        store_id = target.status().get("store_id")
        if store_id is not None:  # older servers do not tell
            notebook.belong_to(store_id)
        try:
            add_all(
                items,
                target,
                notebook,
                tally,
                threads=threads or usable_cores(),
                progress=bars.enter_context(show.bar("adding", lambda: count(paths))),
                stopping=stopping,
            )
        except (ClientError, IqdbError) as error:
            if error.retryable:
                show.say("what was added so far is in; run the same command again to go on")
            raise
    tell()
    if stopping.is_set():
        show.say("interrupted; run the same command again to go on")
        return INTERRUPTED
    if not json and tally.added and not settings.url:
        _tell_how_to_look(settings.database_url, paths)
    return SOME_REFUSED if tally.refused or passed.unreadable else 0


def _as_json(tally: Tally, passed: Passed) -> None:
    refused = [{"file": file, "reason": reason} for file, reason in [*tally.refused, *passed.unreadable]]
    left_out = {"other_files": passed.other_files, "left_out_folders": passed.left_out_folders}
    show.as_json({**asdict(tally), "refused": refused, **left_out})


def _tell_how_to_look(database_url: str, paths: Sequence[str]) -> None:
    """Say which command shows what was added: as it is where it is in a folder, blurred elsewhere."""
    if file_of(database_url) is None:
        return  # its servers run already, and its address may hold a password
    folder = _folder_of(paths)
    shown = ["--pictures", folder] if folder else []
    server = suggested.command("http", "127.0.0.1", "5588", database_url, *shown)
    show.say(f"look at them at http://127.0.0.1:5588/ with: {server}")


def _folder_of(paths: Sequence[str]) -> str | None:
    """Return the folder that was added, or the lowest above all that were; None where that is the root."""
    folders = [path for path in paths if os.path.isdir(path_of(path))]  # noqa: PTH112 - names may be too long
    if len(folders) <= 1:
        return folders[0] if folders else None
    common = os.path.commonpath([os.path.abspath(path_of(path)) for path in folders])  # noqa: PTH100
    return None if common == os.path.sep else common


def _pattern(text: str | None) -> re.Pattern[str] | None:
    if text is None:
        return None
    try:
        return re.compile(text)
    except re.error as error:
        raise WrongUsage(f"--id-from is no regular expression: {error}") from error
