"""Candidates for copies: the images that are worth verifying, and the round in which each of them is.

Answers: which images may show what one of these signatures describes? The best of the whole picture by score,
and those that share rare buckets with any of the signatures. Judges none of them. Called by `copies`.

The first round is nearly always enough for the first page. Each further round searches deeper, and its
matches come behind those of the rounds before. The depths depend on the size of a page, never on its offset,
so all pages of one size are parts of one list.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import numpy as np

from iqdb_core.index.evidence.distinctive import distinctive_of, effort

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from iqdb_core.index.evidence.likelihood import Population
    from iqdb_core.index.evidence.sharing import Held
    from iqdb_core.index.ranking.arithmetic import Columns, DistinctiveBuckets
    from iqdb_core.index.rows import Signatures
    from iqdb_core.model import QuerySignature, Signature

BEST: Final = 12
"""Best matches of the whole picture by score, times `effort`."""
SHARERS: Final = 4
MOST_SHARERS: Final = 10
"""Images that share most with a signature, of those that share enough of its rare buckets: four, and up to
ten that share half of what the signature has."""
WEAK_BEST: Final = 10
WEAK_SCORE: Final = 65.0
"""Best matches by score of a part or turn with too few rare buckets, and their minimum score. For uncropped
pictures, whose best by score are mostly the whole picture's, this would bring nothing (measured)."""
EASY_SCORE: Final = 50.0
EASY_EFFORT: Final = 4.0
"""From this `effort` on every part and turn is searched by score, with this minimum."""
GROWTH: Final = 3
"""Each round searches so many times as deep as the one before."""
DEEPEST: Final = BEST * GROWTH**4
"""Depth of the last round, 972, unless a page is larger."""
_DOCUMENTS: Final = 1 << 16


class Searcher(Protocol):
    """What a search for copies needs of the index."""

    def best(self, signature: Signature, limit: int, min_score: float | None) -> Columns:
        """Return the best matches of a signature by score."""

    def sharing(self, distinctive: DistinctiveBuckets, limit: int) -> list[Columns]:
        """Return, per signature, what shares most of its rare buckets; see `ranking.sharers`."""

    def read(self, segments: NDArray[np.int32], documents: NDArray[np.int32]) -> Signatures:
        """Return the signatures of documents of segments, in the order given."""

    @property
    def nonempty(self) -> NDArray[np.bool_]:
        """Which of the 98,304 buckets some live image holds."""


class Candidates(NamedTuple):
    """Pairs of a signature and an image, as columns.

    Parameters
    ----------
    numbers : (n,) int64 ndarray
        Which query signature.
    image_ids : (n,) int64 ndarray
    rows : (n,) int64 ndarray
        Where the image's own signature is.
    rounds : (n,) int64 ndarray
        The round that the pair belongs to, from 0.
    is_last : (n, rounds) bool ndarray
        Whether the search that found the pair ends with it in each round, and may find more in the next one.
    """

    numbers: NDArray[np.int64]
    image_ids: NDArray[np.int64]
    rows: NDArray[np.int64]
    rounds: NDArray[np.int64]
    is_last: NDArray[np.bool_]


def depths_for(page_size: int, image_count: int) -> NDArray[np.int64]:
    """Return the least depth of each round, for pages of a size in an index of so many images.

    For ten of a million these are 10, 36, 108, 324 and 972.
    """
    depths = [page_size]
    while depths[-1] < DEEPEST:
        depths.append(min(GROWTH * max(depths[-1], _usual_best(image_count)), DEEPEST))
    return np.array(depths)


def first_round(depths: NDArray[np.int64], end: int, image_count: int) -> int:
    """Return the first round that is likely to find so many matches in an index of so many images."""
    of_whole = np.maximum(depths, _usual_best(image_count))
    return min(int(np.searchsorted(of_whole, end)), len(depths) - 1)


def candidates(
    queries: Sequence[QuerySignature],
    held: Held,
    population: Population,
    searcher: Searcher,
    *,
    depths: NDArray[np.int64],
    min_score: float | None,
) -> tuple[Candidates, Signatures]:
    """Return the candidates of the first rounds, and their signatures.

    Parameters
    ----------
    queries : sequence of QuerySignature
        The whole picture's own signature first; at least one.
    held : Held
        Of the same.
    population : Population
        The images searched.
    searcher : Searcher
    depths : (rounds,) int64 ndarray
        The first of `depths_for`.
    min_score : float or None
        Minimum score of candidates by score.
    """
    distinctive, is_weak = distinctive_of(held, population)
    is_easy = effort(population.image_count) >= EASY_EFFORT
    min_score_of_others = max(EASY_SCORE if is_easy else WEAK_SCORE, min_score or 0.0)
    of_whole = np.maximum(depths, _usual_best(population.image_count))
    of_weak = np.maximum(depths, WEAK_BEST)
    of_sharers = np.maximum(depths, MOST_SHARERS)

    best = searcher.best(queries[0].signature, int(of_whole[-1]), min_score)
    searches = [(0, of_whole, best)]
    sharers = searcher.sharing(distinctive, int(of_sharers[-1]))
    half = distinctive.max_bits() / 2
    for number, (image_ids, bits, segments, documents) in enumerate(sharers):
        count = max(SHARERS, int(np.count_nonzero(bits >= half[number])))
        most = image_ids[:count], bits[:count], segments[:count], documents[:count]
        searches.append((number, of_sharers, most))
        if number and not queries[number].is_uncropped and (is_weak[number] or is_easy):
            alike = searcher.best(queries[number].signature, int(of_weak[-1]), min_score_of_others)
            searches.append((number, of_weak, alike))
    return _joined(searches, searcher)


def _joined(
    searches: list[tuple[int, NDArray[np.int64], Columns]], searcher: Searcher
) -> tuple[Candidates, Signatures]:
    """Return what searches found, and the signatures of the images.

    Parameters
    ----------
    searches : list of (number, depths, found)
        The number of the signature, the depths of all rounds, and the result.
    searcher : Searcher
    """
    numbers, depths, columns = zip(*searches, strict=True)
    counts = [len(column[0]) for column in columns]
    image_ids, _, segments, documents = (np.concatenate(column) for column in zip(*columns, strict=True))
    places, rows = np.unique(segments.astype(np.int64) * _DOCUMENTS + documents, return_inverse=True)
    segments, documents = np.divmod(places, _DOCUMENTS)
    signatures = searcher.read(segments.astype(np.int32), documents.astype(np.int32))
    rank = np.concatenate([np.arange(1, count + 1) for count in counts])[:, None]
    depth = np.repeat(depths, counts, axis=0)
    rounds, is_last = np.count_nonzero(rank > depth, axis=1), rank == depth
    return Candidates(np.repeat(numbers, counts), image_ids, rows, rounds, is_last), signatures


def _usual_best(image_count: int) -> int:
    """Return how many of the whole picture's best by score the first round has at least."""
    return int(BEST * effort(image_count))
