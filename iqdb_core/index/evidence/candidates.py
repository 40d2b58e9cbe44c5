"""Candidates for copies: the images that are worth a close look, and in which round each is looked at.

Answers: which images may show what one of these signatures describes? The whole picture's best by score, and
what shares rare buckets with any of the signatures. Judges none of them. Called by `copies`.

The first round usually is enough for a page of matches; each further one looks at more candidates, whose
matches come behind those of the rounds before. Which candidates a round has depends on the query and on the
size of a page, never on where the page begins: so pages fit together, and the first one costs no more for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import numpy as np

from iqdb_core.index.evidence.telling import effort, telling_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from iqdb_core.index.evidence.likelihood import Population
    from iqdb_core.index.evidence.sharing import Held
    from iqdb_core.index.ranking.arithmetic import Columns, Telling
    from iqdb_core.index.rows import Signatures
    from iqdb_core.model import QuerySignature, Signature

BEST: Final = 12
"""Best matches by score of the whole picture, times `effort`."""
SHARERS: Final = 4
MOST_SHARERS: Final = 10
"""Images that share most with each signature, of those that share enough rare buckets: four, and up to ten if
they share half of what the signature has."""
WEAK_BEST: Final = 10
WEAK_SCORE: Final = 65.0
"""A part or turn without enough rare buckets is searched by score, from this on."""
EASY_SCORE: Final = 50.0
EASY_EFFORT: Final = 4.0
"""In an index so small that this is the `effort`, all are, and from this on."""
FURTHER: Final = (128, 1_024)
"""How many of each kind the second round looks at, and the third, if that is more. The first looks at no less
than a page shows, so that each page of one is sorted as a whole."""
ROUNDS: Final = 1 + len(FURTHER)
_DOCUMENTS: Final = 1 << 16


class Searcher(Protocol):
    """What is asked of the index."""

    def best(self, signature: Signature, limit: int, min_score: float | None) -> Columns:
        """Return the best matches of a signature by score."""

    def sharing(self, telling: Telling, limit: int) -> list[Columns]:
        """Return, per signature, what shares most of its rare buckets; see `ranking.telling`."""

    def read(self, segments: NDArray[np.int32], documents: NDArray[np.int32]) -> Signatures:
        """Return the signatures of documents of segments, in the order given."""

    @property
    def nonempty(self) -> NDArray[np.bool_]:
        """Which of the 98,304 buckets some live image holds."""


class Candidates(NamedTuple):
    """Pairs of a signature and an image, as columns.

    Parameters
    ----------
    asked : (n,) int64 ndarray
        Which signature.
    image_ids : (n,) int64 ndarray
    rows : (n,) int64 ndarray
        Where the image's own signature is.
    rounds : (n,) int64 ndarray
        The round that looks at the pair, from 0.
    is_last : (n, 2) bool ndarray
        Whether the pair is the last that a search yields up to each round but the last: there may be more.
    """

    asked: NDArray[np.int64]
    image_ids: NDArray[np.int64]
    rows: NDArray[np.int64]
    rounds: NDArray[np.int64]
    is_last: NDArray[np.bool_]


def round_for(page: range, image_count: int) -> int:
    """Return the first round up to which a page has enough candidates, in an index of so many images."""
    depths = _depths(_usual_best(image_count), len(page), 0)
    return min(int(np.searchsorted(depths, page.stop)), ROUNDS - 1)


def candidates(
    asked: Sequence[QuerySignature],
    held: Held,
    population: Population,
    searcher: Searcher,
    *,
    last_round: int,
    page_size: int,
    min_score: float | None,
    n_excluded: int,
) -> tuple[Candidates, Signatures]:
    """Return the candidates of all rounds up to one, and their signatures.

    Parameters
    ----------
    asked : sequence of QuerySignature
        The whole picture's own signature first; at least one.
    held : Held
        Of the same.
    population : Population
        The images searched.
    searcher : Searcher
    last_round : int
        0..2
    page_size : int
        So many matches are wanted at once.
    min_score : float or None
        Candidates by score have at least this.
    n_excluded : int
        So many candidates nobody wants: there are as many more.
    """
    telling, is_weak = telling_of(held, population)
    more = effort(population.image_count)
    of_whole = _depths(_usual_best(population.image_count), page_size, n_excluded)
    of_weak = _depths(WEAK_BEST, page_size, n_excluded)
    of_sharers = _depths(MOST_SHARERS, page_size, n_excluded)
    least_of_others = max(EASY_SCORE if more >= EASY_EFFORT else WEAK_SCORE, min_score or 0.0)
    numbers: list[int] = []
    columns: list[Columns] = []
    depths: list[NDArray[np.int64]] = []
    half = telling.most() / 2
    sharers = searcher.sharing(telling, int(of_sharers[last_round]))
    for number, (image_ids, bits, segments, documents) in enumerate(sharers):
        count = max(SHARERS + n_excluded, int(np.count_nonzero(bits >= half[number])))
        numbers.append(number)
        columns.append((image_ids[:count], bits[:count], segments[:count], documents[:count]))
        depths.append(of_sharers)
        if number == 0 or is_weak[number] or more >= EASY_EFFORT:
            least, of_best = (min_score, of_whole) if number == 0 else (least_of_others, of_weak)
            numbers.append(number)
            columns.append(searcher.best(asked[number].signature, int(of_best[last_round]), least))
            depths.append(of_best)
    counts = [len(column[0]) for column in columns]
    image_ids, _, segments, documents = (np.concatenate(column) for column in zip(*columns, strict=True))
    places, rows = np.unique(segments.astype(np.int64) * _DOCUMENTS + documents, return_inverse=True)
    segments, documents = np.divmod(places, _DOCUMENTS)
    signatures = searcher.read(segments.astype(np.int32), documents.astype(np.int32))
    rank = np.concatenate([np.arange(count) for count in counts])[:, None]
    depth = np.repeat(depths, counts, axis=0)
    rounds, is_last = np.count_nonzero(rank >= depth, axis=1), rank == depth[:, :-1] - 1
    found = Candidates(np.repeat(numbers, counts), image_ids, rows, rounds, is_last)
    return _each_once(found), signatures


def _each_once(found: Candidates) -> Candidates:
    """Return the same, each pair that two searches found once: in its first round, and the last of either."""
    if len(found.asked) == 0:
        return found
    pairs = found.asked * (found.rows.max() + 1) + found.rows
    order = np.argsort(pairs * ROUNDS + found.rounds)
    pairs = pairs[order]
    first = np.flatnonzero(np.concatenate([[True], pairs[1:] != pairs[:-1]]))
    is_last = np.logical_or.reduceat(found.is_last[order], first, axis=0)
    asked, image_ids, rows, rounds, _ = found
    once = order[first]
    return Candidates(asked[once], image_ids[once], rows[once], rounds[once], is_last)


def _usual_best(image_count: int) -> int:
    """Return how many of the whole picture's best by score the first round looks at."""
    return int(BEST * effort(image_count))


def _depths(usual: int, page_size: int, n_excluded: int) -> NDArray[np.int64]:
    """Return how many candidates of a kind there are up to each of the three rounds."""
    return np.maximum(max(usual, page_size), (0, *FURTHER)) + n_excluded
