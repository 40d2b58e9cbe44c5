"""The `iqdb` command: the list of commands, and what each is for.

A command's file is imported when it runs, so that `iqdb --help` is quick and `iqdb migrate` loads no web
framework.
"""

from __future__ import annotations

import codecs
import errno
import importlib
import importlib.metadata
import io
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

from api.roles.printable import printable_lines
from iqdb_core.errors import IqdbError, WrongUsage
from iqdb_core.gc_freeze import without_gc
from iqdb_core.process_exit import exit_now, has_detached_threads

_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


@dataclass(frozen=True, slots=True)
class Entry:
    """A command whose file is not imported yet.

    Parameters
    ----------
    file : str
        The file of `api.roles.commands` with a Typer application `app` that has a command of the same name.
    summary : str
        Its line in `iqdb --help`.
    panel : str
        Its heading there.
    """

    file: str
    summary: str
    panel: str


PICTURES: Final = "Pictures"
SERVE: Final = "Servers"
STORE: Final = "The database"

COMMANDS: Final[dict[str, Entry]] = {
    "add": Entry("add", "Add pictures: a folder, files, an archive, a list.", PICTURES),
    "search": Entry("search", "Find copies of a picture.", PICTURES),
    "duplicates": Entry("duplicates", "Find what is there more than once.", PICTURES),
    "compare": Entry("search", "Tell whether two pictures show the same.", PICTURES),
    "hash": Entry("search", "Print the hashes of pictures, and add nothing.", PICTURES),
    "rm": Entry("upkeep", "Delete images by id, or those whose files are gone.", PICTURES),
    "http": Entry("serve", "Run everything in one process on an SQLite file.", SERVE),
    "api": Entry("serve", "Run a front end of the distributed server.", SERVE),
    "query": Entry("serve", "Run a query node: the index, following the store.", SERVE),
    "worker": Entry("worker", "Run a Celery worker that hashes and stores images.", SERVE),
    "status": Entry("upkeep", "Say how many images are known.", STORE),
    "backup": Entry("upkeep", "Copy the database while it is in use.", STORE),
    "export": Entry("upkeep", "Write all ids and hashes to a file, or a file for IQDB.", STORE),
    "check": Entry("upkeep", "Check that the database agrees with itself.", STORE),
    "upgrade": Entry("database", "Create or upgrade the database's tables, then end.", STORE),
    "migrate": Entry("database", "Copy all images from one database into another.", STORE),
}


# Typer has its own copy of Click, whose types have no public names: hence Any.


class _LazyCommand(TyperCommand):
    """Placeholder in the list of commands; imports the real command when it is called."""

    def __init__(self, name: str, entry: Entry) -> None:
        super().__init__(name, help=entry.summary, rich_help_panel=entry.panel)

    def make_context(self, info_name: str | None, args: list[str], *more: Any, **extra: Any) -> Any:
        """Let the real command parse the arguments, in a context of its own."""
        return load(self.name or "").make_context(info_name, args, *more, **extra)


class _Group(TyperGroup):
    """All commands, in the order of the table, with the handling of their errors."""

    def __init__(self, **given: Any) -> None:
        commands = {name: _LazyCommand(name, entry) for name, entry in COMMANDS.items()}
        super().__init__(**{**given, "commands": commands})

    def invoke(self, ctx: Any) -> Any:
        """Run a command; a known error is printed as one sentence, without a traceback."""
        try:
            return super().invoke(ctx)
        except IqdbError as error:
            sys.stderr.write(f"iqdb: {printable_lines(str(error))}\n")
            sys.exit(2 if isinstance(error, WrongUsage) else 1)
        except KeyboardInterrupt:
            sys.exit(130)


app = typer.Typer(
    cls=_Group,
    help="A reverse image search server. To begin: iqdb add FOLDER, iqdb search PICTURE, iqdb http.",
    epilog="Every option is also read from the environment, e.g. IQDB_MAX_PIXELS.",
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _tell_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(importlib.metadata.version("iqdb-server"))
        raise typer.Exit


@app.callback()
def _iqdb(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_tell_version, help="Print the version and exit."),
    ] = False,
) -> None:
    del version  # its callback ends the command


def load(name: str) -> Any:
    """Import a command. Raises KeyError for an unknown name."""
    with without_gc():
        module = importlib.import_module(f"api.roles.commands.{COMMANDS[name].file}")
    return typer.main.get_group(module.app).commands[name]


def _open_streams() -> None:
    """Make the standard streams accept any text.

    If a supervisor has closed one, Python has None for it: it is replaced by the null device. Files and other
    programs get UTF-8, so that an export can be read again; a terminal gets what it can show.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            nowhere = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - until the process ends
            setattr(sys, name, nowhere)
    out = sys.stdout
    if not isinstance(out, io.TextIOWrapper) or codecs.lookup(out.encoding).name == "utf-8":
        return
    if out.isatty():
        out.reconfigure(errors="backslashreplace")
    else:
        out.reconfigure(encoding="utf-8", errors=out.errors)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exits 0 when all went well, 1 on a failure, 2 on wrong usage."""
    _open_streams()
    try:
        try:
            app(args=None if arguments is None else list(arguments), prog_name="iqdb")
        finally:
            sys.stdout.flush()  # an error while Python ends would have no message
    except SystemExit as end:
        if has_detached_threads() and isinstance(end.code, int):
            exit_now(end.code)
        raise
    except OSError as error:
        if error.errno not in _NO_ROOM or error.filename is not None:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for text that is still to be flushed
        sys.stderr.write(f"iqdb: the output cannot be written: {error.strerror}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
