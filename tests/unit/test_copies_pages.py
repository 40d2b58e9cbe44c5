"""Pages of a search for copies: parts of one list, however many candidates each of them needs."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from iqdb_core.index import ImageIndex, snapshot
from iqdb_core.index.evidence import copies
from iqdb_core.index.evidence.candidates import BEST, depths_for
from iqdb_core.index.evidence.copies import CopyFilter
from iqdb_core.index.evidence.distinctive import effort
from iqdb_core.model import Copy, QuerySignature, Rectangle, Signature
from iqdb_core.signature import DecodeLimits, read_query, turned
from tests.fixtures.decoded import photo_signatures
from tests.fixtures.index_rows import index_of, realistic_rows, signature_at
from tests.fixtures.pictures import encoded, photos

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator


STRANGERS, COPIES = 600, 40
MANY = 2_000
"""Where each image counts as so many, the first round has few candidates."""


@pytest.fixture(scope="module")
def index() -> Iterator[ImageIndex]:
    """All photos, strangers, and copies of the first photo, each less like it than the one before."""
    random = np.random.default_rng(5)
    strangers = realistic_rows(random, STRANGERS)
    (first, *_) = photo_signatures()
    every = [*photo_signatures(), *(signature_at(*strangers, row) for row in range(STRANGERS))]
    for n in range(COPIES):
        positions = first.signed_positions().copy()
        positions[:, random.choice(40, n // 6, replace=False)] = 9_000 + n
        every.append(Signature(first.averages, np.sort(positions).astype("<i2").tobytes()))
    with index_of(every) as opened:
        yield opened


@functools.cache
def _asked(kind: str) -> list[QuerySignature]:
    with Image.open(photos()[0]) as opened:
        page = ImageOps.expand(opened.convert("RGB"), border=opened.width // 5, fill="navy")
    whole = [QuerySignature(photo_signatures()[0])]
    return {
        "whole": whole,
        "stranger": [QuerySignature(photo_signatures()[1])],
        "turns": turned(whole, "all,negative"),
        "parts": read_query(
            encoded(page, "JPEG", quality=85), turns="mirror", limits=DecodeLimits()
        ).signatures,
    }[kind]


def _found(
    index: ImageIndex, kind: str, times: int, exclude: Collection[int] = (), **words: Any
) -> list[Copy]:
    """Search as if each image counted as so many."""
    many = dataclasses.replace(index._snapshot.without(exclude), image_count=index.image_count * times)
    wanted = CopyFilter(**words)
    return many.copies(_asked(kind), wanted, index._counts.counts * times, index._threads).matches


@pytest.mark.parametrize(
    ("kind", "times", "words"),
    [
        ("whole", 1, {}),
        ("turns", 1, {"min_score": 20.0}),
        ("parts", 1, {"min_likelihood": 1e-6}),
        ("stranger", MANY, {}),
        ("whole", MANY, {"min_likelihood": 0.9}),
        ("whole", MANY, {"min_likelihood": 1e-6}),
        ("turns", MANY, {"min_detail": 250.0}),
        ("parts", MANY, {}),
        ("parts", MANY, {"exclude": frozenset(range(0, 700, 3))}),
    ],
)
def test_pages_of_one_size_put_together_have_every_match_once(
    index: ImageIndex, kind: str, times: int, words: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = {match.image_id for match in _found(index, kind, times, limit=1000, **words)}
    for size in (12, 200):
        matches: list[Copy] = []
        while page := _found(index, kind, times, limit=size, offset=len(matches), **words):
            matches += page
        found = {match.image_id for match in matches}
        assert len(matches) == len(found) > 30
        assert found <= everything
        if not {"min_likelihood", "min_score"} & words.keys():  # else it ends where nothing more is expected
            assert found == everything
        for offset in (3, 17, 130):
            page = _found(index, kind, times, limit=size, offset=offset, **words)
            assert page == matches[offset : offset + size]
            if size == 12:  # pages that are no larger than what is looked at anyway fit with each other, too
                assert _found(index, kind, times, limit=5, offset=offset, **words) == page[:5]
        with monkeypatch.context() as all_rounds:
            all_rounds.setattr(copies, "first_round", lambda depths, *_: len(depths) - 1)
            for offset in (0, 2 * size):
                page = _found(index, kind, times, limit=size, offset=offset, **words)
                assert page == matches[offset : offset + size]


@pytest.mark.parametrize(
    ("kind", "times"), [("whole", 1), ("turns", 1), ("parts", 1), ("whole", MANY), ("turns", MANY)]
)
def test_all_copies_come_first_though_they_are_more_than_a_round_looks_at(
    index: ImageIndex, kind: str, times: int
) -> None:
    n = len(photo_signatures()) + STRANGERS
    wanted = {0, *range(n, n + COPIES)}
    best = _found(index, kind, times, limit=len(wanted))
    assert {match.image_id for match in best} == wanted
    assert min(match.likelihood for match in best) > 0.5


def test_all_copies_of_a_part_are_found_though_all_of_its_buckets_are_rare() -> None:
    random = np.random.default_rng(8)
    strangers = realistic_rows(random, 200)
    signed = random.integers(2_000, 16_000, (3, 40)) * random.choice([-1, 1], (3, 40))
    rare = Signature((0.5, 0.02, 0.01), np.sort(signed).astype("<i2").tobytes())
    asked = [QuerySignature(signature_at(*strangers, 0)), QuerySignature(rare, Rectangle(9, 9, 90, 90))]
    with index_of([*(signature_at(*strangers, row) for row in range(200)), *[rare] * 8]) as index:
        among_a_million = dataclasses.replace(index._snapshot, image_count=1_000_000)
        counts, threads = index._counts.counts, index._threads
        matches = among_a_million.copies(asked, CopyFilter(9), counts, threads).matches
    assert {match.image_id for match in matches if match.likelihood > 0.99} == {0, *range(200, 208)}


@pytest.mark.parametrize("image_count", [0, 100_000, 300_000, 1_000_000, 10**9])
def test_each_round_searches_deeper_than_the_one_before(image_count: int) -> None:
    for page_size in (1, 10, 100, 971, 972, 973, 2_000):
        depths = depths_for(page_size, image_count)
        assert depths[0] == page_size
        assert depths[-1] >= 972
        of_whole = np.maximum(depths, int(BEST * effort(image_count)))
        assert (np.diff(of_whole) > 0).all()


def test_the_first_page_has_few_candidates_and_further_pages_have_more(
    index: ImageIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = []
    search = snapshot.search

    def noting(*args: Any, **words: Any) -> Any:
        limits.append(words["limit"])
        return search(*args, **words)

    monkeypatch.setattr(snapshot, "search", noting)
    for offset in (0, 10, 200):
        _found(index, "stranger", MANY, limit=10, offset=offset)
        _found(index, "stranger", MANY, limit=10, offset=offset, min_likelihood=0.9)
        assert not _found(index, "stranger", MANY, limit=10, offset=offset, min_detail=1e6)
    assert limits == [12, 12, 12, 36, 36, 36, 324, 324, 324]
