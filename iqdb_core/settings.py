"""Every option of every role, in one model.

An option is one field: its command line option (`--max-pixels`), its variable (`IQDB_MAX_PIXELS`), its
validation and its line in the documents all follow from the field. It is part of the library because front
ends, query nodes and workers share it and may not import each other. Only composition roots import it; the
environment is read when they call `Settings.read`.
"""

from __future__ import annotations

import os
from typing import Any, Final, Self

from pydantic import ValidationError, ValidationInfo, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

from iqdb_core.errors import WrongUsage
from iqdb_core.machine import usable_cores
from iqdb_core.settings_errors import sentence
from iqdb_core.settings_terms import (
    COMMANDS,
    DISTRIBUTED,
    FRONT_ENDS,
    INDEXES,
    MOST_S,
    ROLES,
    SERVERS,
    WORKER,
    Group,
    LogLevel,
    option,
)

PREFIX: Final = "IQDB_"
MIB: Final = 1024 * 1024
LEAST_TASK_S: Final = 10
"""A task claims for 2 seconds, starts images for a quarter of its limit more, then waits as long for the
store: the rest must be enough for one image."""
OF_OTHERS: Final = frozenset(
    {"IQDB_API_HOST", "IQDB_API_PORT", "IQDB_QUERY_HOST", "IQDB_QUERY_PORT", "IQDB_PORT"}
)
"""Variables that are read by Procfile and docker-compose.yml."""


