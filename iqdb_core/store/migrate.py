"""How does one database move into another? Bulk copy of an IQDB file or a store into a new store.

Continues where it stopped, even after SIGKILL: how far the copy has come is committed with the rows.
Keeps revisions and tombstones, so that writes accepted before the move keep their order after it. Changes
nothing in an IQDB file, and in a store only what opening it changes; one of an older schema keeps that, so
that the program which made it opens it again. Called by the command line.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import sqlalchemy as sa

from iqdb_core.errors import StoreInvalid
from iqdb_core.model import Signature, Write
from iqdb_core.store import schema, takeover
from iqdb_core.store.address import StoreTimeouts, parse_address
from iqdb_core.store.backend import BEFORE_ALL, LIVE
from iqdb_core.store.columns import are_signatures
from iqdb_core.store.opening import make_backend, make_current
from iqdb_core.store.row_states import is_image_id
from iqdb_core.store.writing import apply_writes, check_writes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from iqdb_core.store.backend import Backend

DEFAULT_BATCH: Final = 8192
_STATEMENT_S: Final = 3600.0
"""Counting a large table takes longer than any statement of a server may."""

# All give: cursor, post_id, revision, state, source, avglf1, avglf2, avglf3, sig. State 2 (broken) is not
# copied.
_STORE_ROWS: Final = sa.text(
    "SELECT f.seq, f.post_id, f.revision, f.state, s.source, i.avglf1, i.avglf2, i.avglf3, i.sig"
    " FROM iqdb_feed AS f LEFT JOIN images AS i ON i.id = f.row_id AND f.state = 1"
    " LEFT JOIN iqdb_sources AS s ON s.post_id = f.post_id"
    " WHERE f.seq > :after AND f.state <> 2 ORDER BY f.seq LIMIT :limit"
)
_STORE_ROWS_OF_VERSION_1: Final = sa.text(
    "SELECT f.seq, f.post_id, f.revision, f.state, NULL, i.avglf1, i.avglf2, i.avglf3, i.sig"
    " FROM iqdb_feed AS f LEFT JOIN images AS i ON i.id = f.row_id AND f.state = 1"
    " WHERE f.seq > :after AND f.state <> 2 ORDER BY f.seq LIMIT :limit"
)
_FILE_ROWS: Final = sa.text(
    "SELECT id, post_id, 0, 1, NULL, avglf1, avglf2, avglf3, sig FROM images"
    " WHERE id > :after ORDER BY id LIMIT :limit"
)
_STORE_DONE: Final = sa.text("SELECT count(*) FROM iqdb_feed WHERE seq <= :after AND state <> 2")
_FILE_DONE: Final = sa.text("SELECT count(*) FROM images WHERE id <= :after")
_COPY_STATE: Final = sa.text("SELECT source, source_cursor, target_seq, skipped FROM iqdb_copy")
_FORGET_COPY: Final = sa.text("DELETE FROM iqdb_copy")
_SET_COPY: Final = sa.text(
    "INSERT INTO iqdb_copy (source, source_cursor, target_seq, skipped)"
    " VALUES (:source, :cursor, :seq, :skipped)"
)
_OTHER_DATA: Final = "the target holds other data than the beginning of a copy of this source"
_PUT_BACK: Final = (
    "the source was put back to another state since the copy began: begin again, in a new target"
)


@dataclass(frozen=True, slots=True)
class CopyResult:
    """What a copy did.

    Parameters
    ----------
    live_count : int
        Live images in the target; as many as in the source.
    copied : int
        Images and tombstones written by this call.
    skipped : int
        Rows of the source that are no signatures, in this call and those it continued.
    resumed : bool
        Whether an interrupted copy was continued.
    """

    live_count: int
    copied: int
    skipped: int
    resumed: bool


def copy_store(
    source_url: str,
    target_url: str,
    *,
    progress: Callable[[int, int], None] | None = None,
    batch: int = DEFAULT_BATCH,
) -> CopyResult:
    """Copy everything a database holds into a new store.

    Parameters
    ----------
    source_url : str
        An IQDB file (left exactly as it is) or a store on either database, which may be in use: what
        changes meanwhile is copied too, until nothing is new. A store of an older schema keeps it.
    target_url : str
        Made if it is missing. Empty, or holding the beginning of a copy of the same source.
    progress : callable of (done, total), optional
        In images and tombstones.
    batch : int
        Rows per transaction.

    Returns
    -------
    CopyResult
        After source and target were found to hold the same number of live images.

    Raises
    ------
    StoreInvalid
        The source is no store and no IQDB file, or was put back to another state since the copy began; the
        target holds other data, or the counts differ at the end.
    StoreUnavailable
        One of them cannot be reached; calling again goes on.
    """
    timeouts = StoreTimeouts(statement_s=_STATEMENT_S)
    source_address, target_address = parse_address(source_url), parse_address(target_url)
    if source_address == target_address:
        raise StoreInvalid("source and target are the same database")
    source, target = make_backend(source_address, timeouts), make_backend(target_address, timeouts)
    try:
        reader = _open_source(source)
        _refuse_other_data(target, reader.identity)
        make_current(target, None)
        return _copy(reader, target, batch, progress)
    finally:
        source.close()
        target.close()


class _Page(NamedTuple):
    """Rows of a source in the shape of _STORE_ROWS, and its history up to the last of them."""

    rows: Sequence[Sequence[Any]]
    history: str


class _Reader:
    """The rows of a source in a fixed order."""

    def __init__(self, backend: Backend, identity: str, *, is_store: bool, has_sources: bool = False) -> None:
        self._backend = backend
        self._is_store = is_store
        self._has_sources = has_sources
        self.identity = identity

    def read(self, after: int, limit: int, history: str) -> _Page:
        """Return the next rows.

        Parameters
        ----------
        after, limit : int
        history : str
            As it was up to `after`; '' if that is not known.

        Raises
        ------
        StoreInvalid
            The source has another history.
        """
        with self._backend.reading() as connection:
            return self._page(connection, after, limit, history)

    def _page(self, connection: sa.Connection, after: int, limit: int, history: str) -> _Page:
        if history and history != self._history(connection, after):
            raise StoreInvalid(_PUT_BACK)
        query = _FILE_ROWS
        if self._is_store:
            query = _STORE_ROWS if self._has_sources else _STORE_ROWS_OF_VERSION_1
        rows = connection.execute(query, {"after": after, "limit": limit}).fetchall()
        return _Page(rows, self._history(connection, rows[-1][0]) if rows else history)

    def _history(self, connection: sa.Connection, cursor: int) -> str:
        """Return the token of the newest mark up to a cursor; '' without marks, which came with sources."""
        mark = self._backend.marks(connection, cursor)[1] if self._has_sources else None
        return "" if mark is None else mark.token

    def count(self, after: int) -> int:
        """Return how many rows there are up to a cursor."""
        with self._backend.reading() as connection:
            query = _STORE_DONE if self._is_store else _FILE_DONE
            return int(connection.execute(query, {"after": after}).scalar_one())

    def remainder(self, after: int, limit: int, history: str) -> tuple[_Page, int]:
        """Do as `read`, and return how many images the source held at the same moment, signatures or not."""
        with self._backend.reading() as connection:
            page = self._page(connection, after, limit, history)
            if self._is_store:
                return page, self._backend.counter(connection).live_count
            return page, self._backend.fingerprint(connection)[0]


def _open_source(backend: Backend) -> _Reader:
    with backend.reading() as connection:
        found = schema.version(connection, backend.name)
        if found is None and not schema.check_images(connection, backend.name):
            raise StoreInvalid(f"{backend.name} holds no images: it is neither a store nor a file of IQDB")
        # One of an older schema is read as it is, so that its program can open it again; unless the feed has
        # yet to hear what other programs did.
        is_read_as_it_is = found is None or (
            found != schema.NEWEST_VERSION and _is_in_step(backend, connection)
        )
    if not is_read_as_it_is:
        make_current(backend, None)
    with backend.reading() as connection:
        if found is not None:
            has_sources = sa.inspect(connection).has_table("iqdb_sources")
            identity = backend.store_id(connection)
            return _Reader(backend, identity, is_store=True, has_sources=has_sources)
        rows, mix = backend.fingerprint(connection)
        return _Reader(backend, f"iqdb-{rows}-{mix}", is_store=False)


def _is_in_step(backend: Backend, connection: sa.Connection) -> bool:
    """Tell whether a store's feed knows `images` as they are."""
    return not backend.may_change_elsewhere or takeover.is_in_step(backend, connection)


