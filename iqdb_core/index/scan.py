"""Exact ranking over all segments and the head.

Answers: which live images are most like this signature? Never changes anything. Called by `Snapshot`, from any number of threads at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from iqdb_core.index import layout
from iqdb_core.index.build import stored_averages
from iqdb_core.index.kernel_build import bucket_of
from iqdb_core.index.kernel_postings import (
    EXACT,
    GROUPED,
    NO_ENTRY,
    find_entry,
    form_of,
    is_in_grouped,
    is_in_rare,
    rare_count,
    rare_offset,
)
from iqdb_core.index.kernel_words import words_at
from iqdb_core.index.weights import AVERAGE_WEIGHTS, WEIGHTS, bins_of_positions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from iqdb_core.index.segment import Segment
    from iqdb_core.model import Signature


@dataclass(frozen=True, slots=True, eq=False)
class SegmentTable:
    segments: tuple[Segment, ...]
    alive: tuple[NDArray[np.uint64], ...]

    @classmethod
    def create(cls, segments: Sequence[Segment], alive: Sequence[NDArray[np.uint64]]) -> SegmentTable:
        return cls(tuple(segments), tuple(alive))


def search(
    table: SegmentTable,
    head_ids: NDArray[np.int64],
    head_averages: NDArray[np.float64],
    head_positions: NDArray[np.int16],
    head_alive: NDArray[np.bool_],
    signature: Signature,
    *,
    limit: int,
    nonempty: NDArray[np.bool_],
    min_score: float | None = None,
    n_threads: int = 1,
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int32], NDArray[np.int32]]:
    """Slow first version."""
    bins = bins_of_positions()
    n_channels = 1 if signature.is_grey else 3
    keys = sorted(
        {
            bucket_of(c, int(p))
            for c in range(n_channels)
            for p in signature.signed_positions()[c]
        }
    )
    weights = np.array([WEIGHTS[k >> 15][bins[k & 16383]] for k in keys], dtype=np.int64)
    divisor = int(weights[nonempty[keys]].sum())
    q = stored_averages(np.array(signature.averages)).astype(np.float64)
    ids, nets, segs, docs = [], [], [], []
    for no, (segment, alive) in enumerate(zip(table.segments, table.alive, strict=True)):
        shared = np.zeros(segment.n_images, np.int64)
        doc_of = np.zeros(segment.n_images, np.int64)
        averages = np.zeros((segment.n_images, 3), np.float32)
        _scan(segment.words.ctypes.data, len(segment.words), np.array(keys), weights, shared, doc_of, averages)
        pen = penalty(averages, q, n_channels)
        live = np.unpackbits(alive.view(np.uint8), bitorder="little")[doc_of] != 0
        ids.append(segment.image_ids[doc_of][live])
        nets.append((shared - pen)[live])
        segs.append(np.full(live.sum(), no))
        docs.append(doc_of[live])
    if len(head_ids):
        table_w = np.zeros(98304, np.int64)
        table_w[keys] = weights
        grey = np.abs(head_averages[:, 1:]).sum(1) < 0.006
        shared = np.zeros(len(head_ids), np.int64)
        for i in range(len(head_ids)):
            for c in range(1 if grey[i] else 3):
                shared[i] += table_w[[bucket_of(c, int(p)) for p in set(head_positions[i, c].tolist())]].sum()
        pen = penalty(stored_averages(head_averages), q, n_channels)
        ids.append(head_ids[head_alive])
        nets.append((shared - pen)[head_alive])
        segs.append(np.full(head_alive.sum(), -1))
        docs.append(np.flatnonzero(head_alive))
    if not ids:
        ids, nets, segs, docs = [np.zeros(0, np.int64)], [np.zeros(0)], [np.zeros(0)], [np.zeros(0)]
    id_ = np.concatenate(ids)
    net = np.concatenate(nets)
    score = net * 100.0 / divisor if divisor else np.zeros(len(net))
    order = np.lexsort((id_, -score))
    if min_score is not None:
        order = order[score[order] >= min_score]
    order = order[:limit]
    return (
        id_[order],
        score[order],
        np.concatenate(segs)[order].astype(np.int32),
        np.concatenate(docs)[order].astype(np.int32),
    )


def penalty(averages, q, n_channels):
    out = np.zeros(len(averages))
    for c in range(n_channels):
        out = out + AVERAGE_WEIGHTS[c] * np.abs(averages[:, c].astype(np.float64) - q[c])
    return out


@njit
def _scan(address, n_words, keys, weights, shared, doc_of, averages):
    words = words_at(np.uint64(address), n_words)
    entries = words.view(np.uint32)[np.int64(words[layout.H_ENTRIES_AT]) * 2 :]
    docs = words.view(np.uint16)[np.int64(words[layout.H_DOCUMENTS_AT]) * 4 :]
    floats = words.view(np.float32)[np.int64(words[layout.H_AVERAGES_AT]) * 2 :]
    n = len(shared)
    for slot in range(n):
        doc_of[slot] = docs[slot]
        for c in range(3):
            averages[slot, c] = floats[slot * 3 + c]
    for i in range(len(keys)):
        entry = find_entry(words, entries, keys[i])
        if entry == NO_ENTRY:
            continue
        form = form_of(entry)
        for slot in range(n):
            if form == EXACT:
                at = np.int64(words[layout.H_ROWS_AT]) + entry * np.int64(words[layout.H_STRIDE])
                held = (words[at + (slot >> 6)] >> np.uint64(slot & 63)) & np.uint64(1) != 0
            elif form == GROUPED:
                at = np.int64(words[layout.H_GROUPED_AT]) + (entry ^ layout.GROUPED_BIT)
                held = is_in_grouped(words, at, (n + 255) // 256, slot)
            else:
                at = np.int64(words[layout.H_RARE_AT]) * 4 + rare_offset(entry)
                held = is_in_rare(words, at, rare_count(entry), slot)
            if held:
                shared[slot] += weights[i]