class Settings(BaseSettings):
    """One frozen value with every option; a role reads only its own."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="forbid")

    database_url: str = option(
        "iqdb.sqlite",
        "the signature store: an SQLite file, or a Postgres URL",
        [*ROLES[:-1], COMMANDS],
        Group.PLACES,
        alias="--db",
    )
    url: str = option("", "a server to work on, instead of a database", [COMMANDS], Group.PLACES)
    redis_url: str = option(
        "redis://127.0.0.1:6379/0",
        "the queue: `redis://`, `rediss://` (with TLS), or a `sentinel://` per sentinel, separated by `;`",
        DISTRIBUTED,
        Group.PLACES,
    )
    redis_sentinel_master: str = option(
        "", "what the sentinels call the master; for `sentinel://` only", DISTRIBUTED, Group.PLACES
    )
    redis_prefix: str = option(
        "iqdb:",
        "prefix of every key in Redis; each deployment on the same Redis needs its own",
        DISTRIBUTED,
        Group.PLACES,
    )
    query_urls: str = option(
        "http://127.0.0.1:5589",
        "URLs of the query nodes, separated by commas; `dns+http://NAME:PORT` means every address of a name",
        ["api"],
        Group.PLACES,
    )
    index_dir: str = option(
        "",
        "folder of the index; a query node replaces `{n}` by the first number that no other node uses",
        INDEXES,
        Group.PLACES,
        shown="`DBFILE.index`; with Postgres `iqdb.index`",
    )

    max_upload_bytes: int = option(
        64 * MIB, "largest body of one image", [*FRONT_ENDS, COMMANDS], Group.LIMITS, above=0
    )
    max_batch_bytes: int = option(256 * MIB, "largest body of a batch", FRONT_ENDS, Group.LIMITS, above=0)
    max_pixels: int = option(
        100_000_000,
        "most pixels of an image; checked in its header before anything is decoded",
        [*FRONT_ENDS, "worker", COMMANDS],
        Group.LIMITS,
        above=0,
    )
    refuse_damaged: bool = option(
        False,
        "refuse damaged pictures, instead of reading them as far as possible",
        [*FRONT_ENDS, "worker"],
        Group.LIMITS,
        shown="off",
    )
    decoders: int = option(
        usable_cores(),
        "images decoded at the same time",
        FRONT_ENDS,
        Group.LIMITS,
        above=0,
        shown="one per core",
    )
    max_pending: int = option(
        256,
        "most requests with a body at the same time; reads and writes are counted separately",
        FRONT_ENDS,
        Group.LIMITS,
        above=0,
    )
    max_pending_bytes: int = option(
        1024 * MIB,
        "most bytes in the bodies of all reads together; writes have the same limit of their own",
        FRONT_ENDS,
        Group.LIMITS,
        above=0,
    )
    body_timeout_s: float = option(
        30.0, "longest pause in the middle of a body, seconds", FRONT_ENDS, Group.LIMITS, above=0
    )
    body_total_s: float = option(
        600.0, "longest time that a body may take, seconds", FRONT_ENDS, Group.LIMITS, above=0
    )
    body_bytes_per_s: float = option(
        4096.0,
        "slowest rate of a body, bytes per second, once it takes longer than `--body-timeout-s`",
        FRONT_ENDS,
        Group.LIMITS,
        above=0,
    )
    add_timeout_s: float = option(
        60.0,
        "how long a write waits to become findable, seconds; with a queue it is then answered 202",
        FRONT_ENDS,
        Group.LIMITS,
        above=0,
    )

    token: str = option(
        "",
        "a token with the right to write (`Authorization: Bearer TOKEN`); better given in the environment",
        [*FRONT_ENDS, COMMANDS],
        Group.ACCESS,
    )
    tokens: str = option(
        "",
        "more tokens, as `RIGHT:TOKEN` separated by commas; the rights are read, write and admin",
        FRONT_ENDS,
        Group.ACCESS,
    )
    token_file: str = option(
        "",
        "a file with a line `RIGHT TOKEN` for each token; read again when it changes",
        FRONT_ENDS,
        Group.ACCESS,
    )
    open: bool = option(
        False,
        "let everyone write, even from other machines and without a token",
        FRONT_ENDS,
        Group.ACCESS,
        shown="off",
    )
    private: bool = option(False, "let nobody read without a token", FRONT_ENDS, Group.ACCESS, shown="off")
    rate_limit: float = option(
        0.0,
        "requests per second and token or address; more are answered 429 (each query of a batch counts, the"
        " page's own files do not, fifty small pictures count as one)",
        FRONT_ENDS,
        Group.ACCESS,
        at_least=0,
        shown="none",
    )
    link: str = option(
        "",
        "where the page links a match to, e.g. `https://example.org/posts/{id}`",
        FRONT_ENDS,
        Group.PAGE,
    )
    thumbnail: str = option(
        "",
        "where the page finds small pictures of matches, e.g. `https://example.org/small/{id}.jpg`",
        FRONT_ENDS,
        Group.PAGE,
    )
    pictures: str = option(
        "",
        "a folder: the page shows thumbnails of its files for images that have one of them as their source",
        FRONT_ENDS,
        Group.PAGE,
    )

    fetch: bool = option(
        False,
        "fetch pictures by their address (`url=`); see docs/fetching.md before you let strangers do so",
        FRONT_ENDS,
        Group.FETCH,
        shown="off",
    )
    fetch_hosts: str = option(
        "",
        "hosts to fetch from, e.g. `*.example.org`, separated by commas",
        FRONT_ENDS,
        Group.FETCH,
        shown="all public ones",
    )
    fetch_private: bool = option(
        False,
        "also fetch from this machine, private networks and unusual ports",
        FRONT_ENDS,
        Group.FETCH,
        shown="off",
    )
    fetch_timeout_s: float = option(
        20.0, "how long fetching one picture may take, seconds", FRONT_ENDS, Group.FETCH, above=0
    )
    fetch_referer_rules: str = option(
        "",
        "Referer to send to hosts, as `HOST=REFERER` separated by commas",
        FRONT_ENDS,
        Group.FETCH,
    )

    checkpoint_s: float = option(
        300.0, "seconds between checkpoints of the index", INDEXES, Group.INDEX, above=0
    )
    query_threads: int = option(
        0,
        "threads that one query may use when the node is idle",
        INDEXES,
        Group.INDEX,
        at_least=0,
        shown="one per core",
    )
    poll_s: float = option(
        0.0,
        "interval at which the follower polls for changes, seconds",
        INDEXES,
        Group.INDEX,
        at_least=0,
        shown="0.05, distributed 0.2",
    )

    max_queue_jobs: int = option(
        100_000, "jobs in the queue before adds are answered 429", ["api"], Group.QUEUE, above=0
    )
    max_queue_bytes: int = option(
        2048 * MIB, "bytes in the queue before adds are answered 429", ["api"], Group.QUEUE, above=0
    )

    worker_processes: int = option(
        usable_cores(),
        "processes that decode, each one image at a time",
        WORKER,
        Group.WORKER,
        above=0,
        shown="one per core",
        alias="--processes",
    )
    max_attempts: int = option(
        3,
        "an image whose process died this many times is set aside as failed",
        WORKER,
        Group.WORKER,
        above=0,
    )
    job_retention_s: int = option(
        3600, "how long records of done jobs are kept, seconds", WORKER, Group.WORKER, above=0, at_most=MOST_S
    )
    failed_retention_s: int = option(
        7 * 86400,
        "how long records of failed jobs are kept, seconds",
        WORKER,
        Group.WORKER,
        above=0,
        at_most=MOST_S,
    )
    max_job_records: int = option(
        100_000,
        "most records of done jobs, and of failed ones, whatever their age",
        WORKER,
        Group.WORKER,
        above=0,
    )
    visibility_timeout_s: int = option(
        60,
        "how long a worker may be silent before its jobs go to another one, seconds",
        WORKER,
        Group.WORKER,
        above=0,
        at_most=MOST_S,
    )
    task_time_limit_s: int = option(
        45,
        "time limit of one task, after which its process is killed, seconds; below the visibility timeout",
        WORKER,
        Group.WORKER,
        at_least=LEAST_TASK_S,
        at_most=MOST_S,
    )
    worker_max_memory_mib: int = option(
        1024,
        "a process that has used more MiB than this is replaced after its task",
        WORKER,
        Group.WORKER,
        above=0,
    )
    sweep_s: float = option(
        2.0, "seconds between searches for jobs that wait without a message", WORKER, Group.WORKER, above=0
    )
    remote_control: bool = option(
        False,
        "let Celery's own tools see and control workers: inspect, control, events, flower",
        WORKER,
        Group.WORKER,
        shown="off; on for `celery -A worker.celery`",
    )

    log_level: LogLevel = option(
        LogLevel.WARNING,
        "lowest level that is logged",
        [*ROLES, COMMANDS],
        Group.LOG,
        shown="warning",
    )
    access_log: bool = option(False, "log every request", SERVERS, Group.LOG, shown="off")

    @field_validator("redis_url", "redis_sentinel_master", "token", "tokens", "url")
    @classmethod
    def _is_text(cls, value: str, info: ValidationInfo) -> str:
        value.encode()  # file names may contain other bytes; text that is sent to others may not
        if info.field_name == "token" and not value.isprintable():
            raise ValueError
        return value

    @field_validator("database_url", "index_dir", "token_file", "pictures")
    @classmethod
    def _with_home(cls, value: str) -> str:
        return os.path.expanduser(value)  # noqa: PTH111 - shells leave `--db=~/a.sqlite` as it is

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.task_time_limit_s >= self.visibility_timeout_s:
            raise ValueError(
                f"IQDB_TASK_TIME_LIMIT_S ({self.task_time_limit_s}) must be below"
                f" IQDB_VISIBILITY_TIMEOUT_S ({self.visibility_timeout_s}),"
                " or jobs are worked on twice at once"
            )
        return self

    @classmethod
    def read(cls, **given: Any) -> Self:
        """Read the environment; values in `given` that are not None take precedence.

        Raises
        ------
        WrongUsage
            Values are invalid; the message names each and says what is allowed.
        """
        given = {name: value for name, value in given.items() if value is not None}
        try:
            return cls(**given)
        except ValidationError as error:
            raise WrongUsage(
                "; ".join(sentence(one, given, cls.model_fields, PREFIX) for one in error.errors())
            ) from None

    def changed(self, **values: Any) -> Self:
        """Return a copy with some values changed."""
        return self.model_copy(update=values)

    def with_poll(self, default_s: float) -> Self:
        """Fill in the follower's polling interval, unless the operator has set it."""
        return self if self.poll_s else self.changed(poll_s=default_s)

    def index_directory(self) -> str:
        """Return the directory of the index files: `index_dir`, or else a folder beside the SQLite file."""
        if self.index_dir:
            return self.index_dir
        # Only roles with an index, and so a store, need the parser of addresses.
        from iqdb_core.store.address import file_part  # noqa: PLC0415

        path = file_part(self.database_url)
        return "iqdb.index" if path is None else f"{path}.index"

    def query_url_list(self) -> list[str]:
        """Return the query nodes' base URLs without trailing slashes."""
        return [url.strip().rstrip("/") for url in self.query_urls.split(",") if url.strip()]


