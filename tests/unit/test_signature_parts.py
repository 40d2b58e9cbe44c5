"""Parts of a picture: what is inside borders, beside text and between other pictures."""

from __future__ import annotations

import tracemalloc
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageOps

from iqdb_core import forms
from iqdb_core.errors import ImageTooLarge
from iqdb_core.model import Rectangle, Signature
from iqdb_core.signature import DecodeLimits, from_image_bytes, read_query
from iqdb_core.signature.parts import MAX_PARTS, find_parts, guesses, lines, plain
from iqdb_core.signature.parts.arithmetic import contiguous
from iqdb_core.signature.parts.cutting import cut_at_edges
from iqdb_core.signature.parts.sheet import Sheet
from tests import naive_lines
from tests.fixtures.pictures import encoded, photos

PHOTO_SIZE = (400, 300)
Box = tuple[int, int, int, int]


def _photo(number: int = 0) -> Image.Image:
    """Return one of a few photos that have content at all four sides."""
    with Image.open(photos()[(30, 22, 20, 16)[number]]) as picture:
        return ImageOps.fit(picture.convert("RGB"), PHOTO_SIZE)


def _jpeg(picture: Image.Image, quality: int = 85) -> bytes:
    return encoded(picture, "JPEG", quality=quality)


def _placed(canvas: Image.Image, box: Box, number: int = 0) -> Image.Image:
    """Return the canvas with a photo in (left, top, width, height)."""
    canvas.paste(_photo(number).resize(box[2:]), box[:2])
    return canvas


def _signatures(data: bytes) -> list[tuple[Rectangle | None, Signature]]:
    """Return the signatures of a picture and of its parts."""
    asked = read_query(data, turns="none", limits=DecodeLimits()).signatures
    return [(one.part, one.signature) for one in asked if not one.is_uncropped]


def _parts(data: bytes) -> list[Box]:
    return [(p.x, p.y, p.width, p.height) for p, _ in _signatures(data) if p is not None]


def _assert_has(data: bytes, box: Box, within: int = 2) -> None:
    """One part's sides are all within some pixels of the box's."""
    wanted = np.array([box[0], box[1], box[0] + box[2], box[1] + box[3]])
    found = [np.array([x, y, x + w, y + h]) for x, y, w, h in _parts(data)]
    assert any(np.abs(sides - wanted).max() <= within for sides in found), (box, found)


@pytest.mark.parametrize("quality", [60, 85, 95])
@pytest.mark.parametrize("colour", ["black", "white", (200, 30, 90)])
def test_a_picture_inside_a_border_is_found(colour: str | tuple[int, int, int], quality: int) -> None:
    framed = ImageOps.expand(_photo(), 61, colour)
    _assert_has(_jpeg(framed, quality), (61, 61, *PHOTO_SIZE))


def test_borders_are_peeled_one_colour_at_a_time() -> None:
    own_margin = ImageOps.expand(_photo(), 40, "white")
    data = _jpeg(ImageOps.expand(own_margin, 60, "black"))
    _assert_has(data, (60, 60, *own_margin.size))
    _assert_has(data, (100, 100, *PHOTO_SIZE))


def test_a_picture_between_bars_is_found() -> None:
    canvas = Image.new("RGB", (400, 711), "black")
    _assert_has(_jpeg(_placed(canvas, (0, 205, 400, 300))), (0, 205, 400, 300))


def test_a_picture_on_a_gradient_is_found() -> None:
    ramp = np.linspace(0, 255, 600)[:, None, None] * np.ones((1, 500, 3))
    ramp[..., 2] = 255 - ramp[..., 2]
    canvas = Image.fromarray(ramp.astype(np.uint8))
    _assert_has(_jpeg(_placed(canvas, (50, 150, 400, 300))), (50, 150, 400, 300))


def test_a_picture_beside_text_is_found() -> None:
    canvas = Image.new("RGB", (900, 700), "white")
    draw = ImageDraw.Draw(canvas)
    draw.rectangle((0, 0, 900, 40), "lightgrey")
    draw.text((20, 10), "title of a window")
    for y in range(60, 690, 20):
        draw.text((560, y), "the column beside it tells of something else", "black")
        if y >= 420:
            draw.text((60, y), "and the text below it runs on until the end of the page", "black")
    _assert_has(_jpeg(_placed(canvas, (60, 90, 400, 300))), (60, 90, 400, 300))


def test_rounded_corners_do_not_matter() -> None:
    canvas = Image.new("RGB", (600, 500), (240, 240, 240))
    mask = Image.new("L", PHOTO_SIZE)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, 399, 299), 20, 255)
    canvas.paste(_photo(), (100, 100), mask)
    _assert_has(_jpeg(canvas), (100, 100, 400, 300))


