"""What is saved comes back, what is not right is refused by name, and a killed process does no harm."""

from __future__ import annotations

import dataclasses
import errno
import os
import random
import shutil
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from iqdb_core.errors import CheckpointInvalid
from iqdb_core.index import ImageIndex, IndexOptions
from iqdb_core.index.disk import checkpoint
from iqdb_core.index.disk import manifest as manifest_format
from iqdb_core.index.disk.directory import IndexDirectory
from iqdb_core.index.segment.segment import checksum
from iqdb_core.model import FeedState, Mark
from tests.fixtures.forked_roles import killed_in_the_end
from tests.fixtures.index_rows import Feed, cheap_rows, random_rows, random_signature, signature_at
from tests.naive_index import NaiveIndex

if TYPE_CHECKING:
    from collections.abc import Callable

SMALL = IndexOptions(head_capacity=64, merge_fan_out=4)
QUERY = random_signature(np.random.default_rng(99))


def opened(path: Path, store_id: str = "store", options: IndexOptions = SMALL) -> ImageIndex:
    return ImageIndex.open(path, store_id=store_id, options=options)


def fill(index: ImageIndex, n: int = 150, seed: int = 1) -> tuple[Feed, NaiveIndex]:
    """Put into head and segments, with some dead in both."""
    rng = np.random.default_rng(seed)
    feed, model = Feed(), NaiveIndex()
    batches = [feed.puts(range(n), random_rows(rng, n)), feed.puts(range(n, n + 70), random_rows(rng, 70))]
    batches += [feed.puts(range(n + 70, n + 90), random_rows(rng, 20)), feed.deletes([3, n + 1, n + 75])]
    for batch in batches:
        index.apply(batch)
        model.apply(batch)
    return feed, model


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Feed, NaiveIndex]:
    path = tmp_path_factory.mktemp("saved") / "index"
    with opened(path) as index:
        feed, model = fill(index)
        assert index.stats().segments == 2
        index.save_checkpoint()
    return path, feed, model


def test_a_loaded_checkpoint_equals_the_saved_index(
    saved: tuple[Path, Feed, NaiveIndex], tmp_path: Path
) -> None:
    path, feed, model = saved
    shutil.copytree(path, tmp_path / "index")
    for _ in range(2):
        with opened(tmp_path / "index") as index:
            assert (index.applied_seq, index.image_count) == (feed.seq, len(model.images))
            assert index.query(QUERY, 1_000) == model.query(QUERY, 1_000)
            stats = index.stats()
            assert (stats.segments, stats.checkpoint_seq, stats.checkpoint_refused) == (2, feed.seq, None)
            assert stats.dead_images == 2  # that of the head was not saved


def test_the_index_continues_after_the_seq_of_its_checkpoint(
    saved: tuple[Path, Feed, NaiveIndex], tmp_path: Path
) -> None:
    path, feed, model = saved
    shutil.copytree(path, tmp_path / "index")
    feed, model = Feed(feed.seq), NaiveIndex(model.images)
    with opened(tmp_path / "index") as index:
        for batch in (
            feed.puts(range(100, 180), random_rows(np.random.default_rng(2), 80)),
            feed.deletes(range(90, 130)),
        ):
            index.apply(batch)
            model.apply(batch)
            index.maintain()
            assert index.query(QUERY, 1_000) == model.query(QUERY, 1_000)
        index.save_checkpoint()
        names = {path.name for path in (tmp_path / "index").iterdir()}
    with opened(tmp_path / "index") as index:
        assert index.query(QUERY, 1_000) == model.query(QUERY, 1_000)
        assert {path.name for path in (tmp_path / "index").iterdir()} == names
        numbers = {member.sealed.number for member in index._snapshot.members}
    assert names == {"lock", "manifest", "newest"} | {
        f"{n:08d}.{kind}" for n in numbers for kind in ("rows", "words")
    }


def test_head_that_no_longer_fits_is_sealed(saved: tuple[Path, Feed, NaiveIndex], tmp_path: Path) -> None:
    path, _, model = saved
    shutil.copytree(path, tmp_path / "index")
    with opened(tmp_path / "index", options=IndexOptions(head_capacity=4)) as index:
        assert index.stats().segments == 3
        assert index.query(QUERY, 1_000) == model.query(QUERY, 1_000)
        index.save_checkpoint()
        index.apply(Feed(index.applied_seq).deletes([160]))
        index.save_checkpoint()
    del (model := NaiveIndex(model.images)).images[160]
    with opened(tmp_path / "index") as index:
        assert index.query(QUERY, 1_000) == model.query(QUERY, 1_000)


