"""Copies of a picture: the candidates of its signatures, verified and ranked by likelihood.

Answers: which images show this picture, or what one of its parts or turns shows? `candidates` suggests some,
and the evidence about each decides. Called by `Snapshot`, and in part by `pair`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from iqdb_core.index.evidence.candidates import candidates, depths_for, first_round
from iqdb_core.index.evidence.likelihood import (
    USUAL_BUCKETS,
    Evidence,
    Population,
    details_of,
    likelihoods,
    log_odds,
    without_few_places,
)
from iqdb_core.index.evidence.sharing import Held, held_by, scores_of, shared_by
from iqdb_core.index.evidence.surroundings import without_surroundings
from iqdb_core.index.rows import Signatures
from iqdb_core.model import FIRST_PARTS, Copies, Copy, QuerySignature

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from iqdb_core.index.evidence.candidates import Candidates, Searcher
    from iqdb_core.index.evidence.sharing import Shared
    from iqdb_core.model import Signature

EVEN_ODDS: Final = 0.0
"""Log odds above which a match is more likely a copy than not: a likelihood of 0.5."""


@dataclass(frozen=True, slots=True)
class CopyFilter:
    """Which copies are wanted; see `ImageIndex.find_copies`."""

    limit: int
    offset: int = 0
    min_score: float | None = None
    min_likelihood: float | None = None
    min_detail: float | None = None


class _Search(NamedTuple):
    """The query signatures, and what follows from them and the population alone."""

    queries: Sequence[QuerySignature]
    averages: NDArray[np.float64]
    held: Held
    evidence: Evidence
    population: Population


class _Judged(NamedTuple):
    """Pairs of a signature and an image, and what is known of each.

    `signatures` and `held` are those of the images; `is_enough` tells which pairs score enough, are likely
    enough and have enough detail.
    """

    pairs: Candidates
    signatures: Signatures
    held: Held
    scores: NDArray[np.float64]
    logits: NDArray[np.float64]
    is_enough: NDArray[np.bool_]

    def details(self, places: NDArray[np.int64], population: Population) -> NDArray[np.float64]:
        """Return the most evidence that the images of some pairs can give, in bits."""
        rows = self.pairs.rows[places]
        return details_of(self.held.of(rows), self.signatures.averages[rows], population)


def find_copies(
    queries: Sequence[QuerySignature], wanted: CopyFilter, population: Population, searcher: Searcher
) -> Copies:
    """Return the copies of what several signatures describe.

    Parameters
    ----------
    queries : sequence of QuerySignature
        The whole picture's own signature first; at least one.
    wanted : CopyFilter
    population : Population
        The images searched.
    searcher : Searcher

    Notes
    -----
    Matches above even odds come before all others, and in both those of a further round behind those of the
    rounds before. So all pages of one size are parts of one list, whichever round each of them needs.
    """
    averages, positions = rows_of([one.signature for one in queries])
    held = held_by(Signatures(averages, positions))
    search = _Search(queries, averages, held, Evidence(held, averages, population), population)
    end = wanted.offset + wanted.limit
    depths = depths_for(wanted.limit, population.image_count)
    for last_round in range(first_round(depths, end, population.image_count), len(depths)):
        pairs, signatures = candidates(
            queries,
            held,
            population,
            searcher,
            depths=depths[: last_round + 1],
            min_score=wanted.min_score,
        )
        judged = _judged(search, pairs, signatures, wanted, searcher.nonempty)
        matches, is_settled = _ranked(judged, wanted)
        if is_settled:
            break
    shown = matches[wanted.offset : end]
    copies = [
        Copy(
            image_id=image_id,
            score=score,
            signature=signatures.signature(row),
            likelihood=likelihood,
            detail=detail,
            part=queries[number].part_shown,
            turn=queries[number].turn,
        )
        for number, image_id, row, score, likelihood, detail in zip(
            *(column[shown].tolist() for column in (*pairs[:3], judged.scores)),
            likelihoods(judged.logits[shown]).tolist(),
            judged.details(shown, population).tolist(),
            strict=True,
        )
    ]
    own = held.of(np.zeros(1, np.int64))
    return Copies(copies, float(details_of(own, averages[:1], population)[0]))


def odds_of(
    queries: Sequence[QuerySignature],
    held: Held,
    evidence: Evidence,
    shared: Shared,
    averages: NDArray[np.float64],
    scores: NDArray[np.float64],
    image_count: int,
) -> NDArray[np.float64]:
    """Return the log odds that each of n pairs shows the same.

    Parameters
    ----------
    queries : sequence of QuerySignature
        The first of each pair; `shared.numbers` says which.
    held : Held
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
    logits = log_odds(
        evidence.about(shared, averages),
        scores,
        image_count,
        trust=evidence.trusts[shared.numbers],
        is_plain=np.array([one.part is None and one.turn == "none" for one in queries])[shared.numbers],
        is_late=_is_late(queries)[shared.numbers],
    )
    return without_few_places(held, shared, scores, logits)