def _refuse_other_data(target: Backend, identity: str) -> None:
    """Refuse a target that a copy cannot begin or go on in before its tables are upgraded.

    The program that made it may be an older one, which would refuse them.
    """
    target.prepare()
    with target.reading() as connection:
        if schema.version(connection, target.name) is None:
            has_images = schema.check_images(connection, target.name)
            if has_images and target.fingerprint(connection)[0]:
                raise StoreInvalid(_OTHER_DATA)
            return
        if not _is_in_step(target, connection):
            raise StoreInvalid(_OTHER_DATA)
    _where_to_go_on(target, identity)


def _copy(
    reader: _Reader, target: Backend, batch: int, progress: Callable[[int, int], None] | None
) -> CopyResult:
    cursor, skipped, history, resumed = _where_to_go_on(target, reader.identity)
    total = reader.count(2**63 - 1)
    done = reader.count(cursor) if resumed else 0
    copied = 0
    page = reader.read(cursor, batch, history)
    with ThreadPoolExecutor(1, thread_name_prefix="copy-reader") as ahead:
        while True:
            if not page.rows:
                # A source in use may have gone on; its count and its end must be of the same moment.
                page, source_rows = reader.remainder(cursor, batch, history)
                if not page.rows:
                    break
            rows, history = page
            cursor = rows[-1][0]
            following = ahead.submit(reader.read, cursor, batch, history)
            writes = list(_writes(rows))
            skipped += len(rows) - len(writes)
            check_writes(writes)
            with target.writing() as connection:
                apply_writes(target, connection, writes)
                _remember(target, connection, f"{reader.identity} {history}", cursor, skipped)
            copied += len(writes)
            done += len(rows)
            if progress is not None:
                progress(done, max(done, total))
            page = following.result()
    return CopyResult(_verified_count(target, source_rows - skipped), copied, skipped, resumed)


