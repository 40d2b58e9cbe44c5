"""What does the feed say of a row of `images`? Its state and digest, and where it is to be told of a change.

Called by whatever reads rows of `images` that others may have written.
"""

from __future__ import annotations

import logging
import zlib
from typing import TYPE_CHECKING, Any

from iqdb_core.model import MAX_IMAGE_ID
from iqdb_core.store.backend import BROKEN, LIVE, FeedRow, image_columns, known_of
from iqdb_core.store.columns import digests, is_signature, stack, stack_checked

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from iqdb_core.store.backend import ComparedRow
    from iqdb_core.store.columns import RawImage

_log = logging.getLogger(__name__)


def _states_of(columns: Sequence[tuple[Any, ...]]) -> list[tuple[int, int]]:
    """Return state and digest of rows, given the columns avglf1, avglf2, avglf3, sig; fast if all live."""
    stacked = stack_checked(columns)
    if stacked is not None:
        return [(LIVE, digest) for digest in digests(*stacked)]
    return [_state(row) for row in zip(*columns, strict=True)]


def _state(row: RawImage) -> tuple[int, int]:
    if is_signature(row):
        return LIVE, digests(*stack([(value,) for value in row]))[0]
    return BROKEN, zlib.crc32(repr(row).encode())


def is_image_id(post_id: object) -> bool:
    """Tell whether a post can be an image."""
    return isinstance(post_id, int) and 0 <= post_id <= MAX_IMAGE_ID


def _report(row_id: int, post_id: object, reason: str) -> None:
    _log.warning(
        "row %s of table images (post %s) is left alone and not searched: %s",
        row_id,
        post_id,
        reason,
        extra={"action": "broken_row", "post_id": post_id},
    )


_Difference = tuple[int, int, int, int, FeedRow | None]
"""post_id, its state, its row's id and digest now, and what the feed knows."""


def differences(compared: Sequence[ComparedRow]) -> Iterator[_Difference]:
    """Yield what the feed must be told about rows of `images`, and log those that are none."""
    if not compared:
        return
    states = _states_of(image_columns(compared))
    for row, (state, digest) in zip(compared, states, strict=True):
        row_id, post_id, known = row[0], row[1], known_of(row)
        if known is not None and (known.row_id, known.state, known.digest) == (row_id, state, digest):
            continue
        if not is_image_id(post_id):
            _report(row_id, post_id, "its post_id is no image id")
            continue
        if state == BROKEN:
            _report(row_id, post_id, "its averages or positions are no signature")
        yield post_id, state, row_id, digest, known


def unreadable(compared: Sequence[ComparedRow]) -> Iterator[ComparedRow]:
    """Yield rows of `images` that are no signature, or whose post has no image id."""
    if not compared:
        return
    states = _states_of(image_columns(compared))
    for row, (state, _) in zip(compared, states, strict=True):
        if state == BROKEN or not is_image_id(row[1]):
            yield row