def _judged(
    search: _Search,
    pairs: Candidates,
    signatures: Signatures,
    wanted: CopyFilter,
    nonempty: NDArray[np.bool_],
) -> _Judged:
    """Return candidates, judged; `signatures` are those of the images."""
    queries, own_averages, held, evidence, population = search
    averages = signatures.averages[pairs.rows]
    others = held_by(signatures)
    shared = shared_by(held, others, pairs.numbers, pairs.rows)
    scores = scores_of(held, own_averages, nonempty, shared, averages)
    usual_scores = scores
    if population.is_small:
        usual_scores = scores_of(held, own_averages, nonempty | USUAL_BUCKETS, shared, averages)
    logits = odds_of(queries, held, evidence, shared, averages, usual_scores, population.image_count)
    logits = without_surroundings(queries, held, others, pairs.rows, shared, usual_scores, logits)
    is_enough = np.ones(len(scores), np.bool_)
    if wanted.min_score is not None:
        is_enough = scores >= wanted.min_score
    if wanted.min_likelihood is not None:
        is_enough &= likelihoods(logits) >= wanted.min_likelihood
    if wanted.min_detail is not None:
        details = details_of(others, signatures.averages, population)
        is_enough &= details[pairs.rows] >= wanted.min_detail
    return _Judged(pairs, signatures, others, scores, logits, is_enough)


def _ranked(judged: _Judged, wanted: CopyFilter) -> tuple[NDArray[np.int64], bool]:
    """Return the places of the matches in order, and whether the page that is wanted needs no further round.

    Each image once, at its best. First those above even odds: of the first round, then of the second and so
    on; then the others in the same way; in each group likeliest first, then by id. A further round counts
    only where there may be more: where the last candidate of some search of the round before is a match, and
    for the first groups one above even odds.
    """
    pairs = judged.pairs
    n_rounds = pairs.is_last.shape[1]
    is_copy = judged.logits > EVEN_ODDS
    last = _last_round(pairs.is_last[judged.is_enough])
    last_of_copies = _last_round(pairs.is_last[judged.is_enough & is_copy])
    groups = pairs.rounds + np.where(is_copy & (pairs.rounds <= last_of_copies), 0, n_rounds)
    places = np.flatnonzero(judged.is_enough & (pairs.rounds <= last))
    keys = pairs.numbers, pairs.image_ids, -judged.logits, groups
    places = places[np.lexsort(tuple(key[places] for key in keys))]
    _, first = np.unique(pairs.image_ids[places], return_index=True)
    places = places[np.sort(first)]
    end = wanted.offset + wanted.limit
    n_copies = int(np.count_nonzero(groups[places] < n_rounds))
    is_settled = (n_copies >= end or last_of_copies < n_rounds) and (len(places) >= end or last < n_rounds)
    return places, is_settled


def _last_round(is_last: NDArray[np.bool_]) -> int:
    """Return the first round in which no search ends with one of some pairs; see `Candidates.is_last`."""
    return int(np.cumprod(is_last.any(axis=0)).sum())


def _is_late(queries: Sequence[QuerySignature]) -> NDArray[np.bool_]:
    """Return which signatures are uncropped, or those of parts, turned or not, after the first eight."""
    parts = list(dict.fromkeys(one.part_shown for one in queries if one.part_shown is not None))
    late = frozenset(parts[FIRST_PARTS:])
    return np.array([one.is_uncropped or one.part in late for one in queries])


def rows_of(signatures: Sequence[Signature]) -> Signatures:
    """Return signatures as columns."""
    return Signatures(
        np.array([one.averages for one in signatures]),
        np.stack([one.signed_positions() for one in signatures]),
    )
