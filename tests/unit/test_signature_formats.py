"""Every format and kind of pixels, by what it means: a picture is the same however it is stored."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from iqdb_core.errors import CorruptImage, UnsupportedFormat
from iqdb_core.model import Signature
from iqdb_core.signature import from_image_bytes
from tests.fixtures import hostile
from tests.fixtures.decoded import pixels
from tests.fixtures.hostile import png_chunk
from tests.fixtures.pictures import IMAGES, colours, encoded, format_files, photos

FORMATS = IMAGES / "formats"


def flattened(image: Image.Image) -> np.ndarray:
    """Return what Pillow makes of an image on white."""
    rgba = image.convert("RGBA")
    white = Image.new("RGBA", rgba.size, "white")
    return np.asarray(Image.alpha_composite(white, rgba).convert("RGB"))


def soft(size: tuple[int, int] = (90, 70)) -> Image.Image:
    """Return a picture that becomes transparent from left to right."""
    image = colours(5, size).convert("RGBA")
    image.putalpha(Image.linear_gradient("L").rotate(90).resize(size))
    return image


def grey16(size: tuple[int, int] = (60, 50)) -> tuple[Image.Image, np.ndarray]:
    """Return a 16-bit grey picture and its 8-bit version."""
    values = np.random.default_rng(2).integers(0, 65536, size[::-1]).astype(np.uint16)
    return Image.fromarray(values), (values >> 8).astype(np.uint8)


@pytest.mark.parametrize("path", [pytest.param(p, id=p.name) for p in [*format_files(), *photos()]])
def test_every_good_file_is_read_as_pillow_shows_it(path: Path) -> None:
    data = path.read_bytes()
    with Image.open(io.BytesIO(data)) as image:
        if image.mode == "I;16":
            expected = np.repeat((np.asarray(image) >> 8).astype(np.uint8)[:, :, None], 3, axis=2)
        else:
            expected = flattened(image) if image.has_transparency_data else np.asarray(image.convert("RGB"))
        if path.name == "cmyk_noadobe.jpg":  # full ink by its structure, and so to IQDB
            expected = np.zeros_like(expected)
        if image.mode == "CMYK" and image.format == "JPEG":  # converted as IQDB does; see the golden hashes
            assert np.abs(pixels(data).astype(int) - expected).max() <= 1
            return
    assert np.array_equal(pixels(data), expected)


LOSSLESS: dict[str, Callable[[Image.Image], bytes]] = {
    "png": lambda image: encoded(image, "PNG"),
    "interlaced or not, png decodes": lambda image: encoded(image, "PNG", optimize=True),
    "bmp": lambda image: encoded(image, "BMP"),
    "webp": lambda image: encoded(image, "WEBP", lossless=True),
    "tiff": lambda image: encoded(image, "TIFF"),
    "tiff lzw": lambda image: encoded(image, "TIFF", compression="tiff_lzw"),
    "tiff deflate": lambda image: encoded(image, "TIFF", compression="tiff_adobe_deflate"),
    "tiff packbits": lambda image: encoded(image, "TIFF", compression="packbits"),
    "tiff big": lambda image: encoded(image, "TIFF", big_tiff=True),
    "jpeg 2000": lambda image: encoded(image, "JPEG2000"),
    "jpeg 2000 bare": lambda image: encoded(image, "JPEG2000", no_jp2=True),
    "pixmap": lambda image: encoded(image, "PPM"),
    "targa": lambda image: encoded(image, "TGA"),
    "targa rle": lambda image: encoded(image, "TGA", compression="tga_rle"),
}


@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_formats_show_the_same_pixels(name: str) -> None:
    image = colours(1, (97, 61))
    assert np.array_equal(pixels(LOSSLESS[name](image)), np.asarray(image))


@pytest.mark.parametrize("name", ["png", "webp", "tiff", "tiff lzw", "targa", "jpeg 2000"])
def test_transparent_pictures_equal_flattened_ones(name: str) -> None:
    image = soft()
    assert np.array_equal(pixels(LOSSLESS[name](image)), flattened(image))


def test_avif_is_close_with_and_without_transparency() -> None:
    for image in (colours(3, (200, 150)), soft((200, 150))):
        shown = pixels(encoded(image, "AVIF", quality=95)).astype(int)
        assert np.abs(shown - flattened(image)).mean() < 8  # another picture: 60


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P"])
@pytest.mark.parametrize("image_format", ["PNG", "TIFF", "BMP", "TGA", "GIF"])
def test_grey_palette_and_bilevel(mode: str, image_format: str) -> None:
    if (mode, image_format) in {("LA", "BMP"), ("LA", "GIF"), ("1", "TGA")}:
        return  # these formats have no such pixels
    image = soft().convert("LA") if mode == "LA" else colours(4, (70, 55)).convert(mode)
    expected = flattened(image) if mode == "LA" else np.asarray(image.convert("RGB"))
    assert np.array_equal(pixels(encoded(image, image_format)), expected)


@pytest.mark.parametrize("image_format", ["PNG", "TIFF"])
def test_16_bit_grey_equals_its_8_bit_version(image_format: str) -> None:
    image, low = grey16()
    assert np.array_equal(pixels(encoded(image, image_format)), np.repeat(low[:, :, None], 3, axis=2))


def png(header: bytes, rows: np.ndarray, *extra: bytes) -> bytes:
    """Return a PNG with filter-less rows of bytes; `header` is what follows the size."""
    data = b"".join(b"\0" + row.tobytes() for row in rows)
    width = int(rows.shape[1] * 8 / (header[0] * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[header[1]]))
    size = struct.pack(">II", width, len(rows))
    chunks = [png_chunk(b"IHDR", size + header + b"\0\0\0"), *extra, png_chunk(b"IDAT", zlib.compress(data))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + png_chunk(b"IEND", b"")


@pytest.mark.parametrize(("colour_type", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_16_bit_png_equals_its_8_bit_version(colour_type: int, channels: int) -> None:
    samples = np.random.default_rng(1).integers(0, 65536, (20, 30 * channels)).astype(">u2")
    deep = png(bytes((16, colour_type)), samples.view(np.uint8))
    flat = png(bytes((8, colour_type)), (samples >> 8).astype(np.uint8))
    assert np.array_equal(pixels(deep), pixels(flat))


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_one_grey_of_a_png_may_be_transparent(bits: int) -> None:
    """The transparent value is given in the file's own depth."""
    top = (1 << bits) - 1
    key = top // 3
    samples = np.arange(0, top + 1, max(1, top // 15), dtype=np.uint16)
    samples = np.concatenate([samples, np.array([key] * (16 - len(samples) % 16), np.uint16)])
    if bits < 8:
        spread = (samples[:, None] >> np.arange(bits - 1, -1, -1)) & 1
        row = np.packbits(spread.astype(np.uint8).ravel())
    else:
        row = samples.astype(">u2").view(np.uint8) if bits == 16 else samples.astype(np.uint8)
    shown = pixels(png(bytes((bits, 0)), row[None, :], png_chunk(b"tRNS", struct.pack(">H", key))))[0, :, 0]
    expected = np.where(samples == key, 255, samples >> 8 if bits == 16 else samples * (255 // top))
    assert shown.tolist() == expected.tolist()


@pytest.mark.parametrize("bits", [8, 16])
def test_one_colour_of_a_png_may_be_transparent(bits: int) -> None:
    kind, scale = (">u2", 257) if bits == 16 else ("u1", 1)
    row = (np.array([10, 20, 30, 10, 20, 31, 0, 0, 0]) * scale).astype(kind)
    key = struct.pack(">3H", *(value * scale for value in (10, 20, 30)))
    shown = pixels(png(bytes((bits, 2)), row.view(np.uint8)[None, :], png_chunk(b"tRNS", key)))
    assert shown[0].tolist() == [[255, 255, 255], [10, 20, 31], [0, 0, 0]]


def test_a_palette_may_be_transparent_in_part() -> None:
    palette = png_chunk(b"PLTE", bytes((0, 0, 0, 100, 150, 200, 255, 0, 0)))
    rows = np.array([[0, 1, 2]], np.uint8)
    soft_entries = png(bytes((8, 3)), rows, palette, png_chunk(b"tRNS", bytes((0, 128))))
    assert pixels(soft_entries)[0].tolist() == [[255, 255, 255], [177, 202, 227], [255, 0, 0]]
    one_entry = png(bytes((8, 3)), rows, palette, png_chunk(b"tRNS", bytes((255, 0, 255))))
    assert pixels(one_entry)[0].tolist() == [[0, 0, 0], [255, 255, 255], [255, 0, 0]]


def test_transparency_without_meaning_is_ignored() -> None:
    rows = np.array([[1, 2, 3, 255]], np.uint8)
    assert pixels(png(bytes((8, 6)), rows, png_chunk(b"tRNS", b"\0\1\0\2\0\3")))[0].tolist() == [[1, 2, 3]]
    assert pixels(png(bytes((8, 0)), rows, png_chunk(b"tRNS", b"\0")))[0, 0].tolist() == [1, 1, 1]


def test_fully_transparent_pictures_are_white_whatever_is_underneath() -> None:
    white = from_image_bytes(encoded(Image.new("RGB", (200, 150), "white"), "PNG"))
    assert from_image_bytes((FORMATS / "rgba_fully_transparent.png").read_bytes()) == white


def test_cmyk_looks_like_its_rgb_original() -> None:
    image = colours(6, (120, 90))
    for data in (encoded(image.convert("CMYK"), "JPEG"), encoded(image.convert("CMYK"), "TIFF")):
        assert np.abs(pixels(data).astype(int) - np.asarray(image)).mean() < 6


@pytest.mark.parametrize("image_format", ["GIF", "PNG", "WEBP", "AVIF", "TIFF"])
def test_of_an_animation_the_first_frame_counts(image_format: str) -> None:
    frames = [colours(seed, (64, 48)).quantize(64) for seed in range(3)]
    if image_format != "GIF":
        frames = [frame.convert("RGB") for frame in frames]
    options = {"lossless": True} if image_format == "WEBP" else {}
    data = encoded(frames[0], image_format, save_all=True, append_images=frames[1:], **options)
    with Image.open(io.BytesIO(data)) as image:
        assert len(list(ImageSequence.Iterator(image))) == 3
    difference = np.abs(pixels(data).astype(int) - np.asarray(frames[0].convert("RGB")))
    assert difference.mean() < (12 if image_format == "AVIF" else 0.001)  # another picture: 60


def gif(canvas: tuple[int, int], corner: tuple[int, int], control: bytes = b"") -> bytes:
    """Return a GIF of one red and one blue pixel somewhere on its canvas."""
    palette = bytes((255, 0, 0, 0, 0, 255))
    header = b"GIF89a" + struct.pack("<HHBBB", *canvas, 0x80, 0, 0) + palette
    frame = b"," + struct.pack("<4HB", *corner, 2, 1, 0)
    return header + control + frame + b"\2\2\x44\x0a\0;"


def test_what_a_gif_frame_leaves_uncovered_is_white() -> None:
    shown = pixels(gif((5, 4), (2, 1)))
    expected = np.full((4, 5, 3), 255)
    expected[1, 2:4] = [[255, 0, 0], [0, 0, 255]]
    assert shown.tolist() == expected.tolist()


def test_a_gif_frame_beyond_its_canvas_enlarges_it() -> None:
    assert pixels(gif((1, 1), (2, 1))).shape == (2, 4, 3)
    assert pixels(gif((0, 0), (0, 0))).tolist() == [[[255, 0, 0], [0, 0, 255]]]


def test_a_gif_colour_may_be_transparent_and_disposal_does_not_matter() -> None:
    control = b"!\xf9\4" + bytes((0b1001, 10, 0, 1)) + b"\0"
    assert pixels(gif((2, 1), (0, 0), control)).tolist() == [[[255, 0, 0], [255, 255, 255]]]
    comment = b"!\xfe\5hello\0"
    assert pixels(gif((2, 1), (0, 0), comment + control)).tolist() == [[[255, 0, 0], [255, 255, 255]]]


@pytest.mark.parametrize("bitmap_format", ["png", "bmp"])
def test_an_icon_shows_its_largest_picture(bitmap_format: str) -> None:
    icon = encoded(soft((64, 64)), "ICO", sizes=[(16, 16), (64, 64), (32, 32)], bitmap_format=bitmap_format)
    shown = pixels(icon)
    assert shown.shape == (64, 64, 3)
    assert np.abs(shown.astype(int) - flattened(soft((64, 64)))).mean() < 2


def test_a_photo_with_a_second_picture_behind_it_counts_as_the_first() -> None:
    first, second = colours(1, (80, 60)), colours(2, (80, 60))
    both = encoded(first, "MPO", save_all=True, append_images=[second], quality=90)
    assert np.array_equal(pixels(both), pixels(encoded(first, "JPEG", quality=90)))


def test_content_decides_and_not_what_comes_after_it() -> None:
    for name in ("png_named.jpg", "jpeg_named.png", "trailing_garbage.jpg"):
        assert isinstance(from_image_bytes((FORMATS / name).read_bytes()), Signature)


def test_profiles_and_comments_change_nothing() -> None:
    plain = encoded(colours(1, (60, 40)), "JPEG")
    with Image.open(FORMATS / "icc_srgb.jpg") as image:
        profile = image.info["icc_profile"]
    rich = encoded(colours(1, (60, 40)), "JPEG", icc_profile=profile, comment=b"hello", xmp=b"<x/>")
    assert len(rich) > len(plain)
    assert from_image_bytes(rich) == from_image_bytes(plain)


def test_kinds_of_pixels_without_a_range_are_refused() -> None:
    for mode in ("F", "I", "LAB"):
        with pytest.raises(UnsupportedFormat, match="is not supported"):
            from_image_bytes(encoded(Image.new(mode, (9, 9)), "TIFF"))


def test_kinds_of_files_that_decode_slowly_are_refused() -> None:
    for data in (b"P3\n1 1\n255\n1 2 3\n", b"P5\n1 1\n100\nx", b"P6\n1 1\n65535\nabcdef"):
        with pytest.raises(UnsupportedFormat, match="pixmaps"):
            from_image_bytes(data)


def test_a_pixmap_header_may_hold_comments() -> None:
    assert pixels(b"P6 # made\n# by hand\n2 1\n255\nabcdef")[0].tolist() == [[97, 98, 99], [100, 101, 102]]
    assert pixels(b"P4\n8 1\n\xaa")[0, :, 0].tolist() == [0, 255] * 4


def test_jpegs_of_more_than_8_bits_or_odd_components_are_refused() -> None:
    data = encoded(colours(1, (8, 8)), "JPEG")
    frame = data.index(b"\xff\xc0")
    with pytest.raises(UnsupportedFormat, match="12 bits"):
        from_image_bytes(data[: frame + 4] + b"\x0c" + data[frame + 5 :])
    with pytest.raises(UnsupportedFormat, match="2 components"):
        from_image_bytes(data[: frame + 9] + b"\2" + data[frame + 10 :])


def test_rare_tiff_compression_is_refused() -> None:
    with pytest.raises(UnsupportedFormat, match="50000"):
        from_image_bytes(hostile.grey_tiff(8, 8, bytes(64), t259=(3, [50000])))  # Zstandard


def test_tiles_and_tags_of_a_tiff() -> None:
    """Tags that say nothing about pixels are not looked at; those that do must make sense."""
    tags = ImageFileDirectory_v2()
    tags[270] = "a description"
    tags[700] = b"<x/>"
    image = colours(1, (40, 30))
    assert np.array_equal(pixels(encoded(image, "TIFF", tiffinfo=tags)), np.asarray(image))
    data = encoded(image, "TIFF")
    (directory,) = struct.unpack_from("<I", data, 4)
    twisted = data[: directory + 4] + struct.pack("<H", 2) + data[directory + 6 :]  # a width in letters
    with pytest.raises(CorruptImage, match="tag"):
        from_image_bytes(twisted)
