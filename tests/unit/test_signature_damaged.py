"""Damaged files: a JPEG means to us what it means to IQDB, the others what browsers show of them."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from iqdb_core.codec import to_hash
from iqdb_core.errors import CorruptImage, ImageError
from iqdb_core.signature import DecodeLimits, ReadImage, from_image_bytes, read_image
from iqdb_core.signature.decoders.gif import unpack_lzw
from tests.fixtures.decoded import pixels
from tests.fixtures.hostile import png_chunk
from tests.fixtures.pictures import IMAGES, colours, damaged_variant, encoded, format_files, golden_damaged

DAMAGED = IMAGES / "damaged"
WHOLE_JPEG = "jpeg_short_jfif_segment.jpg"


def read(name: str) -> ReadImage:
    """Read one of the damaged files."""
    return read_image((DAMAGED / name).read_bytes())


@pytest.mark.parametrize(
    ("name", "cut", "text"), [pytest.param(*row, id=f"{row[0]} {row[1]}") for row in golden_damaged()]
)
def test_a_damaged_jpeg_has_iqdbs_hash_to_the_bit(name: str, cut: str, text: str) -> None:
    image = read_image(damaged_variant((IMAGES / name).read_bytes(), cut))
    assert to_hash(image.signature) == text
    assert image.is_damaged == cut.startswith(("minus", "cut"))


@pytest.mark.parametrize("name", ["jpeg_without_eoi.jpg", "jpeg_last_byte_missing.jpg"])
def test_a_jpeg_that_lacks_its_end_is_the_whole_picture(name: str) -> None:
    assert read(name) == ReadImage(read(WHOLE_JPEG).signature, is_damaged=True)


@pytest.mark.parametrize("percent", [50, 98])
def test_an_end_marker_after_the_cut_changes_nothing(percent: int) -> None:
    image = read(f"jpeg_cut_{percent}pct.jpg")
    assert image == read(f"jpeg_cut_{percent}pct_plus_eoi.jpg")
    assert image.is_damaged


def test_the_missing_part_of_a_jpeg_is_grey() -> None:
    data = encoded(colours(3, (160, 160)), "JPEG", quality=95)
    rows = pixels(data[: len(data) // 2])
    assert (rows[-16:] == 128).all()
    assert (rows[:16] == pixels(data)[:16]).all()


def test_a_grey_corner_is_no_damage() -> None:
    image = colours(3, (160, 160))
    image.paste((128, 128, 128), (80, 80, 160, 160))
    for mode in ("RGB", "L"):
        assert not read_image(encoded(image.convert(mode), "JPEG")).is_damaged
    cmyk = Image.new("CMYK", (40, 40), (127, 127, 127, 127))
    assert not read_image(encoded(cmyk, "JPEG")).is_damaged


@pytest.mark.parametrize("path", [pytest.param(p, id=p.name) for p in format_files()])
def test_whole_files_are_not_called_damaged(path: object) -> None:
    assert not read_image(path.read_bytes()).is_damaged  # type: ignore[attr-defined]


def test_junk_between_segments_and_impossible_lengths_change_nothing() -> None:
    data = (IMAGES / "formats" / "rgb.jpg").read_bytes()
    plain = read_image(data)
    assert data[2:4] == b"\xff\xe0"
    for odd in (
        b"junk",
        b"\xff\xff\xff",
        b"\xff\x01",
        b"\xff\xd3",
        b"\xff\xfe\0\0",
        b"\xff\xe5\0\1",
        b"\xff\0x",
    ):
        assert read_image(data[:2] + odd + data[2:]) == plain
    assert read_image(data + b"behind the picture" * 100) == plain


@pytest.mark.parametrize(
    "name", ["png_without_iend", "png_last_byte_missing", "png_iend_crc_wrong", "png_idat_crc_one_bit"]
)
def test_checksums_and_the_end_of_a_png_refuse_nothing(name: str) -> None:
    whole = (DAMAGED / "png_last_byte_missing.png").read_bytes() + b"\x82"
    assert read_image(whole).is_damaged is False
    assert read(f"{name}.png") == ReadImage(from_image_bytes(whole), is_damaged=True)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "I;16"])
def test_missing_rows_of_a_png_are_white(mode: str) -> None:
    image = colours(2, (70, 64))
    picture = (
        Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
        if mode == "I;16"
        else (image.convert(mode))
    )
    data = encoded(picture, "PNG", compress_level=0)
    begin = data.index(b"IDAT")
    whole, rows = pixels(data), pixels(data[: begin + (len(data) - begin) * 8 // 10])
    there = next(row for row in range(64) if (rows[row:] == 255).all())
    assert 45 <= there <= 54
    assert (rows[:there] == whole[:there]).all()
    with pytest.raises(CorruptImage, match="less than half"):
        read_image(data[: begin + (len(data) - begin) * 4 // 10])


def test_a_png_that_announces_more_rows_than_it_has_is_treated_as_cut() -> None:
    assert read("png_half_the_rows_but_iend.png").is_damaged
    image = np.asarray(colours(2, (32, 30)))
    raw = b"".join(b"\0" + row.tobytes() for row in image[:10])
    with pytest.raises(CorruptImage, match="less than half"):
        read_image(png(32, 30, raw))


def png(
    width: int,
    height: int,
    raw: bytes,
    *,
    kind: tuple[int, int] = (8, 2),
    more: bytes = b"",
    interlaced: bool = False,
) -> bytes:
    """Return a PNG with these inflated bytes, of 24 bits unless `kind` names other bits and colour type."""
    header = struct.pack(">IIBBBBB", width, height, *kind, 0, 0, interlaced)
    parts = (
        png_chunk(b"IHDR", header),
        more,
        png_chunk(b"IDAT", zlib.compress(raw)),
        png_chunk(b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("whitest", [None, 255], ids=["no white", "white"])
@pytest.mark.parametrize("has_transparency", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_missing_rows_are_white_also_where_the_palette_is_full(
    bits: int, whitest: int | None, *, has_transparency: bool
) -> None:
    """As in a picture of the same pixels that has no palette and ends at the same row."""
    random = np.random.default_rng(bits)
    palette = random.integers(0, 90, (1 << bits, 4), dtype=np.uint8)
    if whitest is not None:
        palette[0] = whitest
    if not has_transparency:
        palette[:, 3] = 255
    indices = random.integers(0, 1 << bits, (60, 64))
    digits = np.unpackbits(indices.astype(np.uint8)[:, :, None], axis=2)[:, :, 8 - bits :]
    rows = [b"\0" + np.packbits(row).tobytes() for row in digits]
    plain = [b"\0" + row.tobytes() for row in palette[indices]]
    more = (
        png_chunk(b"PLTE", palette[:, :3].tobytes())
        + png_chunk(b"tRNS", palette[:, 3].tobytes()) * has_transparency
    )
    for n_rows in (60, 59, 37, 30):
        shown = png(64, 60, b"".join(rows[:n_rows]), kind=(bits, 3), more=more)
        twin = png(64, 60, b"".join(plain[:n_rows]), kind=(8, 6))
        assert (pixels(shown) == pixels(twin)).all()
        assert (pixels(shown)[n_rows:] == 255).all()
        assert read_image(shown) == read_image(twin)
        assert read_image(shown).is_damaged == (n_rows < 60)
    with pytest.raises(CorruptImage, match="less than half"):
        read_image(png(64, 60, b"".join(rows[:28]), kind=(bits, 3), more=more))


@pytest.mark.parametrize("has_transparency", [False, True])
def test_missing_rows_of_a_sideways_picture_with_a_full_palette_are_white(*, has_transparency: bool) -> None:
    picture = colours(5, (64, 60)).quantize(256)
    palette = np.minimum(np.array(picture.getpalette()), 200).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    more = png_chunk(b"PLTE", palette.tobytes()) + png_chunk(b"tRNS", bytes((0, 100))) * has_transparency
    more += png_chunk(b"eXIf", exif.tobytes()[6:])
    rows = [b"\0" + row.tobytes() for row in np.asarray(picture)]
    whole, cut = (pixels(png(64, 60, b"".join(rows[:n]), kind=(8, 3), more=more)) for n in (60, 40))
    assert whole.shape == cut.shape == (64, 60, 3)
    assert (cut[:, 20:] == whole[:, 20:]).all()
    assert (cut[:, :20] == 255).all()
    assert not (whole[:, :20] == 255).all()


def test_missing_rows_of_an_interlaced_png_look_like_those_above() -> None:
    image = np.asarray(colours(2, (33, 31)))
    steps = ((0, 8, 0, 8), (4, 8, 0, 8), (0, 4, 4, 8), (2, 4, 0, 4), (0, 2, 2, 4), (1, 2, 0, 2), (0, 1, 1, 2))
    rows = [b"\0" + row.tobytes() for x, dx, y, dy in steps for row in image[y::dy, x::dx]]
    assert (pixels(png(33, 31, b"".join(rows), interlaced=True)) == image).all()
    cut = pixels(png(33, 31, b"".join(rows[:-5]), interlaced=True))
    expected = image.copy()
    expected[21::2] = image[20:-1:2]
    assert (cut == expected).all()
    with pytest.raises(CorruptImage, match="less than half"):
        read_image(png(33, 31, b"".join(rows[:-17]), interlaced=True))


def test_of_a_png_with_a_damaged_header_or_palette_nothing_is_guessed() -> None:
    data = encoded(colours(2, (40, 30)).convert("P"), "PNG", transparency=3)
    for name in (b"IHDR", b"PLTE", b"tRNS"):
        at = data.index(name) + 5
        with pytest.raises(CorruptImage, match="checksum"):
            read_image(data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :])


def test_a_png_whose_palette_is_missing_is_no_black_picture() -> None:
    data = encoded(colours(2, (40, 30)).convert("P"), "PNG")
    at = data.index(b"PLTE") - 4
    length = int.from_bytes(data[at : at + 4], "big") + 12
    with pytest.raises(CorruptImage, match="palette"):
        read_image(data[:at] + data[at + length :])


def test_an_animation_without_its_default_image_shows_its_first_frame() -> None:
    image = read("apng_default_image_outside_animation.png")
    whole = (DAMAGED / "png_last_byte_missing.png").read_bytes() + b"\x82"
    assert image == read_image(whole)


def test_a_gif_is_read_as_far_as_it_goes() -> None:
    short, cut, rows = (
        read(f"{name}.gif") for name in ("gif_lzw_tail_2_bytes_short", "gif_cut_3_bytes", "gif_cut_95pct")
    )
    assert short.is_damaged
    assert cut.is_damaged
    assert rows.is_damaged


@pytest.mark.parametrize("is_interlaced", [False, True])
@pytest.mark.parametrize("mode", ["P", "L", "1"])
def test_missing_rows_of_a_gif(mode: str, is_interlaced: bool) -> None:
    data = encoded(colours(2, (60, 64)).convert(mode), "GIF", interlace=is_interlaced)
    whole = pixels(data)
    begin = 13 + (3 << (data[10] & 7) + 1)
    rows = pixels(data[: begin + (len(data) - begin) * 85 // 100])
    same = (rows == whole).all(axis=(1, 2))
    if is_interlaced:
        for row in np.flatnonzero(~same):
            assert (rows[row] == rows[row - 1]).all()
        assert 32 <= same.sum() < 64
    else:
        there = int(same.argmin())
        assert 32 <= there < 64
        assert (rows[there:] == 255).all()
    with pytest.raises(CorruptImage, match="less than half"):
        read_image(data[: begin + (len(data) - begin) * 3 // 10])


@pytest.mark.parametrize("bits", [2, 3, 5, 8])
@pytest.mark.parametrize("pixels_count", [1, 300, 60_000])
def test_lzw_is_unpacked_as_pillow_packs_it(bits: int, pixels_count: int) -> None:
    values = np.random.default_rng(bits).integers(0, 1 << bits, pixels_count).astype(np.uint8)
    values[pixels_count // 3 : pixels_count // 2] = 1
    image = Image.frombytes("P", (pixels_count, 1), values.tobytes())
    image.putpalette(bytes(range(256)) * 3)
    data = encoded(image, "GIF", optimize=False)
    begin = data.index(b",", 13 + 768 if data[10] & 7 == 7 else 13) + 10
    blocks, at = b"", begin + 1
    while data[at]:
        blocks += data[at + 1 : at + 1 + data[at]]
        at += 1 + data[at]
    out = np.zeros(pixels_count, np.uint8)
    assert unpack_lzw(np.frombuffer(blocks, np.uint8), data[begin], out) == pixels_count
    assert (out == values).all()


def test_damaged_pictures_can_be_refused() -> None:
    limits = DecodeLimits(refuse_damaged=True)
    for name in ("jpeg_cut_50pct.jpg", "png_cut_90pct.png", "gif_cut_95pct.gif"):
        with pytest.raises(CorruptImage, match="damaged"):
            read_image((DAMAGED / name).read_bytes(), limits=limits)
    assert not read_image((DAMAGED / WHOLE_JPEG).read_bytes(), limits=limits).is_damaged


SMALL = [path.read_bytes() for path in format_files() if path.stat().st_size < 30_000]


@given(
    st.sampled_from(SMALL),
    st.floats(0, 1),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=5),
)
def test_any_cut_and_any_flips_end_in_a_signature_or_an_error(
    data: bytes, kept: float, flips: list[tuple[float, int]]
) -> None:
    altered = bytearray(data[: 1 + int(kept * len(data))])
    for place, value in flips:
        altered[int(place * len(altered))] = value
    words = ""
    try:
        read_image(bytes(altered), limits=DecodeLimits(max_pixels=4_000_000))
    except ImageError as error:
        words = str(error)
    assert "Error" not in words
    assert "object" not in words


def animation(form: str, **options: object) -> bytes:
    """Return a small animation of three frames, or as many pages."""
    first, *others = (colours(seed, (24, 20)).convert("P") for seed in (1, 2, 3))
    return encoded(first, form, save_all=True, append_images=others, **options)


@given(st.data())
def test_every_truncation_of_an_animation_is_noticed(data: st.DataObject) -> None:
    form, options = data.draw(
        st.sampled_from([("GIF", {"loop": 0}), ("GIF", {}), ("PNG", {}), ("WEBP", {"lossless": True})])
    )
    whole = animation(form, **options)
    assert not read_image(whole).is_damaged
    assert read_image(whole + b"\0behind it") == read_image(whole)
    cut = whole[: data.draw(st.integers(1, len(whole) - 1))]
    try:
        image = read_image(cut)
    except ImageError:
        return
    # What ends behind the first frame of a GIF without a loop is a whole picture, as some programs write it.
    assert image.is_damaged or (options == {} and form == "GIF" and cut[-1] == 0)


def test_a_gif_that_is_cut_behind_its_first_frame_keeps_its_hash() -> None:
    whole = animation("GIF", loop=0)
    for missing in (1, 2, 100, 500):
        assert read_image(whole[:-missing]) == ReadImage(from_image_bytes(whole), is_damaged=True)
    with pytest.raises(CorruptImage, match="refused here"):
        read_image(whole[:-100], limits=DecodeLimits(refuse_damaged=True))


def test_a_tiff_whose_next_page_lies_beyond_its_end_is_damaged() -> None:
    whole = animation("TIFF")
    assert not read_image(whole).is_damaged
    first, *_ = struct.unpack_from("<I", whole, 4)
    (count,) = struct.unpack_from("<H", whole, first)
    (second,) = struct.unpack_from("<I", whole, first + 2 + 12 * count)
    for end in (second, second + 1, second + 20):
        assert read_image(whole[:end]) == ReadImage(from_image_bytes(whole), is_damaged=True)


def test_a_single_picture_without_the_mark_of_the_end_is_whole() -> None:
    whole = encoded(colours(1, (24, 20)).convert("P"), "GIF")
    assert whole[-1:] == b";"
    for tail in (b"", b"\0\0\0", b";;", b";,half a block"):
        assert read_image(whole[:-1] + tail) == read_image(whole)
