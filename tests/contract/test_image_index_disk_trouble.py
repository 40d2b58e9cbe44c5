"""A disk that fails for a while costs nothing but that while."""

from __future__ import annotations

import errno
import io
import os
import resource
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from iqdb_core.errors import IndexStateError
from iqdb_core.index import ImageIndex, IndexOptions
from iqdb_core.index.disk import checkpoint, sealer
from iqdb_core.machine import raise_file_limit
from tests.fixtures.index_rows import Feed, cheap_rows, signature_at

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OPTIONS = IndexOptions(head_capacity=64, merge_fan_out=100)


def opened(path: Path, options: IndexOptions = OPTIONS) -> ImageIndex:
    return ImageIndex.open(path, store_id="store", options=options)


def rows_of(path: Path) -> list[str]:
    return sorted(file.name for file in path.glob("*.rows*"))


@pytest.fixture
def in_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealer, "MEMORY_ROWS", 10)


@pytest.mark.usefixtures("in_files")
@pytest.mark.parametrize("failing", ["build", "write", "count"])
def test_failing_seals_leave_no_file_however_often_they_are_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    rng = np.random.default_rng(1)
    feed = Feed()
    with opened(tmp_path) as index:
        index.apply(feed.puts(range(200), cheap_rows(rng, 200)))
        before = rows_of(tmp_path)
        batch = feed.puts(range(100, 140_100), cheap_rows(rng, 140_000))
        with monkeypatch.context() as patched:
            calls = []

            def fail_at_the_second(*arguments: object) -> object:
                calls.append(1)
                if len(calls) % 2 == 0 or failing == "count":
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return original(*arguments)

            target = {"build": "build_segment", "write": "write_rows"}.get(failing)
            if target is None:
                original = index._counts.change
                patched.setattr(index._counts, "change", fail_at_the_second)
            else:
                original = getattr(sealer, target)
                patched.setattr(sealer, target, fail_at_the_second)
            for _ in range(3):
                with pytest.raises(OSError, match="No space left"):
                    index.apply(batch)
                assert rows_of(tmp_path) == before
        index.apply(batch)
        assert index.image_count == 140_100


