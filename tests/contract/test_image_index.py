"""What is put is found, what is deleted is not, and every answer is the naive one."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import numpy as np
import pytest

from iqdb_core.errors import IndexStateError
from iqdb_core.index import ImageIndex, IndexOptions
from iqdb_core.index.disk import sealer as sealed
from iqdb_core.model import MAX_IMAGE_ID, Signature
from tests.fixtures.index_rows import Feed, cheap_rows, random_rows, random_signature, signature_at
from tests.naive_index import NaiveIndex

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TINY = IndexOptions(head_capacity=8, merge_fan_out=3)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[ImageIndex]:
    with ImageIndex.open(tmp_path / "index", store_id="store", options=TINY) as opened:
        yield opened


def test_empty_index_answers_nothing(index: ImageIndex, rng: np.random.Generator) -> None:
    assert index.query(random_signature(rng)) == []
    assert index.query(random_signature(rng), 1000, -1e9) == []
    assert index.get(1) is None
    assert (index.image_count, index.applied_seq) == (0, 0)
    index.apply(Feed().batch())
    assert index.applied_seq == 0


@pytest.mark.parametrize("image_id", [0, 1, MAX_IMAGE_ID])
@pytest.mark.parametrize("n_others", [0, 30])
def test_first_and_last_id_are_ids_like_any_other(
    index: ImageIndex, rng: np.random.Generator, image_id: int, n_others: int
) -> None:
    feed, signature = Feed(), random_signature(rng)
    index.apply(feed.batch((image_id, signature)))
    for other in range(100, 100 + n_others):
        index.apply(feed.batch((other, random_signature(rng))))
    index.maintain()
    assert index.get(image_id) == signature
    best = index.query(signature, 1)[0]
    assert (best.image_id, best.signature) == (image_id, signature)
    assert best.score == pytest.approx(100)
    index.apply(feed.deletes([image_id]))
    assert index.get(image_id) is None
    assert image_id not in [match.image_id for match in index.query(signature, 1000)]


@pytest.mark.parametrize("is_sealed", [False, True])
def test_black_image_is_found(index: ImageIndex, rng: np.random.Generator, is_sealed: bool) -> None:
    feed = Feed()
    black = Signature((0.0, 0.0, 0.0), random_signature(rng).positions)
    index.apply(feed.batch((5, black), *[(image_id, random_signature(rng)) for image_id in range(10, 17)]))
    if is_sealed:
        index.apply(feed.puts(range(20, 40), random_rows(rng, 20)))
    assert [match.image_id for match in index.query(black, 1)] == [5]
    assert index.get(5) == black


def test_replaced_image_is_found_by_its_new_signature_alone(
    index: ImageIndex, rng: np.random.Generator
) -> None:
    feed, old, new = Feed(), random_signature(rng), random_signature(rng)
    index.apply(feed.batch((1, old)))
    index.apply(feed.puts(range(10, 40), random_rows(rng, 30)))
    index.apply(feed.batch((1, new)))
    assert index.image_count == 31
    assert index.get(1) == new
    assert [match.signature for match in index.query(old, 1000) if match.image_id == 1] == [new]
    index.apply(feed.batch((1, old)))
    index.apply(feed.batch((1, new)))
    assert index.image_count == 31
    assert index.query(new, 1)[0].image_id == 1


def test_replacing_one_image_many_times_does_not_seal_the_dead(
    index: ImageIndex, rng: np.random.Generator
) -> None:
    feed = Feed()
    for _ in range(50):
        last = random_signature(rng)
        index.apply(feed.batch((1, last)))
    assert index.stats().segments == 0
    assert index.image_count == 1
    assert index.get(1) == last


def test_batch_that_was_applied_is_passed_over(index: ImageIndex, rng: np.random.Generator) -> None:
    feed, old, new = Feed(), random_signature(rng), random_signature(rng)
    first = feed.batch((1, old), (2, old))
    second = feed.batch((1, new), (2, None))
    for batch in (first, second, first, second, first):
        index.apply(batch)
    assert index.applied_seq == 4
    assert index.get(1) == new
    assert index.get(2) is None


def test_all_images_deleted_leaves_an_empty_index(index: ImageIndex, rng: np.random.Generator) -> None:
    feed, signature = Feed(), random_signature(rng)
    index.apply(feed.puts(range(100), random_rows(rng, 100)))
    index.apply(feed.deletes(range(100)))
    assert index.image_count == 0
    assert index.query(signature, 1000) == []
    index.maintain()
    stats = index.stats()
    assert (stats.segments, stats.images) == (0, 0)
    index.apply(feed.batch((7, signature)))
    assert [match.image_id for match in index.query(signature)] == [7]


def test_deleted_images_no_longer_count_in_the_divisor(index: ImageIndex, rng: np.random.Generator) -> None:
    feed, model = Feed(), NaiveIndex()
    query = random_signature(rng)
    averages, positions = random_rows(rng, 40)
    batches = [feed.puts(range(40), (averages, positions)), feed.deletes(range(0, 40, 2))]
    batches += [feed.deletes(range(1, 38, 2))]
    for batch in batches:
        index.apply(batch)
        model.apply(batch)
        assert index.query(query, 1000) == model.query(query, 1000)
        index.maintain()
        assert index.query(query, 1000) == model.query(query, 1000)


@pytest.mark.parametrize("n", [65_535, 65_536, 65_537, 65_536 + 1_024])
def test_bulk_load_around_a_full_segment(n: int, rng: np.random.Generator) -> None:
    averages, positions = cheap_rows(rng, n)
    feed = Feed()
    with ImageIndex.open(None, store_id="store") as index:
        ids = rng.permutation(np.arange(1, 3 * n + 1, 3))
        index.apply(feed.batch((2, random_signature(rng))))
        index.apply(feed.puts(ids, (averages, positions)))
        assert index.image_count == n + 1
        assert index.stats().head_rows == (n + 1) % 65_536 * ((n + 1) % 65_536 < 1_024)
        for row in [0, 1, n // 2, n - 1]:
            assert index.get(int(ids[row])) == signature_at(averages, positions, row)
        matches = index.query(signature_at(averages, positions, 3), 1_000)
        assert len(matches) == 1_000
        by_id = {int(image_id): row for row, image_id in enumerate(ids)}
        assert all(
            match.signature == signature_at(averages, positions, by_id[match.image_id])
            for match in matches
            if match.image_id != 2
        )


def test_bulk_load_of_tombstones_and_repeats(index: ImageIndex, rng: np.random.Generator) -> None:
    feed, model = Feed(), NaiveIndex()
    for _ in range(3):
        changes = [
            (int(image_id), None if rng.random() < 0.4 else random_signature(rng))
            for image_id in rng.choice(400, 200, replace=False)
        ]
        batch = feed.batch(*changes)
        index.apply(batch)
        model.apply(batch)
    assert index.image_count == len(model.images)
    query = random_signature(rng)
    assert index.query(query, 50) == model.query(query, 50)


@pytest.mark.parametrize("limit", [0, -1])
def test_limit_below_one_is_refused(index: ImageIndex, rng: np.random.Generator, limit: int) -> None:
    with pytest.raises(ValueError, match="limit is at least 1"):
        index.query(random_signature(rng), limit)


def test_full_disk_leaves_the_index_as_it_was(
    index: ImageIndex, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed, model = Feed(), NaiveIndex()
    first = feed.puts(range(20), random_rows(rng, 20))
    index.apply(first)
    model.apply(first)
    batch = feed.puts(range(5, 35), random_rows(rng, 30))
    files = sorted(path.name for path in index._directory.path.iterdir())
    monkeypatch.setattr(sealed, "MEMORY_ROWS", 10)
    with monkeypatch.context() as patched:

        def full(*_: object) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        patched.setattr(sealed, "write_rows", full)
        with pytest.raises(OSError, match="No space left"):
            index.apply(batch)
    query = random_signature(rng)
    assert index.applied_seq == first.last_seq
    assert sorted(path.name for path in index._directory.path.iterdir()) == files
    assert index.query(query, 1000) == model.query(query, 1000)
    index.apply(batch)
    model.apply(batch)
    assert index.query(query, 1000) == model.query(query, 1000)


def test_updates_that_outrun_maintenance_do_its_work(rng: np.random.Generator) -> None:
    """Without a thread that merges, the dead and the small segments stay within bounds."""
    feed = Feed()
    rows = cheap_rows(rng, 40_000)
    with ImageIndex.open(None, store_id="store", options=IndexOptions(head_capacity=64)) as index:
        index.apply(feed.puts(range(200_000, 200_000 + 40_000), rows))
        index.apply(feed.puts(range(300_000, 300_000 + 40_000), rows))
        most_dead = most_segments = 0
        for start in range(0, 80_000, 800):
            ids = (rng.permutation(80_000)[:800] % 40_000 + 200_000 + start % 2 * 100_000).tolist()
            index.apply(feed.puts(sorted(set(ids)), cheap_rows(rng, len(set(ids)))))
            stats = index.stats()
            most_dead = max(most_dead, stats.dead_images)
            most_segments = max(most_segments, stats.segments)
            assert stats.images == 80_000
        assert 2_000 < most_dead <= 65_536 + 1.5 * 0.1 * 160_000
        assert most_segments < 60


def test_overdue_merge_that_fails_does_not_fail_the_update(
    index: ImageIndex, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = Feed()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("iqdb_core.index.image_index.is_overdue", lambda *_: True)
    monkeypatch.setattr("iqdb_core.index.image_index.merged", full)
    for start in range(0, 60, 10):
        index.apply(feed.puts(range(start, start + 10), random_rows(rng, 10)))
    assert index.image_count == 60
    assert "No space left" in str(index.stats().maintenance_error)


def test_the_numbers_of_stats_are_consistent(index: ImageIndex, rng: np.random.Generator) -> None:
    feed = Feed()
    index.apply(feed.puts(range(20), random_rows(rng, 20)))
    index.apply(feed.puts(range(30, 35), random_rows(rng, 5)))
    index.apply(feed.deletes([3, 31]))
    stats = index.stats()
    assert (stats.images, stats.applied_seq) == (23, 27)
    assert (stats.segments, stats.head_rows, stats.dead_images) == (1, 5, 2)
    assert stats.resident_bytes > 20 * 264
    assert (stats.checkpoint_seq, stats.checkpoint_refused) == (None, None)
    assert (stats.maintenance, stats.maintenance_error) == ("off", None)


def test_closed_index_refuses_and_closes_again(rng: np.random.Generator) -> None:
    index = ImageIndex.open(None, store_id="store")
    path = index._directory.path
    index.apply(Feed().batch((1, random_signature(rng))))
    index.close()
    index.close()
    assert not path.exists()
    for call in (
        lambda: index.query(random_signature(rng)),
        lambda: index.get(1),
        lambda: index.apply(Feed().batch((1, None))),
        index.save_checkpoint,
        index.reset,
        index.start_maintenance,
    ):
        with pytest.raises(IndexStateError, match="closed"):
            call()
    index.maintain()


def test_directory_in_use_is_refused_and_free_after_close(tmp_path: Path) -> None:
    with (
        ImageIndex.open(tmp_path, store_id="store"),
        pytest.raises(IndexStateError, match="in use by process"),
    ):
        ImageIndex.open(tmp_path, store_id="store")
    ImageIndex.open(tmp_path, store_id="store").close()
