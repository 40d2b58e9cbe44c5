"""Kinds of files that are rare, and easily read wrongly: right pixels, or a refusal, and no third thing."""

from __future__ import annotations

import io
import random
import shutil
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pillow_heif import from_pillow

from iqdb_core.errors import CorruptImage, ImageError, UnsupportedFormat
from iqdb_core.signature import DecodeLimits, read_image
from iqdb_core.signature.decoders.failure import decoder_errors
from tests.fixtures import hostile
from tests.fixtures.decoded import pixels
from tests.fixtures.pictures import IMAGES, colours, encoded

ROOT = Path(__file__).parents[2]
CONVERT = Path("/usr/bin/convert")


PALETTE = np.random.default_rng(8).integers(0, 256, (256, 3)).astype(np.uint8)


def palette_bytes(count: int, entry: int = 4) -> bytes:
    """Return colours as a BMP has them: blue, green, red and a byte that means nothing."""
    return b"".join(PALETTE[n, ::-1].tobytes() + bytes(entry - 3) for n in range(count))


def bmp(header: bytes, palette: bytes, rows: bytes) -> bytes:
    """Return a BMP file."""
    begin = 14 + len(header) + len(palette)
    return b"BM" + struct.pack("<IHHI", begin + len(rows), 0, 0, begin) + header + palette + rows


def info(size: int, shape: tuple[int, int], bits: int, compression: int = 0, more: bytes = b"") -> bytes:
    """Return a header of at least 40 bytes for a (height, width) picture."""
    height, width = shape
    head = struct.pack("<IiiHHIIiiII", size, width, height, 1, bits, compression, 0, 0, 0, 0, 0)
    return (head + more).ljust(size, b"\0")


