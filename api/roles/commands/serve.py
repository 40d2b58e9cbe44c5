"""`iqdb http`, `iqdb api`, `iqdb query`: the servers."""

from __future__ import annotations

import shlex
from functools import partial
from typing import Annotated, Any, Final

import typer
from typer.core import TyperCommand

from api.roles.command_parts.files import is_database, is_file, path_of
from api.roles.options import with_settings
from api.roles.process import Process
from iqdb_core.errors import WrongUsage
from iqdb_core.gc_freeze import without_gc
from iqdb_core.machine import share_one_heap
from iqdb_core.settings import Settings

app = typer.Typer()

_MAX_PORT: Final = 65535
_EXAMPLE: Final = "127.0.0.1"
_ARGUMENTS: Final = frozenset({"--host", "--port"})


class _ServerCommand(TyperCommand):
    """A server's command, which knows what other programs call its arguments."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse; raises WrongUsage where host or port are given as options."""
        if any(word.partition("=")[0] in _ARGUMENTS for word in args):
            example = f"iqdb {ctx.info_name} {_EXAMPLE} 5588"
            raise WrongUsage(f"host and port come without --host and --port: {example}")
        return super().parse_args(ctx, args)


def _host(ctx: typer.Context, host: str) -> str:
    """Return the host; raises WrongUsage for a file, or for a port, which would be the address 0.0.x.y."""
    path = path_of(host)
    if is_file(path):
        wish = "to find a picture: iqdb search"
        if is_database(path):
            wish = f"to serve a file: iqdb http {_EXAMPLE} 5588"
        raise WrongUsage(f"'{ctx.info_name}' runs a server; {wish} {shlex.quote(host)}")
    name, _, port = host.partition(":")
    if name and port.isdecimal():
        raise WrongUsage(f"host and port are two words: iqdb {ctx.info_name} {name} {port}")
    is_number = host.isascii() and host.isdecimal() and len(host) <= len(str(_MAX_PORT))
    if is_number and 0 < int(host) <= _MAX_PORT:
        raise WrongUsage(f"the host comes first: iqdb {ctx.info_name} {_EXAMPLE} {host}")
    return host


Host = Annotated[str, typer.Argument(metavar="HOST", help="where to listen", callback=_host)]
Port = Annotated[int, typer.Argument(metavar="PORT", help="0: any free one", min=0, max=_MAX_PORT)]
File = Annotated[
    str | None,
    typer.Argument(metavar="DBFILE", help="an SQLite file, of ours or IQDB's (default: iqdb.sqlite)"),
]


@app.command(cls=_ServerCommand)
@with_settings("http")
def http(settings: Settings, host: Host = "127.0.0.1", port: Port = 5588, database_url: File = None) -> int:  # noqa: ARG001
    """Run everything in one process on an SQLite file."""
    with without_gc():
        from api.roles import embedded  # noqa: PLC0415 - each role loads what it needs

    return _serve(settings, host, port, partial(embedded.create_app, host=host))


@app.command(cls=_ServerCommand)
@with_settings("api")
def api(settings: Settings, host: Host = "127.0.0.1", port: Port = 5588) -> int:
    """Run a front end of the distributed server."""
    with without_gc():
        from api.roles import front_end  # noqa: PLC0415

    return _serve(settings, host, port, partial(front_end.create_app, host=host))


@app.command(cls=_ServerCommand)
@with_settings("query")
def query(settings: Settings, host: Host = "127.0.0.1", port: Port = 5589) -> int:
    """Run a query node: the index, following the store."""
    with without_gc():
        from api.roles import query_node  # noqa: PLC0415

    return _serve(settings, host, port, query_node.create_app)


def _serve(settings: Settings, host: str, port: int, create: Any) -> int:
    """Run one web application, which `create(settings, on_ready=, on_failure=)` builds."""
    share_one_heap()
    process = Process(host, port)
    application = create(settings, on_ready=process.announce, on_failure=process.fail)
    on_stop = application.state.startup.begin_shutdown
    return process.run(application, access_log=settings.access_log, on_stop=on_stop)
