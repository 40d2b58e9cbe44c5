"""Held-out layouts of apps: a picture in a gallery, a viewer, a message, a chat, a forum, a story.

Used by `layouts`, which says what they are for.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from benchmarks.surroundings import Colour, Distortion, Random, any_colour, font, sentence

WHITE: Final = (255, 255, 255)
BLACK: Final = (0, 0, 0)
_GREY: Final = (120, 124, 126)


def gallery(p: Image.Image, random: Random) -> Image.Image:
    """Show it in the gallery of a phone: all of it, on black."""
    out, draw = canvas(828, 1792, BLACK)
    shown = _fitted(p, 828, 1392)
    out.paste(shown, ((828 - shown.width) // 2, (1792 - shown.height) // 2))
    draw.text((40, 20), "9:41", WHITE, font(30))
    draw.text((300, 100), sentence(random, 2), WHITE, font(30))
    for x in range(80, 828, 200):
        draw.ellipse((x, 1682, x + 50, 1732), outline=WHITE, width=5)
    return out


def _message(paper: Colour, ink: Colour, rule: Colour) -> Distortion:
    """Show it in a short message: name and words above, rounded corners, date and buttons below."""

    def apply(p: Image.Image, random: Random) -> Image.Image:
        lines = int(random.integers(1, 4))
        shown, top = _to_width(p, 568), 90 + 30 * lines
        out, draw = canvas(600, shown.height + top + 130, paper)
        draw.ellipse((16, 14, 64, 62), any_colour(random))
        draw.text((76, 16), sentence(random, 2), ink, font(20))
        draw.text((76, 42), "@" + sentence(random, 1), _GREY, font(18))
        _write(draw, (16, 78), 568, 22, ink, random, lines)
        _paste_rounded(out, shown, (16, top), 16)
        y = top + shown.height
        draw.text((16, y + 14), "10:05 AM  Nov 2, 2023  1.2M Views", _GREY, font(18))
        draw.line((16, y + 50, 584, y + 50), rule)
        for x in range(30, 590, 140):
            draw.rounded_rectangle((x, y + 70, x + 30, y + 95), 6, outline=_GREY, width=3)
        return out

    return apply


def _viewer(p: Image.Image, random: Random) -> Image.Image:
    """Show it in an image viewer on a desktop: title, tools, all of it on dark grey."""
    out, draw = canvas(1280, 800, (60, 60, 60))
    draw.rectangle((0, 0, 1280, 34), (40, 40, 40))
    draw.text((560, 8), sentence(random, 1) + ".jpg", (220, 220, 220), font(16))
    for x, colour in ((12, (237, 106, 94)), (36, (245, 191, 79)), (60, (98, 197, 84))):
        draw.ellipse((x, 10, x + 14, 24), colour)
    draw.rectangle((0, 34, 1280, 78), (52, 52, 52))
    for x in range(14, 400, 44):
        draw.rectangle((x, 44, x + 26, 68), outline=(200, 200, 200), width=2)
    shown = _fitted(p, 1120, 620)
    out.paste(shown, ((1280 - shown.width) // 2, 78 + (722 - shown.height) // 2))
    return out


def _forum(p: Image.Image, random: Random) -> Image.Image:
    """Show it in a forum: votes at the left, a title above, comments below."""
    shown = _fitted(p, 640, 700)
    height = shown.height + 480
    out, draw = canvas(760, height, (218, 224, 230))
    draw.rectangle((20, 16, 740, height - 20), WHITE)
    draw.rectangle((20, 16, 64, height - 20), (248, 249, 250))
    draw.polygon([(42, 30), (30, 46), (54, 46)], _GREY)
    draw.text((30, 52), str(int(random.integers(100, 999))), (20, 20, 20), font(14))
    draw.polygon([(42, 86), (30, 70), (54, 70)], _GREY)
    draw.text((80, 26), "posted by " + sentence(random, 1), _GREY, font(14))
    _write(draw, (80, 54), 640, 24, (34, 34, 34), random, 2)
    out.paste(shown, (80 + (640 - shown.width) // 2, 130))
    y = 150 + shown.height
    draw.text((84, y), f"{random.integers(5, 999)} comments   share   save", _GREY, font(15))
    y += 40
    for _ in range(3):
        draw.text((84, y), sentence(random, 1), (20, 20, 20), font(14))
        lines = int(random.integers(1, 3))
        _write(draw, (84, y + 20), 620, 16, (40, 40, 40), random, lines)
        y += 34 + 22 * lines
    return out


def _chat(p: Image.Image, random: Random) -> Image.Image:
    """Show it in a conversation on a patterned ground: a frame around it, the time over it."""
    shown = _to_width(p, 420)
    width, height = 640, shown.height + 420
    ground = np.full((height, width, 3), (236, 229, 221), np.uint8)
    y, x = np.mgrid[:height, :width]
    ground[(x // 9 + y // 7) % 11 == 0] = (228, 220, 211)
    out = Image.fromarray(ground)
    draw = ImageDraw.Draw(out)
    draw.rectangle((0, 0, width, 90), (7, 94, 84))
    draw.ellipse((20, 20, 70, 70), any_colour(random))
    draw.text((84, 30), sentence(random, 2), WHITE, font(24))
    below = shown.height + 250
    for top, right in ((120, 380), (below, 440)):
        draw.rounded_rectangle((20, top, right, top + 60), 12, WHITE)
        draw.text((36, top + 16), sentence(random, 4), (20, 20, 20), font(22))
    draw.rounded_rectangle((184, 204, 616, 216 + shown.height), 14, (220, 248, 198))
    _paste_rounded(out, shown, (190, 210), 10)
    draw.text((550, 184 + shown.height), f"18:{random.integers(0, 60):02}", WHITE, font(16))
    draw.rounded_rectangle((10, height - 66, 560, height - 14), 26, WHITE)
    draw.ellipse((574, height - 66, 626, height - 14), (7, 94, 84))
    return out


def _story(p: Image.Image, random: Random) -> Image.Image:
    """Show it in a story of 9:16: all of it on a gradient, a name above, a label below."""
    out = Image.fromarray(_ramp(720, 1280, any_colour(random), any_colour(random)))
    draw = ImageDraw.Draw(out)
    shown = _fitted(p, 640, 800)
    out.paste(shown, ((720 - shown.width) // 2, (1280 - shown.height) // 2))
    draw.rectangle((16, 16, 704, 20), (230, 230, 230))
    draw.ellipse((24, 36, 74, 86), any_colour(random))
    draw.text((90, 48), sentence(random, 1), WHITE, font(26))
    draw.rounded_rectangle((200, 1070, 520, 1130), 12, WHITE)
    draw.text((220, 1084), sentence(random, 3), BLACK, font(26))
    return out


light_message: Final = _message(WHITE, (15, 20, 25), (239, 243, 244))
APPS: Final[dict[str, Distortion]] = {
    "gallery of a phone": gallery,
    "short message": light_message,
    "short message, dark": _message(BLACK, (231, 233, 234), (47, 51, 54)),
    "viewer on a desktop": _viewer,
    "forum": _forum,
    "chat, patterned background": _chat,
    "story on a gradient": _story,
}


# --- helpers


def canvas(width: int, height: int, colour: Colour) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """Return a picture of one colour, and what draws on it."""
    out = Image.new("RGB", (width, height), colour)
    return out, ImageDraw.Draw(out)


def resized(p: Image.Image, width: float, height: float) -> Image.Image:
    """Resize it, but to no less than 24 pixels."""
    return p.resize((max(24, round(width)), max(24, round(height))), Image.Resampling.LANCZOS)


def _fitted(p: Image.Image, width: int, height: int) -> Image.Image:
    """Make it as large as fits."""
    factor = min(width / p.width, height / p.height)
    return resized(p, p.width * factor, p.height * factor)


def _to_width(p: Image.Image, width: int) -> Image.Image:
    return resized(p, width, p.height * width / p.width)


def _paste_rounded(out: Image.Image, shown: Image.Image, at: tuple[int, int], radius: int) -> None:
    mask = Image.new("L", shown.size)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, shown.width - 1, shown.height - 1), radius, 255)
    out.paste(shown, at, mask)


def _ramp(width: int, height: int, first: Colour, last: Colour) -> NDArray[np.uint8]:
    along = np.linspace(0, 1, height)[:, None, None]
    rows = np.array(first) * (1 - along) + np.array(last) * along
    ramp: NDArray[np.uint8] = np.repeat(rows, width, axis=1).astype(np.uint8)
    return ramp


def letters(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return a font of at least a size that can be read."""
    return font(max(8, int(size)))


def _write(
    draw: ImageDraw.ImageDraw,
    at: tuple[int, int],
    width: int,
    size: int,
    ink: Colour,
    random: Random,
    lines: int,
) -> None:
    """Write full lines of text."""
    type_face = font(size)
    for i in range(lines):
        line = sentence(random, 30)
        while draw.textlength(line, type_face) > width:
            line = line.rpartition(" ")[0]
        draw.text((at[0], at[1] + 1.35 * size * i), line, ink, type_face)
