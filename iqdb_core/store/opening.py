"""Which store is behind this address? Opens, creates, upgrades or takes over a database. Called by composition roots."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iqdb_core.store.address import SqliteAddress, StoreTimeouts, parse_address
from iqdb_core.store.signature_store import SignatureStore
from iqdb_core.store.sqlite import SqliteBackend

if TYPE_CHECKING:
    from collections.abc import Callable

    from iqdb_core.store.backend import Backend

_DEFAULT_TIMEOUTS = StoreTimeouts()


def open_store(
    url: str,
    *,
    progress: Callable[[int, int], None] | None = None,
    timeouts: StoreTimeouts = _DEFAULT_TIMEOUTS,
) -> SignatureStore:
    """Open a store, making the database one if it is not.

    Parameters
    ----------
    url : str
        `sqlite:///path`, a bare path, or `postgresql://...`. A missing SQLite file is created. A file of
        IQDB gets our tables beside its own in one transaction; nothing of the original is changed.
    progress : callable of (done, total), optional
        Called while a file is taken over or compared, with numbers of images.
    timeouts : StoreTimeouts

    Raises
    ------
    StoreInvalid
        Not a database, not ours or IQDB's, from a newer version, read-only, or in a directory that is not
        there.
    StoreUnavailable
        No answer, or another process holds it locked.
    """
    address = parse_address(url)
    backend: Backend
    if isinstance(address, SqliteAddress):
        backend = SqliteBackend(address, timeouts)
    else:
        from iqdb_core.store.postgres import PostgresBackend  # noqa: PLC0415 - loads the driver only where it is used

        backend = PostgresBackend(address, timeouts)
    try:
        backend.upgrade(progress)
        return SignatureStore(backend)
    except BaseException:
        backend.close()
        raise
