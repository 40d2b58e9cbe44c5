"""What an operator can set: one frozen value per role, read from options and the environment.

Only the composition roots (`cli`, `app`, `query_node`) read these; everything else receives what it needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Self

from iqdb_core.errors import ConfigError
from iqdb_core.machine import usable_cores

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting of every role, with its default; in the environment IQDB_ and the upper-case name.

    Parameters
    ----------
    database_url : str
        An SQLite file, or an SQLAlchemy URL of SQLite or Postgres.
    redis_url : str
        The queue of the distributed roles.
    query_urls : str
        Base URLs of the query nodes, separated by commas.
    index_dir : str
        Where the index keeps its files. Empty: beside an SQLite file (FILE.index), else ./iqdb.index.
    max_upload_bytes : int
        Largest body of one image, bytes.
    max_batch_bytes : int
        Largest body of a batch, bytes.
    max_pixels : int
        Most pixels an image's header may announce.
    decoders : int
        Images decoded at the same time in one process.
    max_pending : int
        Requests with a body that may be under way at once in one process; more are answered 429.
    max_pending_bytes : int
        Bytes that the bodies under way may hold together; more are answered 429.
    body_timeout_s : float
        A client that sends nothing for so long in the middle of a body is dropped.
    add_timeout_s : float
        How long a synchronous write waits to become findable before it is answered 503.
    max_queue_jobs, max_queue_bytes : int
        What the queue may hold before adds are answered 429.
    token : str
        A token with the right to write; writes then need "Authorization: Bearer TOKEN".
    tokens : str
        More tokens, as "RIGHT:TOKEN" separated by commas; the rights are read, write and admin.
    token_file : str
        A file with a line "RIGHT TOKEN" per token; read again when it changes.
    open : bool
        Let everyone write, also from other machines and without a token.
    private : bool
        Let nobody read without a token.
    rate_limit : float
        Requests per second and token or address; more are answered 429. 0: no limit.
    link : str
        Where the web page links a match to; "{id}" becomes its id. Empty: no link.
    checkpoint_s : float
        Seconds between checkpoints of the index while it changes.
    query_threads : int
        Threads that one query may use when the node is idle; 0 means one per core.
    poll_s : float
        How often the follower looks for changes when nobody wakes it; 0 means 0.05 embedded, 0.2 distributed.
    """

    database_url: str = "iqdb.sqlite"
    redis_url: str = "redis://127.0.0.1:6379/0"
    query_urls: str = "http://127.0.0.1:5589"
    index_dir: str = ""
    max_upload_bytes: int = 64 * MIB
    max_batch_bytes: int = 256 * MIB
    max_pixels: int = 100_000_000
    decoders: int = usable_cores()
    max_pending: int = 256
    max_pending_bytes: int = 1024 * MIB
    body_timeout_s: float = 30.0
    add_timeout_s: float = 60.0
    max_queue_jobs: int = 100_000
    max_queue_bytes: int = 2048 * MIB
    token: str = ""
    tokens: str = ""
    token_file: str = ""
    open: bool = False
    private: bool = False
    rate_limit: float = 0.0
    link: str = ""
    checkpoint_s: float = 300.0
    query_threads: int = 0
    poll_s: float = 0.0

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], **overrides: Any) -> Self:
        """Read IQDB_* variables, then apply `overrides` that are not None.

        Raises
        ------
        ConfigError
            A value that is no number where one is needed, or is out of range.
        """
        values: dict[str, Any] = {}
        for field in fields(cls):
            text = environment.get(f"IQDB_{field.name.upper()}")
            if text is not None:
                values[field.name] = _parsed(field.name, text, type(field.default))
        values.update({name: value for name, value in overrides.items() if value is not None})
        settings = cls(**values)
        settings._check()
        return settings

    def _check(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            may_be_zero = field.name in {"query_threads", "poll_s", "rate_limit", "open", "private"}
            if isinstance(value, int | float) and not (value > 0 or (may_be_zero and value == 0)):
                raise ConfigError(f"{field.name} must be above 0, not {value}")

    def with_poll(self, default_s: float) -> Self:
        """Fill in the follower's polling interval where the operator left it open."""
        return self if self.poll_s else replace(self, poll_s=default_s)

    def index_directory(self) -> str:
        """Return the directory of the index files, chosen by the rule of `index_dir`."""
        if self.index_dir:
            return self.index_dir
        if "://" not in self.database_url:
            return f"{self.database_url}.index"
        if self.database_url.startswith("sqlite:///"):
            return f"{self.database_url.removeprefix('sqlite:///')}.index"
        return "iqdb.index"

    def query_url_list(self) -> list[str]:
        """Return the query nodes' base URLs without trailing slashes."""
        return [url.strip().rstrip("/") for url in self.query_urls.split(",") if url.strip()]


def _parsed(name: str, text: str, kind: type) -> Any:
    if kind is bool:
        if text.lower() not in {"", "0", "false", "no", "off", "1", "true", "yes", "on"}:
            raise ConfigError(f"IQDB_{name.upper()} is true or false, not {text!r}")
        return text.lower() in {"1", "true", "yes", "on"}
    try:
        return kind(text)
    except ValueError as exc:
        raise ConfigError(f"IQDB_{name.upper()} is not a {kind.__name__}: {text!r}") from exc
