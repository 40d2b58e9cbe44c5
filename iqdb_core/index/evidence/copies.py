"""Copies of a picture: the best matches of several signatures, ranked by likelihood.

Answers: which images show this picture, or what one of its parts or turns shows? Each signature's best by
score are candidates; the evidence about each decides. Called by `Snapshot`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from iqdb_core.index.evidence.likelihood import Evidence, Population, detail_of, likelihoods, log_odds
from iqdb_core.model import Asked, Copies, Copy

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from numpy.typing import NDArray

    from iqdb_core.index.ranking.arithmetic import Columns
    from iqdb_core.index.rows import Signatures
    from iqdb_core.model import Signature

CANDIDATES: Final = 200
"""Best matches by score of each signature whose evidence is looked at."""


@dataclass(frozen=True, slots=True)
class CopyFilter:
    """Which copies are wanted; see `ImageIndex.find_copies`."""

    limit: int
    offset: int = 0
    min_score: float | None = None
    min_likelihood: float | None = None
    min_detail: float | None = None
    exclude: Collection[int] = ()


@dataclass(frozen=True, slots=True)
class _Candidates:
    """Matches of the signatures, as columns; `asked` is which signature it was."""

    asked: NDArray[np.int64]
    image_ids: NDArray[np.int64]
    scores: NDArray[np.float64]
    segments: NDArray[np.int32]
    documents: NDArray[np.int32]


def find_copies(
    asked: Sequence[Asked],
    wanted: CopyFilter,
    population: Population,
    search: Callable[[Signature, int], Columns],
    read: Callable[[NDArray[np.int32], NDArray[np.int32]], Signatures],
) -> Copies:
    """Return the copies of what several signatures describe.

    Parameters
    ----------
    asked : sequence of Asked
        The whole picture's own signature first; at least one.
    wanted : CopyFilter
    population : Population
        The images searched.
    search : callable
        Returns the best matches of a signature, at most so many.
    read : callable
        Returns the signatures of documents of segments, in the order given.
    """
    depth = max(CANDIDATES, wanted.limit + wanted.offset) + len(wanted.exclude)
    found = _searched(asked, depth, search)
    signatures = read(found.segments, found.documents)
    logits = np.empty(len(found.asked))
    for number, one in enumerate(asked):
        rows = np.flatnonzero(found.asked == number)
        if len(rows):
            evidence = Evidence(one.signature, population)
            logits[rows] = log_odds(
                evidence.about(_taken(signatures, rows)),
                found.scores[rows],
                population.image_count,
                trust=evidence.trust,
                is_plain=one.part is None and one.turn == "none",
            )
    matches = _best_of_each(found, logits, wanted)
    copies = []
    for row, likelihood in zip(matches.tolist(), likelihoods(logits[matches]).tolist(), strict=True):
        signature = signatures.signature(row)
        detail = detail_of(signature, population)
        if wanted.min_detail is not None and detail < wanted.min_detail:
            continue
        one = asked[int(found.asked[row])]
        copies.append(
            Copy(
                image_id=int(found.image_ids[row]),
                score=float(found.scores[row]),
                signature=signature,
                likelihood=likelihood,
                detail=detail,
                part=one.part,
                turn=one.turn,
            )
        )
        if len(copies) == wanted.offset + wanted.limit:
            break
    return Copies(copies[wanted.offset :], detail_of(asked[0].signature, population))


def _searched(asked: Sequence[Asked], depth: int, search: Callable[[Signature, int], Columns]) -> _Candidates:
    columns = [search(one.signature, depth) for one in asked]
    numbers = np.repeat(np.arange(len(asked)), [len(found[0]) for found in columns])
    ids, scores, segments, documents = (np.concatenate([found[i] for found in columns]) for i in range(4))
    return _Candidates(numbers, ids, scores, segments, documents)


def _best_of_each(found: _Candidates, logits: NDArray[np.float64], wanted: CopyFilter) -> NDArray[np.int64]:
    """Return the rows that are wanted, each image once at its best, likeliest first, then by id."""
    is_wanted = np.ones(len(logits), np.bool_)
    if wanted.exclude:
        is_wanted &= ~np.isin(found.image_ids, np.fromiter(wanted.exclude, np.int64))
    if wanted.min_score is not None:
        is_wanted &= found.scores >= wanted.min_score
    if wanted.min_likelihood is not None:
        is_wanted &= likelihoods(logits) >= wanted.min_likelihood
    rows = np.flatnonzero(is_wanted)
    rows = rows[np.lexsort((found.asked[rows], found.image_ids[rows], -logits[rows]))]
    _, first = np.unique(found.image_ids[rows], return_index=True)
    return rows[np.sort(first)]


def _taken(signatures: Signatures, rows: NDArray[np.int64]) -> Signatures:
    return type(signatures)(signatures.averages[rows], signatures.positions[rows])
