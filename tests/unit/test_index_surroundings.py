"""Screenshots of one app: another picture in the same surroundings is no copy, and a changed copy is one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from iqdb_core.index import ImageIndex
from iqdb_core.index.evidence.copies import rows_of
from iqdb_core.index.evidence.pair import compare
from iqdb_core.index.evidence.sharing import held_by, shared_by
from iqdb_core.index.evidence.surroundings import share_surroundings
from iqdb_core.likelihood_words import CERTAIN, LIKELY
from iqdb_core.model import CHANNELS, KEPT, SIDE, QuerySignature, Rectangle, Signature
from iqdb_core.signature import DecodeLimits, from_image_bytes, read_query
from tests.fixtures.index_rows import index_of
from tests.fixtures.pictures import encoded, photos
from tests.fixtures.screenshots import in_chat, photo

SHOWN = (0, 6, 12)
"""Photos of which screenshots are in the index."""
OTHERS = range(1, len(photos()), 2)


def _pixels(number: int) -> range:
    """Return which of 128 pixels in a line a Haar function is not zero on: halves of halves of all."""
    if number == 0:
        return range(SIDE)
    first, width = 0, SIDE
    for bit in bin(number)[3:]:
        width //= 2
        first += width * int(bit)
    return range(first, first + width)


def _share_within(position: int, part: Rectangle, box: Rectangle) -> Fraction:
    """Return which share of a coefficient's pixels, of a picture of `box`, lies in the part."""
    share = Fraction(1)
    sides = (part.y, part.height, box.y, box.height), (part.x, part.width, box.x, box.width)
    for number, (start, length, whole_start, whole) in zip(divmod(abs(position), SIDE), sides, strict=True):
        pixels = _pixels(number)
        begin = Fraction((start - whole_start) * SIDE, whole)
        end = begin + Fraction(length * SIDE, whole)
        within = min(end, Fraction(pixels.stop)) - max(begin, Fraction(pixels.start))
        share *= max(within, Fraction(0)) / len(pixels)
    return share


def _told(signature: Signature, channel: int) -> set[int]:
    if channel > 0 and signature.is_grey:
        return set()
    held = set(signature.signed_positions()[channel].tolist())
    filler = [one for one in signature.signed_positions()[channel].tolist() if -KEPT <= one < 0]
    return held - set(filler if len(filler) >= 14 else [])


def _naive(asked: list[QuerySignature], number: int, other: Signature) -> bool:
    """Say of one pair what `share_surroundings` says, coefficient by coefficient."""
    one, size = asked[number], asked[0].size
    if size is None or one.turn not in {"none", "mirror"}:
        return False
    box = one.part or Rectangle(0, 0, *size)
    for part in (inner.part for inner in asked if inner.part is not None and inner.turn == "none"):
        right, bottom = box.x + box.width - part.x - part.width, box.y + box.height - part.y - part.height
        share = part.width * part.height / (box.width * box.height)
        if min(part.x - box.x, part.y - box.y, right, bottom) < -2 or not 0.15 <= share <= 0.85:
            continue
        shown = replace(part, x=box.x + right) if one.turn == "mirror" else part
        counts = dict.fromkeys(("in", "out", "shared in", "shared out", "theirs in"), 0)
        for channel in range(CHANNELS):
            held = set(other.signed_positions()[channel].tolist())
            if channel > 0 and other.is_grey:
                held = set()
            for position in _told(one.signature, channel):
                within = _share_within(position, shown, box)
                side = "in" if within >= Fraction(4, 5) else "out" if within <= Fraction(1, 5) else None
                if side is not None:
                    counts[side] += 1
                    counts[f"shared {side}"] += position in held
            counts["theirs in"] += sum(
                _share_within(position, shown, box) >= Fraction(4, 5) for position in _told(other, channel)
            )
        if (
            min(counts["in"], counts["out"]) >= 10
            and counts["shared in"] <= 0.2 * counts["in"]
            and counts["shared out"] >= 0.4 * counts["out"]
            and counts["theirs in"] >= 0.25 * counts["in"]
        ):
            return True
    return False


def _part_of(random: np.random.Generator, size: tuple[int, int]) -> Rectangle:
    """Return a rectangle that is often large and within the picture, or sticks out a little."""
    width, height = (max(1, int(side * random.uniform(0.2, 1))) for side in size)
    x, y = (
        int(random.integers(-2, max(1, side - of_part + 3)))
        for side, of_part in zip(size, (width, height), strict=True)
    )
    return Rectangle(x, y, width, height)


def _random_signature(random: np.random.Generator, *, is_grey: bool) -> Signature:
    octaves = random.integers(0, 7, (2, CHANNELS, KEPT))
    rows, columns = random.integers(0, 1 << octaves) + (1 << octaves) - (octaves == 0)
    positions = np.maximum(1, rows * SIDE + columns) * random.choice([-1, 1], (CHANNELS, KEPT))
    averages = (0.5, 0.001, 0.001) if is_grey else (0.5, 0.1, 0.1)
    return Signature(averages, np.sort(positions).astype("<i2").tobytes())


