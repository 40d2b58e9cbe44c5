"""Surroundings for pictures: borders, bars, captions, screenshots, pages, collages.

Used by `distortions`, and in part by `layouts`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

Random = np.random.Generator
Distortion = Callable[[Image.Image, Random], Image.Image]
Colour = tuple[int, int, int]

_TEXT: Final = (
    "the of and a to in it you that was for on are with as his they be at one have this from or had "
    "by not but what some we can out other were all there when up use your how said an each she which "
    "do their time if will way about many then them write would like so these her long make thing see "
    "him two has look more"
)
_WORDS: Final = _TEXT.split()

# --- something is put around it


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return Pillow's own font."""
    return ImageFont.load_default(size)


def sentence(random: Random, words: int) -> str:
    """Return some meaningless words."""
    return " ".join(_WORDS[i] for i in random.integers(0, len(_WORDS), words))


def any_colour(random: Random) -> Colour:
    """Return a colour."""
    r, g, b = random.integers(0, 256, 3).tolist()
    return (r, g, b)


def bordered(share: float, colour: Colour | None) -> Distortion:
    """Put a border around all four sides, a share of the shorter side wide."""

    def apply(p: Image.Image, random: Random) -> Image.Image:
        width = round(share * min(p.size))
        return ImageOps.expand(p, width, colour or any_colour(random))

    return apply


