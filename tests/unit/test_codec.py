"""Signatures as text and as bytes: there and back, and what is refused."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iqdb_core.codec import (
    HASH_DIGITS,
    SIGNATURE_BYTES,
    from_bytes,
    from_hash,
    to_bytes,
    to_hash,
    validated,
)
from iqdb_core.errors import InvalidHash
from iqdb_core.model import GREY_LIMIT, Signature, is_grey
from tests.fixtures.pictures import golden

finite = st.floats(allow_nan=False, allow_infinity=False)
positions = st.integers(-16383, 16383).filter(bool)


def signature(averages: tuple[float, float, float], signed: list[int]) -> Signature:
    return Signature(averages, struct.pack("<120h", *signed))


signatures = st.builds(
    signature, st.tuples(finite, finite, finite), st.lists(positions, min_size=120, max_size=120)
)
SAMPLE = signature((0.5, -0.25, 0.125), [*range(1, 61), *range(-60, 0)])


def bits(values: tuple[float, ...]) -> bytes:
    """Return floats as bytes, so that -0.0 is not 0.0."""
    return struct.pack(f"{len(values)}d", *values)


@given(signatures)
def test_text_there_and_back(original: Signature) -> None:
    for prefix in (True, False):
        again = from_hash(to_hash(original, prefix=prefix))
        assert bits(again.averages) == bits(original.averages)
        assert again.positions == original.positions


@given(signatures)
def test_bytes_there_and_back(original: Signature) -> None:
    raw = to_bytes(original)
    assert len(raw) == SIGNATURE_BYTES == 264
    again = from_bytes(raw)
    assert bits(again.averages) == bits(original.averages)
    assert again.positions == original.positions


@given(st.sampled_from([text for _, text in golden()]))
def test_hashes_of_iqdb_there_and_back(text: str) -> None:
    assert to_hash(from_hash(text)) == text
    assert to_hash(from_hash(text), prefix=False) == text.removeprefix("iqdb_")
    assert from_hash(text.upper().replace("IQDB_", "iqdb_")) == from_hash(text)


def test_the_text_is_big_endian_and_the_bytes_are_little_endian() -> None:
    text = to_hash(SAMPLE, prefix=False)
    assert len(text) == HASH_DIGITS == 528
    assert text.startswith("3fe0000000000000bfd00000000000003fc000000000000000010002")
    assert text.endswith("fffeffff")
    raw = to_bytes(SAMPLE)
    assert raw.startswith(struct.pack("<ddd", 0.5, -0.25, 0.125) + b"\1\0\2\0")
    assert raw.endswith(b"\xfe\xff\xff\xff")


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:-1],
        lambda text: text + "0",
        lambda text: text[:-1] + "g",
        lambda text: text[:-1] + " ",
        lambda text: " " + text[1:],
        lambda text: text + "\n",
        lambda text: "iqdb_" + text,
        lambda text: text.replace("iqdb_", "IQDB_"),
        lambda text: text.replace("iqdb_", "0x"),
        lambda _: "iqdb_" + "\N{FULLWIDTH DIGIT ONE}" * 528,
        lambda _: "",
        lambda _: "iqdb_",
        lambda text: text[: 5 + 48] + "0000" + text[5 + 52 :],
        lambda text: text[: 5 + 48] + "4000" + text[5 + 52 :],
        lambda text: text[: 5 + 48] + "c000" + text[5 + 52 :],
        lambda text: text[: 5 + 48] + "8000" + text[5 + 52 :],
        lambda text: text[:-4] + "7fff",
        lambda text: text[:-2] + "  ",
        lambda text: text[:-4] + "\n001",
        lambda text: text[:-1] + "\u0661",
        lambda text: "iqdb_7ff0000000000000" + text[21:],
        lambda text: "iqdb_fff0000000000000" + text[21:],
        lambda text: "iqdb_7ff8000000000000" + text[21:],
    ],
)
def test_anything_else_is_no_hash(change: object) -> None:
    with pytest.raises(InvalidHash, match="hash"):
        from_hash(change(to_hash(SAMPLE)))  # type: ignore[operator]


@given(st.text(max_size=600))
def test_no_other_text_is_a_hash(text: str) -> None:
    with pytest.raises(InvalidHash):
        from_hash(text)


# Any three numbers with positions that can be: most of them are signatures.
likely = st.builds(
    lambda averages, signed: averages + struct.pack("<120h", *signed),
    st.binary(min_size=24, max_size=24),
    st.lists(positions, min_size=120, max_size=120),
)


@given(st.binary(max_size=300) | st.binary(min_size=264, max_size=264) | likely)
def test_no_bytes_do_more_than_be_refused(raw: bytes) -> None:
    try:
        read = from_bytes(raw)
    except InvalidHash:
        return
    assert to_bytes(read) == raw


@pytest.mark.parametrize("length", [0, 263, 265])
def test_binary_signatures_have_one_length(length: int) -> None:
    with pytest.raises(InvalidHash, match="264"):
        from_bytes(bytes(length))


@pytest.mark.parametrize(
    ("averages", "raw"),
    [
        ((0.0, 0.0), SAMPLE.positions),
        ((0.0, 0.0, 0.0, 0.0), SAMPLE.positions),
        ((0.0, math.nan, 0.0), SAMPLE.positions),
        ((0.0, 0.0, math.inf), SAMPLE.positions),
        ((0.0, 0.0, 0.0), SAMPLE.positions[:-2]),
        ((0.0, 0.0, 0.0), b""),
        ((0.0, 0.0, 0.0), SAMPLE.positions[:-2] + b"\0\0"),
        ((0.0, 0.0, 0.0), SAMPLE.positions[:-2] + struct.pack("<h", 16384)),
        ((0.0, 0.0, 0.0), SAMPLE.positions[:-2] + struct.pack("<h", -16384)),
        ((0.0, 0.0, 0.0), SAMPLE.positions[:-2] + struct.pack("<h", -32768)),
    ],
)
def test_parts_that_make_no_signature(averages: tuple[float, ...], raw: bytes) -> None:
    with pytest.raises(InvalidHash):
        validated(averages, raw)


def test_repeated_and_unsorted_positions_are_kept() -> None:
    """IQDB accepts them; they count once where scores are computed."""
    odd = signature((0.0, 0.0, 0.0), [5] * 60 + [16383, -16383] * 30)
    assert from_hash(to_hash(odd)).positions == odd.positions


def test_positions_are_read_only_rows_per_channel() -> None:
    rows = SAMPLE.signed_positions()
    assert rows.shape == (3, 40)
    assert rows.dtype == np.int16
    assert rows[0].tolist() == list(range(1, 41))
    assert not rows.flags.writeable


@pytest.mark.parametrize(
    ("averages", "grey"),
    [
        ((0.5, 0.0, 0.0), True),
        ((0.5, GREY_LIMIT, 0.0), False),
        ((0.5, -0.003, 0.0029), True),
        ((0.5, 0.003, -0.0031), False),
        ((0.0, 0.0, 0.0), True),
    ],
)
def test_grey_is_decided_by_i_and_q_alone(averages: tuple[float, float, float], grey: bool) -> None:
    assert signature(averages, [1] * 120).is_grey is grey


@given(finite | st.floats(-0.007, 0.007), finite | st.floats(-0.007, 0.007))
def test_grey_is_decided_by_the_sum_even_for_huge_averages(i_average: float, q_average: float) -> None:
    """Also where the sum of both is more than a float holds, which numpy would warn of."""
    grey = is_grey(np.array([i_average]), np.array([q_average]))
    assert grey.tolist() == [abs(i_average) + abs(q_average) < GREY_LIMIT]


def test_images_of_the_largest_averages_are_not_grey() -> None:
    largest = np.array([np.finfo(np.float64).max])
    assert not is_grey(largest, -largest).any()