def _changed_within(
    signature: Signature, other: Signature, part: Rectangle, size: tuple[int, int], share: float
) -> Signature:
    """Return a signature with some of the coefficients inside a part, or most of them, those of another."""
    box = Rectangle(0, 0, *size)
    positions = signature.signed_positions().copy()
    for channel, row in enumerate(positions.tolist()):
        for place, position in enumerate(row):
            if _share_within(position, part, box) > Fraction(3, 5) and place % 10 < 10 * share:
                positions[channel, place] = other.signed_positions()[channel, place]
    return Signature(signature.averages, positions.tobytes())


@given(seed=st.integers(0, 2**32 - 1), share=st.sampled_from([0, 0.5, 0.8, 1]), is_grey=st.booleans())
@settings(max_examples=25, deadline=None)
def test_inside_and_outside_of_a_part_match_a_count_of_coefficients(
    seed: int, share: float, is_grey: bool
) -> None:
    random = np.random.default_rng(seed)
    width, height = random.integers(1, 5000, 2).tolist()
    size = (width, height) if seed % 9 else None
    asked = [QuerySignature(_random_signature(random, is_grey=is_grey), size=size)]
    for turn in ("none", "none", "mirror", "flip"):
        part = _part_of(random, (width, height))
        asked.append(QuerySignature(_random_signature(random, is_grey=is_grey), part, turn, size))
    asked.append(QuerySignature(asked[0].signature, None, "mirror", size))
    whole, stranger = asked[0].signature, _random_signature(random, is_grey=False)
    changed = [
        _changed_within(whole, stranger, replace(one.part, x=x), (width, height), share)
        for one in asked[1:]
        if one.part
        for x in (one.part.x, width - one.part.x - one.part.width)
    ]
    others = [whole, stranger, *changed, asked[1].signature]
    n = len(asked) * len(others)
    numbers, rows = np.divmod(np.arange(n), len(others))
    asked_for, of_others = rows_of([one.signature for one in asked]), rows_of(others)
    held, held_by_others = held_by(asked_for), held_by(of_others)
    shared = shared_by(held, held_by_others, numbers, rows)
    logits, scores = random.uniform(-1, 9, n), random.uniform(20, 80, n)
    found = share_surroundings(asked, held, held_by_others, rows, shared, scores, logits)
    for pair, is_around in enumerate(found.tolist()):
        expected = (
            logits[pair] > 0 and scores[pair] < 70 and _naive(asked, int(numbers[pair]), others[rows[pair]])
        )
        assert is_around == expected


def _with_bar(picture: Image.Image) -> Image.Image:
    barred = picture.copy()
    width, height = barred.size
    ImageDraw.Draw(barred).rectangle((width * 0.3, height * 0.3, width * 0.75, height * 0.42), "black")
    return barred


def _asked(image: Image.Image, quality: int = 85) -> list[QuerySignature]:
    data = encoded(image, "JPEG", quality=quality)
    return read_query(data, turns=None, limits=DecodeLimits()).signatures


def _signature(image: Image.Image) -> Signature:
    return from_image_bytes(encoded(image, "JPEG", quality=90))


@pytest.fixture(scope="module")
def index() -> Iterator[ImageIndex]:
    """All photos, and behind them screenshots of a few of them in one app."""
    known = [from_image_bytes(path.read_bytes()) for path in photos()]
    with index_of([*known, *(_signature(in_chat(photo(number), number)) for number in SHOWN)]) as opened:
        yield opened


def test_a_picture_ranks_before_other_screenshots_of_the_same_app(index: ImageIndex) -> None:
    n = len(photos())
    first = alarms = 0
    for number in OTHERS:
        matches = index.find_copies(_asked(in_chat(photo(number), number)), limit=9).matches
        first += matches[0].image_id == number
        alarms += any(match.image_id >= n and match.likelihood >= LIKELY for match in matches)
    assert first >= len(OTHERS) * 3 // 4
    assert alarms <= len(OTHERS) // 2


def test_a_screenshot_that_is_known_is_found(index: ImageIndex) -> None:
    for place, number in enumerate(SHOWN):
        screen = in_chat(photo(number), number)
        for asked in (_asked(screen, 60), _asked(screen.resize((270, 480))), _asked(_with_bar(screen))):
            best = index.find_copies(asked, limit=1).matches[0]
            assert best.image_id == len(photos()) + place
            assert best.likelihood > CERTAIN


def test_a_copy_with_a_bar_over_it_is_as_likely_as_before(index: ImageIndex) -> None:
    likely = 0
    for number in range(0, len(photos()), 3):
        asked = _asked(_with_bar(photo(number)))
        unjudged = [replace(one, size=None) for one in asked]
        (found,), (before,) = (index.find_copies(each, limit=1).matches for each in (asked, unjudged))
        assert (found.image_id, found.likelihood) == (before.image_id, before.likelihood)
        likely += found.likelihood >= LIKELY
    assert likely > 10


def test_two_screenshots_of_one_app_are_no_copies_of_each_other() -> None:
    shown = [_signature(in_chat(photo(number), number)) for number in SHOWN]
    seeming = 0
    for number in (1, 13, 26, 46):
        asked = _asked(in_chat(photo(number), number))
        assert compare(asked, _signature(photo(number))).likelihood >= LIKELY
        for other in shown:
            assert compare(asked, other).likelihood < LIKELY
            seeming += compare([replace(one, size=None) for one in asked], other).likelihood >= LIKELY
    assert seeming >= 5
