"""Copies of a picture: what several signatures find together, ranked by likelihood.

Answers: which images show this picture, or what one of its parts or turns shows? The whole picture's best by
score and what shares rare buckets with any of the signatures are candidates; the evidence about each decides.
Called by `Snapshot`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import numpy as np

from iqdb_core.index.evidence.leading import with_leader
from iqdb_core.index.evidence.likelihood import (
    FIRST_PARTS,
    USUAL_BUCKETS,
    Evidence,
    Population,
    detail_of,
    details_of,
    likelihoods,
    log_odds,
)
from iqdb_core.index.evidence.sharing import Held, held_by, scores_of, shared_by
from iqdb_core.index.evidence.surroundings import without_surroundings
from iqdb_core.index.evidence.telling import effort, telling_of
from iqdb_core.index.rows import Signatures
from iqdb_core.model import Asked, Copies, Copy

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray

    from iqdb_core.index.evidence.sharing import Shared
    from iqdb_core.index.ranking.arithmetic import Columns, Telling
    from iqdb_core.model import Signature

CANDIDATES: Final = 12
"""Best matches by score of the whole picture whose evidence is looked at, times `effort`."""
SHARERS: Final = 4
"""Images that share most with each signature, of what shares enough rare buckets, whose evidence is looked
at; of more, those that share half of what the signature has."""
WEAK_CANDIDATES: Final = 10
WEAK_SCORE: Final = 65.0
"""A part or turn without enough rare buckets is searched by score, from this on."""
EASY_SCORE: Final = 50.0
EASY_EFFORT: Final = 4.0
"""In an index so small that this is the `effort`, all are, and from this on."""
_DOCUMENTS: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class CopyFilter:
    """Which copies are wanted; see `ImageIndex.find_copies`."""

    limit: int
    offset: int = 0
    min_score: float | None = None
    min_likelihood: float | None = None
    min_detail: float | None = None
    exclude: Collection[int] = ()

    def depth(self, least: int) -> int:
        """Return how many candidates of a kind there have to be, if usually `least` are enough."""
        return max(least, self.limit + self.offset) + len(self.exclude)


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


class _Candidates(NamedTuple):
    """Matches of the signatures, as columns; `asked` is which signature it was, `rows` where its own is."""

    asked: NDArray[np.int64]
    image_ids: NDArray[np.int64]
    scores: NDArray[np.float64]
    rows: NDArray[np.int64]


def find_copies(
    asked: Sequence[Asked], wanted: CopyFilter, population: Population, searcher: Searcher
) -> Copies:
    """Return the copies of what several signatures describe.

    Parameters
    ----------
    asked : sequence of Asked
        The whole picture's own signature first; at least one.
    wanted : CopyFilter
    population : Population
        The images searched.
    searcher : Searcher
    """
    asked_for = rows_of([one.signature for one in asked])
    held = held_by(asked_for)
    found, signatures = _candidates(asked, held, wanted, population, searcher)
    if len(found.asked) == 0:
        return Copies([], detail_of(asked[0].signature, population))
    averages = signatures.averages[found.rows]
    others = held_by(signatures)
    shared = shared_by(held, others, found.asked, found.rows)
    scores = scores_of(held, asked_for.averages, searcher.nonempty, shared, averages)
    judged = scores
    if population.is_small:
        usual = searcher.nonempty | USUAL_BUCKETS
        judged = scores_of(held, asked_for.averages, usual, shared, averages)
    evidence = Evidence(held, asked_for.averages, population)
    logits = odds_of(asked, evidence, shared, averages, judged, population.image_count)
    logits = without_surroundings(asked, held, others, found.rows, shared, judged, logits)
    found = found._replace(scores=scores)
    places = _wanted_places(found, wanted)
    own = np.flatnonzero(found.asked[places] == 0)
    logits[places] = with_leader(logits[places], scores[places], own)
    matches = _best_of_each(found, logits, places, wanted.min_likelihood)
    if wanted.min_detail is None:
        matches = matches[wanted.offset : wanted.offset + wanted.limit]
    rows = found.rows[matches]
    of_matches = Held(others.buckets[rows], others.is_held[rows], others.is_told[rows])
    details = details_of(of_matches, signatures.averages[rows], population)
    if wanted.min_detail is not None:
        chosen = np.flatnonzero(details >= wanted.min_detail)[wanted.offset : wanted.offset + wanted.limit]
        matches, details = matches[chosen], details[chosen]
    copies = [
        Copy(
            image_id=image_id,
            score=score,
            signature=signatures.signature(row),
            likelihood=likelihood,
            detail=detail,
            part=asked[number].part,
            turn=asked[number].turn,
        )
        for number, image_id, score, row, likelihood, detail in zip(
            *(column[matches].tolist() for column in found),
            likelihoods(logits[matches]).tolist(),
            details.tolist(),
            strict=True,
        )
    ]
    return Copies(copies, detail_of(asked[0].signature, population))


def odds_of(
    asked: Sequence[Asked],
    evidence: Evidence,
    shared: Shared,
    averages: NDArray[np.float64],
    scores: NDArray[np.float64],
    image_count: int,
) -> NDArray[np.float64]:
    """Return the log odds that each of n pairs shows the same.

    Parameters
    ----------
    asked : sequence of Asked
        The first of each pair, which `shared.asked` numbers.
    evidence : Evidence
        Of their signatures.
    shared : Shared
        Of the pairs.
    averages : (n, 3) float64 ndarray
        Those of the other of each pair.
    scores : (n,) float64 ndarray
        As in an index of many images.
    image_count : int
        Images searched.
    """
    return log_odds(
        evidence.about(shared, averages),
        scores,
        image_count,
        trust=evidence.trusts[shared.asked],
        is_plain=np.array([one.part is None and one.turn == "none" for one in asked])[shared.asked],
        is_late=_is_late(asked)[shared.asked],
    )


def _candidates(
    asked: Sequence[Asked], held: Held, wanted: CopyFilter, population: Population, searcher: Searcher
) -> tuple[_Candidates, Signatures]:
    """Return the candidates of all signatures, and their own signatures."""
    telling, is_weak = telling_of(held, population)
    more = effort(population.image_count)
    least_of_others = EASY_SCORE if more >= EASY_EFFORT else WEAK_SCORE
    numbers: list[int] = []
    columns: list[Columns] = []
    own = np.where(np.arange(telling.bits.shape[1]) < telling.ends[:, None], telling.bits, 0).sum(axis=1)
    for number, found in enumerate(searcher.sharing(telling, wanted.depth(SHARERS))):
        few = SHARERS + len(wanted.exclude)
        n = max(few, int(np.count_nonzero(found[1] >= own[number] / 2)))
        sharers = _chosen(found, slice(n))
        if number == 0 or is_weak[number] or more >= EASY_EFFORT:
            depth = wanted.depth(int(CANDIDATES * more) if number == 0 else WEAK_CANDIDATES)
            least = wanted.min_score if number == 0 else max(least_of_others, wanted.min_score or 0.0)
            best = searcher.best(asked[number].signature, depth, least)
            sharers = _chosen(sharers, ~np.isin(sharers[0], best[0]))
            numbers.append(number)
            columns.append(best)
        numbers.append(number)
        columns.append(sharers)
    image_ids, scores, segments, documents = (np.concatenate(column) for column in zip(*columns, strict=True))
    places, rows = np.unique(segments.astype(np.int64) * _DOCUMENTS + documents, return_inverse=True)
    segments, documents = np.divmod(places, _DOCUMENTS)
    signatures = searcher.read(segments.astype(np.int32), documents.astype(np.int32))
    of = np.repeat(numbers, [len(column[0]) for column in columns])
    return _Candidates(of, image_ids, scores, rows), signatures


def _chosen(columns: Columns, which: slice | NDArray[np.bool_]) -> Columns:
    """Return some of the matches."""
    image_ids, scores, segments, documents = columns
    return image_ids[which], scores[which], segments[which], documents[which]


def _wanted_places(found: _Candidates, wanted: CopyFilter) -> NDArray[np.int64]:
    """Return the places of candidates that are not excluded and score enough."""
    is_wanted = np.ones(len(found.scores), np.bool_)
    if wanted.exclude:
        is_wanted &= ~np.isin(found.image_ids, np.fromiter(wanted.exclude, np.int64))
    if wanted.min_score is not None:
        is_wanted &= found.scores >= wanted.min_score
    return np.flatnonzero(is_wanted)


def _best_of_each(
    found: _Candidates, logits: NDArray[np.float64], places: NDArray[np.int64], least: float | None
) -> NDArray[np.int64]:
    """Return of some places those likely enough, each image once at its best, likeliest first, then by id."""
    if least is not None:
        places = places[likelihoods(logits[places]) >= least]
    places = places[np.lexsort((found.asked[places], found.image_ids[places], -logits[places]))]
    _, first = np.unique(found.image_ids[places], return_index=True)
    return places[np.sort(first)]


def _is_late(asked: Sequence[Asked]) -> NDArray[np.bool_]:
    """Return which signatures are those of parts, turned or not, after the first eight."""
    parts = list(dict.fromkeys(one.part for one in asked if one.part is not None))
    late = frozenset(parts[FIRST_PARTS:])
    return np.array([one.part in late for one in asked])


def rows_of(signatures: Sequence[Signature]) -> Signatures:
    """Return signatures as columns."""
    return Signatures(
        np.array([one.averages for one in signatures]),
        np.stack([one.signed_positions() for one in signatures]),
    )
