"""What does the feed say of a row of `images`? Its state and digest; and what is logged of a broken one.

Called by whatever reads rows of `images` that others may have written.
"""

from __future__ import annotations

import logging
import zlib
from typing import TYPE_CHECKING, Any

from iqdb_core.model import MAX_IMAGE_ID
from iqdb_core.store.backend import BROKEN, LIVE
from iqdb_core.store.columns import digests, is_signature, stack, stack_checked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iqdb_core.store.columns import RawImage

_log = logging.getLogger(__name__)


def states_of(image_columns: Sequence[tuple[Any, ...]]) -> list[tuple[int, int]]:
    """Return state and digest of rows, given the columns avglf1, avglf2, avglf3, sig; fast if all live."""
    stacked = stack_checked(image_columns)
    if stacked is not None:
        return [(LIVE, digest) for digest in digests(*stacked)]
    return [_state(row) for row in zip(*image_columns, strict=True)]


def _state(row: RawImage) -> tuple[int, int]:
    if is_signature(row):
        return LIVE, digests(*stack([(value,) for value in row]))[0]
    return BROKEN, zlib.crc32(repr(row).encode())


def is_image_id(post_id: object) -> bool:
    """Tell whether a post can be an image."""
    return isinstance(post_id, int) and 0 <= post_id <= MAX_IMAGE_ID


def report_no_id(row_id: int, post_id: object) -> None:
    """Log a row whose post can be no image; the feed has nothing of it."""
    _report(row_id, post_id, "its post_id is no image id")


def report_broken(row_id: int, post_id: int) -> None:
    """Log a row that is no signature."""
    _report(row_id, post_id, "its averages or positions are no signature")


def _report(row_id: int, post_id: object, reason: str) -> None:
    _log.warning(
        "row %s of table images (post %s) is left alone and not searched: %s",
        row_id,
        post_id,
        reason,
        extra={"action": "broken_row", "post_id": post_id},
    )
