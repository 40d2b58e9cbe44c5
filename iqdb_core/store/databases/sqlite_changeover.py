"""What if another file was put in the place of the one that is open, or its log was removed? Goes over.

A file that was put here is served once it was opened as at the start. Which files and logs may be opened is
for `sqlite_place` to say. Called by `sqlite_engine`, before each transaction.
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
"""So long a file that was put here and cannot be served is not read again, unless it is changed."""


class Changeover:
    """Goes over to another file or log, for all threads of a process at once.

    Parameters
    ----------
    address : SqliteAddress
    place : Place
    turn : WriterTurn
    connections : SqliteConnections
    lock_s : float
        How long to wait for a thread that is going over.
    open_successor : callable, optional
        Makes a store of a file that was put here, by connections of its own that are closed when it returns;
        raises StoreInvalid if it is none. A file that was replaced is not gone over to without it.
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
        self._going_over = threading.Lock()
        self._was_away = False
        self._refused: tuple[tuple[int, ...], float, str] = ((), 0.0, "")

    def follow(self) -> None:
        """Go over to another file that was put here, or to another log where the one in use was removed.

        Does nothing where nothing is here, or a log lies beside another file: who connects next is told by
        `Place.look`. Never called with the turn.

        Raises
        ------
        StoreUnavailable
            It is no store, or was replaced once more, or others write or have it open.
        """
        if self._open_successor is None or not self._place.is_served:
            return
        if self._place.is_kept and not self._place.has_lost_log and not self._was_away:
            return
        # While one thread takes the file over, its log is no reason for the others to refuse it.
        if not self._going_over.acquire(timeout=self._lock_s):
            raise StoreUnavailable(f"{self._address} is being replaced")
        try:
            if not self._place.is_kept:
                self._was_away = True
                self._go_over(self._open_successor)
            else:
                if self._place.has_lost_log or (self._was_away and self._place.has_another_log):
                    self._renew_log()
                self._was_away = False
        finally:
            self._going_over.release()

    def _go_over(self, open_successor: Callable[[], None]) -> None:
        """Go over to another file, once it is in step: other programs may have made it."""
        if self._place.successor() is None:
            return
        if not self._turn.is_possible:  # its folder is gone, and with it whoever took turns there
            self._turn.move(self._place.real_path())
        successor = self._take_over(open_successor)
        if successor is None or self._place.successor() != successor:
            return
        self._place.serve(successor)
        self._was_away = False
        self._turn.move(self._place.real_path())
        said = "%s was replaced by another file, which is served now"
        _log.info(said, self._address, extra={"action": "replaced"})
        # What is open of the file before may be large; what is in use is closed later.
        self._connections.reader.dispose()
        self._begin_log()

    def _take_over(self, open_successor: Callable[[], None]) -> FileId | None:
        """Make a store of the file that was put here; of one that is none only now and then."""
        refused, until_s, said = self._refused
        if self._place.state() == refused and time.monotonic() <= until_s:
            raise StoreUnavailable(said)
        successor = self._place.file()
        try:
            # Who had begun to write into the file before has written its log when this turn comes.
            with self._connections.errors(), self._turn.taken():
                if successor is None or successor != self._place.successor():
                    return None
                self._place.clear_log()
            open_successor()
        except StoreInvalid as error:
            if self._place.file() != successor:  # it may have been read together with the next one
                raise StoreUnavailable(f"{self._address} is being replaced") from error
            said = f"another file was put here, and is not served: {error}"
            self._refused = self._place.state(), time.monotonic() + _REFUSED_S, said
            raise StoreUnavailable(said) from error
        return successor

    def _renew_log(self) -> None:
        """Close all that is open of a file whose log was removed, and go on with another log."""
        with self._turn.taken():
            if self._place.is_in_another_log and (self._was_away or self._place.may_have_been_away):
                # It may be of the file that was here meanwhile, and would be written into this one.
                raise StoreUnavailable(f"{self._address} was moved away and back, and {self._place.remedy()}")
            self._connections.close_all()
            self._place.clear_log(was_away=self._was_away)
        said = "the log of %s was removed: what was in it is in the file, unless others wrote to that first"
        _log.warning(said, self._address, extra={"action": "log_removed"})
        self._begin_log()

    def _begin_log(self) -> None:
        """Have a log, and know it, before anybody reads for long: none can be begun then."""
        with self._connections.writer():
            pass