def failing_for(ending: str, number: int, really_open: Callable[..., Any]) -> Callable[..., Any]:
    def failing_open(path: object, *arguments: Any, **options: Any) -> Any:
        if str(path).endswith(ending):
            raise OSError(number, os.strerror(number), str(path))
        return really_open(path, *arguments, **options)

    return failing_open


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EACCES, errno.EIO, errno.ENOMEM])
@pytest.mark.parametrize("kind", ["manifest", "words", "rows"])
def test_an_io_error_while_opening_never_discards_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: str
) -> None:
    feed = Feed()
    rows = cheap_rows(np.random.default_rng(2), 200)
    with opened(tmp_path) as index:
        index.apply(feed.puts(range(200), rows))
        index.save_checkpoint()
    files = sorted(file.name for file in tmp_path.iterdir())
    with monkeypatch.context() as patched:
        for module in (os, io):
            patched.setattr(module, "open", failing_for(kind, number, module.open))
        with pytest.raises(OSError, match=os.strerror(number)):
            opened(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == files
    with opened(tmp_path) as index:
        assert index.stats().checkpoint_refused is None
        assert index.query(signature_at(*rows, 7), 1)[0].image_id == 7


def test_merges_without_changes_are_saved(tmp_path: Path) -> None:
    options = IndexOptions(head_capacity=64, merge_fan_out=2, checkpoint_interval_s=0.001)
    feed = Feed()
    with opened(tmp_path) as index:
        for start in range(0, 600, 100):
            index.apply(feed.puts(range(start, start + 100), cheap_rows(np.random.default_rng(start), 100)))
        index.save_checkpoint()
        many = index.stats().segments
    with opened(tmp_path, options) as index:
        assert index.stats().segments == many
        index._work()
        few = index.stats().segments
        assert few < many
    with opened(tmp_path) as index:
        assert index.stats().segments == few
        assert index.image_count == 600


@pytest.mark.usefixtures("in_files")
def test_changed_files_of_rows_are_refused_by_name(tmp_path: Path) -> None:
    """The counts behind a delete are made from them, by code that does not look twice."""
    feed = Feed()
    rows = cheap_rows(np.random.default_rng(3), 200)
    with opened(tmp_path) as index:
        index.apply(feed.puts(range(200), rows))
        [file] = tmp_path.glob("*.rows")
        file.write_bytes(b"\xff\x7f" * (file.stat().st_size // 2))
        with pytest.raises(IndexStateError, match=r"\.rows was changed by another program"):
            index.apply(feed.deletes(range(0, 200, 3)))
        with pytest.raises(IndexStateError, match=r"\.rows was changed by another program"):
            index.query(signature_at(*rows, 7), 10)


@pytest.mark.usefixtures("in_files")
def test_more_segments_than_a_process_may_have_files(tmp_path: Path) -> None:
    feed = Feed()
    rows = cheap_rows(np.random.default_rng(4), 65)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(400, before[1]), before[1]))
    try:
        with opened(tmp_path, IndexOptions(head_capacity=64, merge_fan_out=1_000)) as index:
            for start in range(0, 500 * 65, 65):
                index.apply(feed.puts(range(start, start + 65), rows))
            assert index.stats().segments == 500
            assert len(index.query(signature_at(*rows, 7), 1_000)) == 1_000
            index.save_checkpoint()
        with opened(tmp_path) as index:
            assert index.image_count == 500 * 65
        raise_file_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == before[1]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("in_files")
def test_a_query_whose_files_were_removed_is_answered_by_the_next_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = Feed()
    rows = cheap_rows(np.random.default_rng(5), 400)
    with opened(tmp_path, IndexOptions(head_capacity=64, merge_fan_out=2)) as index:
        for start in range(0, 400, 100):
            part = slice(start, start + 100)
            index.apply(feed.puts(range(start, start + 100), (rows[0][part], rows[1][part])))
        expected = index.query(signature_at(*rows, 7), 50)
        old = index._snapshot
        really_answer = type(old).best_matches
        calls = []

        def answer_late(snapshot: object, *arguments: object, **options: object) -> object:
            calls.append(snapshot)
            if len(calls) == 1:
                index.maintain()
            return really_answer(snapshot, *arguments, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(type(old), "best_matches", answer_late)
        assert index.query(signature_at(*rows, 7), 50) == expected
        assert len(calls) == 2
        shutil.rmtree(tmp_path)
        index._directory.files.close()
        with pytest.raises(IndexStateError, match=r"\.rows was removed by another program"):
            index.query(signature_at(*rows, 7), 50)


def test_a_checkpoint_that_failed_is_tried_again_before_the_next_would_be_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(5)
    feed = Feed()
    save = checkpoint.save
    tries: list[int] = []

    def fail_at_first(*arguments: Any, **named: Any) -> None:
        tries.append(1)
        if len(tries) == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(*arguments, **named)

    with opened(tmp_path, replace(OPTIONS, checkpoint_interval_s=3600.0)) as index:
        index.apply(feed.puts(range(100), cheap_rows(rng, 100)))
        index.save_checkpoint()
        index.apply(feed.puts(range(10), cheap_rows(rng, 10)))
        checkpoints = index._checkpoints
        assert not checkpoints.is_due(index._snapshot)
        checkpoints._time_s -= 3600.0
        monkeypatch.setattr(checkpoint, "save", fail_at_first)
        with pytest.raises(OSError, match="No space"):
            index.save_checkpoint()
        assert checkpoints.is_due(index._snapshot)
        index.save_checkpoint()
        assert not checkpoints.is_due(index._snapshot)
