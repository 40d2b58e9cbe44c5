"""Signatures come back from records to the bit, both forms agree, and no bytes get out of bounds."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iqdb_core.codec import to_bytes
from iqdb_core.index.plain import row_code as plain
from iqdb_core.index.row_code import coding as compiled
from iqdb_core.index.row_code.layout import NO_RANK, PLAIN_BYTES, RANKS, RECORD_WORDS, TABLES, Records
from iqdb_core.index.rows import Signatures
from iqdb_core.model import CHANNELS, KEPT, PLANE
from tests.fixtures.index_rows import cheap_rows, realistic_rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

FORMS = pytest.mark.parametrize("form", [plain, compiled], ids=["plain", "compiled"])


def bits(signatures: Signatures) -> tuple[bytes, bytes]:
    """Return what is equal if and only if every bit is."""
    return signatures.averages.tobytes(), signatures.positions.tobytes()


def positions_in(form: ModuleType, records: Records) -> tuple[np.ndarray, int]:
    positions = np.zeros((len(records.sizes), CHANNELS, KEPT), dtype=np.int16)
    return positions, form.decode(records, positions)


def returned(signatures: Signatures) -> Records:
    """Encode in both forms, which make the same, and decode in both, to the same bits; return the records."""
    records, other = compiled.encode(signatures), plain.encode(signatures)
    assert records.words.tobytes() == other.words.tobytes()
    assert records.sizes.tolist() == other.sizes.tolist()
    for form in (plain, compiled):
        positions, bad = positions_in(form, records)
        assert bad == -1
        averages = records.words[:, :CHANNELS].copy().view(np.float64)
        assert bits(Signatures(averages, positions)) == bits(signatures)
    return records


averages = st.floats(allow_nan=False, allow_infinity=False)
positions = st.one_of(
    st.integers(1, PLANE - 1), st.integers(1 - PLANE, -1), st.sampled_from([1, -1, 128, 16383, -16383, 129])
)
sets = st.lists(positions, min_size=KEPT, max_size=KEPT, unique=True)
channels = st.one_of(
    *[sets.map(sorted)] * 3, sets, st.lists(positions, min_size=KEPT, max_size=KEPT), st.just([5] * KEPT)
)
rows = st.tuples(
    st.lists(averages, min_size=CHANNELS, max_size=CHANNELS),
    st.lists(channels, min_size=CHANNELS, max_size=CHANNELS),
)


@settings(max_examples=100)
@given(st.lists(rows, max_size=3))
def test_any_legal_signature_comes_back_to_the_bit(
    drawn: list[tuple[list[float], list[list[int]]]],
) -> None:
    returned(
        Signatures(
            np.array([row[0] for row in drawn], np.float64).reshape(-1, CHANNELS),
            np.array([row[1] for row in drawn], np.int16).reshape(-1, CHANNELS, KEPT),
        )
    )


@pytest.mark.parametrize("make", [cheap_rows, realistic_rows])
def test_signatures_of_pictures_round_trip_in_fewer_bytes(
    make: Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]],
) -> None:
    records = returned(Signatures(*make(np.random.default_rng(5), 1_000)))
    assert records.sizes.mean() < (PLAIN_BYTES if make is cheap_rows else 130)


def of_ranks(ranks: np.ndarray) -> Signatures:
    """Return one signature that has the positions of these ranks in every channel."""
    return Signatures(
        np.array([[-0.0, 5e-324, -1.7976931348623157e308]]),
        np.tile(np.sort(TABLES.position_of[ranks]), (1, CHANNELS, 1)),
    )


@pytest.mark.parametrize("first", [0, 1, 40, 1000, 24_000, RANKS - KEPT])
@pytest.mark.parametrize("step", [1, 61, 200])
def test_the_most_common_and_the_rarest_positions_come_back(first: int, step: int) -> None:
    records = returned(of_ranks(np.minimum(first, RANKS - 1 - (KEPT - 1) * step) + np.arange(KEPT) * step))
    assert records.sizes[0] <= PLAIN_BYTES


@FORMS
def test_a_signature_without_order_is_stored_as_the_codec_has_it(form: ModuleType) -> None:
    averages, positions = realistic_rows(np.random.default_rng(5), 2)
    positions[1, 2, :2] = positions[1, 2, 1::-1].copy()
    signatures = Signatures(averages, positions)
    records = form.encode(signatures)
    assert records.sizes[0] < PLAIN_BYTES
    assert records.words[1].tobytes() == to_bytes(signatures.signature(1)) + bytes(8)


def test_tables_are_a_permutation() -> None:
    every = [*range(1 - PLANE, 0), *range(1, PLANE)]
    assert sorted(TABLES.position_of.tolist()) == every
    ranks = TABLES.rank_of[np.array(every, np.int16).view(np.uint16)]
    assert (TABLES.position_of[ranks] == every).all()
    assert np.count_nonzero(TABLES.rank_of == NO_RANK) == (1 << 16) - RANKS
    cells, n_bits, rest = TABLES.code_of & 0xFF, TABLES.code_of >> 8 & 0xFF, TABLES.code_of >> 16
    assert (TABLES.first_of[cells] + rest == np.arange(RANKS)).all()
    assert (n_bits == TABLES.bits_of[cells]).all()
    assert (rest < 1 << n_bits).all()
    assert len(TABLES.bits_of) - 1 + KEPT - 1 < 128, (
        "the last of the positions may be in the last of the cells"
    )


def test_the_code_never_changes_within_a_version() -> None:
    """Files of one version are read by every program that knows it."""
    numbers = np.arange(300)[:, None]
    steps = 1 + numbers**2 % 800
    ranks = numbers * 37 % (RANKS - (KEPT - 1) * steps) + np.arange(KEPT) * steps
    positions = np.sort(TABLES.position_of[ranks], axis=1).reshape(-1, CHANNELS, KEPT)
    averages = np.arange(len(positions) * CHANNELS, dtype=np.float64).reshape(-1, CHANNELS)
    records = returned(Signatures(averages, positions))
    assert {size == PLAIN_BYTES for size in records.sizes.tolist()} == {True, False}
    digest = hashlib.sha256(records.words.tobytes() + records.sizes.tobytes()).hexdigest()
    assert digest == "f65f87d345e3ecbb97e23247404776f2881757259bf37971ae25ea2c5edb356b"


def agreed(records: Records) -> None:
    """Check that both forms refuse the same records, or find the same, which are positions."""
    found, bad = positions_in(compiled, records)
    expected, expected_bad = positions_in(plain, records)
    assert bad == expected_bad
    if bad < 0:
        assert found.tobytes() == expected.tobytes()
        assert (TABLES.rank_of[found.view(np.uint16)] < RANKS).all()


@settings(max_examples=300)
@given(st.data())
def test_forged_records_are_refused_or_hold_positions_and_both_forms_agree(data: st.DataObject) -> None:
    n_rows = data.draw(st.integers(1, 5))
    source = Signatures(*realistic_rows(np.random.default_rng(data.draw(st.integers(0, 5))), n_rows))
    records = compiled.encode(source)
    raw = bytearray(records.words.tobytes())
    for _ in range(data.draw(st.integers(0, 6))):
        at = data.draw(st.integers(24, len(raw) - 1))
        raw[at] = data.draw(st.sampled_from([0, 255, 128, 1, raw[at] ^ 16, raw[at] ^ 1]))
    sizes = records.sizes + data.draw(st.sampled_from([0, 0, 0, -1, -40, 1, 300]))
    agreed(Records(np.frombuffer(bytes(raw), np.uint64).reshape(n_rows, RECORD_WORDS), sizes))


@settings(max_examples=200)
@given(st.data())
def test_any_words_are_refused_or_hold_positions(data: st.DataObject) -> None:
    n_rows = data.draw(st.integers(1, 3))
    seed = data.draw(st.integers(0, 2**32 - 1))
    words = np.random.default_rng(seed).integers(0, 2**64, (n_rows, RECORD_WORDS), dtype=np.uint64)
    marks = data.draw(st.lists(st.binary(min_size=48, max_size=48), min_size=n_rows, max_size=n_rows))
    words[:, CHANNELS : CHANNELS + 6] = np.frombuffer(b"".join(marks), np.uint64).reshape(n_rows, 6)
    sizes = st.one_of(st.integers(0, PLAIN_BYTES), st.sampled_from([PLAIN_BYTES, PLAIN_BYTES + 1, -1, 2**40]))
    agreed(Records(words, np.array(data.draw(st.lists(sizes, min_size=n_rows, max_size=n_rows)))))


@FORMS
def test_every_changed_bit_of_a_record_is_refused_or_another_signature(form: ModuleType) -> None:
    """No two records hold the same positions, so damage is never hidden."""
    records = form.encode(Signatures(*realistic_rows(np.random.default_rng(5), 1)))
    first, bad = positions_in(form, records)
    assert bad == -1
    for bit in range(CHANNELS * 64, int(records.sizes[0]) * 8 - 7):
        words = records.words.copy()
        words[0, bit // 64] ^= np.uint64(1 << bit % 64)
        found, bad = positions_in(form, records._replace(words=words))
        assert bad == 0 or found.tobytes() != first.tobytes()
