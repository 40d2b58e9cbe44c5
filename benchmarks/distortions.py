"""What people do to pictures before they search for them, as functions on Pillow images.

`distort(name, picture, random)` returns the distorted file, `in_every_way` yields those of all ways. Every
size, colour and place of a page or border is drawn from `random`, so that no two pictures are treated alike.
Used by the benchmarks of recall and by the programs that fit; `layouts` has others for measuring alone.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageEnhance, ImageFilter, ImageOps

from benchmarks.surroundings import SURROUNDINGS, Distortion, Random, bordered, font, phone, sentence

_SIDE: Final = 1200
"""Longest side to which pictures are reduced first."""
_JPEG_QUALITY: Final = 85


def distort(
    name: str, picture: Image.Image, random: Random, ways: Mapping[str, Distortion] | None = None
) -> bytes:
    """Return a JPEG of the picture, distorted in one of some ways, by default those of this file.

    The quality is part of some ways.
    """
    small = picture.convert("RGB")
    small.thumbnail((_SIDE, _SIDE))
    distorted = (DISTORTIONS if ways is None else ways)[name](small, random)
    out = io.BytesIO()
    quality = int(name.removeprefix("JPEG ")) if name.startswith("JPEG ") else _JPEG_QUALITY
    distorted.save(out, "JPEG", quality=quality)
    return out.getvalue()


def in_every_way(
    number: int, picture: Image.Image, ways: Mapping[str, Distortion] | None = None
) -> Iterator[tuple[str, bytes]]:
    """Yield the name of each way, and the picture distorted in it; `number` tells pictures apart."""
    for kind, name in enumerate(DISTORTIONS if ways is None else ways):
        yield name, distort(name, picture, np.random.default_rng(1000 * number + kind), ways)


# --- the picture itself is changed


def _resized(factor: float) -> Distortion:
    def apply(p: Image.Image, _: Random) -> Image.Image:
        return p.resize((max(8, round(p.width * factor)), max(8, round(p.height * factor))))

    return apply


def _noise(p: Image.Image, random: Random) -> Image.Image:
    noisy = np.asarray(p) + random.normal(0, 20, (p.height, p.width, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def _gamma(value: float) -> Distortion:
    table = [round(255 * (i / 255) ** value) for i in range(256)] * 3
    return lambda p, _: p.point(table)


def _hue(p: Image.Image, _: Random) -> Image.Image:
    h, s, v = p.convert("HSV").split()
    return Image.merge("HSV", (h.point(lambda x: (x + 15) % 256), s, v)).convert("RGB")


def _sepia(p: Image.Image, _: Random) -> Image.Image:
    return ImageOps.colorize(p.convert("L"), (30, 16, 4), (255, 240, 205))


def rotated(degrees: float) -> Distortion:
    """Rotate, and crop to the largest upright rectangle of the same shape."""

    def apply(p: Image.Image, _: Random) -> Image.Image:
        turned = p.rotate(degrees, Image.Resampling.BICUBIC)
        angle = np.radians(abs(degrees))
        ratio = p.width / p.height
        scale = 1 / (np.cos(angle) + np.sin(angle) * max(ratio, 1 / ratio))
        return _crop(turned, *[(1 - scale) / 2] * 4)

    return apply


def _crop(p: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
    w, h = p.size
    return p.crop((round(w * left), round(h * top), round(w * (1 - right)), round(h * (1 - bottom))))


def cropped(left: float, top: float, right: float, bottom: float) -> Distortion:
    """Cut off these shares of width and height."""
    return lambda p, _: _crop(p, left, top, right, bottom)


def _watermark(p: Image.Image, random: Random) -> Image.Image:
    layer = Image.new("RGBA", p.size)
    draw = ImageDraw.Draw(layer)
    size = max(10, p.width // 12)
    at = (random.uniform(0.1, 0.5) * p.width, random.uniform(0.3, 0.7) * p.height)
    draw.text(at, "SAMPLE.COM", (255, 255, 255, 130), font(size))
    return Image.alpha_composite(p.convert("RGBA"), layer).convert("RGB")


def _meme(p: Image.Image, random: Random) -> Image.Image:
    """Write over the picture, above and below."""
    out = p.copy()
    draw = ImageDraw.Draw(out)
    size = max(12, p.width // 12)
    for y in (0.02, 0.86):
        text = sentence(random, 3).upper()
        draw.text(
            (0.05 * p.width, y * p.height), text, "white", font(size), stroke_width=2, stroke_fill="black"
        )
    return out


def _turned(how: Image.Transpose) -> Distortion:
    return lambda p, _: p.transpose(how)


def _both(first: Distortion, second: Distortion) -> Distortion:
    return lambda p, random: second(first(p, random), random)


_mirror: Final = _turned(Image.Transpose.FLIP_LEFT_RIGHT)

EDITS: Final[dict[str, Distortion]] = {
    "as it is": lambda p, _: p,
    "resized to 0.25": _resized(0.25),
    "resized to 0.5": _resized(0.5),
    "resized to 2": _resized(2),
    **{f"JPEG {quality}": lambda p, _: p for quality in (10, 30, 50, 90)},
    "blurred": lambda p, _: p.filter(ImageFilter.GaussianBlur(max(p.size) / 200)),
    "noise": _noise,
    "brighter": lambda p, _: ImageEnhance.Brightness(p).enhance(1.3),
    "darker": lambda p, _: ImageEnhance.Brightness(p).enhance(0.7),
    "less contrast": lambda p, _: ImageEnhance.Contrast(p).enhance(0.6),
    "more contrast": lambda p, _: ImageEnhance.Contrast(p).enhance(1.4),
    "gamma 0.7": _gamma(0.7),
    "gamma 1.5": _gamma(1.5),
    "less colour": lambda p, _: ImageEnhance.Color(p).enhance(0.5),
    "more colour": lambda p, _: ImageEnhance.Color(p).enhance(1.6),
    "other hue": _hue,
    "grey": lambda p, _: p.convert("L").convert("RGB"),
    "sepia": _sepia,
    "wider by 1.3": lambda p, _: p.resize((round(p.width * 1.3), p.height)),
    "rotated by 2 degrees": rotated(2),
    "rotated by 5 degrees": rotated(5),
    "watermark": _watermark,
    "words over it": _meme,
    "cropped 5 %": cropped(0.05, 0.05, 0.05, 0.05),
    "cropped 10 %": cropped(0.1, 0.1, 0.1, 0.1),
    "cropped 20 %": cropped(0.2, 0.2, 0.2, 0.2),
    "20 % cut off right": cropped(0, 0, 0.2, 0),
    "30 % cut off top": cropped(0, 0.3, 0, 0),
    "half cut off": cropped(0, 0, 0.5, 0),
}
"""Changes to the picture itself."""

TURNS: Final[dict[str, Distortion]] = {
    "mirrored": _mirror,
    "flipped": _turned(Image.Transpose.FLIP_TOP_BOTTOM),
    "rotated 90": _turned(Image.Transpose.ROTATE_270),
    "rotated 180": _turned(Image.Transpose.ROTATE_180),
    "rotated 270": _turned(Image.Transpose.ROTATE_90),
    "transposed": _turned(Image.Transpose.TRANSPOSE),
    "inverted": lambda p, _: ImageChops.invert(p),
    "mirrored, black border": _both(_mirror, bordered(0.2, (0, 0, 0))),
    "mirrored, phone screenshot": _both(_mirror, lambda p, random: phone(p, random, is_dark=False)),
}
"""The picture is turned."""

DISTORTIONS: Final = EDITS | SURROUNDINGS | TURNS
