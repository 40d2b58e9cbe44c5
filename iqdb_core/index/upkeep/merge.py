"""Merges the live images of segments into as few new ones as possible, while queries and updates continue.

Also finds out which images died during the merge. Publishes nothing. Called by `ImageIndex`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from iqdb_core.index.disk.signature_rows import CHUNK_ROWS
from iqdb_core.index.rows import Rows, Signatures
from iqdb_core.index.segment import alive as bitmap
from iqdb_core.index.segment.layout import SEGMENT_IMAGES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from iqdb_core.index.disk.sealer import Sealer
    from iqdb_core.index.segment.member import Member


def merged(sources: Sequence[Member], sealer: Sealer) -> list[Member]:
    """Build segments of the live images of `sources`: full ones, and one of the rest.

    Parameters
    ----------
    sources : sequence of Member
        As they were when the merge began. No image is alive in two of them.
    sealer : Sealer

    Returns
    -------
    list of Member
        In ascending order of ids, all images alive; empty if no image of `sources` is.

    Raises
    ------
    OSError, IndexStateError
        Signatures could not be read or written; files of finished segments were removed.

    Notes
    -----
    Holds the signatures of one new segment at a time (17 MB), besides 26 bytes for each live image of
    `sources`.
    """
    documents = [bitmap.live_documents(source.alive) for source in sources]
    image_ids = np.concatenate(
        [source.sealed.segment.image_ids[docs] for source, docs in zip(sources, documents, strict=True)]
    )
    source_nos = np.repeat(np.arange(len(sources), dtype=np.uint16), [len(docs) for docs in documents])
    order = np.argsort(image_ids, kind="stable")
    made: list[Member] = []
    taken = [0] * len(sources)
    try:
        for start in range(0, len(order), SEGMENT_IMAGES):
            part = order[start : start + SEGMENT_IMAGES]
            averages, positions = Signatures.allocated(len(part))
            for source_no, source in enumerate(sources):
                # Documents of a source ascend by id, like the output: each part takes the next run of them.
                slots = np.flatnonzero(source_nos[part] == source_no)
                docs = documents[source_no][taken[source_no] : taken[source_no] + len(slots)]
                taken[source_no] += len(slots)
                for first in range(0, len(slots), CHUNK_ROWS):
                    piece = slice(first, first + CHUNK_ROWS)
                    averages[slots[piece]], positions[slots[piece]] = source.sealed.rows.read(docs[piece])
            made.append(sealer.seal(Rows(image_ids[part], averages, positions)).member)
    except BaseException:
        sealer.directory.remove(member.sealed.number for member in made)
        raise
    return made


def carried_over(made: Sequence[Member], before: Sequence[Member], now: Sequence[Member]) -> list[Member]:
    """Return the merged segments without the images that died since the merge began.

    Parameters
    ----------
    made : sequence of Member
        The result of `merged`.
    before, now : sequence of Member
        The sources, in the same order: as they were when the merge began, and as they are now.
    """
    died = [_died(old, new) for old, new in zip(before, now, strict=True)]
    image_ids = np.sort(np.concatenate(died))
    return [member.without(member.find(image_ids)) for member in made]


def _died(before: Member, now: Member) -> NDArray[np.int64]:
    """Return the ids of the images of one segment that died between two of its states."""
    docs = bitmap.live_documents(before.alive & ~now.alive)
    image_ids: NDArray[np.int64] = before.sealed.segment.image_ids[docs]
    return image_ids
