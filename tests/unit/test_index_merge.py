"""Merging segments: the same images, in order, without the dead, and nothing that dies meanwhile is lost."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import numpy as np
import pytest

from iqdb_core.index.disk import sealer as sealed
from iqdb_core.index.disk.directory import IndexDirectory
from iqdb_core.index.disk.sealer import MEMORY_ROWS, Sealer
from iqdb_core.index.rows import Rows, Signatures
from iqdb_core.index.segment.member import Member
from iqdb_core.index.upkeep import merge
from iqdb_core.index.upkeep.merge import carried_over, merged
from tests.fixtures.index_rows import cheap_rows, signature_at

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Images = dict[int, tuple[np.ndarray, np.ndarray]]


@pytest.fixture
def sealer(tmp_path: Path) -> Iterator[Sealer]:
    directory = IndexDirectory(tmp_path)
    yield Sealer(directory)
    directory.close()


def member_of(sealer: Sealer, ids: np.ndarray, seed: int, images: Images) -> Member:
    rows = cheap_rows(np.random.default_rng(seed), len(ids))
    for row, image_id in enumerate(ids.tolist()):
        images[image_id] = (rows[0][row], rows[1][row])
    return sealer.seal(Rows(ids, *rows)).member


def check(made: list[Member], images: Images) -> None:
    """The members hold exactly these images, each with its own signature."""
    ids = np.array(sorted(images), dtype=np.int64)
    found = 0
    for member in made:
        docs = member.find(ids)
        averages, positions = member.sealed.rows.read(docs)
        for row, image_id in enumerate(member.sealed.segment.image_ids[docs].tolist()):
            assert (averages[row] == images[image_id][0]).all()
            assert (positions[row] == images[image_id][1]).all()
        assert len(docs) == member.n_alive
        found += len(docs)
    assert found == len(images)


def test_interleaved_sources_become_full_segments_and_one_of_the_rest(
    sealer: Sealer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merge, "SEGMENT_IMAGES", 1_000)
    monkeypatch.setattr(merge, "CHUNK_ROWS", 64)
    monkeypatch.setattr(sealed, "MEMORY_ROWS", 900)
    images: Images = {}
    sources = [
        member_of(sealer, np.arange(0, 3_000, 3), 1, images),
        member_of(sealer, np.arange(1, 1_501, 3), 2, images),
        member_of(sealer, np.array([2, 2**63 - 1]), 3, images),
        member_of(sealer, np.arange(5_000, 5_701), 4, images),
    ]
    dead = np.arange(0, 1_000, 7)
    for image_id in sources[0].sealed.segment.image_ids[dead].tolist():
        del images[image_id]
    sources[0] = sources[0].without(dead)
    made = merged(sources, sealer)
    assert [member.n_images for member in made] == [1_000, 1_000, len(images) - 2_000]
    assert made[0].sealed.max_id < made[1].sealed.min_id
    check(made, images)


def test_images_that_die_during_a_merge_are_dead_after_it(sealer: Sealer) -> None:
    images: Images = {}
    before = [member_of(sealer, np.arange(start, 600, 2), start, images) for start in (0, 1)]
    before[1] = before[1].without(np.array([5]))
    del images[11]
    made = merged(before, sealer)
    now = [before[0].without(np.array([0, 299])), before[1].without(np.array([7]))]
    for image_id in (0, 598, 15):
        del images[image_id]
    check(carried_over(made, before, now), images)


def test_merge_of_the_dead_makes_nothing(sealer: Sealer) -> None:
    images: Images = {}
    source = member_of(sealer, np.arange(10), 1, images).without(np.arange(10))
    assert merged([source], sealer) == []
    assert carried_over([], [source], [source]) == []


def test_merge_of_one_drops_its_dead(sealer: Sealer) -> None:
    images: Images = {}
    source = member_of(sealer, np.arange(MEMORY_ROWS + 10), 1, images).without(np.arange(0, 4_000, 2))
    images = {image_id: images[image_id] for image_id in images if image_id % 2 or image_id >= 4_000}
    made = merged([source], sealer)
    assert [member.n_dead for member in made] == [0]
    check(made, images)
    first = min(images)
    assert made[0].sealed.rows.signature(0) == signature_at(images[first][0][None], images[first][1][None], 0)


def test_failed_merge_leaves_no_file_of_its_own(sealer: Sealer, monkeypatch: pytest.MonkeyPatch) -> None:
    images: Images = {}
    source = member_of(sealer, np.arange(5_000), 1, images)
    files = sorted(sealer.directory.path.iterdir())
    monkeypatch.setattr(merge, "SEGMENT_IMAGES", 4_500)
    monkeypatch.setattr(sealed, "MEMORY_ROWS", 100)
    write_rows = sealed.write_rows
    calls = []

    def fail_at_the_second(path: Path, signatures: Signatures) -> int:
        calls.append(path)
        checksum = write_rows(path, signatures)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return checksum

    monkeypatch.setattr(sealed, "write_rows", fail_at_the_second)
    with pytest.raises(OSError, match="No space left"):
        merged([source], sealer)
    assert len(calls) == 2
    assert sorted(sealer.directory.path.iterdir()) == files
    check([source], images)
