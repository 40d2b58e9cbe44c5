"""Held-out layouts: what else people do to pictures, on which nothing of the search may be tuned.

`layouts(others)` returns functions like those of `distortions`, by name. They are other apps, collages, edits
and crops, in other sizes and colours, and nearly all are drawn anew for each picture. `others` are the
pictures beside it in collages. Used by `recall` and `compare`, never by the programs that fit.

A number that was chosen by looking at what these layouts find makes them worthless. Choose on `distortions`,
or add layouts for that there, and measure here afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from benchmarks.app_layouts import APPS, BLACK, WHITE, canvas, gallery, letters, light_message, resized
from benchmarks.distortions import cropped, rotated
from benchmarks.surroundings import Distortion, Random, sentence


def layouts(others: Sequence[Image.Image]) -> dict[str, Distortion]:
    """Return all layouts by name; `others` are pictures to show beside the one in a collage."""
    return {
        **_EDITS,
        **_CROPS,
        **APPS,
        **_SURROUNDINGS,
        **{name: way(others) for name, way in _COLLAGES.items()},
        **{f"mirrored{name and ', '}{name}": _mirrored(way) for name, way in _MIRRORED.items()},
    }


# --- the picture itself is changed


def _resaved(p: Image.Image, _: Random) -> Image.Image:
    """Make it smaller and of slightly another shape, and sharpen it."""
    return resized(p, p.width * 0.6, p.height * 0.55).filter(ImageFilter.UnsharpMask(2, 120))


def _vignette(p: Image.Image, _: Random) -> Image.Image:
    y, x = np.mgrid[: p.height, : p.width]
    away = 2 * ((x / p.width - 0.5) ** 2 + (y / p.height - 0.5) ** 2)
    return Image.fromarray((np.asarray(p) * (1 - 0.6 * away)[:, :, None]).astype(np.uint8))


def _warmer(p: Image.Image, _: Random) -> Image.Image:
    return Image.fromarray((np.asarray(p) * [1.12, 1.0, 0.82] + 6).clip(0, 255).astype(np.uint8))


def _barred(p: Image.Image, random: Random) -> Image.Image:
    """Put a black bar with words across it."""
    out = p.copy()
    draw = ImageDraw.Draw(out)
    y, thick = random.uniform(0.2, 0.7) * p.height, 0.1 * p.height
    draw.rectangle((0, y, p.width, y + thick), BLACK)
    draw.text((0.05 * p.width, y + 0.1 * thick), sentence(random, 4), WHITE, letters(0.7 * thick))
    return out


def _stickers(p: Image.Image, random: Random) -> Image.Image:
    """Put three yellow faces onto it."""
    out = p.copy()
    draw = ImageDraw.Draw(out)
    for _ in range(3):
        x, y = random.uniform(0.1, 0.9, 2) * p.size
        r = random.uniform(0.05, 0.1) * min(p.size)
        draw.ellipse((x - r, y - r, x + r, y + r), (255, 204, 50))
        for eye in (-0.3 * r, 0.3 * r):
            draw.ellipse((x + eye - 0.1 * r, y - 0.4 * r, x + eye + 0.1 * r, y - 0.1 * r), (60, 40, 0))
    return out


def _player(p: Image.Image, random: Random) -> Image.Image:
    """Show the controls of a video player over it: a shaded edge, a bar, a button."""
    shaded = np.array(p, np.float64)
    deep = max(8, p.height // 6)
    shaded[-deep:] *= np.linspace(1, 0.35, len(shaded[-deep:]))[:, None, None]
    out = Image.fromarray(shaded.astype(np.uint8))
    draw = ImageDraw.Draw(out)
    w, h = p.size
    for end, colour in ((0.97, (200, 200, 200)), (0.03 + 0.9 * random.random(), (255, 0, 0))):
        draw.rectangle((0.03 * w, 0.93 * h, end * w, 0.94 * h), colour)
    r = 0.09 * min(w, h)
    draw.ellipse((w / 2 - r, h / 2 - r, w / 2 + r, h / 2 + r), (30, 30, 30))
    left, right = w / 2 - 0.35 * r, w / 2 + 0.55 * r
    draw.polygon([(left, h / 2 - 0.5 * r), (left, h / 2 + 0.5 * r), (right, h / 2)], WHITE)
    return out


_EDITS: Final[dict[str, Distortion]] = {
    "smaller, other shape, sharpened": _resaved,
    "darker towards the corners": _vignette,
    "warmer colours": _warmer,
    "a black bar with words over it": _barred,
    "three stickers over it": _stickers,
    "controls of a video player over it": _player,
    "rotated by 3 degrees": lambda p, random: rotated(random.choice([-3, 3]))(p, random),
}


def _cut_off_each(most: float) -> Distortion:
    """Cut off up to a share of every side, each by itself."""
    return lambda p, random: cropped(*random.uniform(0, most, 4))(p, random)


def _cut_off(side: int, least: float, most: float) -> Distortion:
    """Cut off a share of the left, upper, right or lower side (0..3)."""

    def apply(p: Image.Image, random: Random) -> Image.Image:
        shares = [0.0] * 4
        shares[side] = random.uniform(least, most)
        return cropped(*shares)(p, random)

    return apply


def _cut_off_bars(p: Image.Image, random: Random) -> Image.Image:
    share = random.uniform(0.06, 0.14)
    return cropped(0, share, 0, share)(p, random)


def _to_shape(across: int, down: int) -> Distortion:
    """Crop the middle to a shape; of an upright picture to the same shape upright."""

    def apply(p: Image.Image, _: Random) -> Image.Image:
        longer, shorter = max(across, down), min(across, down)
        w, h = (longer, shorter) if p.width > p.height else (shorter, longer)
        size = min(p.width / w, p.height / h)
        return ImageOps.fit(p, (round(w * size), round(h * size)))

    return apply


_CROPS: Final[dict[str, Distortion]] = {
    **{f"0 to {most} % cut off each side": _cut_off_each(most / 100) for most in (6, 12, 20)},
    "12 to 25 % cut off each side": lambda p, random: cropped(*random.uniform(0.12, 0.25, 4))(p, random),
    "cropped to a square": _to_shape(1, 1),
    "cropped to 4:5": _to_shape(4, 5),
    "cropped to 16:9": _to_shape(16, 9),
    "5 to 12 % cut off below": _cut_off(3, 0.05, 0.12),
    "12 to 25 % cut off above": _cut_off(1, 0.12, 0.25),
    "10 to 30 % cut off left": _cut_off(0, 0.1, 0.3),
    "25 to 45 % cut off right": _cut_off(2, 0.25, 0.45),
    "6 to 14 % cut off above and below": _cut_off_bars,
}


# --- something else is put around it


def _poster(p: Image.Image, random: Random) -> Image.Image:
    """Put it on black with a thin white line around it, and a title below."""
    longer = max(p.size)
    thin, margin = max(2, round(0.006 * longer)), round(0.09 * longer)
    framed = ImageOps.expand(ImageOps.expand(p, 2 * thin, BLACK), thin, WHITE)
    out, draw = canvas(framed.width + 2 * margin, framed.height + round(2.6 * margin), BLACK)
    out.paste(framed, (margin, margin))
    title = sentence(random, 2).upper()
    draw.text((1.3 * margin, framed.height + 1.25 * margin), title, WHITE, letters(0.7 * margin))
    return out


def _mounted(p: Image.Image, random: Random) -> Image.Image:
    """Put it on a mount, in a frame on a pale wall."""
    side = min(p.size)
    r, g, b = random.integers(20, 120, 3).tolist()
    edges = ((90, (90, 90, 90)), (9, (250, 248, 240)), (30, (r, g, b)), (20, (225, 225, 225)))
    for share, colour in edges:
        p = ImageOps.expand(p, max(2, side // share), colour)
    return p


def _shadowed(p: Image.Image, _: Random) -> Image.Image:
    """Put it on white, with a soft shadow."""
    margin = max(4, round(0.1 * min(p.size)))
    size = p.width + 2 * margin, p.height + 2 * margin
    at = margin + margin // 4
    shadow = Image.new("L", size)
    ImageDraw.Draw(shadow).rectangle((at, at, at + p.width, at + p.height), 150)
    out = Image.new("RGB", size, WHITE)
    out.paste(BLACK, mask=shadow.filter(ImageFilter.GaussianBlur(margin / 4)))
    out.paste(p, (margin, margin))
    return out


def _blurred_above(p: Image.Image, random: Random) -> Image.Image:
    """Write a caption above it, on a blurred copy of it."""
    strip = round(p.height * random.uniform(0.15, 0.35))
    out = ImageOps.fit(p, (p.width, p.height + strip)).filter(ImageFilter.GaussianBlur(20))
    out.paste(p, (0, strip))
    text = sentence(random, 3)
    size = letters(0.4 * strip)
    ImageDraw.Draw(out).text((10, strip / 4), text, WHITE, size, stroke_width=2, stroke_fill=BLACK)
    return out


_SURROUNDINGS: Final[dict[str, Distortion]] = {
    "poster with a title": _poster,
    "mount and frame": _mounted,
    "shadow around it": _shadowed,
    "caption on a blurred ground": _blurred_above,
}


def _grid(n: int, others: Sequence[Image.Image]) -> Distortion:
    """Put it into a grid of n times n squares, with a gap of 0, 5 or 10 pixels, white or nearly black."""

    def apply(p: Image.Image, random: Random) -> Image.Image:
        gap = 5 * int(random.integers(3))
        side = n * _CELL + (n + 1) * gap
        out, _ = canvas(side, side, WHITE if random.random() < 0.6 else (17, 17, 17))
        place = int(random.integers(n * n))
        for i in range(n * n):
            shown = p if i == place else _any_of(others, random)
            at = gap + (i % n) * (_CELL + gap), gap + (i // n) * (_CELL + gap)
            out.paste(shown.resize((_CELL, _CELL)), at)
        return out

    return apply


def _pair(others: Sequence[Image.Image]) -> Distortion:
    """Put another picture beside, above or below it, with no gap."""

    def apply(p: Image.Image, random: Random) -> Image.Image:
        other = _any_of(others, random).resize(p.size)
        is_down, is_second = random.random(2) < 0.5
        out, _ = canvas(p.width * (1 if is_down else 2), p.height * (2 if is_down else 1), BLACK)
        places = [(0, 0), (0, p.height) if is_down else (p.width, 0)]
        for shown, at in zip([other, p] if is_second else [p, other], places, strict=True):
            out.paste(shown, at)
        return out

    return apply


def _mirrored(way: Distortion) -> Distortion:
    return lambda p, random: way(p.transpose(Image.Transpose.FLIP_LEFT_RIGHT), random)


_COLLAGES: Final[dict[str, Callable[[Sequence[Image.Image]], Distortion]]] = {
    "four pictures": lambda others: _grid(2, others),
    "nine pictures": lambda others: _grid(3, others),
    "beside another picture, no gap": _pair,
}
COLLAGES: Final = tuple(_COLLAGES)
"""The layouts that show the others, too."""

_CELL: Final = 360
_MIRRORED: Final[dict[str, Distortion]] = {
    "": lambda p, _: p,
    "0 to 5 % cut off each side": _cut_off_each(0.05),
    "short message": light_message,
    "gallery of a phone": gallery,
    "caption on a blurred ground": _blurred_above,
}


def _any_of(others: Sequence[Image.Image], random: Random) -> Image.Image:
    return others[int(random.integers(len(others)))]
