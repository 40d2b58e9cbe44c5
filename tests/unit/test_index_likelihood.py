"""Evidence between signatures, and copies, against plain arithmetic; what the search for copies promises."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from iqdb_core.index import ImageIndex, IndexOptions, compare
from iqdb_core.index.evidence.likelihood import (
    Evidence,
    Population,
    details_of,
    likelihoods,
    log_odds,
    without_few_places,
)
from iqdb_core.index.evidence.sharing import Shared, held_by, shared_by
from iqdb_core.index.rows import Signatures
from iqdb_core.likelihood_words import CERTAIN, LIKELY
from iqdb_core.model import (
    BUCKETS,
    CHANNELS,
    KEPT,
    PLANE,
    SIDE,
    ChangeBatch,
    QuerySignature,
    Rectangle,
    Signature,
)
from iqdb_core.signature import DecodeLimits, from_channels, from_image_bytes, read_query
from tests.fixtures.decoded import photo_signatures
from tests.fixtures.index_rows import index_of, random_rows, realistic_rows, signature_at
from tests.fixtures.pictures import encoded, photos
from tests.naive_copies import naive_copies, naive_evidence, shared_places


def _compared(query: Signature, others: Signatures, population: Population) -> tuple[Evidence, Shared]:
    """Return the evidence of one signature, and what others share with it."""
    asked = _rows(query)
    held, n = held_by(asked), len(others.averages)
    shared = shared_by(held, held_by(others), np.zeros(n, np.int64), np.arange(n))
    return Evidence(held, asked.averages, population), shared


def _signature(random: np.random.Generator, *, is_grey: bool = False, span: int = 300) -> Signature:
    positions = np.sort(random.integers(1, span, (CHANNELS, KEPT)) * random.choice([-1, 1], (CHANNELS, KEPT)))
    y, i, q = random.random(3).tolist()
    averages = (y, 0.001, 0.001) if is_grey else (y, i - 0.5, q - 0.5)
    return Signature(averages, positions.astype("<i2").tobytes())


@given(
    seed=st.integers(0, 2**32 - 1),
    is_grey=st.booleans(),
    other_is_grey=st.booleans(),
    n=st.integers(1, 10**7),
)
@settings(max_examples=40, deadline=None)
def test_evidence_equals_the_naive_model(seed: int, is_grey: bool, other_is_grey: bool, n: int) -> None:
    random = np.random.default_rng(seed)
    counts = random.integers(0, max(1, n // 3), BUCKETS).astype(np.int32)
    query = _signature(random, is_grey=is_grey)
    others = [_signature(random, is_grey=other_is_grey), query, _signature(random, span=PLANE)]
    rows = Signatures(
        np.array([other.averages for other in others]),
        np.stack([other.signed_positions() for other in others]),
    )
    population = Population(counts, n)
    modelled, corrected = zip(
        *(naive_evidence(query, other, counts.tolist(), n) for other in others), strict=True
    )
    evidence, shared = _compared(query, rows, population)
    alone = evidence.modelled(shared, evidence.apart(shared, rows.averages))
    np.testing.assert_allclose(alone, modelled, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(evidence.about(shared, rows.averages), corrected, rtol=1e-9, atol=1e-9)
    assert _detail(query, population) == pytest.approx(max(0.0, modelled[1] / math.log(2)))


def test_evidence_about_a_pair_is_the_same_to_the_bit_in_any_company() -> None:
    random = np.random.default_rng(3)
    query = _signature(random)
    others = [_signature(random) for _ in range(400)]
    near = np.array([query.averages]) + random.normal(0, 0.02, (len(others), CHANNELS))
    rows = Signatures(near, np.stack([other.signed_positions() for other in others]))
    population = Population(random.integers(0, 300, BUCKETS).astype(np.int32), 1000)
    evidence, shared = _compared(query, rows, population)
    together = evidence.about(shared, rows.averages)
    for n in range(1, 60):
        for first in range(0, len(others) - n, 37):
            some = Signatures(*(column[first : first + n] for column in rows))
            evidence, shared = _compared(query, some, population)
            alone = evidence.about(shared, some.averages)
            np.testing.assert_array_equal(alone, together[first : first + n])


def _of_pixels(change: Callable[[NDArray[np.uint8]], None], level: int = 100) -> Signature:
    pixels = np.full((SIDE, SIDE, CHANNELS), level, np.uint8)
    pixels[..., 0] += 1
    change(pixels)
    return from_channels(*pixels.reshape(PLANE, CHANNELS).T.copy())


def _with_lines(pixels: NDArray[np.uint8]) -> None:
    pixels[30:32] = 200
    pixels[:, 64:] = 90


def _grey(pixels: NDArray[np.uint8]) -> None:
    pixels[...] = pixels[..., 1:2]


@pytest.mark.parametrize("n", [2, 1000, 1_000_000])
def test_flat_pictures_prove_nothing(n: int) -> None:
    counts = Population(np.full(BUCKETS, n // 50, np.int32), n)
    flat, other = _of_pixels(lambda _: None), _of_pixels(lambda _: None, 101)
    for query in (flat, _of_pixels(_grey)):
        assert _detail(query, counts) < 1
        evidence, shared = _compared(query, _rows(other), counts)
        about = evidence.about(shared, _rows(other).averages)
        assert likelihoods(log_odds(about, np.array([100.0]), n, trust=evidence.trusts))[0] < 0.5
    lines = _of_pixels(_with_lines)
    assert _detail(lines, counts) < 100


def _detail(signature: Signature, population: Population) -> float:
    rows = _rows(signature)
    return float(details_of(held_by(rows), rows.averages, population)[0])


def _rows(signature: Signature) -> Signatures:
    return Signatures(np.array([signature.averages]), signature.signed_positions()[None])


def test_likelihood_falls_with_the_images_searched_and_for_parts() -> None:
    evidence, score = np.array([40.0]), np.array([50.0])
    few, many = (log_odds(evidence, score, n)[0] for n in (20_000, 20_000_000))
    assert few - many == pytest.approx(math.log(1000))
    assert log_odds(evidence, score, 1)[0] == log_odds(evidence, score, 10_000)[0]
    assert log_odds(evidence, score, 20_000, is_plain=False)[0] < few
    assert log_odds(evidence, score, 20_000, trust=0.1)[0] < few
    assert log_odds(evidence, score, 20_000, is_late=True)[0] == few - 1
    np.testing.assert_allclose(likelihoods(np.array([-1e9, 0.0, 1e9])), [0, 0.5, 1], atol=1e-12)


def test_among_certain_copies_the_whole_picture_comes_first_and_parts_keep_their_order() -> None:
    evidence, score = np.array([400.0, 600.0, 900.0]), np.full(3, 90.0)
    whole = log_odds(evidence, score, 20_000)
    parts = log_odds(evidence, score, 20_000, is_plain=False)
    assert (np.diff(parts) > 0).all()
    assert (likelihoods(parts) > CERTAIN).all()
    assert whole[0] > parts[2]


def test_a_whole_picture_that_scores_little_comes_no_sooner_than_a_certain_part() -> None:
    evidence = np.array([600.0, 900.0])
    screenshot = log_odds(evidence, np.array([74.9, 60.0]), 20_000)
    assert (likelihoods(screenshot) > CERTAIN).all()
    assert screenshot[0] < log_odds(evidence[1:], np.array([90.0]), 20_000, is_plain=False)[0]
    assert screenshot[0] < log_odds(evidence[:1], np.array([75.0]), 20_000)[0] - 3


def test_a_match_that_scores_next_to_nothing_is_not_likely_whatever_it_shares() -> None:
    evidence = np.array([550.0, 700.0])
    low, enough = (log_odds(evidence, np.full(2, score), 20_000) for score in (39.9, 40.0))
    assert (likelihoods(enough) > CERTAIN).all()
    assert (likelihoods(low) < 0.95).all()
    assert low[0] < low[1]


def test_two_pictures_that_share_fine_colour_at_one_place_only_are_not_likely_to_be_the_same() -> None:
    random = np.random.default_rng(6)
    rows = realistic_rows(random, 300)
    strangers = [signature_at(*rows, row) for row in range(300)]
    own, other = (one.signed_positions().copy() for one in strangers[:2])
    own[1:, :20] = other[1:, :20] = random.permutation(np.arange(5_000, 16_000))[:40].reshape(2, 20)
    asked, found = (
        Signature((level, 0.02, 0.01), np.sort(positions).astype("<i2").tobytes())
        for level, positions in ((0.2, own), (0.9, other))
    )
    with index_of([*strangers[1:], found]) as index:
        (match, *_) = index.find_copies([QuerySignature(asked)], limit=1).matches
    assert match.image_id == 299
    assert match.score < 40
    assert 0.5 < match.likelihood < LIKELY


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_a_match_that_shares_few_places_counts_like_one_of_a_low_score(seed: int) -> None:
    random = np.random.default_rng(seed)
    rows = Signatures(*random_rows(random, 12, n_positions=80))
    numbers, others = np.divmod(np.arange(144), 12)
    logits, scores = random.uniform(-5, 12, 144), random.uniform(65, 85, 144)
    held = held_by(rows)
    found = without_few_places(held, shared_by(held, held, numbers, others), scores, logits)
    for number, other, score, before, after in zip(numbers, others, scores, logits, found, strict=True):
        places = shared_places(signature_at(*rows, number), signature_at(*rows, other))
        is_damped = score < 75 and len(places) < 30 and before > 0
        assert after == (pytest.approx(math.log1p(before)) if is_damped else before)


def test_two_things_of_one_colour_at_one_place_on_white_are_not_likely_to_be_the_same() -> None:
    author, box = (Image.new("RGB", (568, 160), "white") for _ in range(2))
    ImageDraw.Draw(author).ellipse((16, 14, 64, 62), "#b03060")
    ImageDraw.Draw(author).text((16, 90), "did you see this one already?", "black", font_size=22)
    ImageDraw.Draw(box).rectangle((14, 12, 66, 64), "#c02020")
    ImageDraw.Draw(box).text((300, 90), "nothing of the kind", "black", font_size=22)
    asked, smaller, found = (
        QuerySignature(from_image_bytes(encoded(picture, "PNG")))
        for picture in (author, author.resize((284, 60)), box)
    )
    false, right = compare([asked], found.signature), compare([asked], smaller.signature)
    assert 50 < false.score < 75
    assert 0.5 < false.likelihood < LIKELY
    assert right.likelihood > LIKELY


@pytest.fixture(scope="module")
def index() -> ImageIndex:
    """300 images in segments and 20 in the head; every 10th is a copy of the one before, with changes."""
    random = np.random.default_rng(7)
    signatures = [_signature(random, span=3000) for _ in range(320)]
    for n in range(10, 320, 10):
        positions = signatures[n - 1].signed_positions().copy()
        positions[:, ::8] = random.integers(8000, 16000, (CHANNELS, 5))
        signatures[n] = Signature(signatures[n - 1].averages, np.sort(positions).astype("<i2").tobytes())
    opened = ImageIndex.open(None, store_id="copies", options=IndexOptions(head_capacity=100))
    for first in (0, 100, 200, 300):
        part = signatures[first : first + 100]
        opened.apply(
            ChangeBatch(
                seqs=np.arange(first + 1, first + 1 + len(part), dtype=np.int64),
                image_ids=np.arange(first, first + len(part), dtype=np.int64),
                is_live=np.ones(len(part), np.bool_),
                averages=np.array([one.averages for one in part]),
                positions=np.stack([one.signed_positions() for one in part]),
            )
        )
    yield opened
    opened.close()


def _of(index: ImageIndex, image_id: int) -> Signature:
    signature = index.get(image_id)
    assert signature is not None
    return signature


def test_copies_are_found_each_once_with_the_part_that_fits(index: ImageIndex) -> None:
    stranger = _signature(np.random.default_rng(99))
    part = Rectangle(1, 2, 3, 4)
    asked = [
        QuerySignature(stranger),
        QuerySignature(_of(index, 310), part, "mirror"),
        QuerySignature(_of(index, 19), part),
    ]
    found = index.find_copies(asked, limit=50)
    assert {match.image_id for match in found.matches[:4]} == {309, 310, 19, 20}
    assert all(match.likelihood > 0.99 for match in found.matches[:4])
    assert all(match.likelihood < 0.5 for match in found.matches[4:])
    assert len({match.image_id for match in found.matches}) == len(found.matches) == 50
    by_id = {match.image_id: match for match in found.matches}
    assert (by_id[309].part, by_id[309].turn) == (part, "mirror")
    assert (by_id[20].part, by_id[20].turn) == (part, "none")
    assert by_id[19].signature == _of(index, 19)
    assert by_id[19].score == pytest.approx(100)
    likelihoods_ = [match.likelihood for match in found.matches]
    assert likelihoods_ == sorted(likelihoods_, reverse=True)
    assert found.detail > 100
    assert by_id[19].detail > 100


def test_parts_after_the_first_eight_need_more_to_be_as_likely(index: ImageIndex) -> None:
    random = np.random.default_rng(98)
    fillers = [QuerySignature(_signature(random), Rectangle(n, 0, 9, 9)) for n in range(8)]
    whole, right = QuerySignature(_signature(random)), Rectangle(8, 0, 9, 9)

    def odds(*asked: QuerySignature) -> dict[int, float]:
        matches = index.find_copies([whole, *asked], limit=100).matches
        by_id = {match.image_id: match.likelihood for match in matches if match.part == right}
        return {image_id: math.log(by_id[image_id] / (1 - by_id[image_id])) for image_id in (310, 19)}

    found = QuerySignature(_of(index, 310), right), QuerySignature(_of(index, 19), right, "mirror")
    early, late = odds(*fillers[:7], *found, fillers[7]), odds(*fillers, *found)
    for image_id, value in early.items():
        assert value - late[image_id] == pytest.approx(1, abs=1e-3)


def test_pages_filters_and_exclusions(index: ImageIndex) -> None:
    asked = [QuerySignature(_of(index, 29))]
    everything = index.find_copies(asked, limit=100).matches
    assert index.find_copies(asked, limit=10, offset=7).matches == everything[7:17]
    assert index.find_copies(asked, limit=10, exclude={29}).matches[0].image_id == 30
    in_segment_and_head = {29, *(match.image_id for match in everything[1::9]), 300, 319, 2**62}
    others = [match for match in everything if match.image_id not in in_segment_and_head]
    found = index.find_copies(asked, limit=100, exclude=in_segment_and_head).matches
    assert found[: len(others)] == others
    assert not {match.image_id for match in found} & in_segment_and_head
    assert index.find_copies(asked, limit=9, exclude=range(320)).matches == []
    assert [m.image_id for m in index.find_copies(asked, limit=10, min_likelihood=0.9).matches] == [29, 30]
    assert [m.image_id for m in index.find_copies(asked, limit=10, min_score=50.0).matches] == [29, 30]
    assert index.find_copies(asked, limit=10, min_detail=1e6).matches == []
    for wrong in ({"limit": 0}, {"limit": 1, "offset": -1}):
        with pytest.raises(ValueError, match="at least"):
            index.find_copies(asked, **wrong)
    with pytest.raises(ValueError, match="at least one"):
        index.find_copies([], limit=1)


@given(
    seed=st.integers(0, 2**32 - 1),
    n_copies=st.integers(0, 4),
    limit=st.integers(1, 30),
    offset=st.integers(0, 30),
    min_score=st.none() | st.floats(-20, 60),
    min_likelihood=st.none() | st.floats(0, 1),
    min_detail=st.none() | st.floats(0, 400),
    is_grey=st.booleans(),
)
@settings(max_examples=20, deadline=None)
def test_where_all_images_are_candidates_copies_are_those_of_plain_arithmetic(
    seed: int, n_copies: int, limit: int, offset: int, is_grey: bool, **least: float | None
) -> None:
    random = np.random.default_rng(seed)
    query = _signature(random, is_grey=is_grey)
    images = {n: _signature(random, is_grey=n % 5 == 0) for n in range(12)}
    for n in range(12, 12 + n_copies):
        loss = int(random.integers(0, KEPT))
        positions = query.signed_positions().copy()
        positions[:, random.permutation(KEPT)[:loss]] = random.integers(1, 300, (CHANNELS, loss))
        images[n] = Signature(query.averages, np.sort(positions).astype("<i2").tobytes())
    expected = naive_copies(images, query, **least)
    with index_of(images.values()) as index:
        found = index.find_copies([QuerySignature(query)], limit=limit, offset=offset, **least).matches
        rest = index.find_copies([QuerySignature(query)], limit=limit, exclude={12, 13}, **least).matches
    page = expected[offset : offset + limit]
    assert [match.image_id for match in found] == [copy.image_id for copy in page]
    for match, copy in zip(found, page, strict=True):
        assert match.score == pytest.approx(copy.score)
        assert match.likelihood == pytest.approx(copy.likelihood, rel=1e-6)
        assert match.detail == pytest.approx(copy.detail)
        assert match.signature == images[copy.image_id]
    assert {match.image_id for match in rest} <= {copy.image_id for copy in expected} - {12, 13}


def test_an_empty_index_has_no_copies() -> None:
    with ImageIndex.open(None, store_id="empty", options=IndexOptions()) as empty:
        found = empty.find_copies([QuerySignature(_signature(np.random.default_rng(1)))], limit=3)
    assert found.matches == []


def _is_within(part: Rectangle, size: tuple[int, int] | None) -> bool:
    width, height = size or (0, 0)
    return min(part.x, part.y, width - part.x - part.width, height - part.y - part.height) >= 0


@pytest.mark.parametrize(
    ("left", "top", "right", "bottom", "more_than_plain", "likely"),
    [
        (0, 0, 0.5, 0, 8, 0),
        (0, 0.3, 0, 0, 5, 25),
        (0.14, 0, 0.14, 0, 1, 27),
        (0.1, 0.1, 0.1, 0.1, 5, 30),
        (0.2, 0.2, 0.2, 0.2, 9, 8),
    ],
)
def test_crops_are_found_more_often_than_by_score(
    left: float, top: float, right: float, bottom: float, more_than_plain: int, likely: int
) -> None:
    paths = photos()
    by_score = by_likelihood = n_likely = 0
    with index_of(photo_signatures()) as of_photos:
        for image_id, path in enumerate(paths):
            with Image.open(path) as opened:
                picture = opened.convert("RGB")
            w, h = picture.size
            box = (round(w * left), round(h * top), round(w * (1 - right)), round(h * (1 - bottom)))
            data = encoded(picture.crop(box), "JPEG", quality=85)
            asked = read_query(data, turns="mirror", limits=DecodeLimits()).signatures
            by_score += of_photos.query(asked[0].signature, 1)[0].image_id == image_id
            best = of_photos.find_copies(asked, limit=1).matches[0]
            by_likelihood += best.image_id == image_id
            n_likely += best.image_id == image_id and best.likelihood >= LIKELY
            assert best.part is None or _is_within(best.part, asked[0].size)
    assert by_likelihood >= by_score + more_than_plain
    assert n_likely >= likely
