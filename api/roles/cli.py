"""The `iqdb` command: reads options and environment, and starts one role."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any, NoReturn

from api.roles.process import Process, configure_logging, say
from api.roles.settings import Settings
from iqdb_core.errors import IqdbError

LINES = {
    "http": "run everything in one process on an SQLite file",
    "api": "run a front end of the distributed server",
    "query": "run a query node: the index, following the store",
    "worker": "run a Celery worker that hashes and stores images",
    "upgrade": "create or upgrade the database's tables, then end",
    "migrate": "copy all images from one database into another",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exits 0 when all went well, 1 on a failure, 2 on wrong usage."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["worker"]:
        _become_worker(words[1:])
    options = _parser().parse_args(words)
    configure_logging(options.log_level)
    try:
        sys.exit(options.run(options))
    except IqdbError as error:
        say(str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="iqdb",
        description="A reverse image search server that speaks IQDB's API.",
        epilog="Every option is also read from the environment as IQDB_NAME, e.g. IQDB_MAX_PIXELS.",
    )
    parser.add_argument("--version", action="version", version=importlib.metadata.version("iqdb-server"))
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--log-level", default="warning", choices=["debug", "info", "warning", "error"])
    roles = parser.add_subparsers(required=True, metavar="ROLE")

    http = roles.add_parser("http", parents=[common], help=LINES["http"], description=LINES["http"])
    http.add_argument("host", nargs="?", default="127.0.0.1", metavar="HOST", help="default: %(default)s")
    http.add_argument(
        "port", nargs="?", type=_port, default=5588, metavar="PORT", help="default: %(default)s"
    )
    http.add_argument("database_url", nargs="?", default=None, metavar="DBFILE", help="default: iqdb.sqlite")
    _limits(http)
    _access(http)
    _index(http)
    http.set_defaults(run=_run_http)

    api = roles.add_parser("api", parents=[common], help=LINES["api"], description=LINES["api"])
    api.add_argument("host", nargs="?", default="127.0.0.1", metavar="HOST", help="default: %(default)s")
    api.add_argument("port", nargs="?", type=_port, default=5588, metavar="PORT", help="default: %(default)s")
    _setting(api, "database_url", str, "the signature store")
    _setting(api, "redis_url", str, "the queue")
    _setting(api, "query_urls", str, "base URLs of the query nodes, separated by commas")
    _limits(api)
    _access(api)
    _setting(api, "max_queue_jobs", int, "jobs the queue may hold before adds are answered 429")
    _setting(api, "max_queue_bytes", int, "bytes the queue may hold before adds are answered 429")
    api.set_defaults(run=_run_api)

    query = roles.add_parser("query", parents=[common], help=LINES["query"], description=LINES["query"])
    query.add_argument("host", nargs="?", default="127.0.0.1", metavar="HOST", help="default: %(default)s")
    query.add_argument(
        "port", nargs="?", type=_port, default=5589, metavar="PORT", help="default: %(default)s"
    )
    _setting(query, "database_url", str, "the signature store")
    _setting(query, "redis_url", str, "where hints of new changes come from")
    _index(query)
    query.set_defaults(run=_run_query)

    roles.add_parser("worker", help=LINES["worker"])  # has a parser of its own, see _become_worker

    upgrade = roles.add_parser(
        "upgrade", parents=[common], help=LINES["upgrade"], description=LINES["upgrade"]
    )
    _setting(upgrade, "database_url", str, "the signature store")
    upgrade.set_defaults(run=_run_upgrade)

    migrate = roles.add_parser(
        "migrate", parents=[common], help=LINES["migrate"], description=LINES["migrate"]
    )
    migrate.add_argument("source", metavar="SOURCE", help="an SQLite file or a database URL")
    migrate.add_argument(
        "target", metavar="TARGET", help="an SQLite file or a database URL; made where missing"
    )
    migrate.set_defaults(run=_run_migrate)
    return parser


def _setting(parser: argparse.ArgumentParser, name: str, kind: type, help_text: str) -> None:
    # No default here: what is not given on the command line comes from the environment, then from Settings.
    default = getattr(Settings(), name)
    shown = "" if default == "" else f" (default: {default})"
    parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=None, help=help_text + shown)


def _limits(parser: argparse.ArgumentParser) -> None:
    _setting(parser, "max_upload_bytes", int, "largest body of one image, bytes")
    _setting(parser, "max_batch_bytes", int, "largest body of a batch, bytes")
    _setting(parser, "max_pixels", int, "most pixels an image may have")
    _setting(parser, "decoders", int, "images decoded at the same time")
    _setting(parser, "max_pending", int, "requests with a body under way at once; more are answered 429")
    _setting(parser, "max_pending_bytes", int, "bytes that bodies under way may hold; more are answered 429")
    _setting(parser, "body_timeout_s", float, "longest pause in the middle of a body, seconds")
    _setting(parser, "add_timeout_s", float, "how long a write may take to become findable, seconds")
    _setting(parser, "link", str, "where the web page links a match to, with {id} in it")
    parser.add_argument("--access-log", action="store_true", help="log every request")


def _access(parser: argparse.ArgumentParser) -> None:
    _setting(parser, "token", str, "a token with the right to write; better given as IQDB_TOKEN")
    _setting(parser, "tokens", str, "RIGHT:TOKEN, ...; the rights are read, write, admin; see IQDB_TOKENS")
    _setting(parser, "token_file", str, "a file with a line 'RIGHT TOKEN' per token")
    _flag(parser, "open", "let everyone write, also from other machines and without a token")
    _flag(parser, "private", "let nobody read without a token")
    _setting(parser, "rate_limit", float, "requests per second and token or address; 0: no limit")


def _flag(parser: argparse.ArgumentParser, name: str, help_text: str) -> None:
    parser.add_argument(f"--{name}", action="store_const", const=True, default=None, help=help_text)


def _index(parser: argparse.ArgumentParser) -> None:
    _setting(parser, "index_dir", str, "where the index keeps its files; default: FILE.index beside FILE")
    _setting(parser, "checkpoint_s", float, "seconds between checkpoints of the index")
    _setting(parser, "query_threads", int, "threads one query may use; 0: one per core")
    _setting(parser, "poll_s", float, "how often changes are looked for; 0: 0.05 embedded, 0.2 distributed")


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 65535:
        raise argparse.ArgumentTypeError("a port is 0..65535")
    return value


def _settings(options: argparse.Namespace) -> Settings:
    names = set(Settings.__dataclass_fields__)
    given: dict[str, Any] = {name: value for name, value in vars(options).items() if name in names}
    return Settings.from_environment(os.environ, **given)


def _serve(options: argparse.Namespace, create: Any) -> int:
    """Run one web application, which `create(settings, on_ready=, on_failure=)` builds."""
    settings = _settings(options)
    process = Process(options.host, options.port)
    app = create(settings, on_ready=process.announce, on_failure=process.fail)
    return process.run(app, access_log=getattr(options, "access_log", False))


# Each role imports what it needs when it runs: `iqdb migrate` should not load a web framework.


def _run_http(options: argparse.Namespace) -> int:
    from api.roles import embedded  # noqa: PLC0415

    return _serve(options, partial(embedded.create_app, host=options.host))


def _run_api(options: argparse.Namespace) -> int:
    from api.roles import front_end  # noqa: PLC0415

    return _serve(options, partial(front_end.create_app, host=options.host))


def _run_query(options: argparse.Namespace) -> int:
    from api.roles import query_node  # noqa: PLC0415

    return _serve(options, query_node.create_app)


def _become_worker(rest: Sequence[str]) -> NoReturn:
    # Replaces this process: the worker is a room of its own, with its own options, and no part of the web's.
    os.execv(sys.executable, [sys.executable, "-m", "worker", *rest])  # noqa: S606 - our own module


def _run_upgrade(options: argparse.Namespace) -> int:
    from api.roles.progress import ProgressLine  # noqa: PLC0415
    from iqdb_core.store import open_store  # noqa: PLC0415

    line = ProgressLine("preparing the database")
    store = open_store(_settings(options).database_url, progress=line)
    line.close()
    say(f"the database is ready, with {store.live_count():,} images")
    store.close()
    return 0


def _run_migrate(options: argparse.Namespace) -> int:
    from api.roles.progress import ProgressLine  # noqa: PLC0415
    from iqdb_core.store.migrate import copy_store  # noqa: PLC0415

    line = ProgressLine("copying images", delay_s=0)
    result = copy_store(options.source, options.target, progress=line)
    line.close()
    again = "went on with an interrupted copy; " if result.resumed else ""
    left = f"; left out {result.skipped:,} rows that are no signatures" if result.skipped else ""
    say(f"{again}wrote {result.copied:,} rows; both hold {result.live_count:,} images now{left}")
    return 0


if __name__ == "__main__":
    main()
