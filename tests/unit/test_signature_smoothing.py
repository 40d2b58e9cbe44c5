"""Progressive JPEGs that end too early: smoothed as IQDB's decoder does, and recognised."""

from __future__ import annotations

import contextlib
import zlib

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from iqdb_core.errors import ImageError
from iqdb_core.signature import container, read_image
from iqdb_core.signature.decoders import jpeg
from iqdb_core.signature.decoders.dc_codes import read_averages
from iqdb_core.signature.decoders.dc_layout import NotRewritten
from iqdb_core.signature.decoders.dc_scans import frame_of, with_copied_rows
from iqdb_core.signature.decoders.dc_writing import packed_averages
from iqdb_core.signature.picture import DecodeLimits
from tests import naive_averages
from tests.fixtures.pictures import IMAGES, golden_progressive

FOLDER = IMAGES / "progressive"
FILES = {path.name: path.read_bytes() for path in sorted(FOLDER.iterdir())}
END = b"\xff\xd9"


def decoded(data: bytes) -> tuple[np.ndarray, bool]:
    """Return the pixels as the decoder has them, and whether the file is called damaged."""
    loaded = jpeg.load(container.read(data))
    return np.asarray(loaded.image), loaded.is_damaged


@pytest.mark.parametrize(
    ("name", "kept", "checksum"),
    [pytest.param(*row, id=f"{row[0]} {row[1]}") for row in golden_progressive()],
)
def test_what_is_left_of_a_progressive_jpeg_has_the_pixels_of_iqdbs_decoder(
    name: str, kept: int, checksum: int
) -> None:
    for end in (b"", END):
        pixels, is_damaged = decoded(FILES[name][:kept] + end)
        assert is_damaged
        assert zlib.crc32(pixels.tobytes()) == checksum


@pytest.mark.parametrize("name", FILES)
def test_whole_files_with_any_order_of_scans_are_not_called_damaged(name: str) -> None:
    pixels, is_damaged = decoded(FILES[name])
    assert not is_damaged
    behind, is_damaged = decoded(FILES[name] + b"behind the picture \xff\xda" * 9)
    assert not is_damaged
    assert (behind == pixels).all()


@pytest.mark.parametrize("name", FILES)
def test_whole_files_are_decoded_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(jpeg, "_Decoder", lambda still, kind=jpeg._Decoder: made.append(1) or kind(still))
    decoded(FILES[name])
    assert len(made) == 1


@given(st.sampled_from(sorted(set(FILES) - {"wide.jpg", "grey.jpg"})), st.floats(0, 1))
def test_averages_that_are_written_anew_without_a_change_change_nothing(name: str, kept: float) -> None:
    data = FILES[name]
    begin = data.index(b"\xff\xda") + 14
    still = container.read(data[: begin + int(kept * (len(data) - begin - 2))])
    frame = frame_of(still.data)
    assert frame is not None
    anew = with_copied_rows(still.data, frame, {0: 0})
    try:
        before = np.asarray(jpeg._of_height(still, still.data, still.canvas[1]))  # type: ignore[index]
    except OSError:  # a table is cut
        with pytest.raises(OSError, match="broken"):
            jpeg._of_height(still, anew, still.canvas[1])  # type: ignore[index]
        return
    assert (before == np.asarray(jpeg._of_height(still, anew, still.canvas[1]))).all()  # type: ignore[index]