def _where_to_go_on(target: Backend, identity: str) -> tuple[int, int, str, bool]:
    """Return the source's cursor, rows skipped and history before it, and whether a copy is continued."""
    with target.reading() as connection:
        head = target.counter(connection).head_seq
        state = connection.execute(_COPY_STATE).one_or_none()
    if state is None and head == 0:
        return BEFORE_ALL, 0, "", False
    if state is not None:
        known, _, history = state.source.partition(" ")
        if (known, state.target_seq) == (identity, head):
            return state.source_cursor, state.skipped, history, True
    raise StoreInvalid(_OTHER_DATA)


def _remember(target: Backend, connection: sa.Connection, source: str, cursor: int, skipped: int) -> None:
    connection.execute(_FORGET_COPY)
    seq = target.counter(connection).head_seq
    connection.execute(_SET_COPY, {"source": source, "cursor": cursor, "seq": seq, "skipped": skipped})


def _writes(rows: Sequence[Sequence[Any]]) -> Iterator[Write]:
    """Turn rows into writes, leaving out those that are no signatures or have no image id.

    An image without a source has none in the copy either: it may have been another's that was copied before.
    """
    valid = are_signatures([tuple(row[5:]) for row in rows])
    for (_, post_id, revision, state, source, *image), is_valid in zip(rows, valid, strict=True):
        if not is_image_id(post_id):
            continue
        if state != LIVE:
            yield Write(post_id, revision, None)
        elif is_valid:
            yield Write(post_id, revision, Signature((image[0], image[1], image[2]), image[3]), source or "")


def _verified_count(target: Backend, expected: int) -> int:
    with target.reading() as connection:
        counted = target.fingerprint(connection)[0]
        live = target.counter(connection).live_count
    if not expected == counted == live:
        raise StoreInvalid(
            f"the copy is not complete: the source has {expected} images,"
            f" the target {counted} rows and {live} live images"
        )
    return live
