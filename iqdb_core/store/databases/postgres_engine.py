"""How do we reach Postgres, and when do we give up? Pools, settings, deadlines and Postgres's errors.

Nothing waits for ever: connects, locks, statements, idle transactions and silent servers all have an end.
Called by `postgres` only.
"""

from __future__ import annotations

import contextlib
import math
import time
from typing import TYPE_CHECKING, Any, Final

import psycopg
import sqlalchemy as sa

from iqdb_core.errors import StoreError, StoreIncomplete, StoreInvalid, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from iqdb_core.store.address import PostgresAddress, StoreTimeouts

_POOL: Final = 4
_MAX_POOL: Final = 32
_GRACE_S: Final = 5.0
"""After a statement's time is up the server should say so; this much later we stop waiting for that."""
_PATIENCE_S: Final = 900.0
_UPGRADE_S: Final = 6 * 3600.0
_SESSION: Final = {
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
_OVERRULE: Final = (
    b"SELECT CASE WHEN current_setting('synchronous_commit') = 'off'"
    b" THEN set_config('synchronous_commit', 'on', false) END,"
    b" CASE WHEN current_setting('transaction_timeout', true) <> '0'"
    b" THEN set_config('transaction_timeout', '0', false) END"
)
"""Commits must not be lost. And a limit for whole transactions, which servers before 17 do not know, would
end an upgrade: statements, and the pauses between them, have limits of ours."""
_ENCODINGS: Final = {"UTF8", "SQL_ASCII"}
"""Of databases that can hold any source; the latter keeps the bytes that it gets."""

# SQLSTATE classes that cannot heal by trying again: feature, data, constraint, login, catalogue, schema,
# syntax or privilege. What the server is not ready for (53, 55, 57, 40, 08, 25) can.
_PERMANENT_CLASSES: Final = {"0A", "22", "23", "28", "3D", "3F", "42"}
_MISSING: Final = {"42P01", "42P07", "42P10"}
"""What a restore meets us with: no table, tables without a version of their schema (which we would make once
more), no constraint for ON CONFLICT."""


class DeadlineConnection(psycopg.Connection[Any]):
    """A connection that stops waiting for a server which has fallen silent.

    The server ends statements that take too long, but a frozen server, or a network that swallows packets
    without a word, would be waited for without end.
    """

    answer_s: float = math.inf

    def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        """Wait as psycopg does, for `answer_s` seconds at most."""
        try:
            return super().wait(_until(gen, time.monotonic() + self.answer_s), *args, **kwargs)
        except TimeoutError as exc:
            self.close()  # whatever it still sends belongs to no question of ours
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


def _all(values: str | Sequence[str]) -> Sequence[str]:
    """Return the values of a parameter that may have been given several times."""
    return [values] if isinstance(values, str) else values


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
        self.reader = self._engine("REPEATABLE READ")
        self.writer = self._engine("READ COMMITTED")

    def _engine(self, isolation_level: str) -> sa.Engine:
        timeouts = self._timeouts
        session = _SESSION | {
            "lock_timeout": f"{timeouts.lock_s * 1000:.0f}",
            "statement_timeout": f"{timeouts.statement_s * 1000:.0f}",
            # A writer that stops between two statements must not keep the counter row to itself.
            "idle_in_transaction_session_timeout": f"{timeouts.statement_s * 1000:.0f}",
        }
        url = self._address.url
        # SQLAlchemy knows the forms in which several servers are named.
        servers = {name: value for name, value in url.query.items() if name in _SERVERS}
        given = {name: " ".join(_all(value)) for name, value in url.query.items() if name not in _SERVERS}
        options = " ".join(f"-c {name}={value}" for name, value in session.items())
        connect_args = (
            _NETWORK | {"connect_timeout": f"{timeouts.connect_s:.0f}", "application_name": "iqdb"} | given
        )
        connect_args["options"] = f"{options} {given.get('options', '')}".strip()
        # Whatever the environment, the role or the database say: text has to travel whole.
        connect_args["client_encoding"] = "utf8"
        engine = sa.create_engine(
            url.set(query=servers),
            isolation_level=isolation_level,
            connect_args=connect_args,
            pool_pre_ping=True,
            pool_size=_POOL,
            max_overflow=_MAX_POOL - _POOL,
            pool_timeout=timeouts.lock_s,
        )
        sa.event.listen(engine, "do_connect", self._connect)
        return engine

    def _connect(
        self, _dialect: object, _record: object, args: list[Any], kwargs: dict[str, Any]
    ) -> psycopg.Connection[Any]:
        connection = DeadlineConnection.connect(*args, **kwargs)
        limit_s = self._timeouts.statement_s
        connection.answer_s = limit_s + min(limit_s, _GRACE_S)
        connection.autocommit = True
        connection.execute(_OVERRULE)
        connection.autocommit = False
        return connection

    def check_encoding(self) -> None:
        """Raise StoreInvalid for a database whose encoding does not have the letters of every source."""
        with self.errors(), self.reader.connect() as connection:
            encoding = driver_of(connection).info.parameter_status("server_encoding")
        if encoding not in _ENCODINGS:
            raise StoreInvalid(
                f"{self._address} has the encoding {encoding}, which does not have every letter:"
                " create one with ENCODING 'UTF8' TEMPLATE template0;"
                " pg_dump and pg_restore bring over what is in this one"
            )

    @contextlib.contextmanager
    def unlimited(self, connection: sa.Connection) -> Iterator[None]:
        """Let the statements of one upgrade take hours, but not for ever."""
        with self._limits(connection, _UPGRADE_S):
            yield

    @contextlib.contextmanager
    def patient(self, connection: sa.Connection) -> Iterator[None]:
        """Let the statements of one transaction, and the pauses between them, take many minutes."""
        with self._limits(connection, _PATIENCE_S):
            yield

    @contextlib.contextmanager
    def _limits(self, connection: sa.Connection, limit_s: float) -> Iterator[None]:
        driver = driver_of(connection)
        before, driver.answer_s = driver.answer_s, limit_s + _GRACE_S
        try:
            milliseconds = f"{limit_s * 1000:.0f}"
            for name in (b"statement_timeout", b"idle_in_transaction_session_timeout"):
                driver.execute(b"SELECT set_config(%b, %b, true)", (name.decode(), milliseconds))
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
        return StoreUnavailable(f"{self._address}: {exc}")

    def close(self) -> None:
        """Give back every connection."""
        self.reader.dispose()
        self.writer.dispose()


def driver_of(connection: sa.Connection) -> DeadlineConnection:
    """Return psycopg's connection."""
    driver = connection.connection.driver_connection
    if not isinstance(driver, DeadlineConnection):
        raise TypeError(f"not a connection of ours: {driver!r}")
    return driver