def test_every_picture_of_a_collage_is_found() -> None:
    canvas = Image.new("RGB", (830, 630), "white")
    boxes = [(10 + 410 * (i % 2), 10 + 310 * (i // 2), 400, 300) for i in range(4)]
    for i, box in enumerate(boxes):
        _placed(canvas, box, i)
    data = _jpeg(canvas)
    for box in boxes:
        _assert_has(data, box)


def test_two_pictures_without_a_gap_are_found() -> None:
    canvas = Image.new("RGB", (800, 300))
    _placed(canvas, (0, 0, 400, 300), 0)
    _placed(canvas, (400, 0, 400, 300), 1)
    data = _jpeg(canvas)
    _assert_has(data, (0, 0, 400, 300))
    _assert_has(data, (400, 0, 400, 300))


def test_a_picture_with_a_flat_band_of_its_own_below_another_one() -> None:
    """The band cuts the canvas, but the picture goes on behind it; only an edge says where it begins."""
    canvas = Image.new("RGB", (400, 640), "white")
    for number, (top, height) in enumerate([(0, 300), (300, 150), (480, 160)]):
        _placed(canvas, (0, top, 400, height), number)
    _assert_has(_jpeg(canvas), (0, 300, 400, 340))


def test_a_picture_with_a_straight_edge_of_its_own_beside_another_one() -> None:
    canvas = Image.new("RGB", (900, 300))
    for number in range(3):
        _placed(canvas, (300 * number, 0, 300, 300), number)
    for box in ((300, 0, 600, 300), (0, 0, 600, 300)):
        _assert_has(_jpeg(canvas), box)


@pytest.mark.parametrize("is_down", [False, True])
def test_pieces_between_edges_are_limited(is_down: bool) -> None:
    sheet = Sheet(_grey(np.arange(600) // 30 * 83.0 % 256, is_down=is_down))
    pieces = [*cut_at_edges(sheet, sheet.whole)]
    assert 0 < len(pieces) <= 9
    assert len({box for box, _ in pieces}) == len(pieces)


def test_nested_frames_are_examined_once() -> None:
    """Everything around everything is a guess here, and yet little is looked at twice."""
    y, x = np.mgrid[:400, :400]
    depth = np.minimum(np.minimum(x, y), np.minimum(399 - x, 399 - y)).astype(np.uint32)
    sheet = Sheet(depth * 13 % 256 | depth * 29 % 256 << 8 | depth * 57 % 256 << 16)
    assert len([*guesses._guesses(sheet, sheet.whole, (), guesses._LEVELS)]) > 100
    assert sum(box.area for box in sheet.seen) < 50 * sheet.whole.area


def test_clip_art_on_a_page_of_the_colour_of_its_own_margin() -> None:
    canvas = Image.new("RGB", (500, 890), "white")
    _placed(canvas, (100, 300, 300, 280))
    data = _jpeg(canvas)
    for share in (0.03, 0.07, 0.12):
        margin = round(share * 280)
        _assert_has(data, (100 - margin, 300 - margin, 300 + 2 * margin, 280 + 2 * margin), within=3)
    _assert_has(data, (100, 290, 300, 300), within=3)


def test_a_border_of_the_colour_of_uneven_own_margins() -> None:
    """The picture touches its own edge at the top, or nearly, and leaves more room elsewhere."""
    for nearest in (0, 10, 25):
        own = ImageOps.expand(_photo(), (60, nearest, 120, 80), "white")
        _assert_has(_jpeg(ImageOps.expand(own, 40, "white")), (40, 40, *own.size), within=4)


def test_a_grid_of_nine_pictures_has_more_than_eight_parts() -> None:
    canvas = Image.new("RGB", (940, 730), "white")
    boxes = [(10 + 310 * (i % 3), 10 + 240 * (i // 3), 300, 230) for i in range(9)]
    for i, box in enumerate(boxes):
        _placed(canvas, box, i % 4)
    found = _parts(_jpeg(canvas))
    assert 8 < len(found) <= MAX_PARTS
    for box in boxes:
        _assert_has(_jpeg(canvas), box)


def test_guesses_at_margins_come_after_the_first_eight() -> None:
    canvas = Image.new("RGB", (830, 630), "white")
    for i in range(4):
        _placed(canvas, (30 + 410 * (i % 2), 30 + 310 * (i // 2), 350, 250), i)
    found = [_is_padded(canvas, box) for box in _parts(_jpeg(canvas))]
    assert not any(found[:8])


def _is_padded(canvas: Image.Image, box: Box) -> bool:
    """Whether a part that is no page of several photos has a white margin at all four sides."""
    left, top, width, height = box
    inner = np.asarray(canvas.crop((left, top, left + width, top + height)))
    sides = (inner[:4], inner[-4:], inner[:, :4], inner[:, -4:])
    return width < 420 and height < 320 and all(side.min() > 250 for side in sides)


def test_an_edge_of_a_page_is_no_picture() -> None:
    canvas = Image.new("RGB", (500, 800), "white")
    canvas.paste(_photo(1).resize((40, 800)), (0, 0))
    canvas.paste(_photo().resize((400, 300)), (80, 200))
    parts = _parts(_jpeg(canvas))
    assert all(max(width, height) <= 10 * min(width, height) for _, _, width, height in parts)
    _assert_has(_jpeg(canvas), (80, 200, 400, 300))


@pytest.mark.parametrize("is_down", [False, True])
def test_a_long_strip_inside_a_border_is_a_part(is_down: bool) -> None:
    """As comics are that are read by scrolling; what is left of the whole picture is no edge of a page."""
    strip = Image.new("RGB", (1500, 100))
    for i in range(10):
        strip.paste(_photo(i % 4).resize((150, 100)), (150 * i, 0))
    framed = ImageOps.pad(strip, (1500, 900), color="black")
    if is_down:
        framed = framed.transpose(Image.Transpose.TRANSPOSE)
    _assert_has(_jpeg(framed), (400, 0, 100, 1500) if is_down else (0, 400, 1500, 100))


def test_the_edges_of_a_large_picture_are_found_to_the_pixel() -> None:
    canvas = Image.new("RGB", (2400, 1800), "white")
    _assert_has(_jpeg(_placed(canvas, (333, 217, 1501, 1203))), (333, 217, 1501, 1203), within=1)


def test_a_part_has_the_signature_of_its_own_pixels() -> None:
    canvas = _placed(Image.new("RGB", (600, 500), "white"), (100, 100, 400, 300))
    data = encoded(canvas, "BMP")
    whole, *parts = _signatures(data)
    assert whole == (None, from_image_bytes(data))
    assert parts
    for part, signature in parts:
        assert part is not None
        cropped = canvas.crop((part.x, part.y, part.x + part.width, part.y + part.height))
        assert signature == from_image_bytes(encoded(cropped, "BMP"))


def test_parts_are_those_of_the_upright_picture() -> None:
    canvas = _placed(Image.new("RGB", (600, 500), "black"), (50, 100, 400, 300))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = canvas.transpose(Image.Transpose.ROTATE_90)
    _assert_has(encoded(turned, "JPEG", quality=90, exif=exif), (50, 100, 400, 300))


def test_the_limit_of_pixels_holds_for_parts_too() -> None:
    with pytest.raises(ImageTooLarge):
        read_query(_jpeg(_photo()), turns="none", limits=DecodeLimits(max_pixels=100))


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (23, 23), (24, 24), (30, 2000)])
def test_flat_and_small_pictures_have_no_parts(size: tuple[int, int]) -> None:
    assert _parts(_jpeg(Image.new("RGB", size, "blue"))) == []


@pytest.mark.parametrize(("height", "width"), [(1, 400_000), (4, 400_000), (30, 400_000), (24, 25_000)])
@pytest.mark.parametrize("is_down", [False, True])
def test_a_long_line_takes_no_more_memory_than_other_pictures(height: int, width: int, is_down: bool) -> None:
    """Every line of it is one pixel, or a few, so that there are very many."""
    pixels = np.broadcast_to(np.arange(width, dtype=np.uint32) * 37 % 256 * 0x010101, (height, width))
    pixels = np.ascontiguousarray(pixels.T if is_down else pixels)
    tracemalloc.start()
    try:
        assert find_parts(pixels) == []
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_parts_are_within_the_picture(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 90)), data.draw(st.integers(1, 90))
    pixels = np.full((height, width), data.draw(st.integers(0, 0xFFFFFF)), np.uint32)
    random = np.random.default_rng(data.draw(st.integers(0, 1000)))
    for _ in range(data.draw(st.integers(0, 6))):
        y, x = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
        block = pixels[y : y + data.draw(st.integers(1, 90)), x : x + data.draw(st.integers(1, 90))]
        block[:] = (
            random.integers(0, 0xFFFFFF, block.shape) if data.draw(st.booleans()) else random.integers(256)
        )
    parts = find_parts(pixels)
    assert len(parts) <= MAX_PARTS
    assert len(set(parts)) == len(parts)
    for part in parts:
        assert isinstance(part, Rectangle)
        assert part.x >= 0
        assert part.y >= 0
        assert part.x + part.width <= width
        assert part.y + part.height <= height
        assert part.width * part.height >= 0.06 * width * height


@st.composite
def _lines(draw: st.DrawFn) -> NDArray[np.uint32]:
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 300))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    first, last = random.integers(0, 256, (2, height, 1, 3))
    along = np.linspace(0, 1, width)[None, :, None] * draw(st.sampled_from([0, 0, 1]))
    values = (
        first
        + (last - first) * along
        + random.integers(-30, 31, (height, width, 3)) * draw(st.sampled_from([0, 0.3, 1]))
    )
    values[random.random((height, width)) < draw(st.sampled_from([0, 0.005, 0.05, 0.3]))] = 255
    bytes_ = values.clip(0, 255).astype(np.uint32)
    return contiguous(bytes_[..., 0] | bytes_[..., 1] << 8 | bytes_[..., 2] << 16)


@pytest.mark.parametrize("form", [lines, plain], ids=["compiled", "plain"])
@given(pixels=_lines())
@settings(max_examples=80, deadline=None)
def test_both_forms_agree_with_their_twin(form: ModuleType, pixels: NDArray[np.uint32]) -> None:
    height, width = pixels.shape
    is_flat, is_ringing, colours = form.flat_rows(pixels, 0, height, 0, width)
    for y, row in enumerate(pixels.tolist()):
        assert (is_flat[y], is_ringing[y], colours[y].tolist()) == naive_lines.flat_row(row)
    np.testing.assert_array_equal(form.steps(pixels, 0, height, 0, width), naive_lines.steps(pixels))
    np.testing.assert_array_equal(
        form.edge_shares(pixels, 0, height, 0, width), naive_lines.edge_shares(pixels)
    )


@pytest.mark.parametrize("rectangle", [(0, 300, 0, 400), (17, 290, 33, 371), (5, 8, 2, 3), (40, 47, 0, 9)])
def test_both_forms_agree_on_a_photo(rectangle: tuple[int, int, int, int]) -> None:
    photo = np.array(_placed(Image.new("RGB", (400, 300), "white"), (40, 40, 200, 150)), dtype=np.uint32)
    pixels = contiguous(photo[..., 0] | photo[..., 1] << 8 | photo[..., 2] << 16)
    for name in ("flat_rows", "steps", "edge_shares"):
        compiled, in_numpy = (getattr(form, name)(pixels, *rectangle) for form in (lines, plain))
        if isinstance(compiled, np.ndarray):
            compiled, in_numpy = (compiled,), (in_numpy,)
        for one, other in zip(compiled, in_numpy, strict=True):
            np.testing.assert_array_equal(one, other)


def _grey(values: NDArray[np.float64], *, is_down: bool) -> NDArray[np.uint32]:
    """Return pixels of these greys, each all across a row, or a column."""
    rows = np.repeat(values.astype(np.uint32)[:, None] * np.uint32(0x010101), 120, axis=1)
    return np.ascontiguousarray(rows.T if is_down else rows)


def _parts_in_numpy(pixels: NDArray[np.uint32]) -> list[Rectangle]:
    """Return what `find_parts` does before its kernels are compiled."""

    def is_ours(place: str) -> bool:
        return place.startswith(lines.__name__)

    forms.use_plain(is_ours)
    try:
        return find_parts(pixels)
    finally:
        forms.use_preferred(is_ours)


@pytest.mark.parametrize("is_down", [False, True])
def test_gradients_from_both_sides_may_meet(is_down: bool) -> None:
    """Both begin with one colour, and between them is a jump: nothing is left when both are peeled off."""
    runs = np.concatenate([np.linspace(100, 160, 150), np.linspace(60, 100, 150)])
    pixels = _grey(runs, is_down=is_down)
    assert find_parts(pixels) == _parts_in_numpy(pixels) != []


@st.composite
def _bands(draw: st.DrawFn) -> NDArray[np.uint32]:
    """Draw bands of smooth runs between a few greys, sometimes with something in the middle."""
    greys = st.sampled_from([60, 100, 104, 160])
    runs = [
        np.linspace(draw(greys), draw(greys), draw(st.integers(1, 90)))
        for _ in range(draw(st.integers(1, 5)))
    ]
    pixels = _grey(np.concatenate(runs), is_down=draw(st.booleans()))
    if draw(st.booleans()):
        middle = pixels[20:-20, 20:-20]
        middle[:] = np.random.default_rng(1).integers(0, 0xFFFFFF, middle.shape)
    return pixels


@given(pixels=_bands())
@settings(max_examples=60, deadline=None)
def test_both_forms_find_the_same_parts(pixels: NDArray[np.uint32]) -> None:
    assert find_parts(pixels) == _parts_in_numpy(pixels)
