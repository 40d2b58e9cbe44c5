"""`iqdb upgrade` and `iqdb migrate`: commands that prepare a database and end."""

from __future__ import annotations

from typing import Annotated

import typer

from api.roles.interrupts import interrupted_by_signals
from api.roles.messages import say
from api.roles.options import with_settings
from api.roles.progress import WAITING, ProgressLine
from iqdb_core.settings import Settings

app = typer.Typer()


@app.command()
@with_settings("upgrade")
def upgrade(settings: Settings) -> None:
    """Create or upgrade the database's tables, then end."""
    from iqdb_core.store import open_store  # noqa: PLC0415 - help should not load SQLAlchemy

    with ProgressLine("preparing the database", if_silent=WAITING) as line:
        store = open_store(settings.database_url, progress=line)
    say(f"the database is ready, with {store.live_count():,} images")
    store.close()


@app.command()
@with_settings("migrate")
def migrate(
    settings: Settings,  # noqa: ARG001
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="an SQLite file or a database URL")],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="the same; made where it is missing")],
) -> None:
    """Copy all images from one database into another; an interrupted copy is gone on with."""
    from iqdb_core.store.migrate import copy_store  # noqa: PLC0415

    again = "interrupted; run the same command again to go on"
    with (
        interrupted_by_signals(lambda: say(again)),
        ProgressLine("copying images", delay_s=0, if_silent=WAITING) as line,
    ):
        result = copy_store(source, target, progress=line)
    again = "went on with an interrupted copy; " if result.resumed and result.copied else ""
    left = f"; left out {result.skipped:,} rows that are no signatures" if result.skipped else ""
    say(f"{again}wrote {result.copied:,} rows; both hold {result.live_count:,} images now{left}")
