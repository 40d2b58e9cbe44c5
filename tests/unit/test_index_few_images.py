"""Likelihoods where there are few images, one or none: strangers are no copies, and copies still are."""

from __future__ import annotations

import itertools

import pytest

from iqdb_core.index import compare
from iqdb_core.likelihood_words import CERTAIN
from iqdb_core.model import QuerySignature, Signature
from iqdb_core.signature import from_image_bytes, turned
from tests.fixtures.decoded import photo_signatures
from tests.fixtures.index_rows import index_of
from tests.fixtures.pictures import variants

WHOLE = {"half", "q15", "crop8", "grey", "mirror", "watermark", "gamma", "webp"}
HUGE = (1e3, 1e38, 1e307, 1.7e308)


def test_different_pictures_are_no_copies_of_each_other_though_they_are_all_there_is() -> None:
    pairs = list(itertools.permutations(photo_signatures(), 2))
    compared = [compare(turned([QuerySignature(first)]), second).likelihood for first, second in pairs]
    assert len(compared) > 500
    assert max(compared) < 0.5


@pytest.mark.parametrize("n", [1, 2, 3, 10])
def test_an_unrelated_picture_among_few_is_no_copy(n: int) -> None:
    known = photo_signatures()
    found = []
    for start in range(0, len(known) - n, max(n, 5)):
        with index_of(known[start : start + n]) as index:
            for stranger in (*known[:start], *known[start + n :]):
                copies = index.find_copies(turned([QuerySignature(stranger)]), limit=1).matches
                found += [copy.likelihood for copy in copies]
    assert len(found) > 50
    assert max(found) < 0.5


def test_copies_are_likely_without_an_index_and_in_one_of_one_image() -> None:
    """Of the changes that leave the whole picture; a piece of it shows only among many who share less."""
    copies = [(copy, photo) for copy, photo, name in variants() if name in WHOLE]
    assert len(copies) > 10
    for copy, photo in copies:
        signature, known = (from_image_bytes(path.read_bytes()) for path in (copy, photo))
        assert compare(turned([QuerySignature(signature)]), known).likelihood > CERTAIN, copy
        with index_of([known]) as index:
            (found,) = index.find_copies(turned([QuerySignature(signature)]), limit=1).matches
        assert found.likelihood > CERTAIN, copy


def test_a_picture_compared_with_itself_scores_100() -> None:
    for one in photo_signatures():
        found = compare(turned([QuerySignature(one)]), one)
        assert found.score == pytest.approx(100)
        assert (found.part, found.turn) == (None, "none")
        assert found.signature == one


@pytest.mark.parametrize("channel", range(3))
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("is_asked", [True, False])
def test_averages_that_no_picture_has_speak_against_a_copy(
    channel: int, sign: int, *, is_asked: bool
) -> None:
    """Any finite number is accepted in a hash, and found in files of IQDB."""
    known = photo_signatures()[:20]
    for value in HUGE:
        averages = list(known[7].averages)
        averages[channel] = sign * value
        strange = Signature((averages[0], averages[1], averages[2]), known[7].positions)
        query = strange if is_asked else known[7]
        with index_of(known if is_asked else [*known[:7], strange, *known[8:]]) as index:
            copies = {
                copy.image_id: copy for copy in index.find_copies([QuerySignature(query)], limit=20).matches
            }
        assert all(0 <= copy.likelihood <= 1 for copy in copies.values())
        if not query.is_grey:
            assert copies[7].likelihood < 0.1
            assert compare([QuerySignature(query)], known[7] if is_asked else strange).likelihood < 0.1
