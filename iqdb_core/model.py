"""The values that all rooms share: geometry, signatures, writes, changes and matches.

Frozen, without behaviour, and independent of encodings and databases. `codec` converts them to bytes and
text.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CHANNELS: Final = 3
"""Y, I and Q, in this order everywhere."""
SIDE: Final = 128
"""Pixels along each edge of the resampled picture."""
PLANE: Final = SIDE * SIDE
"""Coefficients per channel; position = row * SIDE + column, and position 0 is the average."""
KEPT: Final = 40
"""Coefficients kept per channel (Jacobs et al. 1995, section 3)."""
BUCKETS: Final = CHANNELS * 2 * PLANE
"""Bucket keys: (channel * 2 + is_negative) * PLANE + position."""
GREY_LIMIT: Final = 6 / 1000
"""A signature with |I average| + |Q average| below this is grey (danbooru/iqdb)."""
MAX_IMAGE_ID: Final = 2**63 - 1
MAX_SOURCE_CHARACTERS: Final = 2000
POSITION_BYTES: Final = CHANNELS * KEPT * 2


class Signature(NamedTuple):
    """The averages and the kept positions of one image.

    Parameters
    ----------
    averages : (float, float, float)
        Mean Y, I and Q, finite. Y is 0..1 for decoded images; |I| and |Q| are below 0.6.
    positions : bytes
        240 bytes: int16[3][40], little-endian. Per channel the kept positions 1..16383, negated where the
        coefficient is not positive; in ascending signed order when computed here. `codec` validates what
        comes from outside. For scores each channel is a *set*: order does not matter and a repeated position
        counts once.
    """

    averages: tuple[float, float, float]
    positions: bytes

    def signed_positions(self) -> NDArray[np.int16]:
        """Return the positions as a read-only (3, 40) int16 array."""
        import numpy as np  # noqa: PLC0415 - commands that work on a server do without

        return np.frombuffer(self.positions, dtype="<i2").reshape(CHANNELS, KEPT)

    @property
    def is_grey(self) -> bool:
        """Whether only the Y channel counts."""
        return bool(is_grey(self.averages[1], self.averages[2]))


def is_grey(i_average: Any, q_average: Any) -> Any:
    """Return whether an image with these averages is grey; for arrays, of each image."""
    # Halves, so that sums of finite averages never overflow; the result is the same to the bit.
    return abs(i_average) / 2 + abs(q_average) / 2 < GREY_LIMIT / 2


@dataclass(frozen=True, slots=True)
class Rectangle:
    """A part of a picture, in pixels from the upper left corner of the picture as it is shown."""

    x: int
    y: int
    width: int
    height: int


class Match(NamedTuple):
    """One answer to a query.

    Parameters
    ----------
    image_id : int
        The caller's id, 0..2**63-1.
    score : float
        At most 100, higher is more alike; may be negative.
    signature : Signature
        The stored signature of the match.
    """

    image_id: int
    score: float
    signature: Signature


FIRST_PARTS: Final = 8
"""How many parts of a picture come before any that is guessed late; later parts count for less."""


@dataclass(frozen=True, slots=True)
class QuerySignature:
    """One of the query signatures of a search for copies.

    Parameters
    ----------
    signature : Signature
    part : Rectangle or None
        The part of the picture that it describes; None is the whole. One that reaches beyond the picture is a
        larger picture, which this one may be cut out of.
    turn : str
        What was done to that part: "none", or as in `signature.turns`; inverted ones have "negative-" in
        front, or are just "negative".
    size : (int, int) or None
        Width and height of the whole picture in pixels, as it is shown; None if not known, as for a hash.
    """

    signature: Signature
    part: Rectangle | None = None
    turn: str = "none"
    size: tuple[int, int] | None = None

    @property
    def is_uncropped(self) -> bool:
        """Whether it describes a larger picture, which the picture may be cut out of."""
        if self.part is None or self.size is None:
            return False
        return self.part.width > self.size[0] or self.part.height > self.size[1]

    @property
    def part_shown(self) -> Rectangle | None:
        """The part of the picture that a match shows; None if it shows all of it, and perhaps more."""
        return None if self.is_uncropped else self.part


@dataclass(frozen=True, slots=True)
class Copy:
    """An image that may show the query picture.

    Parameters
    ----------
    image_id : int
    score : float
        As in `Match`, with the query signature that it matched.
    signature : Signature
        The stored one.
    likelihood : float
        0..1: how likely it shows the same picture.
    detail : float
        Bits of evidence that its signature can give at most.
    part, turn
        What it shows: of the query signature that it matched; see `QuerySignature.part_shown`.
    """

    image_id: int
    score: float
    signature: Signature
    likelihood: float
    detail: float
    part: Rectangle | None
    turn: str


@dataclass(frozen=True, slots=True)
class Copies:
    """The answer to a search for copies.

    Parameters
    ----------
    matches : list of Copy
        Likeliest first, then by id; each image once.
    detail : float
        Bits of evidence that the picture's own signature can give at most. Below about 40 that is too few.
    """

    matches: list[Copy]
    detail: float


@dataclass(frozen=True, slots=True)
class Write:
    """One accepted change: put a signature, or delete (signature is None).

    Parameters
    ----------
    image_id : int
        0..2**63-1.
    revision : int
        When the write was accepted, in microseconds of a clock that never runs backwards. Of two writes to
        one image the one with the higher revision wins, whichever is applied last.
    signature : Signature or None
        None deletes.
    source : str or None
        Name, path or page of the image, at most 2,000 characters. Empty removes the one that is stored, None
        leaves it as it is; a deletion removes it whatever stands here.
    if_absent : bool
        Put it only if no image has the id; ignored for a deletion.
    """

    image_id: int
    revision: int
    signature: Signature | None
    source: str | None = None
    if_absent: bool = False


@dataclass(frozen=True, slots=True)
class WriteOutcome:
    """The outcome of a `Write`.

    Parameters
    ----------
    seq : int
        The seq from which on the image's state is at least as new as this write. For a stale write, the seq
        of the newer one.
    is_stale : bool
        True when a newer write was already there and nothing changed.
    is_taken : bool
        True when it was `if_absent`, an image has the id and nothing changed. Such a write is not stale.
    is_again : bool
        True for a stale write that was applied before: the store has the same revision of the same picture,
        or of a deletion. Not compared by `==`, nor are the fields below.
    revision, newest_revision : int
        The newest revision of the image (of this write or a newer one), and of the whole store.
    """

    seq: int
    is_stale: bool
    is_taken: bool = False
    is_again: bool = field(default=False, compare=False)
    revision: int = field(default=0, compare=False)
    newest_revision: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Mark:
    """A point in the history of a store that no other history has.

    Parameters
    ----------
    seq : int
        The first change after the mark was made.
    token : str
        Random.
    """

    seq: int
    token: str


@dataclass(frozen=True, slots=True)
class FeedState:
    """The state of the feed when a batch was read, all of one moment.

    Parameters
    ----------
    head_seq : int
        Its newest seq.
    before : Mark or None
        Its newest mark at or below the cursor of the read. A reader that has applied everything up to the
        cursor but remembers another mark has applied the history of another store.
    after : Mark or None
        Its newest mark at or below the end of the batch.
    """

    head_seq: int
    before: Mark | None
    after: Mark | None


@dataclass(frozen=True, slots=True)
class ChangeBatch:
    """Consecutive changes of the feed, in commit order, as columns.

    Parameters
    ----------
    seqs : (n,) int64 ndarray
        Strictly ascending.
    image_ids : (n,) int64 ndarray
        No id occurs twice in one batch: the feed is compacted.
    is_live : (n,) bool ndarray
        False for a tombstone, whose averages and positions are zero.
    averages : (n, 3) float64 ndarray
    positions : (n, 3, 40) int16 ndarray
        As in `Signature`.
    feed : FeedState or None
        The state of the store's feed; None if the batch is from another source.
    """

    seqs: NDArray[np.int64]
    image_ids: NDArray[np.int64]
    is_live: NDArray[np.bool_]
    averages: NDArray[np.float64]
    positions: NDArray[np.int16]
    feed: FeedState | None = None

    def __len__(self) -> int:
        return len(self.seqs)

    @property
    def last_seq(self) -> int:
        """The cursor after this batch; the batch must not be empty."""
        return int(self.seqs[-1])