def test_more_scans_or_restarts_than_encoders_write_are_left_as_they_are() -> None:
    data = FILES["usual.jpg"]
    frame = frame_of(data)
    assert frame is not None
    scan = data.index(b"\xff\xda")
    second = data.index(b"\xff\xc4", scan + 2)
    many = data[:second] + data[scan:second] * 16 + data[second:]
    with pytest.raises(NotRewritten):
        with_copied_rows(many, frame, {0: 1})
    cut = many[: len(many) // 2]
    assert decoded(cut)[1]
    with pytest.raises(NotRewritten):  # restarts where none were announced
        with_copied_rows(data[: scan + 40] + b"\xff\xd0" + data[scan + 40 :], frame, {0: 1})


def test_arithmetic_codes_that_end_too_early_are_read() -> None:
    data = (FOLDER.parent / "damaged" / "jpeg_arithmetic.jpg").read_bytes()
    assert not read_image(data).is_damaged
    cut, is_damaged = decoded(data[: len(data) * 6 // 10])
    assert is_damaged
    assert (cut[:16] == decoded(data)[0][:16]).all()


@given(st.binary(max_size=40), st.integers(0, 30), st.sampled_from([[0], [0, 0, 1], [1, 0, 0, 0, 0]]))
def test_averages_are_read_as_the_plain_reader_reads_them(
    packed: bytes, groups: int, owners: list[int]
) -> None:
    lengths = ([2, 3, 3, 3, 3, 3, 4, 5, 6, 7, 8, 9], [1, 2, 4, 4, 4])
    codes: list[dict[str, int]] = []
    tables = np.zeros((2, 1 << 16), np.uint16)
    for own, of_categories in enumerate(lengths):
        codes.append({})
        filled = 0
        for category, length in enumerate(of_categories):
            codes[own][f"{filled >> (16 - length):0{length}b}"] = category
            tables[own, filled : filled + (1 << (16 - length))] = length << 8 | category
            filled += 1 << (16 - length)
    bits = "".join(f"{byte:08b}" for byte in packed)
    expected = naive_averages.read_averages(bits, codes, owners, groups)
    out = np.zeros(groups * len(owners), np.int32)
    got = read_averages(np.frombuffer(packed, np.uint8), tables, np.array(owners), np.zeros(2, np.int64), out)
    if expected is None:
        assert got == -1
    else:
        assert (got, out.tolist()) == expected


@given(
    st.lists(st.integers(-2047, 2047), min_size=1, max_size=60),
    st.integers(0, 7),
    st.none() | st.integers(0, 59),
)
@example([0], 0, 0)  # a lone 0 is its code and nothing more
@example([5, 0], 1, 1)
@example([0, 0, 0], 0, 2)
def test_averages_that_are_written_are_read_again(
    values: list[int], interval: int, ends_in: int | None
) -> None:
    averages = np.array(values, np.int32)
    there = None if ends_in is None else ends_in % len(values)
    start = there - there % interval if there is not None and interval else 0
    if there is not None:  # as it is where data ends: the last bit of the group is 0
        before = int(averages[there - 1]) if there > start else 0
        averages[there] = before + 2 * (abs(int(averages[there])) // 2)
    owners = np.zeros(1, np.int64)
    coded = packed_averages(averages, owners, interval, there)
    table = np.zeros((1, 1 << 16), np.uint16)
    content, filled = coded.table(0)[5:], 0
    for place, category in enumerate(content[16:]):
        length = next(n for n in range(1, 17) if sum(content[:n]) > place)
        table[0, filled : filled + (1 << (16 - length))] = length << 8 | category
        filled += 1 << (16 - length)
    pieces = [piece.replace(b"\xff\0", b"\xff") for piece in split_at_restarts(coded.pixels)]
    for place, piece in enumerate(pieces):
        begin = place * interval
        part = averages[begin : begin + interval] if interval else averages
        out = np.zeros(len(part), np.int32)
        done = read_averages(np.frombuffer(piece, np.uint8), table, owners, np.zeros(1, np.int64), out)
        if there is not None and place == len(pieces) - 1:
            assert done == there - begin
            assert (out[: done + 1] == part[: done + 1]).all()
        else:
            assert done == len(part)
            assert (out == part).all()


def split_at_restarts(pixels: bytes) -> list[bytes]:
    pieces, begin = [], 0
    for at in range(len(pixels) - 1):
        if pixels[at] == 0xFF and 0xD0 <= pixels[at + 1] <= 0xD7:
            pieces.append(pixels[begin:at])
            begin = at + 2
    return [*pieces, pixels[begin:]]


@given(
    st.sampled_from(sorted(FILES)), st.floats(0, 1), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)))
)
def test_any_changed_bytes_end_in_a_picture_or_an_error(
    name: str, kept: float, flips: list[tuple[float, int]]
) -> None:
    altered = bytearray(FILES[name][: 1 + int(kept * len(FILES[name]))])
    for place, value in flips:
        altered[int(place * (len(altered) - 1))] = value
    with contextlib.suppress(ImageError):
        read_image(bytes(altered), limits=DecodeLimits(max_pixels=1_000_000))