def packed_rows(indices: np.ndarray, bits: int) -> bytes:
    """Return rows of indices from the bottom up, filled up to words of 32 bits."""
    rows = []
    for row in indices[::-1]:
        text = "".join(f"{value:0{bits}b}" for value in row)
        text += "0" * (-len(text) % 32)
        rows.append(int(text, 2).to_bytes(len(text) // 8, "big"))
    return b"".join(rows)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("size", [40, 64, 108, 124, 12])
def test_bmps_with_a_palette(bits: int, size: int) -> None:
    indices = np.random.default_rng(bits).integers(0, 1 << bits, (9, 13))
    header = info(size, (9, 13), bits) if size != 12 else struct.pack("<I4H", 12, 13, 9, 1, bits)
    data = bmp(header, palette_bytes(1 << bits, 3 if size == 12 else 4), packed_rows(indices, bits))
    assert (pixels(data) == PALETTE[indices]).all()


@pytest.mark.parametrize(
    ("bits", "masks"),
    [
        (16, (0x0F00, 0x00F0, 0x000F, 0)),
        (16, (0xF800, 0x07E0, 0x001F, 0)),
        (16, (0x0F00, 0x00F0, 0x000F, 0xF000)),
        (32, (0xFF, 0xFF00, 0xFF0000, 0)),
        (32, (0x3FF00000, 0xFFC00, 0x3FF, 0)),
        (32, (0xFF000000, 0xFF0000, 0xFF00, 0xFF)),
    ],
)
def test_bmps_with_bit_fields(bits: int, masks: tuple[int, ...]) -> None:
    values = np.random.default_rng(bits).integers(0, 1 << bits, (6, 8), dtype=np.uint64)
    kind = "<u2" if bits == 16 else "<u4"
    more = struct.pack("<4I", *masks) if masks[3] else struct.pack("<3I", *masks[:3])
    data = bmp(info(56 if masks[3] else 40, (6, 8), bits, 3, more), b"", values[::-1].astype(kind).tobytes())

    def channel(mask: int) -> np.ndarray:
        low = (mask & -mask).bit_length() - 1
        return ((values & np.uint64(mask)) >> np.uint64(low)).astype(float) / (mask >> low)

    alpha = channel(masks[3]) if masks[3] else np.ones((6, 8))
    expected = np.stack([channel(mask) * alpha + 1 - alpha for mask in masks[:3]], axis=2) * 255
    assert np.abs(pixels(data) - expected).max() <= 1


def test_alpha_that_is_nowhere_opaque_means_nothing() -> None:
    values = np.random.default_rng(1).integers(0, 1 << 24, (5, 6)).astype("<u4")
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    data = bmp(info(56, (5, 6), 32, 3, masks), b"", values[::-1].tobytes())
    assert (pixels(data)[:, :, 2] == values & 255).all()


def rle(indices: np.ndarray, bits: int) -> bytes:
    """Pack rows as runs where a value repeats, else literally."""
    out = b""
    for row in indices[::-1]:
        half = len(row) // 2
        runs = [(1, int(value)) for value in row[:half]]
        out += b"".join(bytes((n, value if bits == 8 else value << 4)) for n, value in runs)
        rest = [int(value) for value in row[half:]]
        literal = (
            bytes(rest)
            if bits == 8
            else bytes(
                high << 4 | low
                for high, low in zip(rest[::2], [*rest[1::2], 0][: len(rest[::2])], strict=True)
            )
        )
        out += bytes((0, len(rest))) + literal + bytes(len(literal) % 2) + b"\0\0"
    return out + b"\0\1"


@pytest.mark.parametrize("bits", [4, 8])
def test_run_length_coded_bmps(bits: int) -> None:
    indices = np.random.default_rng(bits).integers(0, 1 << bits, (9, 21))
    data = bmp(info(40, (9, 21), bits, 2 if bits == 4 else 1), palette_bytes(1 << bits), rle(indices, bits))
    assert (pixels(data) == PALETTE[indices]).all()
    length = data.index(palette_bytes(4)) + 4 * (1 << bits)
    length += (len(data) - length) * 3 // 4
    cut = pixels(data[:length])
    assert (cut[-4:] == PALETTE[indices][-4:]).all()
    assert (cut[0] == 255).all()
    assert read_image(data[:length]).is_damaged


def test_a_run_length_coded_bmp_may_be_large() -> None:
    rows = b"".join(bytes((250, n % 200)) * 5 + b"\0\0" for n in range(1000))
    data = bmp(info(40, (1000, 1250), 8, 1), palette_bytes(256), rows + b"\0\1")
    assert not read_image(data).is_damaged


def test_missing_rows_of_a_bmp_are_white_and_half_must_be_there() -> None:
    image = colours(4, (30, 20))
    data = encoded(image, "BMP")
    cut = data[: 54 + (len(data) - 54) * 6 // 10]
    shown = pixels(cut)
    assert (shown[8:] == np.asarray(image)[8:]).all()
    assert (shown[:8] == 255).all()
    assert read_image(cut).is_damaged
    with pytest.raises(CorruptImage, match="half"):
        read_image(data[: 54 + (len(data) - 54) * 4 // 10])


def icon(picture: bytes, side: int, bits: int) -> bytes:
    """Return an icon file of one picture."""
    return b"\0\0\1\0\1\0" + struct.pack("<4B2H2I", side, side, 0, 0, 1, bits, len(picture), 22) + picture


@pytest.mark.parametrize("size", [40, 108, 124])
def test_icons_with_any_header_and_with_a_mask(size: int) -> None:
    image = np.asarray(colours(4, (16, 16)))
    rows = b"".join(row[:, ::-1].tobytes() for row in image[::-1])
    mask = np.zeros((16, 16), int)
    mask[2:5] = 1
    data = icon(info(size, (32, 16), 24) + rows + packed_rows(mask, 1), 16, 24)
    expected = image.copy()
    expected[2:5] = 255
    assert (pixels(data) == expected).all()


def test_icons_with_alpha() -> None:
    image = np.asarray(colours(4, (16, 16)).convert("RGBA")).copy()
    image[3:9, :, 3] = 0
    rows = image[::-1, :, [2, 1, 0, 3]].tobytes()
    shown = pixels(icon(info(40, (32, 16), 32) + rows + bytes(64), 16, 32))
    image[3:9] = 255
    assert (shown == image[:, :, :3]).all()


@pytest.mark.parametrize(("mode", "kind"), [("RGB", 2), ("RGBA", 2), ("L", 3), ("P", 1)])
@pytest.mark.parametrize("compression", [None, "tga_rle"])
def test_targas_of_version_1(mode: str, kind: int, compression: str | None) -> None:
    data = encoded(colours(2, (31, 20)).convert(mode), "TGA", compression=compression)
    first = data.removesuffix(b"TRUEVISION-XFILE.\0")[:-8]
    assert first[2] & 7 == kind
    assert (pixels(first) == pixels(data)).all()


def test_what_only_looks_a_little_like_a_targa_is_none() -> None:
    data = encoded(colours(2, (31, 20)), "TGA").removesuffix(b"TRUEVISION-XFILE.\0")
    for change in ((1, 7), (2, 5), (16, 11), (17, 0xC0), (5, 1)):
        odd = bytearray(data)
        odd[change[0]] = change[1]
        with pytest.raises(UnsupportedFormat):
            read_image(bytes(odd))
    with pytest.raises(UnsupportedFormat):
        read_image(data[: len(data) // 2])


def test_a_targa_without_alpha_bits_is_opaque() -> None:
    data = bytearray(encoded(colours(2, (31, 20)).convert("RGBA"), "TGA"))
    data[17] &= 0xF0
    data[18 + 3 : 18 + 31 * 20 * 4 : 4] = bytes(31 * 20)
    assert (pixels(bytes(data)) == np.asarray(colours(2, (31, 20)))).all()


def test_a_tiff_of_12_bits_is_scaled() -> None:
    values = np.random.default_rng(1).integers(0, 4096, (7, 10))
    rows = b"".join(
        bytes((a >> 4, (a & 15) << 4 | b >> 8, b & 255)) for a, b in values.reshape(-1, 2).tolist()
    )
    shown = pixels(hostile.grey_tiff(10, 7, rows, t258=(3, [12])))
    assert (shown[:, :, 0] == values >> 4).all()


def test_a_tiff_palette_of_8_bits_counts_as_one_of_16() -> None:
    indices = bytes(np.random.default_rng(1).integers(0, 256, 60).astype(np.uint8))
    narrow = PALETTE.T.reshape(-1).astype(int)
    for scale in (1, 257):
        data = hostile.grey_tiff(10, 6, indices, t262=(3, [3]), t320=(3, (narrow * scale).tolist()))
        assert (pixels(data).reshape(-1, 3) == PALETTE[list(indices)]).all()


@pytest.mark.parametrize(
    "tags",
    [
        {"t258": (3, [16]), "t284": (3, [2])},
        {"t258": (3, [16]), "t262": (3, [0])},
        {"t258": (3, [12]), "t317": (3, [2])},
    ],
    ids=["planes", "0 is white", "12 bits and a predictor"],
)
def test_tiffs_that_would_become_wrong_pixels_are_not_read(tags: dict[str, tuple[int, list[int]]]) -> None:
    with pytest.raises(UnsupportedFormat):
        read_image(hostile.grey_tiff(10, 6, bytes(120), **tags))


def test_a_jpeg_2000_may_be_larger_than_a_megapixel() -> None:
    image = colours(2, (1200, 900))
    assert (pixels(encoded(image, "JPEG2000")) == np.asarray(image)).all()


def test_an_avif_may_list_properties_twice() -> None:
    once = pixels((IMAGES / "formats" / "alpha.avif").read_bytes())
    assert (pixels((IMAGES / "kinds" / "two_property_lists.avif").read_bytes()) == once).all()


def test_heic_is_read_and_registered_nowhere() -> None:
    image = colours(2, (128, 80))
    file = io.BytesIO()
    from_pillow(image).save(file, quality=90)
    assert np.abs(pixels(file.getvalue()).astype(int) - np.asarray(image)).mean() < 12
    assert "HEIF" not in Image.OPEN
    with pytest.raises(CorruptImage, match="HEIC is damaged"):
        read_image(file.getvalue()[:600])


def test_a_heic_with_flipped_bytes_is_read_or_refused() -> None:
    file = io.BytesIO()
    from_pillow(colours(1, (64, 64))).save(file, quality=60)
    chance = random.Random(3)
    for _ in range(150):
        data = bytearray(file.getvalue())
        for _ in range(chance.choice((1, 2, 8))):
            data[chance.randrange(min(len(data), chance.choice((300, 10_000))))] = chance.randrange(256)
        with suppress(ImageError):
            read_image(bytes(data), limits=DecodeLimits(max_pixels=4_000_000))


def test_a_limit_of_a_decoder_is_not_reported_as_lack_of_memory() -> None:
    words = "Memory allocation error: Security limit exceeded: Number of extents in iloc box"
    with pytest.raises(CorruptImage), decoder_errors("HEIC"):
        raise RuntimeError(words)
    with pytest.raises(MemoryError), decoder_errors("HEIC"):
        raise RuntimeError("Memory allocation error: Unspecified")


def small_jpeg_2000() -> bytes:
    """Return a JPEG 2000 whose header speaks of 4 bits per sample, which Pillow scales wrongly."""
    data = bytearray(encoded(colours(2, (32, 32)), "JPEG2000"))
    size = data.index(b"\xff\x4f\xff\x51") + 2
    for place in (40, 43, 46):
        data[size + place] = 3
    return bytes(data)


def test_unsupported_kinds_are_not_called_damaged() -> None:
    for data in (
        bmp(info(40, (4, 4), 24, 5), b"", bytes(48)),
        bmp(info(40, (4, 4), 64), b"", bytes(128)),
        hostile.grey_tiff(4, 4, bytes(64), t258=(3, [32]), t339=(3, [3])),
        small_jpeg_2000(),
    ):
        with pytest.raises(UnsupportedFormat, match="supported"):
            read_image(data)


def test_nothing_is_written_to_stderr(tmp_path: Path) -> None:
    """Libtiff writes there of its own accord, and Pillow warns."""
    file = tmp_path / "file"
    data = encoded(colours(2, (60, 40)), "TIFF", compression="tiff_lzw")
    file.write_bytes(data[:200] + bytes(range(256)) * 4 + data[1224:])
    code = """
import sys
from contextlib import suppress
from pathlib import Path
from iqdb_core.errors import ImageError
from iqdb_core.signature import read_image
try:
    read_image(Path(sys.argv[1]).read_bytes())
except ImageError as error:
    print(type(error).__name__)
"""
    ran = subprocess.run(
        [sys.executable, "-W", "default", "-c", code, str(file)], cwd=ROOT, capture_output=True, check=True
    )
    assert ran.stdout == b"CorruptImage\n"
    assert ran.stderr == b""


KINDS = {
    "bilevel": ["-type", "bilevel"],
    "grey": ["-type", "grayscale"],
    "grey and alpha": ["-colorspace", "gray", "-alpha", "set", "-channel", "A", "-evaluate", "set", "50%"],
    "palette": ["-type", "palette"],
    "16 colours": ["-colors", "16", "-type", "palette"],
    "colour": ["-type", "truecolor"],
    "colour and alpha": ["-type", "truecolormatte", "-channel", "A", "-evaluate", "set", "50%"],
    "four inks": ["-colorspace", "cmyk"],
    "lab": ["-colorspace", "lab"],
}


@pytest.mark.long
@pytest.mark.skipif(
    not CONVERT.exists() or shutil.which("identify") is None, reason="ImageMagick is not installed"
)
@pytest.mark.parametrize(
    "extension", ["tiff", "bmp", "bmp2", "bmp3", "png", "gif", "jp2", "ico", "pgm", "ppm"]
)
@pytest.mark.parametrize("kind", KINDS)
def test_an_independent_decoder_sees_the_same_or_the_file_is_refused(
    kind: str, extension: str, tmp_path: Path
) -> None:
    """Every depth, compressed or not, in planes or not, written and read by ImageMagick."""
    source = tmp_path / "source.png"
    colours(2, (61, 40)).save(source)
    for depth in ("1", "2", "4", "8", "12", "16", "32") if extension in {"tiff", "png", "jp2"} else ("8",):
        for more in (
            ["-compress", "none"],
            ["-compress", "lzw"],
            ["-interlace", "plane", "-compress", "none"],
        ):
            arguments = [str(source), *KINDS[kind], "-depth", depth, *more, f"{extension}:-"]
            data = subprocess.run([CONVERT, *arguments], capture_output=True, check=False).stdout
            reader = {"bmp2": "bmp", "bmp3": "bmp"}.get(extension, extension)
            back = ["-background", "white", "-alpha", "remove", "-depth", "8", "rgb:-"]
            seen = subprocess.run(
                [CONVERT, f"{reader}:-", *back], input=data, capture_output=True, check=False
            ).stdout
            try:
                shown = pixels(data)
            except (UnsupportedFormat, CorruptImage):
                continue
            if len(seen) == shown.size:
                expected = np.frombuffer(seen, np.uint8).reshape(shown.shape)
                difference = np.abs(shown.astype(int) - expected)
                assert difference.mean() < 3, (kind, extension, depth, more, difference.max())
