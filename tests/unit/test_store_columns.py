"""The fast checks of raw rows agree with obvious ones."""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iqdb_core.model import ChangeBatch
from iqdb_core.store import columns
from tests.fixtures.stores import signature
from tests.naive_store import as_changes


def naive_is_signature(row: columns.RawImage) -> bool:
    *averages, blob = row
    if not all(type(value) is float and math.isfinite(value) for value in averages):
        return False
    if type(blob) is not bytes or len(blob) != 240:
        return False
    return all(1 <= abs(position) <= 16383 for position in struct.unpack("<120h", blob))


def naive_digest(averages: tuple[float, ...], positions: bytes) -> int:
    words = struct.unpack("<33Q", struct.pack("<3d", *averages) + positions)
    total = sum(word * ((0x9E3779B97F4A7C15 * (place + 1)) | 1) for place, word in enumerate(words))
    return (total % 2**64) >> 32


POSITIONS = st.builds(
    lambda number, place, value: (
        signature(number).positions[: 2 * place] + value + signature(number).positions[2 * place + 2 :]
    ),
    st.integers(0, 5),
    st.integers(0, 119),
    st.sampled_from(
        [
            b"\x01\x00",
            b"\xff\x3f",
            b"\x01\xc0",
            b"\x00\x00",
            b"\x00\x40",
            b"\x00\x80",
            b"\x00\xc0",
            b"",
            b"\x01",
        ]
    ),
)
AVERAGES = st.one_of(st.floats(), st.just(0.5), st.sampled_from([None, 1, "0.5"]))
ROWS: st.SearchStrategy[Any] = st.one_of(
    st.tuples(
        AVERAGES,
        AVERAGES,
        AVERAGES,
        st.one_of(POSITIONS, st.none(), st.text(max_size=3), st.binary(max_size=3)),
    ),
    st.builds(lambda number: (*signature(number).averages, signature(number).positions), st.integers(0, 20)),
    st.just((None, None, None, None)),
)


@given(st.lists(ROWS, max_size=12))
def test_rows_become_columns_as_obviously_as_one_by_one(rows: list[Any]) -> None:
    valid = [naive_is_signature(row) for row in rows]
    assert columns.are_signatures(rows) == valid
    assert [columns.is_signature(row) for row in rows] == valid
    batch = columns.to_batch([(seq, 100 + seq, *row) for seq, row in enumerate(rows, 1)])
    changes = as_changes(batch)
    assert [(seq, image_id) for seq, image_id, _ in changes] == [
        (seq, 100 + seq) for seq in range(1, len(rows) + 1)
    ]
    for row, is_valid, (_, _, found) in zip(rows, valid, changes, strict=True):
        assert (found is not None) == is_valid
        if found is not None:
            assert (*found.averages, found.positions) == row


@given(
    st.lists(
        st.tuples(st.booleans(), st.floats(), POSITIONS.filter(lambda blob: len(blob) == 240)), min_size=1
    )
)
def test_packed_columns_are_checked_alike(rows: list[tuple[bool, float, bytes]]) -> None:
    batch = ChangeBatch(
        np.arange(1, len(rows) + 1),
        np.arange(len(rows)),
        np.array([live for live, _, _ in rows]),
        np.array([[average if live else 0.0, 0.1, 0.2] if live else [0.0] * 3 for live, average, _ in rows]),
        np.array([np.frombuffer(blob, "<i2") * live for live, _, blob in rows], np.int16).reshape(-1, 3, 40),
    )
    found = as_changes(columns.without_invalid(batch))
    for (live, average, blob), (_, _, image) in zip(rows, found, strict=True):
        assert (image is not None) == (live and naive_is_signature((average, 0.1, 0.2, blob)))
        if image is not None:
            assert (image.averages[0], image.positions) == (average, blob)


@pytest.mark.parametrize("number", range(20))
def test_digests_agree_with_their_definition(number: int) -> None:
    found = signature(number)
    averages = np.array([found.averages])
    assert columns.digests(averages, found.signed_positions()[None]) == [
        naive_digest(found.averages, found.positions)
    ]


def test_the_digest_is_the_one_that_stores_were_written_with() -> None:
    positions = np.arange(1, 121, dtype="<i2").reshape(1, 3, 40)
    assert columns.digests(np.array([[0.5, -0.25, 0.125]]), positions) == [3246921914]


def test_joining_batches_keeps_their_order() -> None:
    rows = [(seq, seq, *signature(seq).averages, signature(seq).positions) for seq in range(1, 7)]
    whole = columns.to_batch(rows)
    for cut in range(7):
        joined = columns.join_batches(
            [batch for batch in (columns.to_batch(rows[:cut]), columns.to_batch(rows[cut:])) if len(batch)]
        )
        assert as_changes(joined) == as_changes(whole)
    assert len(columns.join_batches([])) == 0
