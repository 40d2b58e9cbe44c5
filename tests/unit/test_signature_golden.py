"""Signatures against the hashes that danbooru/iqdb gives for the same files."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from iqdb_core.codec import to_hash
from iqdb_core.signature import from_image_bytes
from tests.fixtures.pictures import golden, picture, variants


@pytest.mark.parametrize(("path", "text"), [pytest.param(*row, id=row[0].name) for row in golden()])
def test_the_hash_is_iqdbs_to_the_bit(path: Path, text: str) -> None:
    assert to_hash(from_image_bytes(path.read_bytes())) == text


def test_the_golden_set_is_complete() -> None:
    folders = Counter(path.parent.name for path, _ in golden())
    assert folders["synthetic"] == 67
    assert folders["photos"] >= 25
    assert folders["formats"] >= 15


@pytest.mark.parametrize(
    ("copy", "original"),
    [
        pytest.param(c, o, id=c.name)
        for c, o, change in variants()
        if change in {"half", "q15", "webp", "grey"}
    ],
)
def test_a_copy_shares_most_positions_with_its_original(copy: Path, original: Path) -> None:
    """Scaled, recompressed and grey copies keep the coarse shape of the luma channel."""
    luma = [
        set(from_image_bytes(path.read_bytes()).signed_positions()[0].tolist()) for path in (copy, original)
    ]
    assert len(luma[0] & luma[1]) >= 30


def test_different_pictures_share_few_positions() -> None:
    luma = [set(from_image_bytes(picture(seed)).signed_positions()[0].tolist()) for seed in range(6)]
    for n, one in enumerate(luma):
        for other in luma[:n]:
            assert len(one & other) < 30
