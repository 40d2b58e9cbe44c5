"""How do we reach Postgres, and when do we give up? Pools, settings, deadlines and Postgres's errors.

Everything has a time limit: connecting, locks, statements, idle transactions and servers that fall silent.
Settings are made by a statement, because poolers (PgBouncer and others) refuse or drop those in the startup
message. A pooler is recognised by the process id in its greeting, which is not that of the session: poolers
use ids of their own, to know whose statement a request to cancel means. Behind a pooler each transaction may
run in another session, even on another server, so each makes its own settings, and no statement is prepared.
Called by `postgres` only.
"""

from __future__ import annotations

import contextlib
import math
import re
import time
from typing import TYPE_CHECKING, Any, Final

import psycopg
import sqlalchemy as sa

from iqdb_core.errors import StoreError, StoreIncomplete, StoreInvalid, StoreRefused, StoreUnavailable
from iqdb_core.store import lineage

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from iqdb_core.store.address import PostgresAddress, StoreTimeouts

_POOL: Final = 4
_MAX_POOL: Final = 32
_GRACE_S: Final = 5.0
"""How much longer than the server's own limit for a statement we wait for its answer, at most."""
_PATIENCE_S: Final = 900.0
_UPGRADE_S: Final = 6 * 3600.0
_SESSION: Final = {
    "array_nulls": "on",  # rows are written as arrays, and a deleted image has no row
    "default_transaction_read_only": "off",
    "jit": "off",
    # Every read of ours walks an index in order; a hash or sequential plan would read all of `images` per
    # batch.
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_seqscan": "off",
    "max_parallel_workers_per_gather": "0",
}
_SERVERS: Final = {"host", "port"}
_NETWORK: Final = {
    "keepalives_idle": "15",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
_OVERRULED: Final = {"synchronous_commit": "on", "transaction_timeout": "0", "extra_float_digits": "1"}
"""Whatever the address says. Of synchronous_commit only `off` loses commits, and only that is overruled. A
limit for whole transactions (from Postgres 17 on) would end an upgrade; statements, and the pauses between
them, have limits of ours. With fewer digits, averages that are read as text would be rounded."""
_SETTINGS: Final = (
    b" FROM unnest(%(names)b::text[], %(values)b::text[]) AS ours (name, value)"
    b" WHERE CASE name WHEN 'synchronous_commit' THEN current_setting(name) = 'off'"
    b" ELSE current_setting(name, true) IS NOT NULL END"
)
_SET_SESSION: Final = (
    b"SELECT set_config(name, value, false)" + _SETTINGS + b" AND pg_backend_pid() = %(greeted_by)b"
)
"""Returns no row if a pooler greeted us: its sessions are shared, and left as they are."""
_SET_TRANSACTION: Final = (
    b"SELECT count(set_config(name, value, true)), extract(epoch FROM pg_postmaster_start_time()),"
    b" (SELECT oid FROM pg_database WHERE datname = current_database())" + _SETTINGS
)
"""Also returns what identifies a history: one database of one server that has not been restarted."""
_ENCODINGS: Final = {"UTF8", "SQL_ASCII"}
"""Of databases that can hold any source; SQL_ASCII stores bytes as they come."""

# SQLSTATE classes after which trying again cannot help: feature, data, constraint, schema, syntax, privilege.
# It can with those of a server that is not ready (53, 55, 57, 40, 08, 25), and after a connect that failed,
# even for want of a role or a database.
_PERMANENT_CLASSES: Final = {"0A", "22", "23", "3F", "42"}
_MISSING: Final = {"42P01", "42P07", "42P10"}
"""What we may find during a restore: no table, tables without a version of their schema (which we would make
once more), no constraint for ON CONFLICT."""


_NO_ENTRY: Final = {
    "28P01": "the password is wrong, or there is none",
    "28000": "the user may not connect",
    "3D000": "there is no database of that name",
}
"""Why we may not connect, by SQLSTATE. Poolers say so only at the first statement."""
_NO_ENTRY_IN_WORDS: Final = (
    (re.compile(r"password authentication failed|no password supplied"), "28P01"),
    (re.compile(r"database .* does not exist|no such database"), "3D000"),
    (re.compile(r"role .* does not exist|no such user|not permitted to log in|pg_hba\.conf"), "28000"),
)
"""psycopg has no SQLSTATE for a connect that failed. Messages in other languages count as a server away."""


class DeadlineConnection(psycopg.Connection[Any]):
    """A connection that stops waiting for a server which has fallen silent.

    The server ends statements that take too long, but a frozen server, or a network that swallows packets
    without a word, would be waited for without end.
    """

    answer_s: float = math.inf
    is_pooled: bool = False
    """Whether there is a pooler between us and the server."""

    def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        """Wait as psycopg does, for `answer_s` seconds at most."""
        try:
            return super().wait(_until(gen, time.monotonic() + self.answer_s), *args, **kwargs)
        except TimeoutError as exc:
            self.close()  # what it still sends would be taken for the answer to a later statement
            raise psycopg.OperationalError(f"no answer within {self.answer_s} s") from exc


def _until(gen: Generator[Any, Any, Any], end: float) -> Generator[Any, Any, Any]:
    """Pass on what psycopg's generator waits for, until the time is up."""
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if not ready and time.monotonic() > end:
                raise TimeoutError
            wanted = gen.send(ready)
    except StopIteration as done:
        return done.value


def answer_s(statement_s: float) -> float:
    """Return how long to wait for the answer to a statement whose limit on the server is `statement_s`."""
    return statement_s + min(statement_s / 2, _GRACE_S)


def _all(values: str | Sequence[str]) -> Sequence[str]:
    """Return the values of a parameter that may have been given several times."""
    return [values] if isinstance(values, str) else values


def named_options(options: str) -> set[str]:
    """Return which settings the `options` of an address set, by the names that Postgres has for them.

    As its server reads them: `-c name=value` or `--name=value`, parted by blanks that no backslash escapes.
    """
    words = iter(re.split(r"(?<!\\)\s+", options.strip()))
    names = set()
    for word in words:
        setting = next(words, "") if word == "-c" else word.removeprefix("-c").removeprefix("--")
        names.add(setting.partition("=")[0].replace("-", "_").lower())
    return names


class PostgresEngines:
    """Two pools to one database, one for reads of a single state, one for writes.

    Parameters
    ----------
    address : PostgresAddress
    timeouts : StoreTimeouts
    """

    def __init__(self, address: PostgresAddress, timeouts: StoreTimeouts) -> None:
        self._address = address
        self._timeouts = timeouts
        # SQLAlchemy knows the forms in which several servers are named.
        self._given = {
            name: " ".join(_all(value)) for name, value in address.url.query.items() if name not in _SERVERS
        }
        self._options = self._given.get("options", "")
        session = _SESSION | {
            "lock_timeout": f"{timeouts.lock_s * 1000:.0f}",
            "statement_timeout": f"{timeouts.statement_s * 1000:.0f}",
            # A writer that stops between two statements must not keep the counter row locked.
            "idle_in_transaction_session_timeout": f"{timeouts.statement_s * 1000:.0f}",
        }
        given = named_options(self._options)
        asked = {name: value for name, value in session.items() if name not in given}
        settings = asked | _OVERRULED
        self._settings = {"names": list(settings), "values": list(settings.values())}
        self.reader = self._engine("REPEATABLE READ")
        self.writer = self._engine("READ COMMITTED")

    def _engine(self, isolation_level: str) -> sa.Engine:
        timeouts = self._timeouts
        url = self._address.url
        servers = {name: value for name, value in url.query.items() if name in _SERVERS}
        own = {"connect_timeout": f"{timeouts.connect_s:.0f}", "application_name": "iqdb"}
        connect_args = _NETWORK | own | self._given
        # Even if there are none: those in the environment are not to count.
        connect_args["options"] = self._options
        # Whatever the environment, the role or the database say: all text has to arrive as it was sent.
        connect_args["client_encoding"] = "utf8"
        engine = sa.create_engine(
            url.set(query=servers),
            isolation_level=isolation_level,
            connect_args=connect_args,
            pool_pre_ping=True,
            pool_reset_on_return=None,  # by `_reset`
            pool_size=_POOL,
            max_overflow=_MAX_POOL - _POOL,
            pool_timeout=timeouts.lock_s,
        )
        sa.event.listen(engine, "do_connect", self._connect)
        sa.event.listen(engine, "reset", _reset)
        return engine

    def _connect(
        self, _dialect: object, _record: object, args: list[Any], kwargs: dict[str, Any]
    ) -> psycopg.Connection[Any]:
        connection = DeadlineConnection.connect(*args, **kwargs)
        connection.answer_s = answer_s(self._timeouts.statement_s)
        connection.autocommit = True
        greeted_by = connection.info.backend_pid
        is_set = connection.execute(_SET_SESSION, self._settings | {"greeted_by": greeted_by}).fetchone()
        connection.autocommit = False
        if is_set is None:
            self._expect_pooler(connection)
        return connection

    def _expect_pooler(self, connection: DeadlineConnection) -> None:
        """Rely on no session for longer than one transaction."""
        if any(part.startswith("-") for part in self._options.split()):
            connection.close()
            raise StoreInvalid(
                f"{self._address} is behind a pooler, which may drop the options of its address:"
                " ALTER ROLE ... SET them, and leave them out"
            )
        connection.is_pooled = True
        connection.prepare_threshold = None

    def begin(self, connection: sa.Connection) -> None:
        """Make the settings of a transaction, where its session may not be that of the last one."""
        driver = driver_of(connection)
        if driver.is_pooled:
            row = driver.execute(_SET_TRANSACTION, self._settings).fetchone()
            lineage.bind_to(connection, row and row[1:])

    def check_encoding(self) -> None:
        """Raise StoreInvalid for a database whose encoding lacks characters that a source may have."""
        with self.errors(), self.reader.connect() as connection:
            encoding = driver_of(connection).info.parameter_status("server_encoding")
        if encoding not in _ENCODINGS:
            raise StoreInvalid(
                f"{self._address} has the encoding {encoding}, which lacks characters:"
                " create one with ENCODING 'UTF8' TEMPLATE template0;"
                " pg_dump and pg_restore bring over what is in this one"
            )

    @contextlib.contextmanager
    def unlimited(self, connection: sa.Connection) -> Iterator[None]:
        """Let the statements of one upgrade take hours, but not for ever.

        The pauses between them may be no longer than those of a write: all writers may have to wait for it.
        """
        with self._limits(connection, _UPGRADE_S, "statement_timeout"):
            yield

    @contextlib.contextmanager
    def patient(self, connection: sa.Connection) -> Iterator[None]:
        """Let the statements of one transaction, and the pauses between them, take many minutes."""
        with self._limits(
            connection, _PATIENCE_S, "statement_timeout", "idle_in_transaction_session_timeout"
        ):
            yield

    @contextlib.contextmanager
    def _limits(self, connection: sa.Connection, limit_s: float, *names: str) -> Iterator[None]:
        driver = driver_of(connection)
        before, driver.answer_s = driver.answer_s, limit_s + _GRACE_S
        try:
            milliseconds = f"{limit_s * 1000:.0f}"
            for name in names:
                driver.execute(b"SELECT set_config(%b, %b, true)", (name, milliseconds))
            yield
        finally:
            driver.answer_s = before

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Turn Postgres's errors into the store's."""
        try:
            yield
        except sa.exc.TimeoutError as exc:
            raise StoreUnavailable(f"{self._address}: busy for {self._timeouts.lock_s} s") from exc
        except sa.exc.DBAPIError as exc:
            raise self._store_error(exc.orig) from exc
        except psycopg.Error as exc:
            raise self._store_error(exc) from exc

    def _store_error(self, exc: BaseException | None) -> StoreError:
        sqlstate = getattr(exc, "sqlstate", None) or ""
        if sqlstate in _MISSING:
            return StoreIncomplete(f"{self._address} is no store, or not whole now: {exc}")
        if sqlstate[:2] in _PERMANENT_CLASSES:
            return StoreInvalid(f"{self._address} is no store: {exc}")
        mistake = _NO_ENTRY.get(sqlstate or _refusal_in_words(str(exc)))
        if mistake is not None:
            return StoreRefused(f"{self._address}: {exc}", mistake)
        return StoreUnavailable(f"{self._address}: {exc}")

    def close(self) -> None:
        """Close every connection."""
        self.reader.dispose()
        self.writer.dispose()


def _refusal_in_words(text: str) -> str:
    """Return the SQLSTATE that a failed connect would have, by what the server says; '' where it is none."""
    return next((sqlstate for words, sqlstate in _NO_ENTRY_IN_WORDS if words.search(text)), "")


def _reset(driver: psycopg.Connection[Any], *_: object) -> None:
    """Roll back what a connection that is returned to its pool has left open.

    If the server is gone, SQLAlchemy would log a traceback for each connection. The caller has had an error
    of ours already, and a connection that is closed is replaced when it is next taken from the pool.
    """
    try:
        driver.rollback()
    except psycopg.Error:
        driver.close()


def driver_of(connection: sa.Connection) -> DeadlineConnection:
    """Return psycopg's connection."""
    driver = connection.connection.driver_connection
    if not isinstance(driver, DeadlineConnection):
        raise TypeError(f"not a connection of ours: {driver!r}")
    return driver