def fields_of(role: str) -> dict[str, FieldInfo]:
    """Return the options of a role by name, in the model's order."""
    return {name: field for name, field in Settings.model_fields.items() if role in roles_of(field)}


def roles_of(field: FieldInfo) -> tuple[str, ...]:
    """Return the roles that have an option."""
    roles: tuple[str, ...] = _extra(field)["roles"]
    return roles


def group_of(field: FieldInfo) -> Group:
    """Return the group of an option."""
    group: Group = _extra(field)["group"]
    return group


def flags_of(name: str) -> list[str]:
    """Return how an option is written on the command line."""
    flag = f"--{name.replace('_', '-')}"
    if Settings.model_fields[name].annotation is bool:
        return [f"{flag}/--no-{flag.removeprefix('--')}"]
    return [flag]


def alias_of(name: str) -> str | None:
    """Return a second name of an option on the command line, which help shows beside the option."""
    alias: str | None = _extra(Settings.model_fields[name])["alias"]
    return alias


def shown_default(name: str) -> str:
    """Return a default as documents show it: 64 MiB, 100,000, none."""
    field = Settings.model_fields[name]
    shown: str | None = _extra(field)["shown"]
    if shown is not None:
        return shown
    value = field.default
    if isinstance(value, int) and name.endswith("_bytes"):
        return f"{value // MIB // 1024} GiB" if value % (1024 * MIB) == 0 else f"{value // MIB} MiB"
    if isinstance(value, int | float):
        return f"{value:,.10g}" if isinstance(value, float) else f"{value:,}"
    return f"`{value}`" if value else "none"


def _extra(field: FieldInfo) -> dict[str, Any]:
    extra = field.json_schema_extra
    assert isinstance(extra, dict)  # noqa: S101 - `option` makes every field
    return extra
