"""Which history is this? Marks in the store by which a restored or failed-over one is recognised.

A mark (seq, random token) is written with the first change of every connection that writes (behind a pooler,
to each server or database it leads to), with its first change after an older state was put back, and every
few thousand changes. Histories that diverge have different marks from there on: comparing the newest mark at
or below a seq tells whether two of them are the same up to that seq. Comparing heads is not enough, for a
restored store grows. Statements that both databases understand. Called by `writing` and the takeovers; the
backends read marks.
"""

from __future__ import annotations

import secrets
from typing import Final

import sqlalchemy as sa

from iqdb_core.model import Mark

CHANGES_PER_MARK: Final = 4096
_WRITTEN_SEQ: Final = "iqdb_written_seq"
_HOLDER: Final = "iqdb_history_holder"
_TOKEN_BYTES: Final = 8
_PUT: Final = sa.text("INSERT INTO iqdb_lineage (seq, token) VALUES (:seq, :token)")


def mark(connection: sa.Connection, before: int, after: int) -> Mark | None:
    """Write a mark if one is due, inside the transaction that writes the changes `before` + 1 to `after`.

    Returns
    -------
    Mark or None
        The one that was written.
    """
    if after == before:
        return None
    # Where the store ends before what this connection wrote, that was undone, or an older state was put back.
    is_marked = connection.info.get(_WRITTEN_SEQ, before + 1) <= before
    is_due = before // CHANGES_PER_MARK != after // CHANGES_PER_MARK
    connection.info[_WRITTEN_SEQ] = after
    if is_marked and not is_due:
        return None
    written = Mark(before + 1, secrets.token_hex(_TOKEN_BYTES))
    connection.execute(_PUT, {"seq": written.seq, "token": written.token})
    return written


def bind_to(connection: sa.Connection, holder: object) -> None:
    """Forget what a connection wrote that leads to another server or database than before.

    Parameters
    ----------
    connection : sqlalchemy.Connection
        Behind a pooler, which may lead it elsewhere for each transaction.
    holder : object
        Whose history it leads to now; equal for the same.
    """
    if connection.info.get(_HOLDER) != holder:
        connection.info.pop(_WRITTEN_SEQ, None)
        connection.info[_HOLDER] = holder