def test_empty_index_can_be_saved(tmp_path: Path) -> None:
    with opened(tmp_path) as index:
        index.save_checkpoint()
        feed = Feed()
        index.apply(feed.batch((1, QUERY)))
        index.apply(feed.deletes([1]))
        index.save_checkpoint()
    with opened(tmp_path) as index:
        assert (index.image_count, index.applied_seq) == (0, 2)


def test_full_segments_are_restored_from_a_checkpoint(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    averages, positions = cheap_rows(rng, 70_000)
    query = signature_at(averages, positions, 12)
    with opened(tmp_path, options=IndexOptions()) as index:
        index.apply(Feed().puts(np.arange(70_000), (averages, positions)))
        before = index.query(query, 100)
        index.save_checkpoint()
    with opened(tmp_path, options=IndexOptions()) as index:
        assert index.query(query, 100) == before
        assert index.stats().segments == 2


def test_a_restored_store_is_indexed_from_the_start(
    saved: tuple[Path, Feed, NaiveIndex], tmp_path: Path
) -> None:
    path, _, _ = saved
    shutil.copytree(path, tmp_path / "index")
    with opened(tmp_path / "index") as index:
        index.reset()
        assert (index.applied_seq, index.image_count) == (0, 0)
        assert index.query(QUERY) == []
        assert [path.name for path in (tmp_path / "index").iterdir()] == ["lock"]
        _, model = fill(index, 100, seed=5)
        assert index.query(QUERY, 1_000) == model.query(QUERY, 1_000)
    with opened(tmp_path / "index") as index:
        assert index.applied_seq == 0


def test_it_knows_the_newest_change_that_it_held_without_a_checkpoint(tmp_path: Path) -> None:
    mark = Mark(1, "token")
    with opened(tmp_path / "index") as index:
        assert index.held is None
        batch = Feed().puts(range(5), random_rows(np.random.default_rng(1), 5))
        index.apply(dataclasses.replace(batch, feed=FeedState(5, None, mark)))
    with opened(tmp_path / "index", "other") as index:
        assert index.held is None
    with opened(tmp_path / "index") as index:
        assert (index.applied_seq, index.held) == (0, (5, mark))
    for damage in (b"", b"[1, 2]", b"{", b'["store", 5, [1]]'):
        (tmp_path / "index" / "newest").write_bytes(damage)
        with opened(tmp_path / "index") as index:
            assert index.held is None


def flip(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)


def rewrite(path: Path, old: bytes, new: bytes) -> None:
    path.write_bytes(path.read_bytes().replace(old, new, 1))


def first(path: Path, kind: str) -> Path:
    return min(path.glob(f"*.{kind}"))


def last(path: Path, kind: str) -> Path:
    return max(path.glob(f"*.{kind}"))


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "manifest cut short": (lambda p: os.truncate(p / "manifest", 5_000), "manifest .*cut short"),
    "manifest empty": (lambda p: os.truncate(p / "manifest", 0), "cut short at 0 bytes"),
    "manifest too long": (lambda p: os.truncate(p / "manifest", 10**6), "wrong checksum"),
    "manifest with a flipped bit": (lambda p: flip(p / "manifest", 3_000), "wrong checksum"),
    "manifest of something else": (
        lambda p: (p / "manifest").write_bytes(b"SQLite format 3\0" * 9),
        "wrong magic",
    ),
    "manifest of another version": (
        lambda p: rewrite(p / "manifest", b"IQDBIDX\n\x03", b"IQDBIDX\n\x63"),
        "format version is 99; this program reads version 3",
    ),
    "manifest is a directory": (
        lambda p: ((p / "manifest").unlink(), (p / "manifest").mkdir()),
        "it is not a file",
    ),
    "words missing": (lambda p: first(p, "words").unlink(), r"00000001\.words refused: it is missing"),
    "words cut short": (
        lambda p: os.truncate(first(p, "words"), 10_000),
        r"\.words refused: it has 10000 bytes",
    ),
    "words too long": (lambda p: os.truncate(last(p, "words"), 10**7), "it has 10000000 bytes instead of"),
    "words with a flipped bit": (lambda p: flip(last(p, "words"), 70_000), "words refused: .*wrong checksum"),
    "words empty": (lambda p: os.truncate(first(p, "words"), 0), "it has 0 bytes"),
    "words of another segment": (
        lambda p: shutil.copy(first(p, "words"), last(p, "words")),
        "bytes instead of|wrong checksum",
    ),
    "rows missing": (lambda p: last(p, "rows").unlink(), r"00000002\.rows refused: it is missing"),
    "rows cut short": (lambda p: os.truncate(first(p, "rows"), 2_640), "has 2640 bytes, which cannot be 150"),
    "rows with a flipped bit": (lambda p: flip(first(p, "rows"), 999), "rows refused: .*wrong checksum"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_refused_by_name_and_the_index_starts_empty(
    saved: tuple[Path, Feed, NaiveIndex], tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    damage, reason = DAMAGE[kind]
    path = tmp_path / "index"
    shutil.copytree(saved[0], path)
    damage(path)
    directory = IndexDirectory(path)
    with pytest.raises(CheckpointInvalid, match=reason):
        checkpoint.load(directory, store_id="store")
    directory.close()
    with opened(path) as index:
        assert (index.applied_seq, index.image_count) == (0, 0)
        refused = index.stats().checkpoint_refused
        assert refused is not None
        assert refused in caplog.text.replace(f"{path}/", "")
        assert str(tmp_path) not in refused, "who asks is not told where files are"
        assert {entry.name for entry in path.iterdir()} == {"lock", "newest", "refused"}
        feed, model = fill(index)
        index.save_checkpoint()
        assert "refused" not in [entry.name for entry in path.iterdir()]
    with opened(path) as index:
        assert index.applied_seq == feed.seq
        assert index.query(QUERY, 1_000) == model.query(QUERY, 1_000)


def test_checkpoint_of_another_store_is_refused_by_name(
    saved: tuple[Path, Feed, NaiveIndex], tmp_path: Path
) -> None:
    path = tmp_path / "index"
    shutil.copytree(saved[0], path)
    with opened(path, store_id="another") as index:
        assert index.applied_seq == 0
        assert "it belongs to the store store, not to another" in str(index.stats().checkpoint_refused)


def test_a_checkpoint_that_cannot_be_set_aside_keeps_no_index_from_opening(
    saved: tuple[Path, Feed, NaiveIndex], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk there is no room for a folder; what was refused takes the room."""
    path = tmp_path / "index"
    shutil.copytree(saved[0], path)
    mkdir = Path.mkdir

    def full(folder: Path, *arguments: Any, **options: Any) -> None:
        if folder.name == "refused":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        mkdir(folder, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", full)
    with opened(path, store_id="another") as index:
        assert index.applied_seq == 0
        assert "it belongs to the store store" in str(index.stats().checkpoint_refused)
        assert {entry.name for entry in path.iterdir()} == {"lock", "newest"}


def test_alive_bits_that_contradict_the_counts_are_refused(
    saved: tuple[Path, Feed, NaiveIndex], tmp_path: Path
) -> None:
    """A manifest that is whole and has the right checksum, but was written wrong."""
    path = tmp_path / "index"
    shutil.copytree(saved[0], path)
    raw = (path / "manifest").read_bytes()[:-8].replace(b'"n_alive": 149', b'"n_alive": 148', 1)
    (path / "manifest").write_bytes(raw + struct.pack("<Q", manifest_format._checksum(raw)))
    with opened(path) as index:
        assert "the live images of segment 1 are not 148" in str(index.stats().checkpoint_refused)


def test_ids_that_do_not_ascend_are_refused(saved: tuple[Path, Feed, NaiveIndex], tmp_path: Path) -> None:
    """Words that are whole and have the right checksum, but would make every search for an id go astray."""
    path = tmp_path / "index"
    shutil.copytree(saved[0], path)
    with opened(path) as index:
        sealed = index._snapshot.members[0].sealed
        words = sealed.segment.words.copy()
        ids = sealed.segment.image_ids
        first = (ids.ctypes.data - sealed.segment.words.ctypes.data) // 8
        words[first : first + 2] = words[first : first + 2][::-1].copy()
        was, now = str(sealed.words_checksum), str(checksum(words))
    words.tofile(path / "00000001.words")
    raw = (path / "manifest").read_bytes()[:-8]
    header_end = 16 + struct.unpack_from("<8sII", raw)[2]
    header = raw[16:header_end].replace(was.encode(), now.encode())
    header = header.rstrip() + b" " * (-len(header.rstrip()) % 8)
    raw = struct.pack("<8sII", *struct.unpack_from("<8sI", raw), len(header)) + header + raw[header_end:]
    (path / "manifest").write_bytes(raw + struct.pack("<Q", manifest_format._checksum(raw)))
    with opened(path) as index:
        assert "its image ids do not ascend" in str(index.stats().checkpoint_refused)


def fail_fsync(index: ImageIndex, monkeypatch: pytest.MonkeyPatch, n_good: int) -> None:
    """Save a checkpoint on a disk that fails after some successes."""
    fsync, left = os.fsync, [None] * n_good

    def failing(fd: int) -> None:
        if not left:
            raise OSError(5, "Input/output error")
        left.pop()
        fsync(fd)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", failing)
        with pytest.raises(OSError, match="Input/output error"):
            index.save_checkpoint()


def test_failed_save_leaves_the_previous_checkpoint(
    saved: tuple[Path, Feed, NaiveIndex], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "index"
    shutil.copytree(saved[0], path)
    with opened(path) as index:
        seq, model = index.applied_seq, saved[2]
        index.apply(Feed(seq).puts(range(1_000, 1_100), random_rows(np.random.default_rng(3), 100)))
        for n_good in (0, 1, 1):  # at the signatures, the searchable form, the manifest
            fail_fsync(index, monkeypatch, n_good)
            assert index.stats().checkpoint_seq == seq
            shutil.rmtree(tmp_path / "copy", ignore_errors=True)
            shutil.copytree(path, tmp_path / "copy")
            with opened(tmp_path / "copy") as copy:
                assert (copy.applied_seq, copy.stats().checkpoint_refused) == (seq, None)
                assert copy.query(QUERY, 1_000) == model.query(QUERY, 1_000)
        index.save_checkpoint()
    with opened(path) as index:
        assert index.applied_seq == seq + 100


def test_a_save_that_fails_after_the_rename_damages_neither_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(3)
    with opened(tmp_path / "index") as index:
        feed, model = fill(index)
        index.save_checkpoint()
        for _ in range(4):
            batch = feed.puts(range(feed.seq, feed.seq + 70), random_rows(rng, 70))
            index.apply(batch)
            model.apply(batch)
        n_segments = index.stats().segments
        fail_fsync(index, monkeypatch, 2 * (n_segments - 2) + 2)
        index.maintain()
        assert index.stats().segments < n_segments
        shutil.copytree(tmp_path / "index", tmp_path / "copy")
        with opened(tmp_path / "copy") as copy:
            assert (copy.applied_seq, copy.stats().checkpoint_refused) == (feed.seq, None)
            assert copy.query(QUERY, 1_000) == model.query(QUERY, 1_000)
        index.save_checkpoint()
        numbers = {member.sealed.number for member in index._snapshot.members}
        assert {int(path.stem) for path in (tmp_path / "index").glob("*.words")} == numbers


def test_killed_while_saving_leaves_a_checkpoint_that_loads(tmp_path: Path) -> None:
    path = tmp_path / "index"
    rows = random_rows(np.random.default_rng(0), 100)
    chance = random.Random(4)
    seq = 0
    for _ in range(12):
        with killed_in_the_end("tests.fixtures.checkpoint_saver", path) as printing:
            for _ in range(1 + chance.randrange(12)):
                printed = int(printing.readline())
        with opened(path) as index:
            assert index.stats().checkpoint_refused is None
            assert index.applied_seq >= printed > seq
            seq = index.applied_seq
            assert seq % 100 == 0
            turn = seq // 100
            model = NaiveIndex({i: signature_at(*rows, (i + turn) % 100) for i in range(100)})
            assert index.query(QUERY, 1_000) == model.query(QUERY, 1_000)
            members = len(index._snapshot.members)
            assert len(list(path.glob("*.words"))) == len(list(path.glob("*.rows"))) == members
