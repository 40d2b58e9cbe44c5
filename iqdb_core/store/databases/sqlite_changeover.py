"""What if the file that is open was replaced, or its WAL removed? Switches to the new one.

A new file is served once it has been opened as at the start. `sqlite_place` says which files may be opened.
Called by `sqlite_engine`, before each transaction.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Final

from iqdb_core.errors import StoreInvalid, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from iqdb_core.store.address import SqliteAddress
    from iqdb_core.store.databases.sqlite_connections import SqliteConnections
    from iqdb_core.store.databases.sqlite_place import FileId, Place
    from iqdb_core.store.databases.writer_turn import WriterTurn

_log = logging.getLogger(__name__)

_REFUSED_S: Final = 5.0
"""How long a new file that was refused is not read again, unless it is changed."""


class Changeover:
    """Switches to another file or WAL, for all threads of a process at once.

    Parameters
    ----------
    address : SqliteAddress
    place : Place
    turn : WriterTurn
    connections : SqliteConnections
    lock_s : float
        How long to wait for another thread that is switching.
    open_successor : callable, optional
        Makes a new file a store, with connections of its own, which it closes; raises StoreInvalid if that is
        impossible. Without it nothing is ever switched.
    """

    def __init__(
        self,
        address: SqliteAddress,
        place: Place,
        turn: WriterTurn,
        connections: SqliteConnections,
        lock_s: float,
        open_successor: Callable[[], None] | None,
    ) -> None:
        self._address = address
        self._place = place
        self._turn = turn
        self._connections = connections
        self._lock_s = lock_s
        self._open_successor = open_successor
        self._lock = threading.Lock()
        self._refused: tuple[tuple[int, ...], float, str] = ((), 0.0, "")

    def follow(self) -> None:
        """Switch to the file that replaced the one in use, or to a new WAL if the one in use was removed.

        Does nothing if there is no file, or a WAL beside a new one: `Place.file_to_open` then refuses to
        connect. Never called by whoever has the turn.

        Raises
        ------
        StoreUnavailable
            The new file is no store, or was replaced in turn, or others are writing to it or have it open.
        """
        if self._open_successor is None or not self._place.is_served:
            return
        if self._place.is_in_place and not self._place.is_wal_removed:
            return
        # While one thread opens the new file, the WAL beside it is no reason for the others to refuse it.
        if not self._lock.acquire(timeout=self._lock_s):
            raise StoreUnavailable(f"{self._address} is being replaced")
        try:
            if not self._place.is_in_place:
                self._switch(self._open_successor)
            elif self._place.is_wal_removed:
                self._renew_wal()
        finally:
            self._lock.release()

    def _switch(self, open_successor: Callable[[], None]) -> None:
        """Serve the file that replaced the one before, once its feed has what other programs did to it."""
        if self._place.successor() is None:
            return
        if not self._turn.has_folder:  # a folder that was removed, where nobody else takes turns any more
            self._turn.move(self._place.real_path())
        successor = self._take_over(open_successor)
        if successor is None or self._place.successor() != successor:
            return
        self._place.serve(successor)
        self._turn.move(self._place.real_path())
        said = "%s was replaced by another file, which is served now"
        _log.info(said, self._address, extra={"action": "replaced"})
        # The file before may be large, and takes space while it is open. What is in use is closed later.
        self._connections.reader.dispose()
        self._begin_wal()

    def _take_over(self, open_successor: Callable[[], None]) -> FileId | None:
        """Make the new file a store; one that was refused is tried again only now and then."""
        refused, until_s, said = self._refused
        if self._place.version() == refused and time.monotonic() <= until_s:
            raise StoreUnavailable(said)
        successor = self._place.file()
        try:
            # With the turn, for nobody is now in the middle of writing to the file before, and to its WAL.
            with self._connections.errors(), self._turn.taken():
                if successor is None or successor != self._place.successor():
                    return None
                self._place.remove_stale_wal()
            open_successor()
        except StoreInvalid as error:
            if self._place.file() != successor:  # the error may be that of a mix of two files
                raise StoreUnavailable(f"{self._address} is being replaced") from error
            said = f"another file was put here, and is not served: {error}"
            self._refused = self._place.version(), time.monotonic() + _REFUSED_S, said
            raise StoreUnavailable(said) from error
        return successor

    def _renew_wal(self) -> None:
        """Close all connections to a file whose WAL was removed, and begin a new WAL."""
        with self._turn.taken():
            was_away = self._place.may_have_been_away
            if was_away and self._place.has_wal_to_keep:
                # It may be that of the file that was here meanwhile, and would be written into this one.
                raise StoreUnavailable(
                    f"{self._address} may have been moved away and back, and {self._place.remedy()}"
                )
            has_other, is_outdated = self._place.has_other_wal, self._place.abandon_outdated_wal()
            self._connections.close_all()
            outcome = "what was in it is in the file"
            # SQLite writes the removed one, and removes a new one, if no other program has the file open.
            if is_outdated or self._place.has_other_wal_files:
                outcome = "another program has made a new one, and what was only in the removed one is lost"
            elif has_other:
                outcome += ", and what another program has written since is lost"
            self._place.remove_stale_wal(was_away=was_away)
        said = "the log of %s was removed: %s"
        _log.warning(said, self._address, outcome, extra={"action": "log_removed"})
        self._begin_wal()

    def _begin_wal(self) -> None:
        """Open the WAL, and note it, before anybody reads for long: SQLite cannot begin one then."""
        with self._connections.writer():
            pass