def _polaroid(p: Image.Image, random: Random) -> Image.Image:
    """Put an uneven thin frame of two colours around it."""
    thin = max(2, min(p.size) // 80)
    framed = ImageOps.expand(p, thin, any_colour(random))
    w, h = framed.size
    out = Image.new("RGB", (round(w * 1.15), round(h * 1.35)), _pale(random))
    out.paste(framed, (round(w * 0.08), round(h * 0.08)))
    return out


def _letterboxed(across: int, down: int, fill: str) -> Distortion:
    """Put the whole picture in the middle of a frame of another shape."""

    def apply(p: Image.Image, _: Random) -> Image.Image:
        w, h = p.size
        frame = (w, max(h, w * down // across)) if w * down > h * across else (h * across // down, h)
        frame = (max(frame[0], w), max(frame[1], h))
        if fill == "blur":
            out = ImageOps.fit(p, frame).filter(ImageFilter.GaussianBlur(max(frame) / 30))
            out = ImageEnhance.Brightness(out).enhance(0.8)
        else:
            out = Image.new("RGB", frame, fill)
        out.paste(p, ((frame[0] - w) // 2, (frame[1] - h) // 2))
        return out

    return apply


def _pale(random: Random) -> Colour:
    """Return a background colour of pages: mostly white, or nearly white, or nearly black."""
    kind = random.random()
    level = 255 if kind < 0.5 else random.integers(235, 255) if kind < 0.75 else random.integers(0, 40)
    r, g, b = np.clip(level + random.integers(-3, 4, 3), 0, 255).tolist() if kind >= 0.5 else (255, 255, 255)
    return (r, g, b)


def _ink(paper: Colour) -> Colour:
    return (20, 20, 20) if sum(paper) > 384 else (235, 235, 235)


def _write(
    draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], size: int, ink: Colour, random: Random
) -> None:
    """Fill a box with lines of text, the last one short."""
    left, top, right, bottom = box
    letters = font(size)
    y = top
    while y + size <= bottom:
        line = sentence(random, 20)
        room = (right - left) * (1.0 if y + 3 * size <= bottom else random.uniform(0.3, 0.9))
        while draw.textlength(line, letters) > room and " " in line:
            line = line.rpartition(" ")[0]
        draw.text((left, y), line, ink, letters)
        y += round(size * 1.4)


def _captioned(share: float, where: str) -> Distortion:
    """Add a strip with a few words in large letters, a share of the picture's height."""

    def apply(p: Image.Image, random: Random) -> Image.Image:
        paper = _pale(random)
        strip = round(p.height * share)
        tops = {"above": (strip, 0), "below": (0, strip), "both": (strip, strip)}[where]
        out = Image.new("RGB", (p.width, p.height + sum(tops)), paper)
        out.paste(p, (0, tops[0]))
        draw = ImageDraw.Draw(out)
        size = max(10, min(strip // 2, p.width // 14))
        margin = p.width // 30
        for top, height in ((0, tops[0]), (tops[0] + p.height, tops[1])):
            if height:
                start = top + max(2, (height - round(size * 1.3 * (2 if height > 3 * size else 1))) // 2)
                box = (margin, start, p.width - margin, top + height - 2)
                _write(draw, box, size, _ink(paper), random)
        return out

    return apply


def phone(p: Image.Image, random: Random, *, is_dark: bool) -> Image.Image:
    """Show it in an app on a phone: status bar, title, the picture from edge to edge, text, buttons."""
    w, h = 720, int(random.choice([1280, 1440, 1560]))
    paper = (18, 18, 18) if is_dark else (255, 255, 255)
    bar = (0, 0, 0) if is_dark else tuple(int(v) for v in random.integers(200, 256, 3))
    out = Image.new("RGB", (w, h), paper)
    draw = ImageDraw.Draw(out)
    ink = _ink(paper)
    draw.rectangle((0, 0, w, 48), bar)  # type: ignore[arg-type]
    draw.text((24, 10), "12:34", _ink(bar), font(26))  # type: ignore[arg-type]
    for x in (600, 640, 680):
        draw.ellipse((x, 14, x + 20, 34), _ink(bar))  # type: ignore[arg-type]
    draw.ellipse((20, 66, 84, 130), any_colour(random))
    draw.text((104, 70), sentence(random, 2), ink, font(28))
    draw.text((104, 104), sentence(random, 3), (128, 128, 128), font(20))
    shown = p.resize((w, max(60, round(p.height * w / p.width))))
    room = h - 150 - 260
    if shown.height > room:
        shown = p.resize((max(60, round(p.width * room / p.height)), room))
    top = 150
    out.paste(shown, ((w - shown.width) // 2, top))
    bottom = top + shown.height
    for x in (24, 104, 184):
        draw.ellipse((x, bottom + 20, x + 44, bottom + 64), outline=ink, width=4)
    _write(draw, (24, bottom + 84, w - 24, h - 120), 26, ink, random)
    draw.rectangle((0, h - 100, w, h), bar)  # type: ignore[arg-type]
    for i in range(5):
        x = 60 + i * 140
        draw.rectangle((x, h - 70, x + 40, h - 30), outline=_ink(bar), width=4)  # type: ignore[arg-type]
    return out


def _browser(p: Image.Image, random: Random) -> Image.Image:
    """Show it on a web page on a desktop: tabs, address, a side column, text around the picture."""
    w, h = 1366, 768
    paper = _pale(random)
    out = Image.new("RGB", (w, h), paper)
    draw = ImageDraw.Draw(out)
    draw.rectangle((0, 0, w, 40), (222, 225, 230))
    draw.rectangle((10, 8, 220, 40), (255, 255, 255))
    draw.text((24, 14), sentence(random, 2), (40, 40, 40), font(16))
    draw.rectangle((0, 40, w, 80), (255, 255, 255))
    draw.rounded_rectangle((110, 46, w - 60, 74), 14, (241, 243, 244))
    draw.text((130, 50), "https://www.example.org/" + sentence(random, 1), (90, 90, 90), font(16))
    shown = p.copy()
    shown.thumbnail((760, 480))
    left, top = 80 + int(random.integers(0, 60)), 190
    ink = _ink(paper)
    draw.text((left, 110), sentence(random, 5), ink, font(36))
    out.paste(shown, (left, top))
    _write(draw, (left, top + shown.height + 14, left + 760, h - 10), 16, ink, random)
    for i in range(4):
        y = 120 + i * 160
        draw.rectangle((1010, y, 1110, y + 100), any_colour(random))
        _write(draw, (1124, y, w - 40, y + 110), 16, ink, random)
    return out


def _chat(p: Image.Image, random: Random) -> Image.Image:
    """Show it in a conversation: rounded corners, bubbles above and below."""
    w = 720
    paper = _pale(random)
    shown = p.resize((520, max(60, round(p.height * 520 / p.width))))
    h = shown.height + 460
    out = Image.new("RGB", (w, h), paper)
    draw = ImageDraw.Draw(out)
    draw.rounded_rectangle((30, 30, 430, 110), 24, (210, 210, 215))
    draw.text((54, 52), sentence(random, 5), (20, 20, 20), font(28))
    mask = Image.new("L", shown.size)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, shown.width - 1, shown.height - 1), 28, 255)
    out.paste(shown, (w - shown.width - 30, 140), mask)
    y = 140 + shown.height + 30
    draw.rounded_rectangle((290, y, w - 30, y + 80), 24, (40, 120, 240))
    draw.text((314, y + 22), sentence(random, 5), (255, 255, 255), font(28))
    draw.rounded_rectangle((30, y + 110, 330, y + 190), 24, (210, 210, 215))
    draw.text((54, y + 132), sentence(random, 3), (20, 20, 20), font(28))
    return out


def _on_gradient(p: Image.Image, random: Random) -> Image.Image:
    """Put it on a background that runs from one colour to another."""
    w, h = round(p.width * 1.3), round(p.height * 1.5)
    first, second = np.array(any_colour(random)), np.array(any_colour(random))
    along = np.linspace(0, 1, h)[:, None, None]
    ramp = (first + (second - first) * along + np.zeros((h, w, 1))).astype(np.uint8)
    if random.random() < 0.5:
        ramp = np.asarray(Image.fromarray(ramp).transpose(Image.Transpose.ROTATE_90).resize((w, h)))
    out = Image.fromarray(ramp)
    out.paste(p, ((w - p.width) // 2, (h - p.height) // 2))
    return out


def _post(p: Image.Image, random: Random) -> Image.Image:
    """Show it as a post: a card on a page, a name and a text above, numbers below, all of one colour."""
    card = (255, 255, 255) if random.random() < 0.6 else (21, 32, 43)
    ink = _ink(card)
    width = 680
    shown = p.resize((width - 120, max(60, round(p.height * (width - 120) / p.width))))
    out = Image.new("RGB", (width, shown.height + 330), card)
    draw = ImageDraw.Draw(out)
    draw.ellipse((20, 20, 76, 76), any_colour(random))
    draw.text((96, 22), sentence(random, 2), ink, font(24))
    _write(draw, (96, 60, width - 24, 150), 22, ink, random)
    mask = Image.new("L", shown.size)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, shown.width - 1, shown.height - 1), 16, 255)
    out.paste(shown, (96, 170), mask)
    draw.text((96, 190 + shown.height), "12:34   1 Jan   123 likes", (128, 128, 128), font(20))
    draw.line((96, 230 + shown.height, width - 24, 230 + shown.height), (128, 128, 128))
    for i in range(4):
        draw.ellipse(
            (110 + i * 140, 250 + shown.height, 136 + i * 140, 276 + shown.height), outline=ink, width=3
        )
    return out


# --- several pictures in one; the others are made from the picture's own neighbours, so they are passed in


def _other(random: Random, size: tuple[int, int]) -> Image.Image:
    """Return a picture of blobs: the other picture in a collage."""
    coarse = random.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    fine = random.integers(-40, 40, (24, 24, 3))
    base = np.asarray(Image.fromarray(coarse).resize((24, 24), Image.Resampling.BICUBIC)).astype(int) + fine
    return Image.fromarray(base.clip(0, 255).astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)


def _side_by_side(gap: float) -> Distortion:
    """Put another picture beside it, or above it, with or without a gap."""

    def apply(p: Image.Image, random: Random) -> Image.Image:
        space = round(gap * min(p.size))
        other = _other(random, p.size)
        pair = [p, other] if random.random() < 0.5 else [other, p]
        if random.random() < 0.5:
            out = Image.new("RGB", (2 * p.width + space, p.height), _pale(random))
            out.paste(pair[0], (0, 0))
            out.paste(pair[1], (p.width + space, 0))
        else:
            out = Image.new("RGB", (p.width, 2 * p.height + space), _pale(random))
            out.paste(pair[0], (0, 0))
            out.paste(pair[1], (0, p.height + space))
        return out

    return apply


def _collage(p: Image.Image, random: Random) -> Image.Image:
    """Put it into a grid of four with gaps."""
    space = max(4, min(p.size) // 40)
    out = Image.new("RGB", (2 * p.width + 3 * space, 2 * p.height + 3 * space), _pale(random))
    place = int(random.integers(4))
    for i in range(4):
        at = (space + (i % 2) * (p.width + space), space + (i // 2) * (p.height + space))
        out.paste(p if i == place else _other(random, p.size), at)
    return out


def _page(p: Image.Image, random: Random) -> Image.Image:
    """Print it on a page of text, with a second picture."""
    w, h = 900, 1270
    out = Image.new("RGB", (w, h), (255, 255, 255))
    draw = ImageDraw.Draw(out)
    shown = p.copy()
    shown.thumbnail((w - 160, 480))
    top = 220
    draw.text((80, 60), sentence(random, 4), (0, 0, 0), font(40))
    _write(draw, (80, 120, w - 80, top - 16), 18, (0, 0, 0), random)
    out.paste(shown, (80, top))
    y = top + shown.height + 20
    _write(draw, (80, y, w - 80, y + 150), 18, (0, 0, 0), random)
    out.paste(_other(random, (300, 200)), (80, y + 180))
    _write(draw, (400, y + 180, w - 80, y + 380), 18, (0, 0, 0), random)
    _write(draw, (80, y + 400, w - 80, h - 60), 18, (0, 0, 0), random)
    return out


APPS: Final[dict[str, Distortion]] = {
    "phone screenshot": lambda p, random: phone(p, random, is_dark=False),
    "phone screenshot, dark": lambda p, random: phone(p, random, is_dark=True),
    "browser screenshot": _browser,
    "chat, rounded corners": _chat,
    "post, rounded corners": _post,
}
"""Screenshots."""
SURROUNDINGS: Final[dict[str, Distortion]] = {
    **APPS,
    "black border 20 %": bordered(0.2, (0, 0, 0)),
    "white border 10 %": bordered(0.1, (255, 255, 255)),
    "coloured border 5 %": bordered(0.05, None),
    "frame of two colours": _polaroid,
    "letterbox 9:16": _letterboxed(9, 16, "black"),
    "letterbox 16:9": _letterboxed(16, 9, "black"),
    "letterbox 1:1": _letterboxed(1, 1, "black"),
    "letterbox 9:16, white": _letterboxed(9, 16, "white"),
    "letterbox 9:16, blurred": _letterboxed(9, 16, "blur"),
    "caption 15 % above": _captioned(0.15, "above"),
    "caption 30 % above": _captioned(0.3, "above"),
    "caption 20 % below": _captioned(0.2, "below"),
    "captions above and below": _captioned(0.2, "both"),
    "on a gradient": _on_gradient,
    "two pictures, no gap": _side_by_side(0),
    "two pictures, gap": _side_by_side(0.04),
    "four pictures": _collage,
    "page of text": _page,
}
"""Something is put around the picture."""
