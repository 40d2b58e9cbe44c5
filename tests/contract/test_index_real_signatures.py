"""Signatures of real pictures: IQDB's own answers, and the oracle's."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from iqdb_core import forms
from iqdb_core.codec import from_hash
from iqdb_core.index import ImageIndex, IndexOptions
from iqdb_core.signature import from_image_bytes
from tests.fixtures.index_rows import Feed, batch_of, batch_of_rows, realistic_rows
from tests.fixtures.pictures import encoded
from tests.naive_index import NaiveIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from iqdb_core.model import Signature

FIXTURES = Path(__file__).parents[1] / "fixtures"
TOLERANCE = 0.001
HEAD_ONLY, SEGMENTS = 1_024, 8


@pytest.fixture(params=["compiled", "plain"])
def form(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "plain":
        forms.use_plain()
    yield request.param
    forms.use_compiled()


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("head_capacity", [HEAD_ONLY, SEGMENTS])
def test_iqdb_s_own_queries_have_its_matches_and_scores(head_capacity: int) -> None:
    """40 pictures in one file of IQDB; asked were members, near copies, strangers and grey pictures."""
    with closing(sqlite3.connect(FIXTURES / "data" / "small-40.sqlite")) as connection:
        rows = connection.execute("SELECT post_id, avglf1, avglf2, avglf3, sig FROM images").fetchall()
    averages = np.array([row[1:4] for row in rows])
    positions = np.frombuffer(b"".join(row[4] for row in rows), dtype="<i2").reshape(-1, 3, 40)
    golden = (FIXTURES / "golden" / "queries-small-40.jsonl").read_text().splitlines()
    options = IndexOptions(head_capacity=head_capacity)
    with ImageIndex.open(None, store_id="golden", options=options) as index:
        index.apply(batch_of_rows(1, [row[0] for row in rows], (averages, positions)))
        assert index.stats().segments == (head_capacity == SEGMENTS)
        assert len(golden) > 100
        for line in golden:
            asked = json.loads(line)
            scores = [score for _, score in asked["matches"]]
            matches = index.query(from_hash(asked["hash"]), len(scores))
            assert [match.score for match in matches] == pytest.approx(scores, abs=TOLERANCE)
            found = {match.image_id: match.score for match in matches}
            for image_id, score in asked["matches"]:
                if score > scores[-1] + TOLERANCE:  # equal ones may change places at the end
                    assert found[image_id] == pytest.approx(score, abs=TOLERANCE)


CHANGES: list[Callable[[Image.Image], Image.Image]] = [
    lambda picture: picture,
    lambda picture: picture.resize((picture.width // 2 + 1, picture.height // 2 + 1)),
    ImageOps.mirror,
    ImageOps.flip,
    ImageOps.grayscale,
    ImageOps.invert,
    lambda picture: ImageEnhance.Brightness(picture).enhance(1.3),
    lambda picture: ImageOps.expand(picture, picture.width // 8, "white"),
    lambda picture: picture.crop((0, 0, picture.width * 3 // 4, picture.height)),
    lambda picture: picture.crop((picture.width // 3, picture.height // 4, picture.width, picture.height)),
]


@pytest.fixture(scope="module")
def real() -> list[Signature]:
    """Signatures of the free pictures and of what people make of such."""
    made = []
    for file in sorted((FIXTURES / "images" / "photos").iterdir()):
        if file.suffix.lower() not in {".jpg", ".jpeg", ".png", ".webp"}:
            continue
        with Image.open(file) as opened:
            picture = opened.convert("RGB")
        picture.thumbnail((300, 300))
        made += [from_image_bytes(encoded(change(picture).convert("RGB"), "BMP")) for change in CHANGES]
    assert len(made) > 400
    return made


@pytest.mark.parametrize("head_capacity", [HEAD_ONLY, 16])
def test_pictures_and_their_copies_rank_as_the_oracle_says(real: list[Signature], head_capacity: int) -> None:
    """Among realistic strangers, so that all kinds of rows are read: fours, twos, ones and rare ones."""
    model = NaiveIndex()
    options = IndexOptions(head_capacity=head_capacity)
    strangers = realistic_rows(np.random.default_rng(6), 1_500)
    feed = Feed()
    with ImageIndex.open(None, store_id="real", options=options) as index:
        for batch in (
            feed.puts(range(10_000, 11_500), strangers),
            feed.batch(*enumerate(real)),
            feed.deletes(range(0, len(real), 9)),
        ):
            index.apply(batch)
            model.apply(batch)
        index.maintain()
        for asked in real[:: len(real) // 8]:
            ranked = model.query(asked, 10_000)
            for limit, min_score in ((1, None), (20, None), (1_000, 10.0)):
                expected = [match for match in ranked if min_score is None or match.score >= min_score]
                assert index.query(asked, limit, min_score) == expected[:limit]


def test_of_several_changes_of_one_image_in_a_batch_the_last_counts(real: list[Signature]) -> None:
    """The feed has each image once; the index does not depend on it."""
    batch = batch_of(1, [(5, real[0]), (3, real[1]), (5, real[2]), (3, None), (4, None), (4, real[3])])
    model = NaiveIndex()
    model.apply(batch)
    with ImageIndex.open(None, store_id="twice") as index:
        index.apply(batch)
        assert index.image_count == len(model.images) == 2
        assert index.get(5) == real[2]
        assert index.get(3) is None
        assert index.query(real[0], 10) == model.query(real[0], 10)
        index.apply(batch)
        assert index.image_count == 2
